"""Tests of `meshrelay.cli.terminal`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.cli.terminal import MAX_LINE_BYTES, MAX_WAITING_LINES, Terminal
from tests.client.memory_transport import MemoryTransport


class TerminalTests(SynchronousTestCase):
    """Lines of standard input."""

    def setUp(self) -> None:
        self.terminal = Terminal()
        self.transport = MemoryTransport()
        self.terminal.makeConnection(self.transport)

    def _next(self) -> bytes | None:
        return self.successResultOf(self.terminal.next_line())

    def test_lines(self) -> None:
        """Lines come in order, however they are cut, with either line end."""
        waiting = self.terminal.next_line()
        self.assertNoResult(waiting)
        self.terminal.dataReceived(b"on")
        self.assertNoResult(waiting)
        self.terminal.dataReceived(b"e\ntwo\r\n\nfo")
        self.assertEqual(self.successResultOf(waiting), b"one")
        self.assertEqual([self._next(), self._next()], [b"two", b""])

    def test_end(self) -> None:
        """A last line without an end is a line; then there is None for ever."""
        self.terminal.dataReceived(b"one\ntwo")
        self.terminal.readConnectionLost()
        self.assertEqual([self._next() for _ in range(4)], [b"one", b"two", None, None])

    def test_end_while_waiting(self) -> None:
        """Whoever waits for a line is told that none comes."""
        waiting = self.terminal.next_line()
        self.terminal.readConnectionLost()
        self.assertIsNone(self.successResultOf(waiting))

    def test_output_after_the_end_of_input(self) -> None:
        """When input is over, output still works."""
        self.terminal.readConnectionLost()
        self.terminal.write_line("hällo")
        self.assertEqual(self.transport.value(), "hällo\n".encode())

    def test_long_line(self) -> None:
        """A line without end is cut, and takes no more memory than its bound."""
        for _ in range(20):
            self.terminal.dataReceived(bytes(MAX_LINE_BYTES // 4))
            self.assertLessEqual(len(self.terminal._partial), MAX_LINE_BYTES)
        self.terminal.dataReceived(b"\nnext\n")
        first, second = self._next(), self._next()
        assert first is not None
        self.assertEqual((len(first), second), (MAX_LINE_BYTES, b"next"))

    def test_reading_pauses(self) -> None:
        """When lines come faster than they are taken, reading pauses until they are."""
        self.terminal.dataReceived(b"x\n" * MAX_WAITING_LINES)
        self.assertEqual(self.transport.producerState, "paused")
        self._next()
        self.assertEqual(self.transport.producerState, "producing")

    def test_cancelled(self) -> None:
        """A reader that was cancelled takes no line with it."""
        waiting = self.terminal.next_line()
        waiting.addErrback(lambda _: None)
        waiting.cancel()
        self.terminal.dataReceived(b"one\n")
        self.assertEqual(self._next(), b"one")
