"""WebRTC links of ours over real UDP: two ends in one process, and in two."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from meshrelay.overlay.interfaces import ILinkReceiver, IOverlayLink, WrtcAttempt
from meshrelay.transport.asyncio_reactor import end_reactor, reactor_of_loop
from meshrelay.transport.overlay_webrtc import WrtcMaker, wrtc_maker
from meshrelay.transport.overlay_webrtc_link import MAX_WAITING_BYTES, WrtcOptions
from meshrelay.wire.overlay import MAX_WRTC_BYTES
from tests.integration.webrtc_ends import End, connect, own_command

try:
    from meshrelay.transport.overlay_webrtc_bounds import MAX_DATAGRAMS
except ImportError as error:
    missing = f"missing: the extra webrtc ({error})"
else:
    missing = ""

LOOPBACK = WrtcOptions(addresses=("127.0.0.1",))


class Place:
    """One end: what it says and is told.

    :ivar other: where its signals go; None: nowhere.
    """

    def __init__(self, maker: WrtcMaker, is_initiator: bool) -> None:
        self.frames: list[bytes] = []
        self.lost: list[str] = []
        self.failures: list[str] = []
        self.signals: list[bytes] = []
        self.link: Any = None
        self.other: Place | None = None
        self.attempt: WrtcAttempt = maker.attempt(is_initiator, self._signal, self._opened, self.failures.append)

    def _signal(self, data: bytes) -> None:
        self.signals.append(data)
        if self.other is not None:
            self.other.attempt.signal(data)

    def _opened(self, link: IOverlayLink) -> ILinkReceiver:
        self.link = link
        # What is sent at once must not be lost, and must be the first.
        link.send(b"first")
        return self

    def frame_received(self, frame: bytes) -> None:
        """See `ILinkReceiver`."""
        self.frames.append(frame)

    def link_lost(self, why: str) -> None:
        """See `ILinkReceiver`."""
        self.lost.append(why)


async def until(is_so: Callable[[], object], seconds: float = 30.0) -> None:
    """Look again and again until something is so."""
    async with asyncio.timeout(seconds):
        while not is_so():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def socket_count() -> int:
    """Sockets of this process."""
    names = Path("/proc/self/fd").iterdir()
    return sum(name.is_symlink() and os.readlink(name).startswith("socket:") for name in names)


class LoopTests(SynchronousTestCase):
    """Runs a test in a loop of its own, in asyncio's debug mode, where nothing may be left or complained of."""

    def setUp(self) -> None:
        """Skip without the extra."""
        if missing:
            raise SkipTest(missing)

    def run_test(
        self, test: Callable[[WrtcMaker], Awaitable[None]], options: WrtcOptions = LOOPBACK, *, loop_time: float = 60.0
    ) -> None:
        """Run to the end."""
        complaints: list[dict[str, Any]] = []

        async def run() -> None:
            loop = asyncio.get_running_loop()
            # Under a debugger of time every import is a slow callback.
            loop.slow_callback_duration = 5.0
            loop.set_exception_handler(lambda _, complaint: complaints.append(complaint))
            reactor, _ = reactor_of_loop(loop)
            maker = wrtc_maker(reactor, options, os.urandom)
            assert maker is not None
            sockets = socket_count()
            try:
                async with asyncio.timeout(loop_time):
                    await test(maker)
            finally:
                await maker.stop().asFuture(loop)
                # What nobody has stopped is given the time to show itself.
                await asyncio.sleep(0.05)
                self.assertEqual(socket_count(), sockets)
                await end_reactor(loop, reactor)
            await asyncio.sleep(0.01)
            self.assertEqual(asyncio.all_tasks(), {asyncio.current_task()})
            self.assertEqual((maker.attempt_count, maker.link_count), (0, 0))

        asyncio.run(run(), debug=True)
        self.assertEqual(complaints, [])


