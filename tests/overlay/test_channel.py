"""One link: who speaks first, what is too much, what is wrong."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.overlay.channel import (
    BAD_FRAMES,
    HELLO_SECONDS,
    PATIENCE_SECONDS,
    REQUEST_BURST,
    REQUESTS_PER_SECOND,
    Channel,
    LinkEnd,
)
from meshrelay.overlay.counters import OverlayCounters
from meshrelay.overlay.options import PeerOptions
from meshrelay.testing.overlay_links import MemoryGround, linked_pair
from meshrelay.testing.overlay_network import RawEnd, RawPeer
from meshrelay.wire.overlay import DataType, Envelope, Fault, encode_frame, encode_hello, new_envelope
from tests.overlay.peer_kit import PeerCase

OWN_ID = b"\x01" * 20
OTHER_ID = b"\x02" * 20


class RecordingOwner:
    """Writes down what a channel tells."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.envelopes: list[Envelope] = []
        self.takes = True

    def greeted(self, channel: Channel, now: float) -> bool:
        """See `ChannelOwner`."""
        self.told.append("greeted")
        if not self.takes:
            channel.close(LinkEnd.DUPLICATE)
        return self.takes

    def opened(self, channel: Channel, now: float) -> None:
        """See `ChannelOwner`."""
        self.told.append("opened")

    def envelope_received(self, channel: Channel, envelope: Envelope, now: float) -> None:
        """See `ChannelOwner`."""
        self.envelopes.append(envelope)

    def channel_lost(self, channel: Channel, now: float) -> None:
        """See `ChannelOwner`."""
        assert channel.end is not None
        self.told.append(channel.end.value)

    def link_gone(self, channel: Channel) -> None:
        """See `ChannelOwner`."""
        self.told.append("gone")


