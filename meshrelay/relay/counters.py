"""Plain integers of one relay server, read by the metrics page; see `meshrelay.counters` for why they are plain.

NetBird's name of a metric stands beside the attribute that has one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

__all__ = ["BUCKETS_MS", "Durations", "RelayCounters"]

#: Upper ends of the buckets of NetBird's histograms, in milliseconds.
BUCKETS_MS = (0.1, 0.5, 1.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1000.0, 5000.0, 10000.0)


class Durations:
    """A histogram: how often something took how long."""

    __slots__ = ("counts", "total_ms")

    def __init__(self) -> None:
        #: One for each of `BUCKETS_MS` and one for what took longer; not cumulative.
        self.counts = [0] * (len(BUCKETS_MS) + 1)
        self.total_ms = 0.0

    def add(self, seconds: float) -> None:
        """Count something that took so long."""
        milliseconds = max(seconds, 0.0) * 1000.0
        self.counts[bisect_left(BUCKETS_MS, milliseconds)] += 1
        self.total_ms += milliseconds


class RelayCounters:
    """All counters of one relay server."""

    __slots__ = (
        "authentication",
        "closes",
        "connections",
        "connections_refused",
        "dropped",
        "ignored",
        "messages_received",
        "messages_sent",
        "peers",
        "received_bytes",
        "reconnections",
        "sent_bytes",
        "storing",
        "subscriptions",
        "subscriptions_refused",
        "tokens_refused",
    )

    def __init__(self) -> None:
        #: Whole TRANSPORT messages handed to their receivers: relay_transfer_sent_bytes_total.
        self.sent_bytes = 0
        self.messages_sent = 0
        #: Whole TRANSPORT messages from senders, also those dropped later: relay_transfer_received_bytes_total.
        self.received_bytes = 0
        self.messages_received = 0
        #: Connections open now, signed in or not.
        self.connections = 0
        #: Connections over the limit, or of a server that stops.
        self.connections_refused = 0
        #: Transport -> peers signed in now: relay_peers.
        self.peers: Counter[str] = Counter()
        #: Peers that took the place of an older connection: relay_peer_reconnections_total.
        self.reconnections = 0
        #: From the first byte to the answer: relay_peer_authentication_time_milliseconds.
        self.authentication = Durations()
        #: Into the table: relay_peer_store_time_milliseconds.
        self.storing = Durations()
        #: Reason -> TRANSPORT messages that nobody got: "absent", "too_large", "slow".
        self.dropped: Counter[str] = Counter()
        #: Kind -> messages passed over that could not be read, or came at the wrong time.
        self.ignored: Counter[str] = Counter()
        #: Why -> connections ended; see `errors.RelayEnd`.
        self.closes: Counter[str] = Counter()
        #: See `auth.REFUSALS`.
        self.tokens_refused: Counter[str] = Counter()
        #: Peer states subscribed to now.
        self.subscriptions = 0
        #: Subscriptions over a limit.
        self.subscriptions_refused = 0
