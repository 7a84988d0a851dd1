"""How many commands one connection may send."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.session.rate_limit import MIN_REFUSALS, CommandRate


class CommandRateTests(SynchronousTestCase):
    """Commands and refusals."""

    def test_burst(self) -> None:
        """Twice the rate may come at once, the next one is told when it may come."""
        rate = CommandRate(10, now=0.0)
        self.assertEqual([rate.check(0.0) for _ in range(20)], [None] * 20)
        refusal = rate.check(0.0)
        assert refusal is not None
        self.assertAlmostEqual(refusal.retry_after_seconds, 0.1)
        self.assertIsNone(rate.check(0.1))

    def test_many(self) -> None:
        """Of many that come at once the burst is allowed, and what is left over is refused one by one."""
        rate = CommandRate(10, now=0.0)
        self.assertEqual([rate.take_up_to(count, 0.0) for count in (15, 15, 1)], [15, 5, 0])
        self.assertIsNotNone(rate.check(0.0))

    def test_low_rate(self) -> None:
        """A rate under one still lets one command through."""
        rate = CommandRate(0.5, now=0.0)
        self.assertIsNone(rate.check(0.0))
        self.assertIsNotNone(rate.check(1.9))
        self.assertIsNone(rate.check(2.0))

    def test_flood(self) -> None:
        """Only who does not heed a long row of refusals is a flood."""
        rate = CommandRate(1, now=0.0)
        self.assertEqual([rate.is_flood(0.0) for _ in range(MIN_REFUSALS)], [False] * MIN_REFUSALS)
        self.assertTrue(rate.is_flood(0.0))
