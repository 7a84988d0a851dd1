"""Tests of `meshrelay.directory.redis_dial`."""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.directory.errors import DirectoryUnavailable
from meshrelay.directory.redis_dial import (
    RedisConnection,
    RedisDialer,
    default_tls,
    load_redis_library,
    make_endpoints,
)
from meshrelay.directory.redis_url import RedisPlace
from meshrelay.errors import ConfigError
from tests.directory.memory_redis import LIBRARY, MISSING, MemoryRedis, array, bulk


class LibraryTests(SynchronousTestCase):
    """The optional library."""

    def test_missing(self) -> None:
        """Who asks for Redis without the extra is told what to install."""
        modules: dict[str, Any] = sys.modules
        self.patch(sys, "modules", {**modules, "txredisapi": None})
        error = self.assertRaises(ConfigError, load_redis_library)
        self.assertIn("pip install 'meshrelay[redis]'", str(error))


class EndpointTests(SynchronousTestCase):
    """Where to connect to."""

    def test_clear(self) -> None:
        """Without TLS a plain connection is made."""
        endpoint = make_endpoints(MemoryReactorClock(), 2.0)("127.0.0.1", 6379)
        self.assertIsInstance(endpoint, HostnameEndpoint)

    def test_tls(self) -> None:
        """With TLS the certificate is checked for the very host that is connected to."""
        hosts: list[str] = []

        def tls(host: str) -> Any:
            hosts.append(host)
            return default_tls(host)

        endpoint = make_endpoints(MemoryReactorClock(), 2.0, tls)("redis.example", 6379)
        self.assertNotIsInstance(endpoint, HostnameEndpoint)
        self.assertEqual(hosts, ["redis.example"])


class DialerTests(SynchronousTestCase):
    """Connecting and signing in."""

    skip = MISSING or None

    def setUp(self) -> None:
        """A server."""
        self.redis = MemoryRedis()

    def connect(self, place: RedisPlace) -> Deferred[RedisConnection]:
        """Dial, and let it happen."""
        dialer = RedisDialer(self.redis.clock, LIBRARY, place, self.redis.endpoints, 2.0)
        done = Deferred.fromCoroutine(dialer.connect(LIBRARY.RedisProtocol))
        self.redis.turn()
        return done

    def why(self, place: RedisPlace) -> str:
        """Why a connection failed; nothing may be left open."""
        failure = self.failureResultOf(self.connect(place))
        self.assertEqual(self.redis.connections, [])
        return str(failure.getErrorMessage())

    def test_plain(self) -> None:
        """Without credentials and database only the state of the server is asked for."""
        connection = self.successResultOf(self.connect(RedisPlace((("redis", 1),))))
        self.assertEqual((connection.address, connection.run_id), (("redis", 1), "run1"))
        self.assertEqual(self.redis.commands, [[b"INFO"]])

    def test_sign_in(self) -> None:
        """User, password and database are said, in that order, before anything else."""
        self.successResultOf(self.connect(RedisPlace((("redis", 1),), db=4, user="relay", password="p w")))
        self.assertEqual(self.redis.commands[:2], [[b"AUTH", b"relay", b"p w"], [b"SELECT", b"4"]])

    def test_password_alone(self) -> None:
        """A password without a user is the one of the default user."""
        self.successResultOf(self.connect(RedisPlace((("redis", 1),), password="p")))
        self.assertEqual(self.redis.commands[0], [b"AUTH", b"p"])

    def test_refused(self) -> None:
        """A refused sign-in closes the connection."""
        self.redis.answers[b"AUTH"] = lambda _: b"-WRONGPASS invalid\r\n"
        self.assertIn("WRONGPASS", self.why(RedisPlace((("redis", 1),), password="p")))

    def test_replica(self) -> None:
        """A replica is not written to."""
        self.redis.answers[b"INFO"] = lambda _: bulk("role:slave\r\nrun_id:x\r\n")
        self.assertIn("is a replica", self.why(RedisPlace((("redis", 1),))))

    def test_loading(self) -> None:
        """A server that still reads its data from disk is not used yet."""
        self.redis.answers[b"INFO"] = lambda _: bulk("role:master\r\nloading:1\r\n")
        self.assertIn("loading", self.why(RedisPlace((("redis", 1),))))

    def test_no_info(self) -> None:
        """A server that keeps its state to itself can be used."""
        self.redis.answers[b"INFO"] = lambda _: b"-NOPERM this user has no permissions to run 'info'\r\n"
        self.assertEqual(self.successResultOf(self.connect(RedisPlace((("redis", 1),)))).run_id, "")

    def test_cancelled(self) -> None:
        """A try that is given up leaves nothing open."""
        self.redis.answers[b"INFO"] = lambda _: None
        done = self.connect(RedisPlace((("redis", 1),)))
        self.assertEqual(len(self.redis.connections), 1)
        done.cancel()
        self.failureResultOf(done)
        self.assertEqual(self.redis.connections, [])

    def test_sentinel(self) -> None:
        """The master is the one that Sentinel names, and the connection to Sentinel is closed."""
        self.redis.answers[b"SENTINEL"] = lambda _: array(bulk("10.0.0.9"), bulk("6380"))
        connection = self.successResultOf(self.connect(RedisPlace((("one", 26379),), service="main")))
        self.assertEqual(connection.address, ("10.0.0.9", 6380))
        self.assertEqual(self.redis.dialed, [("one", 26379), ("10.0.0.9", 6380)])
        self.assertEqual(len(self.redis.connections), 1)
        self.assertEqual(self.redis.commands[0], [b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", b"main"])

    def test_sentinel_hangs(self) -> None:
        """A Sentinel that hangs costs a part of the deadline once; the next one is asked, also the next time."""
        silent = [None, array(bulk("10.0.0.9"), bulk("6380"))]
        self.redis.answers[b"SENTINEL"] = lambda _: silent.pop(0) if len(silent) > 1 else silent[0]
        place = RedisPlace((("one", 1), ("two", 2)), service="main")
        dialer = RedisDialer(self.redis.clock, LIBRARY, place, self.redis.endpoints, 2.0)
        done = Deferred.fromCoroutine(dialer.find_master())
        self.redis.turn(0.6)
        self.assertEqual(self.successResultOf(done), ("10.0.0.9", 6380))
        again = Deferred.fromCoroutine(dialer.find_master())
        self.redis.turn()
        self.successResultOf(again)
        self.assertEqual(self.redis.dialed, [("one", 1), ("two", 2), ("two", 2)])

    def test_sentinels_away(self) -> None:
        """When no Sentinel can be reached every one of them is named."""
        self.redis.is_refusing = True
        failure = self.failureResultOf(self.connect(RedisPlace((("one", 1), ("two", 2)), service="main")))
        failure.trap(DirectoryUnavailable)
        self.assertIn("one:1", failure.getErrorMessage())
        self.assertIn("two:2", failure.getErrorMessage())

    def test_unknown_service(self) -> None:
        """A name that Sentinel does not know is told."""
        self.redis.answers[b"SENTINEL"] = lambda _: b"*-1\r\n"
        self.assertIn("no such service", self.why(RedisPlace((("one", 1),), service="mian")))

    def test_own_clock(self) -> None:
        """The library uses the clock that it is given, not one of its own."""
        connection = self.successResultOf(self.connect(RedisPlace((("redis", 1),))))
        self.assertIsInstance(connection.protocol.callLater.__self__, Clock)
