"""What the parts of links share."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.background import Alarms
from meshrelay.components.link_parts import LinkRules, within
from tests.components.link_kit import link_config


class RulesTests(SynchronousTestCase):
    """The configuration of links."""

    def test_loopback(self) -> None:
        """Loopback addresses are told only where all UDP clients are on the machine of the node."""
        for udp, allowed in (
            ("udp:0:interface=127.0.0.1", True),
            ("udp:0:interface=0.0.0.0", False),
            ("udp:7100", False),
            ("", False),
        ):
            self.assertIs(LinkRules.of(link_config(udp=udp)).allow_loopback, allowed, udp)

    def test_queue(self) -> None:
        """Packets for a client may take a quarter of its outbox."""
        self.assertEqual(LinkRules.of(link_config()).forward_queue_bytes, 16 * 1024)


class WithinTests(SynchronousTestCase):
    """A deadline."""

    def test_late(self) -> None:
        """What takes longer is cancelled; what is in time is left alone."""
        clock = Clock()
        alarms = Alarms(clock)
        late: Deferred[int] = Deferred()
        early: Deferred[int] = Deferred()
        within(alarms, late, 1.0)
        within(alarms, early, 1.0)
        early.callback(7)
        clock.advance(0.9)
        self.assertNoResult(late)
        clock.advance(0.2)
        self.failureResultOf(late, CancelledError)
        self.assertEqual(self.successResultOf(early), 7)
