"""WebRTC links on their way, on a clock and without a network."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.overlay.interfaces import ILinkReceiver, IOverlayLink, WrtcAttempt
from meshrelay.transport.overlay_webrtc import MAX_ATTEMPTS, WrtcMaker, webrtc_missing, wrtc_maker
from meshrelay.transport.overlay_webrtc_link import StackOwner, Tasks, WrtcCounters, WrtcOptions
from tests.transport.memory_stack import MemoryStack, unreachable

OFFER = b'{"type":"offer","sdp":"theirs"}'
ANSWER = b'{"type":"answer","sdp":"theirs"}'


class Receiver:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.lost: list[str] = []

    def frame_received(self, frame: bytes) -> None:
        """See `ILinkReceiver`."""
        if frame == b"explode":
            raise RuntimeError("the receiver's own")
        self.frames.append(frame)

    def link_lost(self, why: str) -> None:
        """See `ILinkReceiver`."""
        self.lost.append(why)


async def turns() -> None:
    """Let the loop do all that it can."""
    for _ in range(20):
        await asyncio.sleep(0)


class Site:
    """A maker, and all that comes of it."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.stacks: list[MemoryStack] = []
        self.signals: list[dict[str, str]] = []
        self.links: list[IOverlayLink] = []
        self.failures: list[str] = []
        self.receiver: Receiver | None = Receiver()
        loop = asyncio.get_running_loop()
        self.maker = WrtcMaker(self.clock, loop, self._make_stack, WrtcOptions(**options), lambda size: b"\xab" * size)

    def _make_stack(
        self, owner: StackOwner, label: str, options: WrtcOptions, counters: WrtcCounters, tasks: Tasks
    ) -> MemoryStack:
        self.stacks.append(MemoryStack(owner, label, options, counters, tasks))
        return self.stacks[-1]

    def attempt(self, is_initiator: bool) -> WrtcAttempt:
        """Begin."""
        return self.maker.attempt(is_initiator, self._signal, self._opened, self.failures.append)

    def _signal(self, data: bytes) -> None:
        self.signals.append(json.loads(data))

    def _opened(self, link: IOverlayLink) -> ILinkReceiver | None:
        self.links.append(link)
        return self.receiver

    async def open(self) -> tuple[IOverlayLink, MemoryStack, Receiver]:
        """Make one open link."""
        attempt = self.attempt(True)
        await turns()
        attempt.signal(ANSWER)
        await turns()
        self.stacks[-1].open()
        assert self.receiver is not None
        return self.links[-1], self.stacks[-1], self.receiver


class LoopTests(SynchronousTestCase):
    """Runs a test in a loop, where nothing may be left behind."""

    def run_in_loop(self, test: Coroutine[Any, Any, None]) -> None:
        """Run to the end."""

        async def run() -> None:
            await test
            await turns()
            self.assertEqual(asyncio.all_tasks(), {asyncio.current_task()})

        asyncio.run(run())


