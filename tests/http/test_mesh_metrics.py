"""Links and the directory as prometheus samples."""

from __future__ import annotations

from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.http.mesh_metrics import DirectoryCollector, LinkCollector
from meshrelay.mesh.link import LinkState
from meshrelay.testing.memory_mesh import MemoryMesh
from meshrelay.wire.node import Refusal


def _samples(collector: Collector) -> dict[tuple[str, tuple[str, ...]], float]:
    metrics: list[Metric] = list(collector.collect())
    return {
        (sample.name, tuple(sample.labels.values())): sample.value for metric in metrics for sample in metric.samples
    }


class LinkCollectorTests(SynchronousTestCase):
    """Links."""

    def setUp(self) -> None:
        """Link two nodes."""
        self.mesh = MemoryMesh()
        self.first = self.mesh.add_node("n1")
        self.mesh.add_node("n2")
        self.mesh.keep("n1", "n2")
        self.mesh.run(5.0)
        self.collector = LinkCollector(self.first.links)

    def test_states(self) -> None:
        """Links are counted by state; states without links stand there with 0."""
        samples = _samples(self.collector)
        states = {labels[0]: value for (name, labels), value in samples.items() if name == "meshrelay_links"}
        self.assertEqual(states, {**{state.value: 0.0 for state in LinkState}, "up": 1.0})

    def test_link(self) -> None:
        """Each link tells its round trip, what waits, and what was sent, by the node at its other end."""
        self.first.link("n2").send(1, b"hello")
        self.mesh.run(1.0)
        samples = _samples(self.collector)
        self.assertEqual(samples["meshrelay_link_sent_messages_total", ("n2",)], 1)
        self.assertEqual(samples["meshrelay_link_queued_bytes", ("n2",)], 0)
        self.assertEqual(samples["meshrelay_link_ups_total", ("n2",)], 1)
        self.assertTrue(0.001 < samples["meshrelay_link_rtt_seconds", ("n2",)] < 0.03)

    def test_down(self) -> None:
        """A link that is down has no round trip, and what waits is seen."""
        self.mesh.kill("n2")
        self.mesh.run(10.0)
        self.first.link("n2").send(1, b"hello")
        samples = _samples(self.collector)
        self.assertNotIn(("meshrelay_link_rtt_seconds", ("n2",)), samples)
        self.assertEqual(samples["meshrelay_link_queued_messages", ("n2",)], 1)
        self.assertEqual(samples["meshrelay_links", ("up",)], 0)

    def test_refused(self) -> None:
        """Refusals are counted by their code; codes that never came stand there with 0."""
        self.first.links.refused["SECRET"] += 2
        samples = _samples(self.collector)
        self.assertEqual(samples["meshrelay_links_refused_total", ("secret",)], 2)
        self.assertEqual(samples["meshrelay_link_greetings", ()], 0)
        codes = {labels[0] for name, labels in samples if name == "meshrelay_links_refused_total"}
        self.assertEqual(codes, {code.name.lower() for code in Refusal})

    def test_all_statistics(self) -> None:
        """Nothing that a link counts is missing."""
        names = {name.removesuffix("_total") for name, labels in _samples(self.collector) if labels == ("n2",)}
        wanted = {f"meshrelay_link_{key}" for key in self.first.link("n2").statistics()}
        self.assertEqual(wanted - names, set())

    def test_forgotten(self) -> None:
        """A link that is forgotten leaves no samples."""
        self.first.links.forget("n2")
        self.assertFalse([labels for _, labels in _samples(self.collector) if labels == ("n2",)])


class DirectoryCollectorTests(SynchronousTestCase):
    """The directory."""

    def test_statistics(self) -> None:
        """What there is now is a gauge, what only grows is a counter."""
        samples = _samples(DirectoryCollector(lambda: {"users": 3, "pending": 1, "losses": 2, "calls": 9}))
        expected = {
            ("meshrelay_directory_users", ()): 3.0,
            ("meshrelay_directory_pending", ()): 1.0,
            ("meshrelay_directory_losses_total", ()): 2.0,
            ("meshrelay_directory_calls_total", ()): 9.0,
        }
        self.assertEqual(samples, expected)
