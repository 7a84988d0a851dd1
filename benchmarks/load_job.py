"""What the load is told to do, in the terms that both of its implementations (`load_native`, `load_python`) take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["DIGITS", "HISTOGRAM_BITS", "CastJob", "TalkJob", "TalkStep", "percentile"]

#: The number of a message, in hexadecimal digits.
DIGITS = 16

#: 2 to this many steps of the histogram for each power of two of nanoseconds; load.c has the same.
HISTOGRAM_BITS = 5


@dataclass(frozen=True)
class CastJob:
    """One publisher, many members, all signed in and joined, and message 0 is on its way. Of a pair: one member.

    :ivar publisher: descriptor of its socket.
    :ivar members: descriptors of theirs.
    :ivar check_every: each of so many members checks every byte, the others count; 0 = all count.
    :ivar message: what the publisher writes for one message, masked where its protocol wants that.
    :ivar digits_at: where the number stands in it.
    :ivar digit_mask: 16 bytes to XOR the digits with.
    :ivar delivery: message 0 as a member gets it, without the header of a WebSocket message.
    :ivar delivery_digits_at: where the number stands in it.
    :ivar is_websocket: members strip the headers of WebSocket messages.
    :ivar ignored: what a server may say between deliveries.
    :ivar varying: where a delivery has bytes, before the number, that differ each time, and how many.
    """

    publisher: int
    members: Sequence[int]
    check_every: int
    message: bytes
    digits_at: int
    digit_mask: bytes
    delivery: bytes
    delivery_digits_at: int
    is_websocket: bool
    ignored: bytes
    varying: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class TalkStep:
    """What to say, and how to know that it was answered.

    :ivar variants: line n says number n modulo their count. Empty ones say nothing.
    :ivar answer_bytes: an answer has at least so many bytes.
    :ivar tail: and ends with this, at most 8 bytes.
    """

    variants: Sequence[bytes]
    answer_bytes: int
    tail: bytes = b""


@dataclass(frozen=True)
class TalkJob:
    """Connections to a port on loopback that each say all steps.

    :ivar again_from: -1 = each stays open after its last step; 0 = it closes and the next one comes; more = it goes on
        with that step.
    :ivar at_once: connections that talk at the same time.
    :ivar count: connections altogether, where they stay open; otherwise the same as `at_once`.
    :ivar farewell: said before closing.
    """

    port: int
    steps: Sequence[TalkStep]
    again_from: int
    at_once: int
    count: int
    farewell: bytes = b""


def percentile(histogram: Sequence[int], part: float) -> float:
    """Milliseconds below which `part` (0..1) of the counted times lie; 0 when nothing was counted."""
    total = sum(histogram)
    seen = 0
    for slot, count in enumerate(histogram):
        seen += count
        if count and seen >= part * total:
            steps = 1 << HISTOGRAM_BITS
            power, step = divmod(slot, steps)
            # The middle of the step.
            value = slot + 0.5 if not power else (steps + step + 0.5) * 2 ** (power - 1)
            return value / 1e6
    return 0.0
