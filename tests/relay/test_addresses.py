"""Addresses of relays."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.relay.addresses import canonical_url, instance_url, quic_place, websocket_url, with_host

#: What is no URL of a relay.
REFUSED = (
    "http://example.com",
    "ws://example.com",
    "example.com",
    "example.com:33080",
    "://example.com",
    "rel://",
    "rels://:443",
    "rel:example.com",
    "rel://example.com:0",
    "rel://example.com:65536",
    "rel://example.com:x",
    "rel://[::1",
    "",
)


class InstanceUrlTests(SynchronousTestCase):
    """What a server calls itself."""

    def test_scheme(self) -> None:
        """Without a scheme the certificate decides; with one it stays as it was written."""
        for exposed, is_tls, url in (
            ("example.com", True, "rels://example.com"),
            ("example.com", False, "rel://example.com"),
            ("example.com:33080", False, "rel://example.com:33080"),
            ("rel://example.com", False, "rel://example.com"),
            ("rels://example.com", True, "rels://example.com"),
            ("rels://example.com", False, "rels://example.com"),
            ("rels://example.com:9300", True, "rels://example.com:9300"),
        ):
            self.assertEqual(instance_url(exposed, is_tls), url)

    def test_refused(self) -> None:
        """Two schemes, an unknown one, none before its mark, or no TLS where there is a certificate."""
        for exposed, is_tls in (
            ("rel://rels://example.com", False),
            ("http://example.com", False),
            ("://example.com", False),
            ("rel://", False),
            ("rel://example.com", True),
        ):
            self.assertRaises(ValueError, instance_url, exposed, is_tls)


class CanonicalTests(SynchronousTestCase):
    """Spellings of one URL."""

    def test_same(self) -> None:
        """Case, the port of the scheme, and the path do not matter."""
        for spellings in (
            ("rel://example.com", "rel://example.com:80", "REL://Example.COM/", "rel://example.com/relay"),
            ("rels://example.com", "rels://EXAMPLE.com:443", "rels://example.com/#x"),
            ("rel://[::1]", "rel://[::1]:80/"),
            ("rel://192.0.2.1:33080", "rel://192.0.2.1:33080/relay"),
        ):
            self.assertEqual(len({canonical_url(url) for url in spellings}), 1, spellings)

    def test_different(self) -> None:
        """Another scheme, host, port or query is another relay."""
        urls = (
            "rel://example.com",
            "rels://example.com",
            "rel://example.com:443",
            "rel://example.org",
            "rel://example.com?a=1",
            "rel://[::1]",
            "rel://[::2]",
        )
        self.assertEqual(len({canonical_url(url) for url in urls}), len(urls))

    def test_dialled(self) -> None:
        """What is compared is dialled like what was written."""
        for url in ("rel://Example.com", "rels://[::1]/relay", "rel://192.0.2.1:1?a=1"):
            self.assertEqual(quic_place(canonical_url(url)), quic_place(url))

    def test_no_url(self) -> None:
        """What is no URL of a relay stays as it is."""
        for url in REFUSED:
            self.assertEqual(canonical_url(url), url)


class DialTests(SynchronousTestCase):
    """Where a relay is dialled."""

    def test_websocket(self) -> None:
        """The path is always /relay; host, port and query stay."""
        for url, expected in (
            ("rel://example.com", "ws://example.com/relay"),
            ("rels://example.com", "wss://example.com/relay"),
            ("rel://example.com:33080", "ws://example.com:33080/relay"),
            ("rels://127.0.0.1:443", "wss://127.0.0.1:443/relay"),
            ("rels://[::1]:9300", "wss://[::1]:9300/relay"),
            ("rel://relay.example.com", "ws://relay.example.com/relay"),
            ("rels://h/other?a=1#part", "wss://h/relay?a=1"),
        ):
            self.assertEqual(websocket_url(url), expected)

    def test_quic(self) -> None:
        """QUIC is on the same port, by default the one of the WebSocket."""
        for url, expected in (
            ("rel://example.com", ("example.com", 80)),
            ("rels://example.com", ("example.com", 443)),
            ("rels://example.com:9300/relay", ("example.com", 9300)),
            ("rels://[2001:db8::1]:9300", ("2001:db8::1", 9300)),
            ("rels://[2001:db8::1]", ("2001:db8::1", 443)),
        ):
            self.assertEqual(quic_place(url), expected)

    def test_refused(self) -> None:
        """What is no URL of a relay is dialled nowhere."""
        for url in REFUSED:
            self.assertRaises(ValueError, websocket_url, url)
            self.assertRaises(ValueError, quic_place, url)
            self.assertRaises(ValueError, with_host, url, "127.0.0.1")


class WithHostTests(SynchronousTestCase):
    """A relay by an address that somebody else looked up."""

    def test_host(self) -> None:
        """Scheme and port stay, the certificate is still that of the name."""
        for url, address, expected, name in (
            ("rels://h.example:9300", "192.0.2.1", "rels://192.0.2.1:9300", "h.example"),
            ("rels://h.example", "192.0.2.1", "rels://192.0.2.1", "h.example"),
            ("rel://h.example:80", "2001:db8::1", "rel://[2001:db8::1]:80", "h.example"),
            ("rels://h.example", "::ffff:192.0.2.1", "rels://192.0.2.1", "h.example"),
            ("rels://198.51.100.7:443", "192.0.2.1", "rels://192.0.2.1:443", ""),
            ("rels://[2001:db8::2]:443", "192.0.2.1", "rels://192.0.2.1:443", ""),
        ):
            self.assertEqual(with_host(url, address), (expected, name))

    def test_refused(self) -> None:
        """A name is no address."""
        for address in ("", "h.example", "[::1]", "1.2.3"):
            self.assertRaises(ValueError, with_host, "rels://h.example", address)
