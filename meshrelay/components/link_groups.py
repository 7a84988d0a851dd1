"""Members of a room -> link groups, and a link group -> sync bytes. Pure; randomness is an argument."""

from __future__ import annotations

from collections.abc import Sequence

from meshrelay.errors import LinkGroupSizeInvalid, MessageTooLarge
from meshrelay.wire.link_node import LinkFact
from meshrelay.wire.sync_bytes import SyncUser, encode_sync_bytes

__all__ = ["MIN_LINK_MEMBERS", "cut_into_groups", "group_size", "make_sync_bytes"]

#: A link needs two.
MIN_LINK_MEMBERS = 2


def group_size(wanted: int, limit: int) -> int:
    """Return the size of link groups: `wanted`, or `limit` if that is 0.

    :raises LinkGroupSizeInvalid: it is not from 2 to `limit`.
    """
    if wanted == 0:
        return limit
    if not MIN_LINK_MEMBERS <= wanted <= limit:
        raise LinkGroupSizeInvalid(f"a link group has {MIN_LINK_MEMBERS} to {limit} members, not {wanted}")
    return wanted


def cut_into_groups(facts: Sequence[LinkFact], max_link_members: int) -> list[list[LinkFact]]:
    """Sort by latency, who was not measured last and otherwise as they came, and cut."""
    ordered = sorted(facts, key=lambda fact: (fact.latency_seconds is None, fact.latency_seconds or 0.0))
    return [ordered[start : start + max_link_members] for start in range(0, len(ordered), max_link_members)]


def make_sync_bytes(secret: bytes, facts: Sequence[LinkFact], limit_bytes: int) -> bytes:
    """Return the sync bytes of a link group. Of local addresses, only as many are told as fit.

    :param secret: 48 bytes that nobody can guess.
    :raises MessageTooLarge: they are over `limit_bytes` without any.
    """
    most = max((len(fact.addresses) for fact in facts), default=0)
    while True:
        sync_bytes = encode_sync_bytes(secret, [SyncUser(fact.user_id, fact.addresses[:most]) for fact in facts])
        if len(sync_bytes) <= limit_bytes:
            return sync_bytes
        if most <= 1:
            raise MessageTooLarge(f"sync bytes of {len(facts)} users, max_payload_bytes is {limit_bytes}")
        most //= 2
