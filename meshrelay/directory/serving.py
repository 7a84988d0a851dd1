"""The directory of this node for other nodes: bytes of a call to a question of `IDirectory`, its result to bytes.

::

    link --call--> DirectoryServer --IDirectory--> memory

A node may only speak for itself: what changes the entries of a node has to come from that very node, as the link names
it. Errors of the directory are answers; an exception that leaves a handler is a payload that cannot be read, or a bug.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, TypeAlias

import msgspec
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from meshrelay.directory.calls import (
    CLAIM_USER,
    EPOCH,
    FIND_GROUP,
    FIND_USER,
    JOIN_GROUP,
    LEAVE_GROUP,
    LOOPBACK,
    NODES,
    REFRESH,
    REGISTER_NODE,
    RELEASE_USER,
    WITHDRAW_NODE,
    Arguments,
    Call,
    Loopback,
    Nodes,
    NodesPage,
    encode_error,
)
from meshrelay.directory.interfaces import IDirectory
from meshrelay.directory.records import NodeRecord
from meshrelay.errors import MalformedFrame

__all__ = ["MAX_PAGE_BYTES", "Answerer", "DirectoryServer", "make_page"]

#: ``answer(node_id, payload)``, as `INodes.answer` takes it.
Answerer: TypeAlias = Callable[[str, bytes], Deferred[bytes]]

#: Bytes of the nodes of one page, which is one answer: a call carries 512 KiB at most.
MAX_PAGE_BYTES = 192 * 1024

_Run: TypeAlias = Callable[[IDirectory, Any], Deferred[Any]]


class DirectoryServer:
    """Answers the calls of other nodes from a directory.

    :param directory: usually the memory directory of this node; how many calls come at a time is bounded by the links.
    """

    def __init__(self, directory: IDirectory) -> None:
        self._directory = directory
        self._calls = 0
        self._malformed = 0
        self._refused = 0

    def answers(self) -> Mapping[str, Answerer]:
        """Name of each call -> who answers it, for `INodes.answer`.

        The Deferreds fire with the answer, errors of the directory included. They fail with `MalformedFrame` when the
        payload cannot be read, which is the fault of the node that calls and changes nothing.
        """
        return {call.name: partial(self._answer, call, run) for call, run in _RUNS.items()}

    def statistics(self) -> dict[str, int]:
        """Counters for the metrics page: calls, those that could not be read, those that spoke for another node."""
        return {"calls": self._calls, "malformed": self._malformed, "refused": self._refused}

    def _answer(self, call: Call[Any, Any], run: _Run, node_id: str, payload: bytes) -> Deferred[bytes]:
        self._calls += 1
        result = maybeDeferred(self._run, call, run, node_id, payload)
        result.addCallback(call.encode_value)
        return result.addErrback(_tell_error)

    def _run(self, call: Call[Any, Any], run: _Run, node_id: str, payload: bytes) -> Deferred[Any]:
        try:
            arguments: Arguments = call.decode_arguments(payload)
        except MalformedFrame:
            self._malformed += 1
            raise
        if arguments.speaker not in (None, node_id):
            self._refused += 1
            raise ValueError(f"node {node_id} speaks for node {arguments.speaker}")
        return run(self._directory, arguments)


def make_page(records: Iterable[NodeRecord], after: str) -> NodesPage:
    """Return the nodes behind `after`: as many as one answer takes, and at least one if there is any.

    :param records: sorted by ID.
    """
    page: list[NodeRecord] = []
    page_bytes = 0
    for record in records:
        if record.node_id <= after:
            continue
        page_bytes += len(msgspec.msgpack.encode(record))
        if page and page_bytes > MAX_PAGE_BYTES:
            return NodesPage(records=tuple(page), is_cut=True)
        page.append(record)
    return NodesPage(records=tuple(page), is_cut=False)


def _tell_error(failure: Failure) -> bytes:
    answer = encode_error(failure.value)
    if answer is None:
        failure.raiseException()
        raise AssertionError("an exception was raised")
    return answer


def _list_nodes(directory: IDirectory, said: Nodes) -> Deferred[NodesPage]:
    return directory.nodes().addCallback(make_page, said.after)


def _loop_back(directory: IDirectory, said: Loopback) -> Deferred[str]:
    return directory.loopback(said.token).addCallback(lambda _: said.token)


#: The question that each call asks.
_RUNS: Mapping[Call[Any, Any], _Run] = MappingProxyType(
    {
        REGISTER_NODE: lambda directory, said: directory.register_node(said.record),
        WITHDRAW_NODE: lambda directory, said: directory.withdraw_node(said.node_id, said.incarnation),
        NODES: _list_nodes,
        CLAIM_USER: lambda directory, said: directory.claim_user(said.record),
        RELEASE_USER: lambda directory, said: directory.release_user(said.user_id, said.sid, said.node_id),
        FIND_USER: lambda directory, said: directory.find_user(said.user_id),
        JOIN_GROUP: lambda directory, said: directory.join_group(said.group_id, said.node_id, said.settings),
        LEAVE_GROUP: lambda directory, said: directory.leave_group(said.group_id, said.node_id),
        FIND_GROUP: lambda directory, said: directory.find_group(said.group_id),
        REFRESH: lambda directory, said: directory.refresh(said.node_id, said.users, said.groups),
        EPOCH: lambda directory, said: directory.epoch(),
        LOOPBACK: _loop_back,
    }
)