class AttemptTests(LoopTests):
    """From the first signal to a link, or to a failure."""

    def test_initiator(self) -> None:
        """The initiator offers, is answered, and has a link; its channel has a label of 40 hex digits."""

        async def test() -> None:
            site = Site()
            attempt = site.attempt(True)
            await turns()
            self.assertEqual(site.signals, [{"type": "offer", "sdp": "mine"}])
            [stack] = site.stacks
            self.assertEqual(stack.label, "ab" * 20)
            self.assertFalse(stack.is_connecting)
            attempt.signal(ANSWER)
            await turns()
            self.assertTrue(stack.is_connecting)
            stack.open()
            [link] = site.links
            self.assertTrue(link.is_outgoing)
            self.assertEqual((link.transport_name, link.remote_address), ("wrtc", "192.0.2.1:9"))
            self.assertFalse(link.is_own)
            self.assertEqual((site.maker.attempt_count, site.maker.link_count), (0, 1))
            site.clock.advance(100)
            self.assertEqual(site.failures, [])
            link.abort()

        self.run_in_loop(test())

    def test_answerer(self) -> None:
        """The other end says nothing before it has an offer, then answers."""

        async def test() -> None:
            site = Site()
            attempt = site.attempt(False)
            await turns()
            self.assertEqual(site.signals, [])
            attempt.signal(OFFER)
            await turns()
            self.assertEqual(site.signals, [{"type": "answer", "sdp": "mine"}])
            [stack] = site.stacks
            self.assertEqual(stack.label, "")
            stack.open()
            self.assertFalse(site.links[0].is_outgoing)
            site.links[0].abort()

        self.run_in_loop(test())

    def test_early_candidates(self) -> None:
        """A candidate may come before the offer that it belongs to."""

        async def test() -> None:
            site = Site()
            attempt = site.attempt(False)
            attempt.signal(b'{"candidate":{"candidate":"candidate:early"}}')
            attempt.signal(OFFER)
            await turns()
            self.assertEqual(site.stacks[0].candidates, ["early"])
            attempt.cancel()

        self.run_in_loop(test())

    def test_nonsense(self) -> None:
        """Signals that make no sense are counted, and the attempt goes on."""

        async def test() -> None:
            site = Site()
            attempt = site.attempt(True)
            await turns()
            for raw in (b"", b"{}", OFFER, b'{"type":"answer","sdp":"bad"}', b'{"candidate":{"candidate":"bad"}}'):
                attempt.signal(raw)
            self.assertEqual(site.maker.counters.signals_ignored, 5)
            attempt.signal(ANSWER)
            await turns()
            attempt.signal(ANSWER)
            self.assertEqual(site.maker.counters.signals_ignored, 6)
            self.assertTrue(site.stacks[0].is_connecting)
            self.assertEqual(site.failures, [])
            attempt.cancel()

        self.run_in_loop(test())

    def test_late_signals(self) -> None:
        """What comes behind the link is ignored without being counted: simple-peer trickles to the end."""

        async def test() -> None:
            site = Site()
            attempt = site.attempt(False)
            attempt.signal(OFFER)
            await turns()
            site.stacks[0].open()
            attempt.signal(b'{"candidate":{"candidate":"candidate:late"}}')
            attempt.signal(b"{}")
            self.assertEqual(site.stacks[0].candidates, [])
            self.assertEqual(site.maker.counters.signals_ignored, 0)
            site.links[0].abort()

        self.run_in_loop(test())

    def test_deadline(self) -> None:
        """An attempt that is not answered fails after its time, once, and leaves nothing behind."""

        async def test() -> None:
            site = Site(attempt_seconds=15.0)
            site.attempt(True)
            await turns()
            site.clock.advance(14.9)
            await turns()
            self.assertEqual(site.failures, [])
            site.clock.advance(0.2)
            await turns()
            self.assertEqual(site.failures, ["no link within 15 seconds"])
            self.assertEqual(site.stacks[0].stop_count, 1)
            self.assertEqual((site.maker.attempt_count, site.maker.counters.attempts_failed), (0, 1))

        self.run_in_loop(test())

    def test_unreachable(self) -> None:
        """An attempt that finds no way fails at once, with the reason."""

        async def test() -> None:
            site = Site()
            attempt = site.attempt(True)
            site.stacks[0].failure = unreachable()
            attempt.signal(ANSWER)
            await turns()
            self.assertEqual(site.failures, ["nobody there"])
            attempt.cancel()

        self.run_in_loop(test())

    def test_own_error(self) -> None:
        """An error of the stack costs the attempt, at once, and is logged."""

        async def test() -> None:
            site = Site()
            attempt = site.attempt(True)
            site.stacks[0].failure = RuntimeError("of the stack")
            attempt.signal(ANSWER)
            await turns()
            self.assertEqual(site.failures, ["an error of this end"])

        self.run_in_loop(test())
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_lost_on_the_way(self) -> None:
        """An attempt whose connection breaks fails with the reason."""

        async def test() -> None:
            site = Site()
            site.attempt(True)
            site.stacks[0].owner.stack_lost("it broke")
            await turns()
            self.assertEqual(site.failures, ["it broke"])

        self.run_in_loop(test())

    def test_cancel(self) -> None:
        """Nothing is called any more after cancelling, not even by a channel that opens then."""

        async def test() -> None:
            site = Site()
            attempt = site.attempt(True)
            attempt.cancel()
            attempt.cancel()
            await turns()
            site.stacks[0].open()
            attempt.signal(ANSWER)
            site.clock.advance(100)
            await turns()
            self.assertEqual((site.signals, site.links, site.failures), ([], [], []))
            self.assertEqual(site.stacks[0].stop_count, 1)

        self.run_in_loop(test())

    def test_too_many(self) -> None:
        """With 32 attempts on their way one more fails, but not before `attempt` has returned; then there is room."""

        async def test() -> None:
            site = Site()
            attempts = [site.attempt(True) for _ in range(MAX_ATTEMPTS)]
            site.attempt(True)
            self.assertEqual(site.failures, [])
            await turns()
            self.assertEqual(site.failures, ["32 attempts are on their way"])
            self.assertEqual((site.maker.attempt_count, len(site.stacks)), (MAX_ATTEMPTS, MAX_ATTEMPTS))
            attempts[0].cancel()
            site.attempt(True)
            await turns()
            self.assertEqual((len(site.failures), len(site.stacks)), (1, MAX_ATTEMPTS + 1))
            await site.maker.stop().asFuture(asyncio.get_running_loop())

        self.run_in_loop(test())

    def test_unwanted(self) -> None:
        """A link that nobody wants is aborted."""

        async def test() -> None:
            site = Site()
            site.receiver = None
            site.attempt(False).signal(OFFER)
            await turns()
            site.stacks[0].open()
            await turns()
            self.assertEqual((site.stacks[0].stop_count, site.maker.link_count), (1, 0))

        self.run_in_loop(test())

    def test_stop(self) -> None:
        """Stopping ends attempts and links, tells those who have links, and fires when nothing is left."""

        async def test() -> None:
            site = Site()
            _, _, receiver = await site.open()
            site.attempt(True)
            done: list[object] = []
            site.maker.stop().addCallback(done.append)
            self.assertEqual(done, [])
            await turns()
            self.assertEqual(done, [None])
            self.assertEqual(receiver.lost, ["aborted"])
            self.assertEqual([stack.stop_count for stack in site.stacks], [1, 1])
            self.assertEqual(site.failures, [])
            self.assertEqual(site.clock.getDelayedCalls(), [])

        self.run_in_loop(test())


class MakerTests(SynchronousTestCase):
    """What there must be."""

    def test_other_reactor(self) -> None:
        """Without the asyncio reactor there is no WebRTC, and the reason says what to do."""
        self.assertIn("--reactor=asyncio", str(webrtc_missing(Clock())))
        self.assertIsNone(wrtc_maker(Clock(), WrtcOptions(), bytes))
