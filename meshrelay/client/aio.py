"""The client for asyncio programs: the same methods, awaited by asyncio, on a Twisted reactor inside the running loop.

::

    async with meshrelay.client.aio.Client("tcp://127.0.0.1:7200", "ann") as client:
        created, group_id = await client.join_random_group()
        await client.broadcast(group_id, b"hello")
        async for event in client.events():
            ...

The loop has to be a selector loop, which on Windows is not the default one. A reactor is bound to one loop. When the
process has none yet, one for the running loop is installed as the global reactor, because parts of Twisted look for it
there and would otherwise install one that never runs. When the global reactor belongs to something else (another loop,
a Twisted program), the client makes a reactor of its own and leaves the global one alone. Signals stay with asyncio.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from inspect import isawaitable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IHostnameResolver, IHostResolution, IResolutionReceiver
from twisted.internet.main import installReactor
from twisted.internet.posixbase import PosixReactorBase
from twisted.python.failure import Failure
from zope.interface import implementer

from meshrelay.client import client as twisted_client
from meshrelay.client.events import Connected, Event
from meshrelay.client.listeners import EventStream, WhenFull
from meshrelay.client.options import ClientOptions
from meshrelay.wire.room_commands import RoomList

if TYPE_CHECKING:
    from meshrelay.client.p2p.aio_links import AioLinks

__all__ = ["Client", "TokenSource", "reactor_of_loop"]

E = TypeVar("E", bound=Event)
R = TypeVar("R")

#: A token, or what gives a fresh one for each connect: a function or a coroutine function.
TokenSource = str | Callable[[], str | Awaitable[str]] | None


@implementer(IHostResolution)
class _Resolution:
    """A look-up on its way."""

    def __init__(self, name: str, task: asyncio.Task[None]) -> None:
        self.name = name
        self._task = task

    def cancel(self) -> None:
        self._task.cancel()


@implementer(IHostnameResolver)
class _LoopResolver:
    """Looks names up through the loop. The reactor's own resolver has threads that outlive the loop and keep the
    process."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Any = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        task = self._loop.create_task(self._resolve(resolutionReceiver, hostName, portNumber, addressTypes))
        resolution = _Resolution(hostName, task)
        resolutionReceiver.resolutionBegan(resolution)
        return resolution

    async def _resolve(self, receiver: IResolutionReceiver, name: str, port: int, types: Any) -> None:
        try:
            found = await self._loop.getaddrinfo(name, port, type=socket.SOCK_STREAM)
        except OSError:
            # No address at all is how the caller is told.
            found = []
        for family, _, _, _, place in found:
            address: IAddress | None = None
            if family == socket.AF_INET:
                address = IPv4Address("TCP", str(place[0]), int(place[1]))
            elif family == socket.AF_INET6:
                address = IPv6Address("TCP", str(place[0]), int(place[1]))
            if address is not None and (types is None or isinstance(address, tuple(types))):
                receiver.addressResolved(address)
        receiver.resolutionComplete()


class _GuestReactor(AsyncioSelectorReactor):
    """A reactor in a loop that is not its own: it ends without ending the loop."""

    def crash(self) -> None:
        # The next class would stop the loop here.
        PosixReactorBase.crash(self)
        if self.waker is not None:
            self.removeReader(self.waker)  # type: ignore[no-untyped-call]
            self.waker.connectionLost(Failure(ConnectionDone()))
            self.waker = None


def reactor_of_loop(loop: asyncio.AbstractEventLoop) -> tuple[AsyncioSelectorReactor, bool]:
    """Return a reactor that runs inside `loop`, and whether it is the caller's alone: then he has to end it.

    :raises TypeError: the loop is none that a reactor can live in.
    """
    installed: Any = sys.modules.get("twisted.internet.reactor")
    if isinstance(installed, AsyncioSelectorReactor) and installed._asyncioEventloop is loop:
        return installed, False
    reactor = _GuestReactor(loop)
    reactor.installNameResolver(_LoopResolver(loop))
    if installed is None:
        installReactor(reactor)
    reactor.startRunning(installSignalHandlers=False)
    return reactor, installed is not None


