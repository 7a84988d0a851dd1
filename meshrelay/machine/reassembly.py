"""DAT contents in, whole messages in order and acknowledgements out: the half of the reliable machine that receives.

What comes early is held until the gap before it is filled; what came before is acknowledged again and dropped.
Fragments of one message have consecutive sequence numbers, so each packet is checked against its two neighbours when
it arrives: contradictions are refused at the door, and what is held always fits together.

Bounds: nothing at or beyond the edge told to the peer is held. The edge moves on with the stream, but not while
messages wait to be fetched, and never back: at most twice the window of packets and one unfinished message of
`max_message_bytes` are in memory. A fragment that never comes costs the peer its own stream and us no more than that.

Acknowledgements are owed at once for every second packet, for what is early, for what fills a gap and for repetitions;
otherwise after `ack_delay_seconds`, or as soon as something else is sent.
"""

from __future__ import annotations

from meshrelay.errors import FrameTooLarge, PacketRejected
from meshrelay.machine.packets import MAX_FRAGMENT_BYTES, Fragment, decode_dat, encode_acknowledgement, unwrap
from meshrelay.machine.ranges import RangeSet
from meshrelay.wire.datagram import PacketKind

__all__ = ["Receiver"]

#: Ranges that one EACK tells of: enough for any loss that still lets a stream run; 168 would fit.
MAX_RANGES = 32

#: Packets in order that are acknowledged together.
PACKETS_PER_ACK = 2


