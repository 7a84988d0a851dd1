"""The group commands of clients, where more than one node has a part in them."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.config.schema import Config, GroupConfig, SessionConfig
from meshrelay.errors import AlreadyMember, ErrorCode, GroupNotFound, InvalidTTL, MessageTooLarge
from meshrelay.interfaces import IMeshRelay
from meshrelay.model import Status, User
from meshrelay.testing.memory_groups import GroupCluster
from meshrelay.wire.commands import (
    Command,
    JoinRandom,
    decode_error,
    encode_gid_message,
    encode_join_random,
)
from meshrelay.wire.frame import Frame
from tests.components.group_stranger import Stranger, group_of

RANDOM = JoinRandom(60, False, 0, b"hello")


class CommandTestCase(SynchronousTestCase):
    """Node a with ann in a group, and bob on node b."""

    config = Config(group=GroupConfig(send_interval_ms=0), session=SessionConfig(max_payload_bytes=1000))

    def setUp(self) -> None:
        """Nobody but ann is in it."""
        self.cluster = GroupCluster(["a", "b"], self.config, self.set_up)
        self.ann = self.cluster["a"].sign_in("ann")
        self.bob = self.cluster["b"].sign_in("bob")
        self.lobby = self.ann.create_group()

    def set_up(self, relay: IMeshRelay) -> None:
        """The application of each node; none here."""

    def join_random(self) -> Frame:
        """Let bob join at random."""
        return self.cluster.request(self.bob, Command.GROUP_JOIN_RANDOM, encode_join_random(RANDOM))

    def code(self, answer: Frame) -> int:
        """The code of a refusal."""
        self.assertNotEqual(answer.status, Status.OK)
        return decode_error(answer.payload)[0]

    def told(self) -> list[bytes]:
        """The messages that came to ann since the last call."""
        return [pushed.message for pushed in self.ann.messages()]


class JoinTests(CommandTestCase):
    """GROUP_JOIN, GROUP_LEAVE, GROUP_BROADCAST and GROUP_LIST."""

    def test_join(self) -> None:
        """A group of another node is joined and left like one of this node."""
        self.assertEqual(self.cluster.join(self.bob, self.lobby, b"hi").status, Status.OK)
        self.assertEqual(self.bob.request(Command.GROUP_LIST).payload, self.lobby.encode())
        self.assertEqual(self.code(self.cluster.join(self.bob, self.lobby)), AlreadyMember.code)
        self.bob.broadcast(self.lobby, b"here")
        self.cluster.run(0.05)
        self.bob.leave(self.lobby, b"bye")
        self.cluster.run(0.05)
        self.assertEqual(self.told(), [b"hi", b"here", b"bye"])
        self.assertEqual(self.bob.request(Command.GROUP_LIST).payload, b"")

    def test_not_joined(self) -> None:
        """Who is in no group on this node cannot broadcast in it or leave it, wherever it is."""
        payload = encode_gid_message(self.lobby, b"x")
        for cmd in (Command.GROUP_BROADCAST, Command.GROUP_LEAVE):
            self.assertEqual(self.bob.refusal(cmd, payload)[1], GroupNotFound.code)

    def test_too_large(self) -> None:
        """A message that no client could take is refused before another node is asked."""
        payload = encode_gid_message(self.lobby, bytes(1000 - 52))
        _, code, text = self.bob.refusal(Command.GROUP_JOIN, payload)
        self.assertEqual((code, "in a group" in text), (MessageTooLarge.code, True))
        self.assertEqual(self.cluster["b"].groups.statistics()["group_entries"], 0)

    def test_garbage(self) -> None:
        """A payload that cannot be read is refused at once."""
        for cmd in (Command.GROUP_JOIN, Command.GROUP_JOIN_RANDOM, Command.GROUP_BROADCAST, Command.GROUP_CREATE):
            self.assertEqual(self.bob.refusal(cmd, b"short")[1], ErrorCode.MALFORMED_PAYLOAD)
        self.assertEqual(self.bob.refusal(Command.GROUP_LIST, b"x")[1], ErrorCode.MALFORMED_PAYLOAD)

    def test_silent_node(self) -> None:
        """A node that does not answer is its fault, not the client's: it may try again."""
        Stranger(self.cluster, "x")
        self.cluster.links.linked()
        answer = self.cluster.join(self.bob, group_of("x"))
        self.assertEqual((answer.status, self.code(answer)), (Status.ERROR, ErrorCode.TIMED_OUT))


