"""Links over WebRTC between peers of both kinds, in a network that has nothing but loopback."""

from __future__ import annotations

import importlib.util
import time
from typing import Any

from twisted.trial.unittest import SkipTest

from tests.integration.nat_lab import Namespace, missing
from tests.interop.malformed_frames import RTC_SIGNALS
from tests.interop.overlay_kit import OverlayTests
from tests.interop.peer_relay_programs import Peer
from tests.interop.raw_overlay_peer import RawPeer

#: ICE takes its time.
LINKED_SECONDS = 20.0


class WebRtcTests(OverlayTests):
    """Two peers that do not listen and find each other at a hub."""

    has_asyncio = True

    def setUp(self) -> None:
        super().setUp()
        reason = missing()
        if not reason and importlib.util.find_spec("aiortc") is None:
            reason = "missing: aiortc"
        if reason:
            raise SkipTest(reason)
        self.namespace = Namespace()
        self.addCleanup(self.namespace.close)

    def make(self, kind: str, name: str, hub: Peer) -> Peer:
        """A peer with WebRTC that does not listen."""
        options: dict[str, Any] = {"addresses": ["127.0.0.1"]} if kind == "own" else {}
        return self.process(kind).make(name, bootstrap=[hub], wrtc=True, **options)

    def check(self, first_kind: str, hub_kind: str, last_kind: str) -> None:
        """They link, know nobody else, and need the hub no more."""
        hub = self.process(hub_kind).make("hub", port=0)
        first = self.make(first_kind, "first", hub)
        hub.wait_linked(first)
        last = self.make(last_kind, "last", hub)
        first.wait_linked(last, seconds=LINKED_SECONDS)
        last.wait_linked(first, seconds=LINKED_SECONDS)
        known = {peer.peer_id for peer in (first, hub, last)}
        told = {event["peer_id"] for peer in (first, hub, last) for event in peer.events("linked")}
        self.assertLessEqual(told, known)
        hub.destroy()
        for peer in (first, last):
            peer.wait_unlinked(hub)
        first.send(last, "TEST")
        self.assertEqual(last.next_message(), ("TEST", first.peer_id))
        last.send(first, "x" * 100_000)
        self.assertEqual(first.next_message(), ("x" * 100_000, last.peer_id))

    def test_js_js_js(self) -> None:
        """The package alone."""
        self.check("js", "js", "js")

    def test_js_own_js(self) -> None:
        """Two of the package's at our hub, which passes on what they say about WebRTC."""
        self.check("js", "own", "js")

    def test_own_js_js(self) -> None:
        """One of ours waits at the package's hub."""
        self.check("own", "js", "js")

    def test_js_js_own(self) -> None:
        """One of ours comes to the package's hub."""
        self.check("js", "js", "own")

    def test_own_own_js(self) -> None:
        """One of ours waits at our hub."""
        self.check("own", "own", "js")

    def test_js_own_own(self) -> None:
        """One of ours comes to our hub."""
        self.check("js", "own", "own")

    def test_own_own_own(self) -> None:
        """Ours alone."""
        self.check("own", "own", "own")

    def test_relinked(self) -> None:
        """A link whose other end has died is noticed by ours, and another one can be made."""
        hub = self.process("own").make("hub", port=0)
        first = self.make("own", "first", hub)
        dying = self.start_js()
        last = dying.make("last", bootstrap=[hub], wrtc=True)
        first.wait_linked(last, seconds=LINKED_SECONDS)
        dying.kill()
        # Nothing says that it is gone but its silence.
        first.wait_unlinked(last, seconds=60.0)
        again = self.make("js", "again", hub)
        first.wait_linked(again, seconds=LINKED_SECONDS)

    def send_signals(self, raw: RawPeer, victim: Peer, data: Any) -> None:
        """Send a signal three times."""
        for _ in range(3):
            raw.send(victim.peer_id, "signal", data)
            time.sleep(0.1)

    def test_bad_signals(self) -> None:
        """Signals that kill the package's peers with WebRTC are not passed on by our hub."""
        hub = self.own.make("hub", port=0)
        victim = self.js.make("victim", bootstrap=[hub], wrtc=True)
        hub.wait_linked(victim)
        raw = self.dial(hub).hello()
        raw.send(victim.peer_id, "handshake-offer")
        self.assertTrue(raw.wait_for("handshake-answer")["data"]["data"]["wrtc"])
        for name, data in RTC_SIGNALS.items():
            self.send_signals(raw, victim, data)
            self.assertEqual(self.js.crashes, [], name)
        hub.send(victim, "alive")
        self.assertEqual(victim.next_message(), ("alive", hub.peer_id))
        self.assertEqual(self.js.crashes, [])

    def test_bad_signals_kill(self) -> None:
        """Each of them does kill a peer of the package."""
        process = self.start_js(may_crash=True)
        victim = process.make("victim", port=0, wrtc=True)
        for name, data in RTC_SIGNALS.items():
            self.send_signals(self.dial(victim).hello(), victim, data)
            try:
                process.wait_event("crashed", lambda event: True)
            except AssertionError:
                self.fail(f"survived: {name}")
            # One of the three is enough; what the others do must not be taken for the work of the next kind.
            while process.events("crashed"):
                process.wait_event("crashed", lambda event: True)
