"""Histories of groups in a cluster without Redis: each at one node, and asked for there by the others.

::

    home of the group, while it lives --or--> one of the living nodes, the same for all --> MemoryHistory of that node

When that node dies its histories are gone, and another node begins them anew, under epochs that are greater. Two nodes
that disagree for a moment, because they do not see the same others, make two epochs; the greater one wins.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from meshrelay.components.place_ids import home_key, node_key
from meshrelay.directory.errors import DirectoryUnavailable
from meshrelay.directory.history import HistoryStore
from meshrelay.errors import MalformedFrame
from meshrelay.interfaces import INodes
from meshrelay.machine.message_logs import LogLimits
from meshrelay.wire.group_log import (
    AppendCall,
    LogPage,
    ReadCall,
    decode_append,
    decode_page,
    decode_placed,
    decode_read,
    encode_append,
    encode_page,
    encode_placed,
    encode_read,
)

__all__ = ["ANSWER_SECONDS", "MAX_CALLS", "MAX_QUEUED", "NodesHistory"]

T = TypeVar("T")

#: How long another node may take.
ANSWER_SECONDS = 2.0

#: Calls to one node at a time; the links have room for more, and others need it.
MAX_CALLS = 64

#: Calls that wait for one node.
MAX_QUEUED = 1_000

_APPEND_CALL = "group.log_append"
_READ_CALL = "group.log_read"


class _Line:
    """What is on its way to one node, and what waits."""

    __slots__ = ("calls", "is_sending", "queue")

    def __init__(self) -> None:
        self.calls = 0
        self.is_sending = False
        self.queue: deque[tuple[str, bytes, Deferred[bytes]]] = deque()


class NodesHistory:
    """`meshrelay.directory.history.HistoryStore`; see the module.

    :param own: what this node keeps for all.
    """

    def __init__(self, nodes: INodes, own: HistoryStore, clock: IReactorTime) -> None:
        self._nodes = nodes
        self._own = own
        self._clock = clock
        self._lines: dict[str, _Line] = {}
        self._refused = 0
        self._asked = 0
        nodes.answer(_APPEND_CALL, self._append_asked)
        nodes.answer(_READ_CALL, self._read_asked)

    def place_of(self, group_id: str) -> str:
        """ID of the node that keeps the history of a group now, as far as this one sees."""
        own_id: str = self._nodes.node_id
        living = [own_id, *(node_id for node_id in self._nodes.known() if not self._nodes.is_lost(node_id))]
        home = home_key(group_id)
        for node_id in living:
            if node_key(node_id) == home:
                return node_id
        return max(living, key=lambda node_id: sha256(f"{node_id} {group_id}".encode()).digest())

    def append(
        self, group_id: str, known_epoch: int, entries: Sequence[bytes], limits: LogLimits
    ) -> Deferred[tuple[int, int]]:
        """See `HistoryStore`."""
        node_id = self.place_of(group_id)
        if node_id == self._nodes.node_id:
            return self._own.append(group_id, known_epoch, entries, limits)
        call = AppendCall(group_id, known_epoch, limits.size, _milliseconds(limits), tuple(entries))
        return self._call(node_id, _APPEND_CALL, encode_append(call), decode_placed)

    def read(
        self, group_id: str, known_epoch: int, after: int, bounds: tuple[int, int], limits: LogLimits
    ) -> Deferred[LogPage]:
        """See `HistoryStore`."""
        node_id = self.place_of(group_id)
        if node_id == self._nodes.node_id:
            return self._own.read(group_id, known_epoch, after, bounds, limits)
        call = ReadCall(group_id, known_epoch, after, *bounds, _milliseconds(limits))
        return self._call(node_id, _READ_CALL, encode_read(call), decode_page)

    def _call(self, node_id: str, name: str, payload: bytes, decode: Callable[[bytes], T]) -> Deferred[T]:
        line = self._lines.setdefault(node_id, _Line())
        if len(line.queue) >= MAX_QUEUED:
            self._refused += 1
            return fail(DirectoryUnavailable(f"{MAX_QUEUED} calls wait for node {node_id}"))
        self._asked += 1
        answer: Deferred[bytes] = Deferred()
        line.queue.append((name, payload, answer))
        self._send_next(node_id, line)
        answer.addTimeout(ANSWER_SECONDS, self._clock)
        return answer.addCallbacks(lambda data: _read(decode, data), _say_away)

    def _send_next(self, node_id: str, line: _Line) -> None:
        # Without a link calls fail before they return: by a loop, or all that wait would fail inside each other.
        if line.is_sending:
            return
        line.is_sending = True
        try:
            while line.queue and line.calls < MAX_CALLS:
                name, payload, answer = line.queue.popleft()
                if answer.called:
                    continue
                line.calls += 1
                called = self._nodes.call(node_id, name, payload)
                called.addBoth(self._answered, node_id, line, answer)
        finally:
            line.is_sending = False

    def _answered(self, result: bytes | Failure, node_id: str, line: _Line, answer: Deferred[bytes]) -> None:
        line.calls -= 1
        if not answer.called:
            # A failure goes the same way; addErrback has the rest.
            answer.callback(result)
        self._send_next(node_id, line)
        if not line.calls and not line.queue and self._lines.get(node_id) is line:
            del self._lines[node_id]

    def _append_asked(self, node_id: str, payload: bytes) -> Deferred[bytes]:
        call = decode_append(payload)
        limits = LogLimits(call.size, call.ttl_ms / 1000)
        placed = self._own.append(call.group_id, call.known_epoch, call.entries, limits)
        return placed.addCallback(lambda place: encode_placed(*place))

    def _read_asked(self, node_id: str, payload: bytes) -> Deferred[bytes]:
        call = decode_read(payload)
        limits = LogLimits(0, call.ttl_ms / 1000)
        page = self._own.read(call.group_id, call.known_epoch, call.after, (call.max_entries, call.max_bytes), limits)
        return page.addCallback(encode_page)

    def statistics(self) -> Mapping[str, int]:
        """See `HistoryStore`."""
        return {**self._own.statistics(), "group_log_calls": self._asked, "group_log_calls_refused": self._refused}

    def stop(self) -> Deferred[None]:
        """See `HistoryStore`."""
        return self._own.stop()


def _milliseconds(limits: LogLimits) -> int:
    return max(1, round(limits.ttl_seconds * 1000))


def _read(decode: Callable[[bytes], T], data: bytes) -> T:
    try:
        return decode(data)
    except MalformedFrame as error:
        raise DirectoryUnavailable(f"a node answered {error.problem}") from None


def _say_away(failure: Failure) -> Failure:
    if failure.check(DeferredTimeoutError) is not None:
        raise DirectoryUnavailable(f"no answer within {ANSWER_SECONDS} seconds") from None
    return failure
