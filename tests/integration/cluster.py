"""Clusters of real daemons: nodes that find each other, and lines that can be cut.

The module is also the application of the nodes, so that a test sees what only an application sees: each GROUP_LOST and
GROUP_BACK names the node that made it, and command (2, 1) tells who holds a group and how many members it has there.
"""

from __future__ import annotations

import json
import random
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any

from meshrelay.interfaces import IMeshRelay
from meshrelay.model import User
from tests.integration.daemon import Daemon

__all__ = [
    "AT_ONCE_SECONDS",
    "LOCAL",
    "PATIENCE_SECONDS",
    "Line",
    "Node",
    "cluster_config",
    "free_port",
    "links_of",
    "wait_until",
]

#: Where everything of these tests listens.
LOCAL = "tcp:0:interface=127.0.0.1"

#: Longest wait for anything that must happen.
PATIENCE_SECONDS = 30.0

#: What waits for nothing has happened by then, on a machine that does other things as well.
AT_ONCE_SECONDS = 5.0

#: The kernel gives away no port of these by itself: one that is free stays so until it is used.
_QUIET_PORTS = range(10_000, 32_000)


def setup(relay: IMeshRelay) -> None:
    """Be the application of a node; see the module."""
    node = relay.node_id.encode()
    relay.groups.on_discard_message(lambda group_id, user_id, sid: b"lost by " + node)
    relay.groups.on_rejoin_message(lambda group_id, user_id, sid: b"back by " + node)

    def tell(ver: int, cmd: int, payload: bytes, user: User) -> bytes:
        group_id = payload.decode("ascii")
        group = relay.groups.get_group(group_id)
        members = len(group.members) if group is not None else 0
        return json.dumps([sorted(relay.groups.member_nodes(group_id)), members]).encode()

    relay.command(2, 1, tell)


def free_port() -> int:
    """A port that nobody uses now, for TCP nor for UDP."""
    while True:
        port = random.choice(_QUIET_PORTS)
        with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagrams, suppress(OSError):
            stream.bind(("127.0.0.1", port))
            datagrams.bind(("127.0.0.1", port))
            return port


def wait_until(is_so: Callable[[], object], seconds: float = PATIENCE_SECONDS, what: str = "") -> float:
    """Wait for something that must happen, and return how long it took."""
    start = time.monotonic()
    while not is_so():
        assert time.monotonic() - start < seconds, f"did not happen within {seconds} s: {what}"
        time.sleep(0.02)
    return time.monotonic() - start


def cluster_config(node_id: str, directory: str = "memory", **sections: Any) -> dict[str, dict[str, Any]]:
    """The configuration of one node on loopback, without TLS; `sections` add to it or change it."""
    config: dict[str, dict[str, Any]] = {
        "node": {"id": node_id, "drain_seconds": 0.2},
        "mesh": {"listen": LOCAL, "insecure": True, "directory": directory},
        "group": {"send_interval_ms": 0},
        "app": {"module": "tests.integration.cluster"},
    }
    for name, keys in sections.items():
        config[name] = {**config.get(name, {}), **keys}
    return config


class Node(Daemon):
    """A daemon that may be killed and stopped; what it is then does not count as a failure."""

    def __init__(self, config: dict[str, dict[str, Any]], python_path: str = "") -> None:
        super().__init__(config, python_path)
        self.node_id: str = config["node"]["id"]
        self._is_killed = False

    def __enter__(self) -> Node:
        super().__enter__()
        return self

    def kill(self) -> None:
        """Take it away without a word."""
        assert self.process is not None
        self._is_killed = True
        self.process.kill()
        self.process.wait()

    def send_signal(self, number: signal.Signals) -> None:
        """SIGSTOP and SIGCONT, which `subprocess` knows as well, without waiting for anything."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait_for_log(self, text: str) -> None:
        """Wait until it has logged `text`."""
        wait_until(lambda: text in self.log, what=f"{text} in the log of {self.node_id}")

    def wait_linked(self, count: int, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until it is linked to so many others, and to no fewer than it knows."""
        wait_until(lambda: list(links_of(self).values()) == ["up"] * count, seconds, f"the links of {self.node_id}")

    def wait_ready(self, seconds: float) -> None:
        """Wait until it says that it is ready."""
        wait_until(lambda: self.get("/health/ready")[0] == 200, seconds, f"the readiness of {self.node_id}")

    def status(self) -> Any:
        """What GET /cluster tells."""
        return self.get("/cluster")[1]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self.process is not None:
            error.add_note(f"--- log of {self.node_id}\n{self.log[-4000:]}")
            self.process.send_signal(signal.SIGCONT)
        if not self._is_killed:
            super().__exit__(kind, error, trace)
            return
        assert "Traceback" not in self.log, f"the daemon logged a failure:\n{self.log}"
        self._directory.cleanup()


def links_of(node: Node) -> dict[str, str]:
    """The other nodes as the node's own links see them: ID -> up, or what else."""
    [own] = [told for told in node.status()["nodes"] if told["id"] == node.node_id]
    return {link["to"]: link["state"] for link in own["links"]}


class _Pipe:
    """One connection through a line."""

    def __init__(self, ends: tuple[socket.socket, socket.socket]) -> None:
        self.ends = ends

    def cut(self) -> None:
        """End both halves at once."""
        for end in self.ends:
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class Line:
    """What stands between a node and those who dial it: it can be cut, or let nothing through without a word.

    Bytes that come while it is a black hole wait in the kernel, as on a line that is down for a while.
    """

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.target: tuple[str, int] | None = None
        self._pipes: set[_Pipe] = set()
        self._is_cut = False
        self._flows = threading.Event()
        self._flows.set()
        self._is_over = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        """Where it is dialled."""
        return f"127.0.0.1:{self.port}"

    def lead_to(self, node: Daemon) -> None:
        """Say which node is at its end."""
        self.target = node.address("mesh")

    def cut(self) -> None:
        """End all connections and refuse new ones."""
        self._is_cut = True
        self._end_pipes()

    def hold(self) -> None:
        """Let nothing through any more, without a word."""
        self._flows.clear()

    def mend(self) -> None:
        """Work again."""
        self._is_cut = False
        self._flows.set()

    def close(self) -> None:
        """End it for good."""
        self._is_over = True
        self.mend()
        self._end_pipes()
        self._server.close()

    def _end_pipes(self) -> None:
        for pipe in list(self._pipes):
            pipe.cut()
        self._pipes.clear()

    def _accept(self) -> None:
        while not self._is_over:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            if self._is_cut or self.target is None:
                client.close()
                continue
            try:
                pipe = _Pipe((client, socket.create_connection(self.target, timeout=PATIENCE_SECONDS)))
            except OSError:
                client.close()
                continue
            for end in pipe.ends:
                end.settimeout(None)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pipes.add(pipe)
            for source, target in (pipe.ends, pipe.ends[::-1]):
                threading.Thread(target=self._carry, args=(pipe, source, target), daemon=True).start()

    def _carry(self, pipe: _Pipe, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                self._flows.wait()
                target.sendall(data)
        except OSError:
            pass
        pipe.cut()
        self._pipes.discard(pipe)
