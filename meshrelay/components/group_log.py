"""One group with history, as one node that holds it has it: every message waits for its offset, then goes to all.

::

    publish --batch--> store (offsets) --run--> spread --> the other holders
                                          |
    runs of other holders ----------------+--> take: in order, gaps read from the store --> members here

Messages of one epoch are handed to members in the order of their offsets, the same at every node. What is missing for a
moment, because it takes another way or its node died, is read from the store. While the store is away messages go
out without an offset, and the epoch ends: that is the state `is_unsure`, and it lasts until there is another epoch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from meshrelay.background import Alarm
from meshrelay.components.group_log_push import LogPushes
from meshrelay.errors import MeshError
from meshrelay.interfaces import ISession
from meshrelay.machine.message_logs import LogLimits, count_fitting
from meshrelay.wire.group_log import LogPage, LogRun, encode_run, entry_id

if TYPE_CHECKING:
    from meshrelay.components.group_logs import LogParts
    from meshrelay.components.group_table import LiveGroup

__all__ = ["READ_BYTES", "READ_ENTRIES", "GroupLog", "Recovery"]

#: Most that one call to the store carries.
APPEND_ENTRIES = 256
APPEND_BYTES = 256 * 1024

#: Most that one answer of the store carries: also what a member can be given back at once.
READ_ENTRIES = 1_000
READ_BYTES = 256 * 1024

#: What waits for its offset in one group, on its way or not; more goes out without one.
MAX_WAITING_BYTES = 4 * 1024 * 1024

#: Messages that came before an earlier one.
MAX_EARLY = 4_096
MAX_EARLY_BYTES = 2 * 1024 * 1024

#: Only what is missing for this long is asked for: it mostly takes another way.
GAP_SECONDS = 0.25

#: Times that a gap is asked for while the store does not answer, a second apart.
GAP_TRIES = 3

#: Messages that are known again, should they come twice when the store was away.
MAX_RECENT = 256

#: Members that are being given back what they missed, in one group.
MAX_RECOVERIES = 1_000

#: What is said meanwhile and kept for one of them.
MAX_RECOVERY_BYTES = 1024 * 1024


class Recovery:
    """A member that is about to be told what it missed; until then what is said now waits here.

    :ivar epoch: where it is; what was before is not for it.
    """

    __slots__ = ("bytes", "epoch", "is_over", "live", "offset", "replay", "session")

    def __init__(self, session: ISession) -> None:
        self.session = session
        self.epoch = 0
        self.offset = 0
        self.replay: list[tuple[int, int, bytes]] = []
        self.live: list[tuple[int, int, bytes]] = []
        self.bytes = 0
        #: Too much was said meanwhile: some of it is not here.
        self.is_over = False

    def said(self, epoch: int, offset: int, entry: bytes) -> None:
        """Something was said to the group."""
        self.bytes += len(entry)
        if self.bytes > MAX_RECOVERY_BYTES:
            self.is_over = True
            self.live.clear()
        else:
            self.live.append((epoch, offset, entry))


class Position(NamedTuple):
    """Where a group is."""

    recovered: bool
    epoch: int
    offset: int


class GroupLog:
    """See the module.

    :ivar epoch: the one that counts; 0 = none is known yet.
    :ivar next: offset of the next message for the members here.
    :ivar is_synced: False: where the group is must be asked for before anybody joins.
    """

    _log = Logger()

    def __init__(self, group: LiveGroup, parts: LogParts, limits: LogLimits, is_synced: bool) -> None:
        self.limits = limits
        self.epoch = 0
        self.next = 1
        self.is_synced = is_synced
        self.is_unsure = self.is_over = False
        #: Something was said without an offset before it was known which epoch goes on without it.
        self._has_hole = False
        self.pushes = LogPushes(group, parts.hub)
        self._group = group
        self._parts = parts
        self._store = parts.store
        self._counts = parts.counts
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._is_appending = False
        self._is_pinned = False
        self._early: dict[int, bytes] = {}
        self._early_bytes = 0
        self._gap_alarm: Alarm | None = None
        self._recent: OrderedDict[int, None] = OrderedDict()
        self._recoveries: list[Recovery] = []
        self._syncing: list[Deferred[None]] | None = None
        #: What came while the answer to where the group is was on its way.
        self._unplaced: list[LogRun] = []

    @property
    def head(self) -> int:
        """Offset of the last message that the members here were handed."""
        return self.next - 1

    # What is said here.

    def publish(self, entries: Sequence[bytes]) -> None:
        """Give messages of this node their offsets, and hand them to all; at once if the store is away."""
        size = sum(map(len, entries))
        # What is on its way to the store is handed out before, which takes no longer than the store may.
        is_direct = self.is_unsure and not self._is_appending
        if is_direct or self._waiting_bytes + size > MAX_WAITING_BYTES:
            self._publish_unlogged(entries)
            return
        self._waiting += entries
        self._waiting_bytes += size
        if not self._is_appending:
            # Until all of it has its offset the group stays here, whoever leaves.
            self._is_pinned = True
            self._group.pins += 1
            self._append_next()

    def _append_next(self) -> None:
        while self._waiting and not self._is_appending and not self.is_over:
            count = count_fitting(self._waiting, APPEND_ENTRIES, APPEND_BYTES)
            batch, self._waiting = self._waiting[:count], self._waiting[count:]
            self._is_appending = True
            asked = self._store.append(self._group.id, self.epoch, batch, self.limits)
            asked.addCallbacks(self._appended, self._not_appended, (batch,), {}, (batch,), {})
            asked.addErrback(self._bug)
        if not self._is_appending and self._is_pinned:
            self._is_pinned = False
            self._group.pins -= 1
            if not self._group.members:
                self._parts.settle(self._group)

    def _appended(self, placed: tuple[int, int], batch: list[bytes]) -> None:
        self._is_appending = False
        self._waiting_bytes -= sum(map(len, batch))
        self._counts.logged += len(batch)
        self._spread_and_take(LogRun(*placed, tuple(batch)))
        self._append_next()

    def _not_appended(self, failure: Failure, batch: list[bytes]) -> None:
        failure.trap(MeshError)
        self._is_appending = False
        self._counts.append_failures += 1
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        self._publish_unlogged([*batch, *waiting])
        self._append_next()

    def _publish_unlogged(self, entries: Sequence[bytes]) -> None:
        self._counts.unlogged += len(entries)
        if not self.epoch:
            self._has_hole = True
            self.be_unsure()
        while entries:
            # A link takes no more at once either.
            count = count_fitting(entries, APPEND_ENTRIES, APPEND_BYTES)
            self._spread_and_take(LogRun(0, 0, tuple(entries[:count])))
            entries = entries[count:]

    def _spread_and_take(self, run: LogRun) -> None:
        if self._group.spread is not None:
            self._group.spread.log(encode_run(run))
        self.take(run)

    def _bug(self, failure: Failure) -> None:
        self._log.failure("the history of a group failed", failure=failure)

    # What is said anywhere.

    def take(self, run: LogRun) -> None:
        """Take what was said, by this node or another, and hand to the members what is in order now."""
        if not self.is_synced:
            if self._syncing is not None and len(self._unplaced) < MAX_EARLY:
                self._unplaced.append(run)
            return
        if run.epoch > self.epoch and not (self.is_unsure and not self.epoch):
            self._begin(run.epoch)
        if not run.offset or self.is_unsure or run.epoch < self.epoch:
            self._has_hole |= not run.offset and not self.epoch
            # Nobody can be given these again, so whoever counts must be told that something else begins.
            self.be_unsure()
            for entry in run.entries:
                self._hand_over(0, 0, entry)
            return
        for offset, entry in enumerate(run.entries, run.offset):
            if offset == self.next:
                self.next += 1
                self._hand_over(run.epoch, offset, entry)
            elif offset > self.next and len(self._early) < MAX_EARLY and self._early_bytes < MAX_EARLY_BYTES:
                if offset not in self._early:
                    self._early[offset] = entry
                    self._early_bytes += len(entry)
        self._take_early()

    def _take_early(self) -> None:
        early = self._early
        while early and self.next in early:
            entry = early.pop(self.next)
            self._early_bytes -= len(entry)
            self.next += 1
            self._hand_over(self.epoch, self.next - 1, entry)
        if not early:
            self._stop_gap_alarm()
            return
        if min(early) < self.next:
            for offset in [offset for offset in early if offset < self.next]:
                self._early_bytes -= len(early.pop(offset))
            self._take_early()
        elif self._gap_alarm is None:
            self._gap_alarm = self._parts.alarms.call_later(GAP_SECONDS, lambda: self._fill_gap(GAP_TRIES))

    def _begin(self, epoch: int) -> None:
        """Another epoch counts from now on. What is still missing of the one before is lost."""
        for offset in sorted(self._early):
            self._hand_over(self.epoch, offset, self._early[offset])
        self._early.clear()
        self._early_bytes = 0
        self._stop_gap_alarm()
        if self.epoch:
            self._counts.epochs += 1
        self.epoch = epoch
        self.next = 1
        self.is_unsure = self._has_hole = False

    def _hand_over(self, epoch: int, offset: int, entry: bytes) -> None:
        number = entry_id(entry)
        if number in self._recent:
            self._counts.repeated += 1
            return
        self._recent[number] = None
        if len(self._recent) > MAX_RECENT:
            self._recent.popitem(last=False)
        for recovery in self._recoveries:
            recovery.said(epoch, offset, entry)
        self.pushes.push(epoch, offset, entry)

    def _stop_gap_alarm(self) -> None:
        if self._gap_alarm is not None:
            self._gap_alarm.cancel()
            self._gap_alarm = None

    def check(self) -> None:
        """Look whether something was said that did not come here: its node may have died before it had told all."""
        if self.is_synced and not self.is_unsure and not self.is_over and self._gap_alarm is None:
            self._gap_alarm = self._parts.alarms.call_later(GAP_SECONDS, lambda: self._fill_gap(GAP_TRIES))

    def _fill_gap(self, tries: int) -> None:
        self._counts.gap_reads += 1
        # It stands for the read that is under way, and is replaced below.
        asked = self._read(self.head)
        asked.addCallbacks(self._gap_read, self._gap_not_read, (), {}, (tries,), {})
        asked.addErrback(self._bug)

    def _gap_read(self, page: LogPage) -> None:
        self._gap_alarm = None
        before = self.next
        if page.epoch == self.epoch and page.entries and page.first > self.next:
            # What is missing is kept no more.
            self._skip_to(page.first)
        self._learn(page)
        if self._early and self.next == before and page.epoch == self.epoch:
            # Nobody has what is missing.
            self._skip_to(min(self._early))
        elif page.epoch == self.epoch and page.entries and page.head > self.head:
            self._fill_gap(GAP_TRIES)

    def _gap_not_read(self, failure: Failure, tries: int) -> None:
        failure.trap(MeshError)
        self._gap_alarm = None
        if self.is_over or self.is_unsure:
            return
        if tries > 1:
            self._gap_alarm = self._parts.alarms.call_later(1.0, lambda: self._fill_gap(tries - 1))
        elif self._early:
            self._skip_to(min(self._early))

    def _skip_to(self, offset: int) -> None:
        self._counts.missed += offset - self.next
        self.next = offset
        self._take_early()

    def _read(self, after: int) -> Deferred[LogPage]:
        return self._store.read(self._group.id, self.epoch, after, (READ_ENTRIES, READ_BYTES), self.limits)

    def _learn(self, page: LogPage) -> None:
        """Take what the store says as news, if it is."""
        if self.is_over or page.epoch < self.epoch or self.is_unsure:
            return
        if page.epoch > self.epoch:
            self._begin(page.epoch)
        if page.entries and page.first <= self.next:
            self.take(LogRun(page.epoch, page.first, page.entries))

    # Where the group is, for those who come in.

    def sync(self) -> Deferred[None]:
        """Ask where the group is. Fires when that is known, or cannot be: then the epoch is to be another one."""
        done: Deferred[None] = Deferred()
        if self.is_synced:
            done.callback(None)
        elif self._syncing is not None:
            self._syncing.append(done)
        else:
            self._syncing = [done]
            asked = self._store.read(self._group.id, self.epoch, 0, (0, 0), self.limits)
            asked.addCallbacks(self._placed, self._not_placed).addErrback(self._bug)
        return done

    def _placed(self, page: LogPage) -> None:
        self.epoch = page.epoch
        self.next = page.head + 1
        self._end_sync()

    def _not_placed(self, failure: Failure) -> None:
        failure.trap(MeshError)
        self._counts.append_failures += 1
        self.be_unsure()
        self._end_sync()

    def _end_sync(self) -> None:
        self.is_synced = True
        unplaced, self._unplaced = self._unplaced, []
        for run in unplaced:
            self.take(run)
        syncing, self._syncing = self._syncing, None
        for done in syncing or ():
            done.callback(None)

    def be_unsure(self) -> None:
        """Something was said that is not in the history: it is to begin anew as soon as the store can be asked."""
        if not self.is_unsure and not self.is_over:
            self.is_unsure = True
            self._stop_gap_alarm()
            self._parts.unsure.add(self)

    def renew(self) -> Deferred[LogPage]:
        """Begin another epoch unless that was done, and follow it. Fails with a MeshError."""
        known = self.epoch + 1 if self.epoch else 0
        asked = self._store.read(self._group.id, known, 0, (0, 0), self.limits)
        return asked.addCallback(self._renewed)

    def _renewed(self, page: LogPage) -> LogPage | Deferred[LogPage]:
        if self.is_unsure and self._has_hole and not self.epoch:
            # Now it is known which one has the hole.
            self.epoch = page.epoch
            return self.renew()
        if self.is_unsure and page.epoch > self.epoch:
            was_placed = self.epoch > 0
            self._begin(page.epoch)
            if not was_placed:
                self.next = page.head + 1
            elif page.head:
                self.check()
        return page

    # Members who come back.

    def begin_recovery(self, session: ISession) -> Recovery | None:
        """Hold back what is said from now on; None: too many are being recovered. End it with `recover`."""
        if len(self._recoveries) >= MAX_RECOVERIES:
            return None
        self.pushes.leave(session)
        recovery = Recovery(session)
        self._recoveries.append(recovery)
        return recovery

    async def recover(self, recovery: Recovery, epoch: int, offset: int) -> Position:
        """Find out what a member missed behind an offset that it was told. The pushes follow at the end of the turn."""
        try:
            page = await self._read(min(offset, self.head) if epoch == self.epoch else offset)
        except MeshError:
            self._counts.append_failures += 1
            self.be_unsure()
            page = None
        if page is not None:
            self._learn(page)
            if page.head > self.head:
                self.check()
        recovered = page is not None and self._holds_all(page, epoch, offset) and not recovery.is_over
        if recovered:
            assert page is not None
            missed = enumerate(page.entries, page.first)
            recovery.replay = [(epoch, number, entry) for number, entry in missed if number > offset]
            recovery.epoch, recovery.offset = epoch, page.head
        elif not self.is_unsure:
            recovery.epoch, recovery.offset = self.epoch, self.head
            recovery.live.clear()
        else:
            recovery.live.clear()
        recovery.is_over = False
        recovery.bytes = 0
        self._counts.recovered += recovered
        self._counts.not_recovered += not recovered
        self._parts.turn.join(_Finish(self, recovery))
        return Position(recovered, recovery.epoch, recovery.offset)

    def _holds_all(self, page: LogPage, epoch: int, offset: int) -> bool:
        if self.is_unsure or page.epoch != epoch or page.epoch != self.epoch or offset > page.head:
            return False
        if offset == page.head:
            return True
        return page.first <= offset + 1 and page.first + len(page.entries) == page.head + 1

    def give_up(self, recovery: Recovery) -> None:
        """The member is not to be recovered after all; if it is one, it hears what is said as others do."""
        if recovery in self._recoveries:
            self._recoveries.remove(recovery)
            session = recovery.session
            if not session.is_over and self._group.members.get(session.user.user_id) is session:
                self.pushes.join(session)

    def finish(self, recovery: Recovery) -> None:
        """Push what was missed and what was said meanwhile; from now on the member hears what is said."""
        if recovery not in self._recoveries:
            return
        self._recoveries.remove(recovery)
        session = recovery.session
        if self.is_over or session.is_over or self._group.members.get(session.user.user_id) is not session:
            return
        place = (recovery.epoch, recovery.offset)
        since = [said for said in recovery.live if not said[0] or said[:2] > place]
        self.pushes.join_with_offsets(session, [*recovery.replay, *since])

    async def page(self, after: int, bounds: tuple[int, int]) -> LogPage:
        """Read a part of the history.

        :raises MeshError: the store is away.
        """
        return await self._store.read(self._group.id, self.epoch, after, bounds, self.limits)

    def stop(self) -> None:
        """The group is not held here any more."""
        self.is_over = True
        self._stop_gap_alarm()
        self._parts.unsure.discard(self)
        self._recoveries.clear()
        self.pushes.close()


class _Finish:
    """Ends a recovery at the end of the turn: behind the answer to the command."""

    __slots__ = ("_log", "_recovery")

    def __init__(self, log: GroupLog, recovery: Recovery) -> None:
        self._log = log
        self._recovery = recovery

    def flush(self) -> None:
        """See `meshrelay.fanout.turn.Flushable`."""
        self._log.finish(self._recovery)
