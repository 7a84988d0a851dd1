"""Tests of `meshrelay.cli.ping`."""

from __future__ import annotations

import contextlib
import io

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.cli.ping import ping_node, summary
from meshrelay.client import Connected
from meshrelay.errors import TimedOut
from tests.cli.memory_group_node import MemoryGroupNode


class SummaryTests(SynchronousTestCase):
    """The lines at the end."""

    def test_all(self) -> None:
        """Least, mean and greatest are in milliseconds."""
        self.assertEqual(
            summary(3, [0.001, 0.002, 0.006]),
            ["3 sent, 3 answered, 0% lost", "round trip min/avg/max = 1.000/3.000/6.000 ms"],
        )

    def test_lost(self) -> None:
        """What was not answered is lost."""
        self.assertEqual(summary(4, [0.001])[0], "4 sent, 1 answered, 75% lost")
        self.assertEqual(summary(2, []), ["2 sent, 0 answered, 100% lost"])
        self.assertEqual(summary(0, []), ["0 sent, 0 answered, 0% lost"])


class PingNodeTests(SynchronousTestCase):
    """Pinging."""

    def setUp(self) -> None:
        self.node = MemoryGroupNode()
        self.out = io.StringIO()
        self.connected = Connected("ann", "node-1", "s", False, False)

    def _ping(self, count: int, seconds: int) -> Deferred[None]:
        client = self.node.client("ann")
        done = Deferred.fromCoroutine(ping_node(self.node.clock, client, self.connected, count, 1.0))
        for _ in range(seconds):
            self.node.turn(1.0)
        return done

    def test_count(self) -> None:
        """As many pings as asked for, one a second, each on its line, then the summary."""
        with contextlib.redirect_stdout(self.out):
            done = self._ping(3, 4)
        self.successResultOf(done)
        lines = self.out.getvalue().splitlines()
        self.assertEqual(len(lines), 5)
        self.assertTrue(lines[0].startswith("answer from node-1: seq=1 time="), lines[0])
        self.assertEqual(lines[3], "3 sent, 3 answered, 0% lost")

    def test_interrupted(self) -> None:
        """Ctrl-C sums up what there is."""
        with contextlib.redirect_stdout(self.out):
            done = self._ping(0, 2)
            self.assertNoResult(done)
            done.cancel()
        self.successResultOf(done)
        self.assertIn("answered, 0% lost", self.out.getvalue())

    def test_no_answer(self) -> None:
        """A node that does not answer at all is an error."""
        self.node.answers_ping = False
        with contextlib.redirect_stdout(self.out):
            done = self._ping(1, 11)
        self.failureResultOf(done, TimedOut)
        self.assertIn("1 sent, 0 answered, 100% lost", self.out.getvalue())
