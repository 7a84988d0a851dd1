"""Tests of `meshrelay.directory.redis` without a server; the contract on a real one is in tests/integration."""

from __future__ import annotations

import gc
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from meshrelay.directory.errors import DirectoryUnavailable, NodeUnknown
from meshrelay.directory.interfaces import IDirectory
from meshrelay.directory.options import DirectoryOptions
from meshrelay.directory.redis import MAX_LOOPBACKS, REFRESH_BATCH, RedisDirectory, open_redis_directory
from meshrelay.directory.redis_dial import RedisDialer
from meshrelay.directory.redis_script import RedisScripts
from meshrelay.directory.redis_url import RedisPlace
from meshrelay.errors import ConfigError
from meshrelay.testing.directory_contract import make_user_record
from tests.directory.memory_redis import LIBRARY, MISSING, MemoryRedis, array, bulk


class RedisDirectoryTests(SynchronousTestCase):
    """The directory and its two connections."""

    skip = MISSING or None

    def setUp(self) -> None:
        """A server whose scripts answer with what `script_answer` is."""
        self.redis = MemoryRedis()
        self.script_answer = b"stored epoch"
        for name in (b"EVAL", b"EVALSHA"):
            self.redis.answers[name] = lambda _: bulk(self.script_answer)
        self.redis.answers[b"PUBLISH"] = self.publish
        self.directory = self.make()
        self.losses = 0
        self.directory.watch_lost(self.lost)

    def make(self, place: RedisPlace | None = None) -> RedisDirectory:
        """A directory on the server."""
        place = place or RedisPlace((("redis", 6379),))
        options = DirectoryOptions()
        dialer = RedisDialer(self.redis.clock, LIBRARY, place, self.redis.endpoints, options.deadline_seconds)
        scripts = RedisScripts("test", options)
        return RedisDirectory(self.redis.clock, dialer, LIBRARY, scripts, Random(1), options)

    def lost(self) -> None:
        """A watcher."""
        self.losses += 1

    def publish(self, command: list[bytes]) -> bytes:
        """Send a message to the one who listens."""
        self.redis.clock.callLater(0, self.ear().deliver, array(bulk("message"), bulk(command[1]), bulk(command[2])))
        return b":1\r\n"

    def ear(self) -> Any:
        """The connection that listens."""
        return next(link for link in self.redis.connections if isinstance(link.protocol, LIBRARY.SubscriberProtocol))

    def result(self, call: Deferred[Any]) -> Any:
        """What a call gives, after its turns."""
        self.redis.turn()
        return self.successResultOf(call)

    def test_interface(self) -> None:
        """It has everything that the interface names."""
        self.assertTrue(verifyObject(IDirectory, self.directory))

    def test_lazy(self) -> None:
        """Nothing is connected before it is needed, and loopback alone needs the second connection."""
        self.assertEqual(self.redis.dialed, [])
        self.assertEqual(self.result(self.directory.epoch()), "run1:stored epoch")
        self.assertEqual(len(self.redis.dialed), 1)

    def test_quiet(self) -> None:
        """As long as nothing happens the watchers hear nothing, from the first connection on."""
        self.directory.start()
        self.redis.turn()
        for _ in range(20):
            self.redis.turn(1.0)
        self.assertEqual(self.losses, 0)
        self.assertGreaterEqual(len(self.redis.said(b"EVALSHA")), 19)

    def test_wiped(self) -> None:
        """Another epoch is told within a second, once."""
        self.directory.start()
        self.redis.turn()
        self.script_answer = b"another"
        self.redis.turn(1.0)
        self.redis.turn(1.0)
        self.assertEqual((self.losses, self.directory.statistics()["losses"]), (1, 1))

    def test_back(self) -> None:
        """A connection that is back is told at once and once, even when the data look the same."""
        self.directory.start()
        self.redis.turn()
        self.redis.cut()
        self.redis.turn(0.1)
        self.redis.turn(3.0)
        self.assertEqual(self.losses, 1)

    def test_late(self) -> None:
        """A server that was away from the start is told when it comes: nothing could be registered before."""
        self.redis.is_refusing = True
        self.directory.start()
        self.redis.turn(3.0)
        self.redis.is_refusing = False
        self.redis.turn(3.0)
        self.redis.turn(3.0)
        self.assertEqual(self.losses, 1)

    def test_not_started(self) -> None:
        """Before the start nobody looks."""
        self.result(self.directory.epoch())
        before = len(self.redis.commands)
        self.redis.turn(10.0)
        self.assertEqual(len(self.redis.commands), before)

    def test_loopback(self) -> None:
        """A token that comes back is told."""
        self.assertIsNone(self.result(self.directory.loopback("token")))
        self.assertEqual(self.redis.said(b"PUBLISH")[0][2], b"token")
        self.assertEqual(self.redis.said(b"PUBLISH")[0][1], self.redis.said(b"SUBSCRIBE")[0][1])

    def test_loopback_silent(self) -> None:
        """A token that does not come back fails within the deadline, and the deaf connection is made anew."""
        self.result(self.directory.loopback("token"))
        self.redis.answers[b"PUBLISH"] = lambda _: b":1\r\n"
        call = self.directory.loopback("lost")
        self.redis.turn(1.9)
        self.assertNoResult(call)
        self.redis.turn(0.2)
        self.failureResultOf(call, DirectoryUnavailable)
        self.redis.answers[b"PUBLISH"] = self.publish
        self.redis.turn(1.0)
        self.result(self.directory.loopback("again"))
        self.assertEqual(self.directory.statistics()["loopback_connections"], 2)

    def test_loopback_nobody(self) -> None:
        """A token that nobody was sent fails at once: the two connections are on different servers."""
        self.result(self.directory.loopback("token"))
        self.redis.answers[b"PUBLISH"] = lambda _: b":0\r\n"
        call = self.directory.loopback("lost")
        self.redis.turn()
        self.failureResultOf(call, DirectoryUnavailable)

    def test_loopback_away(self) -> None:
        """While the server is away a token fails at once, and once only: nothing is left over for the log."""
        self.redis.is_refusing = True
        self.failureResultOf(self.directory.loopback("token"), DirectoryUnavailable)
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_loopback_cut(self) -> None:
        """When the listening connection is lost what waits for it fails at once."""
        self.result(self.directory.loopback("token"))
        self.redis.answers[b"PUBLISH"] = lambda _: b":1\r\n"
        call = self.directory.loopback("lost")
        self.redis.turn()
        self.assertNoResult(call)
        self.ear().loseConnection()
        self.failureResultOf(call, DirectoryUnavailable)

    def test_loopback_bound(self) -> None:
        """The number of tokens on their way has a bound; one more fails at once and is counted."""
        self.result(self.directory.loopback("token"))
        self.redis.answers[b"PUBLISH"] = lambda _: b":1\r\n"
        calls = [self.directory.loopback(f"token-{number}") for number in range(MAX_LOOPBACKS)]
        self.failureResultOf(self.directory.loopback("one more"), ValueError)
        self.failureResultOf(self.directory.loopback("token-1"), ValueError)
        self.failureResultOf(self.directory.loopback("more"), DirectoryUnavailable)
        self.assertEqual(self.directory.statistics()["loopbacks_refused"], 1)
        self.redis.turn(2.1)
        for call in calls:
            self.failureResultOf(call, DirectoryUnavailable)

    def test_refresh_batches(self) -> None:
        """A refresh goes out in batches of a bounded size, a few of them at once."""
        self.script_answer = b""
        self.result(self.directory.find_user("ann"))
        self.redis.commands.clear()
        users = [make_user_record(str(number)) for number in range(REFRESH_BATCH * 5 + 1)]
        call = self.directory.refresh("node-a", users, [])
        self.assertEqual(len(self.redis.commands), 4)
        self.redis.turn()
        self.assertEqual(self.successResultOf(call), [])
        # EVAL or EVALSHA, the script, the number of keys, one key, prefix and lifetime.
        sizes = [len(command) - 6 for command in self.redis.commands]
        self.assertEqual(sizes, [REFRESH_BATCH] * 5 + [1])

    def test_refresh_unknown(self) -> None:
        """A refresh without a lease is told, for users and for groups."""
        self.script_answer = b"unknown"
        for users, groups in (([make_user_record()], []), ([], [("g", b"")])):
            call = self.directory.refresh("node-a", users, groups)
            self.redis.turn()
            self.failureResultOf(call, NodeUnknown)

    def test_refresh_lost(self) -> None:
        """A connection that is lost during a refresh fails it once, with nothing left over."""
        self.result(self.directory.epoch())
        users = [make_user_record(str(number)) for number in range(REFRESH_BATCH * 4)]
        call = self.directory.refresh("node-a", users, [])
        self.redis.cut()
        self.failureResultOf(call, DirectoryUnavailable)

    def test_script_unknown(self) -> None:
        """A server that forgot a script is sent it."""
        self.result(self.directory.epoch())
        self.redis.answers[b"EVALSHA"] = lambda _: b"-NOSCRIPT No matching script.\r\n"
        self.assertEqual(self.result(self.directory.epoch()), "run1:stored epoch")
        self.assertEqual([command[0] for command in self.redis.commands], [b"INFO", b"EVAL", b"EVALSHA", b"EVAL"])

    def test_master_moved(self) -> None:
        """When Sentinel names another master the old one is left, even though it still answers."""
        master = [b"10.0.0.1"]
        self.redis.answers[b"SENTINEL"] = lambda _: array(bulk(master[0]), bulk("6379"))
        directory = self.make(RedisPlace((("sentinel", 26379),), service="main"))
        directory.start()
        self.redis.turn()
        self.assertEqual(self.redis.dialed[-1], ("10.0.0.1", 6379))
        master[0] = b"10.0.0.2"
        for _ in range(8):
            self.redis.turn(1.0)
        self.assertIn(("10.0.0.2", 6379), self.redis.dialed)

    def test_wrong_arguments(self) -> None:
        """What cannot be a key is the caller's mistake, and nothing is sent."""
        for call in (
            self.directory.find_user(""),
            self.directory.find_group("a b"),
            self.directory.leave_group("g", ""),
            self.directory.loopback("a b"),
        ):
            self.failureResultOf(call, ValueError)
        self.assertEqual(self.redis.commands, [])

    def test_stop(self) -> None:
        """After the end nothing is open and nothing is due."""
        self.directory.start()
        self.result(self.directory.loopback("token"))
        self.assertEqual(len(self.redis.connections), 2)
        self.successResultOf(self.directory.stop())
        self.redis.turn()
        self.assertEqual((self.redis.connections, self.redis.clock.getDelayedCalls()), ([], []))


class OpenTests(SynchronousTestCase):
    """Putting a directory together."""

    skip = MISSING or None

    def test_wrong_url(self) -> None:
        """A wrong URL is told before anything is connected."""
        self.assertRaises(ConfigError, open_redis_directory, MemoryRedis().clock, "redis://", "test", Random(1))

    def test_refresh_seconds(self) -> None:
        """A node has to say everything again well before the server forgets it."""
        directory = open_redis_directory(MemoryRedis().clock, "rediss://cache", "test", Random(1))
        self.assertEqual(directory.refresh_seconds, 1200.0)
