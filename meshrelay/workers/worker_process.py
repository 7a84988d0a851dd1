"""One worker as its supervisor sees it: a process that is started, watched, and started again when it ends.

::

    pool --start, tell, terminate, kill--> WorkerProcess --launch--> a process
    pool <----- ready, ended, failed ----- WorkerProcess <---------- WorkerProtocol: what it writes, its end

The process holds three pipes: standard input, on which it is told things and whose end tells it that the supervisor is
dead; output and error, which are logged; and `READY_DESCRIPTOR`, on which it says once that it is ready, and from then
on every `BEAT_SECONDS` that it comes round. One that does not, because something in it blocks, is killed: the kernel
would give it its part of the new connections for ever.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import msgspec
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IDelayedCall, IProcessTransport, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from meshrelay.machine.backoff import Backoff
from meshrelay.workers.output import STANDARD_ERROR, STANDARD_OUTPUT, LineCutter, WorkerLog

__all__ = [
    "BEAT",
    "BEAT_SECONDS",
    "MAX_MISSED_BEATS",
    "READY_DESCRIPTOR",
    "PoolOfWorker",
    "ReadyWorker",
    "WorkerExit",
    "WorkerProcess",
    "WorkerProtocol",
]

#: Where a worker writes a `ReadyWorker` as one line of JSON, and then the line `BEAT`.
READY_DESCRIPTOR = 3

BEAT = "alive"
BEAT_SECONDS = 5.0

#: A worker that says nothing for more of these is killed. They are counted and not measured, so that a machine that was
#: suspended kills nobody.
MAX_MISSED_BEATS = 6

#: A worker that lived for so long is started again at once, as if it were the first time.
LONG_LIFE_SECONDS = 60.0

#: Longest delay before the first new start, and before any.
RESTART_BASE_SECONDS = 0.2
RESTART_CAP_SECONDS = 10.0

#: From the end of a process to the end of its pipes, which a program that it started may hold open for ever.
PIPE_SECONDS = 0.5


class ReadyWorker(msgspec.Struct, frozen=True):
    """What a worker says when its ports are open."""

    #: Name of a listening place -> host:port.
    places: dict[str, str]


class WorkerExit(NamedTuple):
    """How a process ended.

    :ivar status: exit status; None = by a signal.
    :ivar text: the same for people.
    :ivar errors: the beginning of what it wrote to standard error.
    """

    status: int | None
    text: str
    errors: str


class PoolOfWorker(Protocol):
    """Who is told about a worker."""

    def worker_ready(self, worker: WorkerProcess, places: Mapping[str, str]) -> None:
        """It serves clients at these places."""

    def worker_ended(self, worker: WorkerProcess, end: WorkerExit) -> None:
        """Its process is gone. It starts again by itself unless it is stopped."""


class WorkerProtocol(ProcessProtocol):
    """The pipes and the end of one process.

    :param clock: for the time that the pipes get after the process.
    """

    def __init__(self, name: str, clock: IReactorTime, worker: WorkerProcess) -> None:
        self._log = WorkerLog(name)
        self._ready_lines = LineCutter(self._ready_received)
        self._clock = clock
        self._worker: WorkerProcess | None = worker
        self._timer: IDelayedCall | None = None

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """See `IProcessProtocol`."""
        if childFD in (STANDARD_OUTPUT, STANDARD_ERROR):
            self._log.data_received(childFD, data)
        else:
            self._ready_lines.data_received(data)

    def processExited(self, reason: Failure) -> None:
        """See `IProcessProtocol`: it is dead, what it wrote may not have been read."""
        self._timer = self._clock.callLater(PIPE_SECONDS, self._over, reason)

    def processEnded(self, reason: Failure) -> None:
        """See `IProcessProtocol`: it is dead, and everything was read."""
        self._over(reason)

    def _ready_received(self, line: str) -> None:
        if self._worker is not None:
            self._worker.ready_received(line)

    def _over(self, reason: Failure) -> None:
        worker, self._worker = self._worker, None
        if worker is None:
            return
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._log.end()
        transport: Any = self.transport
        if transport is not None:
            transport.loseConnection()
        worker.ended(_how(reason, self._log.errors))


class WorkerProcess:
    """One worker from the first start to the end of the supervisor.

    :param launch: starts a process; may raise OSError.
    :param uniform: `random.uniform`, for the delays between starts.
    """

    _log = Logger()

    def __init__(
        self,
        name: str,
        launch: Callable[[WorkerProtocol], IProcessTransport],
        clock: IReactorTime,
        uniform: Callable[[float, float], float],
        pool: PoolOfWorker,
    ) -> None:
        #: For the log.
        self.name = name
        #: Processes that were started.
        self.starts = 0
        #: Whether it serves clients now.
        self.is_ready = False
        self._launch = launch
        self._clock = clock
        self._backoff = Backoff(RESTART_BASE_SECONDS, RESTART_CAP_SECONDS, uniform)
        self._pool = pool
        self._process: IProcessTransport | None = None
        self._started_at = 0.0
        self._timer: IDelayedCall | None = None
        self._missed = 0
        self._watch: IDelayedCall | None = None
        self._is_stopping = False

    @property
    def is_running(self) -> bool:
        """Whether there is a process."""
        return self._process is not None

    def start(self) -> None:
        """Start a process."""
        self._timer = None
        self.starts += 1
        self._started_at = self._clock.seconds()
        try:
            self._process = self._launch(WorkerProtocol(self.name, self._clock, self))
        except OSError as error:
            self.ended(WorkerExit(None, f"could not be started: {error}", ""))

    def ready_received(self, line: str) -> None:
        """The process says that it is ready, or that it still comes round."""
        if line == BEAT:
            self._missed = 0
            return
        try:
            places = msgspec.json.decode(line, type=ReadyWorker).places
        except msgspec.DecodeError as error:
            self._log.error("{worker}: not a ready line: {error}", worker=self.name, error=str(error))
            return
        self.is_ready = True
        self._missed = 0
        if self._watch is None:
            self._watch = self._clock.callLater(BEAT_SECONDS, self._look)
        self._pool.worker_ready(self, places)

    def _look(self) -> None:
        self._watch = None
        self._missed += 1
        if self._missed > MAX_MISSED_BEATS:
            self._log.error("{worker} does not come round, killing it", worker=self.name)
            self.kill()
            return
        self._watch = self._clock.callLater(BEAT_SECONDS, self._look)

    def ended(self, end: WorkerExit) -> None:
        """The process is gone: start another one later, unless it was asked to stop."""
        self._process = None
        self.is_ready = False
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._clock.seconds() - self._started_at >= LONG_LIFE_SECONDS:
            self._backoff.succeeded()
        # The pool may stop everybody because of this.
        self._pool.worker_ended(self, end)
        if self._is_stopping:
            return
        delay = self._backoff.next_delay()
        self._log.warn(
            "{worker} {how}, starting it again in {delay:.1f} s", worker=self.name, how=end.text, delay=delay
        )
        self._timer = self._clock.callLater(delay, self.start)

    def tell(self, command: bytes) -> None:
        """Write a command to the process, if there is one."""
        if self._process is not None:
            self._process.writeToChild(0, command + b"\n")

    def terminate(self) -> None:
        """Let the process drain and end, and start no other one."""
        self._is_stopping = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._signal("TERM")

    def kill(self) -> None:
        """End the process at once."""
        self._signal("KILL")

    def _signal(self, name: str) -> None:
        if self._process is None:
            return
        try:
            self._process.signalProcess(name)
        except ProcessExitedAlready:
            # Its end is told in a moment.
            pass


def _how(reason: Failure, errors: str) -> WorkerExit:
    value: Any = reason.value
    if isinstance(value, ProcessDone):
        return WorkerExit(0, "ended with status 0", errors)
    if isinstance(value, ProcessTerminated) and value.signal is not None:
        return WorkerExit(None, f"was ended by {signal.Signals(value.signal).name}", errors)
    status = getattr(value, "exitCode", None)
    return WorkerExit(status, f"ended with status {status}", errors)
