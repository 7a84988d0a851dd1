"""Bytes in order and without loss between two peers of a relay, each of which puts this on top of its `RelayConn`.

A relay may drop messages when a receiver is slow, and says nothing about the end of a peer's connection. The reliable
machine of the daemon's UDP, `meshrelay.machine.reliability`, adds both: order, repetition and a window; and an end for
each direction. One message of the relay is one packet of the machine::

    byte 0   `meshrelay.wire.datagram.PacketKind`
    byte 1.. content of the packet; nothing is sealed, which is for the two ends to do inside the stream
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from meshrelay.errors import PacketRejected
from meshrelay.machine.reliability import (
    Closed,
    Event,
    Finished,
    MessageReceived,
    PeerFinished,
    ReliabilityMachine,
    ReliabilityOptions,
    State,
)
from meshrelay.relay.errors import ConnClosed, RelayError
from meshrelay.relay_client.conn import RelayConn
from meshrelay.relay_client.errors import SendQueueFull, StreamBroken
from meshrelay.wire.datagram import PacketKind

__all__ = ["PACKET_BYTES", "RelayStream", "StreamReceiver"]

#: Longest message of the relay that is sent; longer than a QUIC datagram holds, so this needs a WebSocket.
PACKET_BYTES = 1359

#: Bytes queued and not acknowledged from which on the program is asked to pause, and to go on.
_PAUSE_BYTES = 524288
_RESUME_BYTES = 262144

_CHUNK_BYTES = 65536

#: After the end, for the case that the peer has not heard that we have heard of it.
_LINGER_SECONDS = 0.3

_KINDS = {kind.value: kind for kind in PacketKind}


class StreamReceiver(Protocol):
    """What a stream calls; its owner."""

    def data_received(self, data: bytes) -> None:
        """Some of the peer's bytes, in order."""

    def peer_finished(self) -> None:
        """The peer sends nothing more, and all was received."""

    def drained(self) -> None:
        """There is room again, after `write` has returned False."""

    def stream_ended(self, error: RelayError | None) -> None:
        """It is over: None when both ends had finished and have all bytes. The last call."""


