"""What P2P links tell the program, beside the events of the client (`meshrelay.client.events`)."""

from __future__ import annotations

from dataclasses import dataclass

from meshrelay.client.events import Event
from meshrelay.machine.hole_punch import RelayReason
from meshrelay.wire.addresses import UdpAddress
from meshrelay.wire.link_commands import LinkState

__all__ = [
    "LinkLost",
    "LinkMessageReceived",
    "LinkRelayReceived",
    "LinkStateChanged",
    "LinksStarted",
]


@dataclass(frozen=True, slots=True)
class LinksStarted(Event):
    """Links of a room were started: from now on something can be sent to these users, first by the relay."""

    room_id: str
    #: The other members of the link group; the room may have more.
    user_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _LinkEvent(Event):
    room_id: str
    user_id: str


@dataclass(frozen=True, slots=True)
class LinkStateChanged(_LinkEvent):
    """How a peer is reached from now on."""

    state: LinkState
    #: Why by the relay; None: it is DIRECT.
    reason: RelayReason | None
    #: Where the peer is; None: it is RELAYED.
    address: UdpAddress | None


@dataclass(frozen=True, slots=True)
class LinkLost(_LinkEvent):
    """The link is over. A new start makes another one."""

    #: 0: both ends have finished. Else a close code, of the peer or our own; 4001: nobody answered.
    code: int
    text: str


@dataclass(frozen=True, slots=True)
class LinkMessageReceived(_LinkEvent):
    """A peer sent a frame by its link."""

    ver: int
    cmd: int
    payload: bytes
    #: False: others may be missing, or come in another order.
    is_reliable: bool


@dataclass(frozen=True, slots=True)
class LinkRelayReceived(_LinkEvent):
    """A member of the room sent `message` to all link groups, by way of one member of each."""

    message: bytes
