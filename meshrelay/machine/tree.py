"""Along which tree something reaches many nodes when each of them writes to a few only.

Whoever has something for `targets` cuts them into parts, writes to the first of each part and gives it the rest of
the part, which it serves by the same rule. So nobody has to know the whole tree: it travels with what is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

__all__ = ["split"]

T = TypeVar("T")


def split(targets: Sequence[T], limit: int) -> list[list[T]]:
    """Cut `targets` into parts whose sizes differ by one at most; the order stays.

    Parts of equal size make the lowest tree that there is: `limit` levels hold ``limit + limit**2 + ...`` nodes.

    :param limit: how many parts at most, >= 1. With 1 the tree is a chain.
    :returns: no part is empty; none at all when there are no targets.
    :raises ValueError: `limit` is not positive.
    """
    if limit < 1:
        raise ValueError(f"limit is {limit}, it must be at least 1")
    count = min(limit, len(targets))
    parts, start = [], 0
    for index in range(count):
        # The parts that are left share what is left.
        end = start + -((start - len(targets)) // (count - index))
        parts.append(list(targets[start:end]))
        start = end
    return parts
