"""One worker as its supervisor sees it."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.testing import EventLoggingObserver
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.workers.output import STANDARD_ERROR, STANDARD_OUTPUT
from meshrelay.workers.worker_process import (
    BEAT,
    BEAT_SECONDS,
    LONG_LIFE_SECONDS,
    MAX_MISSED_BEATS,
    PIPE_SECONDS,
    RESTART_BASE_SECONDS,
    RESTART_CAP_SECONDS,
    WorkerExit,
    WorkerProcess,
)
from tests.workers.fake_process import FakeProcess, Launcher


class RecordingPool:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.ready: list[Mapping[str, str]] = []
        self.ends: list[WorkerExit] = []

    def worker_ready(self, worker: WorkerProcess, places: Mapping[str, str]) -> None:
        """See `PoolOfWorker`."""
        self.ready.append(places)

    def worker_ended(self, worker: WorkerProcess, end: WorkerExit) -> None:
        """See `PoolOfWorker`."""
        assert not worker.is_running
        self.ends.append(end)


class WorkerProcessTests(SynchronousTestCase):
    """A worker that was started."""

    def setUp(self) -> None:
        """Delays are as long as they may be."""
        self.observer = EventLoggingObserver()
        globalLogPublisher.addObserver(self.observer)
        self.addCleanup(globalLogPublisher.removeObserver, self.observer)
        self.launcher = Launcher()
        self.clock = self.launcher.clock
        self.pool = RecordingPool()
        self.worker = WorkerProcess("w0", self.launcher.launch, self.clock, lambda low, high: high, self.pool)  # type: ignore[arg-type]
        self.worker.start()

    @property
    def process(self) -> FakeProcess:
        """The newest process."""
        return self.launcher.started[-1]

    def log(self) -> list[str]:
        """Everything that was logged."""
        return [str(formatEvent(event)) for event in self.observer]

    def test_ready(self) -> None:
        """It is ready when it says so, with the places of its ports, however its line is cut."""
        self.assertEqual((self.worker.is_running, self.worker.is_ready), (True, False))
        self.process.say_ready(b'{"places": {"tcp": ')
        self.assertFalse(self.worker.is_ready)
        self.process.say_ready(b'"a:1"}}\n')
        self.assertTrue(self.worker.is_ready)
        self.assertEqual(self.pool.ready, [{"tcp": "a:1"}])

    def test_not_a_ready_line(self) -> None:
        """Anything else on that pipe is logged and means nothing."""
        self.process.say_ready(b'{"places": 3}\nhello\n')
        self.assertFalse(self.worker.is_ready)
        self.assertEqual(len([line for line in self.log() if "not a ready line" in line]), 2)

    def test_hangs(self) -> None:
        """One that was ready and does not come round any more is killed, and starts again; one that does is not."""
        self.process.say_ready()
        for _ in range(20):
            self.clock.advance(BEAT_SECONDS)
            self.process.say_ready(BEAT.encode() + b"\n")
        self.assertEqual((self.process.signals, len(self.pool.ready)), ([], 1))
        for _ in range(MAX_MISSED_BEATS + 1):
            self.clock.advance(BEAT_SECONDS)
        self.assertEqual(self.process.signals, ["KILL"])
        self.assertIn("w0 does not come round, killing it", self.log())
        self.process.exit(signal=9)
        self.clock.advance(RESTART_CAP_SECONDS)
        self.assertEqual((len(self.launcher.started), self.worker.is_ready), (2, False))
        self.clock.advance(BEAT_SECONDS * 20)
        self.assertEqual(self.process.signals, [])

    def test_output(self) -> None:
        """What it writes is logged with its name."""
        self.process.protocol.childDataReceived(STANDARD_OUTPUT, b"hello\n")
        self.assertEqual(self.log(), ["w0 hello"])

    def test_restart(self) -> None:
        """A worker that ends is started again after a delay that doubles up to its cap."""
        self.process.say_ready()
        expected = RESTART_BASE_SECONDS
        for number in range(2, 12):
            self.process.exit(signal=9)
            self.assertFalse(self.worker.is_ready)
            self.clock.advance(expected * 0.99)
            self.assertEqual(len(self.launcher.started), number - 1)
            self.clock.advance(expected * 0.02)
            self.assertEqual(len(self.launcher.started), number)
            expected = min(expected * 2, RESTART_CAP_SECONDS)
        self.assertEqual(self.worker.starts, 11)
        self.assertIn("w0 was ended by SIGKILL, starting it again in 10.0 s", self.log()[-1])

    def test_long_life(self) -> None:
        """One that lived for long is started again as if it had ended for the first time."""
        for _ in range(6):
            self.process.exit(3)
            self.clock.advance(RESTART_CAP_SECONDS)
        self.clock.advance(LONG_LIFE_SECONDS)
        self.process.exit(3)
        self.clock.advance(RESTART_BASE_SECONDS)
        self.assertEqual(len(self.launcher.started), 8)

    def test_how_it_ended(self) -> None:
        """The pool is told the status, what that means, and what was written to standard error."""
        self.process.protocol.childDataReceived(STANDARD_ERROR, b"app.module: no\n")
        self.process.exit(1)
        self.clock.advance(RESTART_CAP_SECONDS)
        self.process.exit(0)
        self.clock.advance(RESTART_CAP_SECONDS)
        self.process.exit(signal=15)
        self.assertEqual(
            self.pool.ends,
            [
                WorkerExit(1, "ended with status 1", "app.module: no\n"),
                WorkerExit(0, "ended with status 0", ""),
                WorkerExit(None, "was ended by SIGTERM", ""),
            ],
        )

    def test_pipes_stay_open(self) -> None:
        """A program of the application that lives on with the pipes does not keep the worker from starting again."""
        self.process.exit(signal=9, are_pipes_open=True)
        first = self.process
        self.assertEqual(self.pool.ends, [])
        self.clock.advance(PIPE_SECONDS)
        self.assertEqual(len(self.pool.ends), 1)
        self.assertTrue(first.are_pipes_closed)
        self.clock.advance(RESTART_BASE_SECONDS)
        self.assertEqual(len(self.launcher.started), 2)
        first.say_ready()
        self.assertFalse(self.worker.is_ready)

    def test_no_room(self) -> None:
        """When the system has no room for another process it is tried again."""
        self.launcher.refuses = True
        self.process.exit(signal=9)
        self.clock.advance(RESTART_BASE_SECONDS)
        self.assertEqual(self.pool.ends[-1].text, "could not be started: no room")
        self.launcher.refuses = False
        self.clock.advance(2 * RESTART_BASE_SECONDS)
        self.assertEqual(len(self.launcher.started), 2)
        self.assertTrue(self.worker.is_running)

    def test_tell(self) -> None:
        """A command is one line on its standard input; without a process it is not kept."""
        self.worker.tell(b"reload")
        self.assertEqual(self.process.told, b"reload\n")
        self.process.exit(signal=9)
        self.worker.tell(b"reload")
        self.clock.advance(RESTART_CAP_SECONDS)
        self.assertEqual(self.process.told, b"")

    def test_terminate(self) -> None:
        """One that was asked to stop is not started again, and can be killed."""
        self.worker.terminate()
        self.worker.kill()
        self.assertEqual(self.process.signals, ["TERM", "KILL"])
        self.process.exit(signal=9)
        self.clock.advance(2 * RESTART_CAP_SECONDS)
        self.assertEqual((len(self.launcher.started), self.clock.getDelayedCalls()), (1, []))
        self.worker.kill()

    def test_terminate_between(self) -> None:
        """Nor is one that was waiting to be started again."""
        self.process.exit(signal=9)
        self.worker.terminate()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.process.signals, [])

    def test_terminate_too_late(self) -> None:
        """A signal to a process that has just ended does no harm."""
        self.process.is_alive = False
        self.worker.terminate()
        self.assertEqual(self.process.signals, [])