class _Ears(TwistedProtocol):
    """Takes the messages of the connection."""

    noisy = False

    def __init__(self, received: Callable[[bytes], None]) -> None:
        self._received = received

    def dataReceived(self, data: bytes) -> None:
        self._received(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The stream hears of it from the connection."""


class RelayStream:
    """See the module.

    :param is_first: this end begins; of two peers the one whose name sorts first.
    :param first_sequence: 0 to 2^32 - 1, random.
    """

    def __init__(
        self, reactor: Any, conn: RelayConn, is_first: bool, first_sequence: int, receiver: StreamReceiver
    ) -> None:
        self._reactor = reactor
        self._conn = conn
        self._is_first = is_first
        self._receiver = receiver
        options = ReliabilityOptions(send_buffer_bytes=2 * _PAUSE_BYTES, receive_window_packets=1024)
        self._machine = ReliabilityMachine(is_first, first_sequence, options)
        self._is_wanted = False
        self._is_finishing = False
        self._has_peer_finished = False
        self._is_over = False
        self._is_reading = True
        #: Why nothing goes through any more.
        self._lost: str | None = None
        self._timer: IDelayedCall | None = None
        self._lingering: IDelayedCall | None = None

    def start(self) -> None:
        """Begin; the peer may begin later."""
        if self._is_first:
            self._machine.connect(self._reactor.seconds())
        self._conn.on_closed(self._conn_closed)
        self._conn.attach(_Ears(self._message_received))
        self._work()

    def write(self, data: bytes) -> bool:
        """Send bytes.

        :returns: False: enough waits, send the next ones after `drained`. Whoever goes on nevertheless has the stream
            broken at twice that much.
        """
        for start in range(0, len(data), _CHUNK_BYTES):
            if self._is_over:
                return True
            self._push(data[start : start + _CHUNK_BYTES])
        self._work()
        self._is_wanted = self._machine.buffered_bytes >= _PAUSE_BYTES
        return not self._is_wanted

    def finish(self) -> None:
        """Send nothing more after what was written."""
        self._is_finishing = True
        self._machine.finish()
        self._work()

    def abort(self) -> None:
        """End it, whatever waits."""
        self._end(ConnClosed())

    def pause_reading(self) -> None:
        """Give out nothing, until `resume_reading`; the peer is slowed down."""
        self._is_reading = False

    def resume_reading(self) -> None:
        """See `pause_reading`."""
        self._is_reading = True
        self._work()

    def _push(self, data: bytes) -> None:
        if self._machine.buffered_bytes + len(data) > 2 * _PAUSE_BYTES:
            self._end(StreamBroken("the program wrote more than there is room for"))
            return
        self._machine.send_message(data)

    def _message_received(self, message: bytes) -> None:
        kind = _KINDS.get(message[0]) if message else None
        if kind is None or self._is_over:
            return
        with suppress(PacketRejected):
            # The machine counts it; what is no packet of the stream is passed over.
            self._machine.receive_packet(kind, message[1:], self._reactor.seconds())
        self._work()

    def _work(self) -> None:
        if self._is_over:
            return
        self._take_events()
        if self._is_over:
            return
        if self._lost is not None:
            # What has arrived is given out first, however long the program takes for it.
            if self._is_reading:
                self._broken(self._lost)
            return
        for kind, content in self._machine.packets_to_send(self._reactor.seconds()):
            with suppress(SendQueueFull, ConnClosed):
                # As if it was lost on the way: it is sent again, or the connection is over anyway.
                self._conn.write_nowait(bytes((kind,)) + content)
        if self._is_wanted and self._machine.buffered_bytes <= _RESUME_BYTES:
            self._is_wanted = False
            self._receiver.drained()
        self._set_timer()

    def _take_events(self) -> None:
        while self._is_reading and not self._is_over:
            event = self._machine.next_event()
            if event is None:
                return
            self._take(event)

    def _take(self, event: Event) -> None:
        if isinstance(event, MessageReceived):
            self._receiver.data_received(event.data)
        elif isinstance(event, PeerFinished):
            self._has_peer_finished = True
            self._receiver.peer_finished()
        elif isinstance(event, Finished):
            self._lingering = self._reactor.callLater(_LINGER_SECONDS, self._linger)
        elif isinstance(event, Closed):
            self._broken(event.text)

    def _linger(self) -> None:
        if self._machine.next_deadline() is None:
            self._end(None)
        else:
            self._lingering = self._reactor.callLater(_LINGER_SECONDS, self._linger)

    def _conn_closed(self, error: RelayError) -> None:
        self._lost = f"the peer, or the relay, went: {error}"
        self._work()

    def _broken(self, text: str) -> None:
        # A peer that has all and has said all may go before we have heard that it heard our end.
        is_done = self._has_peer_finished and self._is_finishing and not self._machine.buffered_bytes
        self._end(None if is_done else StreamBroken(text))

    def _end(self, error: RelayError | None) -> None:
        if self._is_over:
            return
        self._is_over = True
        for timer in (self._timer, self._lingering):
            if timer is not None and timer.active():
                timer.cancel()
        with suppress(ConnClosed):
            self._conn.close()
        self._receiver.stream_ended(error)

    def _set_timer(self) -> None:
        at = self._machine.next_deadline()
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        if at is not None and not self._is_over and self._machine.state is not State.CLOSED:
            self._timer = self._reactor.callLater(max(0.0, at - self._reactor.seconds()), self._deadline_passed)

    def _deadline_passed(self) -> None:
        self._timer = None
        if self._lost is None:
            self._machine.deadline_passed(self._reactor.seconds())
        self._work()
