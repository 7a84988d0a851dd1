"""The client for asyncio programs: the same methods, awaited by asyncio, on a Twisted reactor inside the running loop.

::

    async with meshrelay.client.aio.Client("tcp://127.0.0.1:7200", "ann") as client:
        created, group_id = await client.join_random_group()
        await client.broadcast(group_id, b"hello")
        async for event in client.events():
            ...

See `meshrelay.transport.asyncio_reactor` for the loops that it can run in.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from inspect import isawaitable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred

from meshrelay.client import client as twisted_client
from meshrelay.client.events import Connected, Event
from meshrelay.client.listeners import EventStream, WhenFull
from meshrelay.client.options import ClientOptions
from meshrelay.model import HistoryPage, Presence
from meshrelay.transport.asyncio_reactor import end_reactor, reactor_of_loop
from meshrelay.wire.room_commands import RoomList

if TYPE_CHECKING:
    from meshrelay.client.p2p.aio_links import AioLinks

__all__ = ["Client", "TokenSource"]

E = TypeVar("E", bound=Event)
R = TypeVar("R")

#: A token, or what gives a fresh one for each connect: a function or a coroutine function.
TokenSource = str | Callable[[], str | Awaitable[str]] | None


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
            await end_reactor(self._loop, self._reactor)

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

    async def join_group(self, group_id: str, message: bytes = b"", *, recover: bool | tuple[int, int] = False) -> None:
        """Become a member."""
        await self._wait(self._client.join_group(group_id, message, recover=recover))

    def group_position(self, group_id: str) -> tuple[int, int]:
        """Epoch and offset of the last message told of a group that was joined with ``recover``; 0 and 0: none."""
        return self._client.group_position(group_id)

    async def history(self, group_id: str, after: int = 0, limit: int = 100) -> HistoryPage:
        """Return messages that are kept of a group."""
        return await self._wait(self._client.history(group_id, after, limit))

    async def presence(
        self, group_id: str, after: str = "", limit: int = 1000, *, watch: bool | None = None
    ) -> Presence:
        """Return who is in a group."""
        return await self._wait(self._client.presence(group_id, after, limit, watch=watch))

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
        """Call `callback` with each event of that class; returns a function that ends it.

        What came before an answer is told before the awaiting task goes on, and what came behind it is told then. What
        a callback raises goes to the loop's exception handler.
        """
        is_wanted = True

        def call(event: E) -> None:
            if not is_wanted:
                return
            result = callback(event)
            if isawaitable(result):
                task = asyncio.ensure_future(result)
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

        # In line with the tasks that answers wake, which asyncio does a turn later.
        remove = self._client.on(event_class, lambda event: self._loop.call_soon(call, event))

        def end() -> None:
            nonlocal is_wanted
            is_wanted = False
            remove()

        return end

    def events(self, max_events: int = 1024, when_full: WhenFull = WhenFull.DROP_OLDEST) -> AsyncIterator[Event]:
        """Return the events from now on, for ``async for``; it ends when the client is closed or gives up."""
        return self._read(self._client.events(max_events, when_full))

    async def _read(self, stream: EventStream) -> AsyncIterator[Event]:
        try:
            while True:
                try:
                    event = await self._wait(stream.next_event())
                except StopAsyncIteration:
                    return
                yield event
        finally:
            # Whoever left the loop, or was cancelled in it, reads no more. The next event takes it off the list.
            stream.end()

    async def _wait(self, deferred: Deferred[R]) -> R:
        future: asyncio.Future[R] = deferred.asFuture(self._loop)
        return await future

    def _fresh_token(self) -> Any:
        assert callable(self._token)
        token = self._token()
        return Deferred.fromFuture(asyncio.ensure_future(token, loop=self._loop)) if isawaitable(token) else token
