"""Webhooks of a real daemon: servers that take events, and one that never answers."""

from __future__ import annotations

import json
import socket
import statistics
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.testing.builders import make_group_id
from meshrelay.wire.commands import Command, encode_gid_message
from tests.integration.cluster import wait_until
from tests.integration.daemon import ROOT, Daemon
from tests.integration.wire_clients import TcpClient

LOBBY = make_group_id("lobby")
SECRET = "0123456789abcdef0123456789abcdef"

#: Users of one storm, and how many of them come together: fewer than a queue holds.
MANY = 300
AT_ONCE = 50


def is_genuine(signature: str, body: bytes) -> bool:
    """What the documentation tells servers to do."""
    spec = spec_from_file_location("verify_webhook", ROOT / "docs" / "examples" / "verify_webhook.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = module_from_spec(spec)
    spec.loader.exec_module(module)
    return bool(module.is_genuine(SECRET.encode(), signature, body, time.time()))


class _Hook(ThreadingHTTPServer):
    """Takes events.

    :ivar statuses: of the next answers; then 204.
    """

    daemon_threads = True

    def __init__(self) -> None:
        self.posts: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/hook"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def events(self) -> list[dict[str, Any]]:
        """All events of batches that were taken."""
        return [event for _, body in list(self.posts) for event in json.loads(body)["events"]]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Hook

    def do_POST(self) -> None:
        """Take one batch."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.server.statuses.pop(0) if self.server.statuses else 204
        if status == 204:
            self.server.posts.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class WebhookTests(SynchronousTestCase):
    """A daemon and its webhooks."""

    def setUp(self) -> None:
        """Start a server, and write the secret."""
        self.hook = _Hook()
        self.addCleanup(self.hook.server_close)
        self.addCleanup(self.hook.shutdown)
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.secret = Path(directory.name) / "secret"
        self.secret.write_text(SECRET + "\n")

    def sign_in(self, daemon: Daemon, user: str) -> TcpClient:
        """Return a client."""
        client = TcpClient(daemon)
        self.addCleanup(client.socket.close)
        client.hello(user)
        return client

    def sign_in_at_once(self, daemon: Daemon, users: list[str]) -> list[TcpClient]:
        """Return clients whose sign-ins have come together."""
        clients = [TcpClient(daemon) for _ in users]
        asked = []
        for client, user in zip(clients, users, strict=True):
            self.addCleanup(client.socket.close)
            asked.append(client.send(0, 1, json.dumps({"protocol": 1, "user": user}).encode()))
        for client, request_id in zip(clients, asked, strict=True):
            client.answer(request_id)
        return clients

    def wait_for_events(self, count: int) -> None:
        """Wait until the server was told so many."""
        wait_until(lambda: len(self.hook.events()) == count, what=f"{count} events")

    def test_life(self) -> None:
        """The life of a user is told in order, signed, and sent again after a failure of the server."""
        url = self.hook.url
        self.hook.statuses = [503]
        webhooks = {
            "connect": [url],
            "disconnect": [url],
            "join": [url],
            "message": [url],
            "secret_file": str(self.secret),
        }
        config: dict[str, dict[str, Any]] = {
            "webhooks": webhooks,
            "group": {"static_groups": [{"group_id": LOBBY}]},
            "session": {"resume_seconds": 0.0},
        }
        with Daemon(config) as daemon:
            ann = self.sign_in(daemon, "ann")
            ann.ask(1, Command.GROUP_JOIN, encode_gid_message(LOBBY, b""))
            ann.ask(1, Command.GROUP_BROADCAST, encode_gid_message(LOBBY, b"hi"))
            ann.socket.close()
            self.wait_for_events(4)
        told = [(event["event"], event["user"]) for event in self.hook.events()]
        self.assertEqual(told, [(kind, "ann") for kind in ("connect", "join", "message", "disconnect")])
        message = self.hook.events()[2]
        self.assertEqual(
            (message["group"], message["text"], message["cmd"]), (LOBBY, "hi", int(Command.GROUP_BROADCAST))
        )
        self.assertEqual(self.hook.posts[0][0]["meshrelay-try"], "2")
        for headers, body in self.hook.posts:
            self.assertTrue(is_genuine(headers["meshrelay-signature"], body))
            self.assertFalse(is_genuine(headers["meshrelay-signature"], body + b" "))

    def test_silent(self) -> None:
        """A webhook that never answers costs neither users nor other webhooks anything, nor the end of the node."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
            webhooks = {"connect": [url, self.hook.url], "timeout_seconds": 1.0, "max_queue_events": 100}
            with Daemon({"webhooks": webhooks}) as daemon:
                begin = time.monotonic()
                clients: list[TcpClient] = []
                for first in range(0, MANY, AT_ONCE):
                    clients += self.sign_in_at_once(daemon, [f"user-{first + more}" for more in range(AT_ONCE)])
                    self.wait_for_events(first + AT_ONCE)
                self.assertLess(time.monotonic() - begin, 60.0)
                self.assertLess(len(self.hook.posts), MANY / 2)
                felt = []
                for client in clients[:50]:
                    asked = time.monotonic()
                    client.ask(0, 2, b"12345678")
                    felt.append(time.monotonic() - asked)
                # A node that waits for the webhook is silent for a second each time.
                self.assertLess(statistics.median(felt), 1.0)
                wait_until(lambda: daemon.metric("meshrelay_webhook_breakers_open") == 1, what="the breaker")
                self.assertGreater(daemon.metric("meshrelay_webhook_events_dropped_total"), 0)
                self.assertEqual(daemon.metric("meshrelay_webhook_events_sent_total"), MANY)
                end = time.monotonic()
                for client in clients:
                    client.socket.close()
                self.assertEqual(daemon.terminate(), 0)
                self.assertLess(time.monotonic() - end, 40.0)
