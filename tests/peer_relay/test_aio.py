"""Tests of `meshrelay.peer_relay.aio`: each in a loop of its own, on connections in memory.

How it is with real sockets is in `tests.integration.test_overlay_example`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from collections.abc import Callable, Coroutine
from types import ModuleType
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.overlay.peer import PeerMessage
from meshrelay.peer_relay import NotLinked, PeerDestroyed, UnusableData, aio
from meshrelay.peer_relay.aio import MAX_MESSAGES, MAX_RUNNING, PeerRelay, PeerRelaySocket
from meshrelay.transport.asyncio_reactor import reactor_of_loop
from tests.peer_relay.memory_sockets import SocketReactor

NOBODY = b"\x55" * 20


def _run(coroutine: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(debug=True) as runner:
        # The first import of aiortc takes its time.
        runner.get_loop().slow_callback_duration = 1.0
        runner.run(coroutine)


class MemoryTestCase(SynchronousTestCase):
    """Peers on a reactor in memory, whose time goes by while the loop waits for something."""

    def setUp(self) -> None:
        """The peers find this reactor."""
        self.reactor = SocketReactor()
        self.patch(aio, "reactor_of_loop", lambda loop: (self.reactor, False))

    def run_with_time(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a coroutine function to its end."""

        async def run() -> None:
            clock = asyncio.create_task(self.pass_time())
            try:
                await asyncio.wait_for(main(), 60)
            finally:
                clock.cancel()

        _run(run())

    async def pass_time(self) -> None:
        """Never end."""
        while True:
            self.reactor.pass_time(0.05)
            await asyncio.sleep(0)

    async def pair(self) -> tuple[PeerRelay, PeerRelay]:
        """Two that are linked."""
        hub = PeerRelay(port=0)
        other = PeerRelay(bootstrap=[hub.url])
        await other.connect(hub.id)
        return hub, other


class PeerRelayTests(MemoryTestCase):
    """The facade of a peer."""

    def test_messages(self) -> None:
        """Messages come by ``async for``, and the reading ends with the peer."""

        async def main() -> None:
            hub, other = await self.pair()
            messages = hub.messages()
            for number in range(3):
                await other.send(hub.id, number)
            other.send_nowait(hub.id, 3)
            read = [await anext(messages) for _ in range(4)]
            self.assertEqual([message.data for message in read], [0, 1, 2, 3])
            self.assertEqual(read[0], PeerMessage(other.id, 0, is_verified=True))
            await hub.destroy()
            self.assertEqual([message async for message in messages], [])
            self.assertEqual([message async for message in hub.messages()], [])
            await other.destroy()

        self.run_with_time(main)

    def test_slow_reader(self) -> None:
        """Of what nobody reads the newest are kept, and the others are counted."""

        async def main() -> None:
            async with PeerRelay() as peer:
                messages = peer.messages()
                for number in range(MAX_MESSAGES + 3):
                    peer.send_nowait(peer.id, number)
                self.assertEqual((await anext(messages)).data, 3)
                self.assertEqual(peer.dropped_count, 3)
                self.assertEqual(peer.statistics()["messages_unread_dropped"], 3)

        self.run_with_time(main)

    def test_reader_that_leaves(self) -> None:
        """Nothing is kept for a reader that has left."""

        async def main() -> None:
            async with PeerRelay() as peer:
                messages: Any = peer.messages()
                peer.send_nowait(peer.id, 1)
                await anext(messages)
                await messages.aclose()
                for number in range(MAX_MESSAGES + 3):
                    peer.send_nowait(peer.id, number)
                self.assertEqual(peer.dropped_count, 0)

        self.run_with_time(main)

    def test_callbacks(self) -> None:
        """Callbacks may be functions and coroutine functions, and end when they are told to."""

        async def main() -> None:
            told: list[Any] = []

            async def later(data: Any, sender: bytes) -> None:
                await asyncio.sleep(0)
                told.append((data, sender))

            async with PeerRelay() as peer:
                ends = [peer.on("message", later), peer.on("message", lambda data, sender: told.append(data))]
                peer.send_nowait(peer.id, 1)
                self.assertEqual(told, [1])
                gc.collect()
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                self.assertEqual(told, [1, (1, peer.id)])
                for end in (*ends, *ends):
                    end()
                peer.send_nowait(peer.id, 2)
                await asyncio.sleep(0)
                self.assertEqual(len(told), 2)
                with self.assertRaises(ValueError):
                    peer.on("massage", print)

        self.run_with_time(main)

    def test_slow_callback(self) -> None:
        """Of one coroutine function so many run at once; what comes then is counted, and others are told of it."""

        async def main() -> None:
            told: asyncio.Queue[Any] = asyncio.Queue()
            gate = asyncio.Event()

            async def slow(data: Any, sender: bytes) -> None:
                await gate.wait()
                told.put_nowait(data)

            async with PeerRelay() as peer:
                quick: list[Any] = []
                end = peer.on("message", slow)
                peer.on("message", lambda data, sender: quick.append(data))
                for number in range(MAX_RUNNING + 2):
                    peer.send_nowait(peer.id, number)
                self.assertEqual((peer.dropped_count, len(quick)), (2, MAX_RUNNING + 2))
                gate.set()
                self.assertEqual([await told.get() for _ in range(MAX_RUNNING)], quick[:MAX_RUNNING])
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                peer.send_nowait(peer.id, "again")
                self.assertEqual(await told.get(), "again")
                end()
                self.assertEqual(peer.dropped_count, 2)

        self.run_with_time(main)

    def test_errors(self) -> None:
        """What goes wrong is raised where it is waited for."""

        async def main() -> None:
            peer = PeerRelay()
            with self.assertRaises(UnusableData):
                await peer.send(b"short", 1)
            with self.assertRaises(NotLinked):
                await peer.connect(NOBODY)
            await peer.destroy()
            await peer.destroy()
            with self.assertRaises(PeerDestroyed):
                await peer.send(NOBODY, 1)
            peer.send_nowait(NOBODY, 1)

        self.run_with_time(main)

    def test_cancelled(self) -> None:
        """A task that waits for a message can be cancelled; the message goes on."""

        async def main() -> None:
            peer = PeerRelay()
            sending = asyncio.create_task(peer.send(NOBODY, 1))
            await asyncio.sleep(0)
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sending
            self.assertEqual(peer.statistics()["messages_waiting"], 1)
            await peer.destroy()
            self.assertEqual(peer.statistics()["messages_waiting"], 0)

        self.run_with_time(main)

    def test_looking(self) -> None:
        """The same can be seen as of a Twisted peer."""

        async def main() -> None:
            hub, other = await self.pair()
            self.assertEqual((hub.port, hub.url), (40001, "ws://127.0.0.1:40001"))
            self.assertEqual((other.port, other.url), (None, ""))
            self.assertEqual((hub.peers, other.known_peers()), ((other.id,), [hub.id]))
            self.assertEqual((await other.trace(hub.id)).path, (hub.id,))
            self.assertTrue(other.disconnect(hub.id))
            self.assertFalse(other.disconnect(hub.id))
            for peer in (hub, other):
                await peer.destroy()

        self.run_with_time(main)


