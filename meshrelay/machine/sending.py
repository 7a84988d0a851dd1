"""Messages in, DAT contents out, acknowledgements in: the half of the reliable machine that sends.

A message waits in `machine.fragmentation`'s queue, leaves when the peer's window, the congestion window and the pacer
allow, and is kept until the peer acknowledged all of it.

* Retransmission timeout (RFC 6298): over the oldest packet; sends the one that the stream waits for and the oldest
  again, past every window, doubles, and gives up after `max_tries` in a row. `machine.in_flight` finds the other losses
  without waiting for it, `machine.copies` sends what was lost twice.
* Zero window: one packet beyond the window asks again, at growing distances of at most five seconds. A peer that
  answers "still no room" is alive, so this may go on as long as the send buffer's owner likes.
* What the peer reported as held stays here all the same until the stream has reached it: `unacknowledged` must be able
  to return whole messages in order.
"""

from __future__ import annotations

from collections import deque

from meshrelay.errors import LocalProtocolError, PacketRejected, SlowReceiver
from meshrelay.machine.congestion import CongestionWindow, Pacer
from meshrelay.machine.copies import SecondCopies
from meshrelay.machine.fragmentation import OutgoingQueue
from meshrelay.machine.in_flight import InFlight, SentPacket
from meshrelay.machine.packets import DAT_HEADER_BYTES, Acknowledgement, unwrap
from meshrelay.machine.ranges import RangeSet
from meshrelay.machine.rtt import MAX_TIMEOUT_SECONDS, RoundTrip

__all__ = ["Sender"]

#: Longest distance between two questions to a peer without room.
MAX_PROBE_SECONDS = 5.0

#: Timeouts in a row that mean persistent congestion (RFC 9002, section 7.6).
PERSISTENT_TRIES = 3

#: A timeout of 1 ms doubled this often is over every bound on timeouts.
MAX_DOUBLINGS = 16

#: Packets that a timeout sends again, so that the loss of one does not cost another doubling.
PACKETS_PER_TIMEOUT = 2


