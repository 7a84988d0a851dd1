"""What processes write, in the log of their supervisor."""

from __future__ import annotations

from twisted.internet.testing import EventLoggingObserver
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.workers.output import (
    MAX_KEPT_BYTES,
    MAX_LINE_BYTES,
    STANDARD_ERROR,
    STANDARD_OUTPUT,
    LineCutter,
    WorkerLog,
)


class LineCutterTests(SynchronousTestCase):
    """Whole lines out of any pieces."""

    def setUp(self) -> None:
        """Nothing was read."""
        self.lines: list[str] = []
        self.cutter = LineCutter(self.lines.append)

    def test_pieces(self) -> None:
        """However the bytes are cut, the lines are the same."""
        text = "one\n\nzwölf\nrest".encode()
        for size in range(1, len(text) + 1):
            self.lines.clear()
            for start in range(0, len(text), size):
                self.cutter.data_received(text[start : start + size])
            self.cutter.end()
            self.assertEqual(self.lines, ["one", "", "zwölf", "rest"], f"pieces of {size}")

    def test_bound(self) -> None:
        """A line without end is not kept in memory: it comes out in pieces."""
        self.cutter.data_received(b"x" * MAX_LINE_BYTES)
        self.assertEqual(self.lines, [])
        self.cutter.data_received(b"x")
        self.assertEqual([len(line) for line in self.lines], [MAX_LINE_BYTES])
        self.cutter.data_received(b"y" * (3 * MAX_LINE_BYTES))
        self.assertEqual(len(self.lines), 4)
        self.cutter.data_received(b"\n")
        self.assertEqual(self.lines[-1], "y")

    def test_no_text(self) -> None:
        """Bytes that are no UTF-8 do no harm."""
        self.cutter.data_received(b"\xff!\n")
        self.assertEqual(self.lines, ["\ufffd!"])

    def test_end(self) -> None:
        """The end without a rest adds no line."""
        self.cutter.data_received(b"a\n")
        self.cutter.end()
        self.cutter.end()
        self.assertEqual(self.lines, ["a"])


class WorkerLogTests(SynchronousTestCase):
    """Output and error of a worker."""

    def setUp(self) -> None:
        """A worker that has written nothing."""
        self.observer = EventLoggingObserver()
        globalLogPublisher.addObserver(self.observer)
        self.addCleanup(globalLogPublisher.removeObserver, self.observer)
        self.log = WorkerLog("w3")

    def logged(self) -> list[tuple[str, str]]:
        """Level and text of every line of the log."""
        return [(event["log_level"].name, str(formatEvent(event))) for event in self.observer]

    def test_levels(self) -> None:
        """A line loses its time, keeps how severe it is, and so do the lines that belong to it."""
        self.log.data_received(
            STANDARD_OUTPUT,
            b"2026-01-02T03:04:05+0000 [meshrelay.x#error] broken\n\tTraceback\n\n"
            b"2026-01-02T03:04:05+0000 [-] a port\n2026-01-02T03:04:05+0000 [y#warn] careful\n",
        )
        self.assertEqual(
            self.logged(),
            [
                (LogLevel.error.name, "w3 [meshrelay.x#error] broken"),
                (LogLevel.error.name, "w3 \tTraceback"),
                (LogLevel.info.name, "w3 [-] a port"),
                (LogLevel.warn.name, "w3 [y#warn] careful"),
            ],
        )

    def test_braces(self) -> None:
        """What looks like a format is text."""
        self.log.data_received(STANDARD_OUTPUT, b"{nothing} {0}\n")
        self.assertEqual(self.logged(), [("info", "w3 {nothing} {0}")])

    def test_both(self) -> None:
        """Output and error do not mix within a line, and what was not ended is logged at the end."""
        self.log.data_received(STANDARD_OUTPUT, b"out")
        self.log.data_received(STANDARD_ERROR, b"err")
        self.log.data_received(STANDARD_OUTPUT, b"put\n")
        self.log.end()
        self.assertEqual([text for _, text in self.logged()], ["w3 output", "w3 err"])

    def test_errors(self) -> None:
        """The beginning of standard error is kept, to be told to who started the daemon; no more than that."""
        self.log.data_received(STANDARD_OUTPUT, b"fine\n")
        self.log.data_received(STANDARD_ERROR, b"listen.tcp: taken\n")
        self.assertEqual(self.log.errors, "listen.tcp: taken\n")
        self.log.data_received(STANDARD_ERROR, b"x\n" * MAX_KEPT_BYTES)
        self.assertEqual(len(self.log.errors), MAX_KEPT_BYTES)
        self.assertTrue(self.log.errors.startswith("listen.tcp"))
