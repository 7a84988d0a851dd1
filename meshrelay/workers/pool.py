"""All workers of one supervisor: started together, counted, told, and stopped together.

::

    supervisor --start, reload, cut, stop--> WorkerPool --> each WorkerProcess
    supervisor <--all_ready, serving_changed, worker_ended, start_failed-- WorkerPool
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from meshrelay.workers.worker_process import WorkerExit, WorkerProcess

__all__ = ["CUT", "RELOAD", "KILL_AFTER_SECONDS", "SupervisorOfPool", "WorkerPool"]

#: Commands on a worker's standard input, one a line: wait for no client any longer; read the plan again.
CUT = b"cut"
RELOAD = b"reload"

#: A worker that still lives so long after the drain should have ended is killed.
KILL_AFTER_SECONDS = 10.0


class SupervisorOfPool(Protocol):
    """Who is told about all workers."""

    def all_ready(self, places: Mapping[str, str]) -> None:
        """Every worker has been ready once; `places` are those of the first. Called once."""

    def serving_changed(self, is_serving: bool) -> None:
        """After `all_ready`: whether any worker is ready now."""

    def worker_ended(self, index: int) -> None:
        """There is no process of this worker any more."""

    def start_failed(self, end: WorkerExit) -> None:
        """A worker could not be started the very first time and says that it never can be."""


class WorkerPool:
    """The workers, by index.

    :param drain_seconds: how long a worker that stops may wait for its clients.
    :param make: makes worker number i of this pool, not started.
    """

    _log = Logger()

    def __init__(
        self,
        count: int,
        drain_seconds: float,
        clock: IReactorTime,
        supervisor: SupervisorOfPool,
        make: Callable[[int, WorkerPool], WorkerProcess],
    ) -> None:
        self._drain_seconds = drain_seconds
        self._clock = clock
        self._supervisor = supervisor
        self._workers = [make(index, self) for index in range(count)]
        self._never_ready = set(self._workers)
        self._first_places: Mapping[str, str] = {}
        self._is_said = False
        self._stopped: Deferred[None] | None = None
        self._killing: IDelayedCall | None = None

    @property
    def workers(self) -> Sequence[WorkerProcess]:
        """All of them."""
        return self._workers

    @property
    def ready_count(self) -> int:
        """Workers that serve clients now."""
        return sum(worker.is_ready for worker in self._workers)

    @property
    def restarts(self) -> int:
        """Processes that were started in the place of one that had ended."""
        return sum(max(0, worker.starts - 1) for worker in self._workers)

    def start(self) -> None:
        """Start every worker."""
        for worker in self._workers:
            if self._stopped is None:
                worker.start()

    def tell(self, command: bytes) -> None:
        """Write `CUT` or `RELOAD` to every worker."""
        for worker in self._workers:
            worker.tell(command)

    def stop(self) -> Deferred[None]:
        """Let all workers drain.

        :returns: fires when the last process is gone; those that take too long are killed.
        """
        if self._stopped is None:
            self._stopped = Deferred()
            for worker in self._workers:
                worker.terminate()
            self._killing = self._clock.callLater(self._drain_seconds + KILL_AFTER_SECONDS, self._kill)
            self._check_stopped()
        waiting: Deferred[None] = Deferred()
        self._stopped.chainDeferred(waiting)
        return waiting

    def worker_ready(self, worker: WorkerProcess, places: Mapping[str, str]) -> None:
        """See `PoolOfWorker`."""
        self._never_ready.discard(worker)
        if worker is self._workers[0]:
            self._first_places = places
        if self._stopped is not None:
            return
        if not self._is_said:
            if not self._never_ready:
                self._is_said = True
                self._supervisor.all_ready(self._first_places)
        elif self.ready_count == 1:
            self._supervisor.serving_changed(True)

    def worker_ended(self, worker: WorkerProcess, end: WorkerExit) -> None:
        """See `PoolOfWorker`."""
        self._supervisor.worker_ended(self._workers.index(worker))
        if self._stopped is not None:
            if end.status != 0:
                self._log.warn("{worker} {how}", worker=worker.name, how=end.text)
            self._check_stopped()
        elif end.status == 1 and worker.starts == 1 and worker in self._never_ready:
            self._supervisor.start_failed(end)
        elif self._is_said and not self.ready_count:
            self._supervisor.serving_changed(False)

    def _check_stopped(self) -> None:
        if self._stopped is not None and not self._stopped.called and not any(w.is_running for w in self._workers):
            if self._killing is not None and self._killing.active():
                self._killing.cancel()
            self._stopped.callback(None)

    def _kill(self) -> None:
        for worker in self._workers:
            if worker.is_running:
                self._log.error("{worker} does not end: killing it", worker=worker.name)
                worker.kill()
