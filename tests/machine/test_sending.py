from __future__ import annotations

from itertools import pairwise

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import LocalProtocolError, PacketRejected, SlowReceiver
from meshrelay.machine.packets import Acknowledgement, decode_dat
from meshrelay.machine.rtt import RoundTrip
from meshrelay.machine.sending import MAX_PROBE_SECONDS, Sender


def make_sender(window: int = 100, buffer_bytes: int = 100000, first: int = 1, samples: int = 20) -> Sender:
    """Return a sender on a path of 100 ms to a peer with room for `window` packets."""
    round_trip = RoundTrip(0.05, 1.0)
    for _ in range(samples):
        round_trip.add_sample(0.1)
    sender = Sender(first, round_trip, max_message_bytes=50000, buffer_bytes=buffer_bytes, max_window=256, max_tries=10)
    sender.open_window(window)
    return sender


def send(sender: Sender, count: int, now: float = 0.0) -> list[int]:
    """Send `count` packets and return the sequence numbers that left."""
    for _ in range(count):
        sender.push(bytes(1350))
    return taken(sender, now)


def taken(sender: Sender, now: float) -> list[int]:
    """Return the sequence numbers that leave at `now`."""
    return [decode_dat(content).sequence for content in sender.take(now)]


def ack(expected: int, *ranges: tuple[int, int], window: int = 100) -> Acknowledgement:
    """Return what the peer says."""
    return Acknowledgement(expected & 0xFFFFFFFF, window, ranges)