class PeerRelaySocketTests(MemoryTestCase):
    """The facade of a socket."""

    def test_datagrams(self) -> None:
        """Datagrams go from one to the other, and coroutine functions may take them."""

        async def main() -> None:
            told: asyncio.Queue[Any] = asyncio.Queue()
            async with PeerRelaySocket(port=0) as first, PeerRelaySocket(bootstrap=[first.peer.url]) as last:
                first.on("message", lambda data, sender: told.put((data, sender.address)))
                last.bind(4321)
                await last.send(b"hello", 0, first.peer.id)
                last.send_nowait(b"again", 0, first.peer.id)
                for data in (b"hello", b"again"):
                    self.assertEqual(await told.get(), (data, last.peer.id.hex()))
                self.assertEqual((last.address().port, first.dropped_count), (4321, 0))
                with self.assertRaises(UnusableData):
                    await last.send(b"x", 0, "nobody")
            with self.assertRaises(PeerDestroyed):
                first.address()

        self.run_with_time(main)


class OwnReactorTests(SynchronousTestCase):
    """Peers whose reactor is their own, as the process has another one."""

    def setUp(self) -> None:
        """There is another one, whatever ran before."""
        if "twisted.internet.reactor" not in sys.modules:
            sys.modules["twisted.internet.reactor"] = ModuleType("twisted.internet.reactor")
            self.addCleanup(sys.modules.pop, "twisted.internet.reactor")

    def test_one_after_the_other(self) -> None:
        """Peers can be made in one loop after another; the end of one does not stop its loop, and leaves nothing."""

        async def main() -> None:
            for kind in (PeerRelay, PeerRelaySocket):
                async with kind() as made:
                    reactor = made._loop.reactor
                self.assertFalse(reactor.running)
            self.assertEqual(asyncio.all_tasks(), {asyncio.current_task()})

        _run(main())
        _run(main())

    def test_refused(self) -> None:
        """One that cannot be made leaves no reactor behind."""
        made: list[Any] = []

        def remember(loop: asyncio.AbstractEventLoop) -> Any:
            made.append(reactor_of_loop(loop)[0])
            return made[-1], True

        async def main() -> None:
            for kind in (PeerRelay, PeerRelaySocket):
                with self.assertRaises(ValueError):
                    kind(bootstrap=["http://x.example"])
            for _ in range(10):
                await asyncio.sleep(0)
            self.assertEqual([reactor.running for reactor in made], [False, False])

        self.patch(aio, "reactor_of_loop", remember)
        _run(main())
