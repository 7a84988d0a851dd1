from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import PacketRejected
from meshrelay.machine.handshake import MAX_OVERTAKING_PACKETS, Handshake
from meshrelay.machine.packets import decode_syn, encode_syn


class HandshakeTests(SynchronousTestCase):
    def test_exchange(self) -> None:
        """The client asks, the node answers with its own numbers, and both know the other's."""
        client, node = Handshake(True, 5, 1.0), Handshake(False, 9, 1.0)
        client.begin(0.0)
        question = client.question(100, 0.0)
        assert question is not None
        self.assertEqual(node.receive(question), (5, 100, None))
        answer = node.answer(200, 5, 0.1)
        assert answer is not None
        self.assertEqual(client.receive(answer), (9, 200, 5))
        self.assertIsNone(client.repeat.at)
        self.assertAlmostEqual(client.round_trip_seconds(0.2) or 0, 0.2)

    def test_repeated_question(self) -> None:
        """A lost answer is given again, once for each question, and no round trip is taken from it."""
        node = Handshake(False, 9, 1.0)
        for _ in range(2):
            node.receive(encode_syn(5, 100))
            self.assertIsNotNone(node.answer(200, 5, 0.1))
            self.assertIsNone(node.answer(200, 5, 0.1))
        self.assertIsNone(node.round_trip_seconds(0.3))

    def test_repeats(self) -> None:
        """The client asks again after a second, then after two."""
        client = Handshake(True, 5, 1.0)
        client.begin(0.0)
        times = [now / 2 for now in range(9) if client.question(1, now / 2) is not None]
        self.assertEqual(times, [0.0, 1.0, 3.0])

    def test_unexpected(self) -> None:
        """A SYN of the wrong role, with other numbers than before, or that acknowledges something else is refused."""
        client, node = Handshake(True, 5, 1.0), Handshake(False, 9, 1.0)
        node.receive(encode_syn(5, 100))
        cases = [
            (client, encode_syn(9, 100)),
            (client, encode_syn(9, 100, 6)),
            (node, encode_syn(5, 100, 9)),
            (node, encode_syn(6, 100)),
        ]
        for handshake, content in cases:
            error = self.assertRaises(PacketRejected, handshake.receive, content)
            self.assertEqual(error.reason, "unexpected_syn", decode_syn(content))

    def test_kept_packets_are_bounded(self) -> None:
        """A few packets that overtake the SYN are kept, the rest will be sent again."""
        client = Handshake(True, 5, 1.0)
        for number in range(MAX_OVERTAKING_PACKETS):
            client.keep(bytes([number]))
        self.assertRaises(PacketRejected, client.keep, b"more")
        self.assertEqual(len(client.take_kept()), MAX_OVERTAKING_PACKETS)
        self.assertEqual(client.take_kept(), [])
