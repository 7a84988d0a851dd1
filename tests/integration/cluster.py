"""Clusters of real daemons: nodes that find each other, lines that can be cut, and users who talk all the time.

The module is also the application of the nodes, so that a test sees what only an application sees: each GROUP_LOST and
GROUP_BACK names the node that made it, and command (2, 1) tells who holds a group and how many members it has there.
"""

from __future__ import annotations

import itertools
import json
import queue
import select
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from meshrelay.interfaces import IMeshRelay
from meshrelay.model import User
from tests.integration.daemon import Daemon
from tests.integration.wire_clients import (
    PUSH,
    Closed,
    Frame,
    ReliableUdpClient,
    TcpClient,
    WebSocketClient,
    pack,
)

__all__ = [
    "BACK",
    "BROADCAST",
    "CREATE",
    "JOIN",
    "LEAVE",
    "LOCAL",
    "LOST",
    "Line",
    "Member",
    "Node",
    "Push",
    "check_heard_once",
    "cluster_config",
    "create_group",
    "free_port",
    "links_of",
    "longest_pause",
    "wait_until",
]

T = TypeVar("T")

CREATE, JOIN, LEAVE, BROADCAST, LOST, BACK = 110, 111, 112, 113, 116, 117

GROUP_ID_BYTES = 52

#: Where everything of these tests listens.
LOCAL = "tcp:0:interface=127.0.0.1"

#: Longest wait for anything that must happen.
PATIENCE_SECONDS = 30.0


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
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def longest_pause(member: Member, senders: Iterable[Member]) -> float:
    """Seconds for which a member heard nothing of all these, at most."""
    users = {sender.user for sender in senders}
    times = [push.at for push in member.pushes if push.user in users]
    return max(later - before for before, later in itertools.pairwise(times))


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
        wait_until(lambda: text in self.log, 10, f"{text} in the log of {self.node_id}")

    def wait_linked(self, count: int, seconds: float = 10.0) -> None:
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
                pipe = _Pipe((client, socket.create_connection(self.target, timeout=5)))
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


class Push(NamedTuple):
    """What a member was pushed by a group, and when (monotonic seconds)."""

    at: float
    cmd: int
    user: str
    message: bytes


def create_group(client: TcpClient, ttl_seconds: int = 600) -> bytes:
    """Make a group that its maker is in."""
    return client.ask(1, CREATE, struct.pack("!BIH", 3, ttl_seconds, 0))


