"""Tests of `meshrelay.client.address`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.client.address import NodeAddress, Transport, parse_url

_GOOD = {
    "tcp://127.0.0.1:7200": (Transport.TCP, False, "127.0.0.1", 7200, "/"),
    "tcp://node.example": (Transport.TCP, False, "node.example", 7200, "/"),
    "tls://node.example:443/": (Transport.TCP, True, "node.example", 443, "/"),
    "ws://127.0.0.1:7300/": (Transport.WEBSOCKET, False, "127.0.0.1", 7300, "/"),
    "ws://127.0.0.1": (Transport.WEBSOCKET, False, "127.0.0.1", 7300, "/"),
    "wss://node.example/relay?x=1": (Transport.WEBSOCKET, True, "node.example", 7300, "/relay?x=1"),
    "udp+http://127.0.0.1:7000": (Transport.UDP, False, "127.0.0.1", 7000, "/"),
    "udp+https://[::1]:7000": (Transport.UDP, True, "::1", 7000, "/"),
}

_BAD = {
    "127.0.0.1:7200": "no address",
    "http://127.0.0.1:7000": "no address",
    "udp://127.0.0.1:7100": "no address",
    "tcp://": "no host",
    "tcp://host:port": "port",
    "tcp://host:70000": "port",
    "tcp://ann@host:7200": "user",
    "tcp://host:7200/path": "no path",
}


class ParseUrlTests(SynchronousTestCase):
    """Addresses of nodes."""

    def test_good(self) -> None:
        """Each form says how and where to connect."""
        for url, (transport, is_tls, host, port, path) in _GOOD.items():
            self.assertEqual(parse_url(url), NodeAddress(url, transport, is_tls, host, port, path), url)

    def test_bad(self) -> None:
        """A wrong address is refused, and the text says what is wrong."""
        for url, words in _BAD.items():
            error = self.assertRaises(ValueError, parse_url, url)
            self.assertIn(words, str(error), url)

    def test_authority(self) -> None:
        """An IPv6 address is put in brackets where a port follows."""
        self.assertEqual(parse_url("ws://[::1]:7300/").authority, "[::1]:7300")
        self.assertEqual(parse_url("ws://localhost/").authority, "localhost:7300")
