"""One run of ``meshrelay bench``: clients sign in, send at a rate, and measure what they get.

::

    connect in small batches --> [fanout: all join one group] --> send for some seconds --> wait for what is missing

A message carries the number of the run and the time at which it was due. Sender and receiver are one process, so one
clock measures; that a sender was late counts as well, as it would for a user.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from struct import Struct
from typing import Any, Literal, Protocol

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.python.failure import Failure

from meshrelay.cli.bench_latency import Latencies
from meshrelay.client import Client, DirectMessageReceived, Disconnected, GroupMessageReceived
from meshrelay.errors import MeshRelayError

__all__ = ["MIN_SIZE", "BenchPlan", "BenchResult", "BenchRun", "Progress"]

#: Run, and seconds.
_STAMP = Struct("!8sd")

#: Bytes of the shortest message.
MIN_SIZE = _STAMP.size

#: Clients that sign in at the same time.
CONNECT_AT_ONCE = 50

#: Messages are sent this often, as many as are due.
TICK_SECONDS = 0.002

#: Of one tick, so that a program that cannot keep up still reads.
MAX_SENT_AT_ONCE = 2000

#: Longest wait for what is missing behind the last message.
LINGER_SECONDS = 3.0

#: How often that is looked at.
_LINGER_STEP_SECONDS = 0.05


class Progress(Protocol):
    """What is told while it runs."""

    def stage(self, name: str, total: int) -> None:
        """Something begins that has so many steps."""

    def advance(self, steps: int) -> None:
        """Some are done."""


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """What is to be done."""

    mode: Literal["fanout", "direct"]
    #: 2 or more.
    clients: int
    #: Bytes of each message, at least `MIN_SIZE`.
    size: int
    #: Messages a second that are sent; in a group each goes to all others.
    rate: float
    seconds: float

    @property
    def deliveries_each(self) -> int:
        """Receivers of one message."""
        return self.clients - 1 if self.mode == "fanout" else 1


@dataclass(slots=True)
class BenchResult:
    """What came of it."""

    sent: int = 0
    expected: int = 0
    #: From the first message to the last delivery.
    seconds: float = 0.0
    latencies: Latencies = field(default_factory=Latencies)
    #: The same for each second in which the messages were due.
    by_second: list[Latencies] = field(default_factory=list)
    #: Kind of error -> how often.
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def deliveries_per_second(self) -> float:
        """Over all the time."""
        return self.latencies.count / self.seconds if self.seconds > 0 else 0.0

    @property
    def lost(self) -> int:
        """Deliveries that never came."""
        return max(0, self.expected - self.latencies.count)


class BenchRun:
    """Runs a plan once.

    :param run_id: 8 random bytes: what others say in the meantime is not counted.
    :param make_client: makes the client of a number from 0 up.
    """

    def __init__(
        self,
        clock: IReactorTime,
        plan: BenchPlan,
        run_id: bytes,
        make_client: Callable[[int], Client],
        progress: Progress,
    ) -> None:
        self._clock = clock
        self._plan = plan
        self._run_id = run_id
        self._make_client = make_client
        self._progress = progress
        self._clients: list[Client] = []
        self._users: list[str] = []
        self._group_id = ""
        self._padding = bytes(plan.size - MIN_SIZE)
        self._started = 0.0
        self._last_heard = 0.0
        self._told = 0
        self._is_closing = False
        self.result = BenchResult()

    async def run(self) -> BenchResult:
        """Do it; whatever happens, all clients have said goodbye in the end.

        :raises MeshRelayError: a client could not sign in or join.
        """
        try:
            await self._connect()
            if self._plan.mode == "fanout":
                await self._gather()
            await self._send_all()
            await self._wait_for_missing()
        finally:
            self._is_closing = True
            await gatherResults([client.close() for client in self._clients], consumeErrors=True)
        self.result.seconds = max(self._last_heard - self._started, 0.0)
        return self.result

    async def _connect(self) -> None:
        self._progress.stage("signing in", self._plan.clients)
        for start in range(0, self._plan.clients, CONNECT_AT_ONCE):
            numbers = range(start, min(start + CONNECT_AT_ONCE, self._plan.clients))
            await _all(self._connect_one(number) for number in numbers)
            self._progress.advance(len(numbers))

    async def _connect_one(self, number: int) -> None:
        client = self._make_client(number)
        self._clients.append(client)
        connected = await client.connect()
        self._users.append(connected.user_id)
        client.on(Disconnected, self._disconnected)
        client.on(GroupMessageReceived, self._heard)
        client.on(DirectMessageReceived, self._heard)

    async def _gather(self) -> None:
        self._progress.stage("joining", self._plan.clients)
        ttl_seconds = 60 + int(self._plan.seconds) * 2
        self._group_id = await self._clients[0].create_group(ttl_seconds=ttl_seconds)
        for start in range(1, self._plan.clients, CONNECT_AT_ONCE):
            some = self._clients[start : start + CONNECT_AT_ONCE]
            await _gathered([client.join_group(self._group_id) for client in some])
            self._progress.advance(len(some))

    async def _send_all(self) -> None:
        plan = self._plan
        self._progress.stage("sending", round(plan.rate * plan.seconds))
        self._started = self._last_heard = self._clock.seconds()
        self.result.by_second = [Latencies() for _ in range(int(plan.seconds) + 1)]
        ticks = LoopingCall(self._tick)
        ticks.clock = self._clock
        ended = ticks.start(TICK_SECONDS)
        self._clock.callLater(plan.seconds, _stop, ticks)
        await ended

    def _tick(self) -> None:
        plan = self._plan
        due = round(min(self._clock.seconds() - self._started, plan.seconds) * plan.rate)
        count = min(due - self.result.sent, MAX_SENT_AT_ONCE)
        for number in range(self.result.sent, self.result.sent + count):
            self._send(number, self._started + number / plan.rate)
        self._progress.advance(count)

    def _send(self, number: int, due_at: float) -> None:
        self.result.sent += 1
        payload = _STAMP.pack(self._run_id, due_at) + self._padding
        sender = self._clients[number % len(self._clients)]
        try:
            if self._plan.mode == "fanout":
                sender.broadcast_nowait(self._group_id, payload)
            else:
                receiver = self._users[(number + 1) % len(self._users)]
                sender.send_direct(receiver, payload).addErrback(self._failed)
        except MeshRelayError as error:
            self._failed(Failure(error))
        else:
            self.result.expected += self._plan.deliveries_each

    def _heard(self, event: GroupMessageReceived | DirectMessageReceived) -> None:
        if len(event.message) < MIN_SIZE:
            return
        run_id, due_at = _STAMP.unpack_from(event.message)
        if run_id != self._run_id:
            return
        now = self._last_heard = self._clock.seconds()
        self.result.latencies.add(now - due_at)
        second = int(due_at - self._started)
        if 0 <= second < len(self.result.by_second):
            self.result.by_second[second].add(now - due_at)

    def _failed(self, failure: Failure) -> None:
        if not self._is_closing:
            self.result.errors[type(failure.value).__name__] += 1

    def _disconnected(self, event: Disconnected) -> None:
        if not self._is_closing:
            self.result.errors[f"disconnected {event.code or ''}".strip()] += 1

    async def _wait_for_missing(self) -> None:
        self._progress.stage("waiting for the last ones", 0)
        gives_up_at = self._clock.seconds() + LINGER_SECONDS
        while self.result.lost and self._clock.seconds() < gives_up_at:
            await deferLater(self._clock, _LINGER_STEP_SECONDS)


def _stop(ticks: LoopingCall) -> None:
    # It may have failed meanwhile.
    if ticks.running:
        ticks.stop()


async def _all(coroutines: Iterable[Coroutine[Deferred[Any], Any, None]]) -> None:
    """Run all at the same time; the first failure is the one that is raised."""
    await _gathered([Deferred.fromCoroutine(each) for each in coroutines])


async def _gathered(waiting: Sequence[Deferred[None]]) -> None:
    try:
        await gatherResults(waiting, consumeErrors=True)
    except FirstError as first:
        first.subFailure.raiseException()
