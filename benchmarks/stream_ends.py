"""The two ends of a message stream, over TCP or over our reliable UDP; run inside a namespace by ``rudp.py``.

``python stream_ends.py PROTOCOL PACE SECONDS PARENT INDEX``: PROTOCOL is rudp or a congestion control of the kernel's
TCP, PACE messages per second (0 = as fast as they are taken). Index 0 sends, index 1 receives and prints JSON. Each
message is 100 bytes and begins with the moment at which it was due; both ends read the same monotonic clock.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time
from typing import Protocol

from benchmarks.tunnel import ADDRESSES, enter
from meshrelay.errors import PacketRejected, SlowReceiver
from meshrelay.machine.reliability import MessageReceived, ReliabilityMachine, State
from meshrelay.wire.datagram import TO_CLIENT, TO_NODE, PacketCodec

MESSAGE_BYTES = 100
PORT = 7000

#: What is thrown away of a run at full speed: the start.
WARM_UP_SECONDS = 2.0

#: How long the receiver waits for what is late.
PATIENCE_SECONDS = 20.0


class Stream(Protocol):
    """One end of a connection."""

    def send(self, message: bytes) -> bool:
        """Send one message; False: there is no room now."""

    def wait(self, until: float) -> bytes:
        """Let things happen until then or until something came, and return it."""


class TcpStream:
    """A TCP connection of the kernel."""

    def __init__(self, control: str, is_sender: bool) -> None:
        if is_sender:
            self._socket = socket.socket()
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, control.encode())
            self._socket.settimeout(10)
            while self._socket.connect_ex((ADDRESSES[1], PORT)):
                time.sleep(0.1)
        else:
            with socket.create_server((ADDRESSES[1], PORT)) as server:
                self._socket, _ = server.accept()
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        self._unsent = b""

    def send(self, message: bytes) -> bool:
        """See `Stream`."""
        data = self._unsent + message
        try:
            self._unsent = data[self._socket.send(data) :]
        except BlockingIOError:
            if self._unsent:
                return False
            self._unsent = data
        except ConnectionError:
            # The other end has all it wants, and left.
            self._unsent = b""
        return True

    def wait(self, until: float) -> bytes:
        """See `Stream`."""
        readable, _, _ = select.select(
            [self._socket], [self._socket] if self._unsent else [], [], max(0.0, until - time.monotonic())
        )
        if self._unsent:
            self.send(b"")
        try:
            return self._socket.recv(1 << 18) if readable else b""
        except ConnectionError:
            return b""


class RudpStream:
    """The reliability machine on a UDP socket."""

    def __init__(self, is_sender: bool) -> None:
        sid, key = bytes(16), bytes(32)
        self._codec = PacketCodec(sid, key, TO_NODE if is_sender else TO_CLIENT)
        self._machine = ReliabilityMachine(is_sender, 1)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._socket.bind((ADDRESSES[not is_sender], PORT))
        self._socket.connect((ADDRESSES[is_sender], PORT))
        self._socket.setblocking(False)
        if is_sender:
            self._machine.connect(time.monotonic())
            while self._machine.state is not State.OPEN:
                self.wait(time.monotonic() + 0.1)

    def send(self, message: bytes) -> bool:
        """See `Stream`."""
        try:
            self._machine.send_message(message)
        except SlowReceiver:
            return False
        return True

    def wait(self, until: float) -> bytes:
        """See `Stream`."""
        self._flush()
        deadline = self._machine.next_deadline()
        wake_at = until if deadline is None else min(until, deadline)
        select.select([self._socket], [], [], max(0.0, wake_at - time.monotonic()))
        self._receive()
        self._machine.deadline_passed(time.monotonic())
        received = []
        while (event := self._machine.next_event()) is not None:
            if isinstance(event, MessageReceived):
                received.append(event.data)
        self._flush()
        return b"".join(received)

    def _receive(self) -> None:
        for _ in range(64):
            try:
                datagram = self._socket.recv(2048)
            except (BlockingIOError, ConnectionRefusedError):
                return
            try:
                packet = self._codec.open(datagram)
                self._machine.receive_packet(packet.kind, packet.content, time.monotonic())
            except PacketRejected:
                continue

    def _flush(self) -> None:
        for kind, content in self._machine.packets_to_send(time.monotonic()):
            try:
                self._socket.send(self._codec.seal(kind, content))
            except (BlockingIOError, ConnectionRefusedError):
                # Lost, as any other.
                continue


def send_paced(stream: Stream, per_second: float, seconds: float) -> None:
    """Send a message each time one is due, then stay until everything has surely arrived."""
    started_at = time.monotonic()
    number, sent = int(per_second * seconds), 0
    while True:
        now = time.monotonic()
        due_at = started_at + sent / per_second
        if sent < number and now >= due_at:
            while not stream.send(struct.pack("!d", due_at).ljust(MESSAGE_BYTES, b".")):
                stream.wait(time.monotonic() + 0.01)
            sent += 1
        elif now > started_at + seconds + PATIENCE_SECONDS:
            return
        elif stream.wait(due_at if sent < number else now + 0.1):
            # The receiver has everything.
            return


def send_bulk(stream: Stream, seconds: float) -> None:
    """Send as much as is taken."""
    message = struct.pack("!d", time.monotonic()).ljust(MESSAGE_BYTES, b".")
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        for _ in range(200):
            if not stream.send(message):
                break
        stream.wait(time.monotonic() + 0.005)


def receive_paced(stream: Stream, number: int, seconds: float) -> dict[str, object]:
    """Return how long each message took, in seconds."""
    latencies: list[float] = []
    ends_at = time.monotonic() + seconds + PATIENCE_SECONDS
    rest = b""
    while len(latencies) < number and time.monotonic() < ends_at:
        rest += stream.wait(time.monotonic() + 0.1)
        now = time.monotonic()
        whole = len(rest) - len(rest) % MESSAGE_BYTES
        latencies += [now - struct.unpack_from("!d", rest, start)[0] for start in range(0, whole, MESSAGE_BYTES)]
        rest = rest[whole:]
    for _ in range(20):
        # So that the sender knows.
        stream.send(b"!" * MESSAGE_BYTES)
        stream.wait(time.monotonic() + 0.05)
    return {"latencies": latencies}


def receive_bulk(stream: Stream, seconds: float) -> dict[str, object]:
    """Return how many bytes of messages came per second after the start."""
    started_at = time.monotonic()
    size = 0
    while (now := time.monotonic()) < started_at + seconds:
        data = stream.wait(now + 0.1)
        if now > started_at + WARM_UP_SECONDS:
            size += len(data)
    return {"bytes_per_second": size / (seconds - WARM_UP_SECONDS)}


def main() -> None:
    """Play one end."""
    protocol, pace_text, seconds_text, parent_text, index_text = sys.argv[1:]
    pace, seconds, is_sender = float(pace_text), float(seconds_text), index_text == "0"
    enter(int(parent_text), int(index_text))
    stream: Stream = RudpStream(is_sender) if protocol == "rudp" else TcpStream(protocol, is_sender)
    if is_sender:
        if pace:
            send_paced(stream, pace, seconds)
        else:
            send_bulk(stream, seconds)
    else:
        result = receive_paced(stream, int(pace * seconds), seconds) if pace else receive_bulk(stream, seconds)
        sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    main()
