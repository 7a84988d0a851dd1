"""Tests of `meshrelay.cli.bench_run`."""

from __future__ import annotations

from typing import Literal

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.cli.bench_run import LINGER_SECONDS, MIN_SIZE, BenchPlan, BenchResult, BenchRun
from meshrelay.client import Client
from tests.cli.memory_group_node import MemoryGroupNode

GROUP = "r" * 52


class _Steps:
    """Keeps what is told."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int]] = []
        self.steps = 0

    def stage(self, name: str, total: int) -> None:
        """See `Progress`."""
        self.stages.append((name, total))

    def advance(self, steps: int) -> None:
        """See `Progress`."""
        self.steps += steps


class _GroupClient(Client):
    """Makes the group that the node in memory has."""

    def create_group(self, **settings: object) -> Deferred[str]:
        """Become a member of it."""
        return self.join_group(GROUP).addCallback(lambda _: GROUP)


class BenchRunTests(SynchronousTestCase):
    """A run against a node in memory."""

    def setUp(self) -> None:
        """The node."""
        self.node = MemoryGroupNode(GROUP)
        self.clients: list[Client] = []
        self.progress = _Steps()

    def client(self, number: int) -> Client:
        """The client of a number."""
        client = _GroupClient(self.node.clock, "tcp://127.0.0.1:7200", f"user-{number}", opener=self.node.open)
        self.clients.append(client)
        return client

    def run_plan(self, seconds: float = 1.0, mode: Literal["fanout", "direct"] = "fanout") -> BenchResult:
        """Run to the end."""
        plan = BenchPlan(mode, clients=3, size=64, rate=20.0, seconds=seconds)
        run = BenchRun(self.node.clock, plan, b"run-4321", self.client, self.progress)
        done = Deferred.fromCoroutine(run.run())
        for _ in range(int((seconds + LINGER_SECONDS + 3) / 0.05)):
            self.node.turn(0.05)
        return self.successResultOf(done)

    def test_fanout(self) -> None:
        """Each message reaches all others and is timed; in the end everybody has said goodbye."""
        result = self.run_plan()
        self.assertEqual((result.sent, result.expected, result.lost), (20, 40, 0))
        self.assertEqual(result.latencies.count, 40)
        self.assertLess(result.latencies.longest, 0.2)
        self.assertEqual(sum(each.count for each in result.by_second), 40)
        self.assertFalse(result.errors)
        self.assertEqual([client.is_connected for client in self.clients], [False] * 3)
        stages = [name for name, _ in self.progress.stages]
        self.assertEqual(stages, ["signing in", "joining", "sending", "waiting for the last ones"])

    def test_lost(self) -> None:
        """What never comes is lost, and is not waited for forever."""
        self.node.refuses_broadcasts = True
        result = self.run_plan()
        self.assertEqual((result.latencies.count, result.lost, result.deliveries_per_second), (0, 40, 0.0))

    def test_disconnected(self) -> None:
        """A connection that breaks is an error that is counted, and so is what could not be sent then."""
        self.node.clock.callLater(0.5, self.node.restart)
        result = self.run_plan()
        self.assertEqual(result.errors["disconnected"], 3)
        self.assertGreater(result.errors["NotConnected"], 0)
        self.assertLess(result.expected, 40)

    def test_others(self) -> None:
        """Messages of others, short ones too, are not counted."""
        stranger = self.node.client("stranger")
        stranger.join_group(GROUP)
        for message in (b"hi", b"run-1111" + bytes(MIN_SIZE)):
            self.node.clock.callLater(0.5, stranger.broadcast_nowait, GROUP, message)
        self.assertEqual(self.run_plan().latencies.count, 40)
