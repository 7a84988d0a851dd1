"""Tests of `meshrelay.relay_client.connection`; what users see of it is in test_client and test_conn."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.relay.client_machine import Connected, Disconnected
from meshrelay.relay.errors import RelayEnd
from meshrelay.relay_client.connection import Connection
from meshrelay.relay_client.options import RelayOptions
from tests.relay_client.memory_relay import HOME, MemoryLink, MemoryRelays


class ConnectionTests(SynchronousTestCase):
    """One connection to a server."""

    def setUp(self) -> None:
        self.relays = MemoryRelays()
        self.server = self.relays.add_server()
        self.told: list[Any] = []

    def start(self, name: str = "alice") -> tuple[Connection, MemoryLink]:
        """A connection that signs in."""
        link = MemoryLink(self.relays, self.server, "ws", 8820)
        connection = Connection(self.relays.clock, link, name, b"", RelayOptions(), self.told.append)
        connection.start()
        self.relays.settle()
        return connection, link

    def test_told(self) -> None:
        """The owner hears that the server has answered, and of the end as the last."""
        connection, link = self.start()
        self.assertEqual(self.told, [Connected(HOME)])
        self.assertTrue(connection.is_open)
        link.cut()
        self.assertEqual(self.told[1:], [Disconnected(RelayEnd.LOST, "cut")])
        self.assertFalse(connection.is_open)
        connection.close()
        self.assertEqual(len(self.told), 2)

    def test_no_timer_left(self) -> None:
        """After the end no timer runs."""
        connection, _ = self.start()
        self.assertEqual(len(self.relays.clock.getDelayedCalls()), 1)
        connection.close()
        self.successResultOf(connection.gone)
        self.assertEqual(self.relays.clock.getDelayedCalls(), [])

    def test_turns(self) -> None:
        """Connections that wait for the transport go on in turn, one message each."""
        bob, _ = self.start("bob")
        alice, link = self.start("alice")
        eve, _ = self.start("eve")
        conns = [self.successResultOf(self.opened(alice, name)) for name in ("bob", "eve")]
        alice.writing_paused()
        for number in range(2):
            for conn in conns:
                conn.write(b"%d" % number)
        link.sent.clear()
        alice.writing_resumed()
        self.assertEqual([message[38:] for message in link.sent], [b"0", b"0", b"1", b"1"])
        self.assertTrue(bob.is_open and eve.is_open)

    def opened(self, connection: Connection, peer: str) -> Any:
        """A connection to a peer."""
        opened = connection.open_conn(peer, None)
        self.relays.settle()
        return opened
