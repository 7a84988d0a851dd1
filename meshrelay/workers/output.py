"""What a worker's process writes -> whole lines in the log of its supervisor, with the name of the worker in front.

A line of the worker's own log begins with a time, which is cut off because the supervisor's log has one, and says how
severe it is, which is kept. Lines that belong to it (tracebacks) come after it without either.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from twisted.logger import Logger, LogLevel

__all__ = ["STANDARD_ERROR", "STANDARD_OUTPUT", "LineCutter", "WorkerLog"]

STANDARD_OUTPUT = 1
STANDARD_ERROR = 2

#: A longer line is cut into pieces of this many bytes.
MAX_LINE_BYTES = 16384

#: What is kept of standard error, to be repeated when a worker cannot start.
MAX_KEPT_BYTES = 65536

_LEVELS = {
    "debug": LogLevel.debug,
    "info": LogLevel.info,
    "warn": LogLevel.warn,
    "error": LogLevel.error,
    "critical": LogLevel.critical,
}

_HEAD = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} (\[[^\]#]*#(\w+)\] )?")


class LineCutter:
    """Bytes in any pieces -> whole lines of text.

    :param line_received: called with each line, without its end.
    """

    def __init__(self, line_received: Callable[[str], object]) -> None:
        self._line_received = line_received
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        """Take what was read."""
        *lines, rest = (self._rest + data).split(b"\n")
        while len(rest) > MAX_LINE_BYTES:
            lines.append(rest[:MAX_LINE_BYTES])
            rest = rest[MAX_LINE_BYTES:]
        self._rest = rest
        for line in lines:
            self._line_received(line.decode("utf-8", "replace"))

    def end(self) -> None:
        """Nothing more comes: what has no end is a line as well."""
        rest, self._rest = self._rest, b""
        if rest:
            self._line_received(rest.decode("utf-8", "replace"))


class WorkerLog:
    """Standard output and error of one process, from its start to its end."""

    _log = Logger()

    def __init__(self, name: str) -> None:
        self._name = name
        self._level = LogLevel.info
        self._cutters = {
            descriptor: LineCutter(self._line_received) for descriptor in (STANDARD_OUTPUT, STANDARD_ERROR)
        }
        self._kept = b""

    def data_received(self, descriptor: int, data: bytes) -> None:
        """Take what the process wrote.

        :param descriptor: `STANDARD_OUTPUT` or `STANDARD_ERROR`.
        """
        if descriptor == STANDARD_ERROR:
            self._kept = (self._kept + data)[:MAX_KEPT_BYTES]
        self._cutters[descriptor].data_received(data)

    def end(self) -> None:
        """The process has ended."""
        for cutter in self._cutters.values():
            cutter.end()

    @property
    def errors(self) -> str:
        """The beginning of what was written to standard error."""
        return self._kept.decode("utf-8", "replace")

    def _line_received(self, line: str) -> None:
        head = _HEAD.match(line)
        if head is not None:
            line = line[head.end() :] if head[1] is None else head[1] + line[head.end() :]
            self._level = _LEVELS.get(head[2], LogLevel.info)
        if line:
            self._log.emit(self._level, "{worker} {line}", worker=self._name, line=line)
