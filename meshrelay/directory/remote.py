"""The directory of another node over the link to it: what a few nodes use that have no other server.

::

    node --IDirectory--> RemoteDirectory --> RemoteCalls (window, deadlines) --call--> link --> directory.serving

Once `start` was called the epoch is asked for about each ``check_seconds``. Another epoch, and an answer after there
was none for a while, tell the watchers that data may be lost: what was said meanwhile may not have arrived.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from random import Random
from typing import Any, TypeAlias, TypeVar

from twisted.internet.defer import Deferred, FirstError, execute, fail, gatherResults, maybeDeferred, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from meshrelay.background import start
from meshrelay.directory.calls import (
    CLAIM_USER,
    EPOCH,
    FIND_GROUP,
    FIND_USER,
    JOIN_GROUP,
    LEAVE_GROUP,
    LOOPBACK,
    MAX_REFRESH_ENTRIES,
    NODES,
    REFRESH,
    REGISTER_NODE,
    RELEASE_USER,
    WITHDRAW_NODE,
    Arguments,
    Call,
    ClaimUser,
    Epoch,
    FindGroup,
    FindUser,
    JoinGroup,
    LeaveGroup,
    Loopback,
    Nodes,
    Refresh,
    RegisterNode,
    ReleaseUser,
    WithdrawNode,
)
from meshrelay.directory.errors import DirectoryUnavailable
from meshrelay.directory.interfaces import IDirectory
from meshrelay.directory.options import DirectoryOptions
from meshrelay.directory.records import GroupRecord, NodeRecord, UserRecord
from meshrelay.directory.watchers import EpochWatch, LossWatchers
from meshrelay.errors import MalformedFrame, MeshError

__all__ = ["CALL_WINDOW", "MAX_REFRESH_BYTES", "REFRESH_WINDOW", "RemoteCalls", "RemoteDirectory", "split_refresh"]

#: ``call(name, payload)`` asks the node that has the directory; fails with a MeshError.
AskNode: TypeAlias = Callable[[str, bytes], Deferred[bytes]]

#: Calls on the link at a time. It takes 256, and others want to ask that node, too.
CALL_WINDOW = 64
#: Batches of a refresh that are on their way at once.
REFRESH_WINDOW = 4
#: Bytes of the entries of one batch of a refresh: a call carries 512 KiB at most.
MAX_REFRESH_BYTES = 192 * 1024
#: Of one entry: names of its fields, lengths and numbers, at most.
_ENTRY_OVERHEAD_BYTES = 64
#: The checks of nodes that were started together shall not stay together: each node shortens its pause by up to this.
_CHECK_SPREAD = 0.2

ArgumentsT = TypeVar("ArgumentsT", bound=Arguments)
ValueT = TypeVar("ValueT")
EntryT = TypeVar("EntryT")


class RemoteCalls:
    """Calls to one node: bounded in number, each with a deadline, a few at a time on the link and the others in order.

    :param call: see `AskNode`.
    """

    def __init__(self, call: AskNode, clock: IReactorTime, options: DirectoryOptions) -> None:
        self._call = call
        self._clock = clock
        self._options = options
        #: Answer that somebody waits for -> name and payload.
        self._waiting: OrderedDict[Deferred[bytes], tuple[str, bytes]] = OrderedDict()
        self._in_flight: dict[Deferred[bytes], None] = {}
        self._is_sending = False
        self._is_stopped = False
        self._calls = 0
        self._refused_busy = 0
        self._timeouts = 0

    def ask(self, name: str, payload: bytes) -> Deferred[bytes]:
        """Ask the node.

        :returns: the answer within the deadline, or `DirectoryUnavailable`.
        """
        self._calls += 1
        if self._is_stopped:
            return fail(DirectoryUnavailable("stopped"))
        if self._pending >= self._options.max_pending:
            self._refused_busy += 1
            return fail(DirectoryUnavailable(f"{self._pending} calls are waiting for an answer"))
        answer: Deferred[bytes] = Deferred(self._forget)
        self._waiting[answer] = (name, payload)
        answer.addTimeout(self._options.deadline_seconds, self._clock)
        answer.addErrback(self._explain)
        self._send()
        return answer

    def stop(self) -> None:
        """Fail all calls, and those to come."""
        self._is_stopped = True
        # One by one: whoever is told may cancel the others.
        for pending in (self._in_flight, self._waiting):
            while pending:
                answer, _ = pending.popitem()
                answer.errback(DirectoryUnavailable("stopped"))

    def statistics(self) -> dict[str, int]:
        """Counters, and the number of calls that wait for an answer."""
        return {
            "calls": self._calls,
            "pending": self._pending,
            "refused_busy": self._refused_busy,
            "timeouts": self._timeouts,
        }

    @property
    def _pending(self) -> int:
        return len(self._waiting) + len(self._in_flight)

    def _send(self) -> None:
        # Without a link calls fail before they return: by a loop, or thousands that wait would fail inside each other.
        if self._is_sending:
            return
        self._is_sending = True
        while self._waiting and len(self._in_flight) < CALL_WINDOW and not self._is_stopped:
            answer, (name, payload) = self._waiting.popitem(last=False)
            self._in_flight[answer] = None
            maybeDeferred(self._call, name, payload).addBoth(self._ended, answer)
        self._is_sending = False

    def _ended(self, result: bytes | Failure, answer: Deferred[bytes]) -> None:
        if answer not in self._in_flight:
            # It was given up.
            return
        del self._in_flight[answer]
        if isinstance(result, Failure):
            answer.errback(result)
        else:
            answer.callback(result)
        self._send()

    def _forget(self, answer: Deferred[bytes]) -> None:
        self._waiting.pop(answer, None)
        if answer in self._in_flight:
            del self._in_flight[answer]
            self._send()

    def _explain(self, failure: Failure) -> bytes:
        if failure.check(DeferredTimeoutError):
            self._timeouts += 1
            raise DirectoryUnavailable(f"no answer within {self._options.deadline_seconds} seconds") from None
        if failure.check(MeshError) and not failure.check(DirectoryUnavailable):
            raise DirectoryUnavailable(failure.getErrorMessage()) from None
        failure.raiseException()
        raise AssertionError("an exception was raised")


@implementer(IDirectory)
class RemoteDirectory:
    """`IDirectory` of another node; see the module.

    :param call: see `AskNode`.
    :param random: spreads the checks of the nodes.
    :param options: the lease and max_nodes are those of the node that has the directory.
    """

    _log = Logger()

    #: Nothing is forgotten but what is lost.
    refresh_seconds = 0.0

    def __init__(
        self,
        call: AskNode,
        clock: IReactorTime,
        random: Random,
        options: DirectoryOptions = DirectoryOptions(),  # noqa: B008  (frozen)
    ) -> None:
        self.lease_seconds = options.lease_seconds
        self._clock = clock
        self._options = options
        self._calls = RemoteCalls(call, clock, options)
        self._watchers = LossWatchers()
        self._unreadable = 0
        self._watch = EpochWatch(self._watchers)
        self._check_seconds = options.check_seconds * random.uniform(1.0 - _CHECK_SPREAD, 1.0)
        self._looping = LoopingCall(self._check)
        self._looping.clock = clock

    def start(self) -> None:
        """As `IDirectory.start`."""
        done = self._looping.start(self._check_seconds)
        done.addErrback(lambda failure: self._log.failure("the check of the directory failed", failure=failure))

    def stop(self) -> Deferred[None]:
        """As `IDirectory.stop`; the link is not ours, so it stays."""
        if self._looping.running:
            self._looping.stop()
        self._calls.stop()
        return succeed(None)

    def link_changed(self, is_up: bool) -> None:
        """The link to the node that has the directory came up, or was lost: look at once instead of at the next check.

        May be called before `start` and after `stop`, and need not be called at all.
        """
        if not is_up:
            self._watch.went_away()
        elif self._looping.running:
            self._check()

    def register_node(self, record: NodeRecord) -> Deferred[bool]:
        """As `IDirectory.register_node`."""
        return self._ask(REGISTER_NODE, RegisterNode, record=record)

    def withdraw_node(self, node_id: str, incarnation: str) -> Deferred[bool]:
        """As `IDirectory.withdraw_node`."""
        return self._ask(WITHDRAW_NODE, WithdrawNode, node_id=node_id, incarnation=incarnation)

    def nodes(self) -> Deferred[list[NodeRecord]]:
        """As `IDirectory.nodes`; read page by page."""
        done = Deferred.fromCoroutine(self._read_nodes())
        done.addTimeout(self._options.deadline_seconds, self._clock)
        return done.addErrback(self._nodes_failed)

    def claim_user(self, record: UserRecord) -> Deferred[UserRecord | None]:
        """As `IDirectory.claim_user`."""
        return self._ask(CLAIM_USER, ClaimUser, record=record)

    def release_user(self, user_id: str, sid: str, node_id: str) -> Deferred[bool]:
        """As `IDirectory.release_user`."""
        return self._ask(RELEASE_USER, ReleaseUser, user_id=user_id, sid=sid, node_id=node_id)

    def find_user(self, user_id: str) -> Deferred[UserRecord | None]:
        """As `IDirectory.find_user`."""
        return self._ask(FIND_USER, FindUser, user_id=user_id)

    def join_group(self, group_id: str, node_id: str, settings: bytes) -> Deferred[GroupRecord]:
        """As `IDirectory.join_group`."""
        return self._ask(JOIN_GROUP, JoinGroup, group_id=group_id, node_id=node_id, settings=settings)

    def leave_group(self, group_id: str, node_id: str) -> Deferred[bool]:
        """As `IDirectory.leave_group`."""
        return self._ask(LEAVE_GROUP, LeaveGroup, group_id=group_id, node_id=node_id)

    def find_group(self, group_id: str) -> Deferred[GroupRecord | None]:
        """As `IDirectory.find_group`."""
        return self._ask(FIND_GROUP, FindGroup, group_id=group_id)

    def refresh(
        self, node_id: str, users: Iterable[UserRecord], groups: Iterable[tuple[str, bytes]]
    ) -> Deferred[list[UserRecord]]:
        """As `IDirectory.refresh`; a few batches are on their way at once."""
        return Deferred.fromCoroutine(self._refresh(split_refresh(node_id, users, groups)))

    def epoch(self) -> Deferred[str]:
        """As `IDirectory.epoch`."""
        return self._ask(EPOCH, Epoch)

    def loopback(self, token: str) -> Deferred[None]:
        """As `IDirectory.loopback`: to the directory of the other node, through it, and back."""
        return self._ask(LOOPBACK, Loopback, token=token).addCallback(self._check_token, token)

    def watch_lost(self, callback: Callable[[], object]) -> None:
        """As `IDirectory.watch_lost`."""
        self._watchers.add(callback)

    def statistics(self) -> dict[str, int]:
        """As `IDirectory.statistics`."""
        return {**self._calls.statistics(), "losses": self._watchers.losses, "unreadable": self._unreadable}

    def _ask(self, call: Call[ArgumentsT, ValueT], make: Callable[..., ArgumentsT], **fields: Any) -> Deferred[ValueT]:
        return execute(make, **fields).addCallback(self._send, call)

    def _send(self, arguments: ArgumentsT, call: Call[ArgumentsT, ValueT]) -> Deferred[ValueT]:
        return self._calls.ask(call.name, call.encode_arguments(arguments)).addCallback(self._read, call)

    def _read(self, answer: bytes, call: Call[ArgumentsT, ValueT]) -> ValueT:
        try:
            return call.read_answer(answer)
        except MalformedFrame as error:
            self._unreadable += 1
            self._log.warn("an answer of the directory cannot be read: {problem}", problem=error.problem)
            raise DirectoryUnavailable("an answer cannot be read") from None

    def _check_token(self, answer: str, token: str) -> None:
        if answer != token:
            self._unreadable += 1
            raise DirectoryUnavailable("another token came back")

    async def _read_nodes(self) -> list[NodeRecord]:
        records: list[NodeRecord] = []
        after = ""
        while True:
            page = await self._send(Nodes(after=after), NODES)
            records += page.records
            if not page.is_cut:
                return records
            if not page.records or records[-1].node_id <= after or len(records) > self._options.max_nodes:
                self._unreadable += 1
                raise DirectoryUnavailable("the list of nodes does not end")
            after = records[-1].node_id

    def _nodes_failed(self, failure: Failure) -> list[NodeRecord]:
        if failure.check(DeferredTimeoutError):
            raise DirectoryUnavailable(f"not all nodes within {self._options.deadline_seconds} seconds") from None
        failure.raiseException()
        raise AssertionError("an exception was raised")

    async def _refresh(self, batches: Iterator[Refresh]) -> list[UserRecord]:
        newer: list[UserRecord] = []
        while window := list(islice(batches, REFRESH_WINDOW)):
            try:
                answers = await gatherResults([self._send(batch, REFRESH) for batch in window], consumeErrors=True)
            except FirstError as error:
                error.subFailure.raiseException()
            newer += chain.from_iterable(answers)
        return newer

    def _check(self) -> Deferred[None]:
        return start(self._look(), self._log, "the check of the directory")

    async def _look(self) -> None:
        try:
            epoch = await self.epoch()
        except DirectoryUnavailable as error:
            # The first failure of an outage is worth a line, the hundredth is not.
            if not self._watch.was_away and self._looping.running:
                self._log.warn("{error}", error=error)
            self._watch.went_away()
            return
        self._watch.heard(epoch)


def split_refresh(node_id: str, users: Iterable[UserRecord], groups: Iterable[tuple[str, bytes]]) -> Iterator[Refresh]:
    """Yield batches of bounded size, at least one: an empty one still asks whether the node has its lease.

    :param users: consumed as the batches are taken, like `groups`.
    :raises ValueError: an entry is out of its range.
    """
    of_users = (Refresh(node_id=node_id, users=batch) for batch in _batches(users, _user_bytes))
    of_groups = (Refresh(node_id=node_id, groups=batch) for batch in _batches(groups, _group_bytes))
    batches = chain(of_users, of_groups)
    yield next(batches, None) or Refresh(node_id=node_id)
    yield from batches


def _batches(entries: Iterable[EntryT], size_of: Callable[[EntryT], int]) -> Iterator[tuple[EntryT, ...]]:
    batch: list[EntryT] = []
    batch_bytes = 0
    for entry in entries:
        size = size_of(entry)
        if batch and (len(batch) >= MAX_REFRESH_ENTRIES or batch_bytes + size > MAX_REFRESH_BYTES):
            yield tuple(batch)
            batch, batch_bytes = [], 0
        batch.append(entry)
        batch_bytes += size
    if batch:
        yield tuple(batch)


def _user_bytes(record: UserRecord) -> int:
    # A character has at most four bytes, and the other names are of ASCII.
    return 4 * len(record.user_id) + len(record.node_id) + len(record.sid) + _ENTRY_OVERHEAD_BYTES


def _group_bytes(entry: tuple[str, bytes]) -> int:
    group_id, settings = entry
    return len(group_id) + len(settings) + _ENTRY_OVERHEAD_BYTES
