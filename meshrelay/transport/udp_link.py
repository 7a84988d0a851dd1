"""One UDP session as `IDownlink`: frames into sealed packets, and packets into frames.

==========  ===================================================================================================
frames      travel
==========  ===================================================================================================
reliable    through the reliability machine (DAT) once the client has sent SYN; until then, as the others
unreliable  in DATA packets, packed, at the end of the turn
answers     the way their request came
==========  ===================================================================================================

The newest packet that opens says where the client is. An address that the client has not shown to be its own is sent at
most three times the bytes that came from it, until the client answers a PING there (RFC 9000, section 8).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from typing import NamedTuple

from zope.interface import implementer

from meshrelay.background import Alarm, Alarms
from meshrelay.counters import NodeCounters
from meshrelay.errors import ErrorCode, PacketRejected, RemoteProtocolError, SessionClosed, SlowReceiver
from meshrelay.fanout.outbox import DISCONNECT
from meshrelay.fanout.turn import Turn
from meshrelay.interfaces import IDownlink
from meshrelay.machine.reliability import (
    Closed,
    Finished,
    MessageReceived,
    PeerFinished,
    ReliabilityMachine,
    ReliabilityOptions,
)
from meshrelay.model import CloseReason, Status
from meshrelay.session.connection import Connection
from meshrelay.transport.stream_link import CLOSE_SECONDS, goodbye_frame, shown_address
from meshrelay.transport.udp_address import CHALLENGE_BYTES, UnprovedAddress
from meshrelay.transport.udp_batch import Address
from meshrelay.transport.udp_sender import UdpSender
from meshrelay.wire.commands import CORE_VER, encode_error
from meshrelay.wire.datagram import OpenedPacket, PacketCodec, PacketKind
from meshrelay.wire.frame import Frame, count_frames, encode_frame, run_of_one, split_frames, whole_frames
from meshrelay.wire.prepared import MAX_DATAGRAM_CONTENT, Batch, pack_frames

__all__ = ["Address", "UdpLink", "UdpParts"]

#: More than this is not left waiting for the end of a turn.
MAX_PENDING_BYTES = 64 * 1024

#: How long a session that ended in order still answers a FIN whose acknowledgement was lost.
FINISHED_SECONDS = 2.0


class UdpParts(NamedTuple):
    """What the listener and its links share."""

    turn: Turn
    #: Coarse alarms: deadlines of seconds.
    alarms: Alarms
    #: Fine alarms: retransmission and pacing.
    pacer: Alarms
    counters: NodeCounters
    #: ``random_bytes(n)`` -> n bytes that nobody can guess.
    random_bytes: Callable[[int], bytes]
    max_payload_bytes: int
    #: How long the first packet may take.
    reservation_seconds: float
    reliability: ReliabilityOptions
    #: What gives when a client takes less than it is sent, see `meshrelay.fanout.outbox`.
    policy: str


class _State(Enum):
    OPEN = "open"
    #: GOODBYE is on its way; ends when it was acknowledged.
    CLOSING = "closing"
    OVER = "over"


@implementer(IDownlink)
class UdpLink:
    """See `IDownlink`.

    :param sender: of the port.
    :param ended: called once with this link when its session is no longer served by it.
    """

    transport_name = "udp"

    __slots__ = (
        "_last_alarm",
        "_answers_by_data",
        "_close_packet",
        "_ended",
        "_held",
        "_is_data_kept",
        "_is_reading_paused",
        "_is_scheduled",
        "_machine",
        "_parts",
        "_pending",
        "_pending_bytes",
        "_reliable_pushes",
        "_sender",
        "_state",
        "_unproved",
        "_wake_alarm",
        "_wake_at",
        "address",
        "codec",
        "connection",
        "sid",
    )

    def __init__(
        self,
        parts: UdpParts,
        sid: bytes,
        codec: PacketCodec,
        address: Address,
        sender: UdpSender,
        ended: Callable[[UdpLink], None],
    ) -> None:
        self._parts = parts
        self._sender = sender
        self._ended = ended
        self.sid = sid
        self.codec = codec
        self.address = address
        self.connection: Connection | None = None
        self._state = _State.OPEN
        self._machine: ReliabilityMachine | None = None
        self._pending: list[tuple[bytes, int]] = []
        self._pending_bytes = 0
        #: Frames of the last reliable message that came after reading was paused; at most one message.
        self._held: deque[Frame] = deque()
        self._is_scheduled = False
        self._is_reading_paused = False
        self._answers_by_data = False
        #: Whether what the connection has kept since the read began came in DATA packets.
        self._is_data_kept = False
        #: Pushes that the machine has taken.
        self._reliable_pushes = 0
        self._last_alarm: Alarm | None = None
        self._wake_alarm: Alarm | None = None
        self._wake_at = 0.0
        self._close_packet: bytes | None = None
        #: None = the client has shown that it is where it seems to be.
        self._unproved: UnprovedAddress | None = None

    @property
    def peer(self) -> str:
        """See `IDownlink`."""
        return shown_address(self.address[0], self.address[1])

    @property
    def udp_address(self) -> tuple[str, int] | None:
        """See `IDownlink`."""
        return (self.address[0], self.address[1]) if self._unproved is None else None

    @property
    def queued_bytes(self) -> int:
        """See `IDownlink`."""
        return self._pending_bytes + (self._machine.buffered_bytes if self._machine is not None else 0)

    def undelivered(self) -> tuple[int, list[bytes]] | None:
        """See `IDownlink`."""
        if self._machine is None:
            return None
        frames = [frame for message in self._machine.unacknowledged() for frame in split_frames(message)]
        pushes = [frame for frame in frames if frame[0] != CORE_VER and frame[1] == Status.PUSH]
        return self._reliable_pushes, pushes

    # What goes to the client.

    def send_batch(self, batch: Batch) -> None:
        """See `IDownlink`."""
        if self._machine is None:
            self._add_data(batch)
            return
        if batch.reliable is not None:
            frames = batch.reliable.frames
            counts = map(count_frames, frames)
            for message, count in pack_frames(frames, self._parts.reliability.max_message_bytes, counts):
                self._send_reliably(message, count, is_droppable=True)
        if batch.unreliable is not None:
            self._add_data(batch.unreliable)

    def send_frame(self, frame: bytes, count: int = 1) -> None:
        """See `IDownlink`. An answer that no datagram holds becomes code 5, so that nobody waits for it."""
        if self._machine is not None and (not self._answers_by_data or len(frame) > MAX_DATAGRAM_CONTENT):
            self._send_reliably(frame, 1, is_droppable=False)
        else:
            self._add(frame if len(frame) <= MAX_DATAGRAM_CONTENT else _too_large(frame), 1)

    def send_probe(self, frame: bytes) -> None:
        """See `IDownlink`."""
        self._add(frame, 1)

    def _add_data(self, batch: Batch) -> None:
        for content, count in batch.datagrams:
            if len(content) <= MAX_DATAGRAM_CONTENT:
                self._add(content, count)
            elif self._machine is not None:
                self._send_reliably(content, count, is_droppable=True)
            else:
                self._parts.counters.packets_dropped["too_large"] += 1

    def _send_reliably(self, message: bytes, count: int, is_droppable: bool) -> None:
        machine, connection = self._machine, self.connection
        if machine is None or connection is None or self._state is not _State.OPEN:
            return
        try:
            machine.send_message(message)
        except SlowReceiver as slow:
            policy = self._parts.policy
            if is_droppable:
                # The machine has not taken it, so no acknowledgement will ever tell that it is missing.
                connection.pushes_dropped(count)
            if not is_droppable or policy == DISCONNECT:
                connection.outbox_overflowed(slow.queued_bytes)
            else:
                # What the machine holds has its number already, so with both policies it is the newest that goes.
                self._parts.counters.outbox_dropped[policy] += count
        except SessionClosed:
            return
        else:
            self._parts.counters.transports["udp"].messages_sent += count
            if is_droppable:
                self._reliable_pushes += count
            self._schedule()

    def _add(self, content: bytes, count: int) -> None:
        if self._state is _State.OVER:
            return
        self._pending.append((content, count))
        self._pending_bytes += len(content)
        if self._pending_bytes > MAX_PENDING_BYTES:
            self._send_pending()
        elif not self._is_scheduled:
            self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._sender.schedule(self)

    def flush(self) -> None:
        """Seal and send what waits; called at the end of a turn."""
        self._is_scheduled = False
        if self._pending:
            self._send_pending()
        if self._machine is not None:
            self._run_machine()

    def _send_pending(self) -> None:
        """Send DATA packets, neighbours together as long as they fit."""
        pending, self._pending = self._pending, []
        self._pending_bytes = 0
        counters = self._parts.counters.transports["udp"]
        for _, count in pending:
            counters.messages_sent += count
        if len(pending) == 1 and self._unproved is None:
            # The hot path: one datagram for each of many members.
            self._sender.send(self.codec.seal(PacketKind.DATA, pending[0][0]), self.address)
            return
        packed = pack_frames([content for content, _ in pending], MAX_DATAGRAM_CONTENT)
        self._seal([(PacketKind.DATA, content) for content, _ in packed])

    def _seal(self, contents: Sequence[tuple[PacketKind, bytes]]) -> None:
        seal = self.codec.seal
        packets = [seal(kind, content) for kind, content in contents]
        if self._unproved is not None:
            affordable = [packet for packet in packets if self._unproved.spend(len(packet))]
            self._parts.counters.packets_dropped["unproved"] += len(packets) - len(affordable)
            packets = affordable
        self._sender.send_many(packets, self.address)

    def _run_machine(self) -> None:
        """Send what the machine has to send, and wake up when it has something to do."""
        machine = self._machine
        if machine is None or self._state is _State.OVER:
            return
        now = self._parts.pacer.now()
        self._seal(machine.packets_to_send(now))
        deadline = machine.next_deadline()
        if deadline is None:
            return
        # An alarm that rings too early costs less than one that is set anew for each packet.
        if self._wake_alarm is None or not self._wake_alarm.is_set or deadline < self._wake_at:
            if self._wake_alarm is not None:
                self._wake_alarm.cancel()
            self._wake_at = deadline
            self._wake_alarm = self._parts.pacer.call_later(max(0.0, deadline - now), self._woken)

    def _woken(self) -> None:
        machine = self._machine
        if machine is not None and self._state is not _State.OVER:
            machine.deadline_passed(self._parts.pacer.now())
            self._take_events(machine)
            self.read_ended()
            self._run_machine()

    # What comes from the client.

    def pause_reading(self) -> None:
        """See `IDownlink`: messages that are not fetched close the client's window."""
        self._is_reading_paused = True

    def resume_reading(self) -> None:
        """See `IDownlink`."""
        self._is_reading_paused = False
        if self._machine is not None:
            self._take_events(self._machine)
            self.read_ended()
            self._schedule()

    def packet_received(self, packet: OpenedPacket, size_bytes: int, address: Address) -> None:
        """Take what the client sealed. `read_ended` must follow, once for all packets that were read together.

        :param size_bytes: of the whole datagram.
        :raises PacketRejected: it makes no sense here, and changed nothing but the address.
        """
        if self._state is _State.OVER:
            # The client has not heard that the session is over. It is told once for each packet, never more.
            if self._close_packet is not None and packet.kind is not PacketKind.RST:
                self._sender.send(self.codec.seal(PacketKind.RST, self._close_packet), address)
            return
        if packet.is_newest and address != self.address:
            self._move(address)
        if self._unproved is not None and address == self.address:
            self._unproved.received(size_bytes)
        if self.connection is not None:
            self.connection.heard()
        if packet.kind is PacketKind.DATA:
            self._take_frames(packet.content, is_data=True)
        else:
            self._machine_received(packet)
        if self._unproved is not None and packet.is_newest:
            self._seal([(PacketKind.DATA, self._unproved.question)])

    def _move(self, address: Address) -> None:
        """The client is somewhere else: go there at once, but not with much before it has answered from there."""
        self.address = address
        self._unproved = UnprovedAddress(self._parts.random_bytes(CHALLENGE_BYTES))
        self._parts.counters.address_changes += 1
        if self._machine is not None:
            self._machine.path_changed()
            self._schedule()

    def read_ended(self) -> None:
        """Do what was kept to be done together, see `IUplink`; its answers go the way of the requests."""
        if self.connection is not None:
            answers_by_data, self._answers_by_data = self._answers_by_data, self._is_data_kept
            try:
                self.connection.read_ended()
            finally:
                self._answers_by_data = answers_by_data

    def _keep_apart(self, is_data: bool) -> None:
        """What comes now came this way; do what was kept of the other one, so that it is answered there."""
        if is_data is not self._is_data_kept:
            self.read_ended()
            self._is_data_kept = is_data

    def _take_frames(self, content: bytes, is_data: bool) -> None:
        self._keep_apart(is_data)
        answers_by_data, self._answers_by_data = self._answers_by_data, is_data
        try:
            self._frames_received(content)
        except RemoteProtocolError as error:
            if self.connection is not None:
                self.connection.protocol_broken(error)
        finally:
            self._answers_by_data = answers_by_data

    def _frames_received(self, content: bytes) -> None:
        for frame in whole_frames(content, self._parts.max_payload_bytes):
            connection = self.connection
            if connection is None:
                return
            if self._unproved is not None and self._unproved.is_answer(frame):
                self._unproved = None
                self._schedule()
            elif self._is_reading_paused and not self._answers_by_data:
                self._held.append(frame)
            else:
                connection.run_received(run_of_one(frame))

    def expect_machine(self) -> ReliabilityMachine:
        """Take reliable frames from now on: the client has sent a SYN."""
        if self._machine is None:
            first_sequence = int.from_bytes(self._parts.random_bytes(4), "big")
            self._machine = ReliabilityMachine(False, first_sequence, self._parts.reliability)
        return self._machine

    def _machine_received(self, packet: OpenedPacket) -> None:
        machine = self._machine
        if packet.kind is PacketKind.RST:
            self._end()
            return
        if machine is None:
            if packet.kind is not PacketKind.SYN or self.connection is None:
                raise PacketRejected("unexpected")
            machine = self.expect_machine()
            self.connection.greet()
        try:
            machine.receive_packet(packet.kind, packet.content, self._parts.pacer.now())
        finally:
            self._schedule()
        self._take_events(machine)

    def _take_events(self, machine: ReliabilityMachine) -> None:
        if self._held and not self._is_reading_paused:
            self._keep_apart(is_data=False)
        while self._held and not self._is_reading_paused and self.connection is not None:
            self.connection.run_received(run_of_one(self._held.popleft()))
        while not self._is_reading_paused and (event := machine.next_event()) is not None:
            match event:
                case MessageReceived(data):
                    self._take_frames(data, is_data=False)
                case PeerFinished():
                    # Nothing can be answered behind our own end.
                    self.read_ended()
                    machine.finish()
                case Finished():
                    self._leave()
                    self._set_last_alarm(FINISHED_SECONDS, self._end)
                case Closed():
                    self._run_machine()
                    self._end()
                    return
        if self._state is _State.CLOSING and self._close_packet is not None and not machine.buffered_bytes:
            # GOODBYE has arrived, and with it everything else.
            self._reset()

    # The end.

    def close(self, reason: CloseReason | None, text: str) -> None:
        """See `IDownlink`."""
        if self._state is not _State.OPEN:
            return
        if reason is not None:
            self._close_packet = reason.code.to_bytes(2, "big") + text.encode("utf-8")[:256]
        is_listening = reason not in (CloseReason.IDLE, CloseReason.SLOW_CONSUMER)
        if is_listening and self._machine is not None:
            if reason is not None:
                self._send_reliably(goodbye_frame(reason, text), 1, is_droppable=False)
            self._machine.finish()
            self._state = _State.CLOSING
            self._set_last_alarm(FINISHED_SECONDS if reason is None else CLOSE_SECONDS, self._reset)
            self._schedule()
            return
        if reason is not None:
            self._add(goodbye_frame(reason, text), 1)
        self._send_pending()
        self._reset()

    def _reset(self) -> None:
        if self._close_packet is not None and self._state is not _State.OVER:
            self._seal([(PacketKind.RST, self._close_packet)])
        self._end()

    def abort(self) -> None:
        """See `IDownlink`."""
        self._end()

    def _set_last_alarm(self, seconds: float, callback: Callable[[], None]) -> None:
        if self._last_alarm is not None:
            self._last_alarm.cancel()
        self._last_alarm = self._parts.alarms.call_later(seconds, callback)

    def _leave(self) -> None:
        """Serve the session no more; the machine may still have something to answer."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.connection_lost("")

    def _end(self) -> None:
        if self._state is _State.OVER:
            return
        self._state = _State.OVER
        for alarm in (self._wake_alarm, self._last_alarm):
            if alarm is not None:
                alarm.cancel()
        self._leave()
        self._machine = None
        self._held.clear()
        self._pending, self._pending_bytes = [], 0
        self._ended(self)


def _too_large(frame: bytes) -> bytes:
    ver, _, cmd, request_id, payload = whole_frames(frame, len(frame))[0]
    text = f"the answer of {len(payload)} bytes fits no datagram"
    return encode_frame(ver, Status.BAD, cmd, request_id, encode_error(ErrorCode.MESSAGE_TOO_LARGE, text))
