"""Which groups have a history, and what all of those have in common.

A group with history is a `LoggedGroup`: a group whose messages take the way through its `GroupLog`. All others are as
fast as if there were no such thing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple, Protocol

from twisted.logger import Logger
from twisted.python.failure import Failure

from meshrelay.background import Alarm, Alarms
from meshrelay.components.group_log import GroupLog
from meshrelay.components.group_log_push import is_broadcast
from meshrelay.components.group_table import LiveGroup, NewGroupSettings
from meshrelay.config.schema import Config
from meshrelay.directory.history import HistoryStore
from meshrelay.errors import MeshError
from meshrelay.fanout.hub import Channel, Hub
from meshrelay.fanout.turn import Flushable
from meshrelay.interfaces import ISession
from meshrelay.machine.message_logs import LogLimits
from meshrelay.wire.buffer import GROUP_ID_BYTES
from meshrelay.wire.commands import BUILT_IN_VER, Command
from meshrelay.wire.frame import FrameDecoder, split_frames
from meshrelay.wire.group_log import LogEntry, encode_entry
from meshrelay.wire.history_commands import LOGGED_EXTRA_BYTES

__all__ = ["RENEW_SECONDS", "GroupLogs", "LogCounts", "LogParts", "LogRules", "LoggedGroup"]

#: While the store is away it is asked so often whether it is back.
RENEW_SECONDS = 1.0

#: Groups whose history begins anew at a time, once it is.
RENEWALS_AT_ONCE = 64

#: What the node itself says of members: of the moment, and worth nothing later.
_NOT_KEPT = frozenset(
    (BUILT_IN_VER, cmd.value)
    for cmd in (
        Command.GROUP_JOIN,
        Command.GROUP_LEAVE,
        Command.GROUP_LOST,
        Command.GROUP_BACK,
    )
)


class LogRules(NamedTuple):
    """What must be known of the configuration."""

    #: (glob on the group ID, what is kept); the first that matches counts.
    patterns: tuple[tuple[str, LogLimits], ...]
    #: Of a push.
    max_payload_bytes: int

    @classmethod
    def of(cls, config: Config) -> LogRules:
        """Return what the configuration says."""
        patterns = tuple(
            (rule.pattern, LogLimits(rule.history_size, rule.history_ttl_seconds)) for rule in config.group.history
        )
        return cls(patterns, config.session.max_payload_bytes)

    def limits_of(self, group_id: str) -> LogLimits | None:
        """What is kept of a group; None: nothing."""
        for pattern, limits in self.patterns:
            if fnmatchcase(group_id, pattern):
                return limits
        return None


class LogCounts:
    """Counters of all histories of this node."""

    def __init__(self) -> None:
        self.logged = 0
        self.unlogged = 0
        self.append_failures = 0
        self.epochs = 0
        self.gap_reads = 0
        self.missed = 0
        self.repeated = 0
        self.recovered = 0
        self.not_recovered = 0

    def statistics(self) -> Mapping[str, int]:
        """Counts for the metrics page; the same keys at each call."""
        return {f"group_log_{name}": count for name, count in vars(self).items()}


class _Turn(Protocol):
    def join(self, flushable: Flushable) -> None:
        """See `meshrelay.fanout.turn.Turn.join`."""


class LogParts(NamedTuple):
    """What every `GroupLog` stands on."""

    store: HistoryStore
    hub: Hub
    turn: _Turn
    alarms: Alarms
    counts: LogCounts
    #: Those whose epoch is over.
    unsure: _Unsure
    #: Discards a group that nobody needs any more: one was held until all that was said in it had its offset.
    settle: Callable[[LiveGroup], object]


class _Unsure:
    """Histories that are to begin anew: tried one a second, and all as soon as one works."""

    _log = Logger()

    def __init__(self, alarms: Alarms) -> None:
        self._alarms = alarms
        self._logs: dict[GroupLog, None] = {}
        self._alarm: Alarm | None = None

    def __len__(self) -> int:
        return len(self._logs)

    def add(self, log: GroupLog) -> None:
        """Its epoch is over."""
        self._logs[log] = None
        self._wait()

    def discard(self, log: GroupLog) -> None:
        """It has another one, or its group is gone."""
        self._logs.pop(log, None)

    def _wait(self) -> None:
        if self._alarm is None and self._logs:
            self._alarm = self._alarms.call_later(RENEW_SECONDS, lambda: self._try(1))

    def _try(self, count: int) -> None:
        self._alarm = None
        for log in [log for log in self._logs if not log.is_unsure]:
            del self._logs[log]
        for log in list(self._logs)[:count]:
            # Behind the others: one that cannot be renewed must not stand in their way.
            del self._logs[log]
            self._logs[log] = None
            asked = log.renew()
            asked.addCallbacks(lambda _: self._worked(), self._failed)
        self._wait()

    def _worked(self) -> None:
        for log in [log for log in self._logs if not log.is_unsure]:
            del self._logs[log]
        if self._logs:
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm = self._alarms.call_later(0, lambda: self._try(RENEWALS_AT_ONCE))

    def _failed(self, failure: Failure) -> None:
        if failure.check(MeshError) is None:
            self._log.failure("the history of a group failed", failure=failure)

    def stop(self) -> None:
        """Ask nothing any more."""
        self._logs.clear()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None


class LoggedGroup(LiveGroup):
    """A group with history."""

    __slots__ = ("_decoder", "_max_payload_bytes", "_random_bytes")

    #: See `LiveGroup.extra_bytes`.
    extra_bytes = LOGGED_EXTRA_BYTES

    def use(self, log: GroupLog, max_payload_bytes: int, random_bytes: Callable[[int], bytes]) -> None:
        """Have `log` from now on. Called once, before anything else."""
        self.log = log
        self._max_payload_bytes = max_payload_bytes
        self._random_bytes = random_bytes
        self._decoder = FrameDecoder(1 << 32)

    def publish(self, frame: bytes, sender: ISession | None, reliable: bool, count: int = 1) -> None:
        """As `LiveGroup.publish`; messages reach the members when they have their offsets."""
        assert self.log is not None
        user_id = sender.user.user_id if sender is not None else ""
        entries = []
        for each in split_frames(frame) if count > 1 else (frame,):
            entry = self._entry_of(each, user_id, reliable)
            if entry is not None:
                entries.append(entry)
                if self.tap is not None:
                    self.tap(self, each, sender, 1)
            else:
                super().publish(each, sender, reliable)
        if entries:
            self.log.publish(entries)

    def _entry_of(self, frame: bytes, user_id: str, reliable: bool) -> bytes | None:
        """One push as it is kept; None: it is not one to be kept."""
        [pushed] = self._decoder.frames(frame)
        ver, cmd, message = pushed.ver, pushed.cmd, pushed.payload
        if (ver, cmd) in _NOT_KEPT:
            return None
        if is_broadcast(ver, cmd):
            start = GROUP_ID_BYTES + 1
            if len(message) < start or not message.startswith(self.wire_id):
                return None
            end = start + message[GROUP_ID_BYTES]
            try:
                user_id = message[start:end].decode("utf-8")
            except UnicodeDecodeError:
                return None
            message = message[end:]
        size = len(self.wire_id) + 1 + len(user_id.encode("utf-8")) + LOGGED_EXTRA_BYTES + len(message)
        if size > self._max_payload_bytes:
            return None
        number = int.from_bytes(self._random_bytes(8), "big")
        return encode_entry(LogEntry(reliable, number, user_id, ver, cmd, message))


def _keep(group: LiveGroup) -> None:
    """Nobody can discard a group yet."""


class GroupLogs:
    """Makes groups with and without history; see `meshrelay.components.group_table.GroupTable`.

    :param random_bytes: ``random_bytes(n)`` -> n bytes.
    """

    def __init__(
        self,
        rules: LogRules,
        store: HistoryStore,
        hub: Hub,
        turn: _Turn,
        alarms: Alarms,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._rules = rules
        self._random_bytes = random_bytes
        self._counts = LogCounts()
        self._unsure = _Unsure(alarms)
        self._parts = LogParts(store, hub, turn, alarms, self._counts, self._unsure, self._settle)
        #: Set once there is a table, see `meshrelay.components.group_table.GroupTable.settle`.
        self.settle: Callable[[LiveGroup], object] = _keep

    def _settle(self, group: LiveGroup) -> None:
        self.settle(group)

    def make_group(
        self, group_id: str, settings: NewGroupSettings, channel: Channel, is_replica: bool, created_at: float
    ) -> LiveGroup:
        """Return a group, with history if its ID says so."""
        limits = self._rules.limits_of(group_id)
        if limits is None:
            return LiveGroup(group_id, settings, channel, is_replica, created_at)
        group = LoggedGroup(group_id, settings, channel, is_replica, created_at)
        log = GroupLog(group, self._parts, limits, not is_replica and not settings.is_static)
        group.use(log, self._rules.max_payload_bytes, self._random_bytes)
        return group

    def statistics(self) -> Mapping[str, int]:
        """Counts for the metrics page; the same keys at each call."""
        return {
            **self._counts.statistics(),
            "group_log_unsure": len(self._unsure),
            **self._parts.store.statistics(),
        }

    def stop(self) -> None:
        """The node is going down. Whoever made the store ends it."""
        self._unsure.stop()
