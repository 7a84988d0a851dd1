"""Peers of the overlay for asyncio programs: the same methods, awaited by asyncio.

::

    async with meshrelay.peer_relay.aio.PeerRelay(bootstrap=["ws://127.0.0.1:7400"]) as peer:
        await peer.send(other_id, {"hello": "world"})
        async for message in peer.messages():
            ...

Links by WebRTC need nothing but the extra ``webrtc`` here. See `meshrelay.transport.asyncio_reactor` for the loops that
a peer can run in.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from inspect import isawaitable
from types import TracebackType
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from meshrelay.overlay.peer import PeerMessage
from meshrelay.overlay.traces import Trace
from meshrelay.peer_relay import datagrams, peer
from meshrelay.peer_relay.datagrams import RemoteInfo
from meshrelay.transport.asyncio_reactor import end_reactor, reactor_of_loop

__all__ = ["MAX_MESSAGES", "MAX_RUNNING", "PeerRelay", "PeerRelaySocket"]

R = TypeVar("R")

_On = Callable[[str, Callable[..., object]], Callable[[], None]]

#: Messages that `PeerRelay.messages` keeps until the program reads on; then the oldest ones go.
MAX_MESSAGES = 1024

#: Calls of one coroutine function, given to ``on``, that have not ended; what comes then it is not told.
MAX_RUNNING = 1024


class _Callback:
    """One callback of the program.

    :ivar dropped_count: what it was not told, see `MAX_RUNNING`.
    """

    def __init__(self, callback: Callable[..., object]) -> None:
        self._callback = callback
        #: asyncio keeps only weak references to the tasks of callbacks.
        self._tasks: set[asyncio.Future[Any]] = set()
        self.dropped_count = 0

    def __call__(self, *arguments: object) -> None:
        if len(self._tasks) >= MAX_RUNNING:
            self.dropped_count += 1
            return
        result = self._callback(*arguments)
        if isawaitable(result):
            task = asyncio.ensure_future(result)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


class _Loop:
    """The reactor of a peer, and what it has started in its loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.reactor, self._is_own = reactor_of_loop(self._loop)
        self._callbacks: list[_Callback] = []
        #: By those that have ended.
        self._dropped_before = 0

    def make(self, kind: Callable[..., R], options: dict[str, Any]) -> R:
        """Make the peer or socket; when that fails the reactor ends, for nobody else would end it."""
        try:
            return kind(self.reactor, **options)
        except BaseException:
            if self._is_own:
                self.reactor.stop()
            raise

    async def wait(self, deferred: Deferred[R]) -> R:
        """Wait for a Deferred. When the task is cancelled, what it waits for goes on."""
        future: asyncio.Future[R] = self._loop.create_future()

        def fire(result: R) -> None:
            if not future.done():
                future.set_result(result)

        def fail(failure: Any) -> None:
            if not future.done():
                future.set_exception(failure.value)

        deferred.addCallbacks(fire, fail)
        return await future

    def listen(self, on: _On, event: str, callback: Callable[..., object]) -> Callable[[], None]:
        """Let a callback, which may be a coroutine function, have the events of that name; returns what ends it."""
        told = _Callback(callback)
        end_telling = on(event, told)
        self._callbacks.append(told)

        def end() -> None:
            if told in self._callbacks:
                end_telling()
                self._callbacks.remove(told)
                self._dropped_before += told.dropped_count

        return end

    @property
    def dropped_count(self) -> int:
        """What callbacks were not told."""
        return self._dropped_before + sum(callback.dropped_count for callback in self._callbacks)

    async def end(self) -> None:
        """End the reactor if nobody else has it."""
        if self._is_own:
            self._is_own = False
            await end_reactor(self._loop, self.reactor)


