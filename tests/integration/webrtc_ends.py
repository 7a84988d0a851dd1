"""Two programs that are the ends of one WebRTC link, with the test between them as the overlay that carries signals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from tests.integration.nat_lab import Namespace

__all__ = ["End", "Speaker", "connect", "own_command"]

ROOT = Path(__file__).resolve().parents[2]

EVENT_SECONDS = 30.0
STOP_SECONDS = 30.0


def own_command(**options: Any) -> list[str]:
    """The program of our own end."""
    flags = ["-X", "dev", "-W", "error"]
    return [sys.executable, *flags, "-m", "tests.integration.webrtc_peer", json.dumps(options)]


class End:
    """One program, from ``with`` to its end.

    :param namespace: the network to run it in; None: the machine's.
    :ivar signals: all that it said for the other end.
    """

    def __init__(self, command: list[str], namespace: Namespace | None = None, **environ: str) -> None:
        self.signals: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.errors = ""
        self.on_signal: Callable[[dict[str, Any]], None] | None = None
        self._changed = threading.Condition()
        start: Callable[..., subprocess.Popen[str]] = subprocess.Popen
        arguments: dict[str, Any] = {
            "stdin": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
            "cwd": ROOT,
            "env": {**os.environ, "PYTHONASYNCIODEBUG": "1", **environ},
        }
        self.process = start(command, **arguments) if namespace is None else namespace.call(start, command, **arguments)
        self._threads = [threading.Thread(target=self._read), threading.Thread(target=self._read_errors)]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.stop()
        for thread in self._threads:
            thread.join(STOP_SECONDS)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            try:
                stream.close()
            except BrokenPipeError:
                pass

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = json.loads(line)
            if "signal" in said:
                with self._changed:
                    self.signals.append(said["signal"])
                    self._changed.notify_all()
                    carry = self.on_signal
                if carry is not None:
                    carry(said["signal"])
                continue
            with self._changed:
                self.events.append(said)
                self._changed.notify_all()

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self.errors = self.process.stderr.read()

    def carry_signals_by(self, carry: Callable[[dict[str, Any]], None]) -> None:
        """Hand over all signals from now on, and first those that have come."""
        with self._changed:
            self.on_signal = carry
            waiting = list(self.signals)
        for signal in waiting:
            carry(signal)

    def wait_for_signals(self, are_enough: Callable[[list[dict[str, Any]]], bool]) -> None:
        """Wait until it has said what `are_enough` looks for among all its signals."""
        with self._changed:
            assert self._changed.wait_for(lambda: are_enough(self.signals), EVENT_SECONDS), (self.signals, self.errors)

    def order(self, **order: Any) -> None:
        """Tell it what to do."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
        except (BrokenPipeError, ValueError):
            # It is gone, as a test wanted, or was closed while the other end still had something to say.
            return

    def wait(self, name: str, seconds: float = EVENT_SECONDS) -> dict[str, Any]:
        """Wait for an event and take it out of those that have come."""

        def find() -> dict[str, Any] | None:
            return next((event for event in self.events if event["event"] == name), None)

        with self._changed:
            self._changed.wait_for(lambda: find() is not None, seconds)
            found = find()
            if found is None:
                raise AssertionError(f"no {name} within {seconds} s among {self.events}\n{self.errors}")
            self.events.remove(found)
            return found

    def stop(self) -> int:
        """End it in the ordinary way and return its exit status."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


class Speaker(Protocol):
    """What an `End` and a browser's page have in common."""

    def carry_signals_by(self, carry: Callable[[dict[str, Any]], None]) -> None:
        """Hand over all signals."""

    def order(self, **order: Any) -> None:
        """Tell it what to do."""

    def wait(self, name: str, seconds: float = EVENT_SECONDS) -> dict[str, Any]:
        """Wait for an event and take it out of those that have come."""


def connect(first: Speaker, second: Speaker, seconds: float = EVENT_SECONDS) -> tuple[dict[str, Any], dict[str, Any]]:
    """Carry signals between two ends; returns how each of them opened."""
    first.carry_signals_by(lambda signal: second.order(signal=signal))
    second.carry_signals_by(lambda signal: first.order(signal=signal))
    deadline = time.monotonic() + seconds
    return first.wait("open", seconds), second.wait("open", max(0.1, deadline - time.monotonic()))
