"""All workers of one supervisor."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.testing import EventLoggingObserver
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.workers.pool import CUT, KILL_AFTER_SECONDS, RELOAD, WorkerPool
from meshrelay.workers.worker_process import RESTART_CAP_SECONDS, WorkerExit, WorkerProcess
from tests.workers.fake_process import Launcher

DRAIN_SECONDS = 4.0


class RecordingSupervisor:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.ended: list[int] = []

    def all_ready(self, places: Mapping[str, str]) -> None:
        """See `SupervisorOfPool`."""
        self.told.append(dict(places))

    def serving_changed(self, is_serving: bool) -> None:
        """See `SupervisorOfPool`."""
        self.told.append(is_serving)

    def worker_ended(self, index: int) -> None:
        """See `SupervisorOfPool`."""
        self.ended.append(index)

    def start_failed(self, end: WorkerExit) -> None:
        """See `SupervisorOfPool`."""
        self.told.append(end.errors)


class PoolTests(SynchronousTestCase):
    """Three workers that were started."""

    def setUp(self) -> None:
        """None is ready; their delays are as long as they may be."""
        self.observer = EventLoggingObserver()
        globalLogPublisher.addObserver(self.observer)
        self.addCleanup(globalLogPublisher.removeObserver, self.observer)
        self.launcher = Launcher()
        self.clock = self.launcher.clock
        self.supervisor = RecordingSupervisor()
        self.pool = WorkerPool(3, DRAIN_SECONDS, self.clock, self.supervisor, self.make)
        self.pool.start()
        self.processes = self.launcher.started

    def make(self, index: int, pool: WorkerPool) -> WorkerProcess:
        """A worker of fake processes."""
        return WorkerProcess(f"w{index}", self.launcher.launch, self.clock, lambda low, high: high, pool)  # type: ignore[arg-type]

    def all_ready(self) -> None:
        """All three say that they are ready."""
        for number, process in enumerate(self.processes[:3]):
            process.say_ready(b'{"places": {"udp": "a:%d"}}\n' % number)

    def test_all_ready(self) -> None:
        """Everybody must be ready, in any order; the places are those of the first."""
        for index in (2, 0):
            self.processes[index].say_ready(b'{"places": {"udp": "a:%d"}}\n' % index)
        self.assertEqual((self.supervisor.told, self.pool.ready_count), ([], 2))
        self.processes[1].say_ready()
        self.assertEqual(self.supervisor.told, [{"udp": "a:0"}])

    def test_ready_once(self) -> None:
        """One that ended after it was ready is no reason to wait for it a second time."""
        self.processes[0].say_ready(b'{"places": {"udp": "a:0"}}\n')
        self.processes[0].exit(signal=9)
        self.processes[1].say_ready()
        self.processes[2].say_ready()
        self.assertEqual(self.supervisor.told, [{"udp": "a:0"}])

    def test_ended(self) -> None:
        """Whoever keeps something for a worker is told of each end, also while all stop."""
        self.all_ready()
        self.processes[1].exit(signal=9)
        self.assertEqual(self.supervisor.ended, [1])
        self.pool.stop()
        self.processes[0].exit()
        self.assertEqual(self.supervisor.ended, [1, 0])

    def test_serving(self) -> None:
        """Clients are served as long as one worker is ready."""
        self.all_ready()
        self.supervisor.told.clear()
        self.processes[0].exit(signal=9)
        self.processes[1].exit(signal=9)
        self.assertEqual((self.supervisor.told, self.pool.ready_count), ([], 1))
        self.processes[2].exit(signal=9)
        self.assertEqual(self.supervisor.told, [False])
        self.clock.advance(RESTART_CAP_SECONDS)
        self.assertEqual(self.pool.restarts, 3)
        for process in self.processes[3:]:
            process.say_ready()
        self.assertEqual(self.supervisor.told, [False, True])

    def test_wrong_configuration(self) -> None:
        """Status 1 at the very first start is told with the text; the others come to their end once."""
        for process in self.processes:
            process.protocol.childDataReceived(2, b"app.module: no\n")
        self.processes[1].exit(1)
        self.assertEqual(self.supervisor.told, ["app.module: no\n"])

    def test_later_status_1(self) -> None:
        """Later the same status is an accident, and so is any other end at the first start."""
        self.processes[0].say_ready()
        self.processes[0].exit(1)
        self.processes[1].exit(signal=9)
        self.processes[2].exit(2)
        self.clock.advance(RESTART_CAP_SECONDS)
        self.processes[4].exit(1)
        self.assertEqual(self.supervisor.told, [])

    def test_tell(self) -> None:
        """Everybody is told."""
        self.pool.tell(RELOAD)
        self.pool.tell(CUT)
        self.assertEqual([process.told for process in self.processes], [b"reload\ncut\n"] * 3)

    def test_stop(self) -> None:
        """Everybody is asked to end; the pool has stopped when the last one is gone, and nobody is started again."""
        self.all_ready()
        self.supervisor.told.clear()
        first, second = self.pool.stop(), self.pool.stop()
        self.assertEqual([process.signals for process in self.processes], [["TERM"]] * 3)
        for process in self.processes:
            self.assertNoResult(first)
            process.exit()
        self.successResultOf(first)
        self.successResultOf(second)
        self.successResultOf(self.pool.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.supervisor.told, [])

    def test_kill(self) -> None:
        """One that does not end in time is killed; the pool waits until it is gone."""
        stopped = self.pool.stop()
        self.processes[0].exit()
        self.clock.advance(DRAIN_SECONDS + KILL_AFTER_SECONDS - 0.1)
        self.assertEqual(self.processes[1].signals, ["TERM"])
        self.clock.advance(0.2)
        self.assertEqual(
            [process.signals for process in self.processes], [["TERM"], ["TERM", "KILL"], ["TERM", "KILL"]]
        )
        self.assertNoResult(stopped)
        for process in self.processes[1:]:
            process.exit(signal=9)
        self.successResultOf(stopped)
        log = [str(formatEvent(event)) for event in self.observer]
        self.assertIn("w1 does not end: killing it", log)
        self.assertIn("w2 was ended by SIGKILL", log)

    def test_stop_early(self) -> None:
        """A worker that gets ready while all stop changes nothing, and one that waits to be started is forgotten."""
        self.processes[0].exit(signal=9)
        stopped = self.pool.stop()
        for process in self.processes[1:]:
            process.say_ready()
            process.exit()
        self.successResultOf(stopped)
        self.assertEqual((self.supervisor.told, len(self.processes)), ([], 3))

    def test_stop_before_start(self) -> None:
        """A pool that was never started stops at once and does not start any more."""
        pool = WorkerPool(2, DRAIN_SECONDS, self.clock, self.supervisor, self.make)
        self.successResultOf(pool.stop())
        pool.start()
        self.assertEqual(len(self.processes), 3)
