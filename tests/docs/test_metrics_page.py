"""Names, types, labels and texts of all samples that a node can have."""

from __future__ import annotations

import re

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.testing.node import make_node
from tests.every_metric import every_family, node_with_everything, sample_names

#: NetBird's names and units, which its dashboards read.
NETBIRD = "relay_"

#: Names of the parts that tell of the process; prometheus_client makes them.
OF_THE_PROCESS = ("process_", "python_")

#: No unit may be anything else than a base unit.
NOT_BASE = re.compile(r"_(ms|milliseconds|minutes|hours|kb|mb|kilobytes|percent|ratio_percent)(_|$)")

#: All labels that there are. Each has a fixed set of values, or what an operator chooses (node, version).
LABELS = {
    "class",
    "code",
    "direction",
    "kind",
    "node",
    "outcome",
    "path",
    "policy",
    "reason",
    "state",
    "transport",
    "version",
}

HOSTILE = 'ann"},evil="1\n# TYPE x counter'


class NameTests(SynchronousTestCase):
    """The rules of prometheus for names."""

    def setUp(self) -> None:
        """All families of our own names."""
        self.families = [each for each in every_family() if not each.name.startswith((*OF_THE_PROCESS, NETBIRD))]
        self.assertGreater(len(self.families), 150)

    def test_names(self) -> None:
        """All are meshrelay_, lower case, without types or units that are no base units in them."""
        wrong = [
            each.name
            for each in self.families
            if not re.fullmatch(r"meshrelay(_[a-z0-9]+)+", each.name)
            or NOT_BASE.search(each.name)
            or each.name.endswith(("_counter", "_gauge", "_histogram", "_total", "_count", "_sum", "_bucket"))
        ]
        self.assertEqual(wrong, [])

    def test_types(self) -> None:
        """Everything has a type, and a histogram says its unit."""
        self.assertEqual([each.name for each in self.families if each.type in ("unknown", "untyped")], [])
        wrong = [each.name for each in self.families if each.type == "histogram" and not each.name.endswith("_seconds")]
        self.assertEqual(wrong, [])

    def test_texts(self) -> None:
        """Each has a text of one line that ends like a sentence, or is 1 and says what that means."""
        wrong = [each.name for each in self.families if not re.fullmatch(r"[A-Z1].*\.", each.documentation)]
        self.assertEqual(wrong, [])

    def test_no_sample_twice(self) -> None:
        """No sample has the name of one of another family."""
        names = [name for family in self.families for name in sample_names(family)]
        self.assertEqual(sorted(names), sorted(set(names)))

    def test_labels(self) -> None:
        """No label is new: whoever adds one makes sure that no user can choose its values, and says so here."""
        names = {name for family in self.families for sample in family.samples for name in sample.labels}
        self.assertEqual(names - LABELS - {"le"}, set())

    def test_page(self) -> None:
        """The whole page can be read back, histograms and all."""
        page = generate_latest(node_with_everything().metrics()).decode()
        read = {family.name for family in text_string_to_metric_families(page)}
        self.assertIn("meshrelay_command_seconds", read)
        self.assertIn("meshrelay_closes", read)


class HostileTests(SynchronousTestCase):
    """Users who try to write on the page."""

    def test_no_user_in_any_label(self) -> None:
        """Names of users, payloads, and numbers of commands that nobody has leave no label value and no sample."""
        node = node_with_everything()
        before = self.labels(generate_latest(node.metrics()).decode())
        memory = make_node()
        client = memory.sign_in(HOSTILE)
        for ver, cmd in ((1, 110), (1, 199), (2, 7), (255, 255), (0, 200), (1, 113), (1, 120)):
            client.request(cmd, HOSTILE.encode(), ver=ver)
        counters, own = memory.counters, node.counters
        own.errors.update(counters.errors)
        own.closes.update(counters.closes)
        own.packets_dropped.update(counters.packets_dropped)
        own.command_seconds.update(counters.command_seconds)
        self.assertGreater(sum(counters.errors.values()), 3)
        after = generate_latest(node.metrics()).decode()
        self.assertEqual(self.labels(after), before)
        self.assertNotIn("evil", after)

    def labels(self, page: str) -> set[tuple[str, str, str]]:
        """All (sample, label, value)."""
        return {
            (sample.name, name, value)
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            for name, value in sample.labels.items()
        }
