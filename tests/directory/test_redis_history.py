"""Tests of `meshrelay.directory.redis_history` without a server; the scripts run in tests/integration."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.directory.errors import DirectoryUnavailable
from meshrelay.directory.options import DirectoryOptions
from meshrelay.directory.redis_dial import RedisDialer
from meshrelay.directory.redis_history import RedisHistory, open_redis_history
from meshrelay.directory.redis_url import RedisPlace
from meshrelay.errors import ConfigError
from meshrelay.machine.message_logs import LogLimits
from meshrelay.testing.builders import make_group_id
from meshrelay.wire.group_log import LogPage
from tests.directory.memory_redis import LIBRARY, MISSING, MemoryRedis, bulk

LIMITS = LogLimits(10, 60.0)
LOBBY = make_group_id("lobby")


class RedisHistoryTests(SynchronousTestCase):
    """What is asked, and what answers mean."""

    skip = MISSING or None

    def setUp(self) -> None:
        """A server whose scripts answer with what stands in `answers`, the last one again and again."""
        self.redis = MemoryRedis()
        self.answers: list[bytes | None] = [b""]
        for name in (b"EVAL", b"EVALSHA"):
            self.redis.answers[name] = self.script
        options = DirectoryOptions()
        place = RedisPlace((("redis", 6379),))
        dialer = RedisDialer(self.redis.clock, LIBRARY, place, self.redis.endpoints, options.deadline_seconds)
        self.store = RedisHistory(self.redis.clock, dialer, LIBRARY, "p:", Random(1), options)

    def script(self, command: list[bytes]) -> bytes | None:
        """Answer a script."""
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return None if answer is None else bulk(answer)

    def arguments(self) -> list[bytes]:
        """What the last script was given behind its keys."""
        return self.redis.commands[-1][5:]

    def test_append(self) -> None:
        """The script is told the epoch, the life of the server and the messages, and answers epoch and offset."""
        self.answers = [b"%020d%020d" % (7, 3)]
        placed = self.store.append(LOBBY, 5, [b"x", b"y"], LIMITS)
        self.redis.turn()
        self.assertEqual(self.successResultOf(placed), (7, 3))
        known, new, run_id, _, ttl_ms, _, size, *entries = self.arguments()
        self.assertEqual((int(known), run_id, ttl_ms, size, entries), (5, b"run1", b"60000", b"10", [b"x", b"y"]))
        self.assertGreater(int(new), 5)
        self.assertEqual(self.redis.commands[-1][3:5], [f"p:log:{LOBBY}".encode(), f"p:stream:{LOBBY}".encode()])

    def test_late_clock(self) -> None:
        """A node whose clock is behind the present epoch tries once more, with a greater one."""
        self.answers = [b"again:%020d" % (1 << 62), b"%020d%020d" % (1, 1)]
        placed = self.store.append(LOBBY, 0, [b"x"], LIMITS)
        self.redis.turn()
        self.assertEqual(self.successResultOf(placed), (1, 1))
        self.assertEqual(int(self.arguments()[1]), (1 << 62) + 1)

    def test_read(self) -> None:
        """A page has all messages as they are."""
        self.answers = [b"%020d%020d%020d" % (7, 9, 8) + b"\0\0\0\3a\r\n" + b"\0\0\0\0"]
        page = self.store.read(LOBBY, 0, 1 << 63, (10, 100), LIMITS)
        self.redis.turn()
        self.assertEqual(self.successResultOf(page), LogPage(7, 9, 8, (b"a\r\n", b"")))
        self.assertEqual(int(self.arguments()[6]), (1 << 53) - 1)

    def test_strange(self) -> None:
        """An answer that cannot be one is as good as none."""
        self.answers = [b"hello"]
        placed, page = self.store.append(LOBBY, 0, [b"x"], LIMITS), self.store.read(LOBBY, 0, 0, (1, 1), LIMITS)
        self.redis.turn()
        self.failureResultOf(placed, DirectoryUnavailable)
        self.failureResultOf(page, DirectoryUnavailable)

    def test_away(self) -> None:
        """A server that hangs or is not there fails the call in two seconds."""
        self.answers = [None]
        placed = self.store.append(LOBBY, 0, [b"x"], LIMITS)
        self.redis.turn(2.0)
        self.failureResultOf(placed, DirectoryUnavailable)
        self.assertEqual(self.store.statistics(), {"group_log_calls": 1, "group_log_calls_refused": 0})
        self.successResultOf(self.store.stop())

    def test_open(self) -> None:
        """A URL that is none is the operator's fault."""
        store = open_redis_history(self.redis.clock, "redis://host:1/0", "test", Random())
        self.assertEqual(store.statistics()["group_log_calls"], 0)
        self.assertRaises(ConfigError, open_redis_history, self.redis.clock, "redis://", "test", Random())
