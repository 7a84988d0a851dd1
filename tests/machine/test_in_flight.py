from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.machine.in_flight import InFlight, SentPacket
from meshrelay.machine.rtt import RoundTrip


def make_flight(count: int) -> tuple[InFlight, list[SentPacket]]:
    """Return a path of 100 ms with `count` packets on it, sent 10 ms apart from time 0 on."""
    round_trip = RoundTrip(0.05, 1.0)
    for _ in range(20):
        round_trip.add_sample(0.1)
    flight = InFlight(round_trip)
    packets = [SentPacket(sequence, sequence, b"") for sequence in range(count)]
    for at, packet in enumerate(packets):
        flight.sent(packet, at / 100)
    return flight, packets


def report(flight: InFlight, packet: SentPacket, now: float) -> bool:
    """Let one EACK tell of `packet`."""
    answer = flight.acknowledged(packet, now)
    flight.reported(flight.largest_acknowledged)
    return answer


class InFlightTests(SynchronousTestCase):
    def test_three_reports(self) -> None:
        """The third EACK that tells of later packets makes a loss at once, the second does not."""
        flight, packets = make_flight(5)
        report(flight, packets[1], 0.11)
        report(flight, packets[2], 0.11)
        self.assertEqual(flight.take_lost(0.11), [])
        report(flight, packets[3], 0.11)
        self.assertEqual(flight.take_lost(0.11), [packets[0]])
        self.assertEqual(flight.count, 1)

    def test_reports_about_others(self) -> None:
        """Reports of earlier packets say nothing about a later one."""
        flight, packets = make_flight(5)
        for at in (0, 1, 3):
            report(flight, packets[at], 0.11)
        self.assertEqual(flight.take_lost(0.11), [])

    def test_time(self) -> None:
        """With one later packet reported, a packet is lost an eighth of a round trip after it was due."""
        flight, packets = make_flight(2)
        report(flight, packets[1], 0.11)
        deadline = flight.deadline()
        assert deadline is not None
        self.assertAlmostEqual(deadline, 0.1135)
        self.assertEqual(flight.take_lost(deadline - 0.0001), [])
        self.assertEqual(flight.take_lost(deadline), [packets[0]])

    def test_nothing_later(self) -> None:
        """While nothing later was acknowledged only the timeout can help."""
        flight, packets = make_flight(2)
        report(flight, packets[0], 0.1)
        self.assertIsNone(flight.deadline())
        self.assertEqual(flight.take_lost(100.0), [])

    def test_reordering_rests_the_rule_of_three(self) -> None:
        """On a path that was seen to reorder, three later packets do not make a loss."""
        flight, packets = make_flight(6)
        report(flight, packets[1], 0.1)
        report(flight, packets[0], 0.1)
        self.assertEqual(flight.reordered, 1)
        for at in (3, 4, 5):
            report(flight, packets[at], 0.11)
        self.assertEqual(flight.take_lost(0.11), [])
        self.assertEqual(flight.take_lost(0.2), [packets[2]])

    def test_lost_again(self) -> None:
        """A packet that was sent again and lost again is found by what was sent after it."""
        flight, packets = make_flight(5)
        for at in (1, 2, 3):
            report(flight, packets[at], 0.11)
        (lost,) = flight.take_lost(0.11)
        flight.sent(lost, 0.11)
        report(flight, packets[4], 0.15)
        self.assertEqual(flight.take_lost(0.15), [])
        later = [SentPacket(sequence, sequence, b"") for sequence in (6, 7, 8)]
        for packet in later:
            flight.sent(packet, 0.16)
            report(flight, packet, 0.26)
        self.assertEqual(flight.take_lost(0.26), [lost])

    def test_answer_too_soon(self) -> None:
        """An answer sooner than any round trip belongs to the first transmission: the packet was only late."""
        flight, packets = make_flight(1)
        flight.take_oldest(1)
        flight.sent(packets[0], 0.2)
        self.assertFalse(flight.acknowledged(packets[0], 0.25))
        self.assertEqual(flight.count, 0)

    def test_oldest(self) -> None:
        """The timeout looks at the living transmission that left first."""
        flight, packets = make_flight(3)
        flight.acknowledged(packets[0], 0.1)
        self.assertIs(flight.oldest(), packets[1])
        self.assertEqual(flight.take_oldest(5), packets[1:])
        self.assertIsNone(flight.oldest())
