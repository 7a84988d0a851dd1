"""Counters of the node as a peer of the overlay -> prometheus samples that begin with ``meshrelay_overlay_``.

Values of labels come from the fixed sets of the overlay; those known here stand on the page with 0 from the start.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from meshrelay.overlay.channel import LinkEnd
from meshrelay.overlay.counters import OverlayCounters
from meshrelay.overlay.router import Dropped
from meshrelay.wire.overlay import Fault

__all__ = ["TRANSPORTS", "OverlayCollector", "OverlaySource"]

TRANSPORTS = ("ws", "wrtc")

#: Connections that never were links; see `meshrelay.transport.overlay_link.OverlaySocketCounters`.
REFUSALS = ("address", "busy", "full", "handshake_bytes", "handshake_timeout", "origin")

#: Beside those of `Dropped`; see `meshrelay.overlay.counters.OverlayCounters`.
DROPS = (
    "answer",
    "bad_proof",
    "link_too_fast",
    "link_too_slow",
    "not_from_neighbour",
    "not_open",
    "not_proved",
    "offer",
    "too_large_for_link",
    "too_many_requests",
    "unasked_peers",
    "unexpected_signal",
    "unknown_type",
)

_TEXTS = {
    "frames_received": "Frames of all links.",
    "frames_sent": "Frames of all links.",
    "received_bytes": "Bytes of the frames.",
    "sent_bytes": "Bytes of the frames.",
    "messages_sent": "Messages of this peer.",
    "messages_delivered": "Messages for this peer.",
    "messages_relayed": "Envelopes of others that were passed on.",
    "links_opened": "Links that came to be.",
    "dials": "Tries to reach a peer.",
    "dials_failed": "Tries that came to nothing.",
}


class OverlaySource(Protocol):
    """What is read for each page; `meshrelay.overlay_parts.OverlayNode` makes one."""

    @property
    def counters(self) -> OverlayCounters:
        """Of the peer."""

    def links(self) -> Mapping[str, int]:
        """Return how many links there are by each transport."""

    def sizes(self) -> Mapping[str, int]:
        """Return what else is to be known, the same names at each call; none of them is one of the counters."""

    def refused(self) -> Mapping[str, int]:
        """Return why connections never were links, and how often."""


class OverlayCollector(Collector):
    """Makes the samples of one peer."""

    def __init__(self, source: OverlaySource) -> None:
        self._source = source

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        source = self._source
        counters = source.counters
        peers = GaugeMetricFamily("meshrelay_overlay_peers", "Peers with a link.", labels=["transport"])
        for transport, count in {**dict.fromkeys(TRANSPORTS, 0), **source.links()}.items():
            peers.add_metric([transport], count)
        yield peers
        for name, value in counters.totals().items():
            yield CounterMetricFamily(f"meshrelay_overlay_{name}", _TEXTS.get(name, "Of the overlay."), value=value)
        for name, value in source.sizes().items():
            yield GaugeMetricFamily(f"meshrelay_overlay_{name}", "Of the overlay.", value=value)
        for name, text, known, counts in (
            ("bad_frames", "Frames that break the protocol.", tuple(Fault), counters.bad_frames),
            ("dropped", "Frames and envelopes that went no further.", (*_values(Dropped), *DROPS), counters.dropped),
            ("links_closed", "Links that ended.", _values(LinkEnd), counters.links_closed),
            ("connections_refused", "Connections that never were links.", REFUSALS, source.refused()),
        ):
            metric = CounterMetricFamily(f"meshrelay_overlay_{name}", text, labels=["reason"])
            for reason, count in {**dict.fromkeys(known, 0), **counts}.items():
                metric.add_metric([str(reason)], count)
            yield metric


def _values(reasons: type[Dropped] | type[LinkEnd]) -> tuple[str, ...]:
    return tuple(reason.value for reason in reasons)
