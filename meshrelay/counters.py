"""Plain integers that count what happens, read by the metrics page.

Counting must cost next to nothing on the path of a message, so the layers add to plain attributes, and only a reader of
the metrics page pays for a prometheus sample. Names end in what they count; labels come from fixed sets, never
from what a user can choose.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

__all__ = ["COMMAND_CLASSES", "SECONDS", "Durations", "NodeCounters", "TransportCounters"]

#: Upper bounds for what takes from a part of a millisecond to a few seconds.
SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

#: What commands are told apart by; see `meshrelay.session.dispatch.command_class`.
COMMAND_CLASSES = ("room", "group", "direct", "link", "other", "application")


class Durations:
    """How long something took, each time: counts by upper bound.

    :param bounds: seconds, ascending.
    :ivar sum_seconds: of all.
    """

    __slots__ = ("_bounds", "_counts", "sum_seconds")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self._bounds = bounds
        #: Up to each bound and above the one before it; the last entry counts those above all bounds.
        self._counts = [0] * (len(bounds) + 1)
        self.sum_seconds = 0.0

    def add(self, seconds: float) -> None:
        """Count one. Below 0, when a clock was set back, is 0."""
        seconds = max(0.0, seconds)
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self.sum_seconds += seconds

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self._counts)

    def buckets(self) -> list[tuple[str, float]]:
        """Return each upper bound with the count of those up to it, as prometheus wants them."""
        total = 0
        pairs = []
        for bound, count in zip([*map(str, self._bounds), "+Inf"], self._counts, strict=True):
            total += count
            pairs.append((bound, float(total)))
        return pairs


class TransportCounters:
    """What went through all connections of one transport."""

    __slots__ = (
        "bytes_received",
        "bytes_sent",
        "connections",
        "connections_total",
        "direct_writes",
        "messages_received",
        "messages_sent",
        "transport_writes",
    )

    def __init__(self) -> None:
        #: Open now.
        self.connections = 0
        #: Accepted since start.
        self.connections_total = 0
        #: Frames.
        self.messages_received = 0
        self.messages_sent = 0
        self.bytes_received = 0
        self.bytes_sent = 0
        #: Writes that the kernel took at once.
        self.direct_writes = 0
        #: Writes that went through the transport's own buffer.
        self.transport_writes = 0


class NodeCounters:
    """All counters of one node.

    :param transports: names of the transports.
    """

    def __init__(self, transports: tuple[str, ...] = ("tcp", "websocket", "udp")) -> None:
        self.transports = {name: TransportCounters() for name in transports}
        #: (transport, close reason) -> connections closed.
        self.closes: Counter[tuple[str, str]] = Counter()
        #: Policy -> frames dropped from outboxes.
        self.outbox_dropped: Counter[str] = Counter()
        #: Reason -> datagrams dropped without an answer.
        self.packets_rejected: Counter[str] = Counter()
        #: Reason -> datagrams or frames that could not be sent.
        self.packets_dropped: Counter[str] = Counter()
        #: Error code -> commands answered with it.
        self.errors: Counter[int] = Counter()
        #: Reason -> connections that were refused before they were sessions.
        self.refused: Counter[str] = Counter()
        #: Largest number of seconds that a turn came late since the metrics were read.
        self.reactor_lag_seconds = 0.0
        #: UDP clients that came from another address.
        self.address_changes = 0
        self.commands = 0
        #: Class of commands -> how long they took; of some of them only.
        self.command_seconds = {name: Durations() for name in COMMAND_CLASSES}
        self.deliveries = 0
        #: Subscribers that raised instead of taking their frames: our bugs.
        self.delivery_failures = 0
        self.batches = 0
        self.resumes: Counter[str] = Counter()
