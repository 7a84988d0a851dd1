"""What peers sent before this client opened its connection to them: kept for a moment, then forgotten. Pure."""

from __future__ import annotations

__all__ = ["EARLY_SECONDS", "MAX_EARLY_PEERS", "EarlyMessages"]

#: From the last message of a peer.
EARLY_SECONDS = 5.0

MAX_EARLY_PEERS = 10_000


class EarlyMessages:
    """The newest message of each peer that nobody has opened a connection to."""

    __slots__ = ("_kept", "dropped")

    def __init__(self) -> None:
        #: Peer ID -> when it came, and what; the oldest first.
        self._kept: dict[bytes, tuple[float, bytes]] = {}
        #: Messages of new peers while there were `MAX_EARLY_PEERS`.
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, peer_id: bytes, payload: bytes, now: float) -> bool:
        """Keep a message in place of the peer's older one.

        :returns: False: there is no room for one more peer.
        """
        self.expire(now)
        if self._kept.pop(peer_id, None) is None and len(self._kept) >= MAX_EARLY_PEERS:
            self.dropped += 1
            return False
        self._kept[peer_id] = (now, payload)
        return True

    def take(self, peer_id: bytes, now: float) -> bytes | None:
        """Return the message of a peer, once."""
        self.expire(now)
        kept = self._kept.pop(peer_id, None)
        return None if kept is None else kept[1]

    def next_deadline(self) -> float | None:
        """Return when `expire` has something to do; None = nothing is kept."""
        for came_at, _ in self._kept.values():
            return came_at + EARLY_SECONDS
        return None

    def expire(self, now: float) -> None:
        """Forget what is too old."""
        while self._kept:
            peer_id = next(iter(self._kept))
            if self._kept[peer_id][0] + EARLY_SECONDS > now:
                return
            del self._kept[peer_id]

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()
