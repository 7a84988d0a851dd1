"""The transport of a Twisted protocol that talks to a peer through a relay."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from twisted.internet.defer import maybeDeferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IProtocol, IPushProducer, ITransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from meshrelay.relay.errors import ConnClosed, PayloadTooLarge, RelayError
from meshrelay.relay_client.errors import SendQueueFull

__all__ = ["RelayTransport"]


class _Conn(Protocol):
    """What is needed of `meshrelay.relay_client.conn.RelayConn`."""

    @property
    def is_closed(self) -> bool: ...

    @property
    def local_addr(self) -> Any: ...

    @property
    def remote_addr(self) -> Any: ...

    @property
    def max_payload_bytes(self) -> int: ...

    def write_nowait(self, payload: bytes) -> None: ...

    def message_arrived(self) -> None: ...

    def close(self) -> None: ...


@implementer(ITransport, IPushProducer, IConsumer)
class RelayTransport:
    """Made by `RelayConn.attach`.

    The protocol is told of the end in a turn of its own: `ConnectionDone` when it asked for it, else `ConnectionLost`.

    :ivar is_paused: the protocol wants nothing now. The relay's queue for it is short.
    """

    _log = Logger()

    def __init__(self, conn: _Conn, protocol: IProtocol, clock: Any) -> None:
        self.is_paused = False
        self.disconnecting = False
        self._conn = conn
        self._protocol: Any = protocol
        self._clock = clock
        self._producer: Any = None
        self._is_streaming = True
        self._is_behind = False

    def start(self) -> None:
        """Tell the protocol that it is connected."""
        self._call(self._protocol.makeConnection, self)

    def deliver(self, message: bytes) -> None:
        """Give the protocol one message."""
        self._call(self._protocol.dataReceived, message)

    def write(self, data: bytes) -> None:
        """Send bytes, in as many messages as it takes. Whoever writes without heeding a full buffer is cut off."""
        if self.disconnecting and self._producer is None:
            return
        try:
            size = self._conn.max_payload_bytes
            for start in range(0, len(data), size):
                self._conn.write_nowait(data[start : start + size])
        except (ConnClosed, PayloadTooLarge):
            # It is over, or the path has become narrower in this moment: then it is as if it was lost on the way.
            return
        except SendQueueFull as error:
            self._log.info("protocol {protocol} cut off: {error}", protocol=self._protocol, error=error)
            self.abortConnection()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        self.disconnecting = True
        if self._producer is None:
            self._close()

    def abortConnection(self) -> None:
        self.disconnecting = True
        self._close()

    def getPeer(self) -> Any:
        return self._conn.remote_addr

    def getHost(self) -> Any:
        return self._conn.local_addr

    def pauseProducing(self) -> None:
        self.is_paused = True

    def resumeProducing(self) -> None:
        self.is_paused = False
        if not self._conn.is_closed:
            self._conn.message_arrived()

    def stopProducing(self) -> None:
        self.loseConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self._producer is not None:
            raise RuntimeError("there is a producer already")
        self._take_producer(producer, streaming)

    def unregisterProducer(self) -> None:
        self._producer = None
        if self.disconnecting:
            self._close()

    def flow_changed(self, is_behind: bool) -> None:
        """Called when the way to the server is full, and when it is free again."""
        self._is_behind = is_behind
        producer = self._producer
        if producer is None:
            return
        if is_behind and self._is_streaming:
            self._call(producer.pauseProducing)
        elif not is_behind:
            self._call(producer.resumeProducing)

    def conn_ended(self, error: RelayError) -> None:
        """Called when the connection is over."""
        reason = ConnectionDone() if self.disconnecting else ConnectionLost(str(error))
        self.disconnecting = True
        producer, self._producer = self._producer, None
        if producer is not None:
            self._call(producer.stopProducing)
        self._clock.callLater(0, self._call, self._protocol.connectionLost, Failure(reason))

    def _take_producer(self, producer: Any, is_streaming: bool) -> None:
        if self._conn.is_closed:
            producer.stopProducing()
            return
        self._producer = producer
        self._is_streaming = is_streaming
        if not is_streaming and not self._is_behind:
            producer.resumeProducing()
        elif is_streaming and self._is_behind:
            producer.pauseProducing()

    def _close(self) -> None:
        try:
            self._conn.close()
        except ConnClosed:
            return

    def _call(self, method: Any, *arguments: Any) -> None:
        # What a protocol raises must not end the connection to the server, which others use too.
        maybeDeferred(method, *arguments).addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        self._log.failure("protocol {protocol} failed", failure=failure, protocol=self._protocol)
        self.abortConnection()
