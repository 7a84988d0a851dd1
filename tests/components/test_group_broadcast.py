"""GROUP_BROADCAST, many at a time."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.components.push_runs import MAX_RUN_BYTES
from meshrelay.config.schema import Config, SessionConfig
from meshrelay.errors import ErrorCode
from meshrelay.interfaces import IMeshRelay
from meshrelay.model import Status, User
from meshrelay.testing.node import MemoryNode, make_node
from meshrelay.wire.commands import Command, decode_error, encode_gid_message
from meshrelay.wire.frame import FrameRun

MAX_PAYLOAD = 1000


class RunTests(SynchronousTestCase):
    """Ann and bob in two groups; what ann says comes in one read."""

    def setUp(self) -> None:
        """A payload of 1,000 bytes is the longest."""
        self.hooked: list[bytes] = []
        self.set_up(make_node(Config(session=SessionConfig(max_payload_bytes=MAX_PAYLOAD))))

    def set_up(self, node: MemoryNode) -> None:
        """Sign in."""
        self.node = node
        self.ann, self.bob, self.carl = (node.sign_in(name) for name in ("ann", "bob", "carl"))
        self.lobby, self.game, self.closed = (self.ann.create_group() for _ in range(3))
        self.bob.join(self.lobby)
        self.bob.join(self.game)
        self.elsewhere = self.carl.create_group()
        self.ann.link.received.clear()
        self.bob.link.received.clear()

    def say(self, *payloads: bytes, status: int = 0, first_id: int = 1) -> list[tuple[int, int]]:
        """Let ann broadcast these in one read; return request ID and status, or code, of each answer."""
        ids = list(range(first_id, first_id + len(payloads))) if first_id else [0] * len(payloads)
        self.ann.connection.run_received(FrameRun(1, status, Command.GROUP_BROADCAST, ids, list(payloads)))
        self.ann.connection.read_ended()
        self.node.settle()
        answers = self.ann.link.received[:]
        self.ann.link.received.clear()
        return [
            (frame.request_id, frame.status if frame.status == Status.OK else decode_error(frame.payload)[0])
            for frame in answers
        ]

    def heard(self) -> list[tuple[str, str, bytes]]:
        """What bob was pushed: group, sender, message."""
        return [(message.group_id, message.user_id, message.message) for message in self.bob.messages()]

    def test_in_order(self) -> None:
        """Messages of any length, to one group and another, arrive in order with their sender, and are answered."""
        said = [
            (self.lobby, b"a"),
            (self.lobby, b""),
            (self.lobby, b"long" * 50),
            (self.game, b"b"),
            (self.lobby, b"c"),
            (self.lobby, b"d"),
        ]
        answers = self.say(*[encode_gid_message(group_id, message) for group_id, message in said])
        self.assertEqual(answers, [(number, Status.OK) for number in range(1, 7)])
        by_group = [[entry for entry in said if entry[0] == group_id] for group_id in (self.lobby, self.game)]
        heard = self.heard()
        for wanted in by_group:
            got = [(group_id, message) for group_id, _, message in heard if group_id == wanted[0][0]]
            self.assertEqual(got, wanted)
        self.assertEqual({user_id for _, user_id, _ in heard}, {"ann"})

    def test_without_answers(self) -> None:
        """Request ID 0 wants no answer."""
        self.assertEqual(self.say(*[encode_gid_message(self.lobby, b"x")] * 3, first_id=0), [])
        self.assertEqual(len(self.heard()), 3)

    def test_bad_among_good(self) -> None:
        """One that cannot be sent is refused by itself; those around it are sent."""
        payloads = [
            encode_gid_message(self.lobby, b"1"),
            b"too short",
            encode_gid_message(self.lobby, b"2"),
            encode_gid_message("z" * 52, b"no such group"),
            encode_gid_message(self.elsewhere, b"not a member"),
            encode_gid_message(self.lobby, bytes(MAX_PAYLOAD - 52)),
            encode_gid_message(self.lobby, b"3"),
        ]
        codes = [
            Status.OK,
            ErrorCode.MALFORMED_PAYLOAD,
            Status.OK,
            ErrorCode.GROUP_NOT_FOUND,
            ErrorCode.NOT_MEMBER,
            ErrorCode.MESSAGE_TOO_LARGE,
            Status.OK,
        ]
        self.assertEqual(self.say(*payloads), list(enumerate(codes, 1)))
        self.assertEqual([message for _, _, message in self.heard()], [b"1", b"2", b"3"])

    def test_longest(self) -> None:
        """The longest message that a client can take goes through among others, and not one byte more."""
        longest = MAX_PAYLOAD - 52 - len(b"\x03ann")
        payloads = [encode_gid_message(self.lobby, bytes(size)) for size in (1, longest, longest + 1, 2)]
        self.assertEqual([code for _, code in self.say(*payloads)], [1, 1, ErrorCode.MESSAGE_TOO_LARGE, 1])
        self.assertEqual([len(message) for _, _, message in self.heard()], [1, longest, 2])

    def test_more_than_a_run(self) -> None:
        """More than is joined in one piece arrives whole as well."""
        count = 3 * MAX_RUN_BYTES // 900
        self.say(*[encode_gid_message(self.lobby, b"%d" % number + bytes(800)) for number in range(count)])
        numbers = [int(message.rstrip(b"\0")) for _, _, message in self.heard()]
        self.assertEqual(numbers, list(range(count)))

    def test_unreliable_while_away(self) -> None:
        """What is sent unreliably is not kept for a member who is away; what is sent reliably is."""
        sid = self.bob.sid
        self.bob.lose()
        self.say(encode_gid_message(self.lobby, b"lost"))
        self.say(encode_gid_message(self.lobby, b"kept"), status=1)
        bob = self.node.sign_in("bob", resume=sid)
        self.assertEqual([message.message for message in bob.messages() if message.message], [b"kept"])

    def test_hooks(self) -> None:
        """A hook sees each of them, and refuses one without the others."""

        def hook(ver: int, cmd: int, payload: bytes, user: User) -> None:
            self.hooked.append(payload[52:])
            if payload.endswith(b"rude"):
                raise ValueError("be nice")

        def set_up(relay: IMeshRelay) -> None:
            relay.groups.before_broadcast(hook)

        self.set_up(make_node(Config(), set_up))
        answers = self.say(*[encode_gid_message(self.lobby, word) for word in (b"hello", b"rude", b"bye")])
        self.assertEqual(answers, [(1, Status.OK), (2, ErrorCode.REFUSED), (3, Status.OK)])
        self.assertEqual(self.hooked, [b"hello", b"rude", b"bye"])
        self.assertEqual([message for _, _, message in self.heard()], [b"hello", b"bye"])
