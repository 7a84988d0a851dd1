"""Links of the peer overlay in memory: both ends, what dials them, and what makes WebRTC ones, on one clock.

`MemoryGround` is the clock and the agenda; `Places` says who is at which URL. What goes over a link arrives in order
after the latency of the link. A test may stop an end from reading, cut a link, or let it fall silent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from heapq import heappop, heappush
from itertools import count
from math import floor
from random import Random

import msgspec
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from meshrelay.overlay.interfaces import (
    IDialler,
    ILinkReceiver,
    IOverlayLink,
    IWrtcMaker,
    LinkOpened,
    WrtcAttempt,
)
from meshrelay.testing.heap_clock import HeapClock

__all__ = ["MemoryDialler", "MemoryGround", "MemoryOverlayLink", "MemoryWrtcMaker", "Places", "linked_pair"]

#: Timers are looked at this often; frames arrive at their time.
_STEP_SECONDS = 0.01

_MAX_FRAME_BYTES = 262_144
_MAX_WAITING_BYTES = 4 * 1024 * 1024

#: A dial that nobody answers fails after that, a WebRTC connection likewise.
_DIAL_SECONDS = 10.0
_ATTEMPT_SECONDS = 20.0


class MemoryGround:
    """The clock, and all that is on its way; from a seed.

    :param latency_seconds: between these two is that of each link.
    """

    def __init__(self, seed: int = 0, latency_seconds: tuple[float, float] = (0.001, 0.01)) -> None:
        self.clock = HeapClock()
        self.random = Random(seed)
        self._latency_seconds = latency_seconds
        self._agenda: list[tuple[float, int, Callable[[], object]]] = []
        self._order = count()
        #: Frames that left, on all links.
        self.frames = 0

    def now(self) -> float:
        """Seconds since the beginning."""
        return self.clock.seconds()

    def latency(self) -> float:
        """Return that of a new link."""
        return self.random.uniform(*self._latency_seconds)

    def later(self, seconds: float, action: Callable[[], object]) -> None:
        """Do something then; what is to be done at one time is done in order."""
        heappush(self._agenda, (self.now() + seconds, next(self._order), action))

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Let time pass.

        :param until: ends it when it says True.
        :returns: what `until` said last.
        """
        end = self.now() + seconds
        while until is None or not until():
            now = self.now()
            if now >= end:
                return False
            tick = (floor(now / _STEP_SECONDS + 1e-6) + 1) * _STEP_SECONDS
            upcoming = self._agenda[0][0] if self._agenda else end
            self.clock.advance(max(0.0, min(tick, upcoming, end) - now))
            while self._agenda and self._agenda[0][0] <= self.now():
                heappop(self._agenda)[2]()
        return True


class _State(Enum):
    OPEN = auto()
    #: This end has closed it, the other end does not know yet.
    CLOSING = auto()
    GONE = auto()


