"""Tests for benchmarks.goals."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.goals import GOALS, reached
from benchmarks.scenarios import SCENARIOS


def _figures(**values: float) -> dict[str, Any]:
    return {key: {"median": value, "least": value, "most": value} for key, value in values.items()}


class ReachedTests(SynchronousTestCase):
    def test_at_least(self) -> None:
        """A rate is compared with the peer's of the same scenario."""
        for rate, is_met in ((4e6, True), (3.9e6, False)):
            servers = {
                "meshrelay_tcp": _figures(deliveries_per_second=rate),
                "nats": _figures(deliveries_per_second=1e6),
            }
            [found] = reached({"fanout1000": servers})
            self.assertEqual((found[0], found[3]), ("saturated to 1,000 / nats", is_met))

    def test_at_most(self) -> None:
        """A latency has to be below the peer's."""
        for late, is_met in ((2.0, True), (2.1, False)):
            servers = {"meshrelay_tcp": _figures(p99_ms=late), "redis": _figures(p99_ms=2.0)}
            [found] = reached({"paced": servers})
            self.assertIs(found[3], is_met)

    def test_few_idle_clients(self) -> None:
        """Memory and processor time of few idle clients say nothing about the goal."""
        for clients, count in ((4000, 0), (10_000, 2)):
            servers = {"meshrelay_tcp": _figures(kib_each=5, server_busy=0.01, clients=clients)}
            self.assertEqual(len(reached({"idle": servers})), count)

    def test_names(self) -> None:
        """Each goal is about a scenario and servers that are measured in it."""
        for goal in GOALS:
            servers = (*SCENARIOS[goal.scenario].servers, "")
            self.assertIn(goal.server, servers)
            self.assertIn(goal.other, servers)
