"""Plain integers that count."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.counters import COMMAND_CLASSES, Durations, NodeCounters, TransportCounters


class CounterTests(SynchronousTestCase):
    """All counters of a node."""

    def test_zero(self) -> None:
        """Everything starts at zero, for each transport by itself."""
        counters = NodeCounters()
        self.assertEqual(sorted(counters.transports), ["tcp", "udp", "websocket"])
        for transport in counters.transports.values():
            self.assertEqual({getattr(transport, name) for name in TransportCounters.__slots__}, {0})
        for name, value in vars(counters).items():
            if name not in ("transports", "command_seconds"):
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


class DurationsTests(SynchronousTestCase):
    """How long something took."""

    def test_buckets(self) -> None:
        """Each bound has the count of all that took at most so long; the last one has them all."""
        durations = Durations((0.1, 1.0))
        for seconds in (0.05, 0.1, 0.5, 7.0):
            durations.add(seconds)
        self.assertEqual(durations.buckets(), [("0.1", 2.0), ("1.0", 3.0), ("+Inf", 4.0)])
        self.assertAlmostEqual(durations.sum_seconds, 7.65)
        self.assertEqual(durations.count, 4)

    def test_clock_set_back(self) -> None:
        """A clock that was set back gives 0 and no negative sum."""
        durations = Durations((0.1,))
        durations.add(-5.0)
        self.assertEqual((durations.buckets(), durations.sum_seconds), ([("0.1", 1.0), ("+Inf", 1.0)], 0.0))

    def test_classes(self) -> None:
        """Each class of commands has its own from the start."""
        counters = NodeCounters()
        self.assertEqual(tuple(counters.command_seconds), COMMAND_CLASSES)
        self.assertEqual([each.count for each in counters.command_seconds.values()], [0] * len(COMMAND_CLASSES))
