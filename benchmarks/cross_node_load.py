"""Members of one group on two nodes, on raw sockets, for `cross_node.py`: those of the first broadcast, all read.

``python -m benchmarks.cross_node_load '{"first": ["host", port], "second": [...], ...}'`` prints its figures as JSON.
What comes is counted by its length, so that this program needs little beside the nodes it measures: all users have
names of the same length, so each broadcast costs each member the same bytes.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any

__all__ = ["MESSAGE_BYTES", "PATIENCE_SECONDS", "main"]

MESSAGE_BYTES = 128

#: Broadcasts that may be on their way; each member has room for five times as many.
WINDOW = 1000

#: Nothing is waited for any longer.
PATIENCE_SECONDS = 10.0

WARM_UP_SECONDS = 2.0

_HEADER = struct.Struct("!BBHII")
_HELLO, _CREATE, _JOIN, _BROADCAST = (0, 1), (1, 110), (1, 111), (1, 113)
_OK, _PUSH = 1, 255
_GROUP_ID_BYTES = 52


class Member:
    """One user. Blocking until `start`."""

    def __init__(self, address: tuple[str, int], user: str) -> None:
        self.user = user
        self.socket = socket.create_connection(address, PATIENCE_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        #: Pushes, in bytes, since `start`.
        self.came = 0
        self.ask(_HELLO, json.dumps({"protocol": 1, "user": user}).encode())

    def ask(self, command: tuple[int, int], payload: bytes) -> bytes:
        """Send a request and return its answer; pushes before it are passed over."""
        ver, cmd = command
        self.socket.sendall(_HEADER.pack(ver, 1, cmd, 1, len(payload)) + payload)
        while True:
            _, status, _, _, length = _HEADER.unpack(self._exactly(_HEADER.size))
            data = self._exactly(length)
            if status != _PUSH:
                assert status == _OK, f"{command} of {self.user}: {status} {data!r}"
                return data

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            assert more, "the node closed a connection"
            data += more
        return data

    def drain(self) -> int:
        """Take what has come, without counting it."""
        self.socket.setblocking(False)
        try:
            return len(self.socket.recv(1 << 20))
        except BlockingIOError:
            return 0


def settle(members: list[Member]) -> None:
    """Wait until what was told of joins has come everywhere."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < 0.5:
        assert time.monotonic() < deadline, "there is no end of pushes"
        if sum(member.drain() for member in members):
            quiet_since = time.monotonic()
        time.sleep(0.01)


class Load:
    """Broadcasts as fast as all members get them.

    :param group_id: all are in it.
    :param burst: broadcasts that one member writes at once, before it is the turn of the next one.
    """

    def __init__(self, speakers: list[Member], listeners: list[Member], group_id: bytes, burst: int) -> None:
        self._speakers = speakers
        self._listeners = listeners
        payload = group_id + bytes(MESSAGE_BYTES)
        # Request ID 0: nobody wants to be answered.
        self._burst = (_HEADER.pack(*_one(_BROADCAST), 0, len(payload)) + payload) * burst
        self._burst_count = burst
        self.push_bytes = _HEADER.size + _GROUP_ID_BYTES + 1 + len(listeners[0].user) + MESSAGE_BYTES
        self._poll = select.epoll()
        self._by_number = {member.socket.fileno(): member for member in speakers + listeners}
        for number in self._by_number:
            self._poll.register(number, select.EPOLLIN)
        self._buffer = bytearray(1 << 20)
        self._rest = memoryview(b"")
        self._turn = 0
        self.sent = 0

    def came(self) -> int:
        """Broadcasts that came to members of the second node, counted for each of them."""
        return sum(member.came for member in self._listeners) // self.push_bytes

    def is_whole(self) -> bool:
        """All that was sent has come to all members of the second node."""
        return self.came() >= self.sent * len(self._listeners)

    def _has_room(self) -> bool:
        slowest = min(member.came for member in self._listeners) // self.push_bytes
        here = sum(member.came for member in self._speakers) // self.push_bytes // (len(self._speakers) - 1)
        return self.sent + self._burst_count - min(slowest, here) <= WINDOW

    def pump(self, begins: bool) -> None:
        """Send what may be sent.

        :param begins: False: only the rest of what was begun.
        """
        while True:
            if not self._rest:
                if not begins or not self._has_room():
                    return
                self._turn = (self._turn + 1) % len(self._speakers)
                self._rest = memoryview(self._burst)
                self.sent += self._burst_count
            try:
                self._rest = self._rest[self._speakers[self._turn].socket.send(self._rest) :]
            except BlockingIOError:
                return

    def read(self) -> None:
        """Take what has come, once from each."""
        for number, _ in self._poll.poll(0.005):
            member = self._by_number[number]
            size = member.socket.recv_into(self._buffer)
            assert size, f"the node closed the connection of {member.user}"
            member.came += size

    def run(self, seconds: float, pids: list[int]) -> dict[str, float]:
        """Warm up, measure, and wait until all has come.

        :param pids: the nodes, whose processor time is measured as well.
        """
        begin = time.monotonic() + WARM_UP_SECONDS
        self._until(begin, True)
        used = [_processor_seconds(pid) for pid in (os.getpid(), *pids)]
        started, before = time.monotonic(), self.came()
        self._until(started + seconds, True)
        took = time.monotonic() - started
        figures = {"deliveries_per_second": (self.came() - before) / took}
        for name, pid, earlier in zip(("members", "first", "second"), (os.getpid(), *pids), used, strict=True):
            figures[f"{name}_busy"] = (_processor_seconds(pid) - earlier) / took
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.is_whole():
            assert time.monotonic() < deadline, "not everything came"
            self._until(time.monotonic() + 0.01, False)
        # A PING is the only other push; it is shorter than a broadcast.
        surplus = self.came() - self.sent * len(self._listeners)
        assert surplus < len(self._listeners), f"{surplus} more came than was sent"
        return figures

    def _until(self, end: float, begins: bool) -> None:
        while time.monotonic() < end:
            self.pump(begins)
            self.read()


def _one(command: tuple[int, int]) -> tuple[int, int, int]:
    ver, cmd = command
    return ver, 1, cmd


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Run the job of the command line."""
    job: dict[str, Any] = json.loads(sys.argv[1])
    count = job["members"]
    speakers = [Member(tuple(job["first"]), f"first{number:04}") for number in range(count)]
    listeners = [Member(tuple(job["second"]), f"other{number:04}") for number in range(count)]
    group_id = speakers[0].ask(_CREATE, struct.pack("!BIH", 3, 600, 0))
    for member in speakers[1:] + listeners:
        member.ask(_JOIN, group_id)
    settle(speakers + listeners)
    print(json.dumps(Load(speakers, listeners, group_id, job["burst"]).run(job["seconds"], job["pids"])))


if __name__ == "__main__":
    main()
