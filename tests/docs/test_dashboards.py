"""The board for Grafana, and the rules for Prometheus: they ask for samples that a node has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client.metrics_core import Metric
from twisted.trial.unittest import SynchronousTestCase

from tests.every_metric import every_family, sample_names

ETC = Path(__file__).parent.parent.parent / "etc"

#: What Prometheus adds to each sample, and what a supervisor's page adds to those of one process.
ADDED_LABELS = {"instance", "job", "le", "worker"}

#: Functions, operators and words of PromQL that the expressions use.
WORDS = frozenset({"by", "count", "histogram_quantile", "increase", "max", "min", "or", "rate", "sum", "up"})

_STRING = r'"(?:[^"\\]|\\.)*"'


def metric_names(expression: str) -> set[str]:
    """Return the names of samples that an expression asks for."""
    bare = re.sub(_STRING, "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(by|without)\s*\([^)]*\)", " ", bare)
    return set(re.findall(r"[a-zA-Z_][a-zA-Z0-9_]*", bare)) - WORDS


def label_names(expression: str) -> set[str]:
    """Return the names of labels that an expression tells samples apart by."""
    bare = re.sub(_STRING, '""', expression)
    chosen = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"\"", bare)
    grouped = [name.strip() for names in re.findall(r"\bby\s*\(([^)]*)\)", bare) for name in names.split(",")]
    return {*chosen, *grouped}


def chosen_values(expression: str) -> Iterator[tuple[str, str, str]]:
    """Yield (sample, label, value) of what an expression chooses by name, alternatives one by one."""
    for name, selector in re.findall(r"(\w+)\{([^}]*)\}", expression):
        for label, values in re.findall(r'(\w+)=~?"([^"$]*)"', selector):
            for value in values.split("|"):
                yield name, label, value


class _Samples:
    """What a node has."""

    def __init__(self) -> None:
        self._families: dict[str, Metric] = {}
        for family in every_family():
            self._families.update(dict.fromkeys(sample_names(family), family))

    def problems(self, expression: str) -> list[str]:
        """Return what an expression asks for and never gets."""
        found = []
        known = set(ADDED_LABELS)
        for name in metric_names(expression):
            family = self._families.get(name)
            if family is None:
                found.append(f"no sample {name}")
            else:
                known.update(label for sample in family.samples for label in sample.labels)
                known.update(getattr(family, "_labelnames", ()))
        found += [f"no label {name}" for name in sorted(label_names(expression) - known)]
        for name, label, value in chosen_values(expression):
            if label not in ADDED_LABELS and name in self._families:
                values = {sample.labels.get(label) for sample in self._families[name].samples}
                if value not in values:
                    found.append(f"{name}: no {label} {value}")
        return [f"{expression}: {problem}" for problem in found]


class ExpressionTests(SynchronousTestCase):
    """The checks of this module can fail."""

    def test_found(self) -> None:
        """A name, a label or a value that is not there is found; what is there is not."""
        samples = _Samples()
        wrong = {
            'sum(rate(meshrelay_closes_totl{reason="idle"}[5m]))': "no sample meshrelay_closes_totl",
            "sum by (user) (meshrelay_sessions)": "no label user",
            'meshrelay_links{state="upp"}': "no state upp",
        }
        for expression, problem in wrong.items():
            self.assertIn(problem, " ".join(samples.problems(expression)))
        self.assertEqual(
            samples.problems('sum by (le, node) (rate(meshrelay_links{state="up"}[5m])) > 0'),
            ['sum by (le, node) (rate(meshrelay_links{state="up"}[5m])) > 0: no label node'],
        )
        self.assertEqual(samples.problems('sum by (state) (meshrelay_links{state=~"up|waiting"}) > 0'), [])


class BoardTests(SynchronousTestCase):
    """etc/grafana/meshrelay.json."""

    def setUp(self) -> None:
        """Read it."""
        self.board: dict[str, Any] = json.loads((ETC / "grafana" / "meshrelay.json").read_text(encoding="utf-8"))
        self.panels: list[dict[str, Any]] = self.board["panels"]

    def test_expressions(self) -> None:
        """Every expression asks for samples, labels and values that a node has."""
        samples = _Samples()
        expressions = [target["expr"] for panel in self.panels for target in panel.get("targets", [])]
        self.assertGreater(len(expressions), 90)
        self.assertEqual([problem for each in expressions for problem in samples.problems(each)], [])

    def test_legends(self) -> None:
        """A legend names labels by which its expression tells samples apart."""
        wrong = []
        for target in (target for panel in self.panels for target in panel.get("targets", [])):
            named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            wrong += [target["expr"]] * bool(named - label_names(target["expr"]) - ADDED_LABELS)
        self.assertEqual(wrong, [])

    def test_rows(self) -> None:
        """Each part of a node has a row."""
        rows = [panel["title"] for panel in self.panels if panel["type"] == "row"]
        parts = ("Overview", "Transports", "Groups", "Direct", "Rooms", "Relay", "Overlay", "Links between", "Process")
        self.assertEqual([part for part in parts if not any(row.startswith(part) for row in rows)], [])

    def test_any_data_source(self) -> None:
        """The board works with any data source: the viewer chooses it. IDs are unique and no panel hides another."""
        uids = {panel["datasource"]["uid"] for panel in self.panels if panel["type"] != "row"}
        self.assertEqual(uids, {"${datasource}"})
        self.assertEqual(len({panel["id"] for panel in self.panels}), len(self.panels))
        places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in self.panels]
        self.assertEqual(len(set(places)), len(places))


class RuleTests(SynchronousTestCase):
    """etc/prometheus."""

    def test_alerts(self) -> None:
        """Every rule asks for samples, labels and values that a node has, and says what it means."""
        samples = _Samples()
        text = (ETC / "prometheus" / "alerts.yml").read_text(encoding="utf-8")
        rules = [rule for group in msgspec.yaml.decode(text)["groups"] for rule in group["rules"]]
        self.assertGreater(len(rules), 8)
        self.assertEqual([problem for rule in rules for problem in samples.problems(rule["expr"])], [])
        for rule in rules:
            self.assertIn(rule["labels"]["severity"], ("page", "ticket"), rule["alert"])
            self.assertTrue(rule["annotations"]["summary"].endswith("."), rule["alert"])

    def test_scrape(self) -> None:
        """The example asks the page that there is, on the HTTP port of each node, and loads the rules beside it."""
        config = msgspec.yaml.decode((ETC / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
        (job,) = config["scrape_configs"]
        self.assertEqual((job["job_name"], job["metrics_path"]), ("meshrelay", "/metrics"))
        self.assertEqual([target.rsplit(":", 1)[1] for target in job["static_configs"][0]["targets"]], ["7000"] * 3)
        self.assertEqual([(ETC / "prometheus" / name).is_file() for name in config["rule_files"]], [True])