async def pair(maker: WrtcMaker) -> tuple[Place, Place]:
    """Two linked ends: the initiator and the other."""
    first, second = Place(maker, True), Place(maker, False)
    first.other, second.other = second, first
    for data in first.signals:
        second.attempt.signal(data)
    await until(lambda: first.link and second.link)
    return first, second


class OneProcessTests(LoopTests):
    """Two ends in one process."""

    def test_link(self) -> None:
        """Frames sent at once and later arrive in order, both ways; closing is seen by both."""

        async def test(maker: WrtcMaker) -> None:
            first, second = await pair(maker)
            self.assertEqual((first.link.is_outgoing, second.link.is_outgoing), (True, False))
            self.assertTrue(first.link.remote_address.startswith("127.0.0.1:"))
            for number in range(100):
                self.assertTrue(first.link.send(f"{number}".encode()))
                self.assertTrue(second.link.send(f"ä{number}".encode()))
            await until(lambda: len(first.frames) == len(second.frames) == 101)
            self.assertEqual(second.frames, [b"first", *(f"{number}".encode() for number in range(100))])
            self.assertEqual(first.frames, [b"first", *(f"ä{number}".encode() for number in range(100))])
            first.link.send(b"last words")
            first.link.close()
            await until(lambda: first.lost and second.lost)
            self.assertEqual(second.frames[-1], b"last words")
            self.assertEqual((first.lost, second.lost), (["closed"], ["the channel was closed"]))

        self.run_test(test)

    def test_abort(self) -> None:
        """When one end aborts the other notices at once."""

        async def test(maker: WrtcMaker) -> None:
            first, second = await pair(maker)
            second.link.abort()
            await until(lambda: first.lost and second.lost, 5.0)
            self.assertEqual(second.lost, ["aborted"])

        self.run_test(test)

    def test_full(self) -> None:
        """At most 1 MiB of frames waits; those that were taken arrive whole, the longest too."""

        async def test(maker: WrtcMaker) -> None:
            first, second = await pair(maker)
            await until(lambda: first.link.waiting_bytes == 0)
            taken = sum(first.link.send(b"x" * MAX_WRTC_BYTES) for _ in range(8))
            self.assertEqual(taken, MAX_WAITING_BYTES // MAX_WRTC_BYTES)
            self.assertEqual(first.link.waiting_bytes, taken * MAX_WRTC_BYTES)
            await until(lambda: len(second.frames) == taken + 1)
            self.assertEqual({len(frame) for frame in second.frames[1:]}, {MAX_WRTC_BYTES})
            await until(lambda: first.link.waiting_bytes == 0)
            self.assertTrue(first.link.send(b"again"))

        self.run_test(test)

    def test_too_long(self) -> None:
        """A message that is longer than the overlay's frames ends the link at the one who received it."""

        async def test(maker: WrtcMaker) -> None:
            first, second = await pair(maker)
            first.link._stack.send("x" * (MAX_WRTC_BYTES + 1))
            await until(lambda: first.lost and second.lost)
            self.assertEqual(second.lost, ["a message of 250001 bytes; the limit is 250000"])

        self.run_test(test)

    def test_second_channel(self) -> None:
        """An end that opens a second channel loses the link."""

        async def test(maker: WrtcMaker) -> None:
            from aiortc import RTCDataChannel, RTCDataChannelParameters

            first, second = await pair(maker)
            RTCDataChannel(first.link._stack._sctp, RTCDataChannelParameters(label="second"))
            await until(lambda: second.lost)
            self.assertEqual((second.lost, maker.counters.faults), (["it opened a second channel"], 1))

        self.run_test(test)

    def test_no_text(self) -> None:
        """A text message that is no UTF-8 costs the link, and leaves no trace in the loop."""

        async def test(maker: WrtcMaker) -> None:
            first, second = await pair(maker)
            sctp = first.link._stack._sctp
            # Payload protocol 51: text.
            await sctp._send(first.link._stack._channel.id, 51, b"\xff\xfe")
            await until(lambda: second.lost)
            self.assertEqual((second.lost, maker.counters.faults), (["it broke the rules of SCTP"], 1))

        self.run_test(test)

    def test_endless_message(self) -> None:
        """Fragments of a message that never ends are not kept for ever."""

        async def test(maker: WrtcMaker) -> None:
            first, second = await pair(maker)
            stack = first.link._stack
            stack._sctp._remote_max_message_size = 0
            stack._sctp._data_channel_send(stack._channel, "x" * 4_000_000)
            await until(lambda: second.lost)
            self.assertEqual(second.lost, ["it sent more than may wait"])

        self.run_test(test)

    def test_strangers_datagrams(self) -> None:
        """Datagrams of a stranger, empty ones and many of them, do not harm a link, nor one on its way."""

        async def test(maker: WrtcMaker) -> None:
            waiting = Place(maker, True)
            await until(lambda: waiting.signals)
            [line] = [line for line in json.loads(waiting.signals[0])["sdp"].splitlines() if "candidate:" in line]
            first, second = await pair(maker)
            host, port = second.link.remote_address.rsplit(":", 1)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.setblocking(False)
                for _ in range(50):
                    for data in (b"", b"\x17" * 60, b"\x80" * 60, b"\x00" * 60):
                        stranger.sendto(data, (host, int(port)))
                await until(lambda: maker.counters.datagrams_dropped == 50)
                for _ in range(MAX_DATAGRAMS + 100):
                    stranger.sendto(b"\x17" * 60, ("127.0.0.1", int(line.split()[5])))
                    # The kernel would drop what is not read in time.
                    await asyncio.sleep(0)
                await until(lambda: maker.counters.datagrams_dropped >= 100)
            self.assertLessEqual(waiting.attempt._stack._connection._queue.qsize(), MAX_DATAGRAMS)  # type: ignore[attr-defined]
            second.link.send(b"still here")
            await until(lambda: b"still here" in first.frames)

        self.run_test(test)

    def test_late_candidates(self) -> None:
        """Signals that come behind the link, and senseless ones before it, do not matter."""

        async def test(maker: WrtcMaker) -> None:
            first, second = Place(maker, True), Place(maker, False)
            for data in (b"{}", b'{"type":"offer","sdp":"v=0"}', b'{"candidate":{"candidate":"candidate:x"}}'):
                second.attempt.signal(data)
            self.assertEqual(maker.counters.signals_ignored, 3)
            await until(lambda: first.signals)
            first.other, second.other = second, first
            second.attempt.signal(first.signals[0])
            await until(lambda: first.link and second.link)
            first.attempt.signal(b'{"candidate":{"candidate":"candidate:1 1 udp 7 127.0.0.1 9 typ host"}}')
            first.attempt.signal(second.signals[0])
            second.link.send(b"still here")
            await until(lambda: b"still here" in first.frames)

        self.run_test(test)

    def test_impostor(self) -> None:
        """An end whose certificate is not the one of its description is not linked with."""

        async def test(maker: WrtcMaker) -> None:
            first, second = Place(maker, True), Place(maker, False)
            await until(lambda: first.signals)
            second.attempt.signal(first.signals[0])
            await until(lambda: second.signals)
            said = json.loads(second.signals[0])
            lines = said["sdp"].split("\r\n")
            said["sdp"] = "\r\n".join(
                line[:-2] + ("00" if line[-2:] != "00" else "01") if "fingerprint" in line else line for line in lines
            )
            first.attempt.signal(json.dumps(said).encode())
            await until(lambda: first.failures)
            self.assertEqual(first.failures, ["the other end is not who it said, or speaks no DTLS"])
            self.assertIsNone(first.link)

        self.run_test(test)

    def test_not_allowed(self) -> None:
        """No packet goes to an address that is not allowed, so there is no link."""

        async def test(maker: WrtcMaker) -> None:
            first, second = Place(maker, True), Place(maker, False)
            first.other, second.other = second, first
            for data in first.signals:
                second.attempt.signal(data)
            await until(lambda: first.failures and second.failures)
            self.assertGreaterEqual(maker.counters.candidates_refused, 2)
            self.assertEqual(maker.counters.links_opened, 0)

        options = LOOPBACK._replace(allows=lambda address: address != "127.0.0.1", attempt_seconds=1.0)
        self.run_test(test, options)

    def test_nobody_answers(self) -> None:
        """An attempt that nobody answers, and one that is given up, leave no socket and no task."""

        async def test(maker: WrtcMaker) -> None:
            lonely, given_up = Place(maker, True), Place(maker, True)
            given_up.attempt.cancel()
            await until(lambda: lonely.failures)
            self.assertEqual((lonely.failures, given_up.failures), (["no link within 0.3 seconds"], []))

        self.run_test(test, LOOPBACK._replace(attempt_seconds=0.3))

    def test_stopped_on_the_way(self) -> None:
        """Stopping at any moment of an attempt leaves nothing behind."""
        for wait_seconds in (0.0, 0.001, 0.01, 0.03, 0.05):

            async def test(maker: WrtcMaker, seconds: float = wait_seconds) -> None:
                first, second = Place(maker, True), Place(maker, False)
                first.other, second.other = second, first
                await asyncio.sleep(seconds)

            self.run_test(test)


class TwoProcessTests(SynchronousTestCase):
    """Each end in a process of its own, with warnings as errors and asyncio's debug mode."""

    def setUp(self) -> None:
        """Skip without the extra."""
        if missing:
            raise SkipTest(missing)

    def test_link(self) -> None:
        """Two processes link, speak and part; both end with nothing left in their loops, and nothing on stderr."""
        with End(own_command(initiator=True)) as first, End(own_command(initiator=False)) as second:
            connect(first, second)
            first.order(send="hello")
            second.order(send_size=MAX_WRTC_BYTES)
            self.assertEqual(second.wait("message")["text"], "hello")
            self.assertEqual(first.wait("message")["size"], MAX_WRTC_BYTES)
            second.order(close=True)
            self.assertEqual(second.wait("lost")["why"], "closed")
            first.wait("lost")
            self.assertEqual((first.stop(), second.stop()), (0, 0))
        self.assertEqual((first.errors, second.errors), ("", ""))

    def test_ended(self) -> None:
        """A process that ends in the ordinary way tells the other end."""
        with End(own_command(initiator=True)) as first, End(own_command(initiator=False)) as second:
            connect(first, second)
            self.assertEqual(first.stop(), 0)
            second.wait("lost", 10.0)

    def test_killed(self) -> None:
        """The end of a killed process is noticed after six checks without an answer."""
        options = {"consent_seconds": 0.2}
        with End(own_command(initiator=True)) as first, End(own_command(initiator=False, **options)) as second:
            connect(first, second)
            first.process.send_signal(signal.SIGKILL)
            began = time.monotonic()
            self.assertEqual(second.wait("lost")["why"], "the connection was closed or went dead")
            # Six times 0.2 s and half a second without an answer; it is half a minute without these options.
            self.assertLess(time.monotonic() - began, 20.0)
            self.assertEqual(second.stop(), 0)

    def test_stalled(self) -> None:
        """A process that takes nothing any more loses the link, long before it is given up for dead."""
        options = {"stall_seconds": 1.0}
        with End(own_command(initiator=True, **options)) as first, End(own_command(initiator=False)) as second:
            connect(first, second)
            second.process.send_signal(signal.SIGSTOP)
            try:
                for _ in range(4):
                    first.order(send_size=MAX_WRTC_BYTES)
                self.assertEqual(first.wait("lost")["why"], "it took nothing for 1 seconds")
            finally:
                second.process.send_signal(signal.SIGCONT)
            second.wait("lost")
