"""Messages over a bad network, many times, from a seed."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.overlay.deliveries import Outcome
from tests.overlay.delivery_kit import Network, Node

SEEDS = 200
LOSS = 0.3


def letters(sender: Node, receiver: Node, count: int, tag: int) -> list[bytes]:
    """Texts that are nobody else's."""
    return [b'"%d %d %d %d"' % (sender.peer_id[0], receiver.peer_id[0], tag, number) for number in range(count)]


class BadNetworkTests(SynchronousTestCase):
    """30 of 100 frames are lost, as many come twice, and all overtake each other."""

    def play(self, seed: int, count: int, each: int) -> dict[Node, list[bytes]]:
        """Let all write to all, in two goes."""
        network = Network(seed, loss=LOSS, delay=0.2)
        nodes = [network.add(number + 1) for number in range(count)]
        expected: dict[Node, list[bytes]] = {node: [] for node in nodes}
        for tag in range(2):
            for sender in nodes:
                for receiver in nodes:
                    if sender is not receiver:
                        for letter in letters(sender, receiver, each, tag):
                            sender.send(receiver.peer_id, letter)
                            expected[receiver].append(letter)
            network.run(network.random.random() * 0.3)
        network.run(60)
        return expected

    def check(self, seed: int, count: int, each: int) -> None:
        expected = self.play(seed, count, each)
        for node, letters_to_it in expected.items():
            self.assertEqual(sorted(node.texts), sorted(letters_to_it), f"seed {seed}")
            self.assertEqual(set(node.outcomes.values()), {Outcome.DELIVERED}, f"seed {seed}")
            self.assertEqual((node.deliveries.waiting_count, node.deliveries.waiting_bytes), (0, 0))
            self.assertTrue(all(message.is_verified for message in node.got))

    def test_two(self) -> None:
        """Between two peers each message arrives once and none is lost, and its sender knows."""
        for seed in range(SEEDS):
            self.check(seed, 2, 3)

    def test_three(self) -> None:
        """So it is between three."""
        for seed in range(SEEDS, SEEDS + 50):
            self.check(seed, 3, 2)

    def test_nothing_gets_through(self) -> None:
        """A network that loses everything is told of: in the clear as unconfirmed, sealed as not delivered."""
        network = Network(loss=1.0)
        anna, ben = network.add(1), network.add(2)
        anna.send(ben.peer_id, b"1")
        network.run(40)
        anna.deliveries.learned(ben.peer_id, ben.identity.public)
        anna.send(ben.peer_id, b"2")
        network.run(40)
        self.assertEqual(anna.outcomes, {b"1": Outcome.UNCONFIRMED, b"2": Outcome.NOT_DELIVERED})
