"""The node's counters -> prometheus samples, at ``/metrics``.

Nothing is counted here: the layers count into `meshrelay.counters`, and this module reads when it is asked. Values of
labels come from the fixed sets below; those stand there with 0 from the start, so that a dashboard or an alert works
before the first error. No label holds what a user can choose.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from twisted.internet.defer import Deferred
from twisted.web import http
from twisted.web.server import Request

from meshrelay.counters import NodeCounters
from meshrelay.errors import ErrorCode
from meshrelay.fanout.outbox import POLICIES
from meshrelay.http.component_metrics import Counted, component_metrics
from meshrelay.http.lag import LagMeter
from meshrelay.http.mesh_metrics import DirectoryCollector, LinkCollector, LinkTable
from meshrelay.http.page import Answer, Page
from meshrelay.interfaces import ISession
from meshrelay.machine import packets
from meshrelay.model import CloseReason
from meshrelay.wire import datagram

__all__ = ["Counted", "MetricSources", "MetricsPage", "NodeCollector", "PartCounts", "make_registry", "metrics_text"]

_Label = TypeVar("_Label")

#: Beside the close reasons: the client said GOODBYE, or the connection broke.
CLOSES = (*(reason.name.lower() for reason in CloseReason), "goodbye", "lost")

REFUSALS = (
    "admin_key",
    "admin_key_rate",
    "handshake_bytes",
    "handshake_timeout",
    "http_connections",
    "max_connections",
    "origin",
    "reservations",
)

#: By the seal, by the reliability machine, and by a session that has none.
REJECTIONS = tuple(sorted({*datagram.REJECT_REASONS, *packets.REJECT_REASONS, "unexpected"}))

DROPS = ("pending_commands", "socket_full", "too_large", "unproved", "unreachable")

RESUMES = ("recovered", "resumed", "refused")

#: A CommandError of the application's own may carry a number that is none of ours.
OTHER_CODE = "other"

_CODE_NAMES = {code.value: code.name.lower() for code in ErrorCode}


class PartCounts(NamedTuple):
    """`Counted` for a part whose names are too short for a page of all.

    :ivar name: goes in front of each.
    """

    name: str
    counts: Callable[[], Mapping[str, int]]

    def statistics(self) -> Mapping[str, int]:
        """See `Counted`."""
        return {f"{self.name}_{name}": value for name, value in self.counts().items()}


class MetricSources(NamedTuple):
    """What is read for each page.

    :ivar sessions: all sessions of the node; they are walked once for each page.
    :ivar udp_reservations: endpoint calls whose first packet has not come.
    :ivar udp_socket_buffers: what the kernel granted, in bytes: for receiving, for sending.
    :ivar links: `meshrelay.mesh.links.Links`; None = the node links to no other.
    :ivar directory: `IDirectory.statistics`; None = there is nothing to say of a directory.
    """

    node_id: str
    version: str
    counters: NodeCounters
    sessions: Iterable[ISession]
    components: Sequence[Counted]
    udp_reservations: Callable[[], int]
    lag: LagMeter
    udp_socket_buffers: Callable[[], tuple[int, int]] = lambda: (0, 0)
    links: LinkTable | None = None
    directory: Callable[[], Mapping[str, int]] | None = None


class NodeCollector(Collector):
    """Makes the samples of one node. Collecting ends the interval over which the greatest lag is kept."""

    def __init__(self, sources: MetricSources) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        yield self._info()
        yield from self._session_gauges()
        yield from self._transport_counters()
        yield from self._event_counters()
        yield self._command_seconds()
        yield from self._lag()
        yield from component_metrics(self._sources.components)

    def _info(self) -> Metric:
        info = InfoMetricFamily("meshrelay_node", "Name and version of this node.")
        info.add_metric([], {"node": self._sources.node_id, "version": self._sources.version})
        return info

    def _session_gauges(self) -> Iterator[Metric]:
        attached: Counter[str] = Counter(dict.fromkeys(self._sources.counters.transports, 0))
        away = outbox_bytes = replay_bytes = 0
        for session in self._sources.sessions:
            if session.is_attached:
                attached[session.user.transport] += 1
                outbox_bytes += session.queued_bytes
            else:
                away += 1
            replay_bytes += session.replay_bytes
        yield _labelled(GaugeMetricFamily, "sessions", "Sessions with a connection.", "transport", attached)
        yield _gauge("sessions_away", "Sessions that lost their connection and may be resumed.", away)
        yield _gauge("outbox_bytes", "Bytes that wait in the outboxes of all sessions.", outbox_bytes)
        yield _gauge("replay_bytes", "Bytes kept for resumes.", replay_bytes)
        reservations = self._sources.udp_reservations()
        yield _gauge("udp_reservations", "UDP sessions that wait for their first packet.", reservations)
        received, sent = self._sources.udp_socket_buffers()
        buffers = {"received": received, "sent": sent}
        text = "Bytes of the UDP socket's buffers."
        yield _labelled(GaugeMetricFamily, "udp_socket_buffer_bytes", text, "direction", buffers)

    def _transport_counters(self) -> Iterator[Metric]:
        open_now = GaugeMetricFamily("meshrelay_connections", "Connections open now.", labels=["transport"])
        accepted = CounterMetricFamily("meshrelay_connections", "Connections accepted.", labels=["transport"])
        both_ways = ["transport", "direction"]
        messages = CounterMetricFamily("meshrelay_messages", "Frames.", labels=both_ways)
        size = CounterMetricFamily("meshrelay_bytes", "Bytes of frames and what holds them.", labels=both_ways)
        writes = CounterMetricFamily("meshrelay_writes", "Writes to sockets.", labels=["transport", "path"])
        closes = CounterMetricFamily("meshrelay_closes", "Connections closed.", labels=["transport", "reason"])
        counters = self._sources.counters
        for name, transport in counters.transports.items():
            open_now.add_metric([name], transport.connections)
            accepted.add_metric([name], transport.connections_total)
            messages.add_metric([name, "received"], transport.messages_received)
            messages.add_metric([name, "sent"], transport.messages_sent)
            size.add_metric([name, "received"], transport.bytes_received)
            size.add_metric([name, "sent"], transport.bytes_sent)
            writes.add_metric([name, "direct"], transport.direct_writes)
            writes.add_metric([name, "buffered"], transport.transport_writes)
        for (name, reason), count in _with_zeros(
            counters.closes, [(name, reason) for name in counters.transports for reason in CLOSES]
        ):
            closes.add_metric([name, reason], count)
        yield from (open_now, accepted, messages, size, writes, closes)

    def _event_counters(self) -> Iterator[Metric]:
        counters = self._sources.counters
        errors: Counter[str] = Counter()
        for code, count in counters.errors.items():
            errors[_CODE_NAMES.get(code, OTHER_CODE)] += count
        codes = (*_CODE_NAMES.values(), OTHER_CODE)
        yield _counter("commands", "Commands run.", counters.commands)
        yield _counter("deliveries", "Frames handed to members of groups.", counters.deliveries)
        failures = counters.delivery_failures
        yield _counter("delivery_failures", "Members that failed to take their frames: bugs.", failures)
        yield _counter("address_changes", "UDP clients that came from another address.", counters.address_changes)
        yield _counter("batches", "Joins of frames, each for all members of a group.", counters.batches)
        for name, text, label, known, counts in (
            ("errors", "Commands answered with an error.", "code", codes, errors),
            ("outbox_dropped", "Frames dropped from outboxes.", "policy", POLICIES, counters.outbox_dropped),
            (
                "packets_rejected",
                "Datagrams dropped without an answer.",
                "reason",
                REJECTIONS,
                counters.packets_rejected,
            ),
            (
                "packets_dropped",
                "Datagrams or frames that could not be sent or run.",
                "reason",
                DROPS,
                counters.packets_dropped,
            ),
            ("refused", "Connections refused before they were sessions.", "reason", REFUSALS, counters.refused),
            ("resumes", "Sign-ins that asked for an earlier session.", "outcome", RESUMES, counters.resumes),
        ):
            yield _labelled(CounterMetricFamily, name, text, label, dict(_with_zeros(counts, known)))

    def _lag(self) -> Iterator[Metric]:
        counters = self._sources.counters
        yield _gauge(
            "reactor_lag_seconds",
            "Longest that a turn came late since this page was read.",
            counters.reactor_lag_seconds,
        )
        counters.reactor_lag_seconds = 0.0
        histogram = HistogramMetricFamily("meshrelay_reactor_delay_seconds", "How late turns came.")
        delays = self._sources.lag.delays
        histogram.add_metric([], delays.buckets(), delays.sum_seconds)
        yield histogram

    def _command_seconds(self) -> Metric:
        text = "From a command to its answer, or to the end of a run of commands that came together; of one in 16."
        histogram = HistogramMetricFamily("meshrelay_command_seconds", text, labels=["class"])
        for name, durations in self._sources.counters.command_seconds.items():
            histogram.add_metric([name], durations.buckets(), durations.sum_seconds)
        return histogram


class MetricsPage(Page):
    """Samples in the text format of prometheus, version 0.0.4.

    :param make_text: see `metrics_text`; may need other processes and thus time.
    """

    def __init__(self, make_text: Callable[[], Deferred[bytes] | bytes]) -> None:
        super().__init__()
        self._make_text = make_text

    def answer(self, request: Request) -> Answer | Deferred[Answer]:
        """See `Page.answer`."""
        text = self._make_text()
        return text.addCallback(_text_answer) if isinstance(text, Deferred) else _text_answer(text)


def _text_answer(text: bytes) -> Answer:
    return Answer(http.OK, text, CONTENT_TYPE_PLAIN_0_0_4)


def metrics_text(registry: CollectorRegistry) -> bytes:
    """Return the samples of all collectors of `registry` as text."""
    return generate_latest(registry)


def make_registry(sources: MetricSources) -> CollectorRegistry:
    """Return a registry of this node and its process; the global one would mix two nodes of one process."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(NodeCollector(sources))
    if sources.links is not None:
        registry.register(LinkCollector(sources.links))
    if sources.directory is not None:
        registry.register(DirectoryCollector(sources.directory))
    return registry


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"meshrelay_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"meshrelay_{name}", text, value=value)


def _labelled(
    family: type[GaugeMetricFamily] | type[CounterMetricFamily],
    name: str,
    text: str,
    label: str,
    counts: Mapping[str, int],
) -> Metric:
    metric = family(f"meshrelay_{name}", text, labels=[label])
    for value, count in counts.items():
        metric.add_metric([value], count)
    return metric


def _with_zeros(counts: Mapping[_Label, int], known: Iterable[_Label]) -> Iterator[tuple[_Label, int]]:
    """Yield the known labels first, each with its count or 0, then what else was counted."""
    yield from {**dict.fromkeys(known, 0), **counts}.items()