class RandomTests(CommandTestCase):
    """GROUP_JOIN_RANDOM."""

    def test_elsewhere(self) -> None:
        """A group of another node is as good as one of this node."""
        self.assertEqual(self.join_random().payload, b"\0" + self.lobby.encode())
        self.cluster.run(0.05)
        self.assertEqual(self.told(), [b"hello"])

    def test_member_already(self) -> None:
        """Who is in the only group there is gets a new one."""
        self.cluster.join(self.bob, self.lobby)
        payload = self.join_random().payload
        self.assertEqual((payload[:1], payload[1:] == self.lobby.encode()), (b"\1", False))

    def test_own_first(self) -> None:
        """A group of this node is taken before others are asked."""
        own = self.cluster["b"].sign_in("cid").create_group()
        self.assertEqual(self.join_random().payload, b"\0" + own.encode())

    def test_ttl(self) -> None:
        """What a new group could not have is refused, also where none would be made."""
        payload = encode_join_random(RANDOM._replace(ttl_seconds=10))
        self.assertEqual(self.bob.refusal(Command.GROUP_JOIN_RANDOM, payload)[1], InvalidTTL.code)

    def test_gone_meanwhile(self) -> None:
        """When the group that was picked is gone before it is entered a new one is made."""
        self.ann.leave(self.lobby)
        stranger = Stranger(self.cluster, "0")
        stranger.answer_calls("group.pick", group_of("nobody").encode())
        self.cluster.links.linked()
        self.assertEqual(self.join_random().payload[:1], b"\1")

    def test_nonsense(self) -> None:
        """A node that picks what is no group costs nobody the join."""
        self.ann.leave(self.lobby)
        stranger = Stranger(self.cluster, "0")
        stranger.answer_calls("group.pick", b"\xff\xff")
        self.cluster.links.linked()
        self.assertEqual(self.join_random().payload[:1], b"\1")

    def test_unreachable(self) -> None:
        """Nobody waits for nodes that cannot be reached."""
        self.cluster.links.mesh.part("a", "b")
        self.assertEqual(self.join_random().payload[:1], b"\1")


class HookTests(CommandTestCase):
    """GROUP_JOIN_RANDOM where the application wants to be asked, and takes its time."""

    def set_up(self, relay: IMeshRelay) -> None:
        """Keep what hooks are called with; they go on when a test says so."""
        self.waiting: list[Deferred[None]] = []
        self.seen: list[tuple[str, int, bytes]] = []

        async def before(ver: int, cmd: int, payload: bytes, user: User) -> None:
            self.seen.append(("before", cmd, payload))
            self.waiting.append(Deferred())
            await self.waiting[-1]

        def after(ver: int, cmd: int, payload: bytes, user: User) -> None:
            self.seen.append(("after", cmd, payload))

        relay.groups.before_join(before)
        relay.groups.after_join(after)

    def start(self) -> int:
        """Let bob ask; the hook waits."""
        request_id = self.bob.ask(Command.GROUP_JOIN_RANDOM, encode_join_random(RANDOM))
        self.cluster.run(1)
        self.assertEqual(len(self.waiting), 1)
        return request_id

    def test_elsewhere(self) -> None:
        """A group of another node is joined however long the hooks take, and seen by them as a GROUP_JOIN."""
        request_id = self.start()
        self.waiting.pop().callback(None)
        self.cluster.run(0.2)
        answer = self.bob.answer_to(request_id)
        assert answer is not None
        self.assertEqual(answer.payload, b"\0" + self.lobby.encode())
        payload = encode_gid_message(self.lobby, b"hello")
        self.assertEqual(self.seen, [(when, Command.GROUP_JOIN, payload) for when in ("before", "after")])
        self.assertEqual(self.told(), [b"hello"])

    def test_refused(self) -> None:
        """A hook that says no is heard, and nothing is left of the attempt on either node."""
        request_id = self.start()
        self.waiting.pop().errback(ValueError("not you"))
        self.cluster.run(0.2)
        answer = self.bob.answer_to(request_id)
        assert answer is not None
        self.assertEqual(decode_error(answer.payload), (ErrorCode.REFUSED, "not you"))
        self.assertEqual(self.cluster["b"].groups.statistics()["groups"], 0)
        self.assertEqual(len(self.cluster["a"].groups.member_nodes(self.lobby)), 1)

    def test_gone_meanwhile(self) -> None:
        """A group that is gone when the hooks are done is not joined; a new one is made."""
        request_id = self.start()
        self.ann.leave(self.lobby)
        self.cluster.run(0.1)
        self.waiting.pop().callback(None)
        self.cluster.run(0.2)
        answer = self.bob.answer_to(request_id)
        assert answer is not None
        self.assertEqual(answer.payload[:1], b"\1")

    def test_joined_meanwhile(self) -> None:
        """Who has joined the picked group in the meantime is not in it twice."""
        request_id = self.start()
        bob = self.cluster["b"].registry.find_user("bob")
        assert bob is not None
        joined = Deferred.fromCoroutine(self.cluster["b"].groups.join_group(self.lobby, bob.user, 2, 1, b""))
        self.cluster.run(0.2)
        self.successResultOf(joined)
        self.waiting.pop().callback(None)
        self.cluster.run(0.2)
        answer = self.bob.answer_to(request_id)
        assert answer is not None
        self.assertEqual(answer.payload[:1], b"\1")


class PickTests(CommandTestCase):
    """What the random pick of another node is asked for."""

    def test_tries(self) -> None:
        """Only remote_join_tries nodes are asked."""
        for name in ("00", "01", "02", "03"):
            Stranger(self.cluster, name).answer_calls("group.pick", b"")
        self.cluster.links.linked()
        self.assertEqual(self.join_random().payload[:1], b"\1")

    def test_failing_node(self) -> None:
        """A node that cannot answer is passed over."""
        Stranger(self.cluster, "0")
        self.cluster.links.linked()
        self.assertEqual(self.join_random().payload, b"\0" + self.lobby.encode())
