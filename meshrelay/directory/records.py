"""What the directory stores, as frozen values that check themselves, also when they are read back as JSON."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from meshrelay.model import check_user_id

__all__ = [
    "GroupRecord",
    "MAX_GROUP_ID_CHARACTERS",
    "MAX_NAME_CHARACTERS",
    "MAX_PLACES",
    "MAX_SETTINGS_BYTES",
    "MAX_STAMP",
    "NodeRecord",
    "UserRecord",
    "check_group_id",
    "check_name",
    "check_settings",
]

#: Longest node ID, incarnation, session ID, and name or address of a place.
MAX_NAME_CHARACTERS = 255
#: Longest group ID; those of ours have 52 characters.
MAX_GROUP_ID_CHARACTERS = 64
#: Listening places of one node.
MAX_PLACES = 32
#: Settings of one group: a node reads them when it makes a replica.
MAX_SETTINGS_BYTES = 4096
#: Stamps are compared by Lua inside Redis, whose numbers are exact up to here: in microseconds that is the year 2255.
MAX_STAMP = (1 << 53) - 1


def check_name(name: str, what: str, limit: int = MAX_NAME_CHARACTERS) -> str:
    """Return `name` if it is 1 to `limit` printable ASCII characters without blanks.

    :raises ValueError: it is not; the text begins with `what`.
    """
    if not 1 <= len(name) <= limit or not (name.isascii() and name.isprintable()) or " " in name:
        raise ValueError(f"{what} must be 1 to {limit} printable ASCII characters without blanks")
    return name


def check_group_id(group_id: str) -> str:
    """Return `group_id` if it can be one.

    :raises ValueError: it cannot.
    """
    return check_name(group_id, "group ID", MAX_GROUP_ID_CHARACTERS)


def check_settings(settings: bytes) -> bytes:
    """Return `settings` if they are short enough.

    :raises ValueError: they are not.
    """
    if len(settings) > MAX_SETTINGS_BYTES:
        raise ValueError(f"settings of {len(settings)} bytes, allowed are {MAX_SETTINGS_BYTES}")
    return settings


class NodeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One node of the cluster, as it describes itself.

    :raises ValueError: a field is out of its range.
    """

    node_id: str
    #: Random for each start of the node: tells a node that came back from one that has the same ID by mistake.
    incarnation: str
    #: Where other nodes link to; empty = this node takes no links.
    mesh_endpoint: str
    #: Kind of place -> what clients are told: ``{"tcp": "host:port"}``.
    places: Mapping[str, str]
    #: 0 = idle, 1 = takes no more.
    load: float
    #: Version of the link protocol.
    protocol: int

    def __post_init__(self) -> None:
        check_name(self.node_id, "node ID")
        check_name(self.incarnation, "incarnation")
        if self.mesh_endpoint:
            check_name(self.mesh_endpoint, "mesh endpoint")
        if len(self.places) > MAX_PLACES:
            raise ValueError(f"{len(self.places)} places, allowed are {MAX_PLACES}")
        for kind, address in self.places.items():
            check_name(kind, "kind of place")
            check_name(address, f"place {kind}")
        if not 0.0 <= self.load <= 1.0:
            raise ValueError(f"load {self.load} is not between 0 and 1")


class UserRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Where a user is signed in.

    :raises ValueError: a field is out of its range.
    """

    user_id: str
    node_id: str
    #: The session.
    sid: str
    #: When the user signed in, by any count that only grows: the newest wins. 0 to `MAX_STAMP`.
    stamp: int

    def __post_init__(self) -> None:
        check_user_id(self.user_id)
        check_name(self.node_id, "node ID")
        check_name(self.sid, "session ID")
        if not 0 <= self.stamp <= MAX_STAMP:
            raise ValueError(f"stamp {self.stamp} is not between 0 and {MAX_STAMP}")

    def is_same_session(self, other: UserRecord) -> bool:
        """Whether both name the same session on the same node."""
        return (self.node_id, self.sid) == (other.node_id, other.sid)

    def is_newer_than(self, other: UserRecord) -> bool:
        """Whether this sign-in wins. Equal stamps are told apart by the rest, so that all nodes see the same winner."""
        return (self.stamp, self.sid, self.node_id) > (other.stamp, other.sid, other.node_id)


class GroupRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Which living nodes hold a group."""

    group_id: str
    #: As given by the node that came first; only nodes know what they mean.
    settings: bytes
    #: Sorted.
    nodes: tuple[str, ...]
