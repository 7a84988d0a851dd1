"""The section [webhooks]."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.config.load import parse_config
from meshrelay.config.webhooks import WebhooksConfig
from meshrelay.errors import ConfigError


class WebhooksConfigTests(SynchronousTestCase):
    """What is taken."""

    def test_off(self) -> None:
        """Nobody is told anything unless it is configured."""
        config = WebhooksConfig()
        self.assertEqual((*config.connect, *config.disconnect, *config.join, *config.message), ())

    def test_urls(self) -> None:
        """An URL is http or https, without a user, a fragment or blanks."""
        for url in ("http://h", "https://h:8443/a/b?x=1", "http://[::1]:80/"):
            text = f'[webhooks]\nconnect = ["{url}"]\n'
            self.assertEqual(parse_config(text, "test", {}).webhooks.connect, (url,))
        for url in ("ftp://h/", "h/x", "http://u@h/", "http://h/#a", "http:///x", "http://h/a b", ""):
            text = f'[webhooks]\nmessage = ["{url}"]\n'
            error = self.assertRaises(ConfigError, parse_config, text, "test", {})
            self.assertIn("webhooks.message", str(error))

    def test_patterns(self) -> None:
        """A pattern of groups has no blanks."""
        self.assertEqual(parse_config('[webhooks]\ngroups = ["lobby*"]\n', "test", {}).webhooks.groups, ("lobby*",))
        self.assertRaises(ConfigError, parse_config, '[webhooks]\ngroups = ["a b"]\n', "test", {})
