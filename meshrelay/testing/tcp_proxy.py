"""A bad network in front of a real TCP port: streams of clients in, the same but late to the target; and back.

Nothing is lost: what a segment's loss costs is modelled by `StreamPath`, whose text says how, and what is not in the
model. While a path is a black hole its bytes wait, as they would in the kernels of both ends. An end that closes half
of its connection closes all of it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from meshrelay.testing.impairment import StreamPath

__all__ = ["MAX_CONNECTIONS", "MAX_HELD_BYTES", "TcpProxy"]

#: Clients at the same time; more are turned away.
MAX_CONNECTIONS = 1024

#: Bytes of one direction of a connection that are on their way; then its writer waits.
MAX_HELD_BYTES = 1024 * 1024

#: What a segment carries on Ethernet.
_SEGMENT_BYTES = 1448


@implementer(IPushProducer)
class _Way:
    """One direction of one connection: what `source` sends goes to `target`, later."""

    def __init__(self, connection: _Connection, path: StreamPath) -> None:
        self._connection = connection
        self._clock = connection.proxy
        self.path = path
        self.source: Any = None
        self.target: Any = None
        # (when it arrives, bytes); empty bytes = the end of the stream.
        self._held: deque[tuple[float, bytes]] = deque()
        self._held_bytes = 0
        self._is_over = False
        self._is_target_full = False
        self._is_paused = False
        self._timer: Any = None

    def take(self, data: bytes) -> None:
        """Send `data` on its way, in segments."""
        if self._is_over:
            return
        now = self._clock.now()
        for start in range(0, len(data), _SEGMENT_BYTES):
            segment = data[start : start + _SEGMENT_BYTES]
            arrival = self.path.arrival(len(segment), now)
            if arrival is None:
                self._connection.abort()
                return
            self._held.append((arrival, segment))
            self._held_bytes += len(segment)
        self._pause_or_resume()
        self.deliver_due()

    def end(self) -> None:
        """Close the target when everything has arrived."""
        last = self._held[-1][0] if self._held else self._clock.now() + self.path.impairment.delay_seconds
        self._held.append((last, b""))
        self.deliver_due()

    def stop(self) -> None:
        """Deliver nothing more."""
        self._is_over = True
        self.source = self.target = None
        self._held.clear()
        self._held_bytes = 0
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def deliver_due(self) -> None:
        """Write what has arrived, and wait for the next."""
        if self.path.is_black_hole or self.target is None:
            return
        now = self._clock.now()
        while self._held and self._held[0][0] <= now:
            _, segment = self._held.popleft()
            self._held_bytes -= len(segment)
            if segment:
                self.target.write(segment)
            else:
                # With a producer it would wait for more to come.
                self.target.unregisterProducer()
                self.target.loseConnection()
        self._pause_or_resume()
        if self._held and not (self._timer is not None and self._timer.active()):
            self._timer = self._clock.call_later(self._held[0][0] - now, self.deliver_due)

    def _pause_or_resume(self) -> None:
        must_pause = self._is_target_full or self._held_bytes >= MAX_HELD_BYTES
        if must_pause != self._is_paused and self.source is not None:
            self._is_paused = must_pause
            if must_pause:
                self.source.pauseProducing()
            else:
                self.source.resumeProducing()

    def pauseProducing(self) -> None:
        """See `IPushProducer`: the target takes no more."""
        self._is_target_full = True
        self._pause_or_resume()

    def resumeProducing(self) -> None:
        """See `IPushProducer`."""
        self._is_target_full = False
        self._pause_or_resume()

    def stopProducing(self) -> None:
        """See `IPushProducer`: the target is gone, `connectionLost` says so as well."""


class _End(Protocol):
    """One end of a connection through the proxy; `outgoing` takes what it sends."""

    def __init__(self, connection: _Connection, outgoing: _Way, incoming: _Way) -> None:
        self._connection = connection
        self.outgoing = outgoing
        self.incoming = incoming

    def connectionMade(self) -> None:
        """See `Protocol`."""
        self._connection.opened(self)

    def dataReceived(self, data: bytes) -> None:
        """See `Protocol`."""
        self.outgoing.take(data)

    def connectionLost(self, reason: Any = None) -> None:
        """See `Protocol`."""
        self._connection.closed(self)


class _Connection:
    """A client's connection, the one to the target that was made for it, and the two ways between them."""

    def __init__(self, proxy: TcpProxy, there: StreamPath, back: StreamPath) -> None:
        self.proxy = proxy
        self.there = _Way(self, there)
        self.back = _Way(self, back)
        self.client = _End(self, self.there, self.back)
        self.target = _End(self, self.back, self.there)
        self._open_ends: set[_End] = set()
        self.is_over = False

    def opened(self, end: _End) -> None:
        """An end is connected: what was sent to it so far may arrive."""
        transport: Any = end.transport
        transport.setTcpNoDelay(True)
        end.outgoing.source = transport
        end.incoming.target = transport
        self._open_ends.add(end)
        transport.registerProducer(end.incoming, True)
        if end is self.client:
            self.proxy.connect_target(self)
        else:
            end.incoming.deliver_due()

    def closed(self, end: _End) -> None:
        """An end is gone; the other one learns it when all that was sent before has arrived."""
        self._open_ends.discard(end)
        end.outgoing.source = None
        end.incoming.stop()
        if self._open_ends:
            end.outgoing.end()
        if not self._open_ends:
            self.is_over = True
            self.there.stop()
            self.back.stop()
            self.proxy.forget(self)

    def refused(self, _: object) -> None:
        """The target cannot be reached, or the client has left: the client's connection ends as well."""
        if not self.is_over:
            self.proxy.counters["refused"] += 1
            self.stop()

    def abort(self) -> None:
        """Cut it, as a kernel does that has tried often enough."""
        self.proxy.counters["aborted"] += 1
        self.stop()

    def stop(self) -> None:
        """Cut it; both ends learn it at once."""
        for end in list(self._open_ends):
            transport: Any = end.transport
            transport.abortConnection()


