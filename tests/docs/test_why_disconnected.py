"""The page that tells why somebody was disconnected: it leaves nothing out, and names what there is."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.config.schema import Config
from meshrelay.model import CloseReason
from tests.docs.test_examples import ROOT

PAGE = ROOT / "docs" / "why-disconnected.rst"


class PageTests(SynchronousTestCase):
    """docs/why-disconnected.rst."""

    def setUp(self) -> None:
        """Read it."""
        self.page = PAGE.read_text(encoding="utf-8")

    def test_every_code(self) -> None:
        """Each close code has a part of its own, in order and with a place to link to, and there is no other."""
        parts = re.findall(r"(?m)^\.\. _close-(\d+):\n\n(\d+) ([A-Z_]+)\n~+\n", self.page)
        reasons = [(str(reason.code), str(reason.code), reason.name) for reason in CloseReason]
        self.assertEqual(parts, reasons)
        self.assertEqual(len(re.findall(r"(?m)^~+$", self.page)), len(reasons))

    def test_every_answer(self) -> None:
        """Each part says whose fault it is and what to do."""
        for part in re.split(r"(?m)^\.\. _close-", self.page)[1:]:
            self.assertEqual((part[:4], part.count("\n:Whose fault: ")), (part[:4], 1))
            self.assertEqual((part[:4], part.count("\n:What to do: ")), (part[:4], 1))

    def test_come_back_or_stay_away(self) -> None:
        """A code stands where it says what the client libraries do."""
        come_back, stay_away = self.page.split("4500 to 4999: stay away")
        for reason in CloseReason:
            half = come_back if reason.is_retryable else stay_away
            self.assertIn(f"\n{reason.code} {reason.name}\n", half)

    def test_browser_reasons(self) -> None:
        """Each reason that the client for browsers makes itself is in the table, and no other."""
        script = (ROOT / "clients" / "js" / "meshrelay.js").read_text(encoding="utf-8")
        (local,) = re.findall(r"export const LocalReason = Object.freeze\(\{(.*?)\}\)", script, re.DOTALL)
        made = set(re.findall(r"(?m)^\s+(\w+): \"\w+\",", local))
        self.assertGreater(len(made), 5)
        told = re.search(r"Without a number\n-+\n(.*?)\nWhat breaks connections", self.page, re.DOTALL)
        assert told is not None
        self.assertEqual(set(re.findall(r"(?m)^``([A-Z_]+)`` ", told[1])), made)

    def test_keys(self) -> None:
        """Every key of the configuration that it names is one, and has the default that stands behind it."""
        named = re.findall(r"``(\w+)\.(\w+)``(?: \(([\d,.]+)( MiB)?\))?", self.page)
        self.assertGreater(len(named), 8)
        config = Config()
        for section, key, default, unit in named:
            if section[0].isupper():
                continue
            value = getattr(getattr(config, section), key)
            if default:
                expected = float(default.replace(",", "")) * (1048576 if unit else 1)
                self.assertEqual((key, float(value)), (key, expected))

    def test_metrics(self) -> None:
        """Every metric that it names is one."""
        metrics = (ROOT / "docs" / "metrics.rst").read_text(encoding="utf-8")
        named = set(re.findall(r"``(meshrelay_\w+)``", self.page))
        self.assertEqual({name for name in named if f"``{name}``" not in metrics}, set())
        self.assertNotEqual(named, set())
