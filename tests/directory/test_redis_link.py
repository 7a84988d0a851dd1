"""Tests of `meshrelay.directory.redis_link`."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.directory.errors import DirectoryUnavailable
from meshrelay.directory.options import DirectoryOptions
from meshrelay.directory.redis_dial import RedisConnection, RedisDialer
from meshrelay.directory.redis_link import BACKOFF_CAP_SECONDS, LinkState, RedisLink
from meshrelay.directory.redis_url import RedisPlace
from tests.directory.memory_redis import LIBRARY, MISSING, MemoryRedis

#: Longer than one try and the longest pause after it.
ROUND_SECONDS = 2.0 + BACKOFF_CAP_SECONDS + 0.1


class RedisLinkTests(SynchronousTestCase):
    """One connection, kept up."""

    skip = MISSING or None

    def setUp(self) -> None:
        """A server, and a link that never waits shorter than it may."""
        self.redis = MemoryRedis()
        self.changes: list[bool] = []
        self.link = self.make_link(DirectoryOptions(max_pending=5))

    def make_link(self, options: DirectoryOptions) -> RedisLink:
        """A link to the server."""
        place = RedisPlace(addresses=(("redis", 6379),))
        dialer = RedisDialer(self.redis.clock, LIBRARY, place, self.redis.endpoints, 2.0)

        async def connect() -> RedisConnection:
            return await dialer.connect(LIBRARY.RedisProtocol)

        def longest(low: float, high: float) -> float:
            return high

        return RedisLink(self.redis.clock, "test", LIBRARY, connect, options, longest, self.changes.append)

    def ping(self) -> Deferred[Any]:
        """A call."""
        return self.link.call(lambda protocol: protocol.ping())

    def why(self, call: Deferred[Any]) -> str:
        """Why a call failed."""
        return str(self.failureResultOf(call, DirectoryUnavailable).value.detail)

    def up(self) -> None:
        """Bring the link up."""
        call = self.ping()
        self.redis.turn()
        self.successResultOf(call)

    def test_lazy(self) -> None:
        """Nothing is connected before the first call, which waits for the connection."""
        self.redis.turn(100.0)
        self.assertEqual((self.redis.dialed, self.link.state), ([], LinkState.IDLE))
        call = self.ping()
        self.assertNoResult(call)
        self.redis.turn()
        self.assertEqual(self.successResultOf(call), "OK")
        self.assertEqual((self.link.state, self.changes), (LinkState.UP, [True]))
        self.up()
        self.assertEqual(len(self.redis.dialed), 1)

    def test_lost(self) -> None:
        """A lost connection fails what was under way at once."""
        self.up()
        self.redis.answers[b"PING"] = lambda _: None
        calls = [self.ping() for _ in range(3)]
        self.redis.cut()
        for call in calls:
            self.failureResultOf(call, DirectoryUnavailable)
        self.assertEqual((self.link.state, self.changes), (LinkState.WAITING, [True, False]))

    def test_away(self) -> None:
        """While the server is known to be away calls fail at once, and the link comes back by itself."""
        self.up()
        self.redis.is_refusing = True
        self.redis.cut()
        self.failureResultOf(self.ping(), DirectoryUnavailable)
        for _ in range(5):
            self.redis.turn(ROUND_SECONDS)
        self.failureResultOf(self.ping(), DirectoryUnavailable)
        self.redis.is_refusing = False
        self.redis.turn(ROUND_SECONDS)
        self.assertEqual(self.link.state, LinkState.UP)
        self.up()
        self.assertEqual(self.link.statistics()["connections"], 2)

    def test_overdue(self) -> None:
        """A server that hangs fails a call at its deadline, the others at once, and is connected to anew."""
        self.up()
        self.redis.answers[b"PING"] = lambda _: None
        first = self.ping()
        self.redis.turn(1.0)
        second = self.ping()
        self.redis.turn(0.9)
        self.assertNoResult(first)
        self.redis.turn(0.2)
        self.assertIn("no answer within 2.0 seconds", self.why(first))
        self.failureResultOf(second, DirectoryUnavailable)
        self.assertEqual((self.link.statistics()["timeouts"], self.link.statistics()["pending"]), (1, 0))

    def test_sign_in_hangs(self) -> None:
        """A server that takes connections and says nothing holds nobody up for longer than the deadline."""
        self.redis.answers[b"INFO"] = lambda _: None
        call = self.ping()
        self.redis.turn(2.1)
        self.failureResultOf(call, DirectoryUnavailable)
        self.assertEqual(self.redis.connections, [])
        self.assertEqual(self.changes, [False])

    def test_cancelled_by_another(self) -> None:
        """A call that fails may give up another that waits for the connection; those behind it fail as well."""
        self.redis.answers[b"INFO"] = lambda _: None
        calls = [self.ping() for _ in range(3)]
        calls[1].addErrback(lambda _: None)
        calls[0].addErrback(lambda _: calls[1].cancel())
        self.redis.turn(2.1)
        self.failureResultOf(calls[2], DirectoryUnavailable)
        self.assertEqual(self.link.statistics()["pending"], 0)

    def test_too_many(self) -> None:
        """The number of calls that wait has a bound; one more fails at once, and is counted."""
        self.up()
        self.redis.answers[b"PING"] = lambda _: None
        calls = [self.ping() for _ in range(5)]
        self.assertIn("5 calls are waiting", self.why(self.ping()))
        self.assertEqual(self.link.statistics()["refused_busy"], 1)
        self.redis.cut()
        for call in calls:
            self.failureResultOf(call, DirectoryUnavailable)
        self.assertEqual(self.link.statistics()["pending"], 0)

    def test_too_many_while_connecting(self) -> None:
        """The same bound holds for calls that wait for the connection."""
        self.redis.answers[b"INFO"] = lambda _: None
        calls = [self.ping() for _ in range(5)]
        self.assertIn("5 calls are waiting", self.why(self.ping()))
        self.redis.turn(2.1)
        for call in calls:
            self.failureResultOf(call, DirectoryUnavailable)

    def test_refused_command(self) -> None:
        """What the server refuses is told with its words, and the connection stays."""
        self.up()
        self.redis.answers[b"PING"] = lambda _: b"-OOM no memory\r\n"
        call = self.ping()
        self.redis.turn()
        self.assertEqual(self.why(call), "OOM no memory")
        self.assertEqual(self.link.state, LinkState.UP)

    def test_not_the_master(self) -> None:
        """A server that became a replica is left: the next connection asks again who the master is."""
        self.up()
        self.redis.answers[b"PING"] = lambda _: b"-READONLY You can't write against a read only replica.\r\n"
        call = self.ping()
        self.redis.turn()
        self.assertIn("READONLY", self.why(call))
        self.assertEqual(self.link.state, LinkState.WAITING)

    def test_backoff_grows(self) -> None:
        """Tries become rarer while the server is away."""
        self.redis.is_refusing = True
        self.failureResultOf(self.ping(), DirectoryUnavailable)
        for tries, seconds in ((2, 0.1), (3, 0.2), (4, 0.4), (5, 0.8), (6, 1.6), (7, 2.0), (8, 2.0)):
            self.redis.turn(seconds - 0.01)
            self.assertEqual(len(self.redis.dialed), tries - 1)
            self.redis.turn(0.02)
            self.assertEqual(len(self.redis.dialed), tries)

    def test_crash_loop(self) -> None:
        """A server that takes connections and dies again is not stormed: only a steady one resets the pauses."""
        self.up()
        for _ in range(3):
            self.redis.cut()
            self.redis.turn(2.1)
        self.assertEqual(self.link.state, LinkState.UP)
        self.redis.cut()
        self.redis.turn(0.7)
        self.assertEqual(self.link.state, LinkState.WAITING)
        self.redis.turn(0.2)
        self.redis.turn(6.0)
        self.redis.cut()
        self.redis.turn(0.11)
        self.assertEqual(self.link.state, LinkState.UP)

    def test_bug(self) -> None:
        """A mistake of ours is passed on as what it is."""
        self.up()
        call = self.link.call(lambda protocol: 1 // 0)
        self.failureResultOf(call, ZeroDivisionError)
        self.assertEqual(self.link.statistics()["pending"], 0)

    def test_stop(self) -> None:
        """A stopped link has nothing open, tries nothing, and says why its calls fail."""
        self.up()
        self.successResultOf(self.link.stop())
        self.assertEqual(self.redis.connections, [])
        self.assertEqual(self.why(self.ping()), "stopped")
        self.successResultOf(self.link.stop())
        self.assertEqual(self.redis.clock.getDelayedCalls(), [])

    def test_stop_while_connecting(self) -> None:
        """Stopping ends a try that is under way."""
        self.redis.answers[b"INFO"] = lambda _: None
        call = self.ping()
        self.successResultOf(self.link.stop())
        self.failureResultOf(call, DirectoryUnavailable)
        self.assertEqual((self.redis.connections, self.redis.clock.getDelayedCalls()), ([], []))

    def test_stop_when_told(self) -> None:
        """Who is told of a failure may stop the link right then."""
        self.redis.answers[b"INFO"] = lambda _: None
        call = self.ping()
        call.addErrback(lambda _: self.link.stop())
        self.redis.turn(2.1)
        self.assertEqual(self.redis.clock.getDelayedCalls(), [])
        self.assertEqual(self.link.state, LinkState.STOPPED)
