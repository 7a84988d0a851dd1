"""A peer of the overlay that is nothing but a WebSocket: says what a test tells it to, true or not. It blocks."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import socket
import struct
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

__all__ = ["RawPeer", "buffer_form", "envelope"]

PATIENCE_SECONDS = 60.0

_TEXT, _BINARY, _CLOSE, _PING, _PONG = 1, 2, 8, 9, 10
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_MASK = b"mask"


def buffer_form(peer_id: str) -> dict[str, Any]:
    """An ID as Node writes bytes into JSON."""
    return {"type": "Buffer", "data": list(bytes.fromhex(peer_id))}


def envelope(to: Any, sender: Any, data: Any, **others: Any) -> dict[str, Any]:
    """An envelope as its sender writes it; `others` replace and add keys."""
    # A nonce is no secret.
    nonce = str(random.randrange(10**14, 10**15))
    return {"to": to, "from": sender, "path": [sender], "nonce": nonce, "data": data, **others}


class RawPeer:
    """One WebSocket, open.

    :param stream: connected, and nothing read from it.
    :param peer_id: what it says it is; "" for random.
    """

    def __init__(self, stream: socket.socket, peer_id: str = "") -> None:
        self.peer_id = peer_id or os.urandom(20).hex()
        self.stream = stream
        #: Every message that has come and was not waited for.
        self.received: list[Any] = []
        self.close_code: int | None = None
        self._buffer = b""
        self._is_masked = True
        stream.settimeout(PATIENCE_SECONDS)

    @classmethod
    def dial(cls, url: str, peer_id: str = "", headers: Iterable[str] = (), *, receive_bytes: int = 0) -> Self:
        """Connect to a listening peer; no hello is said.

        :param receive_bytes: of the operating system's receive buffer; 0 leaves it.
        """
        host, port = url.removeprefix("ws://").rstrip("/").rsplit(":", 1)
        stream = socket.socket()
        if receive_bytes:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        stream.connect((host, int(port)))
        peer = cls(stream, peer_id)
        lines = [
            "GET / HTTP/1.1",
            f"Host: {host}:{port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            *headers,
        ]
        stream.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        head = peer._read_head()
        if b" 101 " not in head.split(b"\r\n", 1)[0]:
            raise AssertionError(f"no WebSocket: {head!r}")
        return peer

    @classmethod
    def accept(cls, listener: socket.socket, peer_id: str = "") -> Self:
        """Take the next one that dials; no hello is said."""
        listener.settimeout(PATIENCE_SECONDS)
        peer = cls(listener.accept()[0], peer_id)
        peer._is_masked = False
        head = peer._read_head()
        headers = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        key = next(value for name, value in headers.items() if name.lower() == b"sec-websocket-key")
        accepted = base64.b64encode(hashlib.sha1(key + _GUID).digest())
        answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        peer.stream.sendall(answer + b"Sec-WebSocket-Accept: " + accepted + b"\r\n\r\n")
        return peer

    def _read_head(self) -> bytes:
        while b"\r\n\r\n" not in self._buffer:
            data = self.stream.recv(4096)
            if not data:
                raise ConnectionError("closed in the handshake")
            self._buffer += data
        head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
        return head

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stream.close()

    def send_frame(self, payload: bytes, opcode: int = _TEXT) -> None:
        """Send one message as it is."""
        mask = 0x80 if self._is_masked else 0
        size = len(payload)
        if size < 126:
            head = bytes((0x80 | opcode, mask | size))
        elif size < 65536:
            head = struct.pack("!BBH", 0x80 | opcode, mask | 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | opcode, mask | 127, size)
        if self._is_masked:
            key = int.from_bytes((_MASK * (size // 4 + 1))[:size], "little")
            payload = (int.from_bytes(payload, "little") ^ key).to_bytes(size, "little")
            head += _MASK
        self.stream.sendall(head + payload)

    def send_json(self, value: Any) -> None:
        """Send one message, as JSON unless it is text or bytes already."""
        text = value if isinstance(value, (str, bytes)) else json.dumps(value)
        self.send_frame(text if isinstance(text, bytes) else text.encode())

    def hello(self) -> Self:
        """Say who this is, and wait until the other has said it; its ID is then `remote_id`."""
        self.send_json(buffer_form(self.peer_id))
        said = self.receive()
        self.remote_id = said if isinstance(said, str) else bytes(said["data"]).hex()
        return self

    def send(self, to: Any, kind: str, data: Any = None, **others: Any) -> dict[str, Any]:
        """Send an envelope and return it."""
        inner = {"type": kind} if data is None else {"type": kind, "data": data}
        sent = envelope(to, self.peer_id, inner, **others)
        self.send_json(sent)
        return sent

    def receive(self, seconds: float = PATIENCE_SECONDS) -> Any:
        """Wait for the next message and return its JSON.

        :raises ConnectionError: it was closed.
        :raises TimeoutError: nothing came.
        """
        deadline = time.monotonic() + seconds
        while True:
            opcode, payload = self._read_frame(deadline)
            if opcode in (_TEXT, _BINARY):
                return json.loads(payload)
            if opcode == _PING:
                self.send_frame(payload, _PONG)
            elif opcode == _CLOSE:
                self.close_code = struct.unpack_from("!H", payload)[0] if len(payload) > 1 else None
                raise ConnectionError(f"closed with {self.close_code}")

    def _read_frame(self, deadline: float) -> tuple[int, bytes]:
        first, second = self._take(2, deadline)
        size = second & 0x7F
        if size == 126:
            size = struct.unpack("!H", self._take(2, deadline))[0]
        elif size == 127:
            size = struct.unpack("!Q", self._take(8, deadline))[0]
        mask = self._take(4, deadline) if second & 0x80 else b"\0\0\0\0"
        payload = self._take(size, deadline)
        key = int.from_bytes((mask * (size // 4 + 1))[:size], "little")
        return first & 0x0F, (int.from_bytes(payload, "little") ^ key).to_bytes(size, "little")

    def _take(self, size: int, deadline: float) -> bytes:
        while len(self._buffer) < size:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("no message")
            self.stream.settimeout(left)
            data = self.stream.recv(65536)
            if not data:
                raise ConnectionError("closed without a word")
            self._buffer += data
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def wait_for(self, kind: str, seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        """Wait for an envelope of a type; what comes before it is in `received`."""
        deadline = time.monotonic() + seconds
        while True:
            message = self.receive(deadline - time.monotonic())
            if isinstance(message, dict) and message.get("data", {}).get("type") == kind:
                return message
            self.received.append(message)

    def wait_closed(self, seconds: float = PATIENCE_SECONDS) -> int | None:
        """Read until the other end closes; returns its close code, None when it said none."""
        deadline = time.monotonic() + seconds
        try:
            while True:
                self.received.append(self.receive(deadline - time.monotonic()))
        except ConnectionError:
            return self.close_code

    def read_for(self, seconds: float) -> list[Any]:
        """Everything that comes within some time, or until it is closed."""
        deadline = time.monotonic() + seconds
        found = []
        try:
            while True:
                found.append(self.receive(deadline - time.monotonic()))
        except (ConnectionError, TimeoutError):
            return found
