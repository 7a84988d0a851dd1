"""Standard input as lines that are waited for, without ever blocking the reactor."""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["Terminal", "open_terminal"]

#: A longer line is cut: no message may be longer than this by default.
MAX_LINE_BYTES = 65000

#: Lines that wait to be read before reading pauses; what one read brings comes on top.
MAX_WAITING_LINES = 64


@implementer(IHalfCloseableProtocol)
class Terminal(Protocol):
    """Standard input and output, or a pair of pipes.

    Output has to go through `write_line`: reading standard input without blocking makes a terminal's standard output
    non-blocking too, and a plain ``print`` can then fail halfway.
    """

    def __init__(self) -> None:
        self._partial = b""
        self._lines: deque[bytes] = deque()
        self._reader: Deferred[bytes | None] | None = None
        self._is_over = False

    def next_line(self) -> Deferred[bytes | None]:
        """Fire with the next line, without its end; None: there will be no more. One at a time."""
        reader: Deferred[bytes | None] = Deferred(self._forget)
        if self._lines:
            reader.callback(self._lines.popleft())
            if len(self._lines) < MAX_WAITING_LINES and not self._is_over:
                self._flow("resumeProducing")
        elif self._is_over:
            reader.callback(None)
        else:
            self._reader = reader
        return reader

    def write_line(self, line: str) -> None:
        """Print a line."""
        if self.transport is not None:
            self.transport.write(line.encode("utf-8", "replace") + b"\n")

    def dataReceived(self, data: bytes) -> None:
        *lines, partial = (self._partial + data).split(b"\n")
        self._partial = partial[:MAX_LINE_BYTES]
        for line in lines:
            self._line_received(line)

    def readConnectionLost(self) -> None:
        if self._partial:
            self._line_received(self._partial)
            self._partial = b""
        self.end()

    def writeConnectionLost(self) -> None:
        self.end()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.end()

    def _line_received(self, line: bytes) -> None:
        line = line.removesuffix(b"\r")[:MAX_LINE_BYTES]
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.callback(line)
            return
        self._lines.append(line)
        if len(self._lines) >= MAX_WAITING_LINES:
            self._flow("pauseProducing")

    def _flow(self, method: str) -> None:
        getattr(self.transport, method, lambda: None)()

    def end(self) -> None:
        """Read no more: `next_line` fires with None once the lines that wait are taken."""
        self._is_over = True
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.callback(None)

    def _forget(self, reader: Deferred[bytes | None]) -> None:
        self._reader = None


def open_terminal(reactor: Any) -> Terminal:
    """Read standard input from now on."""
    from twisted.internet.stdio import StandardIO

    terminal = Terminal()
    StandardIO(terminal, reactor=reactor)
    return terminal
