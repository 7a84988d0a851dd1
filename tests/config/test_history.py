"""Tests of `meshrelay.config.history`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.config.history import GroupHistory
from meshrelay.config.load import parse_config
from meshrelay.errors import ConfigError


class GroupHistoryTests(SynchronousTestCase):
    """Tables of patterns."""

    def test_tables(self) -> None:
        """Each table of the file is one rule, with defaults for what it does not say."""
        config = parse_config('[[group.history]]\npattern = "chat-*"\nhistory_size = 7\n[[group.history]]\npattern="*"')
        self.assertEqual(
            config.group.history, (GroupHistory(pattern="chat-*", history_size=7), GroupHistory(pattern="*"))
        )
        self.assertEqual(config.group.history[1], GroupHistory(pattern="*", history_size=100, history_ttl_seconds=300))

    def test_wrong(self) -> None:
        """Each wrong value is told with its path."""
        text = '[[group.history]]\npattern = ""\nhistory_size = 0\nhistory_ttl_seconds = 0.5\n'
        error = self.assertRaises(ConfigError, parse_config, text)
        for path in ("pattern", "history_size", "history_ttl_seconds"):
            self.assertIn(f"group.history[0].{path}", str(error))

    def test_too_long(self) -> None:
        """Messages that nothing could keep are refused before the node starts."""
        text = '[session]\nmax_payload_bytes = 300000\n[[group.history]]\npattern = "*"\n'
        error = self.assertRaises(ConfigError, parse_config, text)
        self.assertIn("group.history: can keep messages of at most 262144 bytes", str(error))
