"""Links in memory, what dials them, and what makes WebRTC ones."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from meshrelay.overlay.interfaces import IDialler, ILinkReceiver, IOverlayLink, IWrtcMaker
from meshrelay.testing.overlay_link_contract import RecordingEnd
from meshrelay.testing.overlay_links import (
    MemoryDialler,
    MemoryGround,
    MemoryOverlayLink,
    MemoryWrtcMaker,
    Places,
    linked_pair,
)

URL = "ws://127.0.0.1:1"


class Taker:
    """Takes links, and writes down what becomes of them."""

    def __init__(self) -> None:
        self.links: list[IOverlayLink] = []
        self.end = RecordingEnd()
        self.failed: list[str] = []

    def opened(self, link: IOverlayLink) -> ILinkReceiver | None:
        """See `LinkOpened`."""
        self.links.append(link)
        return self.end


class LinkTests(SynchronousTestCase):
    """See `MemoryOverlayLink`."""

    def setUp(self) -> None:
        """Both ends; the one that was dialled is started."""
        self.ground = MemoryGround(1)
        self.dialler, self.acceptor = linked_pair(self.ground, latency=0.5)
        self.end = RecordingEnd()
        self.acceptor.start(self.end)

    def test_interface(self) -> None:
        """It is a link."""
        verifyObject(IOverlayLink, self.dialler)

    def test_latency(self) -> None:
        """A frame takes its time."""
        self.dialler.send(b"1")
        self.ground.run(0.49)
        self.assertEqual(self.end.frames, [])
        self.ground.run(0.02)
        self.assertEqual(self.end.frames, [b"1"])
        self.assertEqual(self.ground.frames, 1)

    def test_before_start(self) -> None:
        """What came before an end was started is handed over then, and so is its end."""
        for frame in (b"1", b"2"):
            self.acceptor.send(frame)
        self.acceptor.close()
        self.ground.run(2)
        early = RecordingEnd()
        self.dialler.start(early)
        self.assertEqual((early.frames, len(early.lost)), ([b"1", b"2"], 1))

    def test_silent(self) -> None:
        """A link that fell silent carries nothing, not even its end."""
        self.dialler.fall_silent()
        self.dialler.send(b"1")
        self.dialler.abort()
        self.ground.run(5)
        self.assertEqual((self.end.frames, self.end.lost), ([], []))

    def test_cut(self) -> None:
        """Both ends lose a link that is cut, at once."""
        self.dialler.cut()
        self.assertEqual(self.end.lost, ["connection lost"])
        self.assertFalse(self.dialler.is_open or self.acceptor.is_open)


class DiallerTests(SynchronousTestCase):
    """See `MemoryDialler`."""

    def setUp(self) -> None:
        """Somebody listens."""
        self.ground = MemoryGround(1)
        self.places = Places(self.ground)
        self.near, self.far = Taker(), Taker()
        self.places.listen(URL, self.far.opened, is_own=False)
        self.dialler = MemoryDialler(self.places)

    def dial(self, url: str = URL) -> Any:
        """Dial."""
        return self.dialler.dial(url, self.near.opened, self.near.failed.append, is_checked=True)

    def test_dial(self) -> None:
        """Both ends open, each knows of which kind the other is, and the dial is written down."""
        verifyObject(IDialler, self.dialler)
        self.dial()
        self.assertEqual(self.near.links, [])
        self.ground.run(0.1)
        (ours,), (theirs,) = self.near.links, self.far.links
        self.assertEqual((ours.is_outgoing, ours.is_own), (True, False))
        self.assertEqual((theirs.is_outgoing, theirs.is_own), (False, True))
        self.assertEqual(self.places.dialled, [(URL, True)])

    def test_nobody(self) -> None:
        """Where nobody listens a dial fails, soon; where nothing answers, after a while."""
        self.places.stop_listening(URL)
        self.places.black_holes.add("ws://127.0.0.1:2")
        self.dial()
        self.dial("ws://127.0.0.1:2")
        self.ground.run(0.1)
        self.assertEqual(len(self.near.failed), 1)
        self.ground.run(11)
        self.assertEqual(len(self.near.failed), 2)

    def test_given_up(self) -> None:
        """Who gives up hears nothing any more, and the other end loses the link."""
        for seconds in (0.0, 0.0105):
            give_up = self.dial()
            self.ground.run(seconds)
            give_up()
            self.ground.run(1)
        self.assertEqual((self.near.links, self.near.failed), ([], []))
        self.assertEqual(len(self.far.end.lost), len(self.far.links))

    def test_refused(self) -> None:
        """A link that nobody takes is lost to the other end."""
        self.places.listen(URL, lambda link: None, is_own=True)
        self.dial()
        self.ground.run(1)
        self.assertEqual((len(self.near.links), len(self.near.end.lost)), (1, 1))


class WrtcTests(SynchronousTestCase):
    """See `MemoryWrtcMaker`."""

    def test_meet(self) -> None:
        """Two that pass each other's signals on are linked; one alone fails in the end."""
        ground = MemoryGround(1)
        attempts: list[Any] = []
        maker = MemoryWrtcMaker(ground, attempts)
        verifyObject(IWrtcMaker, maker)
        first, second, alone = Taker(), Taker(), Taker()
        signals: list[bytes] = []
        one = maker.attempt(True, signals.append, first.opened, first.failed.append)
        other = maker.attempt(False, one.signal, second.opened, second.failed.append)
        ground.run(0.1)
        other.signal(signals[0])
        maker.attempt(True, lambda data: None, alone.opened, alone.failed.append)
        ground.run(1)
        self.assertEqual([link.transport_name for link in (*first.links, *second.links)], ["wrtc", "wrtc"])
        assert isinstance(first.links[0], MemoryOverlayLink)
        self.assertIs(first.links[0].other, second.links[0])
        ground.run(30)
        self.assertEqual((len(alone.failed), first.failed, second.failed), (1, [], []))

    def test_cancelled(self) -> None:
        """One that was given up tells nothing."""
        ground = MemoryGround(1)
        taker = Taker()
        maker = MemoryWrtcMaker(ground, [])
        attempt = maker.attempt(True, taker.failed.append, taker.opened, taker.failed.append)  # type: ignore[arg-type]
        attempt.signal(b"nonsense")
        attempt.cancel()
        ground.run(30)
        self.assertEqual((taker.links, taker.failed), ([], []))
