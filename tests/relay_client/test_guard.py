"""Tests of `meshrelay.relay_client.guard`."""

from __future__ import annotations

from itertools import pairwise

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.relay_client.client import RelayClient
from meshrelay.relay_client.errors import NoRelayServer, RelayConnectFailed
from meshrelay.relay_client.guard import Guard
from meshrelay.relay_client.options import RelayOptions
from tests.relay_client.memory_relay import MemoryRelays


class GuardTests(SynchronousTestCase):
    """How the home relay comes back; chance is the middle of its range unless a test says otherwise."""

    def setUp(self) -> None:
        self.relays = MemoryRelays()
        self.restored: list[RelayClient] = []
        self.picks: list[tuple[float, Deferred[RelayClient]]] = []
        self.share = 0.5
        #: How a pick ends that is to fail.
        self.is_failing = True

    def guard(self) -> Guard:
        """A guard with the usual times."""

        def uniform(low: float, high: float) -> float:
            return low + (high - low) * self.share

        return Guard(self.relays.clock, self.pick, self.restored.append, RelayOptions(uniform=uniform))

    def pick(self) -> Deferred[RelayClient]:
        """Note the time; fail, or wait for the test."""
        done: Deferred[RelayClient] = fail(NoRelayServer()) if self.is_failing else Deferred()
        self.picks.append((self.relays.clock.seconds(), done))
        return done

    def gaps(self) -> list[float]:
        """Seconds between the picks."""
        times = [round(at) for at, _ in self.picks]
        return [later - earlier for earlier, later in pairwise(times)]

    def test_quick(self) -> None:
        """After 1.5 seconds the same server is tried; when it is back the client is the same."""
        self.relays.add_server()
        client = self.relays.client("alice")
        guard = self.guard()
        guard.start(client)
        self.relays.advance(1.4)
        self.assertEqual(self.relays.dialled, [])
        self.relays.advance(0.2)
        self.assertEqual(self.restored, [client])
        self.assertEqual((guard.is_running, guard.last_error, self.picks), (False, None, []))
        client.close()

    def test_then_all(self) -> None:
        """When it is not, all are tried at once and with growing distances, up to a minute."""
        guard = self.guard()
        guard.start(self.relays.client("alice"))
        self.relays.advance(320)
        self.assertEqual(self.picks[0][0], 1.5)
        self.assertEqual(self.gaps()[:8], [2, 4, 8, 16, 32, 60, 60, 60])
        self.assertIsInstance(guard.last_error, NoRelayServer)
        guard.stop()
        self.assertEqual(self.relays.clock.getDelayedCalls(), [])

    def test_chance(self) -> None:
        """Each distance is up to half shorter or longer by chance."""
        for share, gaps in ((0.0, [1, 2, 4, 8]), (1.0, [3, 6, 12, 24])):
            self.share, self.picks = share, []
            guard = self.guard()
            guard.start(None)
            self.relays.advance(60)
            guard.stop()
            self.assertEqual(self.gaps()[:4], gaps)

    def test_no_quick(self) -> None:
        """Without a lost server the first try comes at once; the reason is kept until there is a success."""
        self.is_failing = False
        guard = self.guard()
        guard.start(None, RelayConnectFailed("rel://x", "why"))
        self.assertEqual(len(self.picks), 1)
        self.assertIsInstance(guard.last_error, RelayConnectFailed)
        client = self.relays.client("alice")
        self.picks[0][1].callback(client)
        self.assertEqual((self.restored, guard.last_error), ([client], None))

    def test_long_try(self) -> None:
        """The distance counts from the beginning of a try: after a long one the next comes at once."""
        self.is_failing = False
        guard = self.guard()
        guard.start(None)
        self.relays.advance(30)
        self.picks[0][1].errback(NoRelayServer())
        self.relays.clock.advance(0)
        self.assertEqual([at for at, _ in self.picks], [0.0, 30.0])
        guard.stop()

    def test_one_at_a_time(self) -> None:
        """A second start while it runs changes nothing."""
        self.is_failing = False
        guard = self.guard()
        guard.start(None)
        guard.start(None)
        self.assertEqual(len(self.picks), 1)
        guard.stop()
        guard.stop()
        self.assertFalse(guard.is_running)
        self.picks[0][1].addErrback(lambda _: None)

    def test_bug(self) -> None:
        """A bug in a pick is logged, and a new start is possible."""
        guard = Guard(self.relays.clock, lambda: fail(ZeroDivisionError()), self.restored.append, RelayOptions())
        guard.start(None)
        self.assertFalse(guard.is_running)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
