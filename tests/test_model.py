"""The values that every layer holds."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.model import (
    PROTOCOL_VERSION,
    CloseReason,
    Group,
    Member,
    Room,
    RoomMember,
    Status,
    User,
    check_user_id,
)

#: client-protocol, section 2; 4004 is an addition.
CLOSE_CODES = {
    4000: "DRAINING", 4001: "IDLE", 4002: "SLOW_CONSUMER", 4003: "INTERNAL", 4004: "MOVED", 4500: "REPLACED",
    4501: "BAD_TOKEN", 4502: "PROTOCOL_ERROR", 4503: "FRAME_TOO_LARGE", 4504: "KICKED", 4505: "HELLO_TIMEOUT",
    4506: "RATE_LIMITED",
}  # fmt: skip


class CloseReasonTests(SynchronousTestCase):
    """Why a connection was closed."""

    def test_codes(self) -> None:
        """Every reason has its published code."""
        self.assertEqual({reason.code: reason.name for reason in CloseReason}, CLOSE_CODES)

    def test_retryable(self) -> None:
        """4000 to 4499 say come back, 4500 to 4999 stay away."""
        self.assertEqual(
            [reason.name for reason in CloseReason if reason.is_retryable],
            ["DRAINING", "IDLE", "SLOW_CONSUMER", "INTERNAL", "MOVED"],
        )

    def test_texts(self) -> None:
        """Every text says something, and fits a WebSocket close frame with the code."""
        for reason in CloseReason:
            self.assertTrue(1 <= len(reason.text.encode()) <= 123, reason)


class StatusTests(SynchronousTestCase):
    """Byte 1 of a frame."""

    def test_numbers(self) -> None:
        """The published numbers."""
        self.assertEqual([status.value for status in Status], [0, 1, 4, 5, 255])
        self.assertEqual(PROTOCOL_VERSION, 1)


class UserIdTests(SynchronousTestCase):
    """User IDs."""

    def test_taken(self) -> None:
        """1 to 128 bytes of UTF-8, of any kind."""
        for user_id in ("a", "é" * 64, "x" * 128, " ", "\x00"):
            self.assertEqual(check_user_id(user_id), user_id)

    def test_refused(self) -> None:
        """Nothing, too much, and what UTF-8 cannot say are refused in words fit for the user."""
        for user_id, text in {
            "": "user ID has 0 bytes, allowed are 1 to 128",
            "é" * 65: "user ID has 130 bytes, allowed are 1 to 128",
            "\ud800": "user ID is not valid UTF-8",
        }.items():
            self.assertEqual(str(self.assertRaises(ValueError, check_user_id, user_id)), text)


class ValueTests(SynchronousTestCase):
    """Users, members and groups are values."""

    def test_user(self) -> None:
        """Two views of one sign-in are equal whatever the claims, which no log shows."""
        user = User("ann", "0" * 32, "tcp", {"secret": "x"})
        self.assertEqual(user, User("ann", "0" * 32, "tcp"))
        self.assertEqual(hash(user), hash(User("ann", "0" * 32, "tcp")))
        self.assertNotIn("secret", repr(user))

    def test_room_owner(self) -> None:
        """The owner of a room is its first member; an empty one has none."""
        members = (RoomMember("ann", "0" * 32, "n1"), RoomMember("bob", "1" * 32, "n2"))
        self.assertEqual(Room("r" * 52, 8, False, 60, 0, members).owner, "ann")
        self.assertIsNone(Room("r" * 52, 8, True, 60, 0, ()).owner)

    def test_frozen(self) -> None:
        """A snapshot does not change."""
        group = Group("g" * 52, True, False, 60, 0, (), (Member("ann", "0" * 32, "node-1"),))
        self.assertRaises(FrozenInstanceError, setattr, group, "ttl_seconds", 1)
        self.assertRaises(FrozenInstanceError, setattr, group.members[0], "user_id", "bob")
