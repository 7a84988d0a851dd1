from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import FrameTooLarge, PacketRejected
from meshrelay.machine.packets import decode_acknowledgement, encode_dat_header
from meshrelay.machine.reassembly import MAX_RANGES, Receiver
from meshrelay.wire.datagram import PacketKind


def dat(sequence: int, payload: bytes = b"x", piece: int = 0, pieces: int = 1) -> bytes:
    """Return the content of a DAT."""
    return encode_dat_header(sequence, piece, pieces) + payload


def make_receiver(first: int = 10, window: int = 8, max_message_bytes: int = 5000) -> Receiver:
    """Return a receiver that expects `first`."""
    return Receiver(first, window=window, max_message_bytes=max_message_bytes, ack_delay_seconds=0.02)


class ReceiverTests(SynchronousTestCase):
    def assert_refused(self, receiver: Receiver, content: bytes, reason: str) -> None:
        before = receiver.expected, receiver.window, receiver.statistics()["held_packets"]
        error = self.assertRaises(PacketRejected, receiver.receive, content, 0.0)
        self.assertEqual(error.reason, reason)
        self.assertEqual((receiver.expected, receiver.window, receiver.statistics()["held_packets"]), before)

    def test_order(self) -> None:
        """Messages come out in order, whatever the order they arrive in, and once."""
        receiver = make_receiver(first=0xFFFFFFFF)
        first = 0xFFFFFFFF
        self.assertEqual(receiver.receive(dat(first + 2, b"c"), 0.0), [])
        self.assertEqual(receiver.receive(dat(first + 1, b"b"), 0.0), [])
        self.assertEqual(receiver.receive(dat(first, b"a"), 0.0), [(b"a", 1), (b"b", 1), (b"c", 1)])
        self.assertEqual(receiver.receive(dat(first + 1, b"b"), 0.0), [])
        self.assertEqual(receiver.statistics()["duplicates"], 1)

    def test_fragments(self) -> None:
        """Fragments are put together in order; the message counts as as many packets as it came in."""
        receiver = make_receiver()
        self.assertEqual(receiver.receive(dat(12, b"c", 2, 3), 0.0), [])
        self.assertEqual(receiver.receive(dat(10, b"a", 0, 3), 0.0), [])
        self.assertEqual(receiver.receive(dat(11, b"b", 1, 3), 0.0), [(b"abc", 3)])
        self.assertEqual(receiver.receive(dat(13, b"d"), 0.0), [(b"d", 1)])

    def test_contradicting_fragments(self) -> None:
        """A fragment that does not fit what came before or after it is refused, wherever it arrives."""
        receiver = make_receiver()
        self.assert_refused(receiver, dat(10, b"x", 1, 3), "bad_fragment")
        receiver.receive(dat(10, b"a", 0, 3), 0.0)
        self.assert_refused(receiver, dat(11, b"x", 0, 1), "bad_fragment")
        self.assert_refused(receiver, dat(11, b"x", 1, 4), "bad_fragment")
        receiver.receive(dat(13, b"n", 0, 2), 0.0)
        self.assert_refused(receiver, dat(12, b"x", 1, 3), "bad_fragment")
        self.assert_refused(receiver, dat(14, b"x"), "bad_fragment")
        receiver.receive(dat(12, b"c", 2, 3), 0.0)
        self.assertEqual(receiver.receive(dat(11, b"b", 1, 3), 0.0), [(b"abc", 3)])

    def test_outside_window(self) -> None:
        """What was never on offer is refused: before the first number, at the edge and far away."""
        receiver = make_receiver()
        for sequence in (9, 18, 5000, 10 + (1 << 31)):
            self.assert_refused(receiver, dat(sequence), "outside_window")

    def test_held_packets_are_bounded(self) -> None:
        """Holding goes up to the window and not beyond, however much the peer sends."""
        receiver = make_receiver(window=8)
        for sequence in range(11, 18):
            receiver.receive(dat(sequence), 0.0)
        self.assert_refused(receiver, dat(18), "outside_window")
        self.assertEqual(receiver.statistics()["held_packets"], 7)

    def test_unfetched_messages_close_the_window(self) -> None:
        """An application that does not read closes the window; a question at the edge is answered, not kept."""
        receiver = make_receiver(window=4)
        for sequence in range(10, 14):
            receiver.receive(dat(sequence), 0.0)
        self.assertEqual(receiver.window, 0)
        receiver.acknowledgement()
        self.assert_refused(receiver, dat(14), "outside_window")
        self.assertTrue(receiver.owes_ack)
        receiver.acknowledgement()
        receiver.fetched(1)
        self.assertFalse(receiver.owes_ack)
        receiver.fetched(1)
        self.assertTrue(receiver.owes_ack)
        self.assertEqual(receiver.window, 2)

    def test_message_longer_than_the_window(self) -> None:
        """A message may have more fragments than the window has places."""
        receiver = make_receiver(window=4)
        got = []
        for piece in range(10):
            got += receiver.receive(dat(10 + piece, b"x", piece, 10), 0.0)
        self.assertEqual(got, [(b"x" * 10, 10)])
        edge = receiver.expected + receiver.window
        receiver.receive(dat(20), 0.0)
        self.assertGreaterEqual(receiver.expected + receiver.window, edge)

    def test_too_long(self) -> None:
        """A message over the limit ends the session before it is in memory."""
        receiver = make_receiver(max_message_bytes=2000)
        receiver.receive(dat(10, bytes(1350), 0, 9), 0.0)
        error = self.assertRaises(FrameTooLarge, receiver.receive, dat(11, bytes(1350), 1, 9), 0.0)
        self.assertEqual(error.limit_bytes, 2000)

    def test_acknowledgement_is_delayed(self) -> None:
        """One packet in order waits for company for 20 ms, the second is acknowledged at once."""
        receiver = make_receiver()
        receiver.receive(dat(10), 1.0)
        self.assertEqual((receiver.owes_ack, receiver.ack_at), (False, 1.02))
        receiver.receive(dat(11), 1.01)
        self.assertTrue(receiver.owes_ack)
        receiver.acknowledgement()
        self.assertEqual((receiver.owes_ack, receiver.ack_at), (False, None))

    def test_acknowledgement_at_once(self) -> None:
        """What is early, what fills a gap and what is repeated is acknowledged at once."""
        for name, sequences in (("early", (11,)), ("gap", (11, 10)), ("repeated", (10, 10))):
            receiver = make_receiver()
            for sequence in sequences:
                receiver.acknowledgement()
                receiver.receive(dat(sequence), 0.0)
            self.assertTrue(receiver.owes_ack, name)

    def test_ranges_are_told(self) -> None:
        """The peer is told what is held beyond the gap, and no EACK is longer than 32 ranges."""
        receiver = make_receiver(window=200)
        receiver.receive(dat(12), 0.0)
        self.assertEqual(
            receiver.acknowledgement(), (PacketKind.EACK, bytes.fromhex("0000000a00c801" + "0000000c" * 2))
        )
        for sequence in range(14, 200, 2):
            receiver.receive(dat(sequence), 0.0)
        kind, content = receiver.acknowledgement()
        ranges = decode_acknowledgement(kind, content).ranges
        self.assertEqual(len(ranges), MAX_RANGES)
        self.assertEqual((ranges[0], ranges[-1]), ((12, 12), (198, 198)))

    def test_finish(self) -> None:
        """The stream is complete when everything up to the peer's last number has arrived."""
        receiver = make_receiver()
        receiver.finish(11)
        receiver.receive(dat(11), 0.0)
        self.assertFalse(receiver.is_complete)
        receiver.receive(dat(10), 0.0)
        self.assertTrue(receiver.is_complete)
        self.assert_refused(receiver, dat(12), "outside_window")

    def test_lying_finish(self) -> None:
        """A FIN that contradicts an earlier one, or what has arrived, is refused."""
        receiver = make_receiver()
        receiver.receive(dat(12), 0.0)
        for last in (9, 11, 500):
            error = self.assertRaises(PacketRejected, receiver.finish, last)
            self.assertEqual(error.reason, "bad_fin")
        receiver.finish(12)
        self.assertRaises(PacketRejected, receiver.finish, 13)
