"""Whole overlay peers in memory."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.testing.overlay_network import OverlayNetwork
from meshrelay.wire.overlay import DataType


def story(seed: int) -> tuple[object, ...]:
    """What happens in some seconds."""
    network = OverlayNetwork(seed)
    hub = network.add()
    for _ in range(5):
        network.add(bootstrap=[hub.url])
    network.run(5)
    return network.ground.frames, [peer.linked for peer in network.peers]


class OverlayNetworkTests(SynchronousTestCase):
    """See `OverlayNetwork`."""

    def test_repeatable(self) -> None:
        """The same seed is the same story, another one is another."""
        self.assertEqual(story(1), story(1))
        self.assertNotEqual(story(1), story(2))

    def test_kill(self) -> None:
        """A peer that is killed does nothing any more; the others notice at once, or not at all."""
        for is_silent in (False, True):
            network = OverlayNetwork(1)
            hub = network.add()
            leaf = network.add(bootstrap=[hub.url])
            network.run(1)
            network.kill(hub, is_silent=is_silent)
            frames = hub.statistics["frames_sent"]
            network.run(5)
            self.assertEqual(leaf.is_linked(hub), is_silent)
            self.assertEqual(hub.statistics["frames_sent"], frames)

    def test_restart(self) -> None:
        """It comes back at its place, with its key or with another."""
        network = OverlayNetwork(1)
        hub = network.add()
        network.kill(hub)
        same = network.restart(hub)
        network.kill(same)
        other = network.restart(hub, keeps_key=False)
        self.assertEqual((same.peer_id, same.url, other.url), (hub.peer_id, hub.url, hub.url))
        self.assertNotEqual(other.peer_id, hub.peer_id)
        leaf = network.add(bootstrap=[hub.url])
        network.run(1)
        self.assertTrue(leaf.is_linked(other))

    def test_raw(self) -> None:
        """Somebody who is moved by hand links, writes, and reads what came."""
        network = OverlayNetwork(1)
        hub = network.add()
        end = network.add_raw().linked(hub.url)
        self.assertEqual(end.hellos, [hub.peer_id])
        self.assertTrue(hub.is_linked(end.peer))
        end.write_user(hub.peer_id, [1])
        hub.send(end.peer, [2])
        network.run(0.1)
        self.assertEqual(hub.data, [[1]])
        self.assertEqual([one.data for one in end.envelopes(DataType.USER)], [b"[2]"])

    def test_run_until(self) -> None:
        """Time stops where a condition holds."""
        network = OverlayNetwork(1)
        hub = network.add()
        leaf = network.add(bootstrap=[hub.url])
        self.assertTrue(network.run(10, lambda: leaf.is_linked(hub)))
        self.assertLess(network.ground.now(), 1)
        self.assertFalse(network.run(1, lambda: False))
        self.assertFalse(leaf.is_proved(hub) and not hub.is_linked(leaf))
