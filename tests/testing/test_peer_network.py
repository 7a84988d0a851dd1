from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.testing.nat import Nat, NatKind
from meshrelay.testing.network import Impairment
from meshrelay.testing.peer_network import PeerNetwork
from meshrelay.wire.frame import encode_frame


class PeerNetworkTests(SynchronousTestCase):
    def test_same_seed_same_run(self) -> None:
        """A failing run can be repeated: the seed decides everything."""
        how = Impairment(delay_seconds=0.02, jitter_seconds=0.01, loss=0.2)
        runs = []
        for seed in (3, 3, 4):
            network = PeerNetwork([], [], direct=how, relay=how, seed=seed)
            network.start()
            network.run(5.0)
            runs.append([(end.sent, end.events) for end in network.ends])
        self.assertEqual(runs[0], runs[1])
        self.assertNotEqual(runs[0], runs[2])

    def test_sign_in(self) -> None:
        """The node sees each end at its public address, and one whose UDP is blocked not at all."""
        network = PeerNetwork([Nat(NatKind.FULL_CONE, "198.51.100.1")], [Nat(NatKind.BLOCKED, "198.51.100.2")])
        self.assertEqual(str(network.first.public), "198.51.100.1:40000")
        self.assertIsNone(network.second.public)

    def test_ways(self) -> None:
        """A cut path carries nothing, the relay still does; what was sent by which way is counted."""
        network = PeerNetwork([], [])
        network.cut_direct()
        network.start()
        network.first.link.send(encode_frame(2, 0, 7, 0, b"hello"), True, 0.0)
        self.assertTrue(network.run(5.0, lambda: bool(network.second.payloads)))
        self.assertEqual(network.second.payloads, [b"hello"])
        self.assertGreater(network.first.sent["relay"], 0)
        self.assertEqual(network.first.sockets, {0})
