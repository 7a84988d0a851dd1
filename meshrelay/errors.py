"""The one tree of errors: whose fault it is, and what to tell them.

Each layer catches its own kind in one place: a transport adapter catches `RemoteProtocolError` and closes with
its reason, `session.dispatch` catches `CommandError` and answers with its code, `tap` catches `ConfigError` and
prints it. An attribute carries each fact; the text is built here from the attributes and never parsed.
"""

from __future__ import annotations

from enum import IntEnum, unique

from meshrelay.model import CloseReason, Status

__all__ = [
    "AlreadyMember",
    "AuthenticationError",
    "CommandError",
    "ConfigError",
    "ConfigProblem",
    "DeliveryError",
    "DirectMessageError",
    "EmptyAndNotJoined",
    "ErrorCode",
    "FrameTooLarge",
    "GroupJoinError",
    "GroupLeaveError",
    "GroupNewError",
    "GroupNotFound",
    "InternalError",
    "InvalidTTL",
    "LinkGroupSizeInvalid",
    "LocalProtocolError",
    "MalformedFrame",
    "MalformedPayload",
    "MeshError",
    "MeshRelayError",
    "MessageIsEmpty",
    "MessageTooLarge",
    "NodeDraining",
    "NodeOffline",
    "NodesNotFound",
    "NotEnoughMembers",
    "NotInRoom",
    "NotMember",
    "NotSignedIn",
    "PacketRejected",
    "ProtocolError",
    "RateLimited",
    "Refused",
    "ReliableTimeout",
    "RemoteProtocolError",
    "RemoteTimeout",
    "RoomFull",
    "RoomJoinError",
    "RoomLeaveError",
    "RoomNewError",
    "RoomNotFound",
    "RoomTimeout",
    "SessionClosed",
    "SlowReceiver",
    "TimedOut",
    "TooManyGroups",
    "TooManyRooms",
    "UnknownCommand",
    "UserDeclined",
    "UserNotFound",
]


class MeshRelayError(Exception):
    """Every error of this package."""


class ConfigProblem:
    """One thing that is wrong in the configuration.

    :param path: the key, dotted: ``session.outbox_bytes``; empty when the whole file is meant.
    :param problem: a short sentence that names the limit or the hint.
    """

    __slots__ = ("path", "problem")

    def __init__(self, path: str, problem: str) -> None:
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}" if self.path else self.problem

    def __repr__(self) -> str:
        return f"ConfigProblem({self.path!r}, {self.problem!r})"


