"""Links and the directory of a node -> prometheus samples.

The label ``node`` holds the ID of the node at the other end: operators choose those, and there are as many as links at
most. A link that is forgotten takes its samples along.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from meshrelay.mesh.link import LinkState, NodeLink
from meshrelay.wire.node import Refusal

__all__ = ["DIRECTORY_COUNTERS", "DIRECTORY_GAUGES", "DirectoryCollector", "LinkCollector", "LinkTable"]

#: Key of a link's statistics -> what it is; the name of the metric is the key.
_LINK_GAUGES: Mapping[str, str] = {
    "queued_bytes": "Bytes that wait for the node.",
    "queued_messages": "Messages that wait for the node.",
    "unacknowledged_batches": "Batches on their way to the node.",
}
_LINK_COUNTERS: Mapping[str, str] = {
    "sent_messages": "Messages sent to the node.",
    "sent_batches": "Batches sent to the node.",
    "resent_batches": "Batches sent again after a connection was lost.",
    "dropped_messages": "Messages dropped because too much waited for the node.",
    "received_messages": "Messages of the node.",
    "skipped_messages": "Messages of a kind that this version does not know.",
    "duplicate_batches": "Batches that had come before.",
    "ups": "Connections to the node, one after the other.",
}

#: What of a directory's statistics says how many there are now; everything else only grows.
DIRECTORY_GAUGES: Mapping[str, str] = {
    "groups": "Groups that nodes have told it of.",
    "nodes": "Nodes that have told it of themselves.",
    "pending": "Calls to it that wait for an answer.",
    "users": "Users that nodes have told it of.",
    "waiting": "Calls to it that wait for a connection.",
}
DIRECTORY_COUNTERS: Mapping[str, str] = {
    "calls": "Calls to it.",
    "connections": "Connections to it, one after the other.",
    "leases_ended": "Nodes that it has forgotten because they said nothing.",
    "loopback_connections": "Connections for health checks, one after the other.",
    "loopbacks_refused": "Health checks refused because too many were under way.",
    "losses": "Times that it has forgotten everything, and was told again.",
    "refused_busy": "Calls refused because too many were under way.",
    "refused_full": "Entries refused because it is full.",
    "timeouts": "Calls that it did not answer in time.",
    "unreadable": "Answers that could not be read.",
}


class LinkTable(Protocol):
    """As much of `meshrelay.mesh.links.Links` as is read."""

    refused: Counter[str]

    def __iter__(self) -> Iterator[NodeLink]:
        """All links, up or not."""

    def statistics(self) -> Mapping[str, int]:
        """Counts of all of them."""


class LinkCollector(Collector):
    """Makes the samples of all links."""

    def __init__(self, links: LinkTable) -> None:
        self._links = links

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        links = list(self._links)
        yield self._states(links)
        yield self._refusals()
        greetings = self._links.statistics()["greetings"]
        yield GaugeMetricFamily(
            "meshrelay_link_greetings", "Connections of nodes that have not proven themselves yet.", value=greetings
        )
        yield self._round_trips(links)
        yield _deliveries(links)
        yield from _per_link(links)

    def _states(self, links: list[NodeLink]) -> Metric:
        states = Counter({state.value: 0 for state in LinkState})
        states.update(link.state.value for link in links)
        metric = GaugeMetricFamily("meshrelay_links", "Links to other nodes.", labels=["state"])
        for state, count in states.items():
            metric.add_metric([state], count)
        return metric

    def _refusals(self) -> Metric:
        metric = CounterMetricFamily("meshrelay_links_refused", "Links refused, by either end.", labels=["code"])
        for code, count in {**dict.fromkeys(Refusal.__members__, 0), **self._links.refused}.items():
            metric.add_metric([code.lower()], count)
        return metric

    def _round_trips(self, links: list[NodeLink]) -> Metric:
        metric = GaugeMetricFamily("meshrelay_link_rtt_seconds", "Smoothed round trip to the node.", labels=["node"])
        for link in links:
            if link.rtt_seconds is not None:
                metric.add_metric([link.node_id], link.rtt_seconds)
        return metric


def _deliveries(links: list[NodeLink]) -> Metric:
    text = "From handing a message over for the node to its word that it has it; one message at a time is watched."
    metric = HistogramMetricFamily("meshrelay_link_delivery_seconds", text, labels=["node"])
    for link in links:
        metric.add_metric([link.node_id], link.delivery_seconds.buckets(), link.delivery_seconds.sum_seconds)
    return metric


def _per_link(links: list[NodeLink]) -> Iterator[Metric]:
    statistics = [(link.node_id, link.statistics()) for link in links]
    families = ((GaugeMetricFamily, _LINK_GAUGES), (CounterMetricFamily, _LINK_COUNTERS))
    for family, texts in families:
        for key, text in texts.items():
            metric = family(f"meshrelay_link_{key}", text, labels=["node"])
            for node_id, counts in statistics:
                metric.add_metric([node_id], counts[key])
            yield metric


class DirectoryCollector(Collector):
    """Makes the samples of the directory as this node uses it.

    :param statistics: `meshrelay.directory.interfaces.IDirectory.statistics`.
    """

    def __init__(self, statistics: Callable[[], Mapping[str, int]]) -> None:
        self._statistics = statistics

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        for key, value in self._statistics().items():
            if key in DIRECTORY_GAUGES:
                yield GaugeMetricFamily(f"meshrelay_directory_{key}", DIRECTORY_GAUGES[key], value=value)
            else:
                text = DIRECTORY_COUNTERS.get(key, "Of the directory.")
                yield CounterMetricFamily(f"meshrelay_directory_{key}", text, value=value)
