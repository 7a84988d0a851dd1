"""What a node asks the node that has the directory, as bytes: names of calls, their arguments, answers and errors.

==========  ==============================================================================================
arguments   MessagePack: a map, field -> value; a field that is not known is passed over
answer      u8 0, then the value as MessagePack
            u8 1, then the error as MessagePack: a map whose ``type`` says which one
==========  ==============================================================================================

``directory.remote`` encodes arguments and reads answers, ``directory.serving`` the other way round. An error of the
directory is an answer like any other, so that a failed call always means that the link or a node failed. Arguments
check themselves: before they are sent, and again when they have arrived.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import Meta

from meshrelay.directory.errors import DirectoryFull, DirectoryUnavailable, NodeIdInUse, NodeUnknown, UserTakenOver
from meshrelay.directory.records import (
    GroupRecord,
    NodeRecord,
    UserRecord,
    check_group_id,
    check_name,
    check_settings,
)
from meshrelay.errors import MalformedFrame
from meshrelay.model import check_user_id

__all__ = [
    "CALLS",
    "CLAIM_USER",
    "EPOCH",
    "FIND_GROUP",
    "FIND_USER",
    "JOIN_GROUP",
    "LEAVE_GROUP",
    "LOOPBACK",
    "MAX_REFRESH_ENTRIES",
    "NODES",
    "REFRESH",
    "REGISTER_NODE",
    "RELEASE_USER",
    "WITHDRAW_NODE",
    "Arguments",
    "Call",
    "ClaimUser",
    "Epoch",
    "FindGroup",
    "FindUser",
    "JoinGroup",
    "LeaveGroup",
    "Loopback",
    "Nodes",
    "NodesPage",
    "Refresh",
    "RegisterNode",
    "ReleaseUser",
    "WithdrawNode",
    "encode_error",
]

#: Users, or groups, of one batch of a refresh: about a millisecond of the node that has the directory.
MAX_REFRESH_ENTRIES = 200
_IS_VALUE = b"\x00"
_IS_ERROR = b"\x01"


class Arguments(msgspec.Struct, frozen=True, kw_only=True):
    """What a call carries.

    :raises ValueError: a field is out of its range.
    """

    @property
    def speaker(self) -> str | None:
        """The node whose entries the call changes: it must be the one that calls. None: any node may call."""
        return None


class RegisterNode(Arguments, frozen=True, kw_only=True):
    """Of `IDirectory.register_node`."""

    record: NodeRecord

    @property
    def speaker(self) -> str:
        """See `Arguments.speaker`."""
        return self.record.node_id


class WithdrawNode(Arguments, frozen=True, kw_only=True):
    """Of `IDirectory.withdraw_node`."""

    node_id: str
    incarnation: str

    def __post_init__(self) -> None:
        check_name(self.node_id, "node ID")
        check_name(self.incarnation, "incarnation")

    @property
    def speaker(self) -> str:
        """See `Arguments.speaker`."""
        return self.node_id


class Nodes(Arguments, frozen=True, kw_only=True):
    """Of `IDirectory.nodes`, a page at a time."""

    #: Nodes whose ID is greater are wanted; empty = from the beginning.
    after: str = ""


class NodesPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some of the nodes, sorted by ID."""

    records: tuple[NodeRecord, ...]
    #: There are more.
    is_cut: bool


class ClaimUser(Arguments, frozen=True, kw_only=True):
    """Of `IDirectory.claim_user`."""

    record: UserRecord

    @property
    def speaker(self) -> str:
        """See `Arguments.speaker`."""
        return self.record.node_id


class ReleaseUser(Arguments, frozen=True, kw_only=True):
    """Of `IDirectory.release_user`."""

    user_id: str
    sid: str
    node_id: str

    def __post_init__(self) -> None:
        check_user_id(self.user_id)
        check_name(self.sid, "session ID")
        check_name(self.node_id, "node ID")

    @property
    def speaker(self) -> str:
        """See `Arguments.speaker`."""
        return self.node_id


