"""Users who write direct messages on raw sockets, for `direct.py`: as fast as is taken, or at a steady rate.

``python -m benchmarks.direct_load '{"mode": ..., ...}'`` prints its figures as JSON. What is sent is made beforehand,
and at full speed what comes is counted by its length, so that this program needs little beside the server it measures:
each message costs the receiver the same bytes, and the sender the same bytes for its answer.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time
from collections import deque
from typing import Any, NamedTuple

__all__ = ["MESSAGE_BYTES", "main"]

MESSAGE_BYTES = 64

#: Messages in one write, and how many of a pair may be on their way.
BURST = 100
WINDOW = 500

_HEADER = struct.Struct("!BBHII")
_DM_SEND = 120
_OK = 1

#: nats-server says a PING of 6 bytes once.
MAX_SURPLUS_BYTES = 6

#: Nothing is waited for any longer.
PATIENCE_SECONDS = 10.0


class Ends(NamedTuple):
    """One pair, signed in, and what each of its messages is in bytes."""

    sender: socket.socket
    receiver: socket.socket
    burst: bytes
    push_bytes: int
    #: 0 = the server answers nothing.
    answer_bytes: int


def _connect(address: tuple[str, int]) -> socket.socket:
    connection = socket.create_connection(address, PATIENCE_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise ConnectionError("the server closed the connection")
        data += more
    return data


def _frame(ver: int, cmd: int, request_id: int, payload: bytes) -> bytes:
    return _HEADER.pack(ver, 1, cmd, request_id, len(payload)) + payload


def _sign_in(address: tuple[str, int], user: str) -> socket.socket:
    connection = _connect(address)
    connection.sendall(_frame(0, 1, 1, json.dumps({"protocol": 1, "user": user}).encode()))
    _, status, _, _, length = _HEADER.unpack(_exactly(connection, _HEADER.size))
    _exactly(connection, length)
    assert status == _OK, f"sign-in of {user}: status {status}"
    return connection


def _direct(request_id: int, peer: str, message: bytes) -> bytes:
    return _frame(1, _DM_SEND, request_id, b"%c%b%b" % (len(peer), peer.encode(), message))


def relay_pair(address: tuple[str, int], number: int, peer_address: tuple[str, int]) -> Ends:
    """Two users of one node, or of two, who have met: a first message has been answered with OK."""
    names = f"from{number:04}", f"peer{number:04}"
    sender, receiver = _sign_in(address, names[0]), _sign_in(peer_address, names[1])
    push_bytes = _HEADER.size + 1 + len(names[0]) + MESSAGE_BYTES
    for _ in range(50):
        sender.sendall(_direct(7, names[1], bytes(MESSAGE_BYTES)))
        _, status, _, _, length = _HEADER.unpack(_exactly(sender, _HEADER.size))
        error = _exactly(sender, length)
        if status == _OK:
            break
        # The other node has signed the user in, and the directory is about to learn of it.
        time.sleep(0.1)
    else:
        raise AssertionError(f"no OK for a direct message: {error!r}")
    _exactly(receiver, push_bytes)
    burst = b"".join(_direct(1 + index, names[1], bytes(MESSAGE_BYTES)) for index in range(BURST))
    return Ends(sender, receiver, burst, push_bytes, _HEADER.size)


def nats_pair(address: tuple[str, int], number: int, is_answered: bool) -> Ends:
    """A publisher and a subscriber of a subject of their own."""
    subject = b"peer%04d" % number
    ends = []
    for verbose in (is_answered, False):
        connection = _connect(address)
        while not connection.recv(65536).endswith(b"\r\n"):
            pass
        connection.sendall(b'CONNECT {"verbose":%b,"pedantic":false}\r\nPING\r\n' % (b"true" if verbose else b"false"))
        _exactly(connection, len(b"+OK\r\nPONG\r\n" if verbose else b"PONG\r\n"))
        ends.append(connection)
    sender, receiver = ends
    receiver.sendall(b"SUB %b 1\r\nPING\r\n" % subject)
    _exactly(receiver, len(b"PONG\r\n"))
    one = b"PUB %b %d\r\n%b\r\n" % (subject, MESSAGE_BYTES, bytes(MESSAGE_BYTES))
    push = b"MSG %b 1 %d\r\n%b\r\n" % (subject, MESSAGE_BYTES, bytes(MESSAGE_BYTES))
    return Ends(sender, receiver, one * BURST, len(push), len(b"+OK\r\n") if is_answered else 0)


class _Pair:
    """Keeps a pair at full speed: a burst goes whenever the window has room for it."""

    def __init__(self, ends: Ends, poll: select.epoll) -> None:
        self.ends = ends
        self._poll = poll
        self._rest = memoryview(b"")
        self._waits = False
        self.sent = 0
        self.pushed_bytes = 0
        self.answered_bytes = 0
        for end in (ends.sender, ends.receiver):
            end.setblocking(False)
            poll.register(end.fileno(), select.EPOLLIN)

    @property
    def is_whole(self) -> bool:
        """All that was sent has come, and was answered. Too much would be an error that was counted as a message."""
        ends = self.ends
        surplus = (
            self.pushed_bytes - self.sent * ends.push_bytes,
            self.answered_bytes - self.sent * ends.answer_bytes,
        )
        assert max(surplus) <= MAX_SURPLUS_BYTES, f"more came than was sent: {surplus}"
        return min(surplus) >= 0

    def pump(self) -> None:
        """Send what may be sent."""
        ends = self.ends
        while True:
            if not self._rest:
                done = self.pushed_bytes // ends.push_bytes
                if ends.answer_bytes:
                    done = min(done, self.answered_bytes // ends.answer_bytes)
                if self.sent + BURST - done > WINDOW:
                    break
                self._rest = memoryview(ends.burst)
                self.sent += BURST
            if not self._write():
                break

    def _write(self) -> bool:
        try:
            self._rest = self._rest[self.ends.sender.send(self._rest) :]
        except BlockingIOError:
            pass
        if self._waits != bool(self._rest):
            self._waits = bool(self._rest)
            self._poll.modify(self.ends.sender.fileno(), select.EPOLLIN | (select.EPOLLOUT if self._waits else 0))
        return not self._rest

    def finish_write(self) -> None:
        """Send the rest of a burst, no new one."""
        if self._rest:
            self._write()


def full_speed(pairs: list[Ends], seconds: float) -> dict[str, float]:
    """As fast as it is taken, after a second for warming up; then everything must have come."""
    poll = select.epoll()
    by_number: dict[int, tuple[_Pair, bool]] = {}
    all_pairs = [_Pair(ends, poll) for ends in pairs]
    for pair in all_pairs:
        by_number[pair.ends.sender.fileno()] = pair, True
        by_number[pair.ends.receiver.fileno()] = pair, False
        pair.pump()
    buffer = bytearray(1 << 18)
    begin = time.monotonic() + 1
    end = begin + seconds
    counted_at, counted, processor = 0.0, 0, 0.0
    figures: dict[str, float] = {}
    while True:
        now = time.monotonic()
        if not counted_at and now >= begin:
            counted_at, processor = now, time.process_time()
            counted = sum(pair.pushed_bytes // pair.ends.push_bytes for pair in all_pairs)
        if not figures and now >= end:
            came = sum(pair.pushed_bytes // pair.ends.push_bytes for pair in all_pairs) - counted
            busy = (time.process_time() - processor) / (now - counted_at)
            figures = {"messages_per_second": came / (now - counted_at), "generator_busy": busy}
        if figures and all(pair.is_whole for pair in all_pairs):
            return figures
        assert now < end + PATIENCE_SECONDS, "not everything came"
        for number, events in poll.poll(0.1):
            pair, is_sender = by_number[number]
            if events & ~select.EPOLLOUT:
                size = (pair.ends.sender if is_sender else pair.ends.receiver).recv_into(buffer)
                assert size, "the server closed a connection"
                if is_sender:
                    pair.answered_bytes += size
                else:
                    pair.pushed_bytes += size
            if figures:
                pair.finish_write()
            else:
                pair.pump()


def steady(pairs: list[Ends], per_second: float, seconds: float) -> dict[str, float]:
    """At a steady rate: how late each message is at its receiver, counted from when it was due."""
    poll = select.epoll()
    receivers = {}
    for ends in pairs:
        receivers[ends.receiver.fileno()] = ends, deque[float](), bytearray()
        poll.register(ends.receiver.fileno(), select.EPOLLIN)
        poll.register(ends.sender.fileno(), select.EPOLLIN)
    senders = {ends.sender.fileno(): ends.sender for ends in pairs}
    delays: list[float] = []
    bursts = [ends.burst[: len(ends.burst) // BURST] for ends in pairs]
    start = time.monotonic() + 0.1
    total = int(per_second * (seconds + 1))
    sent = came = 0
    while came < total:
        now = time.monotonic()
        while sent < total and (due := start + sent / per_second) <= now:
            ends = pairs[sent % len(pairs)]
            receivers[ends.receiver.fileno()][1].append(due)
            ends.sender.sendall(bursts[sent % len(pairs)])
            sent += 1
        assert now < start + seconds + 1 + PATIENCE_SECONDS, f"{total - came} messages did not come"
        wait = max(0.0, start + sent / per_second - time.monotonic()) if sent < total else 0.1
        for number, _ in poll.poll(wait):
            if number in senders:
                senders[number].recv(65536)
                continue
            ends, dues, partial = receivers[number]
            partial += ends.receiver.recv(65536)
            at = time.monotonic()
            while len(partial) >= ends.push_bytes:
                del partial[: ends.push_bytes]
                due = dues.popleft()
                came += 1
                if due >= start + 1:
                    delays.append(at - due)
    delays.sort()
    return {f"p{part}": 1000 * delays[len(delays) * part // 100] for part in (50, 99)}


def main(job: dict[str, Any]) -> dict[str, float]:
    """Do one job: ``mode``, ``address``, ``pairs``, ``seconds`` and what else the mode needs."""
    address = tuple(job["address"])
    numbers = range(job["pairs"])
    mode = job["mode"]
    if mode == "nats":
        return full_speed([nats_pair(address, number, job["is_answered"]) for number in numbers], job["seconds"])
    peer_address = tuple(job.get("peer_address", address))
    pairs = [relay_pair(address, number, peer_address) for number in numbers]
    if mode == "steady":
        return steady(pairs, job["per_second"], job["seconds"])
    return full_speed(pairs, job["seconds"])


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
