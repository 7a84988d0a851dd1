"""So many events a second, with a burst."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.machine.token_bucket import TokenBucket


class TokenBucketTests(SynchronousTestCase):
    """Five a second, ten at once."""

    def setUp(self) -> None:
        """A full bucket at an odd time."""
        self.bucket = TokenBucket(5.0, 10, 1000.0)

    def take(self, count: int, now: float) -> int:
        """Try `count` times and return how many were allowed."""
        return sum(self.bucket.take(now) == 0.0 for _ in range(count))

    def test_burst(self) -> None:
        """It starts full, and holds no more than the burst."""
        self.assertEqual(self.take(20, 1000.0), 10)
        self.assertEqual(self.take(20, 2000.0), 10)

    def test_rate(self) -> None:
        """Emptied, it gives as many as came in."""
        self.take(10, 1000.0)
        self.assertEqual(self.take(20, 1001.0), 5)
        self.assertEqual(self.take(20, 1001.1), 0)
        self.assertEqual(self.take(20, 1001.2), 1)

    def test_wait(self) -> None:
        """A refusal says for how long, and waiting so long is enough; asking takes nothing."""
        self.take(10, 1000.0)
        for _ in range(3):
            self.assertAlmostEqual(self.bucket.take(1000.05), 0.15)
        self.assertEqual(self.bucket.take(1000.0 + 0.2), 0.0)

    def test_long_run(self) -> None:
        """Over a long time exactly the rate gets through, however often is asked."""
        allowed = sum(self.take(3, 1000.0 + step / 64) for step in range(64 * 60))
        self.assertIn(allowed, (10 + 5 * 60 - 1, 10 + 5 * 60))

    def test_many_at_once(self) -> None:
        """Many are taken as far as they are there, whole ones only, and no more come back than came in."""
        self.assertEqual(self.bucket.take_up_to(4, 1000.0), 4)
        self.assertEqual(self.bucket.take_up_to(20, 1000.1), 6)
        self.assertEqual(self.bucket.take_up_to(1, 1000.1), 0)
        self.assertEqual(self.bucket.take_up_to(20, 1002.0), 10)

    def test_all_or_none(self) -> None:
        """Many are taken together or not at all, and what does not fit leaves what is there for others."""
        self.assertTrue(self.bucket.take_all(8, 1000.0))
        self.assertFalse(self.bucket.take_all(3, 1000.0))
        self.assertTrue(self.bucket.take_all(2, 1000.0))
        self.assertFalse(self.bucket.take_all(1, 1000.0))

    def test_less_than_one_a_second(self) -> None:
        """A rate below one works as well."""
        slow = TokenBucket(0.5, 1.0, 0.0)
        self.assertEqual(slow.take(0.0), 0.0)
        self.assertEqual(slow.take(0.0), 2.0)
        self.assertEqual(slow.take(2.0), 0.0)

    def test_earlier(self) -> None:
        """Who asks with a time before the last token was taken is given what there is, which may be nothing."""
        bucket = TokenBucket(1000.0, 10.0, 1000.0)
        for _ in range(10):
            bucket.take(1000.0)
        for _ in range(6):
            bucket.take(1000.006)
        self.assertEqual(bucket.take_up_to(20, 1000.0), 0)
        self.assertEqual(bucket.take_up_to(20, 1000.007), 1)

    def test_peek(self) -> None:
        """Looking takes nothing."""
        self.assertEqual(self.bucket.peek(1000.0), 0.0)
        self.take(10, 1000.0)
        self.assertAlmostEqual(self.bucket.peek(1000.0), 0.2)
        self.assertAlmostEqual(self.bucket.peek(1000.1), 0.1)
        self.assertEqual(self.bucket.peek(1001.0), 0.0)
        self.assertEqual(self.take(20, 1001.0), 5)
