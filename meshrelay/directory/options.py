"""Deadlines, leases and bounds of a directory, checked once."""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["DirectoryOptions"]


@dataclass(frozen=True, slots=True)
class DirectoryOptions:
    """How long things take at most, and how many fit.

    :raises ValueError: a number is not above 0.
    """

    #: Every call has ended by then, in seconds.
    deadline_seconds: float = 2.0
    #: A node that was not renewed for so long is gone.
    lease_seconds: float = 10.0
    #: Redis forgets users and groups that were not said again for so long.
    entry_seconds: float = 3600.0
    #: How often the directory looks whether its data were lost.
    check_seconds: float = 1.0
    max_nodes: int = 1_000
    #: Of a memory directory; in Redis its own ``maxmemory`` is the bound.
    max_users: int = 10_000_000
    #: As `max_users`.
    max_groups: int = 1_000_000
    #: Calls that wait for an answer from Redis; one more fails at once.
    max_pending: int = 10_000

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise ValueError(f"{field.name} is {value}, must be above 0")
