"""Groups and their members, without commands."""

from __future__ import annotations

from base64 import b32decode
from itertools import count

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.background import Alarms
from meshrelay.components.group_table import (
    GroupTable,
    GroupTableLimits,
    LiveGroup,
    NewGroupSettings,
    merging_interval_ms,
)
from meshrelay.counters import NodeCounters
from meshrelay.errors import AlreadyMember, GroupNotFound, NotMember, TooManyGroups
from meshrelay.fanout.hub import Hub
from meshrelay.fanout.turn import Turn
from meshrelay.interfaces import ISession
from meshrelay.model import Group, Member
from meshrelay.session.session import Session
from meshrelay.testing.builders import make_group_id, make_session

LASTING = NewGroupSettings(True, False, 60, 0)
FLEETING = NewGroupSettings(False, False, 60, 0)
STATIC = NewGroupSettings(True, True, 0, 0)


class TableTestCase(SynchronousTestCase):
    """A table for three groups, two of them for each user, and dice that count up."""

    def setUp(self) -> None:
        """No groups yet."""
        self.clock = Clock()
        self.alarms = Alarms(self.clock)
        counters = NodeCounters()
        self.dice = count()
        self.discarded: list[str] = []
        self.table = GroupTable(
            "node-1",
            GroupTableLimits(max_groups=3, max_groups_per_user=2),
            Hub(Turn(self.clock), self.clock, counters),
            self.alarms,
            lambda size: next(self.dice).to_bytes(size, "big"),
            lambda below: next(self.dice) % below,
        )
        self.table.when_discarded(lambda group: self.discarded.append(group.id))

    def leave(self, group_id: str, member: ISession) -> None:
        """End a membership as the component does."""
        self.table.settle(self.table.remove(group_id, member))

    def create(self, name: str, settings: NewGroupSettings = LASTING, *members: Session) -> LiveGroup:
        """Make a group with members."""
        group = self.table.create(make_group_id(name), settings)
        for member in members:
            self.table.add(group.id, member)
        return group


class GroupIdTests(TableTestCase):
    """IDs that the daemon makes."""

    def test_form(self) -> None:
        """52 lower-case base32 characters without padding: 16 bytes of the node, 16 random ones."""
        first, second = self.table.new_group_id(), self.table.new_group_id()
        self.assertEqual(len(first), 52)
        self.assertRegex(first, r"\A[a-z2-7]{52}\Z")
        raw = [b32decode(group_id.upper() + "====") for group_id in (first, second)]
        self.assertEqual(raw[0][:16], raw[1][:16])
        self.assertEqual([each[16:] for each in raw], [bytes(16), bytes(15) + b"\x01"])


class MembershipTests(TableTestCase):
    """Who is in which group."""

    def test_join_order(self) -> None:
        """Members are in join order, a user's groups newest last."""
        ann, bob = make_session("ann"), make_session("bob")
        lobby = self.create("lobby", LASTING, bob, ann)
        arena = self.create("arena", LASTING, ann)
        self.assertEqual(list(lobby.members), ["bob", "ann"])
        self.assertEqual(list(lobby.channel), [bob, ann])
        self.assertEqual(self.table.groups_of(ann), [lobby, arena])
        self.assertEqual((len(self.table), self.table.member_count), (2, 3))
        self.assertEqual(list(self.table), [lobby, arena])

    def test_snapshot(self) -> None:
        """What the application sees of a group does not change afterwards."""
        ann = make_session("ann")
        group = self.create("lobby", LASTING, ann)
        seen = group.snapshot(lambda node_id: node_id, "node-1")
        self.leave(group.id, ann)
        self.assertEqual(seen, Group(group.id, True, False, 60, 0, (), (Member("ann", ann.user.sid, "node-1"),)))

    def test_refused(self) -> None:
        """Twice in, never in, and no such group are told apart."""
        ann, bob = make_session("ann"), make_session("bob")
        group = self.create("lobby", LASTING, ann)
        self.assertRaises(AlreadyMember, self.table.add, group.id, ann)
        self.assertRaises(NotMember, self.table.remove, group.id, bob)
        self.assertRaises(GroupNotFound, self.table.add, make_group_id("other"), ann)
        self.assertRaises(GroupNotFound, self.table.remove, make_group_id("other"), ann)

    def test_last_group(self) -> None:
        """A user without groups leaves nothing behind."""
        ann = make_session("ann")
        group = self.create("lobby", LASTING, ann)
        self.leave(group.id, ann)
        self.assertEqual((self.table.groups_of(ann), self.table.member_count), ([], 0))


