"""Rings for the deadlines of a relay peer: handshake and health checks, whatever its transport."""

from __future__ import annotations

from meshrelay.background import Alarms
from meshrelay.relay.server import RelayPeer

__all__ = ["watch_deadlines"]


class _Watch:
    """One peer; the alarm holds it."""

    __slots__ = ("_alarms", "_peer")

    def __init__(self, peer: RelayPeer, alarms: Alarms) -> None:
        self._peer = peer
        self._alarms = alarms

    def look(self) -> None:
        """Do what is due, and come back for the next."""
        self._peer.deadline_passed()
        self.wait()

    def wait(self) -> None:
        """Set the next alarm; with the peer closed there is none."""
        deadline = self._peer.next_deadline()
        if deadline is not None:
            self._alarms.call_later(max(0.0, deadline - self._alarms.now()), self.look)


def watch_deadlines(peer: RelayPeer, alarms: Alarms) -> None:
    """Call `RelayPeer.deadline_passed` whenever it is due, until the peer is closed.

    A deadline only ever moves away (AUTH ends the one of the handshake): an alarm that rings too early is set anew.

    :param alarms: must have the clock of the server.
    """
    _Watch(peer, alarms).wait()
