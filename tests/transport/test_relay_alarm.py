"""Deadlines of relay peers."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.background import Alarms
from meshrelay.relay.auth import AnyToken
from meshrelay.relay.counters import RelayCounters
from meshrelay.relay.server import RelayClocks, RelayServer
from meshrelay.relay.server_machine import ServerOptions
from meshrelay.transport.relay_alarm import watch_deadlines
from meshrelay.wire.relay import HEALTH_CHECK_MESSAGE, encode_auth, peer_id_of
from tests.relay.relay_kit import URL, MemoryRelayLink


class DeadlineTests(SynchronousTestCase):
    """One peer on a clock."""

    def setUp(self) -> None:
        """A connection that has said nothing yet."""
        self.clock = Clock()
        server = RelayServer(
            ServerOptions(URL),
            AnyToken(),
            RelayClocks(self.clock.seconds, self.clock.seconds),
            lambda: None,
            RelayCounters(),
        )
        self.link = MemoryRelayLink()
        self.peer = server.accept(self.link)
        watch_deadlines(self.peer, Alarms(self.clock))

    def test_handshake(self) -> None:
        """Whoever says nothing is dropped after ten seconds, and not before; then nothing rings any more."""
        self.clock.advance(9.9)
        self.assertEqual(self.link.ended, "")
        self.clock.pump([0.1] * 3)
        self.assertEqual(self.link.ended, "abort")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_health(self) -> None:
        """A peer that signed in is asked every 25 seconds, and dropped after 45 if it never answers."""
        self.peer.message_received(encode_auth(peer_id_of("alice"), b""))
        self.link.take()
        self.clock.pump([0.5] * 52)
        self.assertEqual((self.link.take(), self.link.ended), ([HEALTH_CHECK_MESSAGE], ""))
        self.clock.pump([0.5] * 42)
        self.assertEqual(self.link.ended, "abort")

    def test_healthy(self) -> None:
        """A peer that answers stays."""
        self.peer.message_received(encode_auth(peer_id_of("alice"), b""))
        for _ in range(10):
            self.clock.pump([0.5] * 50)
            self.peer.message_received(HEALTH_CHECK_MESSAGE)
        self.assertEqual(self.link.ended, "")
