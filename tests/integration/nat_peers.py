"""Clients with P2P links behind the NATs of the laboratory, as a test sees them: `tests.integration.nat_peer`."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import count
from typing import Any

from tests.integration.nat_lab import Client, LabNode

__all__ = ["NatPeer", "pair_of"]

#: Longest wait for what must come.
PATIENCE_SECONDS = 60.0


class NatPeer:
    """One process, started; `ready` waits for it to be signed in.

    :ivar events: all that it has said, in order.
    """

    def __init__(self, client: Client, node: LabNode) -> None:
        self.name = client.name
        self.client = client
        self.events: list[dict[str, Any]] = []
        urls = [f"udp+http://{node.places['http']}", f"tcp://{node.places['tcp']}"]
        command = [sys.executable, "-m", "tests.integration.nat_peer", self.name, *urls]
        self.process = client.run(command, stdin=subprocess.PIPE, bufsize=1, stderr=None)
        self._answers: dict[int, dict[str, Any]] = {}
        self._changed = threading.Condition()
        self._numbers = count(1)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = json.loads(line)
            with self._changed:
                if "order" in said:
                    self._answers[said["order"]] = said
                else:
                    self.events.append(said)
                self._changed.notify_all()
        with self._changed:
            self.events.append({"at": time.monotonic(), "fatal": "its output ended"})
            self._changed.notify_all()

    def order(self, name: str, *arguments: Any) -> int:
        """Ask for something and return its number."""
        number = next(self._numbers)
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([number, name, *arguments]) + "\n")
        self.process.stdin.flush()
        return number

    def ask(self, name: str, *arguments: Any) -> Any:
        """Ask for something and return the answer."""
        number = self.order(name, *arguments)
        self._wait(lambda: number in self._answers or None, PATIENCE_SECONDS)
        answer = self._answers.pop(number)
        assert "result" in answer, (self.name, name, answer)
        return answer["result"]

    def find(self, event: str, since: float = 0.0, **expected: Any) -> list[dict[str, Any]]:
        """The events of a kind with these values."""
        wanted = {"event": event, **expected}
        events = list(self.events)
        return [said for said in events if said["at"] >= since and wanted.items() <= said.items()]

    def wait(self, event: str, seconds: float = PATIENCE_SECONDS, *, since: float = 0.0, **expected: Any) -> Any:
        """Wait for the first such event, and return it; None: it did not come."""
        return self._wait(lambda: next(iter(self.find(event, since, **expected)), None), seconds)

    def expect(self, event: str, *, since: float = 0.0, **expected: Any) -> dict[str, Any]:
        """Wait for an event that must come."""
        found: dict[str, Any] | None = self.wait(event, since=since, **expected)
        assert found is not None, (self.name, event, expected, self.events[-20:])
        return found

    def _wait(self, found: Callable[[], Any], seconds: float) -> Any:
        deadline = time.monotonic() + seconds
        with self._changed:
            while True:
                fatal = [said for said in self.events if "fatal" in said]
                assert not fatal, (self.name, fatal)
                result = found()
                left = deadline - time.monotonic()
                if result is not None or left <= 0:
                    return result
                self._changed.wait(left)

    def ready(self) -> dict[str, Any]:
        """Wait until it is signed in."""
        return self.expect("ready")

    def room(self, *others: NatPeer) -> str:
        """Make a room with these in it, and return its ID."""
        room_id: str = self.ask("create")
        for other in others:
            other.ask("join", room_id)
        return room_id


def pair_of(one: NatPeer, other: NatPeer) -> tuple[tuple[NatPeer, NatPeer], tuple[NatPeer, NatPeer]]:
    """Both ends with their peers."""
    return (one, other), (other, one)
