"""aiortc's connection: what it takes for a description; all else of it needs a network and is in tests/integration."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest

from meshrelay.transport.overlay_signal import Description
from meshrelay.transport.overlay_webrtc_link import Tasks, WrtcCounters, WrtcOptions
from tests.transport.test_overlay_webrtc import LoopTests, turns

try:
    from meshrelay.transport.overlay_webrtc_bounds import MAX_CANDIDATES
    from meshrelay.transport.overlay_webrtc_stack import AiortcStack
except ImportError as error:
    missing = f"missing: the extra webrtc ({error})"
else:
    missing = ""

#: As Chromium writes it, without what does not matter.
OFFER = """v=0\r
o=- 7798223610979217688 2 IN IP4 127.0.0.1\r
s=-\r
t=0 0\r
a=group:BUNDLE data\r
m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r
c=IN IP4 0.0.0.0\r
a=ice-ufrag:Fr7H\r
a=ice-pwd:0123456789abcdef01234567\r
a=ice-options:trickle\r
a=fingerprint:sha-256 AA:BB\r
a=setup:actpass\r
a=mid:data\r
a=sctp-port:5000\r
a=max-message-size:1000\r
"""


class Owner:
    """Hears nothing here."""

    def stack_opened(self) -> None:
        """See `StackOwner`."""

    def message_received(self, data: bytes) -> None:
        """See `StackOwner`."""

    def stack_lost(self, why: str) -> None:
        """See `StackOwner`."""


class StackTests(LoopTests):
    """Needs the extra."""

    def setUp(self) -> None:
        """Skip without it."""
        if missing:
            raise SkipTest(missing)

    def stack(self, label: str = "", counters: WrtcCounters | None = None) -> Any:
        """One that has no addresses."""
        tasks = Tasks(asyncio.get_running_loop())
        return AiortcStack(Owner(), label, WrtcOptions(addresses=("no address",)), counters or WrtcCounters(), tasks)

    def test_takes_an_offer(self) -> None:
        """A browser's offer is taken once, and what it says is believed; the answer is about the same section."""

        async def test() -> None:
            stack = self.stack()
            self.assertTrue(stack.take(Description(True, OFFER)))
            self.assertFalse(stack.take(Description(True, OFFER)))
            self.assertEqual((stack.max_message_bytes, stack.waiting_bytes, stack.remote_address), (1000, 0, ""))
            answer = await stack.describe()
            self.assertFalse(answer.is_offer)
            self.assertIn("a=mid:data\r\n", answer.sdp)
            self.assertIn("a=setup:active\r\n", answer.sdp)
            self.assertFalse(stack.send("too early"))
            await stack.stop()

        self.run_in_loop(test())

    def test_old_browsers(self) -> None:
        """The older form of a description is answered in the older form."""

        async def test() -> None:
            stack = self.stack()
            old = OFFER.replace("UDP/DTLS/SCTP webrtc-datachannel", "DTLS/SCTP 5000").replace(
                "a=sctp-port:5000\r\n", ""
            )
            self.assertTrue(stack.take(Description(True, old + "a=sctpmap:5000 webrtc-datachannel 1024\r\n")))
            sdp = (await stack.describe()).sdp
            self.assertIn("m=application 9 DTLS/SCTP 5000\r\n", sdp)
            self.assertIn("a=sctpmap:5000 webrtc-datachannel", sdp)
            await stack.stop()

        self.run_in_loop(test())

    def test_only_the_other_kind(self) -> None:
        """Who offers takes no offer, and who answers no answer."""

        async def test() -> None:
            answerer, offerer = self.stack(), self.stack("label")
            answer = Description(False, OFFER.replace("actpass", "active"))
            self.assertFalse(answerer.take(answer))
            self.assertFalse(offerer.take(Description(True, OFFER)))
            self.assertFalse(offerer.take(Description(False, OFFER)))
            self.assertTrue(offerer.take(answer))
            self.assertEqual((await offerer.describe()).is_offer, True)
            await answerer.stop()
            await offerer.stop()

        self.run_in_loop(test())

    def test_bad_descriptions(self) -> None:
        """A description without what a data channel needs is not taken, whatever else it has."""

        async def test() -> None:
            stack = self.stack()
            for old, new in (
                (OFFER, ""),
                (OFFER, "garbage"),
                ("m=application", "m=video"),
                ("m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "m="),
                ("a=ice-ufrag:Fr7H\r\n", ""),
                ("a=ice-ufrag:Fr7H", "a=ice-ufrag"),
                ("a=ice-pwd:0123456789abcdef01234567", "a=ice-pwd:a b"),
                ("a=fingerprint:sha-256 AA:BB\r\n", ""),
                ("a=fingerprint:sha-256 AA:BB", "a=fingerprint"),
                ("a=setup:actpass", "a=setup:holdconn"),
                ("a=sctp-port:5000\r\n", ""),
                ("a=sctp-port:5000", "a=sctp-port:70000"),
                ("a=sctp-port:5000", "a=sctp-port:" + "9" * 5000),
                ("a=max-message-size:1000", "a=max-message-size:-1"),
                ("a=mid:data", "a=candidate:1"),
                ("c=IN IP4 0.0.0.0", "c=garbage"),
            ):
                self.assertIn(old, OFFER)
                self.assertFalse(stack.take(Description(True, OFFER.replace(old, new))), new)
            self.assertTrue(stack.take(Description(True, OFFER)))
            await stack.stop()

        self.run_in_loop(test())

    def test_candidates(self) -> None:
        """Candidates are taken before the description, at most 64; garbage is not."""

        async def test() -> None:
            counters = WrtcCounters()
            stack = self.stack(counters=counters)
            for text in ("garbage", "1 1 udp x 127.0.0.1 9 typ host", " " * 100):
                self.assertFalse(stack.add_candidate(text))
            self.assertTrue(stack.add_candidate(""))
            for number in range(MAX_CANDIDATES):
                self.assertTrue(stack.add_candidate(f"1 1 udp 7 10.0.0.{number} 9 typ host generation 0 ufrag a"))
            self.assertFalse(stack.add_candidate("1 1 udp 7 10.0.1.1 9 typ host"))
            await turns()
            self.assertEqual(counters.candidates_refused, 0)
            await stack.stop()
            self.assertFalse(stack.add_candidate("1 1 udp 7 10.0.1.1 9 typ host"))

        self.run_in_loop(test())

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(st.tuples(st.integers(0, len(OFFER)), st.text("a=:-09 \r\nm/", max_size=6)), min_size=1, max_size=6)
    )
    def test_any_text(self, changes: list[tuple[int, str]]) -> None:
        """A description with anything in it is taken or not; it never raises."""
        text = OFFER
        for place, new in changes:
            text = text[:place] + new + text[place + len(new) :]

        async def test() -> None:
            stack = self.stack()
            self.assertIn(stack.take(Description(True, text)), (True, False))
            await stack.stop()

        self.run_in_loop(test())