class FarEnd:
    """The other end. Implements `ILinkReceiver`."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.lost: list[str] = []

    def frame_received(self, frame: bytes) -> None:
        """See `ILinkReceiver`."""
        self.frames.append(frame)

    def link_lost(self, why: str) -> None:
        """See `ILinkReceiver`."""
        self.lost.append(why)


class Kit:
    """A channel and the other end of its link.

    :param dials: the channel's end dialled.
    :param is_own: the other end says that it is meshrelay.
    """

    def __init__(
        self,
        *,
        dials: bool = False,
        is_own: bool = False,
        transport: str = "ws",
        options: PeerOptions | None = None,
    ) -> None:
        self.ground = MemoryGround()
        dialler, acceptor = linked_pair(self.ground, transport_name=transport, latency=0.001)
        self.near, self.far = (dialler, acceptor) if dials else (acceptor, dialler)
        self.near.is_own = is_own
        self.owner = RecordingOwner()
        self.counters = OverlayCounters()
        self.end = FarEnd()
        self.far.start(self.end)
        known_id = OTHER_ID if transport == "wrtc" else b""
        self.channel = Channel(
            self.near, OWN_ID, self.owner, options or PeerOptions(), self.counters, self.ground.now, known_id
        )
        self.channel.begin()
        self.near.start(self.channel)

    def run(self, seconds: float = 0.01) -> None:
        """Let time pass; the deadlines are looked at once a second."""
        for _ in range(int(seconds)):
            self.ground.run(1.0)
            self.channel.check(self.ground.now())
        self.ground.run(seconds % 1.0 or 0.01)

    def say(self, frame: bytes) -> None:
        """Let the other end send a frame."""
        self.far.send(frame)
        self.run()

    def greet(self) -> None:
        """Let the other end say who it is."""
        self.say(encode_hello(OTHER_ID))


def user_frame(number: int = 1, size: int = 0) -> bytes:
    """A message from the other end."""
    data = b'"%b"' % (b"x" * size)
    return encode_frame(new_envelope(OWN_ID, OTHER_ID, str(number), DataType.USER, data), OTHER_ID)


HELLO = encode_hello(OWN_ID)


class HelloTests(SynchronousTestCase):
    """Who speaks first."""

    def test_dialler_waits(self) -> None:
        """Whoever dials says nothing before the other end has said who it is, whatever kind it is of."""
        for is_own in (False, True):
            kit = Kit(dials=True, is_own=is_own)
            kit.run()
            self.assertEqual(kit.end.frames, [])
            kit.greet()
            self.assertEqual(kit.end.frames, [HELLO])
            self.assertEqual(kit.owner.told, ["greeted", "opened"])

    def test_acceptor_waits_for_javascript(self) -> None:
        """A peer of npm's package that dials speaks first."""
        kit = Kit()
        kit.run()
        self.assertEqual(kit.end.frames, [])
        kit.greet()
        self.assertEqual(kit.end.frames, [HELLO])
        self.assertTrue(kit.channel.is_open)

    def test_acceptor_speaks_to_its_kind(self) -> None:
        """A meshrelay peer that dials, and so waits, is told at once who is there."""
        kit = Kit(is_own=True)
        kit.run()
        self.assertEqual(kit.end.frames, [HELLO])
        self.assertFalse(kit.channel.is_open)
        kit.greet()
        self.assertTrue(kit.channel.is_open)
        self.assertEqual(kit.end.frames, [HELLO])

    def test_patience(self) -> None:
        """Where both wait for each other one speaks after a second, and once."""
        for dials in (True, False):
            kit = Kit(dials=dials)
            kit.run(PATIENCE_SECONDS + 2)
            self.assertEqual(kit.end.frames, [HELLO])
            kit.greet()
            self.assertTrue(kit.channel.is_open)
            self.assertEqual(kit.end.frames, [HELLO])

    def test_silence(self) -> None:
        """Who has not said its name in five seconds is gone."""
        kit = Kit()
        kit.run(HELLO_SECONDS - 1)
        self.assertIsNone(kit.channel.end)
        kit.run(1)
        self.assertIs(kit.channel.end, LinkEnd.HELLO_TIMEOUT)
        self.assertEqual(kit.owner.told, ["hello_timeout", "gone"])

    def test_no_hello_over_webrtc(self) -> None:
        """A WebRTC link has no hello: the signals have said who is there."""
        kit = Kit(transport="wrtc")
        kit.run()
        self.assertTrue(kit.channel.is_open)
        self.assertEqual(kit.end.frames, [])
        kit.say(user_frame())
        self.assertEqual(len(kit.owner.envelopes), 1)

    def test_refused_unheard(self) -> None:
        """A link that is not wanted is closed before the other end has heard our name."""
        kit = Kit(dials=True)
        kit.owner.takes = False
        kit.greet()
        kit.run()
        self.assertEqual(kit.end.frames, [])
        self.assertEqual(kit.owner.told, ["greeted", "duplicate", "gone"])

    def test_hello_is_no_hello(self) -> None:
        """Whoever begins with something else is closed at once."""
        for frame in (b"{}", b'"abc"', b"nonsense", user_frame()):
            kit = Kit()
            kit.say(frame)
            self.assertIs(kit.channel.end, LinkEnd.BAD_FRAMES)
            self.assertEqual(sum(kit.counters.bad_frames.values()), 1)


