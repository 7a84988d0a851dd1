"""Writes straight to the socket where nothing is buffered, and through the transport everywhere else.

``transport.write`` never touches the socket: it stores, asks the reactor for a wake-up and writes then, which for each
receiver costs two epoll calls and a turn. In a fan-out almost every socket can take the bytes at once, so this module
tries first and hands over only the rest. It is the one place that knows something of Twisted's insides:

* ``tcp.Connection`` keeps what it has not written in ``dataBuffer`` and ``_tempDataBuffer``, and only there; while
  both are empty and it is not closing, bytes that go to its socket directly keep their order;
* it finds out about a dead socket by its own reads and writes, so an error here may be left for it to meet.

tests/transport/test_direct_write.py pins both. TLS, HAProxy and any unknown transport go through ``write``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet import tcp
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from meshrelay.counters import TransportCounters
from meshrelay.interfaces import IStreamWriter

__all__ = ["DirectWriter", "PausableOutbox"]


class PausableOutbox(Protocol):
    """Who is told when to wait."""

    def writing_paused(self) -> None:
        """Hand over nothing more for now."""

    def writing_resumed(self) -> None:
        """Go on."""


def _direct_send(transport: Any) -> Callable[[bytes], int] | None:
    """The ``send`` of the transport's socket, if bytes may bypass the transport."""
    if isinstance(transport, tcp.Connection) and not transport.TLS:
        send: Callable[[bytes], int] = transport.socket.send
        return send
    return None


@implementer(IStreamWriter, IPushProducer)
class DirectWriter:
    """See `IStreamWriter`. To the transport it is the producer of everything written.

    :param transport: any stream transport of Twisted.
    """

    __slots__ = ("_counters", "_is_clear", "_outbox", "_send", "_transport")

    def __init__(self, transport: Any, counters: TransportCounters) -> None:
        self._transport = transport
        self._counters = counters
        self._send = _direct_send(transport)
        self._outbox: PausableOutbox | None = None
        #: Nothing was in the way of a direct send, and nobody has written in another way since.
        self._is_clear = False

    def start(self, outbox: PausableOutbox) -> None:
        """Tell `outbox` when to wait, from now on."""
        self._outbox = outbox
        self._transport.registerProducer(self, True)

    @property
    def buffered_bytes(self) -> int:
        """What the transport has taken and not written, where it can be known."""
        transport = self._transport
        if self._send is None:
            return 0
        return int(len(transport.dataBuffer) - transport.offset + transport._tempDataLen)

    def direct_send(self) -> Callable[[bytes], int] | None:
        """See `IStreamWriter`."""
        if not self._is_clear and (self._send is None or not self._becomes_clear()):
            return None
        self._counters.direct_writes += 1
        return self._send

    def _becomes_clear(self) -> bool:
        transport = self._transport
        self._is_clear = (
            not transport._tempDataBuffer
            and not transport.dataBuffer
            and bool(transport.connected)
            and not transport.disconnecting
        )
        return self._is_clear

    def not_sent(self, rest: bytes) -> None:
        """See `IStreamWriter`."""
        # Full, interrupted or dead: the transport's own write finds out which, and says so in the usual way.
        self._counters.direct_writes -= 1
        self._buffer(rest)

    def _buffer(self, data: bytes) -> None:
        self._is_clear = False
        self._counters.transport_writes += 1
        self._transport.write(data)

    def write(self, data: bytes) -> None:
        """See `IStreamWriter`."""
        send = self.direct_send()
        if send is None:
            self._buffer(data)
            return
        try:
            sent = send(data)
        except OSError:
            sent = 0
        if sent < len(data):
            self.not_sent(data[sent:])

    def finish(self) -> None:
        """See `IStreamWriter`."""
        self.release()
        self._transport.loseConnection()

    def release(self) -> None:
        """No longer be the producer; a TLS transport does not close while it has one.

        Whoever writes or closes from here on does it by the transport itself.
        """
        self._is_clear = False
        if self._outbox is not None:
            self._outbox = None
            self._transport.unregisterProducer()

    def pauseProducing(self) -> None:
        """See `IPushProducer`: the transport's buffer is full."""
        if self._outbox is not None:
            self._outbox.writing_paused()

    def resumeProducing(self) -> None:
        """See `IPushProducer`: the transport's buffer is empty."""
        if self._outbox is not None:
            self._outbox.writing_resumed()

    def stopProducing(self) -> None:
        """See `IPushProducer`: the transport is closing."""
        self._is_clear = False
        self._send = None
        self._outbox = None
