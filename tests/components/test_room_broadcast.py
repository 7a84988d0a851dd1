"""ROOM_BROADCAST, many at a time."""

from __future__ import annotations

from meshrelay.errors import ErrorCode
from meshrelay.interfaces import IMeshRelay
from meshrelay.model import Status, User
from meshrelay.wire.commands import Command, decode_error, encode_gid_message
from meshrelay.wire.frame import Frame
from tests.components.room_kit import RoomTestCase, Told


class RoomBroadcastTests(RoomTestCase):
    """Bob of node b in a room of node a and in one of node b."""

    node_ids = ("a", "b")

    def setUp(self) -> None:
        """Ann is in both."""
        super().setUp()
        [self.ann], [self.bob] = self.sign_in("ann"), self.sign_in("bob", node_id="b")
        self.far, self.near = self.create(self.ann), self.create(self.bob)
        self.join(self.bob, self.far)
        self.join(self.ann, self.near)
        self.quiet(self.ann, self.bob)

    def answers(self, *payloads: bytes) -> list[tuple[int, int]]:
        """Send all at once; return status and code of each answer."""
        ids = [self.bob.ask(Command.ROOM_BROADCAST, payload) for payload in payloads]
        self.cluster.run(0.2)
        answers: list[Frame | None] = [self.bob.answer_to(request_id) for request_id in ids]
        return [
            (each.status, 0 if each.status == Status.OK else decode_error(each.payload)[0])
            for each in answers
            if each is not None
        ]

    def to(self, room_id: str, message: bytes) -> bytes:
        """The payload of a broadcast."""
        return encode_gid_message(room_id, message)

    def test_mixed(self) -> None:
        """Rooms of both nodes, wrong ones and none, in one go: each is answered, and order stays in each room."""
        answers = self.answers(
            self.to(self.far, b"1"),
            self.to(self.far, b"2"),
            self.to(self.near, b"3"),
            b"short",
            self.to("x" * 52, b"4"),
            b"\xff" * 60,
            self.to(self.far, b"5"),
            self.to(self.near, bytes(4096)),
            self.to(self.near, b""),
        )
        bad = [(Status.BAD, code) for code in (1, ErrorCode.ROOM_NOT_FOUND, 1)]
        expected = [(1, 0)] * 3 + bad + [(1, 0), (Status.BAD, ErrorCode.MESSAGE_TOO_LARGE), (1, 0)]
        self.assertEqual(answers, expected)
        heard = self.heard(self.ann)
        self.assertCountEqual(heard, [Told("said", "bob", each) for each in (b"1", b"2", b"3", b"5", b"")])
        self.assertEqual([each.message for each in heard if each.message in (b"1", b"2", b"5")], [b"1", b"2", b"5"])

    def test_longest(self) -> None:
        """The longest message is the one whose push a client takes."""
        limit = 4096 - 53 - 3
        payloads = [self.to(self.far, bytes(size)) for size in (limit, limit + 1)]
        self.assertEqual(self.answers(*payloads), [(1, 0), (4, 5)])

    def test_not_in(self) -> None:
        """Who is in the room no more is refused by the home, near and far, each message of a run."""
        self.leave(self.bob, self.far)
        self.leave(self.bob, self.near)
        payloads = [self.to(room_id, b"x") for room_id in (self.far, self.near) for _ in range(2)]
        self.assertEqual(self.answers(*payloads), [(4, 24)] * 4)
        self.assertEqual([each.what for each in self.heard(self.ann)], ["left", "left", "owner"])

    def test_newer_session(self) -> None:
        """A user who has signed in anew is not in the room, also while its node still has the older session in it."""
        bob = self.cluster["a"].sign_in("bob")
        self.assertEqual(bob.refusal(Command.ROOM_BROADCAST, self.to(self.far, b"x"))[1], ErrorCode.NOT_IN_ROOM)

    def test_leave_behind(self) -> None:
        """What a client sends before it leaves is said, what it sends after is not, without waiting for any answer."""
        for cmd, message in ((103, b"1"), (102, b"bye"), (103, b"2")):
            self.bob.ask(cmd, self.to(self.far, message))
        self.assertEqual(self.heard(self.ann), [Told("said", "bob", b"1"), Told("left", "bob", b"bye")])


class HookTests(RoomTestCase):
    """Applications that look at each message."""

    node_ids = ("a", "b")

    def set_up(self, relay: IMeshRelay) -> None:
        """Refuse what is rude."""

        def look(ver: int, cmd: int, payload: bytes, user: User) -> None:
            if payload.endswith(b"rude"):
                raise ValueError("be polite")

        relay.rooms.before_broadcast(look)

    def test_hook(self) -> None:
        """A hook sees each message by itself, and what it refuses is not said; the rest is, in order."""
        [ann], [bob] = self.sign_in("ann"), self.sign_in("bob", node_id="b")
        den = self.create(ann)
        self.join(bob, den)
        self.quiet(ann)
        for sender, other in ((bob, ann), (ann, bob)):
            messages = (b"1", b"rude", b"2", b"3")
            ids = [sender.ask(Command.ROOM_BROADCAST, encode_gid_message(den, each)) for each in messages]
            self.cluster.run(0.3)
            answers = [sender.answer_to(request_id) for request_id in ids]
            self.assertEqual([each.status for each in answers if each is not None], [1, 4, 1, 1])
            self.assertEqual([each.message for each in self.heard(other)], [b"1", b"2", b"3"])
        self.assertEqual(self.code(bob, Command.ROOM_BROADCAST, den, bytes(5000)), 5)
        self.assertEqual(self.code(bob, Command.ROOM_BROADCAST, "x" * 52), 25)
