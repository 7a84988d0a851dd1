"""Entering a group that this node does not hold: its home is asked, then others that hold it by the directory.

Whoever holds it answers with settings, numbers and members, and names all other holders; each of those is told as
well. So two nodes that enter at the same time learn of each other from any holder that both have asked.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from meshrelay.components.group_table import GroupTable, LiveGroup
from meshrelay.components.place_ids import home_key
from meshrelay.directory.interfaces import IDirectory
from meshrelay.errors import GroupNotFound, MeshError, RemoteTimeout, TooManyGroups
from meshrelay.interfaces import INodes
from meshrelay.wire.group_node import Cast, HoldSettings, encode_hold
from meshrelay.wire.node_kinds import NodeKind

__all__ = ["ANSWER_SECONDS", "MAX_EARLY_CASTS", "Entry", "GroupEntries"]

#: How long one node may take to answer.
ANSWER_SECONDS = 1.5

#: Casts that are kept because they overtook the answer to an entry.
MAX_EARLY_CASTS = 1_000
MAX_EARLY_BYTES = 1024 * 1024

#: Groups that are being entered at the same time.
MAX_ENTRIES = 10_000

NO_SETTINGS = HoldSettings(False, False, 0, 0, 0)


class Entry:
    """One group that is being entered.

    :ivar early: casts of it that came before the answer.
    """

    def __init__(self, group_id: str, hold: int) -> None:
        self.group_id = group_id
        self.hold = hold
        self.early: list[tuple[str, Cast]] = []
        self._early_bytes = 0
        #: The node that was asked last, and what it answers: True = it holds the group.
        self.asked = ""
        self.answer: Deferred[bool] | None = None
        #: Fires when the other holders were told.
        self.others: Deferred[None] | None = None
        self.waiting: list[Deferred[None]] = []

    def cast_came(self, cast: Cast) -> None:
        """Keep a cast for when the group is here; over the bounds it is asked for again then."""
        if len(self.early) < MAX_EARLY_CASTS and self._early_bytes < MAX_EARLY_BYTES:
            self._early_bytes += len(cast.content)
            self.early.append((cast.origin, cast))

    def answered(self, node_id: str, is_held: bool) -> None:
        """A node has answered; a no counts only if it is of the one that was asked last."""
        if self.answer is not None and (is_held or node_id == self.asked):
            answer, self.answer = self.answer, None
            answer.callback(is_held)

    def refused(self, error: TooManyGroups) -> None:
        """A node holds the group, and this one has no room for it."""
        if self.answer is not None:
            answer, self.answer = self.answer, None
            answer.errback(error)

    def others_told(self) -> None:
        """No holder that was asked still has to answer."""
        others, self.others = self.others, None
        if others is not None:
            others.callback(None)


class GroupEntries:
    """All groups that are being entered.

    :param remote_join_tries: nodes beside the home that are asked.
    :param new_hold: gives a number greater than all before.
    """

    _log = Logger()

    def __init__(
        self,
        nodes: INodes,
        table: GroupTable,
        directory: IDirectory,
        clock: IReactorTime,
        remote_join_tries: int,
        node_of_key: Callable[[bytes], str | None],
        new_hold: Callable[[], int],
    ) -> None:
        self._nodes = nodes
        self._table = table
        self._directory = directory
        self._clock = clock
        self._remote_join_tries = remote_join_tries
        self._node_of_key = node_of_key
        self._new_hold = new_hold
        self._entries: dict[str, Entry] = {}
        self.timeouts = 0

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, group_id: str) -> Entry | None:
        """The entry of a group that is being entered."""
        return self._entries.get(group_id)

    async def enter(self, group_id: str) -> LiveGroup:
        """Hold the group from now on. Whoever asked must join it in the same turn, or it is given up again.

        :raises GroupNotFound: nobody who could be asked holds it.
        :raises RemoteTimeout: somebody who may hold it cannot be asked, or did not answer.
        :raises TooManyGroups: this node has as many groups as it may.
        """
        entry = self._entries.get(group_id)
        if entry is not None:
            done: Deferred[None] = Deferred()
            entry.waiting.append(done)
            await done
            group = self._table.find(group_id)
            if group is None:
                raise GroupNotFound
            return group
        if len(self._entries) >= MAX_ENTRIES:
            raise TooManyGroups(f"{MAX_ENTRIES} groups are being looked for on other nodes, the limit")
        self._table.check_room(None)
        entry = self._entries[group_id] = Entry(group_id, self._new_hold())
        try:
            await self._search(entry)
            group = self._table.find(group_id)
            if group is None:
                raise GroupNotFound
            return group
        except BaseException as error:
            told: Exception | None = None
            if isinstance(error, (GroupNotFound, RemoteTimeout, TooManyGroups)):
                told = error
            elif self._table.find(group_id) is None:
                # Given up, so nobody knows whether there is such a group: who waited as well may try again.
                told = RemoteTimeout()
            self._end(entry, told)
            raise
        finally:
            self._clock.callLater(0, self._end, entry, None)

    def _end(self, entry: Entry, error: Exception | None) -> None:
        """Let the others in as well, and give the group up if nobody joined after all."""
        if self._entries.get(entry.group_id) is not entry:
            return
        del self._entries[entry.group_id]
        for waiting in entry.waiting:
            if error is not None:
                waiting.errback(error)
            else:
                waiting.callback(None)
        group = self._table.find(entry.group_id)
        if group is not None:
            self.unpin_later(group)

    def unpin_later(self, group: LiveGroup) -> None:
        """Give the group up in the next turn if nobody joined after all."""
        self._clock.callLater(0, self._unpin, group)

    def _unpin(self, group: LiveGroup) -> None:
        if self._table.find(group.id) is group and group.pins:
            group.pins -= 1
            self._table.settle(group)

    async def _search(self, entry: Entry) -> None:
        is_unsure = False
        tried = set()
        home = self._node_of_key(home_key(entry.group_id))
        if home is not None:
            tried.add(home)
            is_held = await self._ask(entry, home)
            if is_held:
                return
            is_unsure = is_held is None
        for node_id in await self._holders(entry.group_id, tried):
            is_held = await self._ask(entry, node_id)
            if is_held:
                return
            is_unsure = is_unsure or is_held is None
        if is_unsure:
            self.timeouts += 1
            raise RemoteTimeout
        raise GroupNotFound

    async def _holders(self, group_id: str, tried: set[str]) -> list[str]:
        """Nodes to try, those that can be reached first.

        :raises RemoteTimeout: the directory cannot be asked.
        """
        try:
            record = await self._directory.find_group(group_id)
        except MeshError as error:
            self._log.info("group {group_id} cannot be looked up: {error}", group_id=group_id, error=error)
            self.timeouts += 1
            raise RemoteTimeout from error
        except ValueError:
            return []
        own_id = self._nodes.node_id
        found = [node_id for node_id in record.nodes if node_id != own_id] if record is not None else []
        found = sorted(found, key=lambda node_id: not self._nodes.is_up(node_id))
        return [node_id for node_id in found if node_id not in tried][: self._remote_join_tries]

    async def _ask(self, entry: Entry, node_id: str) -> bool | None:
        """Whether a node holds the group, and let it know that this one enters; None: it does not answer."""
        if not self._nodes.is_up(node_id):
            return None
        entry.asked = node_id
        answer: Deferred[bool] = Deferred()
        entry.answer = answer
        wire_id = entry.group_id.encode("ascii")
        hold = encode_hold(wire_id, entry.hold, 1, True, 0, NO_SETTINGS, (self._nodes.node_id,))
        self._nodes.send(node_id, NodeKind.GROUP_HOLD, hold)
        answer.addTimeout(ANSWER_SECONDS, self._clock)
        try:
            is_held: bool = await answer
        except TimeoutError:
            return None
        finally:
            entry.answer = None
        if is_held:
            await self._wait_for_others(entry)
        return is_held

    async def _wait_for_others(self, entry: Entry) -> None:
        """Wait until all other holders know of this node, but not longer than one may take to answer."""
        group = self._table.find(entry.group_id)
        if group is None or group.spread is None or not group.spread.asked:
            return
        others: Deferred[None] = Deferred()
        entry.others = others
        others.addTimeout(ANSWER_SECONDS, self._clock)
        try:
            await others
        except TimeoutError:
            # They are told when they can be reached again.
            entry.others = None
