"""Drives one `PeerLink` by a reactor: datagrams in, at the end of the turn packets and events out, one timer.

::

    ACTIVE --retire--> RETIRED --both ends have finished, or the time is over--> over ----> done
       |                                                                          ^
       +--- the peer's end, ours, silence ------------------------------------------+

Between over and done a link that both ends have finished still answers, for the peer may not know yet.

A link that takes the place of another one of the same two users is held: its messages wait until those of the other
one are through. Meanwhile it runs, and its window slows the peer down.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall

from meshrelay.machine.hole_punch import HolePunch
from meshrelay.machine.peer_link import LinkEnded, PeerEvent, PeerLink, PeerPacket
from meshrelay.machine.peer_path import Path
from meshrelay.model import CloseReason

__all__ = ["LinkDriver", "LinkOwner"]

#: Between over and done; the peer repeats its FIN sooner.
_AFTERGLOW_SECONDS = 1.5

#: Bytes that the peer has not acknowledged: with fewer `when_drained` fires.
_DRAINED_BYTES = 65536


class LinkOwner(Protocol):
    """What a driver calls."""

    def packet_ready(self, driver: LinkDriver, packet: PeerPacket) -> None:
        """Send it."""

    def event_came(self, driver: LinkDriver, event: PeerEvent) -> None:
        """Something to tell; not the end."""

    def link_over(self, driver: LinkDriver, ended: LinkEnded) -> None:
        """The end, once. Packets may still be ready."""

    def link_done(self, driver: LinkDriver) -> None:
        """Nothing more comes; last, and once, unless the link was aborted."""


def _wait_in(waiting: list[Deferred[None]]) -> Deferred[None]:
    def forget(deferred: Deferred[None]) -> None:
        if deferred in waiting:
            waiting.remove(deferred)

    waiting.append(Deferred(forget))
    return waiting[-1]


def _fire(waiting: list[Deferred[None]]) -> None:
    while waiting:
        waiting.pop(0).callback(None)


class LinkDriver:
    """See the module.

    :ivar farewell: what is told as the end of a link that was retired; None: as the link itself says.
    """

    def __init__(self, reactor: Any, link: PeerLink, punch: HolePunch, owner: LinkOwner) -> None:
        self.link = link
        self.user_id = link.peer_id
        self.farewell: str | None = None
        self._reactor = reactor
        self._punch = punch
        self._owner = owner
        self._ended: LinkEnded | None = None
        self._done_at = 0.0
        self._is_held = False
        self._retired_until: float | None = None
        self._flush_call: IDelayedCall | None = None
        self._timer: IDelayedCall | None = None
        self._draining: list[Deferred[None]] = []
        self._ending: list[Deferred[None]] = []
        self._is_done = False

    @property
    def is_retired(self) -> bool:
        """Whether it ends by itself, and nothing can be sent any more."""
        return self._retired_until is not None or self._ended is not None or self._is_done

    def start(self) -> None:
        """Begin; once."""
        self.link.start(self._reactor.seconds())
        self._flush()

    def send(self, frames: bytes, is_reliable: bool) -> None:
        """See `PeerLink.send`."""
        self.link.send(frames, is_reliable, self._reactor.seconds())
        self._schedule()

    def receive(self, datagram: bytes, path: Path | None) -> None:
        """See `PeerLink.receive_datagram`.

        :raises PacketRejected: it was none of this link.
        """
        self.link.receive_datagram(datagram, path, self._reactor.seconds())
        self._schedule()

    def restart(self) -> None:
        """Look for the peer anew: we are somewhere else."""
        self._punch.restart(self._reactor.seconds())
        self._schedule()

    def when_drained(self) -> Deferred[None]:
        """Fire when the peer has acknowledged nearly everything, or the link is over."""
        if self._ended is not None or self.link.buffered_bytes <= _DRAINED_BYTES:
            return succeed(None)
        return _wait_in(self._draining)

    def when_over(self) -> Deferred[None]:
        """Fire when the link is over."""
        return succeed(None) if self._ended is not None or self._is_done else _wait_in(self._ending)

    def hold(self) -> None:
        """Keep messages back, until `release`."""
        self._is_held = True

    def release(self) -> None:
        """Tell what was kept back."""
        self._is_held = False
        self._schedule()

    def retire(self, seconds: float, farewell: str | None = None) -> None:
        """Send what is queued, and end; at once when it takes longer than that."""
        if self.is_retired:
            return
        self.farewell = farewell
        self._retired_until = self._reactor.seconds() + seconds
        self.link.finish()
        self._schedule()

    def abort(self) -> None:
        """End now. The peer is told; the owner is not."""
        if self._is_done:
            return
        if self._ended is None:
            self.link.abort(CloseReason.KICKED)
        for packet in self.link.packets_to_send(self._reactor.seconds()):
            self._owner.packet_ready(self, packet)
        self._stop()

    def _schedule(self) -> None:
        if self._flush_call is None and not self._is_done:
            self._flush_call = self._reactor.callLater(0, self._flush_due)

    def _flush_due(self) -> None:
        self._flush_call = None
        self._flush()

    def _flush(self) -> None:
        now = self._reactor.seconds()
        if self._ended is None and self._retired_until is not None and now >= self._retired_until:
            self.link.abort(CloseReason.IDLE)
            self._is_held = False
        self.link.deadline_passed(now)
        self._tell(now)
        for packet in self.link.packets_to_send(now):
            self._owner.packet_ready(self, packet)
        self._tell(now)
        if self._is_done:
            return
        if self._ended is not None and now >= self._done_at:
            self._stop()
            self._owner.link_done(self)
            return
        if self._draining and self.link.buffered_bytes <= _DRAINED_BYTES:
            _fire(self._draining)
        self._set_timer(now)

    def _tell(self, now: float) -> None:
        while not self._is_held and not self._is_done and self._ended is None:
            event = self.link.next_event()
            if event is None:
                return
            if isinstance(event, LinkEnded):
                self._over(event, now)
            else:
                self._owner.event_came(self, event)

    def _over(self, ended: LinkEnded, now: float) -> None:
        self._ended = ended
        self._done_at = now + _AFTERGLOW_SECONDS if ended.code == 0 else now
        self._owner.link_over(self, ended)
        _fire(self._draining)
        _fire(self._ending)

    def _set_timer(self, now: float) -> None:
        end = self._done_at if self._ended is not None else self._retired_until
        deadlines = (self.link.next_deadline(), end)
        deadline = min((time for time in deadlines if time is not None), default=None)
        timer = self._timer
        if deadline is None or (timer is not None and timer.active() and timer.getTime() <= deadline):
            return
        if timer is not None and timer.active():
            timer.cancel()
        self._timer = self._reactor.callLater(max(0.0, deadline - now), self._woken)

    def _woken(self) -> None:
        self._timer = None
        self._flush()

    def _stop(self) -> None:
        self._is_done = True
        for call in (self._flush_call, self._timer):
            if call is not None and call.active():
                call.cancel()
        self._flush_call = self._timer = None
        _fire(self._draining)
        _fire(self._ending)
