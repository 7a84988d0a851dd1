"""Packets of peers that got their sync bytes a moment before we did: kept until ours are here, for a short while."""

from __future__ import annotations

from collections import deque

__all__ = ["EARLY_SECONDS", "MAX_EARLY_PACKETS", "EarlyPackets"]

#: Packets that wait; more push the oldest out, which their sender repeats.
MAX_EARLY_PACKETS = 256

#: How long one is kept.
EARLY_SECONDS = 5.0


class EarlyPackets:
    """See the module. Nobody knows yet whether they are genuine.

    :ivar dropped: packets that were pushed out.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._packets: deque[tuple[float, str, str, bytes]] = deque()

    def __len__(self) -> int:
        return len(self._packets)

    def keep(self, room_id: str, user_id: str, packet: bytes, now: float) -> None:
        """One more, that the node has forwarded for `user_id` in a room."""
        self._forget_old(now)
        if len(self._packets) == MAX_EARLY_PACKETS:
            self._packets.popleft()
            self.dropped += 1
        self._packets.append((now, room_id, user_id, packet))

    def waiting(self) -> list[tuple[str, str, bytes]]:
        """Return room ID, user ID and packet of all, oldest first."""
        return [(room_id, user_id, packet) for _, room_id, user_id, packet in self._packets]

    def take(self, now: float) -> list[tuple[str, str, bytes]]:
        """Return the same, and keep none."""
        self._forget_old(now)
        packets = self.waiting()
        self._packets.clear()
        return packets

    def _forget_old(self, now: float) -> None:
        while self._packets and now > self._packets[0][0] + EARLY_SECONDS:
            self._packets.popleft()
