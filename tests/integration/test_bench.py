"""``meshrelay bench`` against a real node."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.daemon import Daemon
from tests.integration.test_cluster import run_program


class BenchTests(SynchronousTestCase):
    """What an operator runs."""

    def check(self, secret: Path, url: str, mode: str, deliveries: int) -> None:
        """Everything that is sent in a second arrives, and is timed."""
        options = ("--clients", "10", "--rate", "50", "--seconds", "1", "--json", "--quiet")
        status, text = run_program("bench", "--url", url, "--mode", mode, "--secret-file", str(secret), *options)
        self.assertEqual(status, 0, text)
        told = json.loads(text)
        self.assertEqual((told["sent"], told["deliveries"], told["lost"], told["errors"]), (50, deliveries, 0, {}))
        self.assertTrue(0 < told["latency_ms"]["p50"] <= told["latency_ms"]["max"], told)

    def test_transports(self) -> None:
        """Groups and direct messages by TCP, WebSocket and UDP, where the node asks for tokens."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        secret = Path(folder.name) / "secret"
        secret.write_text("s" * 40)
        with Daemon({"auth": {"mode": "token", "secret_file": str(secret)}}) as daemon:
            for scheme, place in (("tcp", "tcp"), ("ws", "websocket"), ("udp+http", "http")):
                url = f"{scheme}://{daemon.places[place]}"
                self.check(secret, url, "fanout", 450)
                self.check(secret, url, "direct", 50)

    def test_nobody(self) -> None:
        """Where no node is, status 1 and a line that says so."""
        status, text = run_program("bench", "--url", "tcp://127.0.0.1:1", "--clients", "2", "--quiet")
        self.assertEqual(status, 1)
        self.assertIn("meshrelay: ", text)
        self.assertNotIn("Traceback", text)
