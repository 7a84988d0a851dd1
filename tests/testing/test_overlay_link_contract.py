"""The promises of overlay links, kept by the WebSocket and the link in memory; and checks that find what is broken."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.overlay.interfaces import IOverlayLink
from meshrelay.testing.overlay_link_contract import (
    LinkEndUnderTest,
    LinkPairUnderTest,
    RecordingEnd,
    check_overlay_links,
)
from meshrelay.testing.overlay_links import MemoryGround, MemoryOverlayLink, linked_pair
from meshrelay.transport.overlay_link import LinkTraits, OverlayWebSocket
from tests.transport.overlay_kit import OverlayKit, SwappingStream


def memory_pair(kind: type[MemoryOverlayLink] = MemoryOverlayLink) -> LinkPairUnderTest:
    """Two ends in memory.

    :param kind: of the end that dialled.
    """
    ground = MemoryGround(1)
    dialler, acceptor = linked_pair(ground, latency=0.01)
    dialler.__class__ = kind

    def end(link: MemoryOverlayLink) -> LinkEndUnderTest:
        receiver = RecordingEnd()
        link.start(receiver)

        def set_reading(value: bool) -> None:
            link.is_reading = value

        return LinkEndUnderTest(link, receiver, set_reading)

    return LinkPairUnderTest(end(dialler), end(acceptor), ground.run)


class SocketPair:
    """Two WebSockets behind their handshakes, and the connection between them."""

    def __init__(self) -> None:
        self.kit = OverlayKit()
        self.streams = (SwappingStream(), SwappingStream())
        self.ends = [self.end(number) for number in range(2)]
        self.is_over = False

    def end(self, number: int) -> LinkEndUnderTest:
        """One end; number 0 has dialled."""
        stream = self.streams[number]
        link = stream.protocol = OverlayWebSocket(stream, self.kit.parts, LinkTraits(number == 0, True))
        receiver = RecordingEnd()
        link.open(lambda _: receiver)
        writes = self.streams[1 - number]
        return LinkEndUnderTest(link, receiver, lambda reads: writes.resume() if reads else writes.pause())

    def run(self, seconds: float) -> None:
        """Let time pass and bytes arrive."""
        for _ in range(int(seconds / 0.05)):
            for number, stream in enumerate(self.streams):
                data = stream.value()
                stream.clear()
                if data and not self.is_over:
                    self.streams[1 - number].give(data)
            if not self.is_over and any(stream.ends and not stream.value() for stream in self.streams):
                self.is_over = True
                for stream in self.streams:
                    stream.lose()
            self.kit.clock.advance(0.05)

    def pair(self) -> LinkPairUnderTest:
        """Both."""
        return LinkPairUnderTest(self.ends[0], self.ends[1], self.run)


class ContractTests(SynchronousTestCase):
    """Who keeps the promises."""

    def test_memory(self) -> None:
        """The link in memory does."""
        check_overlay_links(memory_pair)

    def test_websocket(self) -> None:
        """The WebSocket does."""
        check_overlay_links(lambda: SocketPair().pair())


class LosesFrames(MemoryOverlayLink):
    """Says that it takes what it drops."""

    def send(self, frame: bytes) -> bool:
        """See `IOverlayLink`."""
        return super().send(frame) or self.is_open


class TellsTwice(MemoryOverlayLink):
    """Tells its end twice."""

    def _gone(self, why: str) -> None:
        receiver = self._receiver
        super()._gone(why)
        if receiver is not None:
            receiver.link_lost(why)


class ForgetsWhatWaits(MemoryOverlayLink):
    """Closes at once."""

    def close(self) -> None:
        """See `IOverlayLink`."""
        self.cut()


class Reorders(MemoryOverlayLink):
    """Hands over the newest first."""

    def _deliver(self) -> None:
        self._flying.reverse()
        super()._deliver()


class BrokenLinkTests(SynchronousTestCase):
    """The check finds what is broken."""

    def assert_found(self, kind: type[MemoryOverlayLink]) -> None:
        """A link that breaks a promise fails the check."""
        self.assertRaises(AssertionError, check_overlay_links, lambda: memory_pair(kind))

    def test_found(self) -> None:
        """Each promise that is broken is found."""
        kinds: list[Callable[[], IOverlayLink] | type[MemoryOverlayLink]] = [
            LosesFrames,
            TellsTwice,
            ForgetsWhatWaits,
            Reorders,
        ]
        for kind in kinds:
            assert isinstance(kind, type)
            self.assert_found(kind)
