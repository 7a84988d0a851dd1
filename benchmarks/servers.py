"""The measured servers: each alone, in a process of its own, on one processor, on a free port of loopback.

Each is started from ``with`` to its end and killed by its process number. Peers run with the settings they come with,
except for what the benchmark has no use for (files on disk, packets that would only disturb the counting).
"""

from __future__ import annotations

import json
import os
import re
import resource
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from benchmarks.built import build, install_crossbar, install_node_packages
from tests.integration.daemon import Daemon

__all__ = ["SERVERS", "SERVER_CPU", "Missing", "Server", "on_processor"]

SERVER_CPU = 0

START_SECONDS = 20.0

#: A sign-in of meshrelay is checked as an installation's would be: a JWT.
SECRET = secrets.token_hex(32)


class Missing(Exception):
    """A peer is not installed here."""


@contextmanager
def on_processor(number: int) -> Iterator[None]:
    """What is started inside runs on that processor and no other."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {number % (os.cpu_count() or 1)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _program(name: str) -> str:
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        raise Missing(f"{name} is not installed")
    return found


def _coalesce(directory: str, port: int) -> list[str]:
    try:
        return [str(build("coalesce.c"))]
    except (OSError, subprocess.SubprocessError) as error:
        raise Missing("no C compiler") from error


def _nats(directory: str, port: int) -> list[str]:
    return [_program("nats-server"), "-a", "127.0.0.1", "-p", str(port)]


def _redis(directory: str, port: int) -> list[str]:
    # The load comes from many addresses of loopback, of which protected mode knows one.
    options = {"bind": "127.0.0.1", "protected-mode": "no", "port": str(port), "save": "", "dir": directory}
    options["maxclients"] = "19000"
    return [_program("redis-server"), *(word for key, value in options.items() for word in (f"--{key}", value))]


def _node(program: str) -> Callable[[str, int], list[str]]:
    def command(directory: str, port: int) -> list[str]:
        node = _program("node")
        try:
            return [node, str(install_node_packages() / program)]
        except (OSError, subprocess.SubprocessError) as error:
            raise Missing("npm could not install it") from error

    return command


def _crossbar(directory: str, port: int) -> list[str]:
    try:
        program = install_crossbar()
    except (OSError, subprocess.SubprocessError) as error:
        raise Missing("pip could not install crossbar") from error
    everything = {"uri": "", "match": "prefix", "allow": {"publish": True, "subscribe": True}}
    transport = {
        "type": "rawsocket",
        "endpoint": {"type": "tcp", "interface": "127.0.0.1", "port": port, "backlog": 1024},
        "serializers": ["msgpack"],
        "auth": {"anonymous": {"type": "static", "role": "anonymous"}},
    }
    realm = {"name": "realm1", "roles": [{"name": "anonymous", "permissions": [everything]}]}
    node = {"version": 2, "workers": [{"type": "router", "realms": [realm], "transports": [transport]}]}
    (Path(directory) / "config.json").write_text(json.dumps(node))
    # It would else write several lines for every client that comes or goes.
    return [str(program), "start", "--cbdir", directory, "--loglevel", "warn"]


class Server:
    """One server that runs.

    :ivar port: where it listens.
    :ivar pid: its process.
    """

    port: int
    pid: int

    def __enter__(self) -> Server:
        raise NotImplementedError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        raise NotImplementedError


class _Meshrelay(Server):
    def __init__(self, place: str) -> None:
        self._place = place
        self._directory = tempfile.TemporaryDirectory()
        secret = Path(self._directory.name) / "secret"
        secret.write_text(SECRET)
        self._daemon = Daemon(
            {
                "auth": {"mode": "token", "secret_file": str(secret)},
                "node": {"drain_seconds": 0.2},
                "session": {"commands_per_second": 1_000_000},
            }
        )

    def __enter__(self) -> Server:
        with on_processor(SERVER_CPU):
            self._daemon.__enter__()
        assert self._daemon.process is not None
        self.pid = self._daemon.process.pid
        self.port = self._daemon.address(self._place)[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._daemon.__exit__(kind, error, trace)
        finally:
            self._directory.cleanup()


class _Peer(Server):
    def __init__(self, command: Callable[[str, int], list[str]]) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self.port = _free_port()
        self._command = command(self._directory.name, self.port)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        log = Path(self._directory.name) / "log"
        with log.open("wb") as output, on_processor(SERVER_CPU):
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # On one processor Go would else run several threads against each other.
                env={**os.environ, "GOMAXPROCS": "1", "NODE_ENV": "production"},
                cwd=self._directory.name,
            )
        self.pid = self._process.pid
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            if self._is_ready(log.read_text(errors="replace")):
                return self
            time.sleep(0.05)
        self._stop()
        raise RuntimeError(f"{self._command[0]} did not start")

    def _is_ready(self, text: str) -> bool:
        # Ours choose a port and print it, the others listen on the one they were given.
        match = re.search(r"^ready (\d+)$", text, re.M)
        if match:
            self.port = int(match[1])
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def _stop(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._directory.cleanup()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()


class _Crossbar(_Peer):
    """A node of two processes: one controls, and the one that routes is measured."""

    def __init__(self) -> None:
        super().__init__(_crossbar)

    def __enter__(self) -> Server:
        super().__enter__()
        self.pid = self._workers()[0]
        # It does not raise the limit itself.
        hard = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (hard, hard))
        return self

    def _workers(self) -> list[int]:
        assert self._process is not None
        pid = self._process.pid
        try:
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except OSError:
            # It has ended by itself.
            return []

    def _stop(self) -> None:
        # Killed alone, the controlling process would leave the other one.
        for pid in self._workers():
            os.kill(pid, signal.SIGKILL)
        super()._stop()


#: Name of the dialect -> (name for people, what starts it).
SERVERS: dict[str, tuple[str, Callable[[], Server]]] = {
    "meshrelay_tcp": ("meshrelay, TCP", lambda: _Meshrelay("tcp")),
    "coalesce": ("C server that coalesces", lambda: _Peer(_coalesce)),
    "nats": ("nats-server", lambda: _Peer(_nats)),
    "redis": ("redis pub/sub", lambda: _Peer(_redis)),
    "crossbar": ("Crossbar.io (WAMP)", _Crossbar),
    "meshrelay_websocket": ("meshrelay, WebSocket", lambda: _Meshrelay("websocket")),
    "ws": ("ws (Node)", lambda: _Peer(_node("ws.js"))),
    "socketio": ("socket.io (Node)", lambda: _Peer(_node("socketio.js"))),
}
