"""The DAT packets on their way, and the decision which of them are lost.

`machine.sending` tells what was sent and what was acknowledged; it gets back what to send again. A transmission is
lost when later transmissions were acknowledged and

* three EACKs have reported later ones (client protocol, section 5), or
* it has been out longer than `RoundTrip.patience_seconds` (RFC 8985, RACK).

The first rule rests while the path has lately been seen to deliver out of order: with 20 ms of jitter and a packet each
millisecond three later reports say nothing, and the rule would send every second packet twice. "Later" compares
transmission numbers, not sequence numbers, so the loss of a packet sent again is found the same way, without a timeout.

The queue is in order of transmission and entries die in place, so each step is O(1) amortised, whatever the window.
"""

from __future__ import annotations

from collections import deque

from meshrelay.machine.rtt import RoundTrip

__all__ = ["InFlight", "SentPacket"]

#: How many EACKs for later packets make a loss.
REPORTS_OF_A_LOSS = 3

#: How long one late arrival keeps the rule of three reports at rest.
REORDERING_MEMORY_SECONDS = 30.0


class SentPacket:
    """One DAT, from its making to the acknowledgement of its whole message."""

    __slots__ = (
        "content",
        "first_sent_at",
        "is_acknowledged",
        "is_in_flight",
        "lost_number",
        "message_last",
        "number",
        "sent_at",
        "sequence",
        "transmissions",
    )

    def __init__(self, sequence: int, message_last: int, content: bytes) -> None:
        self.sequence = sequence
        #: Sequence of the last fragment of the same message.
        self.message_last = message_last
        self.content = content
        self.is_acknowledged = False
        self.is_in_flight = False
        self.transmissions = 0
        #: Of the last transmission; numbers count up over all packets.
        self.number = 0
        self.sent_at = 0.0
        self.first_sent_at = 0.0
        #: The transmission that was last taken for lost and counted as such; 0 = none.
        self.lost_number = 0


class InFlight:
    """Transmissions without an answer, oldest first. Invariant: `count` of them are alive.

    :param round_trip: read for its patience; samples are added by the owner.
    """

    def __init__(self, round_trip: RoundTrip) -> None:
        self._round_trip = round_trip
        self._queue: deque[tuple[int, SentPacket]] = deque()
        self.count = 0
        self.latest_number = 0
        self.largest_acknowledged = 0
        # The newest transmissions that the three most telling EACKs reported; the smallest first.
        self._reports = [0] * REPORTS_OF_A_LOSS
        self._reordered_until = 0.0
        self.reordered = 0

    def sent(self, packet: SentPacket, now: float) -> None:
        """Note that `packet` leaves."""
        self.latest_number += 1
        packet.number = self.latest_number
        packet.sent_at = now
        if not packet.transmissions:
            packet.first_sent_at = now
        packet.transmissions += 1
        packet.is_in_flight = True
        self.count += 1
        self._queue.append((packet.number, packet))

    def remove(self, packet: SentPacket) -> None:
        """Take a packet off without judging it."""
        if packet.is_in_flight:
            packet.is_in_flight = False
            self.count -= 1

    def acknowledged(self, packet: SentPacket, now: float) -> bool:
        """Take a packet off because the peer has it.

        :returns: False when the answer came too soon to be one to the last transmission: an earlier one had arrived.
        """
        self.remove(packet)
        packet.is_acknowledged = True
        if packet.transmissions > 1 and now - packet.sent_at < self._round_trip.minimum:
            self._reordered_until = now + REORDERING_MEMORY_SECONDS
            return False
        if packet.number > self.largest_acknowledged:
            self.largest_acknowledged = packet.number
        elif packet.transmissions == 1:
            # Callers go through one acknowledgement in ascending order, so this is later news of an earlier packet.
            self.reordered += 1
            self._reordered_until = now + REORDERING_MEMORY_SECONDS
        return True

    def reported(self, number: int) -> None:
        """Note that one EACK told of the transmission `number`, or of nothing later than it."""
        reports = self._reports
        if number > reports[0]:
            reports[0] = number
            reports.sort()

    def take_lost(self, now: float) -> list[SentPacket]:
        """Take off what is lost at `now`, oldest first."""
        lost: list[SentPacket] = []
        by_reports = self._reports[0] if now >= self._reordered_until else 0
        patience = self._round_trip.patience_seconds
        while (packet := self.oldest()) is not None:
            late = packet.number < self.largest_acknowledged and now >= packet.sent_at + patience
            if not late and packet.number >= by_reports:
                break
            self.remove(packet)
            lost.append(packet)
        return lost

    def take_oldest(self, limit: int) -> list[SentPacket]:
        """Take off the `limit` oldest ones, lost or not."""
        taken: list[SentPacket] = []
        while len(taken) < limit and (packet := self.oldest()) is not None:
            self.remove(packet)
            taken.append(packet)
        return taken

    def oldest(self) -> SentPacket | None:
        """Return the living transmission that left first."""
        queue = self._queue
        while queue:
            number, packet = queue[0]
            if packet.is_in_flight and packet.number == number:
                return packet
            queue.popleft()
        return None

    def deadline(self) -> float | None:
        """Return when the oldest one becomes lost, if later ones were acknowledged."""
        packet = self.oldest()
        if packet is None or packet.number >= self.largest_acknowledged:
            return None
        return packet.sent_at + self._round_trip.patience_seconds
