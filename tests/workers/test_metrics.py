"""The metrics of all workers on one page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.workers.metrics import ANSWER_SECONDS, METRICS_CALL, WorkerMetrics, answer_metrics

PAGE = b"# TYPE meshrelay_commands_total counter\nmeshrelay_commands_total %d.0\n"


class CallsOnly:
    """As much of the other nodes as this needs: calls, answered by the test."""

    def __init__(self) -> None:
        self.calls: dict[str, Deferred[bytes]] = {}
        self.handlers: dict[str, Callable[[str, bytes], Any]] = {}

    def call(self, node_id: str, name: str, payload: bytes) -> Deferred[bytes]:
        """See `INodes`."""
        assert (name, payload) == (METRICS_CALL, b"")
        self.calls[node_id] = Deferred()
        return self.calls[node_id]

    def answer(self, name: str, handler: Callable[[str, bytes], Any]) -> None:
        """See `INodes`."""
        self.handlers[name] = handler


class MetricsTests(SynchronousTestCase):
    """A supervisor that asks two workers."""

    def setUp(self) -> None:
        """They were asked."""
        self.observer = EventLoggingObserver()
        globalLogPublisher.addObserver(self.observer)
        self.addCleanup(globalLogPublisher.removeObserver, self.observer)
        self.nodes = CallsOnly()
        self.clock = Clock()
        metrics = WorkerMetrics(self.nodes, self.clock, ["s-w0", "s-w1"], "s", lambda: PAGE % 1)  # type: ignore[arg-type]
        self.page = metrics.page()

    def total(self) -> int:
        """What the page says."""
        line = self.successResultOf(self.page).decode().splitlines()[-1]
        return int(float(line.split()[1]))

    def logged(self) -> str:
        """The only line of the log."""
        (event,) = self.observer
        return str(formatEvent(event))

    def test_all(self) -> None:
        """The page has what all of them counted, the supervisor too."""
        self.nodes.calls["s-w1"].callback(PAGE % 10)
        self.assertNoResult(self.page)
        self.nodes.calls["s-w0"].callback(PAGE % 100)
        self.assertEqual(self.total(), 111)

    def test_silent(self) -> None:
        """One that does not answer is left out in time."""
        self.nodes.calls["s-w0"].callback(PAGE % 100)
        self.clock.advance(ANSWER_SECONDS)
        self.assertEqual(self.total(), 101)
        self.assertIn("no metrics of s-w1", self.logged())

    def test_failed(self) -> None:
        """So is one that fails."""
        self.nodes.calls["s-w0"].errback(OSError("gone"))
        self.nodes.calls["s-w1"].callback(PAGE % 10)
        self.assertEqual(self.total(), 11)
        self.assertIn("no metrics of s-w0: gone", self.logged())

    def test_no_page(self) -> None:
        """And one whose answer is no page, or no text."""
        self.nodes.calls["s-w0"].callback(b"{ x")
        self.nodes.calls["s-w1"].callback(b"\xff")
        self.assertEqual(self.total(), 1)
        self.assertEqual(len(self.observer._events), 2)

    def test_answer(self) -> None:
        """A worker answers with its own page."""
        answer_metrics(self.nodes, lambda: PAGE % 5)  # type: ignore[arg-type]
        self.assertEqual(self.nodes.handlers[METRICS_CALL]("s", b""), PAGE % 5)
