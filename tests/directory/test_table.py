"""Tests of `meshrelay.directory.table`: its bounds and its memory; what it promises is in the contract."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.directory.errors import DirectoryFull
from meshrelay.directory.options import DirectoryOptions
from meshrelay.directory.table import DirectoryTable
from meshrelay.testing.directory_contract import make_node_record, make_user_record


class _SettableClock(Clock):
    """A clock that somebody sets."""

    def set(self, seconds: float) -> None:
        self.rightNow = seconds


class DirectoryTableTests(SynchronousTestCase):
    """The table."""

    def setUp(self) -> None:
        """A small table with one node."""
        self.clock = _SettableClock()
        self.table = DirectoryTable(self.clock, DirectoryOptions(max_nodes=2, max_users=3, max_groups=3))
        self.table.register_node(make_node_record())

    def fill(self) -> None:
        """As many users and groups as fit."""
        for number in range(3):
            self.table.claim_user(make_user_record(str(number)))
            self.table.join_group(str(number), "node-a", b"")

    def test_too_many_users(self) -> None:
        """One user more than fit is refused and counted; those who are there can move."""
        self.fill()
        error = self.assertRaises(DirectoryFull, self.table.claim_user, make_user_record("3"))
        self.assertEqual((error.what, error.limit), ("users", 3))
        self.table.claim_user(make_user_record("1", sid="newer", stamp=2_000_000_000_000_000))
        self.table.release_user("0", make_user_record().sid, "node-a")
        self.table.claim_user(make_user_record("3"))
        self.assertEqual((self.table.statistics()["users"], self.table.statistics()["refused_full"]), (3, 1))

    def test_too_many_groups(self) -> None:
        """One group more than fit is refused and counted; those that are there can be joined."""
        self.fill()
        error = self.assertRaises(DirectoryFull, self.table.join_group, "3", "node-a", b"")
        self.assertEqual((error.what, error.limit), ("groups", 3))
        self.table.register_node(make_node_record("node-b"))
        self.table.join_group("2", "node-b", b"")
        self.table.leave_group("0", "node-a")
        self.table.join_group("3", "node-a", b"")
        self.assertEqual((self.table.statistics()["groups"], self.table.statistics()["refused_full"]), (3, 1))

    def test_room_of_the_dead(self) -> None:
        """What dead nodes left behind does not count against a bound, not even in the moment after they died."""
        table = DirectoryTable(self.clock, DirectoryOptions(max_users=50, max_groups=50))
        table.register_node(make_node_record())
        for number in range(50):
            table.claim_user(make_user_record(str(number)))
            table.join_group(str(number), "node-a", b"")
        self.clock.advance(10.1)
        table.register_node(make_node_record("node-b"))
        table.claim_user(make_user_record("new", node_id="node-b"))
        table.join_group("new", "node-b", b"")
        self.assertEqual((table.statistics()["users"], table.statistics()["groups"]), (1, 1))

    def test_memory_of_the_dead(self) -> None:
        """What a dead node left behind is given back a little with each call, whatever the call is."""
        table = DirectoryTable(self.clock, DirectoryOptions())
        table.register_node(make_node_record())
        for number in range(40):
            table.claim_user(make_user_record(str(number)))
            table.join_group(str(number), "node-a", b"")
        self.clock.advance(10.1)
        self.assertIsNone(table.find_user("nobody"))
        self.assertGreater(table.statistics()["users"], 30)
        for _ in range(30):
            table.find_user("nobody")
        self.assertEqual((table.statistics()["users"], table.statistics()["groups"]), (0, 0))
        self.assertEqual(table.statistics()["leases_ended"], 1)

    def test_sweep_spares_the_living(self) -> None:
        """Giving back what a dead node had touches neither users who moved nor groups that others hold."""
        self.fill()
        self.table.register_node(make_node_record("node-b"))
        moved = make_user_record("1", node_id="node-b", stamp=2_000_000_000_000_000)
        self.table.claim_user(moved)
        self.table.join_group("1", "node-b", b"")
        self.table.withdraw_node("node-a", "first")
        for _ in range(10):
            self.table.nodes()
        self.assertEqual(self.table.find_user("1"), moved)
        group = self.table.find_group("1")
        assert group is not None
        self.assertEqual(group.nodes, ("node-b",))
        self.assertEqual((self.table.statistics()["users"], self.table.statistics()["groups"]), (1, 1))

    def test_clock_set_back(self) -> None:
        """A clock that is set back by a day keeps no dead node alive for a day."""
        self.clock.set(-86_400.0)
        self.table.nodes()
        self.clock.advance(10.1)
        self.assertEqual(self.table.nodes(), [])

    def test_exact_end(self) -> None:
        """A lease lasts as long as it says."""
        self.clock.advance(9.99)
        self.assertEqual(len(self.table.nodes()), 1)
        self.clock.advance(0.02)
        self.assertEqual(self.table.nodes(), [])
