"""Which way messages of another peer come: findPeers is sent to it, and its answer carries the path. Pure.

Peers of npm's package answer it like ours, and it costs them nothing.

Source: npm peer-relay 0.0.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from twisted.internet.defer import Deferred

from meshrelay.background import Alarm, Alarms
from meshrelay.overlay.control import ControlMessages
from meshrelay.overlay.errors import NotDelivered, PeerDestroyed, TooMuchWaiting
from meshrelay.wire.overlay import Envelope

__all__ = ["MAX_TRACES", "TRACE_SECONDS", "Trace", "Traces"]

#: An answer must have come by then; findPeers is sent again in between, as nobody resends it.
TRACE_SECONDS = 10.0
_AGAIN_SECONDS = 2.5

#: Peers that are traced at a time.
MAX_TRACES = 100


class Trace(NamedTuple):
    """How an answer came."""

    #: From the peer that was traced to the one next to us, as they say.
    path: tuple[bytes, ...]
    #: There and back.
    seconds: float


class _Traced:
    """One peer that is traced."""

    __slots__ = ("alarm", "done", "sent_at")

    def __init__(self) -> None:
        self.sent_at = 0.0
        #: The next step.
        self.alarm: Alarm | None = None
        self.done: list[Deferred[Trace]] = []


class Traces:
    """See the module.

    :param post: sends an envelope on its way.
    """

    def __init__(
        self, own_id: bytes, control: ControlMessages, post: Callable[[Envelope], object], alarms: Alarms
    ) -> None:
        self._own_id = own_id
        self._control = control
        self._post = post
        self._alarms = alarms
        self._traced: dict[bytes, _Traced] = {}

    def __len__(self) -> int:
        """Peers that are traced."""
        return len(self._traced)

    def trace(self, peer_id: bytes) -> Deferred[Trace]:
        """Find out.

        :returns: fails with `NotDelivered` after `TRACE_SECONDS`, with `TooMuchWaiting` while there are `MAX_TRACES`,
            with `PeerDestroyed` when the peer is.
        """
        done: Deferred[Trace] = Deferred()
        traced = self._traced.get(peer_id)
        if traced is None:
            if len(self._traced) >= MAX_TRACES:
                done.errback(TooMuchWaiting(f"{MAX_TRACES} peers are traced"))
                return done
            traced = self._traced[peer_id] = _Traced()
            traced.done.append(done)
            self._send(peer_id, traced, int(TRACE_SECONDS / _AGAIN_SECONDS))
        else:
            traced.done.append(done)
        return done

    def _send(self, peer_id: bytes, traced: _Traced, tries: int) -> None:
        if not tries:
            self._end(peer_id, lambda done: done.errback(NotDelivered(f"{peer_id.hex()} did not answer")))
            return
        traced.sent_at = self._alarms.now()
        traced.alarm = self._alarms.call_later(_AGAIN_SECONDS, lambda: self._send(peer_id, traced, tries - 1))
        self._post(self._control.find_peers(peer_id, self._own_id))

    def answered(self, envelope: Envelope, now: float) -> bool:
        """Take a foundPeers, from whomever.

        :returns: False: nobody waits for it here.
        """
        traced = self._traced.get(envelope.sender)
        if traced is None:
            return False
        trace = Trace(envelope.path, now - traced.sent_at)
        self._end(envelope.sender, lambda done: done.callback(trace))
        return True

    def _end(self, peer_id: bytes, tell: Callable[[Deferred[Trace]], object]) -> None:
        traced = self._traced.pop(peer_id)
        if traced.alarm is not None:
            traced.alarm.cancel()
        for done in traced.done:
            tell(done)

    def stop(self) -> None:
        """Give up all traces."""
        for peer_id in tuple(self._traced):
            self._end(peer_id, lambda done: done.errback(PeerDestroyed()))
