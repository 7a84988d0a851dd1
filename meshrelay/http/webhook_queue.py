"""Events for one URL: gathered, sent in batches, tried again, dropped when they become too many.

::

    add --> waiting events --GATHER_SECONDS, or 100 of them--> batch --post--> 2xx: done
                                                                 ^    `-> 5xx, 429, no answer: again, `tries` times
                                                                 |    `-> anything else: given up
                                                           breaker, backoff

Nobody waits for any of this. What is over the bounds is dropped, oldest first, and the next batch says how much.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from meshrelay.http.webhook_events import HookEvent
from meshrelay.machine.backoff import Backoff
from meshrelay.machine.circuit_breaker import BreakerState, CircuitBreaker

__all__ = ["GATHER_SECONDS", "MAX_BATCH_EVENTS", "HookLimits", "HookQueue", "HookSource", "Post"]

#: Events of one POST.
MAX_BATCH_EVENTS = 100

#: Messages of one POST, in bytes; one event may be more.
MAX_BATCH_BYTES = 1024 * 1024

#: How long the first event waits for others.
GATHER_SECONDS = 0.1

#: Between the tries of one batch.
RETRY_BASE_SECONDS = 0.5
RETRY_CAP_SECONDS = 10.0

#: ``post(url, body, headers)`` fires with the status of the answer, or fails: there was none in time.
Post = Callable[[str, bytes, Mapping[str, str]], Deferred[int]]


class HookLimits(NamedTuple):
    """What the configuration says."""

    max_queue_events: int
    max_queue_bytes: int
    #: POSTs to one URL at the same time; with more than one, batches may overtake each other.
    max_concurrent: int
    #: Of one batch.
    tries: int
    breaker_failures: int
    breaker_seconds: float


class HookSource(NamedTuple):
    """Who tells.

    :ivar run_id: another one for each start of the node.
    :ivar uniform: `random.uniform` of a random source.
    """

    node_id: str
    run_id: str
    clock: IReactorTime
    post: Post
    uniform: Callable[[float, float], float]


@dataclass(slots=True, eq=False)
class _Batch:
    """What is sent again and again, byte for byte."""

    delivery: str
    body: bytes
    events: int
    backoff: Backoff
    tries: int = 0
    under_way: Deferred[int] | None = None
    timer: IDelayedCall | None = None


class HookQueue:
    """See the module.

    :ivar dropped: events that were dropped for want of room.
    :ivar given_up: events of batches that were given up.
    :ivar posts: POSTs, and of those the `failed` ones.
    """

    _log = Logger()

    def __init__(self, number: int, url: str, limits: HookLimits, source: HookSource) -> None:
        self._number = number
        self._url = url
        self._limits = limits
        self._source = source
        self._breaker = CircuitBreaker(limits.breaker_failures, limits.breaker_seconds)
        self._waiting: deque[HookEvent] = deque()
        self._bytes = 0
        #: At most `max_concurrent`, those that wait for another try among them.
        self._batches: dict[_Batch, None] = {}
        self._sequence = 0
        self._timer: IDelayedCall | None = None
        self._is_stopped = False
        self._said_dropped = 0
        self.dropped = 0
        self.sent = 0
        self.given_up = 0
        self.posts = 0
        self.failed = 0

    @property
    def waiting_events(self) -> int:
        """Events that are in no batch yet."""
        return len(self._waiting)

    @property
    def waiting_bytes(self) -> int:
        """What they cost in memory, roughly."""
        return self._bytes

    @property
    def batches(self) -> int:
        """Batches under way, or waiting for another try."""
        return len(self._batches)

    @property
    def is_open(self) -> bool:
        """Whether the URL is left in peace for having failed."""
        return self._breaker.state is not BreakerState.CLOSED

    @property
    def breaker_openings(self) -> int:
        """How often that has begun."""
        return self._breaker.opened

    @property
    def is_idle(self) -> bool:
        """Nothing waits and nothing is under way."""
        return not self._waiting and not self._batches

    def add(self, event: HookEvent) -> None:
        """Take an event; it is sent later."""
        if self._is_stopped:
            return
        self._waiting.append(event)
        self._bytes += event.size_bytes
        limits = self._limits
        while len(self._waiting) > limits.max_queue_events or self._bytes > limits.max_queue_bytes:
            self._bytes -= self._waiting.popleft().size_bytes
            self.dropped += 1
        if len(self._waiting) == MAX_BATCH_EVENTS:
            self._wake(0.0)
        elif self._timer is None and self._waiting:
            self._wake(GATHER_SECONDS)

    def _wake(self, seconds: float) -> None:
        """Look again in so many seconds, or earlier."""
        clock = self._source.clock
        if self._timer is not None:
            if self._timer.getTime() <= clock.seconds() + seconds:
                return
            self._timer.cancel()
        self._timer = clock.callLater(seconds, self._send)

    def _send(self) -> None:
        self._timer = None
        while self._waiting and len(self._batches) < self._limits.max_concurrent:
            wait = self._breaker.wait_seconds(self._source.clock.seconds())
            if wait != 0.0:
                # None: the end of the try that is under way looks again.
                if wait is not None:
                    self._wake(wait)
                return
            batch = self._make_batch()
            self._batches[batch] = None
            self._try(batch)

    def _make_batch(self) -> _Batch:
        events: list[HookEvent] = []
        size = 0
        while self._waiting and len(events) < MAX_BATCH_EVENTS:
            event_bytes = self._waiting[0].size_bytes
            if events and size + event_bytes > MAX_BATCH_BYTES:
                break
            size += event_bytes
            events.append(self._waiting.popleft())
        self._bytes -= size
        self._sequence += 1
        source = self._source
        delivery = f"{source.node_id}-{source.run_id}-{self._number}-{self._sequence}"
        dropped, self._said_dropped = self.dropped - self._said_dropped, self.dropped
        body = msgspec.json.encode(
            {
                "node": source.node_id,
                "delivery": delivery,
                "sequence": self._sequence,
                "dropped": dropped,
                "events": [event.document() for event in events],
            }
        )
        return _Batch(delivery, body, len(events), Backoff(RETRY_BASE_SECONDS, RETRY_CAP_SECONDS, source.uniform))

    def _try(self, batch: _Batch) -> None:
        batch.timer = None
        wait = self._breaker.wait_seconds(self._source.clock.seconds())
        if wait != 0.0:
            again = RETRY_BASE_SECONDS if wait is None else wait
            batch.timer = self._source.clock.callLater(again, self._try, batch)
            return
        self._breaker.begin()
        batch.tries += 1
        self.posts += 1
        headers = {"Meshrelay-Delivery": batch.delivery, "Meshrelay-Try": str(batch.tries)}
        under_way = batch.under_way = self._source.post(self._url, batch.body, headers)
        under_way.addCallbacks(self._answered, self._not_answered, (batch,), {}, (batch,), {})
        under_way.addErrback(lambda failure: self._log.failure("a webhook failed", failure=failure))

    def _answered(self, status: int, batch: _Batch) -> None:
        if status >= 500 or status == 429:
            self._failed(batch, f"status {status}")
            return
        self._breaker.succeeded()
        if 200 <= status < 300:
            self.sent += batch.events
        else:
            self.failed += 1
            self.given_up += batch.events
            self._log.warn("a webhook refuses {count} events: status {status}", count=batch.events, status=status)
        self._ended(batch)

    def _not_answered(self, failure: Failure, batch: _Batch) -> None:
        if not self._is_stopped:
            self._failed(batch, repr(failure.value))

    def _failed(self, batch: _Batch, why: str) -> None:
        clock = self._source.clock
        self.failed += 1
        was_open = self.is_open
        self._breaker.failed(clock.seconds())
        if self.is_open and not was_open:
            self._log.warn("a webhook has failed too often and is left in peace: {why}", why=why)
        batch.under_way = None
        if batch.tries >= self._limits.tries:
            self.given_up += batch.events
            self._ended(batch)
        else:
            batch.timer = clock.callLater(batch.backoff.next_delay(), self._try, batch)

    def _ended(self, batch: _Batch) -> None:
        self._batches.pop(batch, None)
        if self._waiting:
            self._wake(0.0)

    def flush(self) -> None:
        """Gather no longer: send what waits, as far as it may be sent now."""
        if self._waiting:
            self._wake(0.0)

    def stop(self) -> None:
        """Give up what is left."""
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for batch in list(self._batches):
            self.given_up += batch.events
            if batch.timer is not None:
                batch.timer.cancel()
            if batch.under_way is not None:
                batch.under_way.cancel()
        self._batches.clear()
        self.given_up += len(self._waiting)
        self._waiting.clear()
        self._bytes = 0