class FindUser(Arguments, frozen=True, kw_only=True):
    """Of `IDirectory.find_user`."""

    user_id: str

    def __post_init__(self) -> None:
        check_user_id(self.user_id)


class JoinGroup(Arguments, frozen=True, kw_only=True):
    """Of `IDirectory.join_group`."""

    group_id: str
    node_id: str
    settings: bytes

    def __post_init__(self) -> None:
        check_group_id(self.group_id)
        check_name(self.node_id, "node ID")
        check_settings(self.settings)

    @property
    def speaker(self) -> str:
        """See `Arguments.speaker`."""
        return self.node_id


class LeaveGroup(Arguments, frozen=True, kw_only=True):
    """Of `IDirectory.leave_group`."""

    group_id: str
    node_id: str

    def __post_init__(self) -> None:
        check_group_id(self.group_id)
        check_name(self.node_id, "node ID")

    @property
    def speaker(self) -> str:
        """See `Arguments.speaker`."""
        return self.node_id


class FindGroup(Arguments, frozen=True, kw_only=True):
    """Of `IDirectory.find_group`."""

    group_id: str

    def __post_init__(self) -> None:
        check_group_id(self.group_id)


class Refresh(Arguments, frozen=True, kw_only=True):
    """Of `IDirectory.refresh`, one batch of bounded size."""

    node_id: str
    users: Annotated[tuple[UserRecord, ...], Meta(max_length=MAX_REFRESH_ENTRIES)] = ()
    #: (group ID, settings).
    groups: Annotated[tuple[tuple[str, bytes], ...], Meta(max_length=MAX_REFRESH_ENTRIES)] = ()

    def __post_init__(self) -> None:
        check_name(self.node_id, "node ID")
        for record in self.users:
            if record.node_id != self.node_id:
                raise ValueError(f"a user of node {record.node_id} in the refresh of node {self.node_id}")
        for group_id, settings in self.groups:
            check_group_id(group_id)
            check_settings(settings)

    @property
    def speaker(self) -> str:
        """See `Arguments.speaker`."""
        return self.node_id


class Epoch(Arguments, frozen=True, kw_only=True):
    """Of `IDirectory.epoch`."""


class Loopback(Arguments, frozen=True, kw_only=True):
    """Of `IDirectory.loopback`; the token is the answer."""

    token: str

    def __post_init__(self) -> None:
        check_name(self.token, "token")


class _InUse(msgspec.Struct, frozen=True, tag="node_id_in_use"):
    node_id: str


class _Unknown(msgspec.Struct, frozen=True, tag="node_unknown"):
    node_id: str


class _Full(msgspec.Struct, frozen=True, tag="full"):
    what: str
    limit: int


class _TakenOver(msgspec.Struct, frozen=True, tag="taken_over"):
    current: UserRecord


class _Wrong(msgspec.Struct, frozen=True, tag="wrong"):
    text: str


class _Away(msgspec.Struct, frozen=True, tag="away"):
    detail: str


_ErrorStruct = _InUse | _Unknown | _Full | _TakenOver | _Wrong | _Away
_ERROR_DECODER: msgspec.msgpack.Decoder[_ErrorStruct] = msgspec.msgpack.Decoder(_ErrorStruct)

ArgumentsT = TypeVar("ArgumentsT", bound=Arguments)
ValueT = TypeVar("ValueT")


