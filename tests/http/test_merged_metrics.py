"""Metrics pages of several processes, as one."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.http.merged_metrics import merge_metrics

ONE = """\
# HELP meshrelay_node_info Name and version of this node.
# TYPE meshrelay_node_info gauge
meshrelay_node_info{node="a-w0",version="1"} 1.0
# HELP meshrelay_connections Connections open now.
# TYPE meshrelay_connections gauge
meshrelay_connections{transport="tcp"} 3.0
meshrelay_connections{transport="udp"} 1.0
# HELP meshrelay_connections_total Connections accepted.
# TYPE meshrelay_connections_total counter
meshrelay_connections_total{transport="tcp"} 30.0
# HELP meshrelay_reactor_lag_seconds Longest lag.
# TYPE meshrelay_reactor_lag_seconds gauge
meshrelay_reactor_lag_seconds 0.25
# HELP meshrelay_reactor_delay_seconds How late turns came.
# TYPE meshrelay_reactor_delay_seconds histogram
meshrelay_reactor_delay_seconds_bucket{le="0.1"} 5.0
meshrelay_reactor_delay_seconds_bucket{le="+Inf"} 6.0
meshrelay_reactor_delay_seconds_count 6.0
meshrelay_reactor_delay_seconds_sum 0.5
# HELP process_open_fds Number of open file descriptors.
# TYPE process_open_fds gauge
process_open_fds 9.0
# HELP python_info Python platform information
# TYPE python_info gauge
python_info{implementation="CPython"} 1.0
"""

TWO = (
    ONE.replace("a-w0", "a-w1")
    .replace("} 3.0", "} 4.0")
    .replace("} 30.0", "} 12.0")
    .replace("0.25", "0.125")
    .replace("_fds 9.0", "_fds 11.0")
    + '# TYPE meshrelay_new gauge\nmeshrelay_new{text="a \\"b\\" \\\\ c"} 2.0\n'
)


def samples_of(page: bytes) -> dict[str, float]:
    """Return every line of a page that is no comment."""
    lines = [line for line in page.decode().splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


class MergeTests(SynchronousTestCase):
    """Two workers."""

    def setUp(self) -> None:
        """One page of both."""
        self.page = merge_metrics({"w0": ONE, "w1": TWO})
        self.samples = samples_of(self.page)

    def test_sums(self) -> None:
        """Gauges and counters of the same labels are added, also where both have one name."""
        self.assertEqual(self.samples['meshrelay_connections{transport="tcp"}'], 7)
        self.assertEqual(self.samples['meshrelay_connections{transport="udp"}'], 2)
        self.assertEqual(self.samples['meshrelay_connections_total{transport="tcp"}'], 42)

    def test_histogram(self) -> None:
        """Histograms are added bucket by bucket."""
        name = "meshrelay_reactor_delay_seconds"
        self.assertEqual(self.samples[f'{name}_bucket{{le="0.1"}}'], 10)
        self.assertEqual(self.samples[f'{name}_bucket{{le="+Inf"}}'], 12)
        self.assertEqual((self.samples[f"{name}_count"], self.samples[f"{name}_sum"]), (12, 1))

    def test_times(self) -> None:
        """The lag of all is the worst one, not the sum."""
        self.assertEqual(self.samples["meshrelay_reactor_lag_seconds"], 0.25)

    def test_info(self) -> None:
        """Every node stays visible with its name."""
        nodes = [name for name in self.samples if name.startswith("meshrelay_node_info")]
        self.assertEqual(len(nodes), 2)
        self.assertEqual({self.samples[name] for name in nodes}, {1.0})
        self.assertEqual(samples_of(merge_metrics({"w0": ONE, "w1": ONE}))[nodes[0]], 1.0)

    def test_processes(self) -> None:
        """What is about one process names it."""
        self.assertEqual(self.samples['process_open_fds{worker="w0"}'], 9)
        self.assertEqual(self.samples['process_open_fds{worker="w1"}'], 11)
        self.assertEqual(self.samples['python_info{implementation="CPython",worker="w1"}'], 1)

    def test_only_one(self) -> None:
        """What one worker has alone is on the page, with the odd characters of its labels."""
        (metric,) = [metric for metric in text_string_to_metric_families(self.page.decode()) if "new" in metric.name]
        self.assertEqual((metric.samples[0].labels, metric.samples[0].value), ({"text": 'a "b" \\ c'}, 2))

    def test_alone(self) -> None:
        """The page of one worker says the same as it did, and types and texts are kept."""
        alone = merge_metrics({"w0": ONE}).decode()
        for line in ONE.splitlines():
            if "process_" not in line and "python_" not in line:
                self.assertIn(line, alone.splitlines())

    def test_no_page(self) -> None:
        """Text that is no page is refused; without any page there is nothing to show."""
        self.assertRaises(ValueError, merge_metrics, {"w0": "meshrelay_x{ 1\n"})
        self.assertEqual(merge_metrics({}), b"")