@implementer(IOverlayLink)
class MemoryOverlayLink:
    """One end of a link. See `linked_pair`.

    :ivar is_reading: False: what comes stays with the other end.
    :ivar is_silent: nothing passes any more in either direction, and nobody is told.
    """

    has_origin = False
    remote_address = "127.0.0.1:50000"
    max_frame_bytes = _MAX_FRAME_BYTES

    def __init__(self, ground: MemoryGround, transport_name: str, latency: float) -> None:
        self.transport_name = transport_name
        self.is_outgoing = False
        self.is_own = False
        self.other: MemoryOverlayLink = self
        self.is_silent = False
        self.waiting_bytes = 0
        self._ground = ground
        self._latency = latency
        self._is_reading = True
        self._state = _State.OPEN
        self._flying: deque[bytes] = deque()
        #: Of those, how many have been under way for long enough.
        self._arrived = 0
        #: What came, and how it ended, before it was started.
        self._early: list[bytes] = []
        self._lost_early = ""
        self._receiver: ILinkReceiver | None = None

    @property
    def is_open(self) -> bool:
        """This end has neither closed it nor heard of its end."""
        return self._state is _State.OPEN

    @property
    def is_reading(self) -> bool:
        """See the class."""
        return self._is_reading

    @is_reading.setter
    def is_reading(self, value: bool) -> None:
        self._is_reading = value
        self.other._deliver()

    def open(self, opened: LinkOpened) -> None:
        """Tell who waits for this end that it is open, and start it; as the transports do."""
        receiver = opened(self)
        if receiver is None:
            self.abort()
        else:
            self.start(receiver)

    def start(self, receiver: ILinkReceiver) -> None:
        """See `IOverlayLink`."""
        self._receiver = receiver
        early, self._early = self._early, []
        for frame in early:
            self._receive(frame)
        if self._lost_early:
            self._receiver = None
            receiver.link_lost(self._lost_early)

    def send(self, frame: bytes) -> bool:
        """See `IOverlayLink`."""
        size = len(frame)
        if not self.is_open or size > self.max_frame_bytes or self.waiting_bytes + size > _MAX_WAITING_BYTES:
            return False
        self._ground.frames += 1
        self.waiting_bytes += size
        self._flying.append(frame)
        self._ground.later(self._latency, self._arrive)
        return True

    def _arrive(self) -> None:
        self._arrived += 1
        self._deliver()

    def _deliver(self) -> None:
        while self._arrived and self._flying and self.other._is_reading and not self.is_silent:
            self._arrived -= 1
            frame = self._flying.popleft()
            self.waiting_bytes -= len(frame)
            self.other._receive(frame)

    def _receive(self, frame: bytes) -> None:
        if self._receiver is not None and (self.is_open or self._lost_early):
            self._receiver.frame_received(frame)
        elif self.is_open:
            self._early.append(frame)

    def close(self) -> None:
        """See `IOverlayLink`."""
        if self.is_open:
            self._state = _State.CLOSING
            self._ground.later(self._latency, lambda: self._tell_other("closed by the other end"))
            # As after a close frame that nobody answers.
            self._ground.later(3.0 if self.is_silent else 2 * self._latency, lambda: self._gone("closed"))

    def abort(self) -> None:
        """See `IOverlayLink`."""
        if self._state is not _State.GONE:
            self._ground.later(self._latency, lambda: self._tell_other("connection lost"))
            self._state = _State.CLOSING
            self._ground.later(0, lambda: self._gone("aborted"))

    def cut(self) -> None:
        """Let both ends lose it now."""
        self._gone("connection lost")
        self.other._gone("connection lost")

    def fall_silent(self) -> None:
        """Let nothing pass any more; see `is_silent`."""
        self.is_silent = self.other.is_silent = True

    def _tell_other(self, why: str) -> None:
        if not self.is_silent:
            self.other._gone(why)

    def _gone(self, why: str) -> None:
        if self._state is _State.GONE:
            return
        self._state = _State.GONE
        self._flying.clear()
        self.waiting_bytes = 0
        receiver, self._receiver = self._receiver, None
        if receiver is None:
            self._lost_early = why
        else:
            receiver.link_lost(why)


def linked_pair(
    ground: MemoryGround, *, transport_name: str = "ws", latency: float | None = None
) -> tuple[MemoryOverlayLink, MemoryOverlayLink]:
    """Return both ends of a link, the one that dialled first; neither is started."""
    latency = ground.latency() if latency is None else latency
    dialler = MemoryOverlayLink(ground, transport_name, latency)
    acceptor = MemoryOverlayLink(ground, transport_name, latency)
    dialler.other, acceptor.other = acceptor, dialler
    dialler.is_outgoing = True
    return dialler, acceptor


class _Place:
    """Who listens at a URL."""

    def __init__(self, accept: LinkOpened, is_own: bool) -> None:
        self.accept = accept
        self.is_own = is_own


class Places:
    """Who listens where, who dialled whom, and all links that came of it.

    :ivar black_holes: URLs that answer nothing, not even that nobody is there.
    """

    def __init__(self, ground: MemoryGround) -> None:
        self.ground = ground
        self.black_holes: set[str] = set()
        #: URL and whether it was to be checked, of each dial.
        self.dialled: list[tuple[str, bool]] = []
        #: The dialler's end of each link.
        self.links: list[MemoryOverlayLink] = []
        self._places: dict[str, _Place] = {}

    def listen(self, url: str, accept: LinkOpened, *, is_own: bool) -> None:
        """Let links to a URL come to `accept`.

        :param is_own: whoever dials learns that meshrelay is there.
        """
        self._places[url] = _Place(accept, is_own)

    def stop_listening(self, url: str) -> None:
        """Let nobody be there any more."""
        self._places.pop(url, None)

    def reach(self, url: str, latency: float, is_own: bool) -> MemoryOverlayLink | None:
        """Connect: who listens there is told at once. Returns the dialler's end; None: nobody is there.

        :param is_own: who listens learns that meshrelay dials.
        """
        place = self._places.get(url)
        if place is None:
            return None
        dialler, acceptor = linked_pair(self.ground, latency=latency)
        dialler.is_own, acceptor.is_own = place.is_own, is_own
        self.links.append(dialler)
        acceptor.open(place.accept)
        return dialler


