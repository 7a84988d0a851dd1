"""Reliable UDP for one session: opened packets in, packets and events out; the same machine at both ends.

Whole messages arrive complete, in order and once, or the session ends (client protocol, section 5). The machine is
pure: time is an argument, nothing is called back, outputs are pulled. Sealing and packet numbers are `wire.datagram`'s,
sockets and timers the transport's. It fetches the events after every input, then the packets, then the deadline::

    receive_packet(kind, content, now) --+                  +--> next_event() until None
    send_message(data)                   |--> the machine --+--> packets_to_send(now): (kind, content) to seal and send
    deadline_passed(now)               --+                  +--> next_deadline(): when to call deadline_passed

The client calls `connect`, its SYN is repeated until the node's SYN answers; the node opens with the first SYN. The
client acknowledges the answer at once, which gives the node its first round trip sample. Data of the node that
overtakes its SYN is kept (a few packets), since the node may speak first.

Each end closes its own direction with a FIN (`machine.closing`), sent when the peer has acknowledged everything.
`Finished` says that both are closed. Keep the machine for some round trips after that, until `next_deadline` is None at
the least: the peer repeats its FIN when our last ACK was lost.

`machine.sending` and `machine.reassembly` are the two directions, `machine.in_flight` decides what is lost,
`machine.congestion` how much may be on the way (and why it is more than plain NewReno), `machine.rtt` how long to wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress

from meshrelay.errors import FrameTooLarge, LocalProtocolError, PacketRejected, SessionClosed
from meshrelay.machine.closing import Closing
from meshrelay.machine.handshake import Handshake
from meshrelay.machine.packets import (
    SEQUENCE_MASK,
    decode_acknowledgement,
    decode_fin,
    decode_rst,
    encode_fin,
    encode_rst,
    unwrap,
)
from meshrelay.machine.reassembly import Receiver
from meshrelay.machine.reliability_events import (
    Closed,
    Connected,
    Event,
    Finished,
    MessageReceived,
    PeerFinished,
    ReliabilityOptions,
    State,
)
from meshrelay.machine.rtt import RoundTrip
from meshrelay.machine.sending import Sender
from meshrelay.model import CloseReason
from meshrelay.wire.datagram import PacketKind

__all__ = [
    "Closed",
    "Connected",
    "Event",
    "Finished",
    "MessageReceived",
    "PeerFinished",
    "ReliabilityMachine",
    "ReliabilityOptions",
    "State",
]


class ReliabilityMachine:
    """One session's reliable stream at one end.

    :param is_client: True: this end sends the first SYN.
    :param first_sequence: of the first DAT of this end, 0 to 2^32 - 1; should be random.
    """

    def __init__(self, is_client: bool, first_sequence: int, options: ReliabilityOptions | None = None) -> None:
        self._is_client = is_client
        self._options = options = options or ReliabilityOptions()
        self.state = State.IDLE
        self._round_trip = RoundTrip(options.rto_floor_seconds, options.initial_rto_seconds)
        self._sender = Sender(
            first_sequence & SEQUENCE_MASK,
            self._round_trip,
            max_message_bytes=options.max_message_bytes,
            buffer_bytes=options.send_buffer_bytes,
            max_window=options.max_congestion_packets,
            max_tries=options.max_tries,
        )
        # None before the peer's SYN: its first number is not known.
        self._receiver: Receiver | None = None
        self._handshake = Handshake(is_client, self._sender.first_sequence, options.initial_rto_seconds)
        # With each event the packets it came in. The receiver's window bounds the messages, the rest comes once.
        self._events: deque[tuple[Event, int]] = deque()
        self._closing = Closing()
        self._peer_finished = False
        self._rst: bytes | None = None
        self._rst_is_owed = False
        self._rejected: dict[str, int] = {}

    def connect(self, now: float) -> None:
        """Begin the SYN exchange. Client only, once.

        :raises LocalProtocolError: this end is the node's, or has begun already.
        """
        if not self._is_client or self.state is not State.IDLE:
            raise LocalProtocolError(f"connect in state {self.state.value}")
        self.state = State.CONNECTING
        self._handshake.begin(now)

    def send_message(self, data: bytes) -> None:
        """Queue one message: whole frames, 1 to `max_message_bytes` bytes. Allowed before the SYN exchange.

        :raises LocalProtocolError: the size is not allowed.
        :raises SlowReceiver: `send_buffer_bytes` are queued or unacknowledged.
        :raises SessionClosed: after `finish`, `abort` or the peer's RST.
        """
        if self._closing.is_wanted or self.state in (State.FINISHED, State.CLOSED):
            raise SessionClosed("the session takes no more messages")
        self._sender.push(data)

    def finish(self) -> None:
        """Send no more messages after those queued; the peer's still come. Calling it again does nothing."""
        self._closing.is_wanted = True

    def abort(self, reason: CloseReason) -> None:
        """End the session at once with an RST. Queued messages are not sent, see `unacknowledged`."""
        if self.state is not State.CLOSED:
            self._reset(reason.code, reason.text)

    def path_changed(self) -> None:
        """Note that the peer's address is another one: send what is unanswered again and learn the path anew."""
        self._sender.path_changed()

    def receive_packet(self, kind: PacketKind, content: bytes, now: float) -> None:
        """Take the opened content of one packet.

        :raises PacketRejected: the packet does not make sense here; it changed nothing. The reason is one of
            `machine.packets.REJECT_REASONS`.
        """
        try:
            move = _MOVES.get((self.state, kind))
            if move is None:
                raise PacketRejected(_refusal(self.state, kind))
            move(self, kind, content, now)
        except PacketRejected as error:
            self._rejected[error.reason] = self._rejected.get(error.reason, 0) + 1
            raise

    def packets_to_send(self, now: float) -> list[tuple[PacketKind, bytes]]:
        """Return what is to be sent now, in this order; at most 1,358 bytes each."""
        packets: list[tuple[PacketKind, bytes]] = []
        if self.state is State.CLOSED:
            if self._rst_is_owed and self._rst is not None:
                self._rst_is_owed = False
                packets.append((PacketKind.RST, self._rst))
            return packets
        receiver = self._receiver
        if receiver is None:
            question = self._handshake.question(self._options.receive_window_packets, now)
            return packets if question is None else [(PacketKind.SYN, question)]
        answer = self._handshake.answer(receiver.window, receiver.expected, now)
        if answer is not None:
            packets.append((PacketKind.SYN, answer))
            self._closing.elicited(now)
        data = self._sender.take(now)
        ack_is_due = receiver.owes_ack or (receiver.ack_at is not None and (bool(data) or now >= receiver.ack_at))
        if ack_is_due:
            packets.append(receiver.acknowledgement())
        if data:
            packets.extend((PacketKind.DAT, content) for content in data)
            self._closing.elicited(now)
        if self._sender.is_drained and self._closing.take_due(now, self._round_trip.timeout_seconds):
            packets.append((PacketKind.FIN, encode_fin(self._sender.last_sequence)))
        return packets

    def next_deadline(self) -> float | None:
        """Return when `deadline_passed` is to be called; None = only input changes anything.

        Valid after `packets_to_send`.
        """
        if self.state not in (State.CONNECTING, State.OPEN, State.FINISHED):
            return None
        times = [self._handshake.repeat.at, self._closing.deadline]
        if self._receiver is not None:
            times.append(self._receiver.ack_at)
            times.append(self._sender.deadline())
        return min((time for time in times if time is not None), default=None)

    def deadline_passed(self, now: float) -> None:
        """Do what is due; calling it too early or twice does no harm."""
        if self.state not in (State.CONNECTING, State.OPEN):
            return
        tries = self._options.max_tries
        if (
            self._closing.is_exhausted(tries, now)
            or self._handshake.repeat.is_exhausted(tries, now)
            or not self._sender.expire(now)
        ):
            self._reset(CloseReason.IDLE.code, CloseReason.IDLE.text)

    def next_event(self) -> Event | None:
        """Return the next event. Messages that are not fetched close the peer's window: the way to slow it down."""
        if not self._events:
            return None
        event, packets = self._events.popleft()
        if packets and self._receiver is not None:
            self._receiver.fetched(packets)
        return event

    def unacknowledged(self) -> list[bytes]:
        """Return all messages that the peer has not acknowledged, whole and in order; also after the end.

        The peer may have received some of them, when its last acknowledgement was lost.
        """
        return self._sender.unacknowledged()

    @property
    def pending_bytes(self) -> int:
        """Bytes of messages of which nothing was sent yet: while it is above 0, joining frames before sending pays."""
        return self._sender.pending_bytes

    @property
    def buffered_bytes(self) -> int:
        """Bytes of messages queued or not acknowledged, at most `send_buffer_bytes`."""
        return self._sender.buffered_bytes

    def statistics(self) -> dict[str, float]:
        """Return counters and current values; times in seconds, windows in packets."""
        values = {
            **self._sender.statistics(),
            "srtt": self._round_trip.smoothed or 0.0,
            "rttvar": self._round_trip.variation,
            "min_rtt": self._round_trip.minimum,
            "rto": self._round_trip.timeout_seconds,
        }
        if self._receiver is not None:
            values.update(self._receiver.statistics())
        values.update((f"rejected_{reason}", count) for reason, count in self._rejected.items())
        return values

    def _close(self, code: int, text: str) -> None:
        self.state = State.CLOSED
        self._handshake.take_kept()
        if self._receiver is not None:
            self._receiver.clear()
        self._events.append((Closed(code, text), 0))

    def _reset(self, code: int, text: str) -> None:
        # Before the SYN exchange nobody is there who could want to know.
        self._rst_is_owed = self.state is not State.IDLE
        self._rst = encode_rst(code, text)
        self._close(code, text)

    def _syn_received(self, kind: PacketKind, content: bytes, now: float) -> None:
        """Open the session, or hear again what opened it."""
        syn = self._handshake.receive(content)
        if syn is None:
            if self._is_client and self._receiver is not None:
                # The node did not see that its answer had arrived.
                self._receiver.owes_ack = True
            return
        self._receiver = self._make_receiver(syn.first)
        self._receiver.owes_ack = self._is_client
        self._sender.open_window(syn.window)
        self.state = State.OPEN
        self._events.append((Connected(), 0))
        took = self._handshake.round_trip_seconds(now)
        if took is not None:
            self._round_trip.add_sample(took)
        for overtook in self._handshake.take_kept():
            with suppress(PacketRejected):
                # A bad one is counted by its reason; the SYN itself was good.
                self.receive_packet(PacketKind.DAT, overtook, now)

    def _make_receiver(self, first_sequence: int) -> Receiver:
        options = self._options
        return Receiver(
            first_sequence,
            window=options.receive_window_packets,
            max_message_bytes=options.max_message_bytes,
            ack_delay_seconds=options.ack_delay_seconds,
        )

    def _dat_received(self, kind: PacketKind, content: bytes, now: float) -> None:
        receiver = self._receiver
        if receiver is None:
            self._handshake.keep(content)
            return
        try:
            messages = receiver.receive(content, now)
        except FrameTooLarge as error:
            self._reset(error.close_reason.code, error.close_reason.text)
            return
        for data, packets in messages:
            self._events.append((MessageReceived(data), packets))
        self._look_for_the_end()

    def _acknowledged(self, kind: PacketKind, content: bytes, now: float) -> None:
        sender = self._sender
        acknowledgement = decode_acknowledgement(kind, content)
        sender.acknowledge(acknowledgement, now)
        if not self._round_trip.samples and sender.expected == sender.first_sequence:
            # It answers nothing but the node's SYN; a client that takes its time with that is measured by the data.
            took = self._handshake.round_trip_seconds(now)
            if took is not None and took < self._options.initial_rto_seconds:
                self._round_trip.add_sample(took)
        is_last = unwrap(acknowledgement.expected, sender.expected) == sender.last_sequence + 1
        round_trip = self._round_trip
        if is_last and self._closing.acknowledged(now, round_trip.timeout_seconds, round_trip.minimum):
            self._look_for_the_end()

    def _fin_received(self, kind: PacketKind, content: bytes, now: float) -> None:
        receiver = self._receiver
        assert receiver is not None
        receiver.finish(decode_fin(content))
        self._look_for_the_end()

    def _rst_received(self, kind: PacketKind, content: bytes, now: float) -> None:
        self._close(*decode_rst(content))

    def _called_after_end(self, kind: PacketKind, content: bytes, now: float) -> None:
        """The peer has not heard that the session is over: tell it again, if the end was ours."""
        self._rst_is_owed = self._rst is not None
        raise PacketRejected("closed")

    def _look_for_the_end(self) -> None:
        receiver = self._receiver
        assert receiver is not None
        if receiver.is_complete and not self._peer_finished:
            self._peer_finished = True
            receiver.owes_ack = True
            self._events.append((PeerFinished(), 0))
        if self._peer_finished and self._closing.is_answered and self.state is State.OPEN:
            self.state = State.FINISHED
            self._events.append((Finished(), 0))


