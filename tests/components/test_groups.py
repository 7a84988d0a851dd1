"""Groups on one node: what clients and the application may do with them."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from meshrelay.config.schema import Config, GroupConfig, SessionConfig, StaticGroup
from meshrelay.errors import (
    AlreadyMember,
    EmptyAndNotJoined,
    GroupJoinError,
    GroupLeaveError,
    GroupNewError,
    GroupNotFound,
    InvalidTTL,
    MessageTooLarge,
    NodeOffline,
    NotMember,
    NotSignedIn,
    TooManyGroups,
)
from meshrelay.interfaces import IComponent, IGroups, IMeshRelay
from meshrelay.model import CloseReason, Group, Member, Status, User
from meshrelay.testing.builders import make_group_id, make_user
from meshrelay.testing.node import MemoryClient, MemoryNode, make_node
from meshrelay.wire.commands import (
    Command,
    CoreCommand,
    JoinRandom,
    NewGroup,
    PushedMessage,
    decode_created,
    decode_gid_list,
    encode_gid_message,
    encode_join_random,
    encode_new_group,
)

LOBBY = make_group_id("lobby")
MISSING = make_group_id("missing")


def with_groups(**keys: Any) -> Config:
    """Return a configuration whose section [group] has these keys."""
    return Config(group=GroupConfig(**keys))


class GroupsTestCase(SynchronousTestCase):
    """A node with ann and bob."""

    config = Config()

    def setUp(self) -> None:
        """Both are signed in; there are no groups but static ones."""
        self.node: MemoryNode = make_node(self.config, self.set_up)
        self.groups = self.node.groups
        self.ann = self.node.sign_in("ann")
        self.bob = self.node.sign_in("bob", "websocket")

    def set_up(self, relay: IMeshRelay) -> None:
        """Register hooks; for tests that have some."""

    def user(self, client: MemoryClient) -> User:
        """The application's view of a client."""
        session = self.node.registry.find_session(client.sid)
        assert session is not None
        return session.user

    def assert_counts(self, groups: int, group_members: int) -> None:
        """Check how much there is."""
        counts = self.groups.statistics()
        self.assertEqual((counts["groups"], counts["group_members"]), (groups, group_members))

    def now(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine that has nothing to wait for; what it raises is raised."""
        result: list[object] = []
        Deferred.fromCoroutine(coroutine).addBoth(result.append)
        failure = result[0]
        if failure is not None:
            failure.raiseException()  # type: ignore[attr-defined]

    def refused(self, error: type[Exception], coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine that is refused with `error`."""
        self.assertRaises(error, self.now, coroutine)


class ContractTests(GroupsTestCase):
    """What the component is."""

    def test_contracts(self) -> None:
        """Groups are what the application and the node take them for."""
        verifyObject(IGroups, self.groups)
        verifyObject(IComponent, self.groups)
        self.assertEqual(self.groups.name, "group")

    def test_commands(self) -> None:
        """Clients have exactly the published commands."""
        numbers = [*range(110, 116), 118, 119, 140]
        self.assertEqual(sorted(self.groups.command_table()), [(1, number) for number in numbers])

    def test_expose_twice(self) -> None:
        """Commands are exposed once."""
        self.assertRaises(RuntimeError, self.groups.expose_commands)

    def test_not_exposed(self) -> None:
        """With expose_commands = false clients have no group commands; the application still has groups."""
        node = make_node(with_groups(expose_commands=False))
        ann = node.sign_in("ann")
        for cmd in range(110, 116):
            self.assertEqual(ann.refusal(cmd)[:2], (Status.BAD, 2))
        self.assertEqual(len(node.groups.create_group(None, True, False, 60, 0)), 52)

    def test_late_hooks(self) -> None:
        """Registering a hook after expose_commands is an error."""
        for when in ("before", "after"):
            for what in ("create", "join", "leave", "broadcast"):
                register = getattr(self.groups, f"{when}_{what}")
                self.assertRaises(RuntimeError, register, lambda *_: None)

    def test_statistics(self) -> None:
        """Groups and memberships are counted."""
        group_id = self.ann.create_group()
        self.bob.join(group_id)
        self.assert_counts(groups=1, group_members=2)


class CreateTests(GroupsTestCase):
    """GROUP_CREATE and create_group."""

    def create(self, client: MemoryClient, *wanted: Any) -> tuple[int, int, str]:
        """Ask for a group that is refused."""
        return client.refusal(Command.GROUP_CREATE, encode_new_group(NewGroup(*wanted)))

    def test_joined(self) -> None:
        """A group with `join` has its creator as its first member; its ID has 52 characters."""
        group_id = self.ann.create_group(ttl_seconds=11, interval_ms=100)
        self.assertRegex(group_id, r"\A[a-z2-7]{52}\Z")
        member = Member("ann", self.ann.sid, "node-1")
        self.assertEqual(self.groups.get_group(group_id), Group(group_id, False, False, 11, 100, (), (member,)))

    def test_not_joined(self) -> None:
        """A group with `allow_empty` may be made without joining it."""
        group_id = self.ann.create_group(allow_empty=True, join=False)
        group = self.groups.get_group(group_id)
        assert group is not None
        self.assertEqual((group.allow_empty, group.members), (True, ()))

    def test_ttl(self) -> None:
        """A lifetime must be greater than 10 seconds."""
        self.assertEqual(self.create(self.ann, True, True, 10, 0)[:2], (Status.BAD, 10))
        self.assertRaises(InvalidTTL, self.groups.create_group, None, True, False, 10, 0)
        self.groups.create_group(None, True, False, 11, 0)

    def test_empty_and_not_joined(self) -> None:
        """A group that may not be empty needs a first member."""
        self.assertEqual(self.create(self.ann, False, False, 60, 0)[:2], (Status.BAD, 11))
        self.assertRaises(EmptyAndNotJoined, self.groups.create_group, self.user(self.ann), False, False, 60, 0)
        self.assertRaises(EmptyAndNotJoined, self.groups.create_group, None, False, True, 60, 0)

    def test_node_offline(self) -> None:
        """A node that is about to stop makes no new groups."""
        self.node.reception.is_draining = True
        self.assertEqual(self.create(self.ann, True, True, 60, 0)[:2], (Status.ERROR, 12))
        self.assertRaises(NodeOffline, self.groups.create_group, None, True, False, 60, 0)

    def test_interval(self) -> None:
        """An interval below 100 ms is none."""
        for asked, used in ((0, 0), (99, 0), (100, 100), (65535, 65535)):
            group = self.groups.get_group(self.ann.create_group(interval_ms=asked))
            assert group is not None
            self.assertEqual(group.interval_ms, used)

    def test_all_errors_are_one_kind(self) -> None:
        """Whatever is wrong with a new group, and however it is wrapped, is a GroupNewError."""
        for error in (InvalidTTL(), EmptyAndNotJoined(), NodeOffline(), TooManyGroups()):
            self.assertIsInstance(error, GroupNewError)
            wrapped = RuntimeError("wrapped")
            wrapped.__cause__ = error
            self.assertIsInstance(wrapped, GroupNewError)

    def test_without_user(self) -> None:
        """The application makes groups that belong to nobody."""
        group_id = self.groups.create_group(None, True, False, 60, 0)
        self.assertEqual(self.ann.join(group_id).status, Status.OK)

    def test_unknown_user(self) -> None:
        """A user who is not here cannot be a first member."""
        self.assertRaises(NotSignedIn, self.groups.create_group, make_user("carl"), True, True, 60, 0)

    def test_malformed(self) -> None:
        """A payload of another length, or with unknown flags, is code 1."""
        for payload in (
            b"",
            b"\x03\x00\x00\x00\x3c\x00",
            b"\x03\x00\x00\x00\x3c\x00\x00\x00",
            b"\x04\x00\x00\x00\x3c\x00\x00",
        ):
            self.assertEqual(self.ann.refusal(Command.GROUP_CREATE, payload)[:2], (Status.BAD, 1))


class JoinTests(GroupsTestCase):
    """GROUP_JOIN and join_group."""

    def setUp(self) -> None:
        """There is a group with ann in it."""
        super().setUp()
        self.group_id = self.ann.create_group()

    def test_others_are_told(self) -> None:
        """The others read who joined, and the message; the one who joins reads nothing."""
        self.assertEqual(self.bob.join(self.group_id, b"hi")[1:], (Status.OK, 111, 1 + 1, b""))
        (push,) = self.ann.pushes()
        self.assertEqual((push.ver, push.cmd, push.request_id), (1, 111, 0))
        self.assertEqual(push.payload, self.group_id.encode() + b"\x03bob" + b"hi")
        self.assertEqual(self.bob.pushes(), [])

    def test_nobody_is_told(self) -> None:
        """An empty message tells nobody."""
        self.bob.join(self.group_id)
        self.assertEqual(self.ann.pushes(), [])

    def test_already_member(self) -> None:
        """Twice in is code 20; nobody is told again."""
        self.assertEqual(self.ann.refusal(Command.GROUP_JOIN, encode_gid_message(self.group_id, b"x"))[:2], (4, 20))
        self.refused(AlreadyMember, self.groups.join_group(self.group_id, self.user(self.ann), 2, 1, b""))
        self.node.settle()
        self.assertEqual(self.ann.pushes(), [])

    def test_not_found(self) -> None:
        """A group that nobody made is code 21."""
        self.assertEqual(self.bob.refusal(Command.GROUP_JOIN, encode_gid_message(MISSING, b""))[:2], (4, 21))
        self.refused(GroupNotFound, self.groups.join_group(MISSING, self.user(self.bob), 2, 1, b""))

    def test_not_signed_in(self) -> None:
        """Only users of this node join by it."""
        self.refused(NotSignedIn, self.groups.join_group(self.group_id, make_user("carl"), 2, 1, b""))

    def test_by_the_application(self) -> None:
        """The application chooses ver, cmd and the bytes, which go out as they are."""
        self.now(self.groups.join_group(self.group_id, self.user(self.bob), 9, 300, b"raw"))
        self.node.settle()
        self.assertEqual(self.ann.pushes(), [(9, 255, 300, 0, b"raw")])
        self.assertEqual(self.bob.pushes(), [])
        self.assertEqual(decode_gid_list(self.bob.request(Command.GROUP_LIST).payload), [self.group_id])

    def test_kinds_of_errors(self) -> None:
        """Whatever keeps a user out of a group is a GroupJoinError."""
        for error in (AlreadyMember(), GroupNotFound(), TooManyGroups()):
            self.assertIsInstance(error, GroupJoinError)

    def test_malformed(self) -> None:
        """A group ID of the wrong length, or not ASCII, is code 1."""
        for payload in (b"", b"g" * 51, b"\xff" * 52):
            self.assertEqual(self.bob.refusal(Command.GROUP_JOIN, payload)[:2], (Status.BAD, 1))
            self.assertEqual(self.bob.refusal(Command.GROUP_LEAVE, payload)[:2], (Status.BAD, 1))
            self.assertEqual(self.bob.refusal(Command.GROUP_BROADCAST, payload)[:2], (Status.BAD, 1))

    def test_too_large(self) -> None:
        """A message that with its envelope is over the limit is code 5, and nobody joined."""
        fits = 65536 - 52 - 4
        too_large = encode_gid_message(self.group_id, bytes(fits + 1))
        for cmd in (Command.GROUP_JOIN, Command.GROUP_LEAVE):
            self.assertEqual(self.bob.refusal(cmd, too_large)[:2], (Status.BAD, 5))
        self.assertEqual(self.bob.request(Command.GROUP_LIST).payload, b"")
        self.bob.join(self.group_id, bytes(fits))
        self.assertEqual(len(self.ann.pushes()[0].payload), 65536)

    def test_takes_over(self) -> None:
        """A user who signs in anew is in no group; the old session's memberships are gone."""
        again = self.node.sign_in("ann")
        self.assertEqual(again.request(Command.GROUP_LIST).payload, b"")
        self.assertIsNone(self.groups.get_group(self.group_id))


class LeaveTests(GroupsTestCase):
    """GROUP_LEAVE and leave_group."""

    def setUp(self) -> None:
        """Both are in a group."""
        super().setUp()
        self.group_id = self.ann.create_group()
        self.bob.join(self.group_id)

    def test_others_are_told(self) -> None:
        """Those who stay read who left, and the message; the leaver reads nothing."""
        self.assertEqual(self.bob.leave(self.group_id, b"bye").status, Status.OK)
        self.assertEqual(self.ann.messages(), [PushedMessage(self.group_id, "bob", b"bye")])
        self.assertEqual(self.bob.pushes(), [])

    def test_nobody_is_told(self) -> None:
        """An empty message tells nobody."""
        self.bob.leave(self.group_id)
        self.assertEqual(self.ann.pushes(), [])

    def test_not_member(self) -> None:
        """Never in is code 22."""
        carl = self.node.sign_in("carl")
        self.assertEqual(carl.refusal(Command.GROUP_LEAVE, encode_gid_message(self.group_id, b""))[:2], (4, 22))
        self.refused(NotMember, self.groups.leave_group(self.group_id, self.user(carl), 2, 1, b""))

    def test_not_found(self) -> None:
        """No such group is code 21."""
        self.assertEqual(self.bob.refusal(Command.GROUP_LEAVE, encode_gid_message(MISSING, b""))[:2], (4, 21))
        self.refused(GroupNotFound, self.groups.leave_group(MISSING, self.user(self.bob), 2, 1, b""))
        for error in (NotMember(), GroupNotFound()):
            self.assertIsInstance(error, GroupLeaveError)

    def test_by_the_application(self) -> None:
        """The application chooses ver, cmd and the bytes."""
        self.now(self.groups.leave_group(self.group_id, self.user(self.bob), 9, 300, b"raw"))
        self.node.settle()
        self.assertEqual(self.ann.pushes(), [(9, 255, 300, 0, b"raw")])

    def test_last_member(self) -> None:
        """A group that may not be empty goes with its last member."""
        self.ann.leave(self.group_id)
        self.bob.leave(self.group_id, b"anybody?")
        self.assertIsNone(self.groups.get_group(self.group_id))
        self.assertEqual(self.bob.refusal(Command.GROUP_JOIN, encode_gid_message(self.group_id, b""))[1], 21)

    def test_last_member_of_a_merging_group(self) -> None:
        """The last words in a group with an interval leave no timer behind."""
        merging = self.ann.create_group(interval_ms=1000)
        calls = len(self.node.clock.getDelayedCalls())
        self.ann.leave(merging, b"anybody?")
        self.assertEqual(len(self.node.clock.getDelayedCalls()), calls)


class BroadcastTests(GroupsTestCase):
    """GROUP_BROADCAST, broadcast and announce."""

    def setUp(self) -> None:
        """ann, bob and, by UDP, carl are in a group."""
        super().setUp()
        self.carl = self.node.sign_in("carl", "udp")
        self.group_id = self.ann.create_group()
        for client in (self.bob, self.carl):
            client.join(self.group_id)

    def texts(self, client: MemoryClient) -> list[tuple[str, bytes]]:
        """What a client read: sender and message."""
        return [(message.user_id, message.message) for message in client.messages()]

    def test_others(self) -> None:
        """Everybody else gets it, whatever their transport, in the published form."""
        answer = self.ann.request(Command.GROUP_BROADCAST, encode_gid_message(self.group_id, b"hi"))
        self.assertEqual((answer.status, answer.payload), (Status.OK, b""))
        for client in (self.bob, self.carl):
            (push,) = client.pushes()
            self.assertEqual(push, (1, 255, 113, 0, self.group_id.encode() + b"\x03annhi"))
        self.assertEqual(self.ann.pushes(), [])

    def test_empty_message(self) -> None:
        """An empty broadcast is one too."""
        self.ann.broadcast(self.group_id, b"")
        self.node.settle()
        self.assertEqual(self.texts(self.bob), [("ann", b"")])

    def test_order(self) -> None:
        """What one sender says arrives in that order, for everybody, whatever the others say in between."""
        for number in range(20):
            self.ann.broadcast(self.group_id, b"a%d" % number)
            self.bob.broadcast(self.group_id, b"b%d" % number)
        self.node.settle()
        expected = [(user, b"%s%d" % (user[:1].encode(), number)) for number in range(20) for user in ("ann", "bob")]
        self.assertEqual(self.texts(self.carl), expected)
        self.assertEqual(self.texts(self.ann), [each for each in expected if each[0] == "bob"])

    def test_before_and_after_joining(self) -> None:
        """Nobody gets what was said before it joined, or after it left; everybody what was said in between."""
        dora = self.node.sign_in("dora")
        self.ann.broadcast(self.group_id, b"before")
        dora.send(Command.GROUP_JOIN, encode_gid_message(self.group_id, b""))
        self.ann.broadcast(self.group_id, b"between")
        dora.send(Command.GROUP_LEAVE, encode_gid_message(self.group_id, b""))
        self.ann.broadcast(self.group_id, b"after")
        self.node.settle()
        self.assertEqual(self.texts(dora), [("ann", b"between")])
        self.assertEqual(self.texts(self.bob), [("ann", text) for text in (b"before", b"between", b"after")])

    def test_own_join_and_message(self) -> None:
        """Join, message and leave of one user in one turn reach the others in that order."""
        dora = self.node.sign_in("dora")
        dora.send(Command.GROUP_JOIN, encode_gid_message(self.group_id, b"hello"))
        dora.broadcast(self.group_id, b"news")
        dora.send(Command.GROUP_LEAVE, encode_gid_message(self.group_id, b"bye"))
        self.node.settle()
        self.assertEqual([frame.cmd for frame in self.bob.link.received[-3:]], [111, 113, 112])
        self.assertEqual(dora.pushes(), [])

    def test_not_member(self) -> None:
        """Who is not in the group is code 22, and nobody hears it."""
        dora = self.node.sign_in("dora")
        self.assertEqual(dora.refusal(Command.GROUP_BROADCAST, encode_gid_message(self.group_id, b"x"))[:2], (4, 22))
        self.assertEqual(self.ann.pushes(), [])

    def test_not_found(self) -> None:
        """No such group is code 21."""
        self.assertEqual(self.ann.refusal(Command.GROUP_BROADCAST, encode_gid_message(MISSING, b"x"))[:2], (4, 21))

    def test_too_large(self) -> None:
        """What with its envelope is over the limit is code 5; what fits to the byte is delivered."""
        fits = 65536 - 52 - 4
        payload = encode_gid_message(self.group_id, bytes(fits + 1))
        self.assertEqual(self.ann.refusal(Command.GROUP_BROADCAST, payload)[:2], (Status.BAD, 5))
        self.ann.broadcast(self.group_id, bytes(fits))
        self.node.settle()
        self.assertEqual(len(self.bob.pushes()[0].payload), 65536)

    def test_by_the_application(self) -> None:
        """broadcast sends the application's own bytes to all but the sender."""
        self.groups.broadcast(self.group_id, self.user(self.ann), 9, 300, b"raw", True)
        self.node.settle()
        self.assertEqual(self.ann.pushes(), [])
        for client in (self.bob, self.carl):
            self.assertEqual(client.pushes(), [(9, 255, 300, 0, b"raw")])

    def test_announce(self) -> None:
        """An announcement has no sender: everybody gets it."""
        self.groups.announce(self.group_id, 9, 300, b"raw", False)
        self.node.settle()
        for client in (self.ann, self.bob, self.carl):
            self.assertEqual(client.pushes(), [(9, 255, 300, 0, b"raw")])

    def test_group_is_gone(self) -> None:
        """The application's words to a group that is gone are passed over in silence."""
        self.groups.broadcast(MISSING, self.user(self.ann), 9, 300, b"raw", True)
        self.groups.announce(MISSING, 9, 300, b"raw", True)

    def test_application_too_large(self) -> None:
        """The application may not send what no client takes."""
        self.assertRaises(MessageTooLarge, self.groups.announce, self.group_id, 9, 300, bytes(65537), True)
        self.refused(MessageTooLarge, self.groups.join_group(self.group_id, self.user(self.ann), 9, 1, bytes(65537)))

    def test_reliable(self) -> None:
        """A reliable broadcast waits for a member who is away, another does not."""
        self.bob.lose()
        self.ann.broadcast(self.group_id, b"lossy")
        self.ann.broadcast(self.group_id, b"sure", reliable=True)
        self.node.settle()
        again = self.node.sign_in("bob", resume=self.bob.sid)
        self.assertEqual(self.texts(again), [("ann", b"sure")])

    def test_comings_and_goings_are_reliable(self) -> None:
        """A member who is away reads later who joined and who left by the application."""
        dora = self.node.sign_in("dora")
        self.bob.lose()
        self.now(self.groups.join_group(self.group_id, self.user(dora), 2, 1, b"joined"))
        self.now(self.groups.leave_group(self.group_id, self.user(dora), 2, 2, b"left"))
        again = self.node.sign_in("bob", resume=self.bob.sid)
        self.assertEqual([(frame.cmd, frame.payload) for frame in again.pushes()], [(1, b"joined"), (2, b"left")])

    def test_slow_consumer(self) -> None:
        """A member that does not read is closed; the others get everything, in order."""
        slow = self.node.sign_in("slow", limit_bytes=500)
        slow.join(self.group_id)
        slow.link.stall()
        for number in range(20):
            self.ann.broadcast(self.group_id, b"%d" % number)
            self.node.settle()
        self.assertIs(slow.link.close_reason, CloseReason.SLOW_CONSUMER)
        said = [each for each in self.texts(self.bob) if each != ("slow", b"")]
        self.assertEqual(said, [("ann", b"%d" % number) for number in range(20)])

    def test_members_survive_a_resume(self) -> None:
        """A user who comes back is still a member and hears what is said."""
        self.bob.lose()
        again = self.node.sign_in("bob", resume=self.bob.sid)
        self.assertEqual(decode_gid_list(again.request(Command.GROUP_LIST).payload), [self.group_id])
        self.ann.broadcast(self.group_id, b"hi")
        self.node.settle()
        self.assertEqual(self.texts(again), [("ann", b"hi")])


class MergingTests(GroupsTestCase):
    """A group with an interval."""

    def test_merged(self) -> None:
        """What is said within the interval comes together, and in order; answers do not wait."""
        group_id = self.ann.create_group(interval_ms=200)
        self.bob.join(group_id)
        self.ann.request(Command.GROUP_BROADCAST, encode_gid_message(group_id, b"1"))
        self.node.advance(0.1)
        self.ann.broadcast(group_id, b"2")
        self.node.settle()
        self.assertEqual(self.bob.pushes(), [])
        self.node.advance(0.11)
        self.assertEqual([message.message for message in self.bob.messages()], [b"1", b"2"])


class ListTests(GroupsTestCase):
    """Which groups a user is in."""

    def test_newest_last(self) -> None:
        """Groups are listed in the order in which they were joined."""
        groups = [self.ann.create_group() for _ in range(3)]
        self.bob.join(groups[1])
        self.bob.join(groups[0])
        self.assertEqual(decode_gid_list(self.ann.request(Command.GROUP_LIST).payload), groups)
        self.assertEqual(self.groups.group_ids(self.user(self.bob)), [groups[1], groups[0]])
        self.assertEqual(self.groups.latest_group_id(self.user(self.bob)), groups[0])

    def test_none(self) -> None:
        """Who is in no group, or not here, has none."""
        self.assertEqual(self.ann.request(Command.GROUP_LIST).payload, b"")
        self.assertIsNone(self.groups.latest_group_id(self.user(self.ann)))
        self.assertEqual(self.groups.group_ids(make_user("carl")), [])

    def test_payload(self) -> None:
        """GROUP_LIST has no payload."""
        self.assertEqual(self.ann.refusal(Command.GROUP_LIST, b"x")[:2], (Status.BAD, 1))

    def test_member_nodes(self) -> None:
        """A group of this node is held by this node; one that does not exist by none."""
        self.assertEqual(self.groups.member_nodes(self.ann.create_group()), ["node-1"])
        self.assertEqual(self.groups.member_nodes(MISSING), [])
        self.assertIsNone(self.groups.get_group(MISSING))


class BoundTests(GroupsTestCase):
    """max_groups and max_groups_per_user."""

    config = with_groups(max_groups=3, max_groups_per_user=2)

    def test_per_user(self) -> None:
        """A user may be in so many groups and no more, by creating or by joining."""
        other = self.bob.create_group()
        for _ in range(2):
            self.ann.create_group()
        self.assertEqual(self.ann.refusal(Command.GROUP_JOIN, encode_gid_message(other, b""))[:2], (Status.BAD, 13))
        self.ann.leave(self.groups.group_ids(self.user(self.ann))[0])
        self.assertEqual(self.ann.join(other).status, Status.OK)
        wanted = encode_new_group(NewGroup(True, True, 60, 0))
        self.assertEqual(self.ann.refusal(Command.GROUP_CREATE, wanted)[:2], (Status.BAD, 13))

    def test_per_node(self) -> None:
        """A node has so many groups and no more."""
        for _ in range(3):
            self.groups.create_group(None, True, False, 60, 0)
        self.assertRaises(TooManyGroups, self.groups.create_group, None, True, False, 60, 0)
        wanted = encode_new_group(NewGroup(True, False, 60, 0))
        self.assertEqual(self.ann.refusal(Command.GROUP_CREATE, wanted)[:2], (Status.BAD, 13))

    def test_list_fits_a_frame(self) -> None:
        """By default a user's list of groups fits a frame."""
        self.assertLessEqual(GroupConfig().max_groups_per_user * 52, SessionConfig().max_payload_bytes)


class LifetimeTests(GroupsTestCase):
    """When groups go."""

    def test_ttl(self) -> None:
        """An empty group with allow_empty goes at its TTL, counted from its creation."""
        group_id = self.ann.create_group(allow_empty=True, ttl_seconds=20)
        self.ann.leave(group_id)
        self.node.advance(19.5)
        self.assertIsNotNone(self.groups.get_group(group_id))
        self.node.advance(1)
        self.assertIsNone(self.groups.get_group(group_id))

    def test_lost_members(self) -> None:
        """A group goes when the last member stays away too long."""
        group_id = self.ann.create_group()
        self.ann.lose()
        self.assertIsNotNone(self.groups.get_group(group_id))
        self.node.advance(31)
        self.assertIsNone(self.groups.get_group(group_id))

    def test_goodbye(self) -> None:
        """A member that says GOODBYE is a member no more, at once."""
        group_id = self.ann.create_group(allow_empty=True)
        self.ann.send(CoreCommand.GOODBYE, ver=0)
        group = self.groups.get_group(group_id)
        assert group is not None
        self.assertEqual(group.members, ())


class StaticGroupTests(GroupsTestCase):
    """Groups from the configuration."""

    config = with_groups(static_groups=(StaticGroup(group_id=LOBBY, interval_ms=200),), max_groups=1)

    def test_exists(self) -> None:
        """It is there from the start, with its interval."""
        self.assertEqual(self.groups.get_group(LOBBY), Group(LOBBY, True, True, 0, 200, (), ()))
        self.assertEqual(self.ann.join(LOBBY).status, Status.OK)

    def test_stays(self) -> None:
        """It stays, empty or not, and takes no place of other groups."""
        self.ann.join(LOBBY)
        self.ann.leave(LOBBY)
        self.node.advance(1000, 100)
        self.assertIsNotNone(self.groups.get_group(LOBBY))
        self.groups.create_group(None, True, False, 60, 0)

    def test_not_random(self) -> None:
        """A random join does not lead into it."""
        payload = encode_join_random(JoinRandom(60, True, 0, b""))
        created, group_id = decode_created(self.ann.request(Command.GROUP_JOIN_RANDOM, payload).payload)
        self.assertTrue(created)
        self.assertNotEqual(group_id, LOBBY)


class JoinRandomTests(GroupsTestCase):
    """GROUP_JOIN_RANDOM."""

    def join_random(self, client: MemoryClient, message: bytes = b"", ttl_seconds: int = 60) -> tuple[bool, str]:
        """Join any group."""
        payload = encode_join_random(JoinRandom(ttl_seconds, False, 300, message))
        return decode_created(client.request(Command.GROUP_JOIN_RANDOM, payload).payload)

    def test_joined(self) -> None:
        """Where there is a group it is joined, and its members are told like by GROUP_JOIN."""
        group_id = self.ann.create_group()
        self.assertEqual(self.join_random(self.bob, b"hi"), (False, group_id))
        (push,) = self.ann.pushes()
        self.assertEqual((push.cmd, push.payload), (111, group_id.encode() + b"\x03bobhi"))

    def test_created(self) -> None:
        """Where there is none to join one is made as asked for, with the user in it."""
        own = self.ann.create_group()
        created, group_id = self.join_random(self.ann)
        self.assertTrue(created)
        self.assertNotEqual(group_id, own)
        group = self.groups.get_group(group_id)
        assert group is not None
        self.assertEqual((group.ttl_seconds, group.interval_ms, group.allow_empty), (60, 300, False))
        self.assertEqual([member.user_id for member in group.members], ["ann"])

    def test_ttl(self) -> None:
        """The lifetime is checked even when a group would be joined."""
        self.ann.create_group()
        payload = encode_join_random(JoinRandom(10, True, 0, b""))
        self.assertEqual(self.bob.refusal(Command.GROUP_JOIN_RANDOM, payload)[:2], (Status.BAD, 10))

    def test_malformed(self) -> None:
        """A payload that is too short is code 1."""
        self.assertEqual(self.bob.refusal(Command.GROUP_JOIN_RANDOM, bytes(6))[:2], (Status.BAD, 1))

    def test_draining(self) -> None:
        """A node that is about to stop lets users join, and makes no groups."""
        self.node.reception.is_draining = True
        payload = encode_join_random(JoinRandom(60, True, 0, b""))
        self.assertEqual(self.bob.refusal(Command.GROUP_JOIN_RANDOM, payload)[:2], (Status.ERROR, 12))


class HookTests(GroupsTestCase):
    """Hooks of the application around the group commands."""

    def set_up(self, relay: IMeshRelay) -> None:
        """One hook for each; `refuse` names the one that raises, `gates` the ones that wait."""
        self.calls: list[tuple[str, int, int, bytes, str]] = []
        self.refuse = ""
        self.gates: dict[str, Deferred[None]] = {}
        for name in ("create", "join", "leave", "broadcast"):
            for when in ("before", "after"):
                getattr(relay.groups, f"{when}_{name}")(self.hook(f"{when} {name}"))

    def hook(self, name: str) -> Any:
        """Return a hook that writes down its call."""

        async def called(ver: int, cmd: int, payload: bytes, user: User) -> None:
            self.calls.append((name, ver, cmd, payload, user.user_id))
            if name == self.refuse:
                raise ValueError(f"not {name}")
            if name in self.gates:
                await self.gates[name]

        return called

    def names(self) -> list[str]:
        """The hooks that ran since the last call."""
        names = [call[0] for call in self.calls]
        self.calls.clear()
        return names

    def test_around_each(self) -> None:
        """Each command has its own hooks, which see ver, cmd, payload and user."""
        group_id = self.ann.create_group()
        wanted = encode_new_group(NewGroup(False, True, 60, 0))
        self.assertEqual(self.calls, [(f"{when} create", 1, 110, wanted, "ann") for when in ("before", "after")])
        self.calls.clear()
        for name, act in (("join", self.bob.join), ("leave", self.bob.leave)):
            act(group_id, b"x")
            self.assertEqual(self.names(), [f"before {name}", f"after {name}"])
        self.ann.broadcast(group_id, b"x")
        self.assertEqual(self.names(), ["before broadcast", "after broadcast"])

    def test_before_refuses(self) -> None:
        """A hook that raises before a command refuses it: code 8 with its text, and nothing happens."""
        group_id = self.ann.create_group()
        payload = encode_gid_message(group_id, b"x")
        cases = {
            "create": (self.bob, Command.GROUP_CREATE, encode_new_group(NewGroup(True, True, 60, 0))),
            "join": (self.bob, Command.GROUP_JOIN, payload),
            "leave": (self.ann, Command.GROUP_LEAVE, payload),
            "broadcast": (self.ann, Command.GROUP_BROADCAST, payload),
        }
        for name, (client, cmd, body) in cases.items():
            self.refuse = f"before {name}"
            self.assertEqual(client.refusal(cmd, body), (Status.BAD, 8, f"not before {name}"))
        self.assert_counts(groups=1, group_members=1)
        self.assertEqual((self.ann.pushes(), self.bob.pushes()), ([], []))

    def test_after_refuses(self) -> None:
        """A hook that raises behind a command spoils the answer; what was done is done."""
        group_id = self.ann.create_group()
        self.refuse = "after join"
        refusal = self.bob.refusal(Command.GROUP_JOIN, encode_gid_message(group_id, b"hi"))
        self.assertEqual(refusal, (Status.BAD, 8, "not after join"))
        self.assertEqual(self.ann.messages(), [PushedMessage(group_id, "bob", b"hi")])

    def test_application_is_not_hooked(self) -> None:
        """What the application does itself runs no hooks."""
        group_id = self.groups.create_group(None, True, False, 60, 0)
        self.now(self.groups.join_group(group_id, self.user(self.ann), 2, 1, b""))
        self.assertEqual(self.names(), [])

    def join_random(self) -> None:
        """bob asks for any group."""
        self.bob.send(Command.GROUP_JOIN_RANDOM, encode_join_random(JoinRandom(60, True, 0, b"")), request_id=77)
        self.node.settle()

    def test_join_random_joins(self) -> None:
        """A random join that joins is a join to the hooks, with the group it leads to."""
        group_id = self.ann.create_group()
        self.calls.clear()
        self.join_random()
        payload = encode_gid_message(group_id, b"")
        self.assertEqual(self.calls, [(f"{when} join", 1, 111, payload, "bob") for when in ("before", "after")])

    def test_join_random_creates(self) -> None:
        """A random join that creates is a creation to the hooks."""
        self.join_random()
        payload = encode_new_group(NewGroup(True, True, 60, 0))
        self.assertEqual(self.calls, [(f"{when} create", 1, 110, payload, "bob") for when in ("before", "after")])

    def test_join_random_refused(self) -> None:
        """A hook that keeps users out of groups cannot be walked around."""
        self.ann.create_group()
        self.refuse = "before join"
        payload = encode_join_random(JoinRandom(60, True, 0, b""))
        self.assertEqual(self.bob.refusal(Command.GROUP_JOIN_RANDOM, payload)[1], 8)
        self.assertEqual(self.groups.statistics()["group_members"], 1)

    def test_join_random_group_gone(self) -> None:
        """When the picked group is gone by the time the hooks are done, another is found or made."""
        self.ann.create_group()
        self.gates["before join"] = Deferred()
        self.join_random()
        self.ann.leave(self.groups.group_ids(self.user(self.ann))[0])
        self.gates.pop("before join").callback(None)
        self.node.settle()
        answer = self.bob.answer_to(77)
        assert answer is not None
        self.assertTrue(decode_created(answer.payload)[0])

    def test_member_gone_meanwhile(self) -> None:
        """A user whose session ended while a hook took its time becomes a member of nothing."""
        group_id = self.ann.create_group(allow_empty=True)
        self.gates = {"before join": Deferred(), "before create": Deferred()}
        carl, dora = self.node.sign_in("carl"), self.node.sign_in("dora")
        self.bob.send(Command.GROUP_JOIN, encode_gid_message(group_id, b""))
        carl.send(Command.GROUP_CREATE, encode_new_group(NewGroup(False, True, 60, 0)))
        dora.send(Command.GROUP_JOIN_RANDOM, encode_join_random(JoinRandom(60, True, 0, b"")))
        for client in (self.bob, carl, dora):
            client.send(CoreCommand.GOODBYE, ver=0)
        for gate in self.gates.values():
            gate.callback(None)
        self.node.settle()
        self.assert_counts(groups=1, group_members=1)

    def test_signed_in_anew_meanwhile(self) -> None:
        """A user who came anew while a hook took its time can join like anybody else."""
        group_id = self.ann.create_group()
        self.gates["before join"] = Deferred()
        self.bob.send(Command.GROUP_JOIN, encode_gid_message(group_id, b""))
        again = self.node.sign_in("bob")
        self.gates.pop("before join").callback(None)
        self.assertEqual(again.join(group_id).status, Status.OK)
