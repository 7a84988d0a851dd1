"""RFC 6455 by the Autobahn test suite's cases, run by kosoku against the node's WebSocket servers."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[2]

#: Cases of the suite that do not ask for compression.
CASES = 301


class WebSocketConformanceTests(SynchronousTestCase):
    """The adapter of clients against a fuzzing client."""

    program = "echo_server.py"

    def setUp(self) -> None:
        if find_spec("kosoku") is None:
            self.skipTest("missing: kosoku")
        self.environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name(self.program))],
            stdout=subprocess.PIPE,
            env=self.environ,
        )
        self.addCleanup(self.stop_server)

    def stop_server(self) -> None:
        """End the echo server."""
        self.server.kill()
        self.server.wait()
        assert self.server.stdout is not None
        self.server.stdout.close()

    def test_all_cases_without_compression(self) -> None:
        """Every case of the suite that does not ask for compression passes."""
        assert self.server.stdout is not None
        port = int(self.server.stdout.readline())
        client = Path(__file__).with_name("fuzzing_client.py")
        done = subprocess.run(
            [sys.executable, str(client), f"ws://127.0.0.1:{port}"],
            capture_output=True,
            text=True,
            env=self.environ,
            timeout=600,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr[-4000:])
        self.assertGreaterEqual(int(done.stdout), CASES)


class OverlayConformanceTests(WebSocketConformanceTests):
    """The server of the overlay against the same."""

    program = "overlay_echo_server.py"
