"""Recovery is exact whatever happens, over many seeds. MESHRELAY_STORIES says how many; each is a story of its own."""

from __future__ import annotations

import os
from itertools import pairwise

from twisted.trial.unittest import SynchronousTestCase

from tests.components.log_kit import World

SEEDS = int(os.environ.get("MESHRELAY_STORIES", "4"))


class SeedTests(SynchronousTestCase):
    """Three nodes, members that come back all the time, and a history that is sometimes too short."""

    def _check(self, world: World) -> None:
        """Nobody was told anything twice, and between two words of warning nothing is missing."""
        truth: dict[tuple[int, int], bytes] = {}
        for follower in world.followers:
            told: list[bytes] = []
            for stretch in follower.stretches:
                for epoch, offset, message in stretch:
                    told.append(message)
                    if epoch:
                        self.assertEqual(truth.setdefault((epoch, offset), message), message)
            self.assertEqual(len(set(told)), len(told), "a message came twice")
            self.assertEqual([each for each in told if world.said.get(each) == follower.user_id], [])
        for follower in world.followers:
            for stretch in follower.stretches:
                for (epoch, offset, _), (next_epoch, next_offset, _) in pairwise(stretch):
                    if epoch and epoch == next_epoch:
                        between = [truth.get((epoch, each)) for each in range(offset + 1, next_offset)]
                        own = [each for each in between if each is None or world.said[each] == follower.user_id]
                        self.assertEqual(between, own, "a message of another one is missing")
        self.assertEqual(len(set(world.maker.heard)), len(world.maker.heard))

    def _tell(self, seed: int, may_kill: bool, size: int, home_dies: bool = False) -> World:
        world = World(seed, size)
        for number in range(120):
            world.step(may_kill)
            if home_dies and number == 60:
                world.kill("n0")
        world.settle()
        is_held = any(world.cluster[node_id].table.find(world.group_id) for node_id in world.cluster.node_ids)
        places = {follower.positions.of(world.group_id) for follower in world.followers}
        # A group is gone with the last node that had members of it.
        self.assertTrue(len(places) == 1 or not is_held, f"seed {seed}: {places}")
        self._check(world)
        return world

    def test_reconnects(self) -> None:
        """Who comes back, anywhere, gets each message that it missed once, and never a warning without need."""
        for seed in range(SEEDS):
            world = self._tell(seed, False, 10_000)
            for follower in world.followers:
                again = [answer for asked, answer in follower.answers if asked != (0, 0)]
                self.assertTrue(all(answer.recovered for answer in again), f"seed {seed}")
                heard = [message for stretch in follower.stretches for _, _, message in stretch]
                self.assertEqual(len(follower.stretches), 2)
            self.assertEqual(world.maker.heard[-1], b"the end")
            self.assertLessEqual(set(heard), {*world.maker.heard})

    def test_overruns(self) -> None:
        """What is not kept any more is never passed over in silence."""
        answers = []
        for seed in range(100, 100 + SEEDS):
            world = self._tell(seed, False, 5)
            answers += [answer.recovered for each in world.followers for asked, answer in each.answers if asked[0]]
        self.assertEqual(set(answers), {True, False})

    def test_kills(self) -> None:
        """A node that dies in the middle of it all changes nothing of that."""
        for seed in range(200, 200 + SEEDS):
            self._tell(seed, True, 10_000)

    def test_home(self) -> None:
        """With the node that keeps the history in memory the epoch ends: everybody is told, and it goes on anew."""
        ended = []
        for seed in range(300, 300 + SEEDS):
            world = self._tell(seed, True, 10_000, True)
            epochs = {epoch for each in world.followers for stretch in each.stretches for epoch, _, _ in stretch}
            ended.append(len(epochs) > 1)
        self.assertIn(True, ended)
