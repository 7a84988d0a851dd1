"""A Redis server without a socket: it reads commands and answers with what a test gives it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from meshrelay.directory.redis_dial import load_redis_library
from meshrelay.errors import ConfigError

try:
    LIBRARY: Any = load_redis_library()
    MISSING = ""
except ConfigError:
    LIBRARY = None
    MISSING = "missing: txredisapi"

#: What a server answers to a command, as bytes of its protocol; None = nothing, as one that hangs.
Answer = Callable[[list[bytes]], bytes | None]


def bulk(text: bytes | str) -> bytes:
    """A string on the wire."""
    data = text.encode() if isinstance(text, str) else text
    return b"$%d\r\n%s\r\n" % (len(data), data)


def array(*items: bytes) -> bytes:
    """A list of encoded items on the wire."""
    return b"*%d\r\n%s" % (len(items), b"".join(items))


class _Transport(StringTransport):
    """The client's end of a connection to a `MemoryRedis`."""

    def __init__(self, server: MemoryRedis) -> None:
        super().__init__()
        self._server = server
        self._unread = b""
        self.protocol: Any = None

    def write(self, data: bytes) -> None:
        """Read whole commands; the answers come in a later turn, as from a network."""
        self._unread += data
        while command := self._next_command():
            self._server.commands.append(command)
            answer = self._server.answer(command)
            if answer is not None:
                self._server.clock.callLater(0, self.deliver, answer)

    def deliver(self, data: bytes) -> None:
        """Hand an answer to the client unless it has gone."""
        if self.connected:
            self.protocol.dataReceived(data)

    def loseConnection(self) -> None:
        """Both ends close at once."""
        if self.connected:
            self.connected = False
            self._server.connections.remove(self)
            self.protocol.connectionLost(Failure(ConnectionDone()))

    def _next_command(self) -> list[bytes] | None:
        if not self._unread:
            return None
        head, _, rest = self._unread.partition(b"\r\n")
        command = []
        for _ in range(int(head[1:])):
            size, _, rest = rest.partition(b"\r\n")
            command.append(rest[: int(size[1:])])
            rest = rest[int(size[1:]) + 2 :]
        self._unread = rest
        return command


class MemoryRedis:
    """A server that `endpoints` leads to.

    :ivar answers: name of a command -> its answer; unknown ones are answered with +OK.
    :ivar is_refusing: nobody listens.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.answers: dict[bytes, Answer] = {
            b"INFO": lambda _: bulk("# Server\r\nrun_id:run1\r\nrole:master\r\nloading:0\r\n"),
            b"SUBSCRIBE": lambda command: array(bulk("subscribe"), bulk(command[1]), b":1\r\n"),
        }
        self.commands: list[list[bytes]] = []
        self.connections: list[_Transport] = []
        self.dialed: list[tuple[str, int]] = []
        self.is_refusing = False

    def answer(self, command: list[bytes]) -> bytes | None:
        """What the test wants."""
        make = self.answers.get(command[0])
        return b"+OK\r\n" if make is None else make(command)

    def endpoints(self, host: str, port: int) -> IStreamClientEndpoint:
        """As `make_endpoints` makes them."""
        return _Endpoint(self, host, port)

    def turn(self, seconds: float = 0.0) -> None:
        """Let time pass, and whatever follows from it in the same moment."""
        self.clock.advance(seconds)
        self.clock.pump([0.0] * 10)

    def cut(self) -> None:
        """Lose all connections."""
        for connection in list(self.connections):
            connection.loseConnection()

    def said(self, name: bytes) -> list[list[bytes]]:
        """The commands of one name that came in."""
        return [command for command in self.commands if command[0] == name]


@implementer(IStreamClientEndpoint)
class _Endpoint:
    def __init__(self, server: MemoryRedis, host: str, port: int) -> None:
        self._server = server
        self._address = (host, port)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """Connect, or be refused, at once."""
        self._server.dialed.append(self._address)
        if self._server.is_refusing:
            return fail(ConnectionRefusedError())
        transport = _Transport(self._server)
        transport.protocol = protocol = protocolFactory.buildProtocol(None)  # type: ignore[arg-type]
        self._server.connections.append(transport)
        assert protocol is not None
        protocol.makeConnection(transport)
        return succeed(protocol)
