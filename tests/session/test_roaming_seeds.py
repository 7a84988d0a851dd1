"""Who hops from node to node gets in and stays in, over many seeds. MESHRELAY_STORIES says how many."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from tests.session.hop_kit import HopWorld

SEEDS = int(os.environ.get("MESHRELAY_STORIES", "4"))


class HopTests(SynchronousTestCase):
    """Three nodes, and clients that find another one before the last has answered."""

    def tell(self, seed: int, skew_seconds: float = 0.0) -> HopWorld:
        """Tell a story and check its end."""
        world = HopWorld(seed, skew_seconds)
        for _ in range(80):
            world.step()
        world.settle()
        for hopper in world.hoppers:
            about = f"seed {seed}, {hopper.user_id}"
            self.assertEqual([frame.payload for frame in hopper.errors], [], about)
            self.assertEqual(len(set(hopper.heard)), len(hopper.heard), about)
            call = hopper.call
            assert call is not None
            self.assertTrue(call.is_online, about)
            if not world.has_killed:
                self.assertEqual(world.living(hopper.user_id), [call.node.node_id], about)
            session = call.node.session(hopper.user_id)
            self.assertEqual(session.user.sid, hopper.sid, about)
            record = world.record(hopper.user_id)
            assert record is not None
            self.assertEqual((record.node_id, record.sid), (call.node.node_id, hopper.sid), about)
        return world

    def test_hops(self) -> None:
        """No client is ever told that it was replaced when nobody but itself signed in."""
        for seed in range(SEEDS):
            for hopper in self.tell(seed).hoppers:
                self.assertEqual([code for code in hopper.codes if code >= 4500], [], f"seed {seed}, {hopper.user_id}")

    def test_clocks(self) -> None:
        """Clocks that are half a second apart may cost a client a sign-in, and it is in all the same, on one node."""
        for seed in range(1000, 1000 + SEEDS):
            self.tell(seed, 0.5)
