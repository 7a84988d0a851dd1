"""One UDP session of a client as a `Link`: frames into sealed packets, and packets into frames.

==========  =========================================================================================
frames      travel
==========  =========================================================================================
reliable    through the reliability machine (DAT): bit 0 of their status is set, or no datagram holds them
others      in DATA packets, joined, at the end of the turn
==========  =========================================================================================

The reliability machine is driven from here: by packets, by what is written, and by one timer that wakes rather too
early than is set anew for each packet. When sending fails, or on request, the link goes on from a new local socket with
the same keys, numbers and machine; the node follows the newest packet (client protocol, section 5).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import Enum, unique
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall

from meshrelay.client.links import LinkReceiver, PeerEars
from meshrelay.client.machine import MAX_PUSH_BYTES
from meshrelay.client.requests import PROBE_ID
from meshrelay.client.udp_path import UdpPath
from meshrelay.errors import MalformedPayload, PacketRejected, SlowReceiver
from meshrelay.machine.packets import MAX_FRAGMENT_BYTES
from meshrelay.machine.reliability import (
    Closed,
    Finished,
    MessageReceived,
    PeerFinished,
    ReliabilityMachine,
    ReliabilityOptions,
    State,
)
from meshrelay.model import Status
from meshrelay.wire.commands import CORE_VER, CoreCommand, decode_goodbye
from meshrelay.wire.datagram import OpenedPacket, PacketCodec, PacketKind
from meshrelay.wire.frame import HEADER_BYTES, encode_frame
from meshrelay.wire.prepared import MAX_DATAGRAM_CONTENT, pack_frames

__all__ = ["MAX_MESSAGE_BYTES", "UdpLink", "reliability_options"]

#: Longest message either way. More would not fit the receive window either.
MAX_MESSAGE_BYTES = MAX_PUSH_BYTES + HEADER_BYTES

#: More that was never sent makes the link ask its owner to pause; it resumes at half of it.
_PAUSE_BYTES = 65536
#: ... and so does more that the node has not acknowledged. It is above what the congestion window lets out.
_PAUSE_BUFFERED_BYTES = 2 * 1024 * 1024

#: Refusals in a row that end the connection.
_MAX_REFUSALS = 3

#: From a new socket something is sent at this distance until the node is heard there.
_PROD_SECONDS = 0.2
_MAX_PRODS = 10

#: A socket that cannot send is changed for a new one no more often than this.
_MOVE_SECONDS = 1.0

#: How long `close` waits for the node to acknowledge what was written, and the end.
_LINGER_SECONDS = 1.5

_RELIABLE_BIT = 1
_PROD = encode_frame(CORE_VER, Status.UNRELIABLE, CoreCommand.PING, PROBE_ID, b"")


def reliability_options(max_unsent_bytes: int) -> ReliabilityOptions:
    """Return the limits of a client's machine.

    :param max_unsent_bytes: what the owner may write after it was asked to pause; it is given up at twice as much.
    """
    send_buffer_bytes = _PAUSE_BUFFERED_BYTES + _PAUSE_BYTES + 2 * (max_unsent_bytes + MAX_MESSAGE_BYTES)
    return ReliabilityOptions(max_message_bytes=MAX_MESSAGE_BYTES, send_buffer_bytes=send_buffer_bytes)


@unique
class _State(Enum):
    OPEN = "open"
    #: `close` was called; what was written is on its way.
    CLOSING = "closing"
    OVER = "over"


class UdpLink:
    """See the module.

    :param machine: the client's end, not connected yet.
    :param place: IP address and port of the node.
    :ivar dropped: packets that were not used, by reason; ``move``: a new socket could not be opened.
    """

    def __init__(
        self,
        reactor: Any,
        receiver: LinkReceiver,
        codec: PacketCodec,
        machine: ReliabilityMachine,
        place: tuple[str, int],
    ) -> None:
        self.dropped: Counter[str] = Counter()
        self._reactor = reactor
        self._receiver: LinkReceiver | None = receiver
        self._codec = codec
        self._machine = machine
        self._path = UdpPath(reactor, *place, self)
        self._state = _State.OPEN
        self._reliable: list[bytes] = []
        self._reliable_bytes = 0
        self._unreliable: list[bytes] = []
        self._flush_call: IDelayedCall | None = None
        self._timer: IDelayedCall | None = None
        self._is_paused = False
        self._is_heard = False
        self._refusals = 0
        self._prods_left = 0
        self._prod_at: float | None = None
        self._may_move_at = 0.0
        self._linger_until: float | None = None
        self._closed: Deferred[None] | None = None

    def open(self) -> None:
        """Open the socket and begin the SYN exchange.

        :raises OSError: there is no way to the node.
        :raises CannotListenError: there is no local socket to be had.
        """
        self._path.move()
        self._machine.connect(self._reactor.seconds())
        self._schedule()

    # What goes to the node.

    def write(self, frames: Sequence[bytes]) -> None:
        """See `Link`."""
        receiver = self._receiver
        if receiver is None:
            return
        for frame in frames:
            if frame[1] & _RELIABLE_BIT or len(frame) > MAX_DATAGRAM_CONTENT:
                self._reliable.append(frame)
                self._reliable_bytes += len(frame)
            else:
                self._unreliable.append(frame)
        self._schedule()
        if self._is_full and not self._is_paused:
            self._is_paused = True
            receiver.writing_paused()

    @property
    def _is_full(self) -> bool:
        return (
            self._reliable_bytes + self._machine.pending_bytes > _PAUSE_BYTES
            or self._machine.buffered_bytes > _PAUSE_BUFFERED_BYTES
        )

    @property
    def _has_room(self) -> bool:
        return (
            self._reliable_bytes + self._machine.pending_bytes <= _PAUSE_BYTES // 2
            and self._machine.buffered_bytes <= _PAUSE_BUFFERED_BYTES // 2
        )

    def _schedule(self) -> None:
        if self._flush_call is None and self._state is not _State.OVER:
            self._flush_call = self._reactor.callLater(0, self._flush)

    def _flush(self) -> None:
        self._flush_call = None
        self._send()

    def _send(self) -> None:
        """Send what waits; once at the end of each turn."""
        self._queue_reliable()
        unreliable, self._unreliable = self._unreliable, []
        for content, _ in pack_frames(unreliable, MAX_DATAGRAM_CONTENT):
            self._seal(PacketKind.DATA, content)
        self._run_machine()
        self._mend()
        receiver = self._receiver
        if receiver is not None and self._is_heard:
            self._is_heard = False
            receiver.heard()
        if receiver is not None and self._is_paused and self._has_room:
            self._is_paused = False
            receiver.writing_resumed()

    def _queue_reliable(self) -> None:
        frames, self._reliable = self._reliable, []
        self._reliable_bytes = 0
        if self._machine.state is State.CLOSED:
            return
        try:
            # Not longer than one packet: the receiver need not wait for neighbours that happened to be sent with it.
            for message, _ in pack_frames(frames, MAX_FRAGMENT_BYTES):
                self._machine.send_message(message)
        except SlowReceiver:
            self._lost(None, "the node does not read")

    def _seal(self, kind: PacketKind, content: bytes) -> None:
        if self._state is not _State.OVER:
            self._path.send(self._codec.seal(kind, content))

    def _run_machine(self) -> None:
        """Send what the machine has to send, and wake up when there is something to do."""
        if self._state is _State.OVER:
            return
        now = self._reactor.seconds()
        for kind, content in self._machine.packets_to_send(now):
            self._seal(kind, content)
        times = (self._machine.next_deadline(), self._prod_at, self._linger_until)
        deadline = min((time for time in times if time is not None), default=None)
        timer = self._timer
        if deadline is None or (timer is not None and timer.active() and timer.getTime() <= deadline):
            return
        if timer is not None and timer.active():
            timer.cancel()
        self._timer = self._reactor.callLater(max(0.0, deadline - now), self._woken)

    def _woken(self) -> None:
        self._timer = None
        now = self._reactor.seconds()
        if self._linger_until is not None and now >= self._linger_until:
            self._stop()
            return
        if self._prod_at is not None and now >= self._prod_at:
            self._prod(now)
        self._machine.deadline_passed(now)
        self._take_events()
        self._schedule()

    # Another local address.

    def rebind(self) -> bool:
        """Go on from a new local socket, for instance because the host is in another network now.

        :returns: False: the link is over, or there is no way to the node yet; all is as before.
        """
        if self._state is _State.OVER:
            return False
        now = self._reactor.seconds()
        self._may_move_at = now + _MOVE_SECONDS
        try:
            self._path.move()
        except (OSError, CannotListenError):
            self.dropped["move"] += 1
            return False
        self._refusals = 0
        self._machine.path_changed()
        self._prods_left = _MAX_PRODS
        self._prod(now)
        self._schedule()
        return True

    def share(self, ears: PeerEars) -> bool:
        """See `PeerSocket`."""
        self._path.share(ears)
        return self.rebind()

    def send_to(self, datagram: bytes, place: tuple[str, int]) -> None:
        """See `PeerSocket`."""
        self._path.send_to(datagram, place)

    def node_place(self) -> tuple[str, int]:
        """See `PeerSocket`."""
        return self._path.place

    def local_port(self) -> int:
        """See `PeerSocket`."""
        return self._path.local_port

    def _mend(self) -> None:
        if self._path.is_broken and self._reactor.seconds() >= self._may_move_at:
            self.rebind()

    def _prod(self, now: float) -> None:
        """Show the node where this client is, whether or not there is something to say."""
        self._prods_left -= 1
        self._prod_at = now + _PROD_SECONDS if self._prods_left > 0 else None
        self._seal(PacketKind.DATA, _PROD)

    # What comes from the node.

    def refused(self) -> None:
        """See `DatagramReceiver`."""
        self._refusals += 1
        if self._refusals >= _MAX_REFUSALS:
            self._lost(None, "connection refused")

    def datagram_received(self, datagram: bytes) -> None:
        """See `DatagramReceiver`."""
        if self._state is _State.OVER:
            return
        try:
            self._packet_opened(self._codec.open(datagram))
        except PacketRejected as rejected:
            self.dropped[rejected.reason] += 1

    def _packet_opened(self, packet: OpenedPacket) -> None:
        kind, content, _ = packet
        self._refusals = self._prods_left = 0
        self._prod_at = None
        if kind is PacketKind.DATA:
            if self._receiver is not None:
                self._receiver.data_received(content, False)
        elif kind is PacketKind.RST:
            self._reset_received(content)
        else:
            self._is_heard = True
            self._schedule()
            self._machine.receive_packet(kind, content, self._reactor.seconds())
            self._take_events()

    def _reset_received(self, content: bytes) -> None:
        try:
            code, text = decode_goodbye(content)
        except MalformedPayload:
            self._lost(None, "the node ended the session without a reason")
        else:
            self._lost(code, text)

    def _take_events(self) -> None:
        while self._state is not _State.OVER:
            event = self._machine.next_event()
            match event:
                case None:
                    return
                case MessageReceived(data):
                    if self._receiver is not None:
                        self._receiver.data_received(data, True)
                case PeerFinished():
                    if self._state is _State.OPEN:
                        self._lost(None, "the node ended the session")
                case Finished():
                    self._stop()
                case Closed(text=text):
                    # Its last packet, so that the node knows as well.
                    self._run_machine()
                    self._lost(None, text)

    # The end.

    def close(self) -> Deferred[None]:
        """See `Link`. What was written is repeated until the node has acknowledged it, for at most 1.5 seconds."""
        if self._state is not _State.OPEN:
            return self._closed or succeed(None)
        self._receiver = None
        if self._machine.state is not State.OPEN:
            # The node has not answered once; nothing waits for an acknowledgement.
            self._send()
            return self._stop()
        self._queue_reliable()
        self._state = _State.CLOSING
        self._machine.finish()
        self._linger_until = self._reactor.seconds() + _LINGER_SECONDS
        self._closed = Deferred(self._close_cancelled)
        self._schedule()
        return self._closed

    def _close_cancelled(self, closed: Deferred[None]) -> None:
        self._closed = None
        self._stop()

    def abort(self) -> None:
        """See `Link`."""
        self._stop()

    def _lost(self, code: int | None, text: str) -> None:
        receiver = self._receiver
        self._stop()
        if receiver is not None:
            receiver.link_lost(code, text)

    def _stop(self) -> Deferred[None]:
        self._state = _State.OVER
        self._receiver = None
        self._reliable, self._unreliable = [], []
        self._reliable_bytes = 0
        for call in (self._flush_call, self._timer):
            if call is not None and call.active():
                call.cancel()
        self._flush_call = self._timer = None
        stopped = self._path.close()
        closed, self._closed = self._closed, None
        if closed is None:
            return stopped
        # Whoever waits may have lost patience before the socket is closed.
        stopped.addCallback(lambda _: None if closed.called else closed.callback(None))
        return closed
