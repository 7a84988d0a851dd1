"""``meshrelay relay pipe``: standard input and output of two processes, connected through any NetBird relay.

::

    stdin --> Pipe --> RelayStream --> relay --> RelayStream --> Pipe --> stdout      and the same the other way
                       or, raw, one message of the relay for each read
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from typing import Protocol as TypingProtocol

import click
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from zope.interface import implementer

from meshrelay.cli.client_program import run_on_reactor
from meshrelay.relay.errors import OpenTimedOut, RelayError
from meshrelay.relay.health import attempt_threshold
from meshrelay.relay_client.client import RelayClient
from meshrelay.relay_client.conn import RelayConn
from meshrelay.relay_client.options import RelayOptions, TransportMode
from meshrelay.relay_client.stream import RelayStream
from meshrelay.relay_client.token_store import TokenSource

__all__ = ["Pipe", "PipeStream", "PipeTarget", "RawStream", "Traffic", "run_pipe"]

#: Larger than what QUIC's datagrams are for: leaves WebSocket alone.
_STREAM_MTU = 1400


@dataclass(frozen=True, slots=True)
class PipeTarget:
    """Which relay, as whom, to whom."""

    url: str
    peer: str
    to: str
    tokens: TokenSource | None
    ca_file: str | None
    transport: TransportMode
    is_raw: bool

    def options(self) -> RelayOptions:
        """Return those of the client."""
        mtu = 0 if self.is_raw else _STREAM_MTU
        # The names of the environment are upstream's, so that both clients of a machine are told the same.
        threshold = attempt_threshold(os.environ.get("NB_RELAY_HC_ATTEMPT_THRESHOLD"))
        return RelayOptions(transport=self.transport, ca_file=self.ca_file, mtu=mtu, health_threshold=threshold)


class Traffic:
    """Bytes so far, as a line for people."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self.sent_bytes = 0
        self.received_bytes = 0
        self._seconds = seconds
        self._began_at = self._last_at = seconds()
        self._last = (0, 0)

    def line(self) -> str:
        """Return the totals, with the speed since the last time."""
        now = self._seconds()
        took = max(now - self._last_at, 1e-3)
        sent, received = self.sent_bytes - self._last[0], self.received_bytes - self._last[1]
        self._last_at = now
        self._last = (self.sent_bytes, self.received_bytes)
        return self._text(sent / took, received / took)

    def summary(self) -> str:
        """Return the totals, with the speed over all."""
        took = max(self._seconds() - self._began_at, 1e-3)
        return self._text(self.sent_bytes / took, self.received_bytes / took)

    def _text(self, sent_rate: float, received_rate: float) -> str:
        return (
            f"sent {_size(self.sent_bytes)} ({_size(sent_rate)}/s), "
            f"received {_size(self.received_bytes)} ({_size(received_rate)}/s)"
        )


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


class PipeStream(TypingProtocol):
    """What a pipe needs of a stream; see `RelayStream`."""

    def write(self, data: bytes) -> bool:
        """Send bytes; False: no more until `Pipe.drained`."""

    def finish(self) -> None:
        """Send no more."""

    def abort(self) -> None:
        """End it."""

    def pause_reading(self) -> None:
        """Give out nothing."""

    def resume_reading(self) -> None:
        """Go on."""


