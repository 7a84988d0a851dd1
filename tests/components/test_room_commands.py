"""The room commands of clients: payloads, limits, hooks."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.config.schema import Config, GroupConfig
from meshrelay.errors import ErrorCode, Refused
from meshrelay.interfaces import IMeshRelay
from meshrelay.model import Status, User
from meshrelay.testing.node import make_node
from meshrelay.wire.commands import Command, encode_gid_message
from meshrelay.wire.room_commands import NewRoom, encode_new_room
from tests.components.room_kit import RoomTestCase, Told


class PayloadTests(RoomTestCase):
    """What cannot be."""

    node_ids = ("a",)

    def test_create(self) -> None:
        """Each wrong setting has its code."""
        [ann] = self.sign_in("ann")
        for wanted, code in (
            (NewRoom(0, False, True, 10, 0), ErrorCode.INVALID_TTL),
            (NewRoom(0, False, False, 11, 0), ErrorCode.EMPTY_AND_NOT_JOINED),
            (NewRoom(1001, True, True, 11, 0), ErrorCode.MALFORMED_PAYLOAD),
        ):
            self.assertEqual(ann.refusal(Command.ROOM_CREATE, encode_new_room(wanted))[:2], (Status.BAD, code))
        for payload in (b"", encode_new_room(NewRoom(0, True, True, 11, 0)) + b"x", b"\0\0\4\0\0\0\x0b\0\0"):
            self.assertEqual(ann.refusal(Command.ROOM_CREATE, payload)[:2], (Status.BAD, 1))

    def test_malformed(self) -> None:
        """A room ID is 52 ASCII bytes; ROOM_MEMBERS takes nothing behind it."""
        [ann] = self.sign_in("ann")
        for cmd in (Command.ROOM_JOIN, Command.ROOM_LEAVE, Command.ROOM_BROADCAST, Command.ROOM_MEMBERS):
            for payload in (b"", b"x" * 51, b"\xff" * 52):
                self.assertEqual(ann.refusal(cmd, payload)[:2], (Status.BAD, 1))
        self.assertEqual(ann.refusal(Command.ROOM_MEMBERS, b"x" * 53)[:2], (Status.BAD, 1))

    def test_pushes_only(self) -> None:
        """ROOM_OWNER and ROOM_LOST are the node's to say."""
        [ann] = self.sign_in("ann")
        for cmd in (Command.ROOM_OWNER, Command.ROOM_LOST):
            self.assertEqual(ann.refusal(cmd, b"x" * 52)[:2], (Status.BAD, ErrorCode.UNKNOWN_COMMAND))

    def test_longest(self) -> None:
        """What a client says on joining must fit a push; if not, it is not in."""
        ann, bob = self.sign_in("ann", "bob")
        den = self.create(ann)
        limit = 4096 - 53 - 3
        self.assertEqual(self.code(bob, Command.ROOM_JOIN, den, bytes(limit + 1)), ErrorCode.MESSAGE_TOO_LARGE)
        self.join(bob, den, bytes(limit))
        self.assertEqual(self.heard(ann), [Told("joined", "bob", bytes(limit))])
        self.assertEqual(self.code(bob, Command.ROOM_LEAVE, den, bytes(limit + 1)), ErrorCode.MESSAGE_TOO_LARGE)


class HookTests(RoomTestCase):
    """What the application runs before and after."""

    def set_up(self, relay: IMeshRelay) -> None:
        """Note all, refuse what eve does."""
        self.seen: list[str] = getattr(self, "seen", [])

        def hook(when: str) -> object:
            async def look(ver: int, cmd: int, payload: bytes, user: User) -> None:
                self.seen.append(f"{when} {Command(cmd).name} {user.user_id}")
                if user.user_id == "eve" and when == "before":
                    raise Refused("not you")

            return look

        rooms = relay.rooms
        for add, when in (
            (rooms.before_create, "before"),
            (rooms.after_create, "after"),
            (rooms.before_join, "before"),
            (rooms.after_join, "after"),
            (rooms.before_leave, "before"),
            (rooms.after_leave, "after"),
            (rooms.before_broadcast, "before"),
            (rooms.after_broadcast, "after"),
        ):
            add(hook(when))

    def test_order(self) -> None:
        """Each command has its hooks, at the node of the client, wherever the room is."""
        [ann], [bob] = self.sign_in("ann"), self.sign_in("bob", node_id="b")
        den = self.create(ann)
        self.join(bob, den)
        self.ask(bob, Command.ROOM_BROADCAST, den, b"hi")
        self.leave(bob, den)
        expected = [("ROOM_CREATE", "ann"), ("ROOM_JOIN", "bob"), ("ROOM_BROADCAST", "bob"), ("ROOM_LEAVE", "bob")]
        both = [f"{when} {name} {user}" for name, user in expected for when in ("before", "after")]
        self.assertEqual(self.seen, both)

    def test_refused(self) -> None:
        """What a hook refuses does not happen: code 8 with its text."""
        [ann], [eve] = self.sign_in("ann"), self.sign_in("eve", node_id="b")
        den = self.create(ann)
        self.assertEqual(self.code(eve, Command.ROOM_JOIN, den, b"hi"), ErrorCode.REFUSED)
        self.assertEqual(self.members(ann, den).members, ["ann"])

    def test_too_late(self) -> None:
        """Hooks are registered before clients can come."""
        self.assertRaises(RuntimeError, self.rooms().before_join, lambda *_: None)
        self.assertRaises(RuntimeError, self.rooms().before_broadcast, lambda *_: None)
        self.assertRaises(RuntimeError, self.rooms().expose_commands)


class HiddenTests(SynchronousTestCase):
    """A node whose application keeps rooms to itself."""

    def test_hidden(self) -> None:
        """Commands that are not exposed are unknown."""
        node = make_node(Config(group=GroupConfig(expose_commands=False)))
        self.assertEqual(node.rooms.command_table(), {})
        ann = node.sign_in("ann")
        refusal = ann.refusal(Command.ROOM_JOIN, encode_gid_message("x" * 52, b""))
        self.assertEqual(refusal[1], ErrorCode.UNKNOWN_COMMAND)
