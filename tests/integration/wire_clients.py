"""Clients written from the published protocol alone: plain blocking sockets and `struct`, nothing of the package.

They are what a stranger's client would be, so a mistake that daemon and client library share shows here.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
import urllib.request
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tests.integration.daemon import Daemon

__all__ = ["Closed", "Frame", "ReliableUdpClient", "TcpClient", "UdpClient", "WebSocketClient", "connect", "pack"]

HEADER = struct.Struct("!BBHII")
OK, BAD, ERROR, PUSH = 1, 4, 5, 255

#: Longest wait for what a node must send.
ANSWER_SECONDS = 30.0


class Frame(NamedTuple):
    """One frame as it came."""

    ver: int
    status: int
    cmd: int
    request_id: int
    payload: bytes


class Closed(Exception):
    """The node closed the connection; with the close code of a WebSocket."""


def pack(ver: int, status: int, cmd: int, request_id: int, payload: bytes = b"") -> bytes:
    """One frame as bytes."""
    return HEADER.pack(ver, status, cmd, request_id, len(payload)) + payload


class TcpClient:
    """Frames over one stream."""

    def __init__(self, daemon: Daemon, timeout: float = ANSWER_SECONDS) -> None:
        self._received = b""
        self._last_id = 0
        #: Pushes that came while an answer was waited for.
        self.pushes: list[Frame] = []
        self.socket = self._open(daemon)
        self.socket.settimeout(timeout)

    def _open(self, daemon: Daemon) -> socket.socket:
        return socket.create_connection(daemon.address("tcp"))

    def send_bytes(self, data: bytes) -> None:
        """Send what may be one frame, many or none."""
        self.socket.sendall(data)

    def _read(self) -> bytes:
        data = self.socket.recv(65536)
        if not data:
            raise Closed
        return data

    def receive(self) -> Frame:
        """The next frame, whatever it is."""
        while True:
            if len(self._received) >= HEADER.size:
                ver, status, cmd, request_id, length = HEADER.unpack_from(self._received)
                end = HEADER.size + length
                if len(self._received) >= end:
                    payload = self._received[HEADER.size : end]
                    self._received = self._received[end:]
                    return Frame(ver, status, cmd, request_id, payload)
            self._received += self._read()

    def send(self, ver: int, cmd: int, payload: bytes = b"", reliable: bool = True) -> int:
        """Send a request and return its ID."""
        self._last_id += 1
        self.send_bytes(pack(ver, int(reliable), cmd, self._last_id, payload))
        return self._last_id

    def answer(self, request_id: int) -> Frame:
        """The answer to a request; pushes that come first are kept."""
        while True:
            frame = self.receive()
            if frame.request_id == request_id and frame.status != PUSH:
                return frame
            self.pushes.append(frame)

    def ask(self, ver: int, cmd: int, payload: bytes = b"") -> bytes:
        """Send a request and return the payload of its OK answer."""
        frame = self.answer(self.send(ver, cmd, payload))
        assert frame.status == OK, frame
        return frame.payload

    def refused(self, ver: int, cmd: int, payload: bytes = b"") -> int:
        """Send a request that must fail and return the code."""
        frame = self.answer(self.send(ver, cmd, payload))
        assert frame.status in (BAD, ERROR), frame
        code: int = struct.unpack_from("!H", frame.payload)[0]
        return code

    def push(self) -> Frame:
        """The next push of ver >= 1."""
        while True:
            frame = self.pushes.pop(0) if self.pushes else self.receive()
            assert frame.status == PUSH, frame
            if frame.ver:
                return frame

    def hello(self, user: str, **members: Any) -> dict[str, Any]:
        """Sign in and return what the node answers."""
        body = json.dumps({"protocol": 1, "user": user, **members}).encode()
        answer: dict[str, Any] = json.loads(self.ask(0, 1, body))
        return answer

    def goodbye(self) -> tuple[int, str]:
        """Code and text of the GOODBYE that must come now."""
        while True:
            frame = self.receive()
            if frame.status == PUSH and (frame.ver, frame.cmd) == (0, 4):
                return struct.unpack_from("!H", frame.payload)[0], frame.payload[2:].decode()

    def is_closed(self) -> bool:
        """Whether the node has ended the connection, after whatever else it sends."""
        try:
            while True:
                self.receive()
        except (Closed, ConnectionError):
            return True
        except TimeoutError:
            return False

    def close(self) -> None:
        """End the connection without a word."""
        self.socket.close()


class WebSocketClient(TcpClient):
    """Frames in binary messages."""

    #: The listening place that it connects to.
    place = "websocket"

    def _open(self, daemon: Daemon) -> socket.socket:
        connection = socket.create_connection(daemon.address(self.place))
        key = base64.b64encode(os.urandom(16)).decode()
        host = daemon.places[self.place]
        connection.sendall(
            f"GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(4096)
        assert head.startswith(b"HTTP/1.1 101"), head
        self._raw = head.split(b"\r\n\r\n", 1)[1]
        return connection

    def send_bytes(self, data: bytes) -> None:
        """Send one binary message."""
        self.send_message(data)

    def send_message(self, data: bytes, opcode: int = 2) -> None:
        """Send one message."""
        size = len(data)
        if size < 126:
            length = bytes((0x80 | size,))
        elif size < 65536:
            length = b"\xfe" + struct.pack("!H", size)
        else:
            length = b"\xff" + struct.pack("!Q", size)
        mask = os.urandom(4)
        key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
        masked = (int.from_bytes(data, "big") ^ key).to_bytes(size, "big")
        self.socket.sendall(bytes((0x80 | opcode,)) + length + mask + masked)

    def _read(self) -> bytes:
        while True:
            message = self._next_message()
            if message is not None:
                opcode, data = message
                if opcode == 8:
                    raise Closed(struct.unpack_from("!H", data)[0] if data else None)
                return data
            data = self.socket.recv(65536)
            if not data:
                raise Closed
            self._raw += data

    def _next_message(self) -> tuple[int, bytes] | None:
        raw = self._raw
        if len(raw) < 2:
            return None
        size, start = raw[1], 2
        if size == 126 and len(raw) >= 4:
            size, start = struct.unpack_from("!H", raw, 2)[0], 4
        elif size == 127 and len(raw) >= 10:
            size, start = struct.unpack_from("!Q", raw, 2)[0], 10
        elif size >= 126:
            return None
        if len(raw) < start + size:
            return None
        self._raw = raw[start + size :]
        return raw[0] & 15, raw[start : start + size]


class UdpClient(TcpClient):
    """Frames in DATA packets; signed in by the endpoint call."""

    def __init__(self, daemon: Daemon, user: str, resume: str = "", timeout: float = ANSWER_SECONDS) -> None:
        query = f"?resume={resume}" if resume else ""
        with urllib.request.urlopen(
            daemon.url(f"/endpoint/type/UDP/user/{user}{query}"), timeout=ANSWER_SECONDS
        ) as answer:
            self.endpoint = json.load(answer)
        self.sid = bytes.fromhex(self.endpoint["sid"])
        secret = b"".join(
            bytes.fromhex(self.endpoint[name]) for name in ("encryptionKey", "encryptionIV", "encryptionMacKey")
        )
        self.aead = AESGCM(HKDF(SHA256(), 32, None, b"meshrelay udp 1").derive(secret))
        self.number = 0
        #: Opened packets that were not DATA.
        self.others: list[tuple[int, bytes]] = []
        super().__init__(daemon, timeout)

    def _open(self, daemon: Daemon) -> socket.socket:
        connection = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        connection.connect((self.endpoint["serverHost"], self.endpoint["serverPort"]))
        return connection

    def seal(self, kind: int, content: bytes) -> bytes:
        """The next packet of this client."""
        self.number += 1
        head = struct.pack("!BB16sQ", kind, 1, self.sid, self.number)
        return head + self.aead.encrypt(struct.pack("!IQ", 0, self.number), content, head)

    def send_bytes(self, data: bytes) -> None:
        """Send one DATA packet."""
        self.socket.send(self.seal(1, data))

    def _read(self) -> bytes:
        while True:
            packet = self.socket.recv(2048)
            assert len(packet) <= 1400
            number = struct.unpack_from("!Q", packet, 18)[0]
            content = self.aead.decrypt(struct.pack("!IQ", 1, number), packet[26:], packet[:26])
            if packet[0] == 1:
                return content
            self.others.append((packet[0], content))
            if packet[0] == 5:
                raise Closed(struct.unpack_from("!H", content)[0])


class ReliableUdpClient(UdpClient):
    """Frames in DAT packets: the simplest sender and receiver that the protocol allows, one message at a time."""

    def __init__(self, daemon: Daemon, user: str, resume: str = "", timeout: float = ANSWER_SECONDS) -> None:
        super().__init__(daemon, user, resume, timeout)
        self.next_sequence = 0xFFFFFFFE
        self.first_sequence = self.next_sequence
        self.expected: int | None = None
        self.acknowledged = self.next_sequence
        self.fragments: list[bytes] = []
        self.ready = b""
        self.is_finished = False
        self._open_stream(self.seal(2, struct.pack("!IH", self.first_sequence, 64)))
        #: What HELLO is answered elsewhere: the first thing that comes.
        self.welcome = self.receive()

    def _open_stream(self, packet: bytes) -> None:
        """Send a SYN and wait for the node's."""
        self.socket.send(packet)
        while self.expected is None:
            self._packet()

    def _packet(self) -> None:
        """Take one packet."""
        packet = self.socket.recv(2048)
        assert len(packet) <= 1400
        number = struct.unpack_from("!Q", packet, 18)[0]
        content = self.aead.decrypt(struct.pack("!IQ", 1, number), packet[26:], packet[:26])
        kind = packet[0]
        if kind == 1:
            self.ready += content
        elif kind == 2:
            self.expected, _, acknowledged = struct.unpack("!IHI", content)
            assert acknowledged == self.first_sequence
        elif kind == 3:
            self._fragment(content)
        elif kind in (4, 6):
            self.acknowledged = struct.unpack_from("!I", content)[0]
        elif kind == 7:
            self.is_finished = True
            self.socket.send(self.seal(4, struct.pack("!IH", self.expected, 64)))
        elif kind == 5:
            raise Closed(struct.unpack_from("!H", content)[0])

    def _fragment(self, content: bytes) -> None:
        sequence, index, count = struct.unpack_from("!IHH", content)
        if sequence == self.expected:
            assert index == len(self.fragments)
            self.fragments.append(content[8:])
            self.expected = (sequence + 1) % 2**32
            if len(self.fragments) == count:
                self.ready += b"".join(self.fragments)
                self.fragments = []
        self.socket.send(self.seal(4, struct.pack("!IH", self.expected, 64)))

    def send_bytes(self, data: bytes) -> None:
        """Send one message and wait until it is acknowledged."""
        parts = [data[start : start + 1300] for start in range(0, len(data), 1300)]
        for index, part in enumerate(parts):
            head = struct.pack("!IHH", self.next_sequence, index, len(parts))
            self.socket.send(self.seal(3, head + part))
            self.next_sequence = (self.next_sequence + 1) % 2**32
        while self.acknowledged != self.next_sequence:
            self._packet()

    def close(self) -> None:
        """Reset: the node need not wait for acknowledgements that nobody will send."""
        if self.socket.fileno() >= 0:
            self.socket.send(self.seal(5, struct.pack("!H", 4000)))
        super().close()

    def _read(self) -> bytes:
        while not self.ready:
            self._packet()
        data, self.ready = self.ready, b""
        return data


def connect(daemon: Daemon, transport: str, user: str) -> TcpClient:
    """A signed-in client of any transport."""
    if transport == "rudp":
        return ReliableUdpClient(daemon, user)
    if transport == "udp":
        client: TcpClient = UdpClient(daemon, user)
        client.ask(0, 2, b"here")
        return client
    client = TcpClient(daemon) if transport == "tcp" else WebSocketClient(daemon)
    client.hello(user)
    return client
