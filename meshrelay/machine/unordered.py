"""Reliable messages as they come: whole, once, but not in order.

The reliable machine keeps what is early until the gap before it is filled, which is right for most and too late for
those who want the newest state. `EarlyMessages` is shown the same DAT contents after the machine has taken them, and
puts messages together by themselves; the machine's own ones are then thrown away by whoever uses both. What is held is
bounded by the machine's window, since it shows nothing beyond.
"""

from __future__ import annotations

from meshrelay.machine.packets import decode_dat, unwrap
from meshrelay.machine.ranges import RangeSet

__all__ = ["EarlyMessages"]


class EarlyMessages:
    """Fragments of unfinished messages, and which sequence numbers were here."""

    def __init__(self) -> None:
        self._seen = RangeSet()
        self._highest = 0
        # (first sequence number, pieces) -> index -> bytes.
        self._parts: dict[tuple[int, int], dict[int, bytes]] = {}

    def receive(self, content: bytes) -> bytes | None:
        """Take one DAT that the machine has accepted.

        :returns: the message that it completes; None: it is a part of one, or was here before.
        :raises PacketRejected: it is no DAT; the machine says so first.
        """
        fragment = decode_dat(content)
        sequence = unwrap(fragment.sequence, self._highest) if self._seen else fragment.sequence
        if not self._seen.add(sequence, sequence):
            return None
        self._highest = self._seen.ranges()[-1][1]
        if fragment.pieces == 1:
            return fragment.payload
        key = (sequence - fragment.piece, fragment.pieces)
        parts = self._parts.setdefault(key, {})
        parts[fragment.piece] = fragment.payload
        if len(parts) < fragment.pieces:
            return None
        del self._parts[key]
        return b"".join(parts[piece] for piece in range(fragment.pieces))

    @property
    def held_bytes(self) -> int:
        """Bytes of unfinished messages."""
        return sum(len(part) for parts in self._parts.values() for part in parts.values())
