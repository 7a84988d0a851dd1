"""Counters of the node as a peer of the overlay -> prometheus samples that begin with ``meshrelay_overlay_``.

Values of labels come from the fixed sets of the overlay; those known here stand on the page with 0 from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from meshrelay.overlay.channel import LinkEnd
from meshrelay.overlay.conversations import Outcome
from meshrelay.overlay.counters import OverlayCounters
from meshrelay.overlay.router import Dropped
from meshrelay.overlay.sealing import SealFault
from meshrelay.wire.overlay import Fault

__all__ = ["OVERLAY_COUNTS", "OVERLAY_SIZES", "TRANSPORTS", "OverlayCollector", "OverlaySource"]

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

#: Beside those of `Outcome`; see `meshrelay.overlay.deliveries.Deliveries.counters`.
DELIVERIES = (
    "acknowledgements",
    "delivered_unsigned",
    "delivered_verified",
    "foreign_acknowledgements",
    "refused_box",
    "refused_key",
    "refused_no_room",
    "refused_number",
    "refused_own_id",
    "refused_signature",
    "refused_stripped",
    "refused_unknown_key",
    "refused_unsigned",
    "refused_value",
    "repeated",
    "resent",
    "sent",
    "too_much_waiting",
    "too_old",
    *(f"refused_seal_{fault.value}" for fault in SealFault),
)

#: See `meshrelay.overlay.handshakes.Handshakes.counts`.
HANDSHAKES = (
    "answers_late",
    "answers_limited",
    "answers_unasked",
    "failed",
    "invited",
    "offers_crossed",
    "offers_refused",
    "timed_out",
    "unusable",
)

#: What `OverlaySource.sizes` names and only grows.
OVERLAY_COUNTS: Mapping[str, str] = {
    "bridge_ignored": "Messages of peers to this node that are none for a user.",
    "bridge_to_peers": "Messages of users that were handed to the overlay.",
    "bridge_to_peers_failed": "Messages of users that no peer got.",
    "bridge_to_users": "Messages of peers that users got.",
    "bridge_to_users_limited": "Messages of peers that send too many, dropped without an answer.",
    "bridge_to_users_refused": "Messages of peers that no user got.",
    "candidates_dead": "IDs forgotten because tries to reach them failed.",
    "candidates_expired": "IDs forgotten because nobody spoke of them any more.",
    "candidates_refused": "IDs that were not remembered for want of room.",
    "candidates_replaced": "IDs forgotten for better ones.",
    "correspondents_evicted": "Peers that messages were exchanged with, forgotten for want of room.",
    "holdings_refused": "Links of other peers that were not remembered for want of room.",
    "nonces_evicted": "Nonces forgotten early for want of room.",
    "paths_evicted": "Ways forgotten early for want of room.",
    "replay_windows_evicted": "Peers whose messages may come twice, as what came was forgotten for want of room.",
    "wrtc_attempts": "Tries to link by WebRTC.",
    "wrtc_attempts_failed": "Tries to link by WebRTC that came to nothing.",
    "wrtc_candidates_refused": "Addresses for WebRTC that are not allowed, are none, or are too many.",
    "wrtc_datagrams_dropped": "Datagrams of WebRTC that were empty or came too fast.",
    "wrtc_faults": "Links by WebRTC that ended because the other end broke the rules.",
    "wrtc_links_opened": "Links by WebRTC that came to be.",
    "wrtc_signals_ignored": "Signals of WebRTC that make no sense.",
}

#: What it names of which there is so much now.
OVERLAY_SIZES: Mapping[str, str] = {
    "bridge_to_peers_pending": "Messages of users that are being handed to the overlay.",
    "bridge_to_users_pending": "Messages of peers on their way to users.",
    "candidates": "IDs that are remembered to link with.",
    "connects_waiting": "IDs that somebody waits for a link with.",
    "correspondents": "Peers that messages are exchanged with.",
    "doubts": "Ways that lately lost a message.",
    "envelopes_held": "Envelopes that wait until it is known which of two links to a peer is used.",
    "handshakes_answered": "IDs whose offers were answered lately.",
    "handshakes_pending": "IDs that an offer or a dial is under way to.",
    "handshakes_resting": "IDs that are left in peace for a while because they could not be reached.",
    "holdings": "Links of other peers that are remembered.",
    "kin": "Meshrelay peers that neighbours named and that are not linked.",
    "links": "Links.",
    "links_greeting": "Connections whose other end has not said who it is.",
    "links_leaving": "Links that are being closed.",
    "links_proved": "Links to meshrelay peers that have proved who they are.",
    "links_rival": "Links to peers that have another one.",
    "messages_waiting": "Messages that are not acknowledged yet.",
    "messages_waiting_bytes": "Bytes of messages that are not acknowledged yet.",
    "nonces": "Nonces that are remembered.",
    "paths": "Peers to whom a way is remembered.",
    "peers_asked": "Neighbours that were asked whom they know.",
    "plain_peers": "Peers known to be of npm's package.",
    "traces": "Traces under way.",
    "tries": "Tries to link that are under way.",
    "wrtc_peers": "Peers known to speak WebRTC.",
}

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
        """Return what else is to be known, the same names at each call; none of them is one of the counters.

        What is in neither table is shown as a size, so that nothing gets lost; a test finds it.
        """

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
            yield _plain(name, value)
        outcomes, reasons = _labelled("outcome"), _labelled("reason")
        yield outcomes("deliveries", "Messages from peer to peer.", _DELIVERIES, counters.deliveries)
        yield outcomes("handshakes", "Offers of links, and answers to them.", HANDSHAKES, counters.handshakes)
        yield reasons("bad_frames", "Frames that break the protocol.", tuple(Fault), counters.bad_frames)
        yield reasons("dropped", "Frames and envelopes that went no further.", _DROPPED, counters.dropped)
        yield reasons("links_closed", "Links that ended.", _values(LinkEnd), counters.links_closed)
        yield reasons("connections_refused", "Connections that never were links.", REFUSALS, source.refused())


def _plain(name: str, value: int) -> Metric:
    if name in OVERLAY_COUNTS:
        return CounterMetricFamily(f"meshrelay_overlay_{name}", OVERLAY_COUNTS[name], value=value)
    return GaugeMetricFamily(f"meshrelay_overlay_{name}", OVERLAY_SIZES.get(name, "Of the overlay."), value=value)


def _labelled(label: str) -> Callable[[str, str, Iterable[str], Mapping[str, int]], Metric]:
    def family(name: str, text: str, known: Iterable[str], counts: Mapping[str, int]) -> Metric:
        metric = CounterMetricFamily(f"meshrelay_overlay_{name}", text, labels=[label])
        for value, count in {**dict.fromkeys(known, 0), **counts}.items():
            metric.add_metric([str(value)], count)
        return metric

    return family


def _values(reasons: type[Dropped] | type[LinkEnd] | type[Outcome]) -> tuple[str, ...]:
    return tuple(reason.value for reason in reasons)


_DELIVERIES = (*_values(Outcome), *DELIVERIES)
_DROPPED = (*_values(Dropped), *DROPS)
