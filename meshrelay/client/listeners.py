"""Who hears the events of a client: callbacks by class, and streams that are read with ``async for``."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from enum import Enum, unique
from inspect import iscoroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from meshrelay.background import start
from meshrelay.client.events import Event

__all__ = ["EventStream", "Listeners", "WhenFull"]

E = TypeVar("E", bound=Event)


@unique
class WhenFull(Enum):
    """What a stream does with an event when its program does not read as fast as events come."""

    DROP_OLDEST = "drop_oldest"
    DROP_NEWEST = "drop_newest"
    #: End the stream: the program sees that something is missing.
    END = "end"


class Listeners:
    """Callbacks by class of event."""

    _log = Logger()

    def __init__(self) -> None:
        self._callbacks: list[tuple[type[Event], Callable[[Any], object]]] = []
        #: For each class that was told of: who wants it. Made anew when callbacks change.
        self._by_class: dict[type[Event], list[Callable[[Any], object]]] = {}

    def add(self, event_class: type[E], callback: Callable[[E], object]) -> Callable[[], None]:
        """Call `callback` with each event of that class from now on; a coroutine that it returns is run.

        :returns: a function that ends it.
        """
        entry = (event_class, callback)
        self._callbacks.append(entry)
        self._by_class.clear()

        def remove() -> None:
            if entry in self._callbacks:
                self._callbacks.remove(entry)
                self._by_class.clear()

        return remove

    def tell(self, event: Event) -> None:
        """Call everybody who wants it. What a callback raises is logged, and the others are called all the same."""
        event_class = type(event)
        callbacks = self._by_class.get(event_class)
        if callbacks is None:
            callbacks = [callback for wanted, callback in self._callbacks if issubclass(event_class, wanted)]
            self._by_class[event_class] = callbacks
        for callback in callbacks:
            try:
                result = callback(event)
            except Exception:  # noqa: BLE001 - the program's bug must not end its connection
                self._log.failure("a callback for {event} failed", event=event_class.__name__)
                continue
            if iscoroutine(result):
                coroutine: Coroutine[Deferred[object], object, object] = result
                start(coroutine, self._log, f"a callback for {event_class.__name__}")


class EventStream:
    """Events in the order in which they came, for ``async for``. Ends when the client is closed for good.

    :param max_events: what waits here at most, until the program reads on.
    :param when_full: what happens to one more.
    :ivar dropped: events that were thrown away.
    """

    def __init__(self, max_events: int, when_full: WhenFull) -> None:
        self.dropped = 0
        self._max_events = max_events
        self._when_full = when_full
        self._events: deque[Event] = deque()
        self._readers: deque[Deferred[Event]] = deque()
        self._is_over = False

    @property
    def is_over(self) -> bool:
        """True: nothing more comes in."""
        return self._is_over

    def put(self, event: Event) -> None:
        """One more event."""
        if self._is_over:
            return
        if self._readers:
            self._readers.popleft().callback(event)
            return
        if len(self._events) >= self._max_events:
            self.dropped += 1
            if self._when_full is WhenFull.END:
                self.end()
                return
            if self._when_full is WhenFull.DROP_NEWEST:
                return
            self._events.popleft()
        self._events.append(event)

    def end(self) -> None:
        """Nothing more comes. What waits is still read."""
        self._is_over = True
        while self._readers:
            self._readers.popleft().errback(StopAsyncIteration())

    def next_event(self) -> Deferred[Event]:
        """Fire with the next event, or fail with StopAsyncIteration. Cancelling loses no event."""
        reader: Deferred[Event] = Deferred(self._forget)
        if self._events:
            reader.callback(self._events.popleft())
        elif self._is_over:
            reader.errback(StopAsyncIteration())
        else:
            self._readers.append(reader)
        return reader

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> Event:
        return await self.next_event()

    def _forget(self, reader: Deferred[Event]) -> None:
        if reader in self._readers:
            self._readers.remove(reader)
