"""Histories of groups on a Redis server, one stream for each group: they outlive every node.

Keys, beside those of the directory:

===============  ==========================================================================================
log:GROUP        hash: ``e`` -> epoch, 20 digits; ``h`` -> offset of the last message; ``r`` -> the life of the server
stream:GROUP     stream: OFFSET-0 -> ``m`` message, ``t`` milliseconds
===============  ==========================================================================================

Each call is one script, so offsets have no gap. A server that began anew, or was replaced by its replica, may have lost
its last messages and would give their offsets again: with another run ID a history begins another epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from struct import Struct
from struct import error as struct_error
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from meshrelay.directory.errors import DirectoryUnavailable
from meshrelay.directory.history import new_epoch
from meshrelay.directory.options import DirectoryOptions
from meshrelay.directory.records import check_group_id
from meshrelay.directory.redis_dial import RedisConnection, RedisDialer, TlsMaker, open_dialer
from meshrelay.directory.redis_link import RedisLink
from meshrelay.directory.redis_script import RedisScripts
from meshrelay.machine.message_logs import LogLimits
from meshrelay.wire.group_log import LogPage

__all__ = ["RedisHistory", "open_redis_history"]

#: How long the epoch of a group is remembered after its last message is too old: coming back then is no error.
_EPOCH_SECONDS = 86400

#: An epoch as it stands in Redis, whose scripts cannot count so far.
_EPOCH_DIGITS = 20

#: Scripts count no further; nobody gets there.
_MAX_OFFSET = (1 << 53) - 1

#: KEYS: log, stream. ARGV: known epoch, new epoch, run ID, now, ttl, milliseconds to remember.
_OPEN = """
local log, stream = KEYS[1], KEYS[2]
local held = redis.call('HMGET', log, 'e', 'h', 'r')
local epoch, head = held[1], tonumber(held[2] or '0')
if not epoch or epoch < ARGV[1] or held[3] ~= ARGV[3] then
  local least = ARGV[1]
  if epoch and epoch >= least then least = epoch end
  epoch = ARGV[2]
  if epoch <= least then return 'again:' .. least end
  head = 0
  redis.call('DEL', stream)
  redis.call('HSET', log, 'e', epoch, 'h', '0', 'r', ARGV[3])
end
redis.call('PEXPIRE', log, ARGV[6])
local function drop_old()
  local oldest = tonumber(ARGV[4]) - tonumber(ARGV[5])
  while true do
    local found, last = redis.call('XRANGE', stream, '-', '+', 'COUNT', 64), nil
    for _, each in ipairs(found) do
      if tonumber(each[2][4]) > oldest then break end
      last = each[1]
    end
    if not last then return end
    redis.call('XTRIM', stream, 'MINID', string.format('%.0f-0', tonumber(string.match(last, '^%d+')) + 1))
  end
end
local function number(value) return string.format('%020.0f', value) end
"""

_APPEND = (
    _OPEN
    + """
local first = head + 1
for i = 8, #ARGV do
  head = head + 1
  redis.call('XADD', stream, 'MAXLEN', ARGV[7], string.format('%.0f-0', head), 'm', ARGV[i], 't', ARGV[4])
end
redis.call('HSET', log, 'h', string.format('%.0f', head))
drop_old()
redis.call('PEXPIRE', stream, ARGV[5])
return epoch .. number(first)
"""
)

_READ = (
    _OPEN
    + """
