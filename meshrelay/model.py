"""Frozen value types that every layer may hold: who, where, and why a connection ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum, unique

__all__ = [
    "CloseReason",
    "Group",
    "HistoryMessage",
    "HistoryPage",
    "LinkPair",
    "Member",
    "PROTOCOL_VERSION",
    "Presence",
    "Room",
    "RoomMember",
    "Status",
    "User",
    "check_user_id",
]

#: The version that HELLO names (client protocol, section 2).
PROTOCOL_VERSION = 1

#: A user ID has 1 to this many bytes of UTF-8 (client protocol, str8).
MAX_USER_ID_BYTES = 128


@unique
class Status(IntEnum):
    """Byte 1 of a frame (client protocol, section 1)."""

    #: Client to node: pushes caused by this command may be lost.
    UNRELIABLE = 0
    #: Both ways: client to node "pushes go out reliably" (bit 0), node to client "done".
    OK = 1
    #: The caller's fault.
    BAD = 4
    #: The node's fault.
    ERROR = 5
    #: Not an answer: the node speaks first.
    PUSH = 255


@unique
class CloseReason(Enum):
    """Why a connection was closed: the u16 code and text of GOODBYE, and the close code of a WebSocket.

    Codes from 4000 to 4499 mean "come back", from 4500 to 4999 "stay away" (client protocol, section 2).
    A session outlives a close of the first kind for ``resume_seconds``.
    """

    DRAINING = (4000, "the node is stopping, another one will take you")
    IDLE = (4001, "nothing was heard from you for too long")
    SLOW_CONSUMER = (4002, "you did not read as fast as others sent")
    INTERNAL = (4003, "an error inside the node, its log has it")
    MOVED = (4004, "another node has your session, come back if you did not go there")
    REPLACED = (4500, "a newer sign-in of this user took over")
    BAD_TOKEN = (4501, "sign-in refused")
    PROTOCOL_ERROR = (4502, "the protocol was not followed")
    FRAME_TOO_LARGE = (4503, "a frame was over max_payload_bytes")
    KICKED = (4504, "removed by the application")
    HELLO_TIMEOUT = (4505, "HELLO did not come in time")
    RATE_LIMITED = (4506, "too many commands for too long")

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        #: At most 123 bytes: a WebSocket close frame holds 125 with the code.
        self.text = text

    @property
    def is_retryable(self) -> bool:
        """True: the client may come back and resume."""
        return self.code < 4500


def check_user_id(user_id: str) -> str:
    """Return `user_id` if it is one.

    :raises ValueError: it is not 1 to 128 bytes of UTF-8; the text is fit for the user's eyes.
    """
    try:
        size = len(user_id.encode("utf-8"))
    except UnicodeEncodeError:
        raise ValueError("user ID is not valid UTF-8") from None
    if not 1 <= size <= MAX_USER_ID_BYTES:
        raise ValueError(f"user ID has {size} bytes, allowed are 1 to {MAX_USER_ID_BYTES}")
    return user_id


@dataclass(frozen=True, slots=True)
class User:
    """A signed-in user as the application sees one."""

    #: Unique in the cluster, 1 to 128 bytes of UTF-8.
    user_id: str
    #: Names the session, 32 hex digits; a secret of its client and the nodes.
    sid: str
    #: "tcp", "websocket" or "udp".
    transport: str = ""
    #: The claims of the token; empty in mode "open".
    claims: dict[str, object] = field(default_factory=dict, compare=False, hash=False, repr=False)


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a group."""

    user_id: str
    sid: str
    #: The mesh endpoint of the node that has the user; the node ID where the node has no link.
    mesh_endpoint: str


@dataclass(frozen=True, slots=True)
class Group:
    """What a group is at one moment: a snapshot, it does not change afterwards."""

    #: Exactly 52 ASCII characters.
    id: str
    allow_empty: bool
    #: Exists from start to stop on every node.
    is_static: bool
    #: Lifetime in seconds from its creation; 0 for a static group.
    ttl_seconds: int
    #: Merging interval in milliseconds; 0 = no merging.
    interval_ms: int
    #: Mesh endpoints of the other nodes that hold the group.
    remote_nodes: tuple[str, ...]
    #: In join order.
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class HistoryMessage:
    """One message that is kept of a group."""

    #: From 1, without a gap within an epoch.
    offset: int
    #: User ID; empty: the application.
    sender: str
    ver: int
    cmd: int
    #: As it was broadcast; of the application's own commands, and announcements, the whole payload.
    message: bytes


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """A part of the history of a group."""

    #: Names one life of the history; compare for equality only. 0: the group has no history.
    epoch: int
    #: Offset of the last message ever; 0: there was none in this epoch.
    head: int
    #: In order, without a gap. The first may be later than asked for: what was before is not kept any more.
    messages: tuple[HistoryMessage, ...]


@dataclass(frozen=True, slots=True)
class Presence:
    """Who is in a group at one moment, in the whole cluster."""

    count: int
    #: (user ID, whether its connection is lost and may come back), by user ID; empty: too many to be named.
    members: tuple[tuple[str, bool], ...]


@dataclass(frozen=True, slots=True)
class RoomMember:
    """One member of a room."""

    user_id: str
    sid: str
    #: The node that the user is connected to, or was last.
    node_id: str
    #: What that node says of the user; opaque, see `IRooms.set_member_facts`.
    facts: bytes = b""


@dataclass(frozen=True, slots=True)
class Room:
    """What a room is at one moment: a snapshot, it does not change afterwards."""

    #: Exactly 52 ASCII characters.
    id: str
    max_members: int
    allow_empty: bool
    #: Lifetime in seconds from its creation, see `IRooms.create_room`.
    ttl_seconds: int
    #: Merging interval in milliseconds; 0 = no merging.
    interval_ms: int
    #: In join order.
    members: tuple[RoomMember, ...]

    @property
    def owner(self) -> str | None:
        """User ID of the first member; None: the room is empty."""
        return self.members[0].user_id if self.members else None


@dataclass(frozen=True, slots=True)
class LinkPair:
    """How one member of a link group reaches another one, as it has said itself."""

    user_id: str
    peer_id: str
    #: "direct", "relayed", "lost", or "unknown": it has not said.
    state: str
    #: Why it is relayed or lost: "no_udp" = one of the two has no UDP address that others may be told; "no_hole" = both
    #: have, and no packet has come through. Else empty.
    reason: str = ""
