"""Whether the node is alive, and when it has to be asked. Pure: times in seconds go in and come out.

Only what was heard counts as life. A client that sends a lot must not take its own traffic for an answer, and one that
sends nothing must show that it is there.
"""

from __future__ import annotations

__all__ = ["Pulse"]

#: A stream on which nothing was heard (or said) for 1.25 heartbeats is probed; after 2.5 it is dead. The node's own
#: PING comes every heartbeat and its PONG counts as said, so a sound connection is never probed.
_PROBE_HEARTBEATS = 1.25
_SILENCE_HEARTBEATS = 2.5

#: A node forgets a UDP client after 10 s by default. Five probes may be lost before the client gives up.
_DATAGRAM_PROBE_SECONDS = 2.0
_DATAGRAM_SILENCE_SECONDS = 10.0

#: Less is taken for this much: no node's word makes a client send without a pause.
_MIN_HEARTBEAT_SECONDS = 0.1


class Pulse:
    """The times of one connection."""

    __slots__ = ("_heard_at", "_probe_seconds", "_probed_at", "_sent_at", "_silence_seconds")

    def __init__(self, now: float, heartbeat_seconds: float | None) -> None:
        """Begin.

        :param heartbeat_seconds: how often the node sends PING; None: a datagram connection, which has its own times.
        """
        self._heard_at = self._sent_at = self._probed_at = now
        if heartbeat_seconds is None:
            self._probe_seconds, self._silence_seconds = _DATAGRAM_PROBE_SECONDS, _DATAGRAM_SILENCE_SECONDS
        else:
            heartbeat_seconds = max(heartbeat_seconds, _MIN_HEARTBEAT_SECONDS)
            self._probe_seconds = heartbeat_seconds * _PROBE_HEARTBEATS
            self._silence_seconds = heartbeat_seconds * _SILENCE_HEARTBEATS

    @property
    def probe_at(self) -> float:
        """When a PING is due."""
        return max(min(self._heard_at, self._sent_at), self._probed_at) + self._probe_seconds

    @property
    def dead_at(self) -> float:
        """When the node is given up."""
        return self._heard_at + self._silence_seconds

    @property
    def heard_at(self) -> float:
        """When anything came in last."""
        return self._heard_at

    def heard(self, now: float) -> None:
        """Something came in."""
        self._heard_at = now

    def sent(self, now: float) -> None:
        """Something went out."""
        self._sent_at = now

    def probed(self, now: float) -> None:
        """A PING went out."""
        self._probed_at = now
