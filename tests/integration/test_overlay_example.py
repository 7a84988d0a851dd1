"""The example of the documentation, twice, in the overlay of a daemon: asyncio peers on real sockets."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from unittest import TestCase

from tests.integration.cluster import LOCAL
from tests.integration.daemon import ROOT, Daemon

EXAMPLE = ROOT / "docs" / "examples" / "overlay_chat.py"

SECONDS = 90.0


class Chat:
    """One process of the example."""

    def __init__(self, url: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", str(EXAMPLE), url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.peer_id = self.read(r"this is ([0-9a-f]{40})")

    def read(self, pattern: str) -> str:
        """Read lines up to one of that form; returns its group, or all of it."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            match = re.fullmatch(pattern, line.rstrip("\n"))
            if match is not None:
                return match[match.lastindex or 0]
        raise AssertionError(f"no {pattern}")

    def write(self, line: str) -> None:
        """Type a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self) -> tuple[int, str]:
        """End the input; returns the status and what stands on standard error."""
        _, errors = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, errors

    def kill(self) -> None:
        """Leave nothing behind."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


class ExampleTests(TestCase):
    """What readers copy does what it says."""

    def chat(self, url: str) -> Chat:
        """Start one."""
        chat = Chat(url)
        self.addCleanup(chat.kill)
        return chat

    def test_two(self) -> None:
        """Two find each other at a node, write to each other, are told what is no ID, and end in peace."""
        stack = ExitStack()
        self.addCleanup(stack.close)
        daemon = stack.enter_context(Daemon({"overlay": {"listen": LOCAL}}))
        url = f"ws://{daemon.places['overlay']}"
        first, last = self.chat(url), self.chat(url)
        for chat in (first, last):
            chat.read(r"linked with [0-9a-f]{40}")
        first.write("nobody hello")
        first.read(r"not sent: .*")
        first.write(f"{last.peer_id} hello there")
        last.read(f"{first.peer_id}: 'hello there'")
        last.write(f"{first.peer_id} hi")
        first.read(f"{last.peer_id}: 'hi'")
        for chat in (last, first):
            self.assertEqual(chat.end(), (0, ""))

    def test_shown(self) -> None:
        """The page shows the example and the one for browsers, whole."""
        page = Path(ROOT / "docs" / "overlay.rst").read_text(encoding="utf-8")
        for name in ("overlay_chat.py", "overlay_chat.html"):
            self.assertIn(f".. literalinclude:: examples/{name}\n", page)
