"""One WebSocket of the overlay after its opening handshake, at either end: frames of a peer in messages.

::

    socket --> OverlayWebSocket --frames--> ILinkReceiver
    socket <-- DirectWriter <-- OverlayQueue <-- OverlayWebSocket <-- the peer

It is the transport's protocol and the peer's link in one object, for there may be ten thousand idle ones. Frames leave
as text; text and binary messages are read, in one piece or in many. All deadlines are looked after by one alarm.

============================  ========================================================================
nothing heard for 25 s        a ping is sent, and another one 25 s later
nothing heard for 60 s        the connection is dropped
nothing taken for 30 s        the connection is dropped
a message not over in 60 s    the connection is dropped
3 s after a close frame       the connection is dropped, if the other end has not answered
============================  ========================================================================

Source: npm peer-relay 0.0.2; RFC 6455.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from enum import Enum, unique
from typing import Any, NamedTuple

from twisted.internet.interfaces import ITCPTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from meshrelay.background import Alarm, Alarms
from meshrelay.counters import TransportCounters
from meshrelay.fanout.turn import Turn
from meshrelay.overlay.interfaces import ILinkReceiver, IOverlayLink, LinkOpened
from meshrelay.transport.direct_write import DirectWriter
from meshrelay.transport.overlay_queue import MAX_WAITING_BYTES, OverlayQueue
from meshrelay.transport.stream_link import peer_of
from meshrelay.wire.websocket import Opcode, encode_close, encode_header
from meshrelay.wire.websocket_client import MASK_BYTES, ServerFrameDecoder, encode_masked
from meshrelay.wire.websocket_decoder import INVALID_PAYLOAD, OVERSIZED, BrokenWebSocket, WebSocketDecoder, unmask

__all__ = [
    "CLOSE_SECONDS",
    "DEAD_SECONDS",
    "MAX_FRAME_BYTES",
    "MESSAGE_SECONDS",
    "OWN_HEADER",
    "PING_SECONDS",
    "STALLED_SECONDS",
    "LinkTraits",
    "OverlaySocketCounters",
    "OverlaySocketParts",
    "OverlayWebSocket",
    "is_own_header",
]

#: Longer messages are neither taken nor sent; the same as `meshrelay.wire.overlay.MAX_ENVELOPE_BYTES`.
MAX_FRAME_BYTES = 262_144

#: Header of requests and answers by which meshrelay knows meshrelay; others pass over it.
OWN_HEADER = ("Meshrelay-Overlay", "1")

PING_SECONDS = 25.0
DEAD_SECONDS = 60.0
STALLED_SECONDS = 30.0
MESSAGE_SECONDS = 60.0
CLOSE_SECONDS = 3.0

#: Between two looks at the deadlines. Without it one that is a rounding error away would be looked at without end.
_SHORTEST_SECONDS = 0.1

#: Close codes (RFC 6455, section 7.4.1).
_NORMAL = 1000
_TOO_BIG = 1009
_INTERNAL_ERROR = 1011

_TEXT = Opcode.TEXT.value
_BINARY = Opcode.BINARY.value
_PING = Opcode.PING.value
_PONG = Opcode.PONG.value
_CLOSE = Opcode.CLOSE.value


def is_own_header(headers: Mapping[str, str]) -> bool:
    """Return whether the other end says that it is meshrelay.

    :param headers: with names in lower case.
    """
    name, value = OWN_HEADER
    return headers.get(name.lower()) == value


class OverlaySocketCounters(TransportCounters):
    """What went through all WebSockets of the overlay."""

    __slots__ = ("closes", "dropped_frames", "refused")

    def __init__(self) -> None:
        super().__init__()
        #: Why we ended a connection -> how often: oversized, broken, silent, stalled, unfinished, failed.
        self.closes: Counter[str] = Counter()
        #: Why a connection never was a link -> how often: full, address, origin, busy, handshake_timeout,
        #: handshake_bytes.
        self.refused: Counter[str] = Counter()
        #: Frames that did not fit into the queue of their link.
        self.dropped_frames = 0


class OverlaySocketParts(NamedTuple):
    """What all WebSockets of a peer share, dialled or accepted.

    :ivar random_bytes: makes masks; must be hard to foresee.
    """

    turn: Turn
    alarms: Alarms
    counters: OverlaySocketCounters
    random_bytes: Callable[[int], bytes]
    unmask_long: Callable[[bytes, bytes], bytes] = unmask
    max_waiting_bytes: int = MAX_WAITING_BYTES
    max_frame_bytes: int = MAX_FRAME_BYTES


class LinkTraits(NamedTuple):
    """What the opening handshake has told."""

    is_outgoing: bool
    is_own: bool
    has_origin: bool = False


@unique
class _State(Enum):
    OPEN = "open"
    #: We have sent a close frame and wait for the answer.
    CLOSING = "closing"
    #: Nothing that comes is looked at any more.
    ENDED = "ended"
    #: The transport has lost the connection; TLS cannot be aborted then.
    GONE = "gone"


@implementer(IOverlayLink)
class OverlayWebSocket:
    """See the module, and `IOverlayLink`.

    :param transport: a Twisted transport, connected, behind its opening handshake.
    :param ended: called once when the connection is gone.
    """

    transport_name = "ws"

    __slots__ = (
        "_abort_alarm",
        "_decoder",
        "_ended",
        "_heard_at",
        "_message",
        "_message_began_at",
        "_parts",
        "_pinged_at",
        "_queue",
        "_receiver",
        "_state",
        "_taken_at",
        "_taken_bytes",
        "_traits",
        "_transport",
        "_why",
        "_writer",
        "max_frame_bytes",
        "remote_address",
    )

    _log = Logger()

    def __init__(
        self, transport: Any, parts: OverlaySocketParts, traits: LinkTraits, ended: Callable[[], object] | None = None
    ) -> None:
        self.remote_address = peer_of(transport)
        self.max_frame_bytes = parts.max_frame_bytes
        self._transport = transport
        self._parts = parts
        self._traits = traits
        self._ended = ended
        self._receiver: ILinkReceiver | None = None
        self._state = _State.OPEN
        #: Why it ended, if we know better than the transport.
        self._why = ""
        self._abort_alarm: Alarm | None = None
        decoder = ServerFrameDecoder if traits.is_outgoing else WebSocketDecoder
        self._decoder = decoder(parts.max_frame_bytes, parts.unmask_long)
        #: What has come of a message that is not over; bounded by `max_frame_bytes`. None: there is none.
        self._message: bytearray | None = None
        self._message_began_at = 0.0
        now = parts.alarms.now()
        self._heard_at = self._pinged_at = self._taken_at = now
        self._taken_bytes = 0
        if ITCPTransport.providedBy(transport):
            # Frames of a turn are joined by us: Nagle would only delay the last part.
            transport.setTcpNoDelay(True)
        self._writer = DirectWriter(transport, parts.counters)
        self._queue = OverlayQueue(self._writer, parts.turn, parts.counters, parts.max_waiting_bytes)
        self._writer.start(self._queue)
        parts.counters.connections += 1
        parts.counters.connections_total += 1
        parts.alarms.call_later(PING_SECONDS, self._look)

    @property
    def is_outgoing(self) -> bool:
        """See `IOverlayLink`."""
        return self._traits.is_outgoing

    @property
    def is_own(self) -> bool:
        """See `IOverlayLink`."""
        return self._traits.is_own

    @property
    def has_origin(self) -> bool:
        """See `IOverlayLink`."""
        return self._traits.has_origin

    @property
    def waiting_bytes(self) -> int:
        """See `IOverlayLink`."""
        return self._queue.waiting_bytes

    def open(self, opened: LinkOpened) -> None:
        """Tell who waits for this link that it is open, and start it. Nothing is read before this returns."""
        try:
            receiver = opened(self)
        except Exception:  # an unexpected error costs this connection, not the listener
            self._log.failure("taking the link of peer {address} failed", address=self.remote_address)
            receiver = None
        if receiver is None:
            self.abort()
        else:
            self.start(receiver)

    def start(self, receiver: ILinkReceiver) -> None:
        """See `IOverlayLink`."""
        self._receiver = receiver

    def send(self, frame: bytes) -> bool:
        """See `IOverlayLink`; False as well when the link is closed or the frame too long."""
        if self._state is not _State.OPEN:
            return False
        counters = self._parts.counters
        if len(frame) > self.max_frame_bytes or not self._queue.has_room(len(frame)):
            counters.dropped_frames += 1
            return False
        counters.messages_sent += 1
        self._queue.send(self._encoded(frame, _TEXT))
        return True

    def _encoded(self, payload: bytes, opcode: int) -> bytes:
        if self._traits.is_outgoing:
            parts = self._parts
            return encode_masked(payload, opcode, parts.random_bytes(MASK_BYTES), parts.unmask_long)
        return encode_header(len(payload), opcode) + payload

    def close(self) -> None:
        """See `IOverlayLink`."""
        self._close(_NORMAL, "", "closed by us")

    def _close(self, code: int, reason: str, why: str) -> None:
        if self._state is _State.OPEN:
            self._state = _State.CLOSING
            self._why = why
            self._message = None
            self._abort_alarm = self._parts.alarms.call_later(CLOSE_SECONDS, self.abort)
            self._queue.finish(self._encoded(encode_close(code, reason), _CLOSE))

    def _give_up(self, label: str, why: str, code: int = 0) -> None:
        """End the connection for a reason that is counted.

        :param code: of a close frame; 0 = none is sent, the other end would not read it.
        """
        if self._state is not _State.OPEN:
            return
        self._parts.counters.closes[label] += 1
        if code:
            self._close(code, why, why)
        else:
            self._why = why
            self.abort()

    def _drop(self) -> None:
        """Close when everything was written; `abort` if that takes too long."""
        self._state = _State.ENDED
        if self._abort_alarm is None:
            self._abort_alarm = self._parts.alarms.call_later(CLOSE_SECONDS, self.abort)
        self._writer.finish()

    def abort(self) -> None:
        """See `IOverlayLink`."""
        if self._state is not _State.GONE:
            self._state = _State.ENDED
            self._message = None
            self._queue.stop()
            self._writer.release()
            self._transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        """See `IProtocol`."""
        self._heard_at = self._parts.alarms.now()
        self._parts.counters.bytes_received += len(data)
        if self._state in (_State.OPEN, _State.CLOSING):
            self._bytes_received(data)

    def _bytes_received(self, data: bytes) -> None:
        try:
            for kind, payloads, is_end in self._decoder.runs(data):
                if kind > _BINARY:
                    self._control_received(kind, payloads[0])
                    continue
                for payload in payloads:
                    self._piece_received(kind, payload, is_end)
        except BrokenWebSocket as error:
            self._give_up("broken", error.problem, error.code)
            if self._state is _State.CLOSING:
                # The answer to our close frame could not be found in what follows.
                self._drop()
        except Exception:  # as above
            self._log.failure("handling what peer {address} sent failed", address=self.remote_address)
            self._give_up("failed", "an internal error", _INTERNAL_ERROR)

    def _piece_received(self, kind: int, payload: bytes, is_end: bool) -> None:
        if self._state is not _State.OPEN:
            return
        message = self._message
        if message is not None:
            message += payload
            if is_end:
                self._message = None
                self._message_received(kind, bytes(message))
        elif is_end:
            self._message_received(kind, payload)
        else:
            self._message = bytearray(payload)
            self._message_began_at = self._heard_at

    def _message_received(self, kind: int, message: bytes) -> None:
        if kind == _TEXT and not message.isascii():
            try:
                message.decode("utf-8")
            except UnicodeDecodeError:
                raise BrokenWebSocket("a text message that is not UTF-8", INVALID_PAYLOAD) from None
        self._parts.counters.messages_received += 1
        if self._receiver is not None:
            self._receiver.frame_received(message)

    def _control_received(self, kind: int, payload: bytes) -> None:
        if kind == _PING and self._state is _State.OPEN:
            self._queue.send_control(self._encoded(payload, _PONG))
        elif kind == _CLOSE:
            self._close_received(payload)
        elif kind == OVERSIZED:
            size = self._decoder.message_bytes
            self._give_up("oversized", f"a message of {size} bytes, {self.max_frame_bytes} fit", _TOO_BIG)

    def _close_received(self, payload: bytes) -> None:
        if self._state is _State.OPEN:
            self._why = "closed by the other end"
            self._queue.finish(self._encoded(payload, _CLOSE))
        self._drop()

    def _look(self) -> None:
        """See to the deadlines, and come back for the next."""
        if self._state is not _State.OPEN:
            return
        now = self._parts.alarms.now()
        if now - self._heard_at >= DEAD_SECONDS:
            self._give_up("silent", f"nothing came for {DEAD_SECONDS:.0f} s")
        elif self._message is not None and now - self._message_began_at >= MESSAGE_SECONDS:
            self._give_up("unfinished", f"a message was not over after {MESSAGE_SECONDS:.0f} s")
        elif self._is_stalled(now):
            self._give_up("stalled", f"nothing was taken for {STALLED_SECONDS:.0f} s")
        else:
            self._ping_if_silent(now)
            self._parts.alarms.call_later(max(_SHORTEST_SECONDS, self._next_look(now) - now), self._look)

    def _is_stalled(self, now: float) -> bool:
        buffered = self._queue.buffered_bytes
        taken = self._queue.handed_bytes - buffered
        if taken != self._taken_bytes or not (buffered or self._queue.is_paused):
            self._taken_bytes = taken
            self._taken_at = now
        return now - self._taken_at >= STALLED_SECONDS

    def _ping_if_silent(self, now: float) -> None:
        if now - max(self._heard_at, self._pinged_at) >= PING_SECONDS:
            self._pinged_at = now
            self._queue.send_control(self._encoded(b"", _PING))

    def _next_look(self, now: float) -> float:
        deadlines = [max(self._heard_at, self._pinged_at) + PING_SECONDS, self._heard_at + DEAD_SECONDS]
        if self._message is not None:
            deadlines.append(self._message_began_at + MESSAGE_SECONDS)
        if self._taken_at < now:
            deadlines.append(self._taken_at + STALLED_SECONDS)
        return min(deadlines)

    def connectionLost(self, reason: Failure) -> None:
        """See `IProtocol`."""
        self._connection_lost(reason)

    def _connection_lost(self, reason: Failure) -> None:
        self._state = _State.GONE
        self._queue.stop()
        self._parts.counters.connections -= 1
        if self._abort_alarm is not None:
            self._abort_alarm.cancel()
        receiver, self._receiver = self._receiver, None
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()
        if receiver is not None:
            receiver.link_lost(self._why or reason.getErrorMessage())
