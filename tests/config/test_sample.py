"""The sample file and the reference page."""

from __future__ import annotations

import re
from pathlib import Path

from docutils.core import publish_doctree
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.config.keys import keys_by_section
from meshrelay.config.load import parse_config
from meshrelay.config.sample import reference_page, sample_file
from meshrelay.config.schema import Config

ROOT = Path(__file__).parents[2]


class SampleTests(SynchronousTestCase):
    """etc/meshrelay.toml."""

    def test_up_to_date(self) -> None:
        """The file in etc/ says what the schema says (else: meshrelay default-config > etc/meshrelay.toml)."""
        self.assertEqual((ROOT / "etc" / "meshrelay.toml").read_text(encoding="utf-8"), sample_file())

    def test_defaults(self) -> None:
        """The sample as it is configures nothing."""
        self.assertEqual(parse_config(sample_file()), Config())

    def test_defaults_taken_in(self) -> None:
        """With every key taken in it still says the defaults, and has every key."""
        active = re.sub(r"(?m)^#(?=\w+ = )", "", sample_file())
        self.assertEqual(parse_config(active), Config())
        count = sum(len(keys) for keys in keys_by_section().values())
        self.assertEqual(len(re.findall(r"(?m)^\w+ = ", active)), count)

    def test_narrow(self) -> None:
        """No line is wider than a terminal of 110 columns."""
        self.assertEqual([line for line in sample_file().splitlines() if len(line) > 110], [])


class ReferenceTests(SynchronousTestCase):
    """The page of the documentation."""

    def test_markup(self) -> None:
        """The page is reStructuredText without a warning and has every key once."""
        tree = publish_doctree(reference_page(), settings_overrides={"halt_level": 2, "report_level": 2})
        literals = [node.astext() for node in tree.findall() if node.tagname == "literal"]
        for keys in keys_by_section().values():
            for key in keys.values():
                self.assertIn(key.name, literals)

    def test_star(self) -> None:
        """A star in a description is a star on the page."""
        tree = publish_doctree(reference_page())
        self.assertIn("the secret of HS*, at least", tree.astext())
