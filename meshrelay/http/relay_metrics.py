"""Counters of the relay server -> prometheus samples.

What NetBird's relay server counts as well has NetBird's name, unit and buckets, so that its dashboards go on working;
the rest is ours and begins with ``meshrelay_relay_``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Protocol

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from meshrelay.counters import TransportCounters
from meshrelay.relay.auth import REFUSALS
from meshrelay.relay.counters import BUCKETS_MS, Durations, RelayCounters
from meshrelay.relay.errors import RelayEnd
from meshrelay.wire.relay import MessageType

__all__ = ["RelayCollector", "RelaySource"]

#: See `RelayCounters.dropped`.
DROPS = ("absent", "too_large", "slow")

#: Messages that a client may get wrong without being cut off.
IGNORED = tuple(
    kind.name.lower()
    for kind in (
        MessageType.TRANSPORT,
        MessageType.AUTH,
        MessageType.SUBSCRIBE_PEER_STATE,
        MessageType.UNSUBSCRIBE_PEER_STATE,
    )
)


class RelaySource(Protocol):
    """What is read for each page; `meshrelay.relay_parts.RelayNode` is one."""

    counters: RelayCounters

    def active_count(self) -> int:
        """Return how many peers sent something of late."""

    def transports(self) -> Mapping[str, TransportCounters]:
        """Return the transports that listen, by NetBird's names."""

    def refused_handshakes(self) -> int:
        """Return how many QUIC handshakes were not answered."""


class RelayCollector(Collector):
    """Makes the samples of one relay server."""

    def __init__(self, source: RelaySource) -> None:
        self._source = source

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        yield from self._of_netbird()
        yield from self._of_ours()

    def _of_netbird(self) -> Iterator[Metric]:
        counters = self._source.counters
        yield CounterMetricFamily(
            "relay_transfer_sent_bytes", "Bytes of messages handed to their receivers.", value=counters.sent_bytes
        )
        yield CounterMetricFamily(
            "relay_transfer_received_bytes", "Bytes of messages from senders.", value=counters.received_bytes
        )
        peers = {**dict.fromkeys(self._source.transports(), 0), **counters.peers}
        yield _labelled(GaugeMetricFamily("relay_peers", "Peers signed in.", labels=["transport"]), peers)
        active = self._source.active_count()
        yield GaugeMetricFamily("relay_peers_active", "Peers that sent a message in the last 30 s.", value=active)
        idle = sum(counters.peers.values()) - active
        yield GaugeMetricFamily("relay_peers_idle", "Peers that did not.", value=max(0, idle))
        yield CounterMetricFamily(
            "relay_peer_reconnections",
            "Peers that took the place of an older connection.",
            value=counters.reconnections,
        )
        name, text = "relay_peer_authentication_time_milliseconds", "From the connection to the answer."
        yield _histogram(name, text, counters.authentication)
        yield _histogram("relay_peer_store_time_milliseconds", "Into the table of peers.", counters.storing)

    def _of_ours(self) -> Iterator[Metric]:
        counters = self._source.counters
        for name, value, text in (
            ("connections", counters.connections, "Connections, signed in or not."),
            ("subscriptions", counters.subscriptions, "Peer states subscribed to."),
        ):
            yield GaugeMetricFamily(f"meshrelay_relay_{name}", text, value=value)
        for name, value, text in (
            ("connections_refused", counters.connections_refused, "Connections over the limit, or while stopping."),
            ("handshakes_refused", self._source.refused_handshakes(), "QUIC handshakes that were not answered."),
            ("subscriptions_refused", counters.subscriptions_refused, "Subscriptions over a limit."),
        ):
            yield CounterMetricFamily(f"meshrelay_relay_{name}", text, value=value)
        messages = {"received": counters.messages_received, "sent": counters.messages_sent}
        for name, label, text, counts in (
            ("messages", "direction", "Messages of peers.", messages),
            ("dropped", "reason", "Messages that nobody got.", {**dict.fromkeys(DROPS, 0), **counters.dropped}),
            ("ignored", "kind", "Messages passed over.", {**dict.fromkeys(IGNORED, 0), **counters.ignored}),
            ("closes", "reason", "Connections ended.", {**{end.value: 0 for end in RelayEnd}, **counters.closes}),
            (
                "tokens_refused",
                "reason",
                "Tokens that were not good.",
                {**dict.fromkeys(REFUSALS, 0), **counters.tokens_refused},
            ),
        ):
            yield _labelled(CounterMetricFamily(f"meshrelay_relay_{name}", text, labels=[label]), counts)
        yield self._bytes()

    def _bytes(self) -> Metric:
        text = "Bytes of messages and what holds them."
        metric = CounterMetricFamily("meshrelay_relay_bytes", text, labels=["transport", "direction"])
        for name, transport in self._source.transports().items():
            metric.add_metric([name, "received"], transport.bytes_received)
            metric.add_metric([name, "sent"], transport.bytes_sent)
        return metric


def _labelled(
    metric: GaugeMetricFamily | CounterMetricFamily, counts: Mapping[str, int]
) -> GaugeMetricFamily | CounterMetricFamily:
    for value, count in counts.items():
        metric.add_metric([value], count)
    return metric


def _histogram(name: str, text: str, durations: Durations) -> Metric:
    ends = [*(f"{end:g}" for end in BUCKETS_MS), "+Inf"]
    metric = HistogramMetricFamily(name, text)
    metric.add_metric([], list(zip(ends, accumulate(durations.counts), strict=True)), durations.total_ms)
    return metric
