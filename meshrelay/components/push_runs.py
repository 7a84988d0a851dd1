"""Neighbours of one read that go to the same place -> one run of pushes.

A client's broadcast and the push that comes of it differ in nothing but the sender between the ID of the place and the
message, so a run of the one becomes a run of the other by a new head in front of each message, and one join.
"""

from __future__ import annotations

from collections.abc import Sequence

from meshrelay.wire.buffer import GROUP_ID_BYTES
from meshrelay.wire.commands import BUILT_IN_VER
from meshrelay.wire.frame import encode_push_head

__all__ = ["MAX_RUN_BYTES", "join_pushes"]

#: Pushes of one client are joined up to this size; two such runs are one WebSocket message.
MAX_RUN_BYTES = 32 * 1024


def join_pushes(
    cmd: int, payloads: Sequence[bytes], start: int, sender: bytes, max_payload_bytes: int
) -> tuple[bytes, int]:
    """Make pushes of the payloads from `start` on that begin with the same ID.

    :param cmd: of ver 1; requests and pushes have the same.
    :param sender: the str8 that goes between ID and message.
    :param max_payload_bytes: of a push.
    :returns: the joined pushes and their count; 0: the first payload is too short, or too long for a push.
    """
    wire_id = payloads[start][:GROUP_ID_BYTES]
    limit = max_payload_bytes - len(sender)
    if len(wire_id) < GROUP_ID_BYTES or len(payloads[start]) > limit:
        return b"", 0
    pieces: list[bytes] = []
    head, size, cost = b"", -1, 0
    left = MAX_RUN_BYTES
    for payload in payloads[start:] if start else payloads:
        if len(payload) != size:
            size = len(payload)
            head = encode_push_head(BUILT_IN_VER, cmd, size + len(sender)) + wire_id + sender
            cost = len(head) + size - GROUP_ID_BYTES
        left -= cost
        if not payload.startswith(wire_id) or size > limit or (left < 0 and pieces):
            break
        pieces.append(head)
        pieces.append(payload[GROUP_ID_BYTES:])
    return b"".join(pieces), len(pieces) // 2
