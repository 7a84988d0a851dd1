"""The link groups of one room, at its home."""

from __future__ import annotations

from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.components.link_plan import PlanGroup, RoomPlan
from meshrelay.wire.addresses import UdpAddress
from meshrelay.wire.link_commands import LinkState
from meshrelay.wire.link_node import LinkFact


def fact(user_id: str, node_id: str = "a", has_udp: bool = True) -> LinkFact:
    """A member; its sid is that of its name."""
    return LinkFact(user_id, f"sid-{user_id}", node_id, "udp", 0.1, (UdpAddress("198.51.100.1", 1),) * has_udp)


class PlanTests(SynchronousTestCase):
    """Two groups: ann, bob and tcp; cat and dan."""

    def setUp(self) -> None:
        """Make them."""
        self.counts: Counter[str] = Counter()
        groups = [[fact("ann"), fact("bob", "b"), fact("tcp", "b", False)], [fact("cat"), fact("dan", "c")]]
        self.plan = RoomPlan("room", 1, groups, self.counts, 1, 131)

    def group(self, user_id: str) -> PlanGroup:
        """The group of a user."""
        group = self.plan.group_of(user_id, f"sid-{user_id}")
        assert group is not None
        return group

    def report(self, user_id: str, peer_id: str, state: LinkState, has_room: bool = True) -> bool:
        """A user says something."""
        return self.plan.report(self.group(user_id), user_id, peer_id, state, has_room)

    def counted(self) -> dict[str, int]:
        """The counts that are not 0."""
        return {name: count for name, count in self.counts.items() if count}

    def test_members(self) -> None:
        """A user is found by exactly its session."""
        self.assertEqual(list(self.group("ann").members), ["ann", "bob", "tcp"])
        self.assertEqual(self.group("bob").node_ids, {"a", "b"})
        self.assertIsNone(self.plan.group_of("ann", "another"))
        self.assertIsNone(self.plan.group_of("eve", "sid-eve"))
        self.assertEqual((self.plan.member_count, self.plan.pair_count), (5, 8))

    def test_gone_and_moved(self) -> None:
        """Who is gone is in no group, who has moved is found elsewhere; an older session of a user changes nothing."""
        self.assertIsNone(self.plan.remove("ann", "another"))
        self.assertIs(self.plan.remove("bob", "sid-bob"), self.group("ann"))
        self.assertIsNone(self.plan.group_of("bob", "sid-bob"))
        self.assertIsNone(self.plan.remove("bob", "sid-bob"))
        self.assertIs(self.plan.move("dan", "z"), self.group("cat"))
        self.assertEqual(self.group("cat").node_ids, {"a", "z"})
        self.assertIsNone(self.plan.move("bob", "z"))

    def test_nearest(self) -> None:
        """The members of each other group, an empty one left out."""
        nearest = self.plan.nearest(self.group("ann"))
        self.assertEqual([[member.user_id for member in group] for group in nearest], [["cat", "dan"]])
        self.plan.remove("cat", "sid-cat")
        self.plan.remove("dan", "sid-dan")
        self.assertEqual(self.plan.nearest(self.group("ann")), [])

    def test_counts(self) -> None:
        """Pairs are counted by state and reason; a new state takes the place of the old one."""
        self.assertTrue(self.report("ann", "bob", LinkState.RELAYED))
        self.assertTrue(self.report("ann", "tcp", LinkState.LOST))
        self.assertEqual(self.counted(), {"relayed": 1, "lost": 1, "no_hole": 1, "no_udp": 1})
        self.assertTrue(self.report("ann", "bob", LinkState.DIRECT))
        self.assertEqual(self.counted(), {"direct": 1, "lost": 1, "no_udp": 1})
        self.plan.remove("tcp", "sid-tcp")
        self.assertEqual(self.counted(), {"direct": 1})
        self.plan.clear()
        self.assertEqual(self.counted(), {})

    def test_not_kept(self) -> None:
        """Of oneself, of other groups and beyond the bound nothing is kept; what is known may still change."""
        for peer_id in ("ann", "cat", "eve"):
            self.assertFalse(self.report("ann", peer_id, LinkState.DIRECT))
        self.assertFalse(self.report("ann", "bob", LinkState.DIRECT, has_room=False))
        self.assertEqual(self.counted(), {})
        self.report("ann", "bob", LinkState.DIRECT)
        self.assertTrue(self.report("ann", "bob", LinkState.LOST, has_room=False))
        self.assertEqual(self.counted(), {"lost": 1, "no_hole": 1})

    def test_pairs(self) -> None:
        """Each pair is there both ways."""
        self.report("dan", "cat", LinkState.DIRECT)
        pairs = {(pair.user_id, pair.peer_id): (pair.state, pair.reason) for pair in self.plan.pairs()}
        self.assertEqual(len(pairs), 8)
        self.assertEqual(pairs["dan", "cat"], ("direct", ""))
        self.assertEqual(pairs["cat", "dan"], ("unknown", ""))
