"""XOR distance between peer IDs: what is near in the overlay, for the router, the table and the handshakes.

IDs are compared as numbers, the first byte is the highest. The distance is symmetric, and each ID has exactly one ID at
each distance, so that there are no ties.
"""

from __future__ import annotations

from meshrelay.wire.overlay import ID_BYTES

__all__ = ["ID_BITS", "distance", "is_closer", "shared_bits"]

ID_BITS = 8 * ID_BYTES


def distance(one: bytes, other: bytes) -> int:
    """The XOR distance of two IDs, 0 to 2^160 - 1."""
    return int.from_bytes(one) ^ int.from_bytes(other)


def shared_bits(one: bytes, other: bytes) -> int:
    """How many bits at the front two IDs have in common, 0 to `ID_BITS`."""
    return ID_BITS - distance(one, other).bit_length()


def is_closer(one: bytes, other: bytes, target: bytes) -> bool:
    """Whether `one` is nearer to `target` than `other` is."""
    goal = int.from_bytes(target)
    return int.from_bytes(one) ^ goal < int.from_bytes(other) ^ goal
