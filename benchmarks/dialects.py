"""What clients of each measured server say, for the load to say it many times: sign-in, joining a group, a message to
it or to one user.

Answers are not parsed: a rehearsal finds how long each is, and user names and tokens are equally long for everybody.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import time
from collections.abc import Sequence

import jwt

from benchmarks.load_job import DIGITS, TalkStep

__all__ = ["MESSAGE_BYTES", "Dialect", "dialect_named", "strip_websocket"]

MESSAGE_BYTES = 128

#: The number of the message, and what fills it up; safe in text.
FILLING = b"x" * (MESSAGE_BYTES - DIGITS)
MESSAGE = b"%0*x" % (DIGITS, 0) + FILLING

#: An answer has ended when nothing more came for this long.
QUIET_SECONDS = 0.25
PATIENCE_SECONDS = 10.0

#: Not zero: ws and others leave out the unmasking then.
_MASK = b"\x37\xfa\x21\x3d"
_UPGRADE = (
    "GET {} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_HEADER = struct.Struct("!BBHII")
_OK = 1
_RELIABLE = 1


def _masked(payload: bytes, opcode: int = 2) -> bytes:
    length = bytes((0x80 | len(payload),)) if len(payload) < 126 else b"\xfe" + struct.pack("!H", len(payload))
    body = bytes(byte ^ _MASK[index % 4] for index, byte in enumerate(payload))
    return bytes((0x80 | opcode,)) + length + _MASK + body


def strip_websocket(data: bytes) -> bytes:
    """The payload of one whole, unmasked WebSocket message."""
    return data[{126: 4, 127: 10}.get(data[1] & 127, 2) :]


class Dialect:
    """One server's way of saying it. Subclasses fill in what theirs has.

    :ivar tail: what the answer to each step ends with; more than nothing where its length varies.
    :ivar varying: where a delivery has bytes that differ each time, and how many.
    """

    is_websocket = False
    tail = b""
    ignored = b""
    varying = (0, 0)
    farewell = b""

    def sign_in(self, users: Sequence[str]) -> list[list[bytes]]:
        """Steps of one connection, each in one variant for all users or in one for each."""
        raise NotImplementedError

    def found(self, publisher: socket.socket) -> None:
        """Make the group, where the server wants that."""

    def join(self) -> list[bytes]:
        """Steps that join the group; none where connecting has done it."""
        return []

    def leave(self) -> list[bytes]:
        """Steps that leave the group."""
        return []

    def message(self, payload: bytes) -> bytes:
        """One message to the group, unmasked."""
        raise NotImplementedError

    def receiving(self, users: Sequence[str]) -> list[list[bytes]]:
        """Steps of one connection that gets what is sent to its user; where that is more than signing in."""
        return self.sign_in(users)

    def sending(self, users: Sequence[str]) -> list[list[bytes]]:
        """Steps of one connection that sends to single users; where that is more than signing in."""
        return self.sign_in(users)

    def direct(self, user: str, payload: bytes) -> bytes:
        """One message to one user, unmasked."""
        raise NotImplementedError

    def published(self) -> tuple[bytes, int, bytes]:
        """Message 0 as it is written, where its number stands, and what to XOR the digits with."""
        return self._numbered(self.message(MESSAGE))

    def directed(self, user: str) -> tuple[bytes, int, bytes]:
        """The same of a message to one user."""
        return self._numbered(self.direct(user, MESSAGE))

    def _numbered(self, inner: bytes) -> tuple[bytes, int, bytes]:
        at = inner.index(MESSAGE)
        if not self.is_websocket:
            return inner, at, bytes(DIGITS)
        written = self.written(inner)
        mask = bytes(_MASK[(at + index) % 4] for index in range(DIGITS))
        return written, len(written) - len(inner) + at, mask

    def written(self, inner: bytes) -> bytes:
        """What is written for one command."""
        return _masked(inner) if self.is_websocket else inner

    def rehearse(self, port: int, steps: list[list[bytes]], number: int) -> tuple[socket.socket, list[TalkStep]]:
        """Say the steps once, as user `number`, and learn how long the answers are.

        :returns: the connection, and the steps for the load.
        """
        connection = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        learned = [self.rehearse_step(connection, variants, number) for variants in steps]
        return connection, learned

    def rehearse_step(self, connection: socket.socket, variants: list[bytes], number: int) -> TalkStep:
        """Say one step and learn how long its answer is."""
        connection.sendall(variants[number % len(variants)])
        answer = read_quiet(connection)
        assert answer.endswith(self.tail), f"unexpected answer {answer!r}"
        return TalkStep(variants, len(answer), self.tail)


def read_quiet(connection: socket.socket) -> bytes:
    """All that comes until nothing more does.

    :raises AssertionError: nothing came, or the server closed the connection.
    """
    connection.settimeout(PATIENCE_SECONDS)
    data = connection.recv(65536)
    more = data
    connection.settimeout(QUIET_SECONDS)
    try:
        # Also after an answer: it may have been a refusal.
        while more:
            more = connection.recv(65536)
            data += more
    except TimeoutError:
        connection.settimeout(PATIENCE_SECONDS)
        return data
    raise AssertionError(f"the server closed the connection after {data[-200:]!r}")


class Meshrelay(Dialect):
    """Sign-in with a JWT, a group without an interval."""

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._gid = b""
        self.farewell = self.written(self._frame(0, 4, 0, b""))

    @staticmethod
    def _frame(ver: int, cmd: int, request_id: int, payload: bytes, status: int = 0) -> bytes:
        return _HEADER.pack(ver, status, cmd, request_id, len(payload)) + payload

    def sign_in(self, users: Sequence[str]) -> list[list[bytes]]:
        """HELLO."""
        expires = int(time.time()) + 86400
        hellos = []
        for user in users:
            token = jwt.encode({"sub": user, "exp": expires}, self._secret, algorithm="HS256")
            hello = json.dumps({"protocol": 1, "user": user, "token": token}).encode()
            hellos.append(self.written(self._frame(0, 1, 1, hello)))
        return [hellos]

    def found(self, publisher: socket.socket) -> None:
        """GROUP_CREATE; the publisher joins. The interval is 0."""
        publisher.sendall(self.written(self._frame(1, 110, 2, struct.pack("!BIH", 3, 3600, 0))))
        answer = read_quiet(publisher)
        if self.is_websocket:
            answer = strip_websocket(answer)
        assert answer[1] == _OK, f"no group: {answer!r}"
        self._gid = answer[_HEADER.size :]

    def join(self) -> list[bytes]:
        """GROUP_JOIN with an empty message, which the others are not told of."""
        return [self.written(self._frame(1, 111, 3, self._gid))]

    def leave(self) -> list[bytes]:
        """GROUP_LEAVE."""
        return [self.written(self._frame(1, 112, 3, self._gid))]

    def message(self, payload: bytes) -> bytes:
        """GROUP_BROADCAST that wants no answer."""
        return self._frame(1, 113, 0, self._gid + payload)

    def direct(self, user: str, payload: bytes) -> bytes:
        """DM_SEND, reliable, that wants no answer."""
        return self._frame(1, 120, 0, bytes((len(user),)) + user.encode() + payload, _RELIABLE)


class MeshrelayWebSocket(Meshrelay):
    """The same behind an opening handshake."""

    is_websocket = True

    def sign_in(self, users: Sequence[str]) -> list[list[bytes]]:
        """The upgrade, then HELLO."""
        return [[_UPGRADE.format("/").encode()], *super().sign_in(users)]


class Coalesce(Dialect):
    """coalesce.c: one byte to begin with, then anything."""

    def sign_in(self, users: Sequence[str]) -> list[list[bytes]]:
        """The byte."""
        return [[b"+"]]

    def message(self, payload: bytes) -> bytes:
        """As long as a line of NATS."""
        return b"MSG g %d\r\n%b\r\n" % (len(payload), payload)

    def receiving(self, users: Sequence[str]) -> list[list[bytes]]:
        """The number of the pair, from a receiver."""
        return [[b"<%b" % user[-6:].encode() for user in users]]

    def sending(self, users: Sequence[str]) -> list[list[bytes]]:
        """The same from the sender; from then on anything."""
        return [[b">%b" % user[-6:].encode() for user in users]]

    def direct(self, user: str, payload: bytes) -> bytes:
        """As long as a line of NATS."""
        return b"MSG %b %d\r\n%b\r\n" % (user.encode(), len(payload), payload)


class Nats(Dialect):
    """A subject; answers are asked for by PING."""

    tail = b"\r\n"
    ignored = b"PING\r\n"

    def sign_in(self, users: Sequence[str]) -> list[list[bytes]]:
        """Wait for INFO, then CONNECT."""
        return [[b""], [b'CONNECT {"verbose":false,"pedantic":false}\r\nPING\r\n']]

    def join(self) -> list[bytes]:
        """SUB."""
        return [b"SUB g 1\r\nPING\r\n"]

    def leave(self) -> list[bytes]:
        """UNSUB."""
        return [b"UNSUB 1\r\nPING\r\n"]

    def message(self, payload: bytes) -> bytes:
        """PUB."""
        return self.direct("g", payload)

    def receiving(self, users: Sequence[str]) -> list[list[bytes]]:
        """SUB to a subject with the name of the user."""
        return [*self.sign_in(users), [b"SUB %b 1\r\nPING\r\n" % user.encode() for user in users]]

    def direct(self, user: str, payload: bytes) -> bytes:
        """PUB to that subject."""
        return b"PUB %b %d\r\n%b\r\n" % (user.encode(), len(payload), payload)


class Redis(Dialect):
    """A channel. Each PUBLISH is answered; nothing turns that off for a publisher alone."""

    tail = b"\r\n"

    def sign_in(self, users: Sequence[str]) -> list[list[bytes]]:
        """PING."""
        return [[b"*1\r\n$4\r\nPING\r\n"]]

    def join(self) -> list[bytes]:
        """SUBSCRIBE."""
        return [b"*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\ng\r\n"]

    def leave(self) -> list[bytes]:
        """UNSUBSCRIBE."""
        return [b"*2\r\n$11\r\nUNSUBSCRIBE\r\n$1\r\ng\r\n"]

    def message(self, payload: bytes) -> bytes:
        """PUBLISH."""
        return self.direct("g", payload)

    def receiving(self, users: Sequence[str]) -> list[list[bytes]]:
        """SUBSCRIBE to a channel with the name of the user."""
        subscribe = b"*2\r\n$9\r\nSUBSCRIBE\r\n$%d\r\n%b\r\n"
        return [*self.sign_in(users), [subscribe % (len(user), user.encode()) for user in users]]

    def direct(self, user: str, payload: bytes) -> bytes:
        """PUBLISH on that channel."""
        publish = b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
        return publish % (len(user), user.encode(), len(payload), payload)


class Ws(Dialect):
    """peers/ws.js: every client is a member. A text message is answered, which says that the connection is served."""

    is_websocket = True

    def sign_in(self, users: Sequence[str]) -> list[list[bytes]]:
        """The upgrade and a text message."""
        return [[_UPGRADE.format("/").encode()], [_masked(b"hello", 1)]]

    def message(self, payload: bytes) -> bytes:
        """A binary message."""
        return payload

    def receiving(self, users: Sequence[str]) -> list[list[bytes]]:
        """With another path messages have an address, and the text is the name of the user."""
        return [[_UPGRADE.format("/direct").encode()], [_masked(user.encode(), 1) for user in users]]

    def sending(self, users: Sequence[str]) -> list[list[bytes]]:
        """Likewise."""
        return self.receiving(users)

    def direct(self, user: str, payload: bytes) -> bytes:
        """Behind the length of a name, and the name."""
        return bytes((len(user),)) + user.encode() + payload


class SocketIo(Dialect):
    """peers/socketio.js: engine.io version 4, the default namespace, a room."""

    is_websocket = True
    tail = b""

    def sign_in(self, users: Sequence[str]) -> list[list[bytes]]:
        """The upgrade, answered with the handshake too, then CONNECT."""
        return [[_UPGRADE.format("/socket.io/?EIO=4&transport=websocket").encode()], [_masked(b"40", 1)]]

    def join(self) -> list[bytes]:
        """An event with an acknowledgement."""
        return [self.written(b'420["join"]')]

    def leave(self) -> list[bytes]:
        """Likewise."""
        return [self.written(b'420["leave"]')]

    def written(self, inner: bytes) -> bytes:
        """Text."""
        return _masked(inner, 1)

    def message(self, payload: bytes) -> bytes:
        """An event without one."""
        return b'42["p","%b"]' % payload

    def receiving(self, users: Sequence[str]) -> list[list[bytes]]:
        """A room with the name of the user."""
        return [*self.sign_in(users), [self.written(b'420["name","%b"]' % user.encode()) for user in users]]

    def direct(self, user: str, payload: bytes) -> bytes:
        """To that room."""
        return b'42["d","%b","%b"]' % (user.encode(), payload)


def dialect_named(name: str, secret: str) -> Dialect:
    """The dialect of a server of `benchmarks.servers`."""
    if re.match("meshrelay", name):
        return MeshrelayWebSocket(secret) if name.endswith("websocket") else Meshrelay(secret)
    if name == "crossbar":
        from benchmarks.dialects_more import Crossbar

        return Crossbar()
    return {"coalesce": Coalesce, "nats": Nats, "redis": Redis, "ws": Ws, "socketio": SocketIo}[name]()
