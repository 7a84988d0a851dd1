"""The relay server on the metrics page."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, generate_latest
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.counters import TransportCounters
from meshrelay.http.relay_metrics import RelayCollector
from meshrelay.relay.counters import RelayCounters


class MemoryRelay:
    """Counters without a relay."""

    def __init__(self) -> None:
        self.counters = RelayCounters()
        self.ws = TransportCounters()

    def active_count(self) -> int:
        """See `RelaySource`."""
        return 2

    def transports(self) -> Mapping[str, TransportCounters]:
        """See `RelaySource`."""
        return {"ws": self.ws, "quic": TransportCounters()}

    def refused_handshakes(self) -> int:
        """See `RelaySource`."""
        return 3


class RelayCollectorTests(SynchronousTestCase):
    """What stands on the page."""

    def setUp(self) -> None:
        """A relay that has counted something of everything."""
        relay = MemoryRelay()
        counters = relay.counters
        counters.sent_bytes, counters.received_bytes = 11, 12
        counters.peers["ws"] = 5
        counters.reconnections = 4
        counters.authentication.add(0.002)
        counters.authentication.add(20.0)
        counters.dropped["slow"] = 7
        relay.ws.bytes_received = 100
        registry = CollectorRegistry()
        registry.register(RelayCollector(relay))
        self.lines = generate_latest(registry).decode().splitlines()

    def test_names_of_netbird(self) -> None:
        """What NetBird's relay shows has the same name, type and labels here, so that its dashboards work."""
        for line in (
            "relay_transfer_sent_bytes_total 11.0",
            "relay_transfer_received_bytes_total 12.0",
            'relay_peers{transport="ws"} 5.0',
            'relay_peers{transport="quic"} 0.0',
            "relay_peers_active 2.0",
            "relay_peers_idle 3.0",
            "relay_peer_reconnections_total 4.0",
            "# TYPE relay_peer_store_time_milliseconds histogram",
        ):
            self.assertIn(line, self.lines)

    def test_histogram(self) -> None:
        """Buckets are NetBird's, in milliseconds, and each holds what the ones before it hold."""
        name = "relay_peer_authentication_time_milliseconds"
        for line in (
            f'{name}_bucket{{le="1"}} 0.0',
            f'{name}_bucket{{le="5"}} 1.0',
            f'{name}_bucket{{le="10000"}} 1.0',
            f'{name}_bucket{{le="+Inf"}} 2.0',
            f"{name}_count 2.0",
            f"{name}_sum 20002.0",
        ):
            self.assertIn(line, self.lines)

    def test_ours(self) -> None:
        """What was dropped, refused and closed has a number from the start."""
        for line in (
            'meshrelay_relay_dropped_total{reason="slow"} 7.0',
            'meshrelay_relay_dropped_total{reason="absent"} 0.0',
            'meshrelay_relay_closes_total{reason="health_timeout"} 0.0',
            'meshrelay_relay_tokens_refused_total{reason="expired"} 0.0',
            "meshrelay_relay_handshakes_refused_total 3.0",
            'meshrelay_relay_bytes_total{direction="received",transport="ws"} 100.0',
        ):
            self.assertIn(line, self.lines)
