"""RFC 6455 by the Autobahn test suite's cases, run by kosoku against the node's WebSocket adapter."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[2]

#: permessage-deflate, which the node never accepts.
COMPRESSION = ["12.*", "13.*"]


class WebSocketConformanceTests(SynchronousTestCase):
    """The adapter against a fuzzing client."""

    def setUp(self) -> None:
        try:
            import kosoku
        except ImportError:
            self.skipTest("missing: kosoku")
        self.kosoku = kosoku
        self.server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("echo_server.py"))],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
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
        results = asyncio.run(self.run_cases(f"ws://127.0.0.1:{port}"))
        self.assertGreaterEqual(len(results), 301)

    async def run_cases(self, url: str) -> list[Any]:
        """Run the suite; a case that does not pass raises."""
        results: list[Any] = await self.kosoku.run_fuzzingclient(url, exclude_cases=COMPRESSION, concurrency=8)
        return results