_Move = Callable[[ReliabilityMachine, PacketKind, bytes, float], None]

# What each packet does in each state; anything else is refused with the state unchanged.
_MOVES: dict[tuple[State, PacketKind], _Move] = {
    (State.IDLE, PacketKind.SYN): ReliabilityMachine._syn_received,
    (State.CONNECTING, PacketKind.SYN): ReliabilityMachine._syn_received,
    (State.CONNECTING, PacketKind.DAT): ReliabilityMachine._dat_received,
    (State.CONNECTING, PacketKind.RST): ReliabilityMachine._rst_received,
    (State.OPEN, PacketKind.SYN): ReliabilityMachine._syn_received,
    (State.OPEN, PacketKind.DAT): ReliabilityMachine._dat_received,
    (State.OPEN, PacketKind.ACK): ReliabilityMachine._acknowledged,
    (State.OPEN, PacketKind.EACK): ReliabilityMachine._acknowledged,
    (State.OPEN, PacketKind.FIN): ReliabilityMachine._fin_received,
    (State.OPEN, PacketKind.RST): ReliabilityMachine._rst_received,
    (State.FINISHED, PacketKind.SYN): ReliabilityMachine._syn_received,
    (State.FINISHED, PacketKind.DAT): ReliabilityMachine._dat_received,
    (State.FINISHED, PacketKind.ACK): ReliabilityMachine._acknowledged,
    (State.FINISHED, PacketKind.EACK): ReliabilityMachine._acknowledged,
    (State.FINISHED, PacketKind.FIN): ReliabilityMachine._fin_received,
    (State.FINISHED, PacketKind.RST): ReliabilityMachine._rst_received,
    (State.CLOSED, PacketKind.SYN): ReliabilityMachine._called_after_end,
    (State.CLOSED, PacketKind.DAT): ReliabilityMachine._called_after_end,
    (State.CLOSED, PacketKind.FIN): ReliabilityMachine._called_after_end,
}


def _refusal(state: State, kind: PacketKind) -> str:
    if kind in (PacketKind.DATA, PacketKind.PROBE):
        return "bad_kind"
    return "closed" if state is State.CLOSED else "not_open"
