"""An open WebRTC link, on a clock and without a network."""

from __future__ import annotations

import asyncio

from meshrelay.overlay.interfaces import IOverlayLink
from meshrelay.transport.overlay_webrtc_link import CLOSE_SECONDS, MAX_WAITING_BYTES, Tasks
from meshrelay.wire.overlay import MAX_WRTC_BYTES
from tests.transport.test_overlay_webrtc import ANSWER, LoopTests, Site, turns


class LinkTests(LoopTests):
    """What `IOverlayLink` promises."""

    def test_frames(self) -> None:
        """Frames go out as text and come in as bytes."""

        async def test() -> None:
            link, stack, receiver = await Site().open()
            self.assertTrue(IOverlayLink.providedBy(link))
            self.assertTrue(link.send('{"a":"ä"}'.encode()))
            self.assertEqual(stack.sent, ['{"a":"ä"}'])
            stack.owner.message_received(b"one")
            stack.owner.message_received(b"two")
            self.assertEqual(receiver.frames, [b"one", b"two"])
            link.abort()

        self.run_in_loop(test())

    def test_longest(self) -> None:
        """A frame of 250,000 bytes goes both ways; a longer one is not sent, and one that comes ends the link."""

        async def test() -> None:
            link, stack, receiver = await Site().open()
            self.assertEqual(link.max_frame_bytes, MAX_WRTC_BYTES)
            self.assertTrue(link.send(b"x" * MAX_WRTC_BYTES))
            self.assertFalse(link.send(b"x" * (MAX_WRTC_BYTES + 1)))
            stack.owner.message_received(b"x" * MAX_WRTC_BYTES)
            self.assertEqual(receiver.lost, [])
            stack.owner.message_received(b"x" * (MAX_WRTC_BYTES + 1))
            await turns()
            self.assertEqual(receiver.lost, ["a message of 250001 bytes; the limit is 250000"])
            self.assertEqual((len(receiver.frames), stack.stop_count), (1, 1))

        self.run_in_loop(test())

    def test_smaller_peer(self) -> None:
        """Nothing is sent that the other end says it cannot take."""

        async def test() -> None:
            site = Site()
            site.attempt(True).signal(ANSWER)
            await turns()
            site.stacks[0].max_message_bytes = 1000
            site.stacks[0].open()
            [link] = site.links
            self.assertTrue(link.send(b"x" * 1000))
            self.assertFalse(link.send(b"x" * 1001))
            link.abort()

        self.run_in_loop(test())

    def test_waiting(self) -> None:
        """At most 1 MiB waits; what would be more is dropped, and the caller is told."""

        async def test() -> None:
            link, stack, _ = await Site().open()
            stack.waiting_bytes = MAX_WAITING_BYTES - 10
            self.assertEqual(link.waiting_bytes, MAX_WAITING_BYTES - 10)
            self.assertFalse(link.send(b"x" * 11))
            self.assertTrue(link.send(b"x" * 10))
            self.assertEqual(stack.sent, ["x" * 10])
            link.abort()

        self.run_in_loop(test())

    def test_no_text(self) -> None:
        """A frame that is no text is dropped: the other end would take it for another kind of message."""

        async def test() -> None:
            link, stack, _ = await Site().open()
            self.assertFalse(link.send(b"\xff"))
            self.assertEqual(stack.sent, [])
            link.abort()

        self.run_in_loop(test())

    def test_stalled(self) -> None:
        """A link that takes nothing for 30 seconds is closed; one that takes a little is not."""

        async def test() -> None:
            site = Site(stall_seconds=30.0)
            link, stack, receiver = await site.open()
            stack.waiting_bytes = 500
            link.send(b"x" * 1000)
            stack.waiting_bytes = 400
            site.clock.advance(30.1)
            await turns()
            self.assertEqual(receiver.lost, [])
            site.clock.advance(30.1)
            await turns()
            self.assertEqual(receiver.lost, ["it took nothing for 30 seconds"])

        self.run_in_loop(test())

    def test_not_stalled(self) -> None:
        """A link that has taken everything is left alone, and watched again when more is sent."""

        async def test() -> None:
            site = Site(stall_seconds=30.0)
            link, stack, receiver = await site.open()
            link.send(b"x")
            site.clock.advance(100)
            self.assertEqual(site.clock.getDelayedCalls(), [])
            stack.waiting_bytes = 1
            link.send(b"x")
            site.clock.advance(61)
            await turns()
            self.assertEqual(len(receiver.lost), 1)

        self.run_in_loop(test())

    def test_close(self) -> None:
        """Closing closes the channel behind what was sent; the link is lost when the other end has agreed."""

        async def test() -> None:
            link, stack, receiver = await Site().open()
            link.close()
            link.close()
            self.assertTrue(stack.is_channel_closed)
            self.assertFalse(link.send(b"more"))
            self.assertEqual(receiver.lost, [])
            stack.owner.stack_lost("the channel was closed")
            await turns()
            self.assertEqual(receiver.lost, ["closed"])

        self.run_in_loop(test())

    def test_close_unanswered(self) -> None:
        """A link that the other end does not close is closed all the same, soon."""

        async def test() -> None:
            site = Site()
            link, stack, receiver = await site.open()
            link.close()
            site.clock.advance(CLOSE_SECONDS + 0.1)
            await turns()
            self.assertEqual((receiver.lost, stack.stop_count), (["closed, unanswered"], 1))

        self.run_in_loop(test())

    def test_abort(self) -> None:
        """An aborted link is lost once, not while it is being aborted, and nothing comes in any more."""

        async def test() -> None:
            site = Site()
            link, stack, receiver = await site.open()
            link.abort()
            self.assertEqual(receiver.lost, [])
            stack.owner.message_received(b"late")
            stack.owner.stack_lost("late")
            link.abort()
            await turns()
            self.assertEqual((receiver.lost, receiver.frames, stack.stop_count), (["aborted"], [], 1))
            self.assertEqual((link.waiting_bytes, link.send(b"late"), site.maker.link_count), (0, False, 0))

        self.run_in_loop(test())

    def test_lost(self) -> None:
        """A link whose other end has gone is lost, with the reason."""

        async def test() -> None:
            _, stack, receiver = await Site().open()
            stack.owner.stack_lost("it went dead")
            await turns()
            self.assertEqual((receiver.lost, stack.stop_count), (["it went dead"], 1))

        self.run_in_loop(test())

    def test_receiver_fails(self) -> None:
        """An error in what handles a frame costs the link, and is logged."""

        async def test() -> None:
            _, stack, receiver = await Site().open()
            stack.owner.message_received(b"explode")
            await turns()
            self.assertEqual(receiver.lost, ["an error of this end"])

        self.run_in_loop(test())
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class TasksTests(LoopTests):
    """Tasks that nobody waits for."""

    def test_failure(self) -> None:
        """A failed task is logged with its name, and waiting for all of them still ends."""

        async def fail() -> None:
            raise RuntimeError("of a task")

        async def test() -> None:
            tasks = Tasks(asyncio.get_running_loop())
            tasks.start(fail(), "a thing")
            await tasks.when_ended()
            await turns()

        self.run_in_loop(test())
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
