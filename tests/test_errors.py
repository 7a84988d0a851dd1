"""The tree of errors, and the codes that clients read."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import (
    AlreadyMember,
    AuthenticationError,
    CommandError,
    ConfigError,
    ConfigProblem,
    DeliveryError,
    ErrorCode,
    FrameTooLarge,
    GroupJoinError,
    GroupLeaveError,
    GroupNewError,
    GroupNotFound,
    InternalError,
    InvalidTTL,
    LocalProtocolError,
    MalformedFrame,
    MeshRelayError,
    NodeOffline,
    NotInRoom,
    NotMember,
    PacketRejected,
    ProtocolError,
    RateLimited,
    Refused,
    RemoteProtocolError,
    RemoteTimeout,
    RoomFull,
    RoomJoinError,
    RoomLeaveError,
    RoomNewError,
    RoomNotFound,
    RoomTimeout,
    SessionClosed,
    SlowReceiver,
    TimedOut,
    TooManyGroups,
    TooManyRooms,
)
from meshrelay.model import CloseReason, Status

#: client-protocol, section 1.
CODES = {
    1: "MALFORMED_PAYLOAD", 2: "UNKNOWN_COMMAND", 3: "NOT_SIGNED_IN", 4: "RATE_LIMITED", 5: "MESSAGE_TOO_LARGE",
    6: "TIMED_OUT", 7: "INTERNAL", 8: "REFUSED", 9: "NODE_DRAINING", 10: "INVALID_TTL", 11: "EMPTY_AND_NOT_JOINED",
    12: "NODE_OFFLINE", 13: "TOO_MANY_GROUPS", 14: "TOO_MANY_ROOMS", 20: "ALREADY_MEMBER", 21: "GROUP_NOT_FOUND",
    22: "NOT_MEMBER", 23: "ROOM_FULL", 24: "NOT_IN_ROOM", 25: "ROOM_NOT_FOUND", 30: "USER_NOT_FOUND",
    31: "MESSAGE_IS_EMPTY", 32: "NODES_NOT_FOUND", 33: "USER_DECLINED", 40: "NOT_ENOUGH_MEMBERS",
    41: "LINK_GROUP_SIZE_INVALID",
}  # fmt: skip


class CodeTests(SynchronousTestCase):
    """Codes are stable: programs read them."""

    def test_published(self) -> None:
        """Every code has its published number, and none is missing."""
        self.assertEqual({code.value: code.name for code in ErrorCode}, CODES)

    def test_fault(self) -> None:
        """BAD is the caller's fault, ERROR the node's."""
        for cls in (TimedOut, InternalError, NodeOffline, RemoteTimeout):
            self.assertEqual(cls.status, Status.ERROR, cls)
        for other in (AlreadyMember, NotMember, InvalidTTL, Refused, TooManyGroups):
            self.assertEqual(other.status, Status.BAD, other)

    def test_text(self) -> None:
        """An error says what is wrong in its own words, or in the application's."""
        self.assertEqual(str(NotMember()), "not a member of the group")
        self.assertEqual(str(NotMember("never seen you")), "never seen you")
        self.assertEqual(NotMember("never seen you").text, "never seen you")

    def test_rate(self) -> None:
        """Who is too fast is told for how long to wait."""
        error = RateLimited(0.25)
        self.assertEqual(error.retry_after_seconds, 0.25)
        self.assertEqual(error.text, "rate limited: retry after 0.250 seconds")


