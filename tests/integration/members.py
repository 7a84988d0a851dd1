"""Members of groups on the nodes of a cluster: users with a thread each, who read and talk all the time."""

from __future__ import annotations

import itertools
import json
import queue
import select
import struct
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from tests.integration.cluster import PATIENCE_SECONDS, wait_until
from tests.integration.daemon import Daemon
from tests.integration.wire_clients import PUSH, Closed, Frame, ReliableUdpClient, TcpClient, WebSocketClient, pack

__all__ = [
    "BACK",
    "BROADCAST",
    "CREATE",
    "GROUP_ID_BYTES",
    "JOIN",
    "LEAVE",
    "LOST",
    "Member",
    "Push",
    "check_heard_once",
    "create_group",
    "longest_pause",
]

T = TypeVar("T")

CREATE, JOIN, LEAVE, BROADCAST, LOST, BACK = 110, 111, 112, 113, 116, 117

GROUP_ID_BYTES = 52


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
        except (Closed, OSError, ValueError):
            # A GOODBYE may have come together with the end.
            with suppress(Closed, OSError, ValueError):
                self._take_frames()
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
        if isinstance(client, WebSocketClient):
            while (message := client._next_message()) is not None:
                if message[0] == 8:
                    raise Closed
                client._received += message[1]
        self._take_frames()

    def _take_frames(self) -> None:
        client = self.client
        if isinstance(client, ReliableUdpClient):
            client._received += client.ready
            client.ready = b""
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

    def wait_for(self, cmd: int, user: str | None = None, count: int = 1, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until so many pushes of one kind have come."""
        wait_until(lambda: len(self.of(cmd, user)) >= count, seconds, f"{count} pushes {cmd} of {user} at {self.user}")

    def wait_heard(self, sender: Member) -> None:
        """Wait until the last broadcast of another member has come."""
        what = f"the last word of {sender.user} at {self.user}"
        wait_until(lambda: self.heard(sender.user)[-1:] == [sender.sent], what=what)

    def wait_group(self, nodes: int, members: int, seconds: float = PATIENCE_SECONDS) -> None:
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


def check_heard_once(members: Iterable[Member], senders: Iterable[Member], seconds: float = PATIENCE_SECONDS) -> None:
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


def longest_pause(member: Member, senders: Iterable[Member]) -> float:
    """Seconds for which a member heard nothing of all these, at most."""
    users = {sender.user for sender in senders}
    times = [push.at for push in member.pushes if push.user in users]
    return max(later - before for before, later in itertools.pairwise(times))
