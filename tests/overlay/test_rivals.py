"""Second channels: who waits, who goes, who follows."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.overlay.channel import Channel
from meshrelay.overlay.counters import OverlayCounters
from meshrelay.overlay.options import PeerOptions
from meshrelay.overlay.rivals import MAX_HELD, MAX_HELD_BYTES, MAX_RIVALS, MAX_RIVALS_OF_PEER, Rivals
from meshrelay.testing.overlay_links import MemoryGround, linked_pair
from meshrelay.wire.overlay import DataType, Envelope, new_envelope
from tests.overlay.test_channel import OTHER_ID, OWN_ID, RecordingOwner


def channel_to(peer_id: bytes, *, is_proved: bool = False) -> Channel:
    """A channel whose link leads nowhere."""
    ground = MemoryGround()
    link = linked_pair(ground)[0]
    channel = Channel(link, OWN_ID, RecordingOwner(), PeerOptions(), OverlayCounters(), ground.now, peer_id)
    channel.is_proved = is_proved
    return channel


def envelope(size: int = 1) -> Envelope:
    """One that a channel has brought."""
    return new_envelope(OWN_ID, OTHER_ID, "1", DataType.USER, b'"%b"' % (b"x" * size))


class RivalsTests(SynchronousTestCase):
    """See `Rivals`."""

    def setUp(self) -> None:
        """None."""
        self.rivals = Rivals()

    def test_one_too_many_of_a_peer(self) -> None:
        """The oldest of a peer goes, so that nobody keeps the peer itself out by keeping all places."""
        waiting = [channel_to(OTHER_ID) for _ in range(MAX_RIVALS_OF_PEER)]
        self.assertEqual([self.rivals.add(channel) for channel in waiting], [None] * MAX_RIVALS_OF_PEER)
        self.assertIs(self.rivals.add(channel_to(OTHER_ID)), waiting[0])

    def test_proved_ones_stay(self) -> None:
        """One that is proved does not go for one that is not."""
        waiting = [channel_to(OTHER_ID, is_proved=number == 0) for number in range(MAX_RIVALS_OF_PEER)]
        for channel in waiting:
            self.rivals.add(channel)
        self.assertIs(self.rivals.add(channel_to(OTHER_ID)), waiting[1])

    def test_one_too_many(self) -> None:
        """Of all peers together there are so many, and the oldest goes."""
        waiting = [channel_to(bytes([number]) * 20) for number in range(MAX_RIVALS)]
        for channel in waiting:
            self.assertIsNone(self.rivals.add(channel))
        self.assertIs(self.rivals.add(channel_to(b"\xff" * 20)), waiting[0])

    def test_best(self) -> None:
        """Who follows is the newest that is proved, else the newest, and nobody of another peer."""
        first, second, third = channel_to(OTHER_ID), channel_to(OTHER_ID), channel_to(b"\x03" * 20, is_proved=True)
        for channel in (first, second, third):
            self.rivals.add(channel)
        self.assertIs(self.rivals.best(OTHER_ID), second)
        first.is_proved = True
        self.assertIs(self.rivals.best(OTHER_ID), first)
        second.is_proved = True
        self.assertIs(self.rivals.best(OTHER_ID), second)
        self.assertIsNone(self.rivals.best(OWN_ID))

    def test_held_count(self) -> None:
        """So many envelopes wait for the proof of a channel; they come out in order, once."""
        channel = channel_to(OTHER_ID)
        self.rivals.add(channel)
        envelopes = [envelope(number + 1) for number in range(MAX_HELD)]
        self.assertTrue(all(self.rivals.hold(channel, one) for one in envelopes))
        self.assertFalse(self.rivals.hold(channel, envelope()))
        self.assertEqual(self.rivals.held_count, MAX_HELD)
        self.assertEqual(self.rivals.take_held(channel), envelopes)
        self.assertEqual(self.rivals.remove(channel), [])
        self.assertEqual(len(self.rivals), 0)

    def test_held_bytes(self) -> None:
        """So many bytes of them wait."""
        channel = channel_to(OTHER_ID)
        self.rivals.add(channel)
        self.assertTrue(self.rivals.hold(channel, envelope(MAX_HELD_BYTES // 2)))
        self.assertFalse(self.rivals.hold(channel, envelope(MAX_HELD_BYTES // 2)))
        self.assertTrue(self.rivals.hold(channel, envelope(1)))

    def test_remove(self) -> None:
        """Who waits no more gives back what it brought; who did not wait brought nothing."""
        channel = channel_to(OTHER_ID)
        self.rivals.add(channel)
        self.rivals.hold(channel, envelope())
        self.assertEqual(self.rivals.remove(channel), [envelope()])
        self.assertNotIn(channel, self.rivals)
        self.assertEqual(self.rivals.remove(channel), [])
