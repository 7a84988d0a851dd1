"""What the parts of P2P links share: what they stand on, the configuration, and how long they wait for other nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from twisted.internet.defer import Deferred

from meshrelay.background import Alarms
from meshrelay.components.rooms import Rooms
from meshrelay.config.listening import parse_udp_place
from meshrelay.config.schema import Config
from meshrelay.fanout.turn import Turn
from meshrelay.interfaces import INodes, ISessions

__all__ = ["LinkRules", "LinkSurroundings", "within"]

_T = TypeVar("_T")


class LinkSurroundings(NamedTuple):
    """What links stand on."""

    nodes: INodes
    sessions: ISessions
    rooms: Rooms
    turn: Turn
    alarms: Alarms
    #: ``random_bytes(n)`` -> n bytes that nobody can guess.
    random_bytes: Callable[[int], bytes]
    #: ``send_lossy(node_id, kind, payload)``: like `INodes.send`, but what is sent gives way when too much waits.
    send_lossy: Callable[[str, int, bytes], bool]


class LinkRules(NamedTuple):
    """What must be known of the configuration."""

    #: A push is never longer, so that a client can take what it may send.
    max_payload_bytes: int
    max_link_members: int
    allow_private: bool
    #: Whether peers may be told loopback addresses.
    allow_loopback: bool
    #: Of one user, 0 = no limit.
    forward_packets_per_second: int
    forward_bytes_per_second: int
    #: A user for whom more waits gets no packets of others.
    forward_queue_bytes: int

    @classmethod
    def of(cls, config: Config) -> LinkRules:
        """Return what the configuration says."""
        session, link = config.session, config.link
        return cls(
            session.max_payload_bytes,
            link.max_link_members,
            link.allow_private,
            _is_loopback(config.listen.udp),
            link.forward_packets_per_second,
            link.forward_bytes_per_second,
            session.outbox_bytes // 4,
        )


def _is_loopback(udp: str) -> bool:
    """Whether all UDP clients of the node are on its own machine."""
    return bool(udp) and parse_udp_place(udp).is_loopback


def within(alarms: Alarms, waiting: Deferred[_T], seconds: float) -> Deferred[_T]:
    """Cancel `waiting` when it takes longer. Returns it."""
    alarm = alarms.call_later(seconds, waiting.cancel)

    def ended(result: _T) -> _T:
        alarm.cancel()
        return result

    return waiting.addBoth(ended)