class RawStream:
    """Messages as they are, for peers that are not this program: some may be lost, and nobody says when it is over."""

    def __init__(self, conn: RelayConn, pipe: Pipe) -> None:
        self._conn = conn
        self._pipe = pipe
        self._writing: Deferred[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._conn.on_closed(self._pipe.stream_ended)
        self._read()

    def write(self, data: bytes) -> bool:
        """See `RelayStream`."""
        self._writing = Deferred.fromCoroutine(self._write(data))
        self._writing.addCallbacks(lambda _: self._pipe.drained(), lambda failure: failure.trap(RelayError))
        return False

    def finish(self) -> None:
        """The peer cannot be told: go on reading."""

    def abort(self) -> None:
        """See `RelayStream`."""
        with suppress(RelayError):
            self._conn.close()

    def pause_reading(self) -> None:
        """The queue of the connection fills, and drops."""
        self._pipe.is_reading = False

    def resume_reading(self) -> None:
        """See `pause_reading`."""
        self._pipe.is_reading = True
        self._read()

    async def _write(self, data: bytes) -> None:
        size = self._conn.max_payload_bytes
        for start in range(0, len(data), size):
            await self._conn.write(data[start : start + size])

    def _read(self) -> None:
        self._conn.read().addCallbacks(self._message, lambda failure: failure.trap(RelayError))

    def _message(self, message: bytes) -> None:
        self._pipe.data_received(message)
        if self._pipe.is_reading:
            self._read()


@implementer(IHalfCloseableProtocol, IPushProducer)
class Pipe(Protocol):
    """Between standard input and output and a stream.

    :param is_interactive: somebody types: nobody waits for the end of that when the peer has finished.
    :ivar ended: fires when all is done; fails with a `RelayError`.
    """

    def __init__(self, traffic: Traffic, is_interactive: bool) -> None:
        self.is_reading = True
        self.ended: Deferred[None] = Deferred()
        self._traffic = traffic
        self._is_interactive = is_interactive
        self._stream: Any = None
        self._stdio: Any = None
        self._error: RelayError | None = None
        self._has_peer_finished = False
        #: All is done when these three are.
        self._open = {"stream", "input", "output"}

    def join(self, stream: PipeStream) -> None:
        """Let bytes flow through this stream; to be called before there is a transport."""
        self._stream = stream

    def connectionMade(self) -> None:
        self._stdio = self.transport
        self._stdio.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:
        self._traffic.sent_bytes += len(data)
        if not self._stream.write(data):
            self._stdio.pauseProducing()

    def readConnectionLost(self) -> None:
        self._stream.finish()
        self._closed("input")

    def writeConnectionLost(self) -> None:
        self._closed("output")
        # Ours alone if the peer has finished.
        if not self._has_peer_finished:
            self._stream.abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._closed("input", "output")

    def pauseProducing(self) -> None:
        self._stream.pause_reading()

    def resumeProducing(self) -> None:
        self._stream.resume_reading()

    def stopProducing(self) -> None:
        """Standard output is gone; writeConnectionLost follows."""

    def data_received(self, data: bytes) -> None:
        """Called by the stream."""
        self._traffic.received_bytes += len(data)
        self._stdio.write(data)

    def drained(self) -> None:
        """Called by the stream."""
        self._stdio.resumeProducing()

    def peer_finished(self) -> None:
        """Called by the stream."""
        self._has_peer_finished = True
        self._stdio.unregisterProducer()
        self._stdio.loseWriteConnection()
        if self._is_interactive:
            self._stream.finish()

    def stream_ended(self, error: RelayError | None) -> None:
        """Called by the stream."""
        self._error = self._error or error
        self._stdio.unregisterProducer()
        self._stdio.loseConnection()
        self._closed("stream")

    def _closed(self, *parts: str) -> None:
        self._open.difference_update(parts)
        if self._open or self.ended.called:
            return
        if self._error is None:
            self.ended.callback(None)
        else:
            self.ended.errback(self._error)


async def _open(client: RelayClient, to: str) -> RelayConn:
    while True:
        try:
            return await client.open_conn(to)
        except OpenTimedOut:
            # Whoever starts first waits for the other, however long.
            continue


async def _piped(reactor: Any, target: PipeTarget, tell: Callable[[str], None] | None) -> None:
    from twisted.internet.stdio import StandardIO

    client = RelayClient(reactor, target.url, target.peer, target.tokens, target.options())
    try:
        await client.connect()
        conn = await _open(client, target.to)
        traffic = Traffic(reactor.seconds)
        pipe = Pipe(traffic, sys.stdin.isatty())
        stream: RelayStream | RawStream = RawStream(conn, pipe)
        if not target.is_raw:
            stream = RelayStream(reactor, conn, target.peer < target.to, secrets.randbits(32), pipe)
        pipe.join(stream)
        StandardIO(pipe, reactor=reactor)
        stream.start()
        ticking = LoopingCall(lambda: tell(f"\r{traffic.line()}   ") if tell else None)
        ticking.clock = reactor
        ticking.start(1.0, now=False)
        try:
            await pipe.ended
        finally:
            ticking.stop()
            if tell is not None:
                tell(f"\r{traffic.summary()}   \n")
    finally:
        await client.close()


def run_pipe(target: PipeTarget) -> None:
    """Connect, pass bytes until both ends have finished, and end the process: status 0, or 1 with a line on stderr."""
    # aioquic's own words would come between the lines of this program, which says what went wrong itself.
    logging.getLogger("quic").addHandler(logging.NullHandler())
    tell = (lambda text: click.echo(text, err=True, nl=False)) if sys.stderr.isatty() else None
    # What is interrupted fails in its own ways; whoever interrupts it knows.
    run_on_reactor(lambda reactor: _piped(reactor, target, tell), lambda _, is_stopping: is_stopping)
