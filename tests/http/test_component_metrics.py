"""What components say of themselves as prometheus samples."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client.metrics_core import Metric
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.http.component_metrics import COMPONENT_COUNTERS, COMPONENT_GAUGES, Counted, component_metrics
from tests.every_metric import node_with_everything


class _Part:
    name = "part"

    def __init__(self, counts: Mapping[str, int]) -> None:
        self._counts = counts

    def statistics(self) -> Mapping[str, int]:
        return self._counts


def _families(*parts: Counted) -> dict[str, Metric]:
    return {family.name: family for family in component_metrics(parts)}


def _samples(family: Metric) -> list[tuple[str, dict[str, str], float]]:
    return [(sample.name, sample.labels, sample.value) for sample in family.samples]


class ComponentMetricsTests(SynchronousTestCase):
    """From plain names to samples."""

    def test_counter(self) -> None:
        """What only grows is a counter, and its sample ends in _total."""
        family = _families(_Part({"direct_sent": 5}))["meshrelay_direct_sent"]
        self.assertEqual(family.type, "counter")
        self.assertEqual(_samples(family), [("meshrelay_direct_sent_total", {}, 5)])

    def test_gauge(self) -> None:
        """What there is now keeps its name."""
        family = _families(_Part({"rooms": 3}))["meshrelay_rooms"]
        self.assertEqual((family.type, _samples(family)), ("gauge", [("meshrelay_rooms", {}, 3)]))

    def test_family(self) -> None:
        """Reasons of one thing are one family with a label, so that they can be summed."""
        counts = {"peer_link_packets_dropped_slow": 4, "rooms": 1, "peer_link_packets_dropped_gone": 2}
        families = _families(_Part(counts))
        self.assertEqual(sorted(families), ["meshrelay_peer_link_packets_dropped", "meshrelay_rooms"])
        name = "meshrelay_peer_link_packets_dropped_total"
        self.assertEqual(
            _samples(families["meshrelay_peer_link_packets_dropped"]),
            [(name, {"reason": "slow"}, 4), (name, {"reason": "gone"}, 2)],
        )

    def test_unknown(self) -> None:
        """A name that nobody has described is told all the same."""
        family = _families(_Part({"part_wonders": 1}))["meshrelay_part_wonders"]
        self.assertEqual((family.type, family.documentation), ("gauge", "Of part."))

    def test_nothing_unknown(self) -> None:
        """Everything that a node's components count is described in the table; add what this test names."""
        families = {f"meshrelay_{name}" for name in (*COMPONENT_COUNTERS, *COMPONENT_GAUGES)}
        node = node_with_everything()
        parts: list[Counted] = [node.groups, node.rooms, node.links, node.direct, node.relay, node.overlay]
        told = _families(*parts)
        described = {name for name, family in told.items() if not family.documentation.startswith("Of ")}
        self.assertEqual(sorted(set(told) - described), [])
        self.assertGreater(len(families), 60)

    def test_one_meaning(self) -> None:
        """No name is both."""
        self.assertEqual(COMPONENT_COUNTERS.keys() & COMPONENT_GAUGES.keys(), set())
