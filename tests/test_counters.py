"""Plain integers that count."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.counters import NodeCounters, TransportCounters


class CounterTests(SynchronousTestCase):
    """All counters of a node."""

    def test_zero(self) -> None:
        """Everything starts at zero, for each transport by itself."""
        counters = NodeCounters()
        self.assertEqual(sorted(counters.transports), ["tcp", "udp", "websocket"])
        for transport in counters.transports.values():
            self.assertEqual({getattr(transport, name) for name in TransportCounters.__slots__}, {0})
        for name, value in vars(counters).items():
            if name != "transports":
                self.assertFalse(value, name)

    def test_apart(self) -> None:
        """Two nodes in one process do not count together."""
        first, second = NodeCounters(), NodeCounters()
        first.transports["tcp"].connections += 1
        first.closes["tcp", "idle"] += 1
        first.errors[4] += 1
        self.assertEqual(second.transports["tcp"].connections, 0)
        self.assertEqual((dict(second.closes), dict(second.errors)), ({}, {}))

    def test_unknown_label(self) -> None:
        """A transport nobody named has no counters: labels come from a fixed set."""
        self.assertRaises(KeyError, lambda: NodeCounters(("tcp",)).transports["quic"])