class LimitTests(SynchronousTestCase):
    """What is too much, and what is wrong."""

    def opened(self, options: PeerOptions | None = None) -> Kit:
        """An open channel."""
        kit = Kit(options=options)
        kit.greet()
        return kit

    def test_bad_frames(self) -> None:
        """The sixteenth bad frame ends the link, and each is counted by what is wrong with it."""
        kit = self.opened()
        for _ in range(BAD_FRAMES - 1):
            kit.say(b"{")
        self.assertIsNone(kit.channel.end)
        kit.say(user_frame())
        self.assertEqual(len(kit.owner.envelopes), 1)
        kit.say(b"{")
        self.assertIs(kit.channel.end, LinkEnd.BAD_FRAMES)
        self.assertEqual(kit.counters.bad_frames, {Fault.JSON: BAD_FRAMES})

    def test_nothing_after_the_end(self) -> None:
        """What comes after the end is not looked at, and nothing can be sent."""
        kit = self.opened()
        kit.channel.close(LinkEnd.LEFT)
        kit.channel.frame_received(user_frame())
        self.assertEqual(kit.owner.envelopes, [])
        self.assertFalse(kit.channel.send(user_frame()))
        kit.run()
        kit.channel.abort(LinkEnd.DEAD)
        self.assertEqual(kit.owner.told, ["greeted", "opened", "left", "gone"])
        self.assertEqual(kit.counters.links_closed, {"left": 1})

    def test_frames_per_second(self) -> None:
        """A link may bring so many frames in a second, twice as many at once; more are dropped and counted."""
        kit = self.opened(PeerOptions(link_frames_per_second=10.0))
        for number in range(30):
            kit.far.send(user_frame(number))
        kit.run()
        self.assertEqual(len(kit.owner.envelopes), 19, "the hello was the first of twenty")
        self.assertEqual(kit.counters.dropped["link_too_fast"], 11)
        kit.run(1.0)
        kit.say(user_frame(31))
        self.assertEqual(len(kit.owner.envelopes), 20)

    def test_bytes_per_second(self) -> None:
        """So it is with bytes."""
        kit = self.opened(PeerOptions(link_bytes_per_second=5000.0))
        for number in range(5):
            kit.far.send(user_frame(number, 4000))
        kit.run()
        self.assertEqual(len(kit.owner.envelopes), 2)
        self.assertEqual(kit.counters.dropped["link_too_fast"], 3)

    def test_requests(self) -> None:
        """A link has a share of what costs this peer an answer; what is beyond is counted."""
        kit = self.opened()
        now = kit.ground.now()
        taken = sum(kit.channel.takes_request(now) for _ in range(1000))
        self.assertEqual(taken, int(REQUEST_BURST))
        self.assertEqual(kit.counters.dropped["too_many_requests"], 1000 - taken)
        later = sum(kit.channel.takes_request(now + 1) for _ in range(1000))
        self.assertEqual(later, int(REQUESTS_PER_SECOND))

    def test_too_slow(self) -> None:
        """What the other end does not take is dropped and counted."""
        kit = self.opened()
        kit.far.is_reading = False
        frame = user_frame(1, 200_000)
        sent = sum(kit.channel.send(frame) for _ in range(30))
        self.assertLess(sent, 30)
        self.assertEqual(kit.counters.dropped["link_too_slow"], 30 - sent)

    def test_too_large(self) -> None:
        """What is too large for the transport is dropped, and the link lives."""
        kit = self.opened()
        kit.near.max_frame_bytes = 1000
        self.assertFalse(kit.channel.send(user_frame(1, 1000)))
        self.assertTrue(kit.channel.send(user_frame(1, 100)))
        self.assertEqual(kit.counters.dropped["too_large_for_link"], 1)

    def test_counts(self) -> None:
        """Frames and bytes of a link are counted, of all links too."""
        kit = self.opened()
        kit.say(user_frame())
        kit.channel.send(user_frame())
        size = len(user_frame())
        self.assertEqual((kit.channel.frames_received, kit.channel.frames_sent), (2, 2))
        self.assertEqual(kit.channel.received_bytes, size + len(encode_hello(OTHER_ID)))
        self.assertEqual((kit.counters.frames_received, kit.counters.frames_sent), (2, 2))
        self.assertEqual(kit.counters.sent_bytes, kit.channel.sent_bytes)


class FourHellosTests(PeerCase):
    """Hellos between whole peers: who dials, and who is of which kind."""

    def frames(self, end: RawEnd) -> int:
        """Let a moment pass; returns how many frames have come."""
        self.run_on(0.05)
        return len(end.frames)

    def test_javascript_dials(self) -> None:
        """A JavaScript peer dials: it is heard first."""
        end = self.raw().dial(self.url)
        self.assertEqual(self.frames(end), 0)
        end.say_hello()
        self.run_on(0.05)
        self.assertEqual(end.hellos, [self.hub.peer_id])

    def test_ours_dials(self) -> None:
        """A meshrelay peer dials: it hears us first."""
        end = self.raw(is_own=True).dial(self.url)
        self.assertEqual(self.frames(end), 1)
        self.assertEqual(end.hellos, [self.hub.peer_id])

    def dialled_by(self, place: RawPeer) -> RawEnd:
        """Let a peer of ours dial somebody."""
        place.listen("ws://127.0.0.1:9")
        self.dialler = self.network.add(bootstrap=["ws://127.0.0.1:9"])
        self.run_on(0.1)
        return place.ends[0]

    def test_javascript_is_dialled(self) -> None:
        """We dial a JavaScript peer: we listen first."""
        end = self.dialled_by(self.raw())
        self.assertEqual(self.frames(end), 0)
        end.say_hello()
        self.run_on(0.05)
        self.assertEqual(end.hellos, [self.dialler.peer_id])

    def test_ours_is_dialled(self) -> None:
        """We dial a meshrelay peer: we listen first as well, and it speaks."""
        end = self.dialled_by(self.raw(is_own=True))
        self.assertEqual(self.frames(end), 0)
        end.say_hello()
        self.run_on(0.05)
        self.assertEqual(end.hellos, [self.dialler.peer_id])
