"""Tests of `meshrelay.directory.options`."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.directory.options import DirectoryOptions


class OptionsTests(SynchronousTestCase):
    """Deadlines, leases and bounds."""

    def test_defaults(self) -> None:
        """A dead node is forgotten within ten seconds, a call never takes more than two."""
        options = DirectoryOptions()
        self.assertEqual((options.lease_seconds, options.deadline_seconds), (10.0, 2.0))

    def test_above_zero(self) -> None:
        """Nothing may be 0: there is no deadline that means none."""
        for field in fields(DirectoryOptions):
            wrong: dict[str, Any] = {field.name: 0}
            error = self.assertRaises(ValueError, lambda wrong=wrong: DirectoryOptions(**wrong))
            self.assertIn(field.name, str(error))
