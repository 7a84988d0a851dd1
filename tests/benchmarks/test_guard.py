"""The guard against messages that cost more than they did."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.guard import STORED, TOLERANCE, complaints, count, main
from benchmarks.guard_workloads import WORKLOADS


class Work:
    """A workload of ten messages.

    :ivar calls: Python functions that are called for each.
    :ivar kept: objects that are made for each, before the calls.
    """

    def __init__(self, calls: int = 3, kept: int = 0) -> None:
        self.calls = calls
        self.kept = kept

    def __call__(self) -> Callable[[], int]:
        """Make it."""
        return self.run

    def run(self) -> int:
        """Do it."""
        for _ in range(10):
            objects = [object() for _ in range(self.kept)]
            for _ in range(self.calls):
                self.called()
            objects.clear()
        return 10

    def called(self) -> None:
        """One call."""


class CountTests(SynchronousTestCase):
    """What is counted."""

    def test_calls(self) -> None:
        """Each Python call of a message counts as one."""
        more = count(Work(7).run)["calls"] - count(Work(3).run)["calls"]
        self.assertAlmostEqual(more, 4)

    def test_allocations(self) -> None:
        """Each block that a message takes counts as one, also when it is given back at once."""
        more = count(Work(kept=50).run)["allocations"] - count(Work(kept=20).run)["allocations"]
        # The list of them is a block or so.
        self.assertLess(abs(more - 30), 3)

    def test_same_each_time(self) -> None:
        """Calls are the same at each run, on a busy machine too."""
        # Of the same node the second run would begin elsewhere between two samples of how long commands take.
        make = WORKLOADS["direct messages"]
        self.assertEqual(count(make())["calls"], count(make())["calls"])


class ComplaintTests(SynchronousTestCase):
    """What is too much."""

    def complaint(self, before: float, now: float) -> str:
        """What is said of one number."""
        return "\n".join(complaints({"cast": {"calls": before}}, {"cast": {"calls": now}}))

    def test_tolerance(self) -> None:
        """Ten per cent more is let pass; more is told with the name of the workload and both numbers."""
        self.assertEqual(TOLERANCE, 0.10)
        self.assertEqual(self.complaint(20, 22), "")
        self.assertEqual(self.complaint(20, 23), "cast: 23.00 calls for each message, +15% (20.00)")

    def test_next_to_nothing(self) -> None:
        """A share of next to nothing is nothing."""
        self.assertEqual(self.complaint(0.1, 0.14), "")

    def test_less(self) -> None:
        """Less is no complaint."""
        self.assertEqual(self.complaint(20, 2), "")

    def test_unknown(self) -> None:
        """A workload without numbers is told: it would never be looked at."""
        self.assertIn("cast: nothing to compare the calls with", "\n".join(complaints({}, {"cast": {"calls": 1}})))


class MainTests(SynchronousTestCase):
    """The program."""

    def setUp(self) -> None:
        """A place for the numbers, and a workload."""
        self.stored_at = Path(self.mktemp())
        self.work = Work()

    def run_main(self, *arguments: str) -> tuple[int, str]:
        """Run it; return the exit status and what it says."""
        with contextlib.redirect_stdout(io.StringIO()) as said:
            status = main(list(arguments), self.stored_at, {"ten": self.work})
        return status, said.getvalue()

    def test_grown(self) -> None:
        """It fails when a message costs more than what was written, and names the workload."""
        self.assertEqual(self.run_main("--write")[0], 0)
        self.assertEqual(self.run_main()[0], 0)
        self.work.calls = 9
        status, said = self.run_main()
        self.assertEqual(status, 1)
        self.assertIn("costs more than it did: ten: ", said)
        self.assertEqual((self.run_main("--write")[0], self.run_main()[0]), (0, 0))

    def test_other_python(self) -> None:
        """Numbers of another Python are kept and not compared with."""
        self.stored_at.write_text(json.dumps({"2.7": {"ten": {"calls": 0.0}}}))
        status, said = self.run_main()
        self.assertEqual((status, "not compared" in said), (0, True))
        self.run_main("--write")
        versions = sorted(json.loads(self.stored_at.read_text()))
        self.assertEqual(versions, ["2.7", f"{sys.version_info.major}.{sys.version_info.minor}"])

    def test_stored(self) -> None:
        """What is in the repository knows every workload."""
        for version, workloads in json.loads(STORED.read_text("utf-8")).items():
            self.assertEqual(sorted(workloads), sorted(WORKLOADS), version)


class WorkloadTests(SynchronousTestCase):
    """What is done."""

    def test_deliveries(self) -> None:
        """Each delivers all that it sends, at each call the same."""
        expected = {
            "broadcast to 210": 21_000,
            "direct messages": 1000,
            "direct messages one by one": 100,
            "direct messages one by one, WebSocket": 100,
            "received by WebSocket": 1000,
            "received by UDP": 100,
            "across nodes": 1000,
        }
        delivered = {}
        for name, workload in WORKLOADS.items():
            run = workload()
            run()
            delivered[name] = run()
        self.assertEqual(delivered, expected)
