"""Metrics pages of several processes -> one page, as if they were one node. Pure: texts in, text out.

====================================  ==================================================================
family                                on the page
====================================  ==================================================================
``*_info``                            every sample of every process; their labels tell them apart
``python_*``, ``process_*``           every sample, with a label ``worker``: they are about one process
gauges whose name ends in _seconds    the greatest: times of several processes do not add up
all others                            the sum of the samples with the same labels, histograms by bucket
====================================  ==================================================================

Format: Prometheus text exposition 0.0.4, read and written by prometheus_client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

__all__ = ["WORKER_LABEL", "merge_metrics"]

#: Names the process that a sample of ``python_*`` and ``process_*`` is about.
WORKER_LABEL = "worker"

_OF_ONE_PROCESS = ("python_", "process_")

#: Name of a sample and its labels, in the order in which they were written.
_Key = tuple[str, tuple[tuple[str, str], ...]]


class _Family:
    """The samples of one family, of all processes."""

    def __init__(self, metric: Metric) -> None:
        self._name = metric.name
        self._documentation = metric.documentation
        self._type = metric.type
        self._samples: dict[_Key, float] = {}
        self._is_of_one_process = metric.name.startswith(_OF_ONE_PROCESS)
        is_time = metric.type == "gauge" and metric.name.endswith("_seconds")
        is_alike = is_time or metric.name.endswith("_info")
        self._join: Callable[[float, float], float] = max if is_alike else float.__add__

    def add(self, worker: str, metric: Metric) -> None:
        """Add what one process has of this family."""
        for sample in metric.samples:
            labels = dict(sample.labels)
            if self._is_of_one_process:
                labels[WORKER_LABEL] = worker
            key = (sample.name, tuple(labels.items()))
            value = float(sample.value)
            known = self._samples.get(key)
            self._samples[key] = value if known is None else self._join(known, value)

    def metric(self) -> Metric:
        """Return the family of all processes."""
        metric = Metric(self._name, self._documentation, self._type)
        for (name, labels), value in self._samples.items():
            metric.add_sample(name, dict(labels), value)
        return metric


class _Merged(Collector):
    """Gives out what was merged."""

    def __init__(self, families: Iterable[_Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        return (family.metric() for family in self._families)


def merge_metrics(pages: Mapping[str, str]) -> bytes:
    """Merge metrics pages.

    :param pages: name of a process, for `WORKER_LABEL` -> the text of its page.
    :raises ValueError: a page is none.
    """
    families: dict[tuple[str, str], _Family] = {}
    for worker, page in pages.items():
        for metric in text_string_to_metric_families(page):
            # A gauge and a counter may have one name: connections, and connections_total.
            family = families.setdefault((metric.name, metric.type), _Family(metric))
            family.add(worker, metric)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Merged(families.values()))
    return generate_latest(registry)
