"""Strings of listening places."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.config.listening import StreamPlace, UdpPlace, is_loopback, parse_stream_place, parse_udp_place


class StreamPlaceTests(SynchronousTestCase):
    """Which address a stream endpoint binds."""

    def test_interface(self) -> None:
        """The address is found in every way of writing it."""
        expected = {
            "tcp:7200:interface=127.0.0.1": StreamPlace("tcp", "127.0.0.1"),
            "tcp:interface=127.0.0.1:port=7200": StreamPlace("tcp", "127.0.0.1"),
            "tcp:7200:127.0.0.1": StreamPlace("tcp", "127.0.0.1"),
            r"tcp:7200:interface=\:\:1": StreamPlace("tcp", "::1"),
            "tcp:7200": StreamPlace("tcp", ""),
            "tcp6:7200": StreamPlace("tcp6", "::"),
            "tcp6:7200:50:\\:\\:1": StreamPlace("tcp6", "::1"),
            "ssl:443:interface=10.0.0.1:privateKey=key.pem": StreamPlace("ssl", "10.0.0.1"),
            "tls:/etc/certs": StreamPlace("tls", "::", "/etc/certs"),
            "tls:/etc/certs:443:interface=127.0.0.1": StreamPlace("tls", "127.0.0.1", "/etc/certs"),
            "unix:/run/meshrelay": StreamPlace("unix", ""),
            "systemd:domain=INET:name=tcp": StreamPlace("systemd", ""),
            "haproxy:tcp:7200:interface=127.0.0.1": StreamPlace("tcp", "127.0.0.1"),
        }
        self.assertEqual({text: parse_stream_place(text) for text in expected}, expected)

    def test_loopback(self) -> None:
        """Only what surely stays on the machine counts as loopback."""
        expected = {
            "tcp:1:interface=127.0.0.1": True,
            "tcp:1:interface=127.8.8.8": True,
            "tcp:1:interface=localhost": True,
            r"tcp:1:interface=\:\:1": True,
            r"tcp:1:interface=\:\:ffff\:127.0.0.1": True,
            "unix:/run/meshrelay": True,
            "tcp:1": False,
            "tcp:1:interface=0.0.0.0": False,
            r"tcp:1:interface=\:\:": False,
            "tcp:1:interface=example.com": False,
            "tls:/etc/certs": False,
            "systemd:domain=INET:name=tcp": False,
            "haproxy:tcp:1": False,
            "haproxy:tcp:1:interface=127.0.0.1": True,
        }
        self.assertEqual({text: parse_stream_place(text).is_loopback for text in expected}, expected)

    def test_refused(self) -> None:
        """What cannot be an endpoint is refused with a word on why."""
        expected = {
            "7200": "is not an endpoint string",
            "": "is not an endpoint string",
            "tcp:": "port must be a number",
            "tcp:seven": "port must be a number",
            "tcp:65536": "port must be a number",
            "tcp:-1": "port must be a number",
            "tcp:٣": "port must be a number",
            "udp:7100": "is a datagram port",
            "haproxy": "must be followed by",
            "a=b": "does not start with the kind",
            "tcp:7200\\": "lone backslash",
            "tls:port=443:interface=127.0.0.1": "directory of its PEM files",
            "tls::443": "directory of its PEM files",
            "haproxy:tls:port=443": "directory of its PEM files",
        }
        for text, problem in expected.items():
            error = self.assertRaises(ValueError, parse_stream_place, text)
            self.assertIn(problem, str(error), text)

    @given(st.text(alphabet="tcpudlsx:=\\0719 ", max_size=30))
    def test_garbage(self, text: str) -> None:
        """Any text is a place or is refused, never anything else."""
        for parse in (parse_stream_place, parse_udp_place):
            try:
                parse(text)
            except ValueError:
                continue


class UdpPlaceTests(SynchronousTestCase):
    """Where datagrams are received."""

    def test_places(self) -> None:
        """Port and interface are read as in a stream endpoint."""
        expected = {
            "udp:7100:interface=127.0.0.1": UdpPlace(7100, "127.0.0.1"),
            "udp:port=7100:interface=127.0.0.1": UdpPlace(7100, "127.0.0.1"),
            "udp:0": UdpPlace(0, ""),
            r"udp:7100:interface=\:\:1": UdpPlace(7100, "::1"),
            "udp:7100:interface=localhost": UdpPlace(7100, "127.0.0.1"),
        }
        self.assertEqual({text: parse_udp_place(text) for text in expected}, expected)
        self.assertTrue(parse_udp_place("udp:0:interface=127.0.0.1").is_loopback)
        self.assertFalse(parse_udp_place("udp:0").is_loopback)

    def test_refused(self) -> None:
        """What is no datagram port is refused."""
        for text in ("tcp:7100", "udp", "udp:", "udp:99999", "udp:1:2", "udp:1:backlog=3", "udp:1:interface=eth0"):
            self.assertRaises(ValueError, parse_udp_place, text)


class LoopbackTests(SynchronousTestCase):
    """Addresses."""

    def test_every_address_is_not_loopback(self) -> None:
        """The empty interface means every address of the machine."""
        self.assertFalse(is_loopback(""))
