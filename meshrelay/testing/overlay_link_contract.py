"""What links of the peer overlay must promise, as a check that knows nothing of what carries them.

Run on the real WebSocket and on the link in memory, so that tests with the second one say something about the first. A
failed check is an AssertionError with the case that broke.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from meshrelay.overlay.interfaces import IOverlayLink

__all__ = ["LinkEndUnderTest", "LinkPairUnderTest", "RecordingEnd", "check_overlay_links"]


class RecordingEnd:
    """Writes down what a link tells. Implements `ILinkReceiver`."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.lost: list[str] = []

    def frame_received(self, frame: bytes) -> None:
        """See `ILinkReceiver`."""
        _expect(not self.lost, "a frame came after the end")
        self.frames.append(frame)

    def link_lost(self, why: str) -> None:
        """See `ILinkReceiver`."""
        self.lost.append(why)


@dataclass(frozen=True, slots=True)
class LinkEndUnderTest:
    """One end of a fresh link, started with `receiver`.

    :ivar set_reading: whether this end takes what comes from its transport.
    """

    link: IOverlayLink
    receiver: RecordingEnd
    set_reading: Callable[[bool], object]


@dataclass(frozen=True, slots=True)
class LinkPairUnderTest:
    """Both ends of a fresh link.

    :ivar run: lets that many seconds pass.
    """

    dialler: LinkEndUnderTest
    acceptor: LinkEndUnderTest
    run: Callable[[float], Any]

    @property
    def both_ways(self) -> tuple[tuple[LinkEndUnderTest, LinkEndUnderTest], ...]:
        """Sender and receiver."""
        return ((self.dialler, self.acceptor), (self.acceptor, self.dialler))


def _expect(condition: bool, what: str) -> None:
    if not condition:
        raise AssertionError(what)


def check_overlay_links(make: Callable[[], LinkPairUnderTest]) -> None:
    """Check links; `make` is called for each promise."""
    for check in (_traits, _order, _sizes, _close_sends_what_waits, _abort, _both_close, _full):
        check(make())


def _traits(case: LinkPairUnderTest) -> None:
    _expect(case.dialler.link.is_outgoing, "the end that dialled says that it did not")
    _expect(not case.acceptor.link.is_outgoing, "the end that was dialled says that it dialled")
    for end in (case.dialler, case.acceptor):
        _expect(end.link.transport_name in ("ws", "wrtc"), f"{end.link.transport_name} is no transport")
        _expect(end.link.waiting_bytes == 0, "something waits already")


def _order(case: LinkPairUnderTest) -> None:
    for sender, receiver in case.both_ways:
        frames = [b'"%d"' % number for number in range(500)]
        for frame in frames:
            _expect(sender.link.send(frame), "a small frame was not taken")
        case.run(1)
        _expect(receiver.receiver.frames == frames, f"{len(receiver.receiver.frames)} of 500 came, or in another order")
        _expect(sender.link.waiting_bytes == 0, "what was taken is said to wait")


def _sizes(case: LinkPairUnderTest) -> None:
    for sender, receiver in case.both_ways:
        limit = sender.link.max_frame_bytes
        sizes = (2, 126, 65_535, 65_536, limit)
        for size in sizes:
            _expect(sender.link.send(b"1" * size), f"{size} bytes were not taken")
        _expect(not sender.link.send(b"1" * (limit + 1)), "a frame that is too long was taken")
        case.run(1)
        came = tuple(map(len, receiver.receiver.frames))
        _expect(came == sizes, f"sizes {came}")


def _close_sends_what_waits(case: LinkPairUnderTest) -> None:
    frame = b"1" * 100_000
    for _ in range(5):
        case.dialler.link.send(frame)
    case.dialler.link.close()
    _expect(not case.dialler.link.send(frame), "a closed link takes frames")
    case.run(1)
    _expect(len(case.acceptor.receiver.frames) == 5, "what waited did not come")
    _ended(case)


def _abort(case: LinkPairUnderTest) -> None:
    case.acceptor.link.abort()
    _expect(not case.acceptor.link.send(b"1"), "an aborted link takes frames")
    case.run(1)
    _ended(case)


def _both_close(case: LinkPairUnderTest) -> None:
    case.acceptor.link.close()
    case.dialler.link.close()
    case.run(5)
    _ended(case)


def _ended(case: LinkPairUnderTest) -> None:
    for end in (case.dialler, case.acceptor):
        _expect(len(end.receiver.lost) == 1, f"the end was told {len(end.receiver.lost)} times")
        _expect(not end.link.send(b"1"), "a link that is gone takes frames")
        end.link.close()
        end.link.abort()
    case.run(5)
    for end in (case.dialler, case.acceptor):
        _expect(len(end.receiver.lost) == 1, "the end was told once more")


def _full(case: LinkPairUnderTest) -> None:
    case.acceptor.set_reading(False)
    frames = [b'"%06d%b"' % (number, b"x" * 100_000) for number in range(200)]
    taken = [frame for frame in frames if case.dialler.link.send(frame)]
    case.run(0.5)
    _expect(0 < len(taken) < len(frames), "a link whose other end does not read takes everything")
    _expect(case.dialler.link.waiting_bytes > 0, "nothing is said to wait")
    case.acceptor.set_reading(True)
    case.run(2)
    _expect(case.acceptor.receiver.frames == taken, "what was taken came otherwise, or what was dropped came")
    _expect(case.dialler.link.send(b"1"), "a link that is free again takes nothing")