class _Clients(Factory):
    """Connections of clients."""

    noisy = False

    def __init__(self, proxy: TcpProxy) -> None:
        self._proxy = proxy

    def buildProtocol(self, addr: Any) -> Protocol | None:
        """See `Factory`."""
        return self._proxy.make_client_end()


class _Target(Factory):
    """The connection to the target for one client."""

    noisy = False

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    def buildProtocol(self, addr: Any) -> Protocol | None:
        """See `Factory`: the client may have left meanwhile."""
        return None if self._connection.is_over else self._connection.target


class TcpProxy:
    """Passes streams on between any number of clients and one target, as slowly as its paths say.

    Time on the paths starts at 0 when the proxy is made. Each connection has lines of its own.

    :param target: IP address and port.
    :param make_there: makes the path to the target of a new connection; `make_back` that to the client.
    """

    def __init__(
        self,
        reactor: Any,
        target: tuple[str, int],
        make_there: Callable[[], StreamPath],
        make_back: Callable[[], StreamPath],
    ) -> None:
        self._reactor = reactor
        self.target = target
        self._make_there = make_there
        self._make_back = make_back
        #: connections, turned_away, refused, aborted.
        self.counters: Counter[str] = Counter()
        #: What the paths of all connections did.
        self.there_counters: Counter[str] = Counter()
        self.back_counters: Counter[str] = Counter()
        self._started_at = reactor.seconds()
        self._connections: set[_Connection] = set()
        self._is_black_hole = False
        self._port: Any = None

    def listen(self, port: int = 0, interface: str = "127.0.0.1") -> tuple[str, int]:
        """Open the port for clients.

        :param port: 0 = any free one.
        :returns: where it is.
        :raises CannotListenError: it is taken.
        """
        self._port = self._reactor.listenTCP(port, _Clients(self), interface=interface)
        host = self._port.getHost()
        return host.host, host.port

    @property
    def connection_count(self) -> int:
        """Connections of clients that are open, at most `MAX_CONNECTIONS`."""
        return len(self._connections)

    def set_black_hole(self, is_on: bool) -> None:
        """Let nothing through in either direction, or let it through again; what was held back comes at once."""
        self._is_black_hole = is_on
        for connection in list(self._connections):
            for way in (connection.there, connection.back):
                way.path.is_black_hole = is_on
                way.deliver_due()

    def close(self) -> Deferred[Any]:
        """Close the port and cut all connections; fires when the port is closed."""
        for connection in list(self._connections):
            connection.stop()
        port, self._port = self._port, None
        return maybeDeferred(port.stopListening)

    def now(self) -> float:
        """Seconds since the proxy was made."""
        seconds: float = self._reactor.seconds() - self._started_at
        return seconds

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Any:
        """See `IReactorTime`."""
        return self._reactor.callLater(max(0.0, seconds), callback)

    def make_client_end(self) -> Protocol | None:
        """Return what serves a new client; None = there are too many."""
        if len(self._connections) >= MAX_CONNECTIONS:
            self.counters["turned_away"] += 1
            return None
        there, back = self._make_there(), self._make_back()
        there.counters, back.counters = self.there_counters, self.back_counters
        there.is_black_hole = back.is_black_hole = self._is_black_hole
        connection = _Connection(self, there, back)
        self._connections.add(connection)
        self.counters["connections"] += 1
        return connection.client

    def connect_target(self, connection: _Connection) -> None:
        """Open the other half of a connection."""
        host, port = self.target
        endpoint = (TCP6ClientEndpoint if ":" in host else TCP4ClientEndpoint)(self._reactor, host, port)
        endpoint.connect(_Target(connection)).addErrback(connection.refused)

    def forget(self, connection: _Connection) -> None:
        """Both ends of a connection are gone."""
        self._connections.discard(connection)