@implementer(IDialler)
class MemoryDialler:
    """Dials what is in `Places`.

    :param is_own: it says that it is meshrelay.
    """

    def __init__(self, places: Places, *, is_own: bool = True) -> None:
        self._places = places
        self._is_own = is_own

    def dial(
        self, url: str, opened: LinkOpened, failed: Callable[[str], None], *, is_checked: bool
    ) -> Callable[[], None]:
        """See `IDialler`."""
        places, ground = self._places, self._places.ground
        places.dialled.append((url, is_checked))
        latency = ground.latency()
        given_up: list[bool] = []

        def end(link: MemoryOverlayLink | None) -> None:
            if given_up:
                if link is not None:
                    link.abort()
            elif link is None:
                failed("nobody is there")
            else:
                link.open(opened)

        def arrive() -> None:
            if given_up:
                return
            if url in places.black_holes:
                ground.later(_DIAL_SECONDS, lambda: end(None))
            else:
                link = places.reach(url, latency, self._is_own)
                ground.later(latency, lambda: end(link))

        ground.later(latency, arrive)
        return lambda: given_up.append(True)


class _Signal(msgspec.Struct):
    type: str
    sdp: str


class _Attempt:
    """One WebRTC connection on its way. Implements `WrtcAttempt`."""

    def __init__(
        self,
        maker: MemoryWrtcMaker,
        is_initiator: bool,
        send_signal: Callable[[bytes], None],
        opened: LinkOpened,
        failed: Callable[[str], None],
    ) -> None:
        self._ground = maker.ground
        self._attempts = maker.attempts
        self._is_initiator = is_initiator
        self._send_signal = send_signal
        self._opened = opened
        self._failed = failed
        self._is_over = False
        self._name = str(len(maker.attempts))
        maker.attempts.append(self)
        if is_initiator:
            self._ground.later(0, lambda: self._say("offer"))
        self._ground.later(_ATTEMPT_SECONDS, lambda: self._fail("no link in time"))

    def _say(self, kind: str) -> None:
        if not self._is_over:
            self._send_signal(msgspec.json.encode(_Signal(kind, self._name)))

    def signal(self, data: bytes) -> None:
        """See `WrtcAttempt`."""
        try:
            signal = msgspec.json.decode(data, type=_Signal)
            other = self._attempts[int(signal.sdp)]
        except (msgspec.MsgspecError, ValueError, IndexError):
            return
        if self._is_over:
            return
        if not self._is_initiator and signal.type == "offer":
            self._say("answer")
        elif self._is_initiator and signal.type == "answer" and not other._is_over:
            self._meet(other)

    def _meet(self, other: _Attempt) -> None:
        initiator, responder = linked_pair(self._ground, transport_name="wrtc")
        for attempt, link in ((other, responder), (self, initiator)):
            attempt._is_over = True
            link.open(attempt._opened)

    def _fail(self, why: str) -> None:
        if not self._is_over:
            self._is_over = True
            self._failed(why)

    def cancel(self) -> None:
        """See `WrtcAttempt`."""
        self._is_over = True


@implementer(IWrtcMaker)
class MemoryWrtcMaker:
    """Makes WebRTC links between those that share `attempts`."""

    def __init__(self, ground: MemoryGround, attempts: list[_Attempt]) -> None:
        self.ground = ground
        self.attempts = attempts

    def attempt(
        self,
        is_initiator: bool,
        send_signal: Callable[[bytes], None],
        opened: LinkOpened,
        failed: Callable[[str], None],
    ) -> WrtcAttempt:
        """See `IWrtcMaker`."""
        return _Attempt(self, is_initiator, send_signal, opened, failed)

    def stop(self) -> Deferred[None]:
        """See `IWrtcMaker`; the links of others that share `attempts` stay."""
        return succeed(None)
