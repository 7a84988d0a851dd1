"""Tests of `meshrelay.cli.impair`; it is run as a program in `tests.integration.test_reliable_udp`."""

from __future__ import annotations

from click.testing import CliRunner
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.cli.impair import command, make_proxy, parse_listen, parse_target, summary
from meshrelay.config.listening import UdpPlace
from meshrelay.testing.impairment import Impairment
from meshrelay.testing.udp_proxy import UdpProxy


class ParseTests(SynchronousTestCase):
    """What stands on the command line."""

    def test_listen(self) -> None:
        """A place names the protocol, the port and an address, by default that of this machine alone."""
        for text, is_udp, place in (
            ("udp:7300", True, UdpPlace(7300, "127.0.0.1")),
            ("tcp:0:interface=127.0.0.2", False, UdpPlace(0, "127.0.0.2")),
            (r"udp:1:interface=\:\:1", True, UdpPlace(1, "::1")),
        ):
            listening = parse_listen(text)
            self.assertEqual((listening.is_udp, listening.place), (is_udp, place), text)

    def test_bad_listen(self) -> None:
        """Anything else is refused in words."""
        for text in ("", "udp", "7300", "tls:7300", "udp:x", "udp:70000", "tcp:1:interface=nowhere"):
            with self.assertRaises(ValueError, msg=text):
                parse_listen(text)

    def test_target(self) -> None:
        """A target is host and port; an IPv6 address stands in brackets."""
        self.assertEqual(parse_target("127.0.0.1:7202", True), ("127.0.0.1", 7202))
        self.assertEqual(parse_target("[::1]:7202", False), ("::1", 7202))

    def test_bad_target(self) -> None:
        """Anything else is refused in words."""
        for text in ("", "7202", ":7202", "host", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:70000", "127.0.0.1:x"):
            with self.assertRaises(ValueError, msg=text):
                parse_target(text, True)

    def test_bad_options(self) -> None:
        """What makes no sense ends with status 2 and says what."""
        good = ["--listen", "udp:0", "--to", "127.0.0.1:1"]
        for more, words in (
            (["--loss", "101"], "--loss"),
            (["--delay", "-1"], "--delay"),
            (["--black-out", "5"], "BEGIN:SECONDS"),
            (["--listen", "tls:0"], "tls:0"),
            (["--to", "nowhere"], "nowhere"),
        ):
            result = CliRunner().invoke(command, [*good, *more])
            self.assertEqual(result.exit_code, 2, result.output)
            self.assertIn(words, result.output)


class SummaryTests(SynchronousTestCase):
    """The lines at the end."""

    def test_udp(self) -> None:
        """What each direction did is counted."""
        how = Impairment(loss=1.0)
        proxy = make_proxy(Clock(), parse_listen("udp:0"), ("127.0.0.1", 1), how, Impairment(), 0)
        assert isinstance(proxy, UdpProxy)
        proxy.there.arrivals(1, 0.0)
        self.assertEqual(summary(proxy), ["there: 1 lost, 1 sent", "back: nothing", "proxy: nothing"])

    def test_tcp(self) -> None:
        """The connections of a stream proxy are counted together."""
        proxy = make_proxy(Clock(), parse_listen("tcp:0"), ("127.0.0.1", 1), Impairment(), Impairment(), 0)
        proxy.counters["connections"] += 2
        self.assertEqual(summary(proxy), ["there: nothing", "back: nothing", "proxy: 2 connections"])