class Sender:
    """All messages that the peer has not acknowledged.

    Invariant: `_packets` has all from `_released` up to `_sent_end`; the peer has everything before `expected`.

    :param first_sequence: of the first DAT, 0 to 2^32 - 1.
    :param max_window: bound of the congestion window, in packets.
    :param buffer_bytes: bound of what is queued and unacknowledged.
    """

    def __init__(
        self,
        first_sequence: int,
        round_trip: RoundTrip,
        *,
        max_message_bytes: int,
        buffer_bytes: int,
        max_window: int,
        max_tries: int,
    ) -> None:
        self._max_message_bytes = max_message_bytes
        self._buffer_bytes = buffer_bytes
        self._max_tries = max_tries
        self.round_trip = round_trip
        self.congestion = CongestionWindow(round_trip, max_window)
        self._pacer = Pacer()
        self.in_flight = InFlight(round_trip)
        self.first_sequence = first_sequence
        self._outgoing = OutgoingQueue(first_sequence)
        self._resend: deque[SentPacket] = deque()
        self._packets: dict[int, SentPacket] = {}
        self._reported = RangeSet()
        self._released = self._sent_end = first_sequence
        self.expected = first_sequence
        # First sequence number beyond the peer's window.
        self._edge = first_sequence
        self._tries = 0
        self._doublings = 0
        self._free_passes = 0
        self._timer_base = 0.0
        self._probe_at: float | None = None
        self._copies = SecondCopies()
        #: Bytes of messages not acknowledged, sent or not.
        self.buffered_bytes = 0
        self._packets_sent = self._resent = self._fast_resent = 0
        self._timeouts = self._spurious_resends = self._window_probes = 0

    def push(self, data: bytes) -> None:
        """Queue one message.

        :raises LocalProtocolError: it is empty or over `max_message_bytes`.
        :raises SlowReceiver: the buffer is full; nothing was queued.
        """
        if not 0 < len(data) <= self._max_message_bytes:
            raise LocalProtocolError(f"a message of {len(data)} bytes, allowed are 1 to {self._max_message_bytes}")
        if self.buffered_bytes + len(data) > self._buffer_bytes:
            raise SlowReceiver(self.buffered_bytes, self._buffer_bytes)
        self._outgoing.push(data)
        self.buffered_bytes += len(data)

    @property
    def is_drained(self) -> bool:
        """True when the peer has acknowledged everything."""
        return self.expected == self._outgoing.end and not self._outgoing

    @property
    def pending_bytes(self) -> int:
        """Bytes that were never sent."""
        return self._outgoing.pending_bytes

    @property
    def last_sequence(self) -> int:
        """Number of the last DAT made; one less than the first when there is none."""
        return self._outgoing.end - 1

    def unacknowledged(self) -> list[bytes]:
        """Return every message of which the peer may lack a part, in order; merged ones come out merged."""
        messages: list[bytes] = []
        parts: list[bytes] = []
        for packet in (*self._packets.values(), *self._outgoing.fragments()):
            parts.append(packet.content[DAT_HEADER_BYTES:])
            if packet.sequence == packet.message_last:
                messages.append(b"".join(parts))
                parts.clear()
        messages.extend(self._outgoing.messages())
        return messages

    def statistics(self) -> dict[str, float]:
        """Return counters and current values; windows in packets."""
        return {
            "packets_sent": self._packets_sent,
            "resent": self._resent,
            "fast_resent": self._fast_resent,
            "spurious_resends": self._spurious_resends,
            "copies_sent": self._copies.sent,
            "timeouts": self._timeouts,
            "window_probes": self._window_probes,
            "merged_messages": self._outgoing.merged_messages,
            "buffered_bytes": self.buffered_bytes,
            "pending_bytes": self.pending_bytes,
            "in_flight": self.in_flight.count,
            "reordered": self.in_flight.reordered,
            "cwnd": int(self.congestion.window),
            "cwnd_reductions": self.congestion.reductions,
            "loss_share": self.congestion.loss_share,
        }

    def open_window(self, window: int) -> None:
        """Take the window of the peer's SYN."""
        self._edge = max(self._edge, self.expected + window)

    def acknowledge(self, acknowledgement: Acknowledgement, now: float) -> None:
        """Take an ACK or EACK; an old one that was overtaken does no harm.

        :raises PacketRejected: ``ack_of_unsent`` or ``bad_range``; nothing was changed.
        """
        expected = unwrap(acknowledgement.expected, self.expected)
        if not self.first_sequence <= expected <= self._sent_end:
            raise PacketRejected("ack_of_unsent")
        ranges = self._checked_ranges(acknowledgement, expected)
        was_in_flight = self.in_flight.count
        newly = self._newly_acknowledged(expected, ranges)
        if newly:
            self._settle(newly, was_in_flight, now)
        elif expected == self.expected == self._edge:
            # "Still no room" answers a probe: slow, but not dead.
            self._tries = 0
        if ranges and expected == self.expected:
            self.in_flight.reported(self.in_flight.largest_acknowledged)
        self._advance_edge(expected + acknowledgement.window)
        self._release()
        self._lose(self.in_flight.take_lost(now))

    def _checked_ranges(self, acknowledgement: Acknowledgement, expected: int) -> list[tuple[int, int]]:
        ranges: list[tuple[int, int]] = []
        for wire_first, wire_last in acknowledgement.ranges:
            first, last = unwrap(wire_first, expected), unwrap(wire_last, expected)
            if not expected < first <= last:
                raise PacketRejected("bad_range")
            if last >= self._sent_end:
                raise PacketRejected("ack_of_unsent")
            ranges.append((first, last))
        return ranges

    def _newly_acknowledged(self, expected: int, ranges: list[tuple[int, int]]) -> list[SentPacket]:
        packets = self._packets
        newly: list[SentPacket] = []
        if expected > self.expected:
            for sequence in range(self.expected, expected):
                packet = packets[sequence]
                if not packet.is_acknowledged:
                    newly.append(packet)
            self.expected = expected
            self._reported.remove_below(expected)
        for first, last in ranges:
            if last >= self.expected:
                for begin, end in self._reported.add(max(first, self.expected), last):
                    newly.extend(packets[sequence] for sequence in range(begin, end + 1))
        return newly

    def _settle(self, newly: list[SentPacket], was_in_flight: int, now: float) -> None:
        """Take `newly` off the flight, the round trip sample with them, and let the congestion window grow."""
        newly.sort(key=_number)
        in_flight, round_trip = self.in_flight, self.round_trip
        newest = newly[-1]
        for packet in newly:
            if not in_flight.acknowledged(packet, now):
                self._spurious_resends += 1
                round_trip.add_late(now - packet.first_sent_at)
                if packet.lost_number:
                    self.congestion.loss_was_wrong(packet.lost_number)
            elif packet.lost_number == packet.number:
                # Taken for lost and not sent again yet.
                round_trip.add_late(now - packet.first_sent_at)
                self.congestion.loss_was_wrong(packet.lost_number)
        if newest.transmissions == 1:
            round_trip.add_sample(now - newest.sent_at)
        self._tries = self._doublings = self._free_passes = 0
        self._timer_base = now
        self.congestion.acknowledged(len(newly), newest.number, was_in_flight, now)

    def _advance_edge(self, edge: int) -> None:
        if edge <= self._edge:
            return
        probe = self._packets.get(self._edge)
        self._edge = edge
        self._probe_at = None
        if probe is not None and probe.is_in_flight:
            # The peer had no room for it; that is no loss.
            self.in_flight.remove(probe)
            self._resend.append(probe)

    def _release(self) -> None:
        """Drop the messages that the peer has as a whole."""
        packets = self._packets
        while self._released < self.expected and packets[self._released].message_last < self.expected:
            packet = packets.pop(self._released)
            self.buffered_bytes -= len(packet.content) - DAT_HEADER_BYTES
            self._released += 1

    def _lose(self, lost: list[SentPacket]) -> None:
        for packet in lost:
            packet.lost_number = packet.number
            self.congestion.lost(packet.number, self.in_flight.latest_number)
            self._resend.append(packet)
        self._fast_resent += len(lost)

    def take(self, now: float) -> list[bytes]:
        """Return the DAT contents that may leave at `now`."""
        contents: list[bytes] = []
        while (packet := self._next_packet(now)) is not None:
            # A timeout sends two packets anyway, and may well send them into the void: no copies of those.
            is_lost = packet.lost_number == packet.number
            if packet.transmissions:
                self._resent += 1
            else:
                self._packets[packet.sequence] = packet
                self._sent_end = packet.sequence + 1
            self.in_flight.sent(packet, now)
            if is_lost and packet.transmissions > 1:
                self._copies.add(packet, now, self.round_trip.smoothed or 0.0)
            self._pacer.sent(now, self.congestion.packet_interval_seconds())
            contents.append(packet.content)
        has_slack = self._has_room() and not self._resend and not self._has_fresh()
        contents += self._copies.take(now, has_slack, self._edge)
        self._packets_sent += len(contents)
        self._arm_probe(now)
        return contents

    def deadline(self) -> float | None:
        """Return when `expire` or `take` has something to do next; None = only after more input."""
        times = [self._probe_at, self.in_flight.deadline(), self._timeout_at(), self._copies.deadline]
        if self._has_room() and (self._resend or self._has_fresh()):
            times.append(self._pacer.deadline())
        return min((time for time in times if time is not None), default=None)

    def expire(self, now: float) -> bool:
        """Do what is due at `now`.

        :returns: False: the last try went unanswered, the peer is gone.
        """
        self._lose(self.in_flight.take_lost(now))
        if self._probe_at is not None and now >= self._probe_at:
            self._probe_at = None
            self._free_passes = 1
            self._window_probes += 1
        timeout_at = self._timeout_at()
        if timeout_at is None or now < timeout_at:
            return True
        if self._tries >= self._max_tries:
            return False
        self._tries += 1
        self._doublings += 1
        self._timer_base = now
        self._timeouts += 1
        overdue = self._take_overdue()
        self._resend.extendleft(reversed(overdue))
        self._free_passes = len(overdue)
        if self._tries == PERSISTENT_TRIES and overdue[0].sequence < self._edge:
            self.congestion.collapse(self.in_flight.latest_number)
        return True

    def path_changed(self) -> None:
        """Start again on another path: what is on its way went to the old address, and nothing is known of the new."""
        self._resend.extend(self.in_flight.take_oldest(self.in_flight.count))
        self.round_trip.reset()
        self.congestion.reset()
        self._pacer = Pacer()
        self._tries = self._doublings = 0

    def _take_overdue(self) -> list[SentPacket]:
        """Take the packet that the peer's stream waits for off the flight, then those that left first."""
        overdue: list[SentPacket] = []
        first = self._packets[self.expected]
        if first.is_in_flight:
            self.in_flight.remove(first)
            overdue.append(first)
        return overdue + self.in_flight.take_oldest(PACKETS_PER_TIMEOUT - len(overdue))

    def _timeout_at(self) -> float | None:
        oldest = self.in_flight.oldest()
        if oldest is None:
            return None
        longest = MAX_TIMEOUT_SECONDS if oldest.sequence < self._edge else MAX_PROBE_SECONDS
        timeout = self.round_trip.timeout_seconds * 2.0 ** min(self._doublings, MAX_DOUBLINGS)
        return max(oldest.sent_at, self._timer_base) + min(timeout, longest)

    def _arm_probe(self, now: float) -> None:
        """Ask again later when the peer's window alone holds everything up."""
        if self.in_flight.count or self._resend or not self._outgoing:
            self._probe_at = None
        elif self._probe_at is None and self._outgoing.next_sequence >= self._edge:
            self._probe_at = now + self.round_trip.timeout_seconds

    def _has_fresh(self) -> bool:
        return bool(self._outgoing) and self._outgoing.next_sequence < self._edge

    def _has_room(self) -> bool:
        return self.in_flight.count < int(self.congestion.window)

    def _next_packet(self, now: float) -> SentPacket | None:
        resend = self._resend
        while resend and resend[0].is_acknowledged:
            resend.popleft()
        if self._free_passes:
            self._free_passes -= 1
            if resend:
                return resend.popleft()
            if self._outgoing:
                return self._outgoing.pop()
        if not (self._has_room() and self._pacer.may_send(now)):
            return None
        if resend:
            return resend.popleft()
        return self._outgoing.pop() if self._has_fresh() else None


def _number(packet: SentPacket) -> int:
    return packet.number
