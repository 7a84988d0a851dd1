"""The defaults and the shape of the configuration."""

from __future__ import annotations

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.config.schema import Config, SessionConfig, StaticGroup


class SchemaTests(SynchronousTestCase):
    """What holds when nothing is configured."""

    def test_loopback(self) -> None:
        """Without a configuration a node is reachable from its own machine only."""
        listen = Config().listen
        for place in (listen.tcp, listen.udp, listen.websocket, listen.http):
            self.assertTrue(place.endswith(":interface=127.0.0.1"), place)

    def test_frozen(self) -> None:
        """A configuration cannot be changed while a node runs with it."""
        with self.assertRaises(AttributeError):
            Config().session.outbox_bytes = 1  # type: ignore[misc]

    def test_equal_by_value(self) -> None:
        """Two configurations that say the same are equal."""
        self.assertEqual(Config(), Config())
        self.assertNotEqual(Config(), Config(session=SessionConfig(outbox_bytes=2000)))

    def test_replaced(self) -> None:
        """A changed copy leaves the original alone."""
        before = SessionConfig()
        after = msgspec.structs.replace(before, replay_bytes=5)
        self.assertEqual((before.replay_bytes, after.replay_bytes), (262_144, 5))

    def test_short_interval(self) -> None:
        """A merging interval below 100 ms is no merging."""
        intervals = [StaticGroup(group_id="g" * 52, interval_ms=interval).interval_ms for interval in (0, 99, 100)]
        self.assertEqual(intervals, [0, 0, 100])