class Receiver:
    """What of the peer's stream has arrived. Invariant: everything before `expected` was put together or is in `_part`.

    :param first_sequence: of the peer's SYN.
    :param window: how many packets may be held or wait to be fetched, 1 to 65,535.
    """

    def __init__(self, first_sequence: int, *, window: int, max_message_bytes: int, ack_delay_seconds: float) -> None:
        self._capacity = window
        # Small messages come merged, whatever the bound of one is.
        self._max_message_bytes = max(max_message_bytes, MAX_FRAGMENT_BYTES)
        self._ack_delay = ack_delay_seconds
        self.first_sequence = first_sequence
        self.expected = first_sequence
        self._early: dict[int, Fragment] = {}
        self._ranges = RangeSet()
        self._latest = first_sequence
        # The unfinished message; one growing buffer, for its fragments may be tiny.
        self._part = bytearray()
        self._next_piece = 0
        self._pieces = 0
        self._unfetched = 0
        self._edge = first_sequence + window
        self._told_edge = self._edge
        self._last: int | None = None
        self._unacknowledged = 0
        #: True: an acknowledgement is due now.
        self.owes_ack = False
        #: When the delayed acknowledgement is due; None = there is none.
        self.ack_at: float | None = None
        self._packets_received = self._duplicates = self._early_packets = self._acks_sent = 0

    @property
    def window(self) -> int:
        """How many packets from `expected` on there is room for."""
        return self._edge - self.expected

    @property
    def is_complete(self) -> bool:
        """True: the peer said which packet is its last one, and everything up to it has arrived."""
        return self._last is not None and self.expected > self._last

    def receive(self, content: bytes, now: float) -> list[tuple[bytes, int]]:
        """Take one DAT.

        :returns: the messages that it completes, in order, each with the number of packets it came in; they count
            against the window until `fetched` is told.
        :raises PacketRejected: ``bad_length``, ``bad_fragment`` or ``outside_window``; nothing was changed.
        :raises FrameTooLarge: the message goes over `max_message_bytes`; the stream cannot go on.
        """
        fragment = decode_dat(content)
        sequence = unwrap(fragment.sequence, self.expected)
        if sequence < self.first_sequence:
            raise PacketRejected("outside_window")
        if sequence < self.expected or sequence in self._early:
            self._duplicates += 1
            self.owes_ack = True
            return []
        if sequence >= self._edge or (self._last is not None and sequence > self._last):
            # The packet right at the edge is the question whether there is room again.
            self.owes_ack = self.owes_ack or sequence == self._edge
            raise PacketRejected("outside_window")
        self._check_neighbours(sequence, fragment)
        self._packets_received += 1
        if sequence != self.expected:
            self._hold(sequence, fragment)
            return []
        self._owe_acknowledgement(now)
        messages = self._take_in(fragment)
        self._move_edge()
        return messages

    def finish(self, last: int) -> None:
        """Take the peer's FIN.

        :param last: as on the wire.
        :raises PacketRejected: ``bad_fin``: it contradicts an earlier one or what has arrived.
        """
        number = unwrap(last, self.expected)
        highest = self._ranges.ranges()[-1][1] if self._ranges else self.expected - 1
        if number < highest or number > self._edge or self._last not in (None, number):
            raise PacketRejected("bad_fin")
        self._last = number
        self.owes_ack = True

    def fetched(self, packets: int) -> None:
        """Note that a message of that many packets was fetched; the peer hears of it when half the window is free."""
        self._unfetched -= packets
        self._move_edge()
        half = self._capacity // 2
        if self._told_edge - self.expected < half <= self.window:
            self.owes_ack = True

    def acknowledgement(self) -> tuple[PacketKind, bytes]:
        """Return the ACK, or the EACK when something is held; nothing is owed afterwards."""
        self.owes_ack = False
        self.ack_at = None
        self._unacknowledged = 0
        self._told_edge = self._edge
        self._acks_sent += 1
        return encode_acknowledgement(self.expected, self.window, self._ranges.lowest(MAX_RANGES, self._latest))

    def statistics(self) -> dict[str, float]:
        """Return counters and current values, in packets."""
        return {
            "packets_received": self._packets_received,
            "duplicates": self._duplicates,
            "early_packets": self._early_packets,
            "acks_sent": self._acks_sent,
            "held_packets": len(self._early),
            "unfetched_packets": self._unfetched,
            "receive_window": self.window,
        }

    def clear(self) -> None:
        """Drop what is held: the session is over."""
        self._early.clear()
        self._ranges = RangeSet()
        self._part.clear()
        self.owes_ack = False
        self.ack_at = None

    def _move_edge(self) -> None:
        self._edge = max(self._edge, self.expected + self._capacity - self._unfetched)

    def _check_neighbours(self, sequence: int, fragment: Fragment) -> None:
        if sequence == self.expected:
            fits = fragment.piece == self._next_piece and (not fragment.piece or fragment.pieces == self._pieces)
        else:
            fits = _follows(self._early.get(sequence - 1), fragment)
        after = self._early.get(sequence + 1)
        if not fits or (after is not None and not _follows(fragment, after)):
            raise PacketRejected("bad_fragment")

    def _hold(self, sequence: int, fragment: Fragment) -> None:
        self._early[sequence] = fragment
        self._ranges.add(sequence, sequence)
        self._latest = sequence
        self._early_packets += 1
        self.owes_ack = True

    def _owe_acknowledgement(self, now: float) -> None:
        self._unacknowledged += 1
        if self._early or self._unacknowledged >= PACKETS_PER_ACK:
            self.owes_ack = True
        elif self.ack_at is None:
            self.ack_at = now + self._ack_delay

    def _take_in(self, fragment: Fragment | None) -> list[tuple[bytes, int]]:
        """Take `fragment` and what is held right behind it into the stream."""
        messages: list[tuple[bytes, int]] = []
        while fragment is not None:
            self.expected += 1
            data = fragment.payload if fragment.pieces == 1 else self._add_part(fragment)
            if data is not None:
                self._check_size(len(data))
                messages.append((data, fragment.pieces))
                self._unfetched += fragment.pieces
            fragment = self._early.pop(self.expected, None) if self._early else None
        if self._ranges:
            self._ranges.remove_below(self.expected)
        return messages

    def _add_part(self, fragment: Fragment) -> bytes | None:
        """Return the message when `fragment` is its last one."""
        self._check_size(len(self._part) + len(fragment.payload))
        self._part += fragment.payload
        self._next_piece = fragment.piece + 1
        self._pieces = fragment.pieces
        if self._next_piece < fragment.pieces:
            return None
        data = bytes(self._part)
        self._part.clear()
        self._next_piece = 0
        return data

    def _check_size(self, size: int) -> None:
        if size > self._max_message_bytes:
            raise FrameTooLarge(size, self._max_message_bytes)


def _follows(before: Fragment | None, fragment: Fragment) -> bool:
    """Tell whether `fragment` may come right after `before`; None = not known."""
    if before is None:
        return True
    if before.piece == before.pieces - 1:
        return fragment.piece == 0
    return fragment.piece == before.piece + 1 and fragment.pieces == before.pieces
