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

    __slots__ = ("_counters", "_outbox", "_send", "_transport")

    def __init__(self, transport: Any, counters: TransportCounters) -> None:
        self._transport = transport
        self._counters = counters
        self._send = _direct_send(transport)
        self._outbox: PausableOutbox | None = None

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

    def write(self, data: bytes) -> None:
        """See `IStreamWriter`."""
        transport = self._transport
        send = self._send
        if (
            send is not None
            and not transport._tempDataBuffer
            and not transport.dataBuffer
            and transport.connected
            and not transport.disconnecting
        ):
            try:
                sent = send(data)
            except OSError:
                # Full, interrupted or dead: the transport's own write finds out which, and says so in the usual way.
                sent = 0
            if sent == len(data):
                self._counters.direct_writes += 1
                return
            data = data[sent:]
        self._counters.transport_writes += 1
        transport.write(data)

    def finish(self) -> None:
        """See `IStreamWriter`."""
        self.release()
        self._transport.loseConnection()

    def release(self) -> None:
        """No longer be the producer; a TLS transport does not close while it has one."""
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
        self._outbox = None