class ConfigError(MeshRelayError):
    """The configuration cannot be used. Start-up only, printed without a traceback.

    :param problems: all of them, in the order of the file; at least one.
    """

    def __init__(self, problems: list[ConfigProblem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class ProtocolError(MeshRelayError):
    """Something on the wire that the protocol forbids. Abstract."""

    close_reason = CloseReason.PROTOCOL_ERROR


class LocalProtocolError(ProtocolError):
    """We asked a codec or a machine for something illegal: our own bug."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the rules, as `problem` tells it: close its connection with ``close_reason``."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(problem)


class MalformedFrame(RemoteProtocolError):
    """A frame, or what holds frames, that cannot be read."""


class FrameTooLarge(RemoteProtocolError):
    """A frame announces a payload over the limit; nothing of the payload was read."""

    close_reason = CloseReason.FRAME_TOO_LARGE

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes
        super().__init__(f"payload of {size_bytes} bytes is over max_payload_bytes {limit_bytes}")


class PacketRejected(MeshRelayError):
    """A datagram that is dropped without an answer.

    :param reason: one word of a fixed set; it becomes a metric label.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class AuthenticationError(MeshRelayError):
    """A sign-in that failed.

    :param detail: for the log only. What is sent out never says which check failed.
    """

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(detail)


class DeliveryError(MeshRelayError):
    """A push that could not be handed to its session."""


class SessionClosed(DeliveryError):
    """The session is over."""


class SlowReceiver(DeliveryError):
    """The receiver does not read as fast as others send.

    :param queued_bytes: what waits for it.
    """

    def __init__(self, queued_bytes: int, limit_bytes: int) -> None:
        self.queued_bytes = queued_bytes
        self.limit_bytes = limit_bytes
        super().__init__(f"{queued_bytes} bytes queued, outbox_bytes is {limit_bytes}")


class MeshError(MeshRelayError):
    """Something between nodes went wrong. Told to whoever asked; never to a client as it is. Abstract.

    :cvar retryable: True: the same call may work a little later.
    """

    retryable = False


@unique
class ErrorCode(IntEnum):
    """The u16 code of a BAD or ERROR response (client protocol, section 1). Codes are only ever added."""

    MALFORMED_PAYLOAD = 1
    UNKNOWN_COMMAND = 2
    NOT_SIGNED_IN = 3
    RATE_LIMITED = 4
    MESSAGE_TOO_LARGE = 5
    TIMED_OUT = 6
    INTERNAL = 7
    REFUSED = 8
    NODE_DRAINING = 9
    INVALID_TTL = 10
    EMPTY_AND_NOT_JOINED = 11
    NODE_OFFLINE = 12
    TOO_MANY_GROUPS = 13
    TOO_MANY_ROOMS = 14
    ALREADY_MEMBER = 20
    GROUP_NOT_FOUND = 21
    NOT_MEMBER = 22
    ROOM_FULL = 23
    NOT_IN_ROOM = 24
    ROOM_NOT_FOUND = 25
    USER_NOT_FOUND = 30
    MESSAGE_IS_EMPTY = 31
    NODES_NOT_FOUND = 32
    USER_DECLINED = 33
    NOT_ENOUGH_MEMBERS = 40
    LINK_GROUP_SIZE_INVALID = 41


class _ChainedErrorType(type):
    """Makes ``isinstance`` look along ``__cause__``, as the seed's IsJoinError looks into wrapped errors.

    ``except`` clauses are not affected: Python matches those by the real class alone.
    """

    def __instancecheck__(cls, instance: object) -> bool:
        # A chain of causes may be made circular by hand, hence the bound.
        for _ in range(32):
            if super().__instancecheck__(instance):
                return True
            if not isinstance(instance, BaseException) or instance.__cause__ is None:
                return False
            instance = instance.__cause__
        return False


class CommandError(MeshRelayError):
    """A command that is refused. It becomes the response; the session lives.

    :cvar code: what programs read.
    :cvar status: whose fault it is: BAD the caller's, ERROR the node's.
    :param text: what people read; the class has a default.
    """

    code = ErrorCode.INTERNAL
    status = Status.BAD
    default_text = "command failed"

    def __init__(self, text: str = "") -> None:
        self.text = text or self.default_text
        super().__init__(self.text)

    @property
    def answer(self) -> bytes:
        """What the client is answered: u16 code, text."""
        return self.code.to_bytes(2, "big") + self.text.encode("utf-8", "replace")


class MalformedPayload(CommandError):
    """The payload does not have the shape of its command; the text names the field and the limit."""

    code = ErrorCode.MALFORMED_PAYLOAD
    default_text = "malformed payload"


class UnknownCommand(CommandError):
    """No command is registered for this (ver, cmd)."""

    code = ErrorCode.UNKNOWN_COMMAND
    default_text = "unknown command"


class NotSignedIn(CommandError):
    """A command before HELLO."""

    code = ErrorCode.NOT_SIGNED_IN
    default_text = "not signed in: HELLO comes first"


class RateLimited(CommandError):
    """More than the limit allows; one more will be taken after `retry_after_seconds`."""

    code = ErrorCode.RATE_LIMITED

    def __init__(self, retry_after_seconds: float) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(f"rate limited: retry after {retry_after_seconds:.3f} seconds")


class MessageTooLarge(CommandError):
    """A message that does not fit what has to carry it."""

    code = ErrorCode.MESSAGE_TOO_LARGE
    default_text = "message too large"


class TimedOut(CommandError):
    """The node gave up waiting."""

    code = ErrorCode.TIMED_OUT
    status = Status.ERROR
    default_text = "timed out"


class InternalError(CommandError):
    """A bug of ours; the log has it."""

    code = ErrorCode.INTERNAL
    status = Status.ERROR
    default_text = "internal error"


class Refused(CommandError):
    """The application said no (a hook or a custom command raised).

    :param text: the text of what was raised.
    """

    code = ErrorCode.REFUSED
    default_text = "refused by the application"


class NodeDraining(CommandError):
    """The node is about to stop; another one will take the command."""

    code = ErrorCode.NODE_DRAINING
    status = Status.ERROR
    default_text = "node is draining"


class GroupNewError(CommandError, metaclass=_ChainedErrorType):
    """A group could not be created."""


class RoomNewError(CommandError, metaclass=_ChainedErrorType):
    """A room could not be created."""


class InvalidTTL(GroupNewError, RoomNewError):
    """The lifetime of a new group or room must be greater than 10 seconds."""

    code = ErrorCode.INVALID_TTL
    default_text = "ttl must be greater than 10 seconds"


class EmptyAndNotJoined(GroupNewError, RoomNewError):
    """A group or room that may not be empty and has no first member would be gone at once."""

    code = ErrorCode.EMPTY_AND_NOT_JOINED
    default_text = "allow_empty and join are both false"


class NodeOffline(GroupNewError, RoomNewError):
    """A node that is about to stop makes no new groups and rooms."""

    code = ErrorCode.NODE_OFFLINE
    status = Status.ERROR
    default_text = "node is offline"


class GroupJoinError(CommandError, metaclass=_ChainedErrorType):
    """A user could not join a group."""


class GroupLeaveError(CommandError, metaclass=_ChainedErrorType):
    """A user could not leave a group."""


class RoomJoinError(CommandError, metaclass=_ChainedErrorType):
    """A user could not join a room."""


class RoomLeaveError(CommandError, metaclass=_ChainedErrorType):
    """A user could not leave a room."""


class AlreadyMember(GroupJoinError, RoomJoinError):
    """The user is a member of the group or in the room."""

    code = ErrorCode.ALREADY_MEMBER
    default_text = "already a member of the group"


class GroupNotFound(GroupJoinError, GroupLeaveError):
    """No such group. One class for joining, leaving and broadcasting, as it is one fact and one code."""

    code = ErrorCode.GROUP_NOT_FOUND
    default_text = "no such group"


class NotMember(GroupLeaveError):
    """The user is not a member of the group."""

    code = ErrorCode.NOT_MEMBER
    default_text = "not a member of the group"


class TooManyGroups(GroupNewError, GroupJoinError):
    """The node, or the user, has as many groups as the configuration allows."""

    code = ErrorCode.TOO_MANY_GROUPS
    default_text = "too many groups"


class RemoteTimeout(GroupJoinError, TimedOut):
    """The node that holds the group did not answer in time."""

    status = Status.ERROR
    default_text = "the group's node did not answer in time"


class RoomFull(RoomJoinError):
    """The room has as many members as it was made for."""

    code = ErrorCode.ROOM_FULL
    default_text = "the room is full"


class NotInRoom(RoomLeaveError):
    """The user is not in the room."""

    code = ErrorCode.NOT_IN_ROOM
    default_text = "not in the room"


class RoomNotFound(RoomJoinError, RoomLeaveError):
    """No such room, or it is gone. One class for whatever was wanted of it, as it is one fact and one code."""

    code = ErrorCode.ROOM_NOT_FOUND
    default_text = "no such room"


class TooManyRooms(RoomNewError, RoomJoinError):
    """The node, or the user, has as many rooms as the configuration allows."""

    code = ErrorCode.TOO_MANY_ROOMS
    default_text = "too many rooms"


class RoomTimeout(RoomJoinError, RoomLeaveError, TimedOut):
    """The room's node did not answer in time; what was asked may have been done or not."""

    status = Status.ERROR
    default_text = "the room's node did not answer in time"


class DirectMessageError(CommandError, metaclass=_ChainedErrorType):
    """A direct message was not delivered."""


class UserNotFound(DirectMessageError):
    """The peer is not signed in anywhere, or no longer."""

    code = ErrorCode.USER_NOT_FOUND
    default_text = "no such user"


class MessageIsEmpty(DirectMessageError):
    """There is nothing to send."""

    code = ErrorCode.MESSAGE_IS_EMPTY
    default_text = "the message is empty"


class NodesNotFound(DirectMessageError):
    """The peer is on a node that this one does not know: the cluster is torn, or about to be whole."""

    code = ErrorCode.NODES_NOT_FOUND
    status = Status.ERROR
    default_text = "the node of the user is not known"


class UserDeclined(DirectMessageError):
    """The application declined the message for the peer."""

    code = ErrorCode.USER_DECLINED
    default_text = "the user declined the message"


class ReliableTimeout(DirectMessageError, TimedOut):
    """The peer's node did not answer in time; the message may have been delivered or not."""

    status = Status.ERROR
    default_text = "the user's node did not answer in time"


class NotEnoughMembers(CommandError):
    """A link needs two: fewer members of the room have a UDP address that others may be told."""

    code = ErrorCode.NOT_ENOUGH_MEMBERS
    default_text = "not enough members with a UDP address"


class LinkGroupSizeInvalid(CommandError):
    """A link group has 2 members at least, and at most as many as the configuration says."""

    code = ErrorCode.LINK_GROUP_SIZE_INVALID
    default_text = "link group size invalid"
