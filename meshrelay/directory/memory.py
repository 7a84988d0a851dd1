"""The directory inside a node: the table of `meshrelay.directory.table` behind the interface.

It is the embedded default of a single node, and what other nodes use when they are told to use the directory of this
one. Every Deferred has fired when it is returned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import ParamSpec, TypeVar

from twisted.internet.defer import Deferred, execute, fail, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from meshrelay.directory.errors import DirectoryUnavailable
from meshrelay.directory.interfaces import IDirectory
from meshrelay.directory.options import DirectoryOptions
from meshrelay.directory.records import GroupRecord, NodeRecord, UserRecord
from meshrelay.directory.table import DirectoryTable
from meshrelay.directory.watchers import LossWatchers

__all__ = ["MemoryDirectory"]

P = ParamSpec("P")
T = TypeVar("T")


@implementer(IDirectory)
class MemoryDirectory:
    """`IDirectory` without a server.

    :param random: names the life of the data.
    """

    #: Nothing is forgotten but what is lost.
    refresh_seconds = 0.0

    def __init__(
        self,
        clock: IReactorTime,
        random: Random,
        options: DirectoryOptions = DirectoryOptions(),  # noqa: B008  (frozen)
    ) -> None:
        self._table = DirectoryTable(clock, options)
        self._random = random
        self._epoch = self._random_name()
        self._watchers = LossWatchers()
        self._is_stopped = False
        self.lease_seconds = options.lease_seconds

    def start(self) -> None:
        """There is nothing to look after: losses are noticed when they happen."""

    def stop(self) -> Deferred[None]:
        """Refuse all further calls."""
        self._is_stopped = True
        return succeed(None)

    def clear(self) -> None:
        """Forget everything, as a restart would, and tell the watchers."""
        self._table.clear()
        self._epoch = self._random_name()
        self._watchers.notify()

    def register_node(self, record: NodeRecord) -> Deferred[bool]:
        """As `IDirectory.register_node`."""
        return self._call(self._table.register_node, record)

    def withdraw_node(self, node_id: str, incarnation: str) -> Deferred[bool]:
        """As `IDirectory.withdraw_node`."""
        return self._call(self._table.withdraw_node, node_id, incarnation)

    def nodes(self) -> Deferred[list[NodeRecord]]:
        """As `IDirectory.nodes`."""
        return self._call(self._table.nodes)

    def claim_user(self, record: UserRecord) -> Deferred[UserRecord | None]:
        """As `IDirectory.claim_user`."""
        return self._call(self._table.claim_user, record)

    def release_user(self, user_id: str, sid: str, node_id: str) -> Deferred[bool]:
        """As `IDirectory.release_user`."""
        return self._call(self._table.release_user, user_id, sid, node_id)

    def find_user(self, user_id: str) -> Deferred[UserRecord | None]:
        """As `IDirectory.find_user`."""
        return self._call(self._table.find_user, user_id)

    def join_group(self, group_id: str, node_id: str, settings: bytes) -> Deferred[GroupRecord]:
        """As `IDirectory.join_group`."""
        return self._call(self._table.join_group, group_id, node_id, settings)

    def leave_group(self, group_id: str, node_id: str) -> Deferred[bool]:
        """As `IDirectory.leave_group`."""
        return self._call(self._table.leave_group, group_id, node_id)

    def find_group(self, group_id: str) -> Deferred[GroupRecord | None]:
        """As `IDirectory.find_group`."""
        return self._call(self._table.find_group, group_id)

    def refresh(
        self, node_id: str, users: Iterable[UserRecord], groups: Iterable[tuple[str, bytes]]
    ) -> Deferred[list[UserRecord]]:
        """As `IDirectory.refresh`."""
        return self._call(self._table.refresh, node_id, users, groups)

    def epoch(self) -> Deferred[str]:
        """As `IDirectory.epoch`."""
        return self._call(lambda: self._epoch)

    def loopback(self, token: str) -> Deferred[None]:
        """As `IDirectory.loopback`: a call is all the way there is."""
        return self._call(lambda: None)

    def watch_lost(self, callback: Callable[[], object]) -> None:
        """As `IDirectory.watch_lost`."""
        self._watchers.add(callback)

    def statistics(self) -> dict[str, int]:
        """As `IDirectory.statistics`."""
        return {**self._table.statistics(), "losses": self._watchers.losses}

    def _random_name(self) -> str:
        return f"{self._random.getrandbits(64):016x}"

    def _call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        if self._is_stopped:
            return fail(DirectoryUnavailable("stopped"))
        return execute(function, *args, **kwargs)