class Client:
    """See `meshrelay.client.client.Client` for what the methods do and raise; here all that wait are coroutines.

    To be made while the loop runs. Leaving the ``async with`` closes it. Callbacks of `on` may be coroutine functions
    of asyncio. When a task is cancelled that waits for an answer, the client only stops waiting for it.
    """

    def __init__(
        self,
        url: str,
        user: str | None = None,
        *,
        token: TokenSource = None,
        acks: bool = True,
        resume: bool = True,
        options: ClientOptions | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._reactor, self._is_own_reactor = reactor_of_loop(self._loop)
        self._token = token
        #: asyncio keeps only weak references to the tasks of callbacks.
        self._tasks: set[asyncio.Future[Any]] = set()
        source = self._fresh_token if callable(token) else token
        self._client = twisted_client.Client(
            self._reactor, url, user, token=source, acks=acks, resume=resume, options=options
        )

    async def __aenter__(self) -> Client:
        try:
            await self.connect()
        except BaseException:
            # Nobody else would end the reactor: without an entry there is no exit.
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def is_connected(self) -> bool:
        """True: signed in at this moment."""
        return self._client.is_connected

    @property
    def links(self) -> AioLinks:
        """P2P links to the members of rooms, see `meshrelay.client.client.Client.links`."""
        from meshrelay.client.p2p.aio_links import AioLinks

        return AioLinks(self._client.links, self._wait)

    async def connect(self) -> Connected:
        """Sign in."""
        return await self._wait(self._client.connect())

    async def close(self) -> None:
        """Say GOODBYE. A client whose reactor is its own cannot be used afterwards."""
        await self._wait(self._client.close())
        if self._is_own_reactor:
            self._is_own_reactor = False
            ended = self._loop.create_future()
            self._reactor.addSystemEventTrigger("after", "shutdown", ended.set_result, None)
            self._reactor.stop()
            await ended

    async def ping(self, timeout_seconds: float | None = None) -> float:
        """Return the seconds of a round trip."""
        return await self._wait(self._client.ping(timeout_seconds))

    async def create_group(
        self, *, allow_empty: bool = False, join: bool = True, ttl_seconds: int = 3600, interval_ms: int = 0
    ) -> str:
        """Make a group and return its ID."""
        made = self._client.create_group(
            allow_empty=allow_empty, join=join, ttl_seconds=ttl_seconds, interval_ms=interval_ms
        )
        return await self._wait(made)

    async def join_group(self, group_id: str, message: bytes = b"") -> None:
        """Become a member."""
        await self._wait(self._client.join_group(group_id, message))

    async def leave_group(self, group_id: str, message: bytes = b"") -> None:
        """Be no member any more."""
        await self._wait(self._client.leave_group(group_id, message))

    async def join_random_group(
        self, *, ttl_seconds: int = 3600, allow_empty: bool = False, interval_ms: int = 0, message: bytes = b""
    ) -> tuple[bool, str]:
        """Join some group or make one; return (was it created, its ID)."""
        joined = self._client.join_random_group(
            ttl_seconds=ttl_seconds, allow_empty=allow_empty, interval_ms=interval_ms, message=message
        )
        return await self._wait(joined)

    async def list_groups(self) -> list[str]:
        """Return the IDs of this user's groups, newest last."""
        return await self._wait(self._client.list_groups())

    async def broadcast(self, group_id: str, message: bytes, *, reliable: bool = True) -> None:
        """Send to the other members; returns when the node has taken it."""
        await self._wait(self._client.broadcast(group_id, message, reliable=reliable))

    def broadcast_nowait(self, group_id: str, message: bytes, *, reliable: bool = True) -> None:
        """Send to the other members without an answer."""
        self._client.broadcast_nowait(group_id, message, reliable=reliable)

    async def create_room(
        self,
        *,
        max_members: int = 0,
        allow_empty: bool = False,
        join: bool = True,
        ttl_seconds: int = 3600,
        interval_ms: int = 0,
    ) -> str:
        """Make a room and return its ID."""
        made = self._client.create_room(
            max_members=max_members,
            allow_empty=allow_empty,
            join=join,
            ttl_seconds=ttl_seconds,
            interval_ms=interval_ms,
        )
        return await self._wait(made)

    async def join_room(self, room_id: str, message: bytes = b"") -> str:
        """Become a member; returns the owner's user ID."""
        return await self._wait(self._client.join_room(room_id, message))

    async def leave_room(self, room_id: str, message: bytes = b"") -> None:
        """Be no member any more."""
        await self._wait(self._client.leave_room(room_id, message))

    async def broadcast_room(self, room_id: str, message: bytes, *, reliable: bool = True) -> None:
        """Send to the other members; returns when the room's node has put it in line."""
        await self._wait(self._client.broadcast_room(room_id, message, reliable=reliable))

    async def room_members(self, room_id: str) -> RoomList:
        """Return (owner, members in join order) of a room that this user is in."""
        return await self._wait(self._client.room_members(room_id))

    async def send_direct(self, peer: str, message: bytes, *, reliable: bool = True) -> None:
        """Send to one user; returns when the peer's node has taken it. Calls in several tasks do not wait for each
        other."""
        await self._wait(self._client.send_direct(peer, message, reliable=reliable))

    async def clear_direct(self, peer: str, message: bytes = b"") -> None:
        """End the exchange of direct messages with a user; a message that is not empty is the last one."""
        await self._wait(self._client.clear_direct(peer, message))

    async def request(
        self, ver: int, cmd: int, payload: bytes = b"", *, reliable: bool = True, timeout_seconds: float | None = None
    ) -> bytes:
        """Run a command of the application and return the payload of its answer."""
        answer = self._client.request(ver, cmd, payload, reliable=reliable, timeout_seconds=timeout_seconds)
        return await self._wait(answer)

    def send(self, ver: int, cmd: int, payload: bytes = b"", *, reliable: bool = True) -> None:
        """As `request`, without an answer."""
        self._client.send(ver, cmd, payload, reliable=reliable)

    async def when_drained(self) -> None:
        """Return when little waits to be sent."""
        await self._wait(self._client.when_drained())

    def rebind(self) -> bool:
        """Go on from a new local socket (UDP)."""
        return self._client.rebind()

    def on(self, event_class: type[E], callback: Callable[[E], object]) -> Callable[[], None]:
        """Call `callback` with each event of that class; returns a function that ends it."""

        def call(event: E) -> None:
            result = callback(event)
            if isawaitable(result):
                task = asyncio.ensure_future(result)
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

        return self._client.on(event_class, call)

    def events(self, max_events: int = 1024, when_full: WhenFull = WhenFull.DROP_OLDEST) -> AsyncIterator[Event]:
        """Return the events from now on, for ``async for``; it ends when the client is closed or gives up."""
        return self._read(self._client.events(max_events, when_full))

    async def _read(self, stream: EventStream) -> AsyncIterator[Event]:
        while True:
            try:
                event = await self._wait(stream.next_event())
            except StopAsyncIteration:
                return
            yield event

    async def _wait(self, deferred: Deferred[R]) -> R:
        future: asyncio.Future[R] = deferred.asFuture(self._loop)
        return await future

    def _fresh_token(self) -> Any:
        assert callable(self._token)
        token = self._token()
        return Deferred.fromFuture(asyncio.ensure_future(token, loop=self._loop)) if isawaitable(token) else token
