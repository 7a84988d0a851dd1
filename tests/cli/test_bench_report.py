"""Tests of `meshrelay.cli.bench_report`."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.cli.bench_latency import Latencies
from meshrelay.cli.bench_report import can_plot, draw, report_lines, report_values
from meshrelay.cli.bench_run import BenchPlan, BenchResult

PLAN = BenchPlan("fanout", clients=3, size=64, rate=20.0, seconds=2.0)


def some_result() -> BenchResult:
    """Forty deliveries of 10 ms, one of which never came."""
    result = BenchResult(sent=20, expected=41, seconds=2.0)
    result.by_second = [Latencies(), Latencies(), Latencies()]
    for number in range(40):
        result.latencies.add(0.01)
        result.by_second[number % 2].add(0.01)
    result.errors["NotConnected"] = 2
    return result


class ReportTests(SynchronousTestCase):
    """What is told in the end."""

    def test_values(self) -> None:
        """Programs read plain numbers, times in milliseconds."""
        values = report_values(PLAN, some_result())
        self.assertEqual((values["deliveries"], values["deliveries_per_second"], values["lost"]), (40, 20.0, 1))
        self.assertEqual(values["latency_ms"], dict.fromkeys(("p50", "p90", "p99", "p99.9", "max"), 10.0))
        self.assertEqual(values["errors"], {"NotConnected": 2})

    def test_lines(self) -> None:
        """People read the same."""
        text = "\n".join(report_lines(PLAN, some_result()))
        for part in ("40 deliveries of 20 messages", "p99 10.00", "lost          1", "NotConnected 2"):
            self.assertIn(part, text)

    def test_nothing(self) -> None:
        """A run in which nothing came can be told as well."""
        text = "\n".join(report_lines(PLAN, BenchResult(sent=1, expected=1)))
        self.assertIn("errors        none", text)

    def test_plot(self) -> None:
        """The picture is a picture."""
        if not can_plot():
            self.skipTest("missing: matplotlib")
        path = Path(self.mktemp() + ".png")
        draw(PLAN, some_result(), path)
        self.assertTrue(path.read_bytes().startswith(b"\x89PNG"))
