"""Plain integers that count what happens, read by the metrics page.

Counting must cost next to nothing on the path of a message, so the layers add to plain attributes, and only a reader of
the metrics page pays for a prometheus sample. Names end in what they count; labels come from fixed sets, never
from what a user can choose.
"""

from __future__ import annotations

from collections import Counter

__all__ = ["NodeCounters", "TransportCounters"]


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
        self.deliveries = 0
        #: Subscribers that raised instead of taking their frames: our bugs.
        self.delivery_failures = 0
        self.batches = 0
        self.resumes: Counter[str] = Counter()