class KindTests(SynchronousTestCase):
    """Kinds of errors, as an application tells them apart."""

    def test_kinds(self) -> None:
        """What goes wrong in creating, joining and leaving is of one kind each."""
        kinds = (GroupNewError, GroupJoinError, GroupLeaveError)
        table = {
            InvalidTTL: (True, False, False),
            NodeOffline: (True, False, False),
            AlreadyMember: (False, True, False),
            RemoteTimeout: (False, True, False),
            GroupNotFound: (False, True, True),
            NotMember: (False, False, True),
            TooManyGroups: (True, True, False),
        }
        for cls, expected in table.items():
            self.assertEqual(tuple(isinstance(cls(), kind) for kind in kinds), expected, cls)

    def test_kinds_of_rooms(self) -> None:
        """The same of rooms; what groups and rooms have in common is of both kinds."""
        kinds = (RoomNewError, RoomJoinError, RoomLeaveError)
        table = {
            InvalidTTL: (True, False, False),
            NodeOffline: (True, False, False),
            TooManyRooms: (True, True, False),
            AlreadyMember: (False, True, False),
            RoomFull: (False, True, False),
            RoomNotFound: (False, True, True),
            RoomTimeout: (False, True, True),
            NotInRoom: (False, False, True),
            GroupNotFound: (False, False, False),
        }
        for cls, expected in table.items():
            self.assertEqual(tuple(isinstance(cls(), kind) for kind in kinds), expected, cls)
        self.assertIsInstance(RoomTimeout(), TimedOut)
        self.assertEqual(RoomTimeout.status, Status.ERROR)

    def test_raised_from(self) -> None:
        """An error that was raised from one is one, however long the chain."""
        try:
            try:
                try:
                    raise NotMember
                except NotMember as error:
                    raise KeyError("inner") from error
            except KeyError as error:
                raise RuntimeError("outer") from error
        except RuntimeError as error:
            self.assertIsInstance(error, GroupLeaveError)
            self.assertNotIsInstance(error, GroupJoinError)

    def test_not_by_context(self) -> None:
        """An error that merely happened while another was handled is none."""
        try:
            try:
                raise NotMember
            except NotMember:
                raise RuntimeError("by the way")  # noqa: B904
        except RuntimeError as error:
            self.assertNotIsInstance(error, GroupLeaveError)

    def test_circle(self) -> None:
        """A chain that bites its tail comes to an end."""
        first, second = RuntimeError("1"), RuntimeError("2")
        first.__cause__, second.__cause__ = second, first
        self.assertNotIsInstance(first, GroupJoinError)

    def test_except(self) -> None:
        """An except clause catches by the class alone, as Python does."""
        wrapped = RuntimeError()
        wrapped.__cause__ = NotMember()
        with self.assertRaises(RuntimeError):
            try:
                raise wrapped
            except GroupLeaveError:
                self.fail("caught")

    def test_not_an_error(self) -> None:
        """What is no exception is no error."""
        self.assertNotIsInstance("NotMember", GroupLeaveError)

    def test_remote_timeout(self) -> None:
        """A group's node that does not answer is a timeout and an error of joining."""
        error = RemoteTimeout()
        self.assertIsInstance(error, TimedOut)
        self.assertEqual((error.code, error.status), (ErrorCode.TIMED_OUT, Status.ERROR))

    def test_one_root(self) -> None:
        """Everything that this package raises can be caught at once."""
        for cls in (CommandError, ProtocolError, ConfigError, AuthenticationError, DeliveryError, PacketRejected):
            self.assertTrue(issubclass(cls, MeshRelayError), cls)


class ProtocolErrorTests(SynchronousTestCase):
    """What closes a connection."""

    def test_reasons(self) -> None:
        """Each says with which reason the connection is closed."""
        self.assertIs(MalformedFrame("cut off").close_reason, CloseReason.PROTOCOL_ERROR)
        self.assertIs(RemoteProtocolError("odd").close_reason, CloseReason.PROTOCOL_ERROR)
        self.assertIs(FrameTooLarge(2, 1).close_reason, CloseReason.FRAME_TOO_LARGE)
        self.assertNotIsInstance(LocalProtocolError("ours"), RemoteProtocolError)

    def test_facts(self) -> None:
        """Facts are attributes; the text is made of them."""
        error = FrameTooLarge(70_000, 65_536)
        self.assertEqual((error.size_bytes, error.limit_bytes), (70_000, 65_536))
        self.assertEqual(str(error), "payload of 70000 bytes is over max_payload_bytes 65536")
        self.assertEqual(MalformedFrame("cut off").problem, "cut off")
        self.assertEqual(PacketRejected("short").reason, "short")
        self.assertEqual(AuthenticationError("expired").detail, "expired")

    def test_delivery(self) -> None:
        """A push that could not be handed over says why."""
        slow = SlowReceiver(2000, 1000)
        self.assertEqual((slow.queued_bytes, slow.limit_bytes), (2000, 1000))
        self.assertEqual(str(slow), "2000 bytes queued, outbox_bytes is 1000")
        self.assertIsInstance(SessionClosed(), DeliveryError)


class ConfigErrorTests(SynchronousTestCase):
    """What is wrong in a configuration."""

    def test_all_at_once(self) -> None:
        """Every problem is on a line of its own, with its key."""
        problems = [ConfigProblem("session.outbox_bytes", "must be a whole number"), ConfigProblem("", "is empty")]
        error = ConfigError(problems)
        self.assertEqual(str(error), "session.outbox_bytes: must be a whole number\nis empty")
        self.assertEqual(error.problems, problems)
        self.assertEqual(repr(problems[1]), "ConfigProblem('', 'is empty')")
