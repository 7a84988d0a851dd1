"""Tests of `meshrelay.relay_client.client`."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.relay.auth import HmacTokens
from meshrelay.relay.errors import (
    ConnAlreadyExists,
    ConnClosed,
    OpenCancelled,
    OpenTimedOut,
    PayloadTooLarge,
    RelayClientNotConnected,
)
from meshrelay.relay_client.client import ClientState
from meshrelay.relay_client.conn import RelayConn
from meshrelay.relay_client.errors import RelayConnectFailed
from meshrelay.relay_client.options import RelayOptions, TransportMode
from meshrelay.relay_client.token_store import SecretTokens
from meshrelay.wire.relay import CLOSE_MESSAGE, MessageType
from tests.relay_client.memory_relay import HOME, MemoryRelays


class RelayClientTests(SynchronousTestCase):
    """One client of one server."""

    def setUp(self) -> None:
        self.relays = MemoryRelays()
        self.server = self.relays.add_server()

    def test_bad_end_of_conn(self) -> None:
        """What a callback for the end of a connection raises is logged; the client hears of its own end."""
        lost: list[str] = []
        client = self.relays.connected("alice")
        self.relays.connected("bob")
        client.on_disconnect(lost.append)
        self.relays.conn(client, "bob").on_closed(lambda _: 1 // 0)
        self.relays.links[0].cut()
        self.assertEqual((lost, client.is_connected), ([HOME], False))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_first_of_two(self) -> None:
        """Whoever gets one peer may give up another that came in the same message."""
        client = self.relays.connected("alice")
        bob, carol = client.open_conn("bob"), client.open_conn("carol")
        opened: list[str] = []

        def first(conn: RelayConn) -> None:
            opened.append(conn.peer)
            carol.cancel()

        bob.addCallback(first)
        self.relays.settle()
        for name in ("bob", "carol"):
            self.relays.client(name).connect()
        self.relays.settle()
        self.assertEqual(opened, ["bob"])
        self.failureResultOf(carol, ConnClosed)
        self.assertTrue(client.is_connected)

    def test_cancel_in_callback(self) -> None:
        """One call that ends may cancel another; those behind it end as well."""
        self.relays.hanging.add("rel://slow:80")
        client = self.relays.client("alice", "rel://slow:80")
        first, second, third = [client.connect() for _ in range(3)]
        first.addErrback(lambda _: second.cancel())
        client.close()
        self.failureResultOf(second, CancelledError)
        self.failureResultOf(third, RelayClientNotConnected)
        client = self.relays.client("alice")
        one, two, three = [client.connect() for _ in range(3)]
        one.addCallback(lambda _: two.cancel())
        self.relays.settle()
        self.failureResultOf(two, CancelledError)
        self.assertEqual(self.successResultOf(three), HOME)

    def test_connect(self) -> None:
        """Connecting gives the server's name for itself; a second call and one meanwhile give the same."""
        client = self.relays.client("alice")
        first, second = client.connect(), client.connect()
        self.relays.settle()
        self.assertEqual([self.successResultOf(done) for done in (first, second, client.connect())], [HOME] * 3)
        self.assertEqual((client.server_instance_url, client.transport_name), (HOME, "ws"))
        self.assertEqual(client.connected_ip, "198.51.100.1")
        self.assertEqual(len(self.relays.links), 1)

    def test_not_connected(self) -> None:
        """A client that is not connected says so, and can be closed."""
        client = self.relays.client("alice")
        self.failureResultOf(client.open_conn("bob"), RelayClientNotConnected)
        with self.assertRaises(RelayClientNotConnected):
            _ = client.server_instance_url
        self.assertEqual((client.transport_name, client.connected_ip, client.has_conns), ("", "", False))
        self.successResultOf(client.close())

    def test_no_server(self) -> None:
        """A server that is not there is an error, after which it can be tried again, and closed."""
        client = self.relays.client("alice", "rel://gone:80")
        self.failureResultOf(client.connect(), RelayConnectFailed)
        self.failureResultOf(client.connect(), RelayConnectFailed)
        self.successResultOf(client.close())

    def test_wrong_token(self) -> None:
        """A server that does not take the token just closes; the error guesses why."""
        self.relays.add_server("rel://strict:80", HmacTokens(b"key"))
        wrong = self.relays.client("alice", "rel://strict:80").connect()
        self.relays.settle()
        self.assertIn("token", str(self.failureResultOf(wrong, RelayConnectFailed).value))
        tokens = SecretTokens(b"key", self.relays.clock.seconds, 10**10)
        right = self.relays.client("alice", "rel://strict:80", tokens).connect()
        self.relays.settle()
        self.successResultOf(right)

    def test_silent_server(self) -> None:
        """A server that does not answer the token is given up after eight seconds."""
        client = self.relays.client("alice")
        done = client.connect()
        self.relays.links[0].is_mute = True
        self.relays.advance(7.9)
        self.assertNoResult(done)
        self.relays.advance(0.2)
        self.failureResultOf(done, RelayConnectFailed)
        self.assertEqual(self.relays.links[0].ended, "abort")

    def test_close_while_connecting(self) -> None:
        """Closing ends an attempt; whoever waited is told."""
        self.relays.hanging.add("rel://slow:80")
        client = self.relays.client("alice", "rel://slow:80")
        done, opened = client.connect(), client.open_conn("bob")
        self.successResultOf(client.close())
        self.failureResultOf(done, RelayClientNotConnected)
        self.failureResultOf(opened, RelayClientNotConnected)
        self.assertIs(client.state, ClientState.IDLE)

    def test_cancel_connect(self) -> None:
        """The attempt ends with the last call that waits for it."""
        self.relays.hanging.add("rel://slow:80")
        client = self.relays.client("alice", "rel://slow:80")
        first, second = client.connect(), client.connect()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertIs(client.state, ClientState.CONNECTING)
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.assertIs(client.state, ClientState.IDLE)

    def test_open_while_connecting(self) -> None:
        """Opening a connection waits until the client is connected."""
        self.relays.connected("bob")
        client = self.relays.client("alice")
        client.connect()
        opened = client.open_conn("bob")
        self.relays.settle()
        self.assertEqual(self.successResultOf(opened).peer, "bob")
        self.assertTrue(client.has_conns)

    def test_already_exists(self) -> None:
        """There is one connection to a peer, open or being opened."""
        client = self.relays.connected("alice")
        opened = client.open_conn("bob")
        self.failureResultOf(client.open_conn("bob"), ConnAlreadyExists)
        self.relays.connected("bob")
        self.successResultOf(opened)
        self.failureResultOf(client.open_conn("bob"), ConnAlreadyExists)

    def test_absent_peer(self) -> None:
        """A peer that does not come is waited for half a minute, or as long as is said."""
        client = self.relays.connected("alice")
        long, short = client.open_conn("bob", 99.0), client.open_conn("eve", 1.0)
        self.relays.advance(1.1)
        self.failureResultOf(short, OpenTimedOut)
        self.relays.advance(28.8)
        self.assertNoResult(long)
        self.relays.advance(0.2)
        self.failureResultOf(long, OpenTimedOut)
        self.assertFalse(client.has_conns)

    def test_cancel_open(self) -> None:
        """Cancelling an opening leaves nothing behind."""
        client = self.relays.connected("alice")
        opened = client.open_conn("bob")
        opened.cancel()
        self.failureResultOf(opened, OpenCancelled)
        self.assertFalse(client.has_conns)
        self.assertEqual(self.relays.links[0].sent[-1][1], MessageType.UNSUBSCRIBE_PEER_STATE)

    def test_close(self) -> None:
        """Closing takes leave, ends connections and openings, is told, and can be followed by a connect."""
        lost: list[str] = []
        client = self.relays.connected("alice")
        remove = client.on_disconnect(lost.append)
        opened = client.open_conn("bob")
        self.successResultOf(client.close())
        self.successResultOf(client.close())
        self.failureResultOf(opened, OpenCancelled)
        self.assertEqual(self.relays.links[0].sent[-1], CLOSE_MESSAGE)
        self.assertEqual(lost, [HOME])
        self.failureResultOf(client.open_conn("bob"), RelayClientNotConnected)
        remove()
        remove()
        client.connect()
        self.relays.settle()
        self.assertTrue(client.is_connected)
        client.close()
        self.assertEqual(lost, [HOME])

    def test_lost(self) -> None:
        """A connection that breaks, or that the server closes, is told."""
        ends = (
            lambda link: link.cut(),
            lambda _: self.relays.as_server(self.server.shut_down),
        )
        for end in ends:
            lost: list[str] = []
            client = self.relays.connected("alice")
            client.on_disconnect(lost.append)
            end(self.relays.links[-1])
            self.relays.settle()
            self.assertEqual((lost, client.state), ([HOME], ClientState.IDLE))

    def test_health(self) -> None:
        """A server of which nothing is heard for 35 seconds is given up."""
        client = self.relays.connected("alice")
        self.relays.advance(34.9)
        self.assertTrue(client.is_connected)
        self.relays.advance(0.2)
        self.assertFalse(client.is_connected)

    def test_bad_listener(self) -> None:
        """A callback that raises is logged, and the others are called."""
        lost: list[str] = []
        client = self.relays.connected("alice")
        client.on_disconnect(lambda _: 1 // 0)
        client.on_disconnect(lost.append)
        client.close()
        self.assertEqual(lost, [HOME])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_bad_token_source(self) -> None:
        """A source of tokens that fails makes the attempt fail, and leaves no socket behind."""

        class Broken:
            def token(self) -> bytes:
                return bytes(171)

        client = self.relays.client("alice", tokens=Broken())
        self.failureResultOf(client.connect(), RelayConnectFailed)
        self.assertEqual(self.relays.links[0].ended, "abort")

    def test_datagram_too_large(self) -> None:
        """A payload for which datagrams are too small ends the connection; the next one uses none."""
        self.relays.transport_name, self.relays.max_message_bytes = "quic", 1188
        self.relays.connected("bob")
        for mode, is_over in ((TransportMode.AUTO, True), (TransportMode.QUIC, False)):
            client = self.relays.connected("alice", options=RelayOptions(transport=mode))
            conn = self.relays.conn(client, "bob")
            self.assertEqual(conn.max_payload_bytes, 1150)
            self.assertRaises(PayloadTooLarge, conn.write_nowait, bytes(9000))
            self.assertRaises(PayloadTooLarge, conn.write_nowait, bytes(1151))
            self.relays.advance(0.1)
            self.assertEqual(client.is_connected, not is_over, mode)
            if is_over:
                client.connect()
                self.relays.settle()
                self.assertEqual(self.relays.dialled[-1], (HOME, "", True))
            client.close()
            self.relays.settle()
