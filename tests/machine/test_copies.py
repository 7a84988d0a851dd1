from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.machine.copies import SecondCopies
from meshrelay.machine.in_flight import SentPacket


def make_packet(transmissions: int = 2) -> SentPacket:
    """Return a packet that is on its way for the second time."""
    packet = SentPacket(5, 5, b"content")
    packet.number = 9
    packet.transmissions = transmissions
    packet.is_in_flight = True
    return packet


class SecondCopiesTests(SynchronousTestCase):
    def test_copy_follows(self) -> None:
        """An eighth of a round trip after a packet was sent again its copy goes out, once."""
        copies = SecondCopies()
        copies.add(make_packet(), 1.0, 0.08)
        self.assertEqual(copies.deadline, 1.01)
        self.assertEqual(copies.take(1.009, True, 100), [])
        self.assertEqual(copies.take(1.01, True, 100), [b"content"])
        self.assertEqual(copies.take(2.0, True, 100), [])
        self.assertEqual((copies.sent, copies.deadline), (1, None))

    def test_busy_path(self) -> None:
        """Where others wait for the room only what was lost twice is doubled."""
        for transmissions, contents in ((2, []), (3, [b"content"])):
            copies = SecondCopies()
            copies.add(make_packet(transmissions), 1.0, 0.08)
            self.assertEqual(copies.take(2.0, False, 100), contents)

    def test_no_longer_needed(self) -> None:
        """What was answered, sent once more meanwhile, or has no room at the peer is not doubled."""
        answered, again, beyond = make_packet(), make_packet(), make_packet()
        copies = SecondCopies()
        for packet in (answered, again):
            copies.add(packet, 1.0, 0.08)
        answered.is_in_flight = False
        again.number = 12
        self.assertEqual(copies.take(2.0, True, 100), [])
        copies.add(beyond, 1.0, 0.08)
        self.assertEqual(copies.take(2.0, True, 5), [])
