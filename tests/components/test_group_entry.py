"""Entering a group of other nodes, which say what the test wants."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.components import group_entry
from meshrelay.components.group_entry import ANSWER_SECONDS
from meshrelay.components.group_table import LiveGroup
from meshrelay.config.schema import Config, GroupConfig
from meshrelay.errors import GroupNotFound, RemoteTimeout, TooManyGroups
from meshrelay.model import Status
from meshrelay.testing.memory_groups import GroupCluster
from meshrelay.testing.node import MemoryClient
from meshrelay.wire.commands import CORE_VER, Command, CoreCommand, NewGroup, encode_gid_message, encode_new_group
from meshrelay.wire.group_node import HoldSettings, decode_exit, encode_not_held
from meshrelay.wire.node_kinds import NodeKind
from tests.components.group_stranger import Stranger, group_of, message


class EntryTestCase(SynchronousTestCase):
    """Node a, and others that answer only what they are told to."""

    def start(self, *names: str, **keys: object) -> list[Stranger]:
        """Start the cluster."""
        self.cluster = GroupCluster(["a"], Config(group=GroupConfig(send_interval_ms=0, **keys)))  # type: ignore[arg-type]
        strangers = [Stranger(self.cluster, name) for name in names]
        self.cluster.links.linked()
        self.node = self.cluster["a"]
        return strangers

    def enter(self, group_id: str) -> Deferred[LiveGroup]:
        """Let node a enter a group; nobody joins it."""
        entered = self.node.group_nodes.enter(group_id)
        self.cluster.run(0.03)
        return entered

    def join(self, client: MemoryClient, group_id: str) -> int:
        """Send a GROUP_JOIN, and let it arrive where it must; return its number."""
        number = client.ask(Command.GROUP_JOIN, encode_gid_message(group_id, b""))
        self.cluster.run(0.03)
        return number

    def is_joined(self, client: MemoryClient, number: int) -> bool:
        """Whether a GROUP_JOIN was answered with OK."""
        answer = client.answer_to(number)
        return answer is not None and answer.status == Status.OK

    def count(self, name: str) -> int:
        """One of the counts of node a."""
        return self.node.groups.statistics()[name]

    def deny(self, stranger: Stranger) -> None:
        """Let a node say that it does not hold what it was asked for."""
        (asked,) = stranger.holds_heard()
        payload = encode_not_held(asked.group_id.encode(), asked.hold)
        stranger.send("a", NodeKind.GROUP_NOT_HELD, payload)


class SearchTests(EntryTestCase):
    """Whom a node asks, and what it makes of the answers."""

    def test_home(self) -> None:
        """The home is asked first, and only it when it holds the group."""
        home, other = self.start("h", "x")
        group_id = group_of("h")
        other.is_listed(group_id)
        entered = self.enter(group_id)
        asked = home.let_in("a")
        self.assertEqual((asked.asks, asked.next_number, asked.holders), (True, 1, ("a",)))
        self.assertEqual(self.successResultOf(entered).id, group_id)
        self.assertEqual(other.holds_heard(), [])

    def test_settings(self) -> None:
        """A replica has the settings and the age of the group, and is not what this node was told to merge."""
        (home,) = self.start("h")
        settings = HoldSettings(True, False, 100, 500, 40)
        entered = self.enter(group_of("h"))
        home.let_in("a", settings)
        group = self.successResultOf(entered)
        self.assertEqual(tuple(group.settings), (True, False, 100, 500))
        self.assertEqual(round(self.node.table.age_of(group)), 40)
        self.assertTrue(group.is_replica)

    def test_home_lost_it(self) -> None:
        """When the home does not hold the group, others that the directory names are asked."""
        home, other = self.start("h", "x")
        group_id = group_of("h")
        other.is_listed(group_id)
        entered = self.enter(group_id)
        self.deny(home)
        other.let_in("a")
        self.assertEqual(self.successResultOf(entered).id, group_id)

    def test_nobody_holds_it(self) -> None:
        """When all who are asked say no, there is no such group."""
        home, other = self.start("h", "x")
        group_id = group_of("h")
        home.is_listed(group_id)
        other.is_listed(group_id)
        entered = self.enter(group_id)
        self.deny(home)
        self.deny(other)
        self.failureResultOf(entered, GroupNotFound)
        self.assertEqual(self.count("group_entry_timeouts"), 0)

    def test_no_answer(self) -> None:
        """A home that does not answer may well hold the group: the client is told to try again."""
        (home,) = self.start("h")
        entered = self.enter(group_of("h"))
        self.cluster.run(ANSWER_SECONDS - 0.1)
        self.assertNoResult(entered)
        self.cluster.run(0.2)
        self.failureResultOf(entered, RemoteTimeout)
        self.assertEqual((self.count("group_entry_timeouts"), self.count("group_entries")), (1, 0))
        self.assertEqual(len(home.holds_heard()), 1)

    def test_tries(self) -> None:
        """Only remote_join_tries nodes beside the home are asked, each for its time."""
        home, *others = self.start("h", "x", "y", "z", remote_join_tries=2)
        group_id = group_of("h")
        for each in others:
            each.is_listed(group_id)
        entered = self.enter(group_id)
        self.cluster.run(3 * ANSWER_SECONDS - 0.1)
        self.assertNoResult(entered)
        self.cluster.run(0.2)
        self.failureResultOf(entered, RemoteTimeout)
        self.assertEqual(len(home.holds_heard()), 1)
        self.assertEqual(sum(len(each.holds_heard()) for each in others), 2)

    def test_no_tries(self) -> None:
        """With remote_join_tries = 0 only the home is asked."""
        home, other = self.start("h", "x", remote_join_tries=0)
        group_id = group_of("h")
        other.is_listed(group_id)
        entered = self.enter(group_id)
        self.deny(home)
        self.failureResultOf(entered, GroupNotFound)
        self.assertEqual(other.holds_heard(), [])

    def test_reachable_first(self) -> None:
        """Of the nodes that the directory names those with a link are asked first: the others cost no try."""
        first, second = self.start("x", "y", remote_join_tries=1)
        group_id = group_of("nobody")
        first.is_listed(group_id)
        second.is_listed(group_id)
        self.cluster.links.mesh.part("a", "x")
        entered = self.enter(group_id)
        self.assertEqual(first.holds_heard(), [])
        second.let_in("a")
        self.successResultOf(entered)

    def test_late_home(self) -> None:
        """A home that answers while the next node is being asked is heard."""
        home, other = self.start("h", "x")
        group_id = group_of("h")
        other.is_listed(group_id)
        entered = self.enter(group_id)
        self.cluster.run(ANSWER_SECONDS)
        self.assertEqual(len(other.holds_heard()), 1)
        home.let_in("a")
        self.assertEqual(self.successResultOf(entered).id, group_id)

    def test_no_directory(self) -> None:
        """When the directory cannot be asked nobody knows whether there is such a group."""
        self.start()
        self.cluster.directory.stop()
        self.failureResultOf(self.enter(group_of("nobody")), RemoteTimeout)
        self.assertEqual(self.count("group_entry_timeouts"), 1)

    def test_no_id(self) -> None:
        """What can be no ID of a group is no group."""
        self.start()
        for group_id in ("", "two words".ljust(52, "-"), "\u00e9" * 52):
            self.failureResultOf(self.enter(group_id), GroupNotFound)


class OtherHolderTests(EntryTestCase):
    """The holders that the first one names."""

    def test_wait(self) -> None:
        """The group is entered when all its holders know of it, so that nobody says anything past the new member."""
        home, other = self.start("h", "x")
        ann = self.node.sign_in("ann")
        number = self.join(ann, group_of("h"))
        home.let_in("a", others=("x",))
        self.assertFalse(self.is_joined(ann, number))
        other.let_in("a")
        self.assertTrue(self.is_joined(ann, number))
        self.assertEqual(len(self.node.groups.member_nodes(group_of("h"))), 3)

    def test_holds_it_no_more(self) -> None:
        """A holder that has left meanwhile is not waited for."""
        home, other = self.start("h", "x")
        entered = self.enter(group_of("h"))
        home.let_in("a", others=("x",))
        self.deny(other)
        self.successResultOf(entered)

    def test_silent(self) -> None:
        """One that does not answer holds up the others only for its time."""
        home, other = self.start("h", "x")
        entered = self.enter(group_of("h"))
        home.let_in("a", others=("x",))
        self.cluster.run(ANSWER_SECONDS)
        group = self.successResultOf(entered)
        assert group.spread is not None
        self.assertEqual(group.spread.asked, {"x"})
        self.assertEqual(len(other.holds_heard()), 1)

    def test_unknown_holder(self) -> None:
        """One that this node has not met yet is not waited for, and asked when it is met."""
        (home,) = self.start("h")
        ann = self.node.sign_in("ann")
        number = self.join(ann, group_of("h"))
        home.let_in("a", others=("late",))
        self.assertTrue(self.is_joined(ann, number))
        late = Stranger(self.cluster, "late")
        self.cluster.links.linked()
        self.cluster.run(0.1)
        self.assertEqual([hold.group_id for hold in late.holds_heard()], [group_of("h")])


class EarlyTests(EntryTestCase):
    """Casts that overtake the answer."""

    def test_early(self) -> None:
        """They wait for the answer, up to a bound; those of before the answer are not for us."""
        self.patch(group_entry, "MAX_EARLY_CASTS", 3)
        (home,) = self.start("h")
        group_id = group_of("h")
        ann = self.node.sign_in("ann")
        number = self.join(ann, group_id)
        for each in range(1, 6):
            home.cast("a", group_id, each, message(b"%d" % each))
        (asked,) = home.holds_heard()
        home.say_hold("a", group_id, next_number=2, of_hold=asked.hold)
        self.assertTrue(self.is_joined(ann, number))
        group = self.node.table.find(group_id)
        assert group is not None
        assert group.spread is not None
        incoming = group.spread.holders["h"].incoming
        self.assertEqual((incoming.next_number, incoming.held_count), (4, 0))


class BoundTests(EntryTestCase):
    """No more than there is room for."""

    def test_entries(self) -> None:
        """Only so many groups are looked for at once; the next one is refused and asks nobody."""
        self.patch(group_entry, "MAX_ENTRIES", 2)
        (home,) = self.start("h")
        entered = [self.enter(group_of("h", number)) for number in range(3)]
        self.failureResultOf(entered[2], TooManyGroups)
        self.assertEqual(self.count("group_entries"), 2)
        self.assertEqual(len(home.holds_heard()), 2)
        self.cluster.run(2)
        for each in entered[:2]:
            self.failureResultOf(each, RemoteTimeout)

    def test_full(self) -> None:
        """A node that has all the groups it may asks nobody."""
        (home,) = self.start("h", max_groups=1)
        self.node.sign_in("ann").create_group()
        self.failureResultOf(self.enter(group_of("h")), TooManyGroups)
        self.assertEqual(home.holds_heard(), [])

    def test_full_meanwhile(self) -> None:
        """One that has got all it may while it waited says so, and the other node is told that it is not coming."""
        (home,) = self.start("h", max_groups=1)
        entered = self.enter(group_of("h"))
        self.node.sign_in("ann").create_group()
        home.let_in("a")
        self.failureResultOf(entered, TooManyGroups)
        self.assertEqual([decode_exit(data).group_id for data in home.heard(NodeKind.GROUP_EXIT)], [group_of("h")])
        self.assertEqual(self.count("groups"), 1)

    def test_replicas_count(self) -> None:
        """Groups of other nodes count as much as own ones."""
        (home,) = self.start("h", max_groups=1)
        ann = self.node.sign_in("ann")
        number = self.join(ann, group_of("h"))
        home.let_in("a")
        self.assertTrue(self.is_joined(ann, number))
        _, code, _ = ann.refusal(Command.GROUP_CREATE, encode_new_group(NewGroup(False, True, 60, 0)))
        self.assertEqual(code, TooManyGroups.code)


class GivenUpTests(EntryTestCase):
    """Whoever wanted to enter does not want to any more."""

    def test_late_answer(self) -> None:
        """Who answers too late is told that nobody came."""
        (home,) = self.start("h")
        group_id = group_of("h")
        entered = self.enter(group_id)
        self.cluster.run(ANSWER_SECONDS + 0.1)
        self.failureResultOf(entered, RemoteTimeout)
        home.let_in("a")
        self.assertEqual([decode_exit(data).group_id for data in home.heard(NodeKind.GROUP_EXIT)], [group_id])
        self.assertEqual(self.count("groups"), 0)

    def test_late_answer_while_trying_again(self) -> None:
        """A late answer does not take back what is being asked anew; the answer to that lets the node in."""
        (home,) = self.start("h")
        group_id = group_of("h")
        entered = self.enter(group_id)
        self.cluster.run(ANSWER_SECONDS + 0.1)
        self.failureResultOf(entered, RemoteTimeout)
        ann = self.node.sign_in("ann")
        number = self.join(ann, group_id)
        first, second = home.holds_heard()
        home.say_hold("a", group_id, of_hold=first.hold)
        self.assertEqual(home.heard(NodeKind.GROUP_EXIT), [])
        home.say_hold("a", group_id, of_hold=second.hold)
        self.assertTrue(self.is_joined(ann, number))

    def test_cancelled(self) -> None:
        """Nothing is left of an entry whose command took too long."""
        (home,) = self.start("h")
        entered = self.enter(group_of("h"))
        entered.cancel()
        self.failureResultOf(entered, CancelledError)
        self.assertEqual(self.count("group_entries"), 0)
        home.let_in("a")
        self.assertEqual(len(home.heard(NodeKind.GROUP_EXIT)), 1)
        self.assertEqual(self.count("groups"), 0)

    def test_cancelled_for_two(self) -> None:
        """Who waited for the same group is told to try again: nobody knows whether there is such a group."""
        self.start("h")
        first, second = (self.enter(group_of("h")) for _ in range(2))
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.failureResultOf(second, RemoteTimeout)

    def test_session_is_over(self) -> None:
        """A user who left while the group was looked for is no member; both nodes give the group up again."""
        (home,) = self.start("h")
        ann = self.node.sign_in("ann")
        self.join(ann, group_of("h"))
        ann.send(CoreCommand.GOODBYE, ver=CORE_VER)
        self.cluster.run(0.03)
        self.assertIsNone(self.node.registry.find_session(ann.sid))
        home.let_in("a")
        self.cluster.run(0.1)
        self.assertEqual(self.count("groups"), 0)
        self.assertEqual(len(home.casts_heard()), 1)

    def test_two(self) -> None:
        """Two users who want in at the same time ask once, and both get in."""
        (home,) = self.start("h")
        clients = [self.node.sign_in("ann"), self.node.sign_in("bob")]
        numbers = [self.join(client, group_of("h")) for client in clients]
        home.let_in("a")
        self.assertTrue(all(map(self.is_joined, clients, numbers)))

    def test_two_refused(self) -> None:
        """Both are told why they do not get in."""
        self.start("h")
        entered = [self.enter(group_of("h")) for _ in range(2)]
        self.cluster.run(ANSWER_SECONDS)
        for each in entered:
            self.failureResultOf(each, RemoteTimeout)
