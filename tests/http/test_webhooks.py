"""Webhooks as a whole."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.config.schema import Config
from meshrelay.config.webhooks import WebhooksConfig
from meshrelay.errors import ConfigError
from meshrelay.http.webhook_queue import GATHER_SECONDS
from meshrelay.http.webhooks import STOP_SECONDS, Webhooks, make_webhooks
from meshrelay.testing.node import make_node
from tests.http.hook_kit import FakePost

ONE, TWO = "http://one.example/hook", "https://two.example/hook"


class WebhooksTests(SynchronousTestCase):
    """URLs for events."""

    def make(self, **keys: Any) -> Webhooks:
        """Return webhooks of a node."""
        self.post = FakePost()
        self.node = make_node()
        self.clock: Clock = self.node.clock
        webhooks = Webhooks(WebhooksConfig(**keys), "n1", self.clock, self.post)
        webhooks.events.watch(self.node.groups.table)
        self.node.registry.add_observer(webhooks.events)
        return webhooks

    def told(self) -> list[tuple[str, list[str]]]:
        """URL and events of each POST."""
        self.clock.advance(GATHER_SECONDS)
        self.clock.advance(0)
        return [(posted.url, [event["event"] for event in posted.events]) for posted in self.post.posted]

    def test_urls(self) -> None:
        """Each URL is told what it is named for, and an URL with several events gets them in one POST."""
        self.make(connect=(ONE, TWO, ONE), join=(ONE,))
        client = self.node.sign_in("ann")
        client.create_group()
        self.assertEqual(sorted(self.told()), [(ONE, ["connect", "join"]), (TWO, ["connect"])])

    def test_silent(self) -> None:
        """An URL that does not answer costs the others nothing."""
        webhooks = self.make(connect=(ONE, TWO))
        self.post.status = None
        for number in range(300):
            self.node.sign_in(f"user-{number}")
        self.told()
        for posted in [each for each in self.post.posted if each.url == TWO]:
            posted.answer.callback(200)
        self.post.status = 200
        self.clock.advance(0)
        self.clock.advance(0)
        counts = webhooks.statistics()
        self.assertEqual((counts["webhook_events_sent"], counts["webhook_batches"]), (300, 1))

    def test_none(self) -> None:
        """Without an URL nothing is kept, and there is nothing to stop."""
        node = make_node()
        webhooks = make_webhooks(Config().webhooks, "n1", node.clock)
        node.registry.add_observer(webhooks.events)
        webhooks.events.watch(node.groups.table)
        node.sign_in("ann").create_group()
        self.assertEqual(set(webhooks.statistics().values()), {0})
        self.assertTrue(all(group.tap is None for group in node.groups.table))
        self.assertIsNone(self.successResultOf(webhooks.stop()))

    def test_stop(self) -> None:
        """A node that stops sends what is left, and does not wait for long."""
        webhooks = self.make(connect=(ONE,))
        self.node.sign_in("ann")
        stopped = webhooks.stop()
        self.clock.pump([0.0, 0.1])
        self.successResultOf(stopped)
        self.assertEqual((len(self.post.posted), self.post.is_closed), (1, True))
        webhooks = self.make(connect=(ONE,))
        self.post.status = None
        self.node.sign_in("ann")
        stopped = webhooks.stop()
        self.clock.pump([0.1] * 5)
        self.assertNoResult(stopped)
        self.clock.pump([0.1] * round(STOP_SECONDS * 10))
        self.successResultOf(stopped)
        self.assertEqual(webhooks.statistics()["webhook_events_given_up"], 1)

    def put_back(self, name: str, module: ModuleType | None) -> None:
        """Let a module be what it was."""
        if module is None:
            sys.modules.pop(name, None)
        else:
            sys.modules[name] = module

    def test_extra(self) -> None:
        """Without the extra an URL is a problem of the configuration, and none is not."""
        for name in ("treq", "treq.client", "meshrelay.http.webhook_post"):
            self.addCleanup(self.put_back, name, sys.modules.pop(name, None))
        sys.modules["treq"] = sys.modules["treq.client"] = None  # type: ignore[assignment]
        error = self.assertRaises(ConfigError, make_webhooks, WebhooksConfig(connect=(ONE,)), "n1", Clock())
        self.assertIn('pip install "meshrelay[webhooks]"', str(error))
        make_webhooks(WebhooksConfig(), "n1", Clock())

    def test_secret(self) -> None:
        """A secret that cannot be read is a problem of the configuration."""
        config = WebhooksConfig(connect=(ONE,), secret_file=self.mktemp())
        self.assertRaises(ConfigError, make_webhooks, config, "n1", Clock())