drop_old()
local after, count, size = tonumber(ARGV[7]), tonumber(ARGV[8]), 0
local parts, first = {}, nil
if count > 0 then
  local found = redis.call('XRANGE', stream, string.format('(%.0f-0', after), '+', 'COUNT', count)
  for i, each in ipairs(found) do
    local message = each[2][2]
    size = size + #message
    if size > tonumber(ARGV[9]) and i > 1 then break end
    if not first then first = tonumber(string.match(each[1], '^%d+')) end
    parts[#parts + 1] = struct.pack('>I4', #message) .. message
  end
end
if not first then first = math.max(after, head) + 1 end
return epoch .. number(head) .. number(first) .. table.concat(parts)
"""
)

_LENGTH = Struct("!I")


def open_redis_history(
    reactor: Any,
    url: str,
    cluster: str,
    random: Random,
    options: DirectoryOptions = DirectoryOptions(),  # noqa: B008  (frozen)
    tls: TlsMaker | None = None,
) -> RedisHistory:
    """Put a store together; nothing is connected before its first call. Arguments as `open_redis_directory`.

    :raises ConfigError: the URL is wrong, or txredisapi is not installed.
    """
    dialer, library = open_dialer(reactor, url, options.deadline_seconds, tls)
    return RedisHistory(reactor, dialer, library, RedisScripts(cluster, options).prefix, random, options)


class RedisHistory:
    """`meshrelay.directory.history.HistoryStore` on Redis, by a connection of its own.

    :param library: txredisapi.
    :param prefix: of all keys.
    """

    def __init__(
        self,
        clock: IReactorTime,
        dialer: RedisDialer,
        library: Any,
        prefix: str,
        random: Random,
        options: DirectoryOptions,
    ) -> None:
        self._clock = clock
        self._dialer = dialer
        self._library = library
        self._prefix = prefix
        self._random = random
        self._link = RedisLink(clock, "history", library, self._connect, options, random.uniform, lambda _: None)

    async def _connect(self) -> RedisConnection:
        return await self._dialer.connect(self._library.RedisProtocol)

    def append(
        self, group_id: str, known_epoch: int, entries: Sequence[bytes], limits: LogLimits
    ) -> Deferred[tuple[int, int]]:
        """See `HistoryStore`."""
        answer = self._run(_APPEND, group_id, known_epoch, limits.ttl_seconds, [limits.size, *entries])
        return answer.addCallback(_read_placed)

    def read(
        self, group_id: str, known_epoch: int, after: int, bounds: tuple[int, int], limits: LogLimits
    ) -> Deferred[LogPage]:
        """See `HistoryStore`."""
        answer = self._run(_READ, group_id, known_epoch, limits.ttl_seconds, [min(after, _MAX_OFFSET), *bounds])
        return answer.addCallback(_read_page)

    def statistics(self) -> Mapping[str, int]:
        """See `HistoryStore`."""
        counts = self._link.statistics()
        return {"group_log_calls": counts["calls"], "group_log_calls_refused": counts["refused_busy"]}

    def stop(self) -> Deferred[None]:
        """See `HistoryStore`."""
        return self._link.stop()

    def _run(
        self, script: str, group_id: str, known_epoch: int, ttl_seconds: float, rest: Sequence[bytes | int]
    ) -> Deferred[bytes]:
        check_group_id(group_id)
        keys = [f"{self._prefix}log:{group_id}", f"{self._prefix}stream:{group_id}"]
        now = self._clock.seconds()
        begun = max(known_epoch + 1, new_epoch(now, self._random.randrange))

        def send(least: int) -> Callable[[Any], Any]:
            def call(protocol: Any) -> Any:
                connection = self._link.connection
                run_id = connection.run_id if connection is not None else ""
                ttl_ms = max(1, round(ttl_seconds * 1000))
                arguments: list[bytes | int | str] = [
                    f"{known_epoch:0{_EPOCH_DIGITS}}",
                    f"{least:0{_EPOCH_DIGITS}}",
                    run_id,
                    round(now * 1000),
                    ttl_ms,
                    ttl_ms + _EPOCH_SECONDS * 1000,
                    *rest,
                ]
                return protocol.eval(script, keys, arguments)

            return call

        def again(answer: bytes) -> bytes | Deferred[bytes]:
            if not answer.startswith(b"again:"):
                return answer
            # Our clock is behind the one that named the present epoch.
            return self._link.call(send(int(answer[6:]) + 1))

        return self._link.call(send(begun)).addCallback(again)


def _read_placed(answer: bytes) -> tuple[int, int]:
    try:
        return int(answer[:_EPOCH_DIGITS]), int(answer[_EPOCH_DIGITS:])
    except (TypeError, ValueError):
        raise DirectoryUnavailable("something else wrote a history") from None


def _read_page(answer: bytes) -> LogPage:
    try:
        epoch, head, first = (int(answer[at : at + _EPOCH_DIGITS]) for at in range(0, 60, _EPOCH_DIGITS))
        entries, at = [], 60
        while at < len(answer):
            start = at + _LENGTH.size
            at = start + _LENGTH.unpack_from(answer, at)[0]
            entries.append(answer[start:at])
        return LogPage(epoch, head, first, tuple(entries))
    except (TypeError, ValueError, struct_error):
        raise DirectoryUnavailable("something else wrote a history") from None