class BoundTests(TableTestCase):
    """max_groups and max_groups_per_user."""

    def test_node(self) -> None:
        """At the bound there is no room for one more group; static ones do not count."""
        self.create("static", STATIC)
        for name in "abc":
            self.table.check_room(None)
            self.create(name)
        self.assertRaises(TooManyGroups, self.table.check_room, None)

    def test_user(self) -> None:
        """At the bound a user joins no more groups, until one was left."""
        ann = make_session("ann")
        groups = [self.create(name) for name in "abc"]
        for group in groups[:2]:
            self.table.add(group.id, ann)
        self.assertRaises(TooManyGroups, self.table.add, groups[2].id, ann)
        self.leave(groups[0].id, ann)
        self.table.add(groups[2].id, ann)


class LifetimeTests(TableTestCase):
    """When a group goes."""

    def test_fleeting(self) -> None:
        """A group that may not be empty goes with its last member."""
        ann, bob = make_session("ann"), make_session("bob")
        group = self.create("lobby", FLEETING, ann, bob)
        self.leave(group.id, ann)
        self.assertEqual(self.discarded, [])
        self.leave(group.id, bob)
        self.assertEqual(self.discarded, [group.id])
        self.assertIsNone(self.table.find(group.id))

    def test_fleeting_outlives_its_ttl(self) -> None:
        """As long as somebody is in it, a group lives, whatever its TTL."""
        group = self.create("lobby", FLEETING, make_session("ann"))
        self.clock.advance(1000)
        self.assertIs(self.table.find(group.id), group)

    def test_empty_until_ttl(self) -> None:
        """An empty group that may be empty lives until its TTL, counted from its creation."""
        ann = make_session("ann")
        group = self.create("lobby", LASTING, ann)
        self.clock.advance(30)
        self.leave(group.id, ann)
        self.clock.advance(29.9)
        self.assertEqual(self.discarded, [])
        self.clock.advance(0.2)
        self.assertEqual(self.discarded, [group.id])

    def test_members_at_ttl(self) -> None:
        """A group with members at its TTL goes when the last one leaves."""
        ann = make_session("ann")
        group = self.create("lobby", LASTING, ann)
        self.clock.advance(61)
        self.assertEqual(self.discarded, [])
        self.leave(group.id, ann)
        self.assertEqual(self.discarded, [group.id])

    def test_static(self) -> None:
        """A static group never goes."""
        ann = make_session("ann")
        group = self.create("static", STATIC, ann)
        self.leave(group.id, ann)
        self.clock.advance(100_000)
        self.assertIs(self.table.find(group.id), group)

    def test_alarm_is_gone(self) -> None:
        """A group that went early is not discarded again at its TTL."""
        ann = make_session("ann")
        self.create("a", FLEETING, ann)
        self.leave(make_group_id("a"), ann)
        again = self.create("a", LASTING)
        self.clock.advance(59)
        self.assertIs(self.table.find(again.id), again)


class RandomTests(TableTestCase):
    """A random group to join."""

    def test_none(self) -> None:
        """Without a group there is none to pick; static ones are not picked."""
        self.assertIsNone(self.table.pick_joinable("ann"))
        self.create("static", STATIC)
        self.assertIsNone(self.table.pick_joinable("ann"))

    def test_not_own(self) -> None:
        """A user is never sent to a group that it is in, however many those are."""
        ann = make_session("ann")
        own = [self.create(name, LASTING, ann) for name in "ab"]
        self.assertIsNone(self.table.pick_joinable("ann"))
        other = self.create("c")
        for _ in range(10):
            self.assertIs(self.table.pick_joinable("ann"), other)
        self.assertIn(self.table.pick_joinable("bob"), [*own, other])

    def test_all_are_picked(self) -> None:
        """Every group has its turn."""
        groups = {self.create(name).id for name in "abc"}
        picked = {group.id for group in (self.table.pick_joinable("bob") for _ in range(9)) if group is not None}
        self.assertEqual(picked, groups)

    def test_after_discard(self) -> None:
        """Groups that went are not picked, wherever they stood in the list."""
        for gone in "abc":
            for name in "abc":
                group = self.create(name, FLEETING)
                self.table.add(group.id, make_session(f"user of {name}"))
            group = self.table.find(make_group_id(gone)) or group
            for member in list(group.members.values()):
                assert isinstance(member, Session)
                self.leave(group.id, member)
            picked = {each.id for each in (self.table.pick_joinable("bob") for _ in range(12)) if each is not None}
            self.assertEqual(picked, {make_group_id(name) for name in "abc" if name != gone})
            for rest in list(self.table):
                for member in list(rest.members.values()):
                    self.leave(rest.id, member)
        self.assertEqual(len(self.table), 0)
        self.assertIsNone(self.table.pick_joinable("ann"))


class IntervalTests(SynchronousTestCase):
    """The merging interval."""

    def test_minimum(self) -> None:
        """Below 100 ms there is none."""
        self.assertEqual([merging_interval_ms(each) for each in (0, 1, 99, 100, 65535)], [0, 0, 0, 100, 65535])