class Member:
    """One user with a thread of its own, who reads all the time and may talk at a steady rate.

    :param transport: tcp, ws or rudp.
    :ivar sid: proof of the session, for a resume.
    :ivar pushes: of the group, in the order in which they came.
    :ivar sent: broadcasts so far: they hold 1, 2, 3, ... as text.
    """

    def __init__(self, node: Daemon, user: str, transport: str = "tcp", resume: str = "") -> None:
        self.user = user
        self.transport = transport
        self.group_id = b""
        self.pushes: list[Push] = []
        self.sent = 0
        #: Code of the GOODBYE, -1 when the connection ended without one.
        self.ended: int | None = None
        self.welcome: dict[str, Any] = {}
        self.client = self._connect(node, resume)
        self.sid: str = self.welcome["sid"]
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._interval: float | None = None
        self._next_at = 0.0
        self._is_over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _connect(self, node: Daemon, resume: str) -> TcpClient:
        members = {"resume": resume} if resume else {}
        if self.transport == "rudp":
            reliable = ReliableUdpClient(node, self.user, resume)
            self.welcome = json.loads(reliable.welcome.payload)
            return reliable
        client = TcpClient(node) if self.transport == "tcp" else WebSocketClient(node)
        self.welcome = client.hello(self.user, **members)
        return client

    def _do(self, job: Callable[[], T]) -> T:
        """Run `job` in the thread that has the connection."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(job())
            except (AssertionError, Closed, OSError, ValueError) as error:
                future.set_exception(error)

        self._jobs.put(run)
        return future.result(PATIENCE_SECONDS)

    def _run(self) -> None:
        try:
            while not self._is_over:
                while not self._jobs.empty():
                    self._jobs.get()()
                self._talk()
                self._take_buffered()
                self._read(0.005)
        except Closed:
            self.ended = self.ended if self.ended is not None else -1
        except (OSError, ValueError):
            self.ended = self.ended if self.ended is not None else -1

    def _talk(self) -> None:
        interval = self._interval
        if interval is not None and time.monotonic() >= self._next_at:
            self._next_at = max(self._next_at + interval, time.monotonic() - 1)
            self.sent += 1
            self.client.send_bytes(pack(1, 1, BROADCAST, 0, self.group_id + b"%d" % self.sent))

    def _read(self, seconds: float) -> None:
        client = self.client
        readable, _, _ = select.select([client.socket], [], [], seconds)
        if not readable:
            return
        if isinstance(client, ReliableUdpClient):
            # A packet may hold no frame, and another one may never come.
            client._packet()
            return
        data = client.socket.recv(65536)
        if not data:
            raise Closed
        if isinstance(client, WebSocketClient):
            client._raw += data
        else:
            client._received += data

    def _take_buffered(self) -> None:
        self._take_kept()
        client = self.client
        if isinstance(client, ReliableUdpClient):
            client._received += client.ready
            client.ready = b""
        elif isinstance(client, WebSocketClient):
            while (message := client._next_message()) is not None:
                if message[0] == 8:
                    raise Closed
                client._received += message[1]
        while self._has_frame(client._received):
            self._take(client.receive())

    @staticmethod
    def _has_frame(data: bytes) -> bool:
        return len(data) >= 12 and len(data) >= 12 + struct.unpack_from("!I", data, 8)[0]

    def _take_kept(self) -> None:
        kept, self.client.pushes = self.client.pushes, []
        for frame in kept:
            self._take(frame)

    def _take(self, frame: Frame) -> None:
        if frame.status != PUSH:
            return
        if frame.ver == 0:
            if frame.cmd == 2:
                self.client.send_bytes(pack(0, 1, 3, 0, frame.payload))
            elif frame.cmd == 4:
                self.ended = struct.unpack_from("!H", frame.payload)[0]
        elif frame.ver == 1 and JOIN <= frame.cmd <= BACK:
            body = frame.payload[GROUP_ID_BYTES:]
            size = 1 + body[0]
            self.pushes.append(Push(time.monotonic(), frame.cmd, body[1:size].decode(), body[size:]))

    # What a test lets it do.

    def ask(self, ver: int, cmd: int, payload: bytes = b"") -> bytes:
        """See `TcpClient.ask`."""
        return self._do(lambda: self.client.ask(ver, cmd, payload))

    def refused(self, ver: int, cmd: int, payload: bytes = b"") -> int:
        """See `TcpClient.refused`."""
        return self._do(lambda: self.client.refused(ver, cmd, payload))

    def create(self) -> bytes:
        """Make a group, and be in it."""
        self.group_id = self._do(lambda: create_group(self.client))
        return self.group_id

    def join(self, group_id: bytes, message: bytes = b"") -> None:
        """Join a group, the one to talk in from now on."""
        self.ask(1, JOIN, group_id + message)
        self.group_id = group_id

    def leave(self, message: bytes = b"") -> None:
        """Leave the group."""
        self.ask(1, LEAVE, self.group_id + message)

    def say(self) -> None:
        """Broadcast one message, and wait until the node has it."""
        self.sent += 1
        self.ask(1, BROADCAST, self.group_id + b"%d" % self.sent)

    def talk(self, per_second: float) -> None:
        """Broadcast at this rate from now on."""
        self._next_at = time.monotonic()
        self._interval = 1 / per_second

    def fall_silent(self) -> None:
        """Talk no more."""
        self._interval = None
        if self._thread.is_alive() and self.ended is None:
            # What was sent is at the node when this is answered.
            self.ask(0, 2, b"done")

    def group(self) -> tuple[list[str], int]:
        """Mesh endpoints of the nodes that hold the group, and how many members it has, as its node sees it."""
        nodes, members = json.loads(self.ask(2, 1, self.group_id))
        return nodes, members

    def heard(self, user: str) -> list[int]:
        """Numbers of the broadcasts of a user, in the order in which they came."""
        return [int(push.message) for push in self.of(BROADCAST, user)]

    def of(self, cmd: int, user: str | None = None) -> list[Push]:
        """Pushes of one kind, of one user or of all."""
        return [push for push in list(self.pushes) if push.cmd == cmd and user in (None, push.user)]

    def wait_for(self, cmd: int, user: str | None = None, count: int = 1, seconds: float = 5.0) -> None:
        """Wait until so many pushes of one kind have come."""
        wait_until(lambda: len(self.of(cmd, user)) >= count, seconds, f"{count} pushes {cmd} of {user} at {self.user}")

    def wait_heard(self, sender: Member) -> None:
        """Wait until the last broadcast of another member has come."""
        wait_until(
            lambda: self.heard(sender.user)[-1:] == [sender.sent], 5, f"the last word of {sender.user} at {self.user}"
        )

    def wait_group(self, nodes: int, members: int, seconds: float = 5.0) -> None:
        """Wait until the group has so many, as the node of this member sees it."""

        def is_so() -> bool:
            held_by, count = self.group()
            return (len(held_by), count) == (nodes, members)

        wait_until(is_so, seconds, f"{members} members on {nodes} nodes at {self.user}")

    def close(self) -> None:
        """End the connection without a word."""
        self._is_over = True
        self._thread.join(5)
        self.client.close()

    def wait_for_end(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Code of the GOODBYE that must come, -1: the connection ended without."""
        wait_until(lambda: self.ended is not None, seconds, f"the end of {self.user}")
        assert self.ended is not None
        return self.ended


def check_heard_once(members: Iterable[Member], senders: Iterable[Member], seconds: float = 10.0) -> None:
    """Each member must hear each broadcast of each other sender, once and in order; late ones are waited for."""
    deadline = time.monotonic() + seconds
    senders = list(senders)
    for member in members:
        for sender in senders:
            if sender.user == member.user:
                continue
            while len(member.heard(sender.user)) < sender.sent and time.monotonic() < deadline:
                time.sleep(0.02)
            heard = member.heard(sender.user)
            if heard != list(range(1, sender.sent + 1)):
                missing = sorted(set(range(1, sender.sent + 1)) - set(heard))
                twice = sorted({number for number in heard if heard.count(number) > 1})
                raise AssertionError(
                    f"{member.user} heard {len(heard)} of {sender.sent} of {sender.user}; "
                    f"missing {missing[:10]}, twice {twice[:10]}, in order: {heard == sorted(heard)}"
                )