class PeerRelay:
    """See `meshrelay.peer_relay.peer.PeerRelay` for the arguments, and for what the methods do and raise.

    To be made while the loop runs. Leaving the ``async with`` destroys it.
    """

    def __init__(self, **options: Any) -> None:
        self._loop = _Loop()
        self._peer = self._loop.make(peer.PeerRelay, options)
        self._streams: set[asyncio.Queue[PeerMessage | None]] = set()
        self._is_destroyed = False
        self._dropped_count = 0
        self._peer.on_message(self._received)

    async def __aenter__(self) -> PeerRelay:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.destroy()

    @property
    def id(self) -> bytes:
        """This peer's ID, 20 bytes."""
        return self._peer.id

    @property
    def port(self) -> int | None:
        """Where it listens; None: it does not."""
        return self._peer.port

    @property
    def url(self) -> str:
        """The URL by which others dial this peer, or ""."""
        return self._peer.url

    @property
    def peers(self) -> tuple[bytes, ...]:
        """IDs of the peers that are linked now."""
        return self._peer.peers

    @property
    def dropped_count(self) -> int:
        """Messages and events that the program did not take fast enough, see `MAX_MESSAGES` and `MAX_RUNNING`."""
        return self._dropped_count + self._loop.dropped_count

    async def connect(self, peer_id: bytes) -> None:
        """Link with a peer."""
        await self._loop.wait(self._peer.connect(peer_id))

    def disconnect(self, peer_id: bytes) -> bool:
        """Close the link to a peer. False: there is none."""
        return self._peer.disconnect(peer_id)

    async def send(self, peer_id: bytes, data: Any) -> None:
        """Send what JSON has to any peer; returns when that is acknowledged, as far as it ever is."""
        await self._loop.wait(self._peer.send(peer_id, data))

    def send_nowait(self, peer_id: bytes, data: Any) -> None:
        """Send, and do not wait for what becomes of it."""
        self._peer.send_nowait(peer_id, data)

    async def trace(self, peer_id: bytes) -> Trace:
        """Find out which way messages of another peer come, and how long they take."""
        return await self._loop.wait(self._peer.trace(peer_id))

    def known_peers(self, count: int = 1000) -> list[bytes]:
        """Return peers that were heard of, linked or not, nearest to this one first; some may be gone."""
        return self._peer.known_peers(count)

    def on(self, event: str, callback: Callable[..., object]) -> Callable[[], None]:
        """Call `callback`, which may be a coroutine function, with each event of that name; returns what ends it."""
        return self._loop.listen(self._peer.on, event, callback)

    def messages(self) -> AsyncIterator[PeerMessage]:
        """Return the messages from now on, for ``async for``; it ends when the peer is destroyed."""
        stream: asyncio.Queue[PeerMessage | None] = asyncio.Queue()
        if self._is_destroyed:
            stream.put_nowait(None)
        else:
            self._streams.add(stream)
        return self._read(stream)

    async def _read(self, stream: asyncio.Queue[PeerMessage | None]) -> AsyncIterator[PeerMessage]:
        try:
            while (message := await stream.get()) is not None:
                yield message
        finally:
            self._streams.discard(stream)

    def _received(self, message: PeerMessage) -> None:
        for stream in self._streams:
            if stream.qsize() >= MAX_MESSAGES:
                self._dropped_count += 1
                stream.get_nowait()
            stream.put_nowait(message)

    def statistics(self) -> dict[str, int]:
        """Sizes and counts, for whoever watches the peer; the same keys at each call."""
        return {**self._peer.statistics(), "messages_unread_dropped": self.dropped_count}

    async def destroy(self) -> None:
        """Close all links and the port."""
        await self._loop.wait(self._peer.destroy())
        self._is_destroyed = True
        for stream in self._streams:
            stream.put_nowait(None)
        self._streams.clear()
        await self._loop.end()


class PeerRelaySocket:
    """See `meshrelay.peer_relay.datagrams.PeerRelaySocket`; leaving the ``async with`` closes it."""

    def __init__(self, **options: Any) -> None:
        self._loop = _Loop()
        self._socket = self._loop.make(datagrams.PeerRelaySocket, options)

    async def __aenter__(self) -> PeerRelaySocket:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def peer(self) -> peer.PeerRelay:
        """The peer underneath, that of Twisted programs."""
        return self._socket.peer

    @property
    def dropped_count(self) -> int:
        """Datagrams that a coroutine function was not told, see `MAX_RUNNING`."""
        return self._loop.dropped_count

    def address(self) -> RemoteInfo:
        """Return this end's own address."""
        return self._socket.address()

    def bind(self, port: int = 0, callback: Callable[[], object] | None = None) -> None:
        """Choose the port that others are told."""
        self._socket.bind(port, callback)

    def on(self, event: str, callback: Callable[..., object]) -> Callable[[], None]:
        """Call `callback`, which may be a coroutine function, with each event of that name; returns what ends it."""
        return self._loop.listen(self._socket.on, event, callback)

    async def send(self, buffer: bytes | str, *where: Any) -> None:
        """Send a datagram: ``send(buffer, port, id)`` or ``send(buffer, offset, length, port, id)``."""
        await self._loop.wait(self._socket.send(buffer, *where))

    def send_nowait(self, buffer: bytes | str, *where: Any) -> None:
        """Send; what goes wrong on the way is told by the event ``error``."""
        self._socket.send_nowait(buffer, *where)

    async def close(self) -> None:
        """Destroy the peer underneath."""
        await self._loop.wait(self._socket.close())
        await self._loop.end()
