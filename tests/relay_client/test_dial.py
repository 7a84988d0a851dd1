"""Tests of `meshrelay.relay_client.dial`."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.relay_client.dial import Dialer, Target, dial, dial_websocket, is_quic_installed
from meshrelay.relay_client.errors import NoRelayTransport, RelayConnectFailed
from meshrelay.relay_client.options import RelayOptions, TransportMode
from tests.relay_client.memory_relay import MemoryLink, MemoryRelays


class DialTests(SynchronousTestCase):
    """Which transports are tried, and in which order."""

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.calls: list[tuple[str, Target, Deferred[Any]]] = []
        relays = MemoryRelays()
        self.link = MemoryLink(relays, relays.add_server(), "ws", 8820)
        if not is_quic_installed():
            self.skipTest("missing: aioquic")

    def dialer(self, name: str) -> Dialer:
        """A dialer that notes its calls."""

        def call(reactor: Any, target: Target, options: RelayOptions) -> Deferred[Any]:
            self.calls.append((name, target, Deferred()))
            return self.calls[-1][2]

        return call

    def dial(self, url: str = "rels://relay:443", server_ip: str = "", **options: Any) -> Deferred[Any]:
        """Dial by the dialers of this test."""
        dialers = {name: self.dialer(name) for name in ("quic", "ws")}
        return dial(self.reactor, url, RelayOptions(**options), server_ip, False, dialers)

    def names(self) -> list[str]:
        """What was dialled so far."""
        return [name for name, _, _ in self.calls]

    def test_auto(self) -> None:
        """Both are tried at once; the first that works is taken, and the other one cancelled."""
        done = self.dial()
        self.assertEqual(self.names(), ["quic", "ws"])
        self.calls[1][2].callback(self.link)
        self.assertIs(self.successResultOf(done), self.link)
        self.assertTrue(self.calls[0][2].called)

    def test_all_fail(self) -> None:
        """When nothing works the error has the word of each, in the order in which they were tried."""
        done = self.dial()
        self.calls[1][2].errback(ConnectionRefusedError("two"))
        self.assertNoResult(done)
        self.calls[0][2].errback(ConnectionRefusedError("one"))
        text = str(self.failureResultOf(done, RelayConnectFailed).value)
        self.assertLess(text.index("quic"), text.index("ws"))

    def test_prefer(self) -> None:
        """A preferred one is tried alone; the other one only when it has failed."""
        done = self.dial(transport=TransportMode.PREFER_WS)
        self.assertEqual(self.names(), ["ws"])
        self.calls[0][2].errback(ConnectionRefusedError())
        self.assertEqual(self.names(), ["ws", "quic"])
        self.calls[1][2].callback(self.link)
        self.successResultOf(done)
        self.dial(transport=TransportMode.PREFER_QUIC)
        self.calls[2][2].callback(self.link)
        self.assertEqual(self.names(), ["ws", "quic", "quic"])

    def test_timeout(self) -> None:
        """One that hangs is given up after half a minute."""
        done = self.dial(transport=TransportMode.WS)
        self.reactor.advance(29.9)
        self.assertNoResult(done)
        self.reactor.advance(0.2)
        self.failureResultOf(done, RelayConnectFailed)

    def test_cancel(self) -> None:
        """Cancelling cancels all that run, and begins nothing."""
        done = self.dial(transport=TransportMode.PREFER_WS)
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.assertEqual(self.names(), ["ws"])

    def test_no_transport(self) -> None:
        """Where no transport is left the error says so."""
        done = dial(self.reactor, "rel://relay", RelayOptions(transport=TransportMode.QUIC), dialers={})
        self.failureResultOf(done, NoRelayTransport)

    def test_server_ip(self) -> None:
        """A known address is dialled before the name is looked up; the certificate is still that of the name."""
        done = self.dial("rels://relay.invalid:444", "::ffff:192.0.2.7", transport=TransportMode.WS)
        self.assertEqual(self.calls[0][1], Target("rels://192.0.2.7:444", "relay.invalid"))
        self.calls[0][2].errback(ConnectionRefusedError())
        self.assertEqual(self.calls[1][1], Target("rels://relay.invalid:444"))
        self.calls[1][2].callback(self.link)
        self.successResultOf(done)

    def test_bad_url(self) -> None:
        """A URL that is none of a relay is an error like others, whichever transport is tried."""
        for url in ("http://relay", "relay:80", "rel://", ""):
            for mode in TransportMode:
                done = dial(self.reactor, url, RelayOptions(transport=mode))
                self.failureResultOf(done, RelayConnectFailed)
        self.failureResultOf(self.dial("rel://x", "nonsense"), RelayConnectFailed)


class WebSocketTests(SynchronousTestCase):
    """Where the WebSocket is."""

    def test_places(self) -> None:
        """The port is the URL's or that of the scheme, numbers are not looked up; the request names /relay."""
        for url, place in (
            ("rel://192.0.2.1", ("192.0.2.1", 80)),
            ("rel://192.0.2.1:8080", ("192.0.2.1", 8080)),
            ("rel://[2001:db8::1]:8080", ("2001:db8::1", 8080)),
            ("rels://192.0.2.1", ("192.0.2.1", 443)),
        ):
            reactor: Any = MemoryReactorClock()
            dialling = dial_websocket(reactor, Target(url), RelayOptions())
            self.assertEqual(reactor.tcpClients[0][:2], place)
            dialling.cancel()
            self.failureResultOf(dialling)

    def test_ca_file(self) -> None:
        """A file of authorities that cannot be read is an error of the dial."""
        options = RelayOptions(ca_file="gone.pem", transport=TransportMode.WS)
        done = dial(MemoryReactorClock(), "rels://192.0.2.1", options)
        self.assertIn("gone.pem", str(self.failureResultOf(done, RelayConnectFailed).value))