class SenderTests(SynchronousTestCase):
    def test_limits_of_a_message(self) -> None:
        """A message that is empty or too long is our own mistake."""
        sender = make_sender()
        self.assertRaises(LocalProtocolError, sender.push, b"")
        self.assertRaises(LocalProtocolError, sender.push, bytes(50001))

    def test_buffer_is_bounded(self) -> None:
        """Beyond the buffer a message is refused and nothing of it is kept; an acknowledgement makes room again."""
        sender = make_sender(buffer_bytes=2700)
        send(sender, 2)
        error = self.assertRaises(SlowReceiver, sender.push, b"x")
        self.assertEqual((error.queued_bytes, error.limit_bytes), (2700, 2700))
        sender.acknowledge(ack(2), 0.1)
        self.assertEqual(sender.buffered_bytes, 1350)
        sender.push(b"x")

    def test_congestion_window(self) -> None:
        """Ten packets leave at first, and more as they are acknowledged."""
        sender = make_sender()
        self.assertEqual(send(sender, 30), list(range(1, 11)))
        sender.acknowledge(ack(11), 0.1)
        self.assertEqual(len(taken(sender, 0.1)), 10)
        self.assertGreater(sender.deadline() or 0, 0.1)

    def test_peer_window(self) -> None:
        """Nothing leaves beyond what the peer has room for."""
        sender = make_sender(window=3)
        self.assertEqual(send(sender, 9), [1, 2, 3])
        sender.acknowledge(ack(2, window=3), 0.1)
        self.assertEqual(taken(sender, 0.1), [4])

    def test_fast_resend(self) -> None:
        """Three EACKs that report later packets bring the missing one at once, and nothing else."""
        sender = make_sender()
        send(sender, 6)
        for last in (2, 3):
            sender.acknowledge(ack(1, (2, last)), 0.1)
            self.assertEqual(taken(sender, 0.1), [])
        sender.acknowledge(ack(1, (2, 4)), 0.1)
        self.assertEqual(taken(sender, 0.1), [1])

    def test_timeout(self) -> None:
        """Without an answer the first packet goes again, at doubling distances, and the peer is gone after ten."""
        sender = make_sender()
        send(sender, 5)
        times: list[float] = []
        now = 0.0
        while True:
            now = sender.deadline() or 0.0
            if not sender.expire(now):
                break
            if 1 in taken(sender, now):
                times.append(now)
        self.assertEqual(len(times), 10)
        gaps = [after - before for before, after in pairwise(times)]
        for before, after in pairwise(gaps):
            self.assertAlmostEqual(after, min(2 * before, 60.0))

    def test_answer_ends_the_doubling(self) -> None:
        """One acknowledgement after many tries and the next timeout is a short one, with all its tries ahead."""
        sender = make_sender()
        send(sender, 1)
        now = 0.0
        for _ in range(9):
            now = sender.deadline() or 0.0
            sender.expire(now)
            sender.take(now)
        sender.acknowledge(ack(2), now + 0.2)
        send(sender, 1, now + 1)
        self.assertLess((sender.deadline() or 0.0) - now, 1.3)
        for _ in range(9):
            now = sender.deadline() or 0.0
            self.assertTrue(sender.expire(now))
            sender.take(now)

    def test_no_sample_of_a_packet_sent_twice(self) -> None:
        """An answer that may be to either of two transmissions measures nothing (Karn)."""
        sender = make_sender()
        send(sender, 1)
        now = sender.deadline() or 0.0
        sender.expire(now)
        sender.take(now)
        samples = sender.round_trip.samples
        sender.acknowledge(ack(2), now + 0.5)
        self.assertEqual(sender.round_trip.samples, samples)

    def test_persistent_congestion(self) -> None:
        """Three timeouts in a row bring the congestion window down to its minimum, two do not."""
        sender = make_sender()
        send(sender, 5)
        windows = []
        for _ in range(3):
            now = sender.deadline() or 0.0
            sender.expire(now)
            sender.take(now)
            windows.append(sender.congestion.window)
        self.assertEqual(windows, [10, 10, 2])

    def test_second_copy(self) -> None:
        """A packet sent again is followed by a copy when nothing else waits, unless it was answered meanwhile."""
        for is_answered in (False, True):
            sender = make_sender()
            send(sender, 4)
            for last in (2, 3, 4):
                sender.acknowledge(ack(1, (2, last)), 0.1)
            self.assertEqual(taken(sender, 0.1), [1])
            if is_answered:
                sender.acknowledge(ack(5), 0.11)
            self.assertEqual(taken(sender, 0.12), [] if is_answered else [1])
            self.assertEqual(taken(sender, 0.13), [])

    def test_no_second_copy_on_a_busy_path(self) -> None:
        """While more waits to be sent the room is not spent on copies."""
        sender = make_sender()
        send(sender, 60)
        for last in (2, 3, 4):
            sender.acknowledge(ack(1, (2, last)), 0.1)
        self.assertIn(1, taken(sender, 0.1))
        self.assertNotIn(1, taken(sender, 0.12))

    def test_zero_window(self) -> None:
        """A peer without room is asked with one packet, more and more rarely, for as long as it answers."""
        sender = make_sender(window=0)
        self.assertEqual(send(sender, 3), [])
        now, gaps = 0.0, []
        for _ in range(40):
            before, now = now, sender.deadline() or 0.0
            gaps.append(now - before)
            self.assertTrue(sender.expire(now))
            self.assertEqual(taken(sender, now), [1])
            sender.acknowledge(ack(1, window=0), now + 0.1)
        self.assertLessEqual(max(gaps), MAX_PROBE_SECONDS + 0.001)
        self.assertGreater(max(gaps), MAX_PROBE_SECONDS - 0.001)
        sender.acknowledge(ack(1, window=9), now + 1)
        self.assertEqual(taken(sender, now + 1), [1, 2, 3])
        self.assertEqual(sender.congestion.reductions, 0)

    def test_zero_window_of_a_dead_peer(self) -> None:
        """A peer that had no room and then falls silent is gone after ten tries like any other."""
        sender = make_sender(window=0)
        send(sender, 1)
        tries = 0
        while sender.expire(sender.deadline() or 0.0):
            sender.take(sender.deadline() or 0.0) or self.fail("nothing was sent")
            tries += 1
            self.assertLess(tries, 20)
        self.assertEqual(tries, 11)

    def test_lying_acknowledgements(self) -> None:
        """Acknowledging what was never sent, or ranges that cannot be, changes nothing."""
        sender = make_sender(first=0xFFFFFFFE)
        send(sender, 5)
        first = 0xFFFFFFFE
        lies = [
            (ack(first + 6), "ack_of_unsent"),
            (ack(first - 1), "ack_of_unsent"),
            (ack(first + (1 << 31)), "ack_of_unsent"),
            (ack(first, (first + 2, first + 5)), "ack_of_unsent"),
            (ack(first, (first + 3, first + 2)), "bad_range"),
            (ack(first + 1, (first + 1, first + 2)), "bad_range"),
            (ack(first + 2, (first, first)), "bad_range"),
        ]
        for lie, reason in lies:
            error = self.assertRaises(PacketRejected, sender.acknowledge, lie, 0.1)
            self.assertEqual(error.reason, reason, lie)
        self.assertEqual((sender.expected, sender.in_flight.count, sender.buffered_bytes), (first, 5, 5 * 1350))

    def test_unsent_fragments_cannot_be_acknowledged(self) -> None:
        """Fragments that still wait for the window count as never sent."""
        sender = make_sender(window=2)
        sender.push(bytes(5000))
        self.assertEqual(taken(sender, 0.0), [1, 2])
        self.assertRaises(PacketRejected, sender.acknowledge, ack(4), 0.1)

    def test_old_acknowledgement(self) -> None:
        """An acknowledgement that was overtaken by a newer one does no harm."""
        sender = make_sender()
        send(sender, 4)
        sender.acknowledge(ack(4), 0.1)
        sender.acknowledge(ack(2, (4, 4)), 0.1)
        self.assertEqual(sender.expected, 4)
        self.assertEqual(sender.in_flight.count, 0)

    def test_unacknowledged(self) -> None:
        """What the peer may lack comes back as whole messages in order, though parts of them were reported."""
        sender = make_sender(window=4)
        messages = [b"a" * 1350, b"b" * 4000, b"c" * 1350, b"d" * 1350]
        for message in messages:
            sender.push(message)
        self.assertEqual(taken(sender, 0.0), [1, 2, 3, 4])
        self.assertEqual(sender.unacknowledged(), messages)
        sender.acknowledge(ack(3, (4, 4), window=2), 0.1)
        self.assertEqual(sender.unacknowledged(), messages[1:])
        sender.acknowledge(ack(5, window=0), 0.1)
        self.assertEqual(sender.unacknowledged(), messages[2:])

    def test_half_sent_message(self) -> None:
        """A message of which only some fragments left is unacknowledged as a whole."""
        sender = make_sender(window=2)
        sender.push(b"m" * 4000)
        sender.take(0.0)
        sender.acknowledge(ack(3, window=0), 0.1)
        self.assertEqual(sender.unacknowledged(), [b"m" * 4000])
        self.assertEqual(sender.buffered_bytes, 4000)

    def test_path_changed(self) -> None:
        """On a new address everything unanswered is sent at once, without waiting for a doubled timeout."""
        sender = make_sender()
        send(sender, 5)
        for _ in range(4):
            now = sender.deadline() or 0.0
            sender.expire(now)
            sender.take(now)
        sender.path_changed()
        self.assertEqual(sorted(taken(sender, now)), [1, 2, 3, 4, 5])
        self.assertLess((sender.deadline() or 0.0) - now, 1.0)