class Call(Generic[ArgumentsT, ValueT]):
    """One call: its name, and its codec.

    :param verb: the method of `IDirectory`.
    :param value: type of the answer.
    """

    def __init__(self, verb: str, arguments: type[ArgumentsT], value: Any) -> None:
        self.name = f"directory.{verb}"
        self._arguments: msgspec.msgpack.Decoder[ArgumentsT] = msgspec.msgpack.Decoder(arguments)
        self._value: msgspec.msgpack.Decoder[ValueT] = msgspec.msgpack.Decoder(value)

    def encode_arguments(self, arguments: ArgumentsT) -> bytes:
        """Return the payload of the call."""
        return msgspec.msgpack.encode(arguments)

    def decode_arguments(self, payload: bytes) -> ArgumentsT:
        """Read the payload of a call.

        :raises MalformedFrame: it is none, or a value is out of its range: the caller's fault.
        """
        return _decode(self._arguments, payload, self.name)

    def encode_value(self, value: ValueT) -> bytes:
        """Return an answer."""
        return _IS_VALUE + msgspec.msgpack.encode(value)

    def read_answer(self, answer: bytes) -> ValueT:
        """Return the value of an answer, or raise its error: those of `meshrelay.directory.errors`, or ValueError.

        :raises MalformedFrame: it cannot be read: the fault of whoever answered.
        """
        if answer[:1] == _IS_VALUE:
            return _decode(self._value, answer[1:], self.name)
        if answer[:1] == _IS_ERROR:
            raise _make_error(_decode(_ERROR_DECODER, answer[1:], self.name))
        raise MalformedFrame(f"{self.name}: the answer is neither a value nor an error")


def _decode(decoder: msgspec.msgpack.Decoder[ValueT], data: bytes, name: str) -> ValueT:
    try:
        return decoder.decode(data)
    except ValueError as error:
        raise MalformedFrame(f"{name}: {error}") from None
    except RecursionError:
        raise MalformedFrame(f"{name}: nested too deeply") from None


def encode_error(error: BaseException | None) -> bytes | None:
    """Return the answer that makes the caller raise the same error; None: it is not one that callers know."""
    match error:
        case NodeIdInUse():
            said: _ErrorStruct = _InUse(error.node_id)
        case NodeUnknown():
            said = _Unknown(error.node_id)
        case DirectoryFull():
            said = _Full(error.what, error.limit)
        case UserTakenOver():
            said = _TakenOver(error.current)
        case DirectoryUnavailable():
            said = _Away(error.detail)
        case ValueError():
            said = _Wrong(str(error))
        case _:
            return None
    return _IS_ERROR + msgspec.msgpack.encode(said)


def _make_error(said: _ErrorStruct) -> Exception:
    match said:
        case _InUse():
            return NodeIdInUse(said.node_id)
        case _Unknown():
            return NodeUnknown(said.node_id)
        case _Full():
            return DirectoryFull(said.what, said.limit)
        case _TakenOver():
            return UserTakenOver(said.current)
        case _Wrong():
            return ValueError(said.text)
        case _Away():
            return DirectoryUnavailable(said.detail)


REGISTER_NODE: Call[RegisterNode, bool] = Call("register_node", RegisterNode, bool)
WITHDRAW_NODE: Call[WithdrawNode, bool] = Call("withdraw_node", WithdrawNode, bool)
NODES: Call[Nodes, NodesPage] = Call("nodes", Nodes, NodesPage)
CLAIM_USER: Call[ClaimUser, UserRecord | None] = Call("claim_user", ClaimUser, UserRecord | None)
RELEASE_USER: Call[ReleaseUser, bool] = Call("release_user", ReleaseUser, bool)
FIND_USER: Call[FindUser, UserRecord | None] = Call("find_user", FindUser, UserRecord | None)
JOIN_GROUP: Call[JoinGroup, GroupRecord] = Call("join_group", JoinGroup, GroupRecord)
LEAVE_GROUP: Call[LeaveGroup, bool] = Call("leave_group", LeaveGroup, bool)
FIND_GROUP: Call[FindGroup, GroupRecord | None] = Call("find_group", FindGroup, GroupRecord | None)
REFRESH: Call[Refresh, list[UserRecord]] = Call("refresh", Refresh, list[UserRecord])
EPOCH: Call[Epoch, str] = Call("epoch", Epoch, str)
LOOPBACK: Call[Loopback, str] = Call("loopback", Loopback, str)

#: All of them.
CALLS: tuple[Call[Any, Any], ...] = (
    REGISTER_NODE,
    WITHDRAW_NODE,
    NODES,
    CLAIM_USER,
    RELEASE_USER,
    FIND_USER,
    JOIN_GROUP,
    LEAVE_GROUP,
    FIND_GROUP,
    REFRESH,
    EPOCH,
    LOOPBACK,
)
