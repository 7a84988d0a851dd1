"""The console of a node with workers: one page for all of them, whichever worker a page reaches.

::

    page by HTTP ---------------> supervisor: AllWorkers --"console.part"--> answer_parts of each worker
    page by WebSocket --> worker: OfSupervisor --"console.state"--> answer_pages of the supervisor: AllWorkers
    worker that let a page in --"console.used": its ticket--> the other workers

The supervisor alone adds up, at most once in `FRESH_SECONDS`, however many workers and pages ask it; while nobody asks
it asks nobody. A worker that does not answer is left out until it does, its part of the past stays.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from meshrelay.background import start
from meshrelay.errors import InternalError, MalformedFrame, MeshRelayError, TimedOut
from meshrelay.http.console import Console
from meshrelay.http.console_history import MAX_SAMPLES, Sample
from meshrelay.http.console_live import ConsolePart, LiveNode, encode_everything
from meshrelay.http.console_state import encode_state
from meshrelay.http.console_sum import sum_samples, sum_states
from meshrelay.http.console_tickets import Tickets
from meshrelay.interfaces import INodes

__all__ = [
    "ANSWER_SECONDS",
    "FRESH_SECONDS",
    "PART_CALL",
    "STATE_CALL",
    "USED_CALL",
    "AllWorkers",
    "OfSupervisor",
    "answer_pages",
    "answer_parts",
    "share_tickets",
]

#: What one worker tells of itself; asked by the supervisor.
PART_CALL = "console.part"

#: What all of them tell together; asked by a worker.
STATE_CALL = "console.state"

#: A ticket was used; told by a worker to each of the others.
USED_CALL = "console.used"

#: What was added up is good for this long, a little less than pages wait from one time to the next.
FRESH_SECONDS = 0.8

#: A worker that takes longer to tell of itself is left out.
ANSWER_SECONDS = 2.0

#: A worker waits for so long for what all tell; its pages stand still then.
STATE_SECONDS = 5.0

_T = TypeVar("_T")


class _PartQuestion(msgspec.Struct, frozen=True):
    #: Only samples that are newer, in Unix seconds.
    since: float


class _StateQuestion(msgspec.Struct, frozen=True):
    #: With the past.
    everything: bool


def _read(name: str, payload: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(payload, type=kind)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise MalformedFrame(f"{name}: {error}") from error


class AllWorkers:
    """All workers as one node, at the supervisor; see `ConsoleSource`.

    :param own: the supervisor's own process, which knows the cluster, the relay and the overlay.
    :param group_count: how many groups there are, each counted once.
    """

    _log = Logger()

    def __init__(
        self,
        own: LiveNode,
        nodes: INodes,
        clock: IReactorTime,
        worker_ids: Sequence[str],
        group_count: Callable[[], int],
    ) -> None:
        self._own = own
        self._nodes = nodes
        self._clock = clock
        self._group_count = group_count
        self._pasts: dict[str, deque[Sample]] = {worker_id: deque(maxlen=MAX_SAMPLES) for worker_id in worker_ids}
        self._state = b""
        self._fresh_until = 0.0
        #: Who waits for the round of questions that is on its way: a few of each process.
        self._waiting: list[Deferred[None]] = []

    def state(self, consoles: int) -> Deferred[bytes]:
        """See `ConsoleSource`. Fires within a little more than `ANSWER_SECONDS`."""
        return self._fresh(consoles).addCallback(lambda _: self._latest())

    def everything(self, consoles: int) -> Deferred[bytes]:
        """See `ConsoleSource`. Fires within a little more than `ANSWER_SECONDS`."""
        return self._fresh(consoles).addCallback(
            lambda _: encode_everything(self._sum(self._own.samples), self._latest())
        )

    def _latest(self) -> bytes:
        if not self._state:
            raise InternalError
        return self._state

    def _sum(self, samples: Sequence[Sample]) -> list[Sample]:
        return sum_samples(samples, [list(past) for past in self._pasts.values()])

    def _fresh(self, consoles: int) -> Deferred[None]:
        if self._clock.seconds() < self._fresh_until:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        if len(self._waiting) == 1:
            start(self._ask_all(consoles), self._log, "asking the workers for the console")
        return waiting

    async def _ask_all(self, consoles: int) -> None:
        # What was shown before is shown no longer than it holds, also where this fails.
        self._state = b""
        try:
            parts = [part for part in await self._answers() if part is not None]
            samples = self._sum(self._own.samples[-1:])
            latest = samples[0] if samples else None
            state = sum_states(self._own.read(consoles), parts, latest, self._group_count())
            self._state = encode_state(state)
            self._fresh_until = self._clock.seconds() + FRESH_SECONDS
        finally:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(None)

    async def _answers(self) -> list[dict[str, Any] | None]:
        calls = []
        for worker_id, past in self._pasts.items():
            question = _PartQuestion(past[-1].at if past else 0.0)
            call = self._nodes.call(worker_id, PART_CALL, msgspec.json.encode(question))
            calls.append(call.addTimeout(ANSWER_SECONDS, self._clock))
        answers: list[tuple[bool, Any]] = await DeferredList(calls, consumeErrors=True)
        return [self._take(worker_id, *answer) for worker_id, answer in zip(self._pasts, answers, strict=True)]

    def _take(self, worker_id: str, is_answer: bool, answer: Any) -> dict[str, Any] | None:
        """Keep the samples of a worker and return its state; None: it did not tell any."""
        try:
            if not is_answer:
                answer.raiseException()
            part = _read(PART_CALL, answer, ConsolePart)
        except (MeshRelayError, DeferredTimeoutError) as error:
            self._log.info("{worker} tells the console nothing: {why!r}", worker=worker_id, why=error)
            return None
        self._pasts[worker_id].extend(part.samples)
        return part.state


class OfSupervisor:
    """What the supervisor says of all workers, at one of them; see `ConsoleSource`."""

    def __init__(self, nodes: INodes, clock: IReactorTime, supervisor_id: str) -> None:
        self._nodes = nodes
        self._clock = clock
        self._supervisor_id = supervisor_id

    def state(self, consoles: int) -> Deferred[bytes]:
        """See `ConsoleSource`."""
        return self._ask(_StateQuestion(False))

    def everything(self, consoles: int) -> Deferred[bytes]:
        """See `ConsoleSource`."""
        return self._ask(_StateQuestion(True))

    def _ask(self, question: _StateQuestion) -> Deferred[bytes]:
        coming = self._nodes.call(self._supervisor_id, STATE_CALL, msgspec.json.encode(question))
        return coming.addTimeout(STATE_SECONDS, self._clock).addErrback(_not_answered)


def _not_answered(failure: Failure) -> bytes:
    failure.trap(MeshRelayError, DeferredTimeoutError)
    raise TimedOut("the supervisor does not answer")


def answer_pages(nodes: INodes, console: Console) -> None:
    """Let workers ask this supervisor what all of them show."""

    def answer(node_id: str, payload: bytes) -> Deferred[bytes]:
        is_everything = _read(STATE_CALL, payload, _StateQuestion).everything
        return console.source.everything(0) if is_everything else console.source.state(0)

    nodes.answer(STATE_CALL, answer)


def answer_parts(nodes: INodes, console: Console) -> None:
    """Let the supervisor ask this worker for its part."""

    def answer(node_id: str, payload: bytes) -> bytes:
        question = _read(PART_CALL, payload, _PartQuestion)
        part = console.own.part(console.feed.watcher_count, question.since)
        # As short as it is shown, so that it fits a call.
        return msgspec.json.encode({"state": msgspec.Raw(encode_state(part.state)), "samples": part.samples})

    nodes.answer(PART_CALL, answer)


def share_tickets(nodes: INodes, tickets: Tickets, others: Iterable[str]) -> None:
    """Tell the other workers which tickets were used here, and be told by them."""
    others = tuple(others)

    def tell(facts: str) -> None:
        for node_id in others:
            # One that cannot be told is not there; what is used there later takes the place of the session here.
            nodes.call(node_id, USED_CALL, facts.encode("ascii")).addErrback(lambda _: None)

    def told(node_id: str, payload: bytes) -> bytes:
        tickets.void(payload.decode("ascii", "replace"))
        return b""

    tickets.when_used(tell)
    nodes.answer(USED_CALL, told)
