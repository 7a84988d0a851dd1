"""WebRTC links to what npm's peer-relay uses under Node, and to a real browser, where there is only loopback."""

from __future__ import annotations

import json
import time
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from meshrelay.wire.overlay import MAX_WRTC_BYTES
from tests.integration.nat_lab import Namespace
from tests.integration.nat_lab import missing as missing_lab
from tests.integration.webrtc_ends import End, Speaker, connect, own_command
from tests.interop.peer_relay_programs import SOURCES, packages
from tests.interop.webrtc_browser import BrowserEnd
from tests.interop.webrtc_browser import missing_reason as missing_browser

#: Longest wait for the description and the first candidate of Node.
HELD_SECONDS = 20.0


class LoopbackTests(SynchronousTestCase):
    """Makes a network of its own for each test: what would ask a server of somebody else gets no answer."""

    def setUp(self) -> None:
        """Skip where there can be none."""
        if reason := missing_lab():
            raise SkipTest(reason)
        try:
            import aiortc  # noqa: F401
        except ImportError:
            raise SkipTest("missing: the extra webrtc") from None
        self.namespace = Namespace()
        self.addCleanup(self.namespace.close)

    def own(self, is_initiator: bool, **options: Any) -> End:
        """Our end."""
        return End(own_command(initiator=is_initiator, **options), self.namespace)

    def speak(self, own: End, other: Speaker) -> None:
        """Messages of all kinds and sizes arrive as they were sent."""
        for text in ("hello", '{"a":"ä€😀"}'):
            own.order(send=text)
            self.assertEqual(other.wait("message")["text"], text)
            other.order(send=text)
            self.assertEqual(own.wait("message")["text"], text)
        own.order(send_size=MAX_WRTC_BYTES)
        self.assertEqual(other.wait("message")["size"], MAX_WRTC_BYTES)
        other.order(send_size=MAX_WRTC_BYTES)
        self.assertEqual(own.wait("message")["size"], MAX_WRTC_BYTES)


class NodeTests(LoopbackTests):
    """simple-peer, trickling, with the binary of @roamhq/wrtc."""

    def node(self, is_initiator: bool) -> End:
        """The other end."""
        command = ["node", "--no-deprecation", str(SOURCES / "rtc_peer.js"), json.dumps({"initiator": is_initiator})]
        return End(command, self.namespace, NODE_PATH=str(packages()), NODE_OPTIONS="")

    def test_we_offer(self) -> None:
        """We offer: both ends open, speak, and see us close."""
        with self.own(True) as own, self.node(False) as node:
            opened, other = connect(own, node)
            self.assertEqual((opened["outgoing"], opened["max"]), (True, MAX_WRTC_BYTES))
            self.assertRegex(other["label"], "^[0-9a-f]{40}$")
            self.speak(own, node)
            own.order(close=True)
            self.assertEqual(own.wait("lost")["why"], "closed")
            node.wait("lost")
            self.assertEqual(own.stop(), 0)
        self.assertEqual(own.errors, "")

    def test_it_offers(self) -> None:
        """It offers: both ends open, speak, and see it close."""
        with self.own(False) as own, self.node(True) as node:
            opened, _ = connect(own, node)
            self.assertFalse(opened["outgoing"])
            self.speak(own, node)
            node.order(close=True)
            node.wait("lost")
            own.wait("lost")
            self.assertEqual(own.stop(), 0)
        self.assertEqual(own.errors, "")

    def test_candidates_first(self) -> None:
        """The overlay keeps no order: candidates that come before the offer that they belong to are used."""
        with self.own(False) as own, self.node(True) as node:
            deadline = time.monotonic() + HELD_SECONDS
            while {"sdp" in signal for signal in node.signals} != {False, True}:
                self.assertLess(time.monotonic(), deadline, f"{node.signals}")
                time.sleep(0.05)
            for signal in sorted(node.signals, key=lambda signal: "sdp" in signal):
                own.order(signal=signal)
            own.carry_signals_by(lambda signal: node.order(signal=signal))
            own.wait("open")
            node.wait("open")
            own.order(close=True)
            counters = own.wait("lost")["counters"]
            self.assertEqual(counters["signals_ignored"], 0)

    def test_garbage(self) -> None:
        """Signals that are none do not keep the right ones from making a link."""
        with self.own(False) as own, self.node(True) as node:
            for raw in ("", "null", '{"type":"offer","sdp":"v=0"}', '{"candidate":{"candidate":"x"}}', "[" * 10_000):
                own.order(raw_signal=raw)
            connect(own, node)
            own.order(abort=True)
            self.assertGreater(own.wait("lost")["counters"]["signals_ignored"], 4)
            node.wait("lost")

    def test_killed(self) -> None:
        """The end of a killed Node process is noticed."""
        with self.own(True, consent_seconds=0.2) as own, self.node(False) as node:
            connect(own, node)
            node.process.kill()
            own.wait("lost", 20.0)

    def test_we_are_killed(self) -> None:
        """Our own end's sudden death is noticed by simple-peer."""
        with self.own(True) as own, self.node(False) as node:
            connect(own, node)
            own.process.kill()
            node.wait("lost", 20.0)


class BrowserTests(LoopbackTests):
    """Chromium."""

    def setUp(self) -> None:
        """Skip without it."""
        if reason := missing_browser():
            raise SkipTest(reason)
        super().setUp()

    def test_we_offer(self) -> None:
        """We offer: a page opens, speaks, and sees us close."""
        with BrowserEnd(False, self.namespace) as page, self.own(True) as own:
            connect(page, own)
            self.speak(own, page)
            own.order(close=True)
            page.wait("lost")
            self.assertEqual(own.wait("lost")["why"], "closed")
            self.assertEqual(own.stop(), 0)
        self.assertEqual(own.errors, "")

    def test_it_offers(self) -> None:
        """A page offers: both ends open, speak, and we see it go."""
        with BrowserEnd(True, self.namespace) as page, self.own(False) as own:
            connect(page, own)
            self.speak(own, page)
            page.order(close=True)
            own.wait("lost")
            self.assertEqual(own.stop(), 0)
        self.assertEqual(own.errors, "")
