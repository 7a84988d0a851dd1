"""The circuit breaker."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.machine.circuit_breaker import BreakerState, CircuitBreaker


class CircuitBreakerTests(SynchronousTestCase):
    """Three failures, ten seconds."""

    def setUp(self) -> None:
        """Closed."""
        self.breaker = CircuitBreaker(3, 10.0)

    def fail_times(self, count: int, now: float = 0.0) -> None:
        """Fail so often."""
        for _ in range(count):
            self.breaker.begin()
            self.breaker.failed(now)

    def test_opens(self) -> None:
        """Failures in a row open it; a success between begins the row anew."""
        self.fail_times(2)
        self.breaker.succeeded()
        self.fail_times(2)
        self.assertEqual((self.breaker.state, self.breaker.wait_seconds(0.0)), (BreakerState.CLOSED, 0.0))
        self.fail_times(1)
        self.assertEqual((self.breaker.state, self.breaker.opened), (BreakerState.OPEN, 1))
        self.assertEqual(self.breaker.wait_seconds(4.0), 6.0)
        self.assertEqual(self.breaker.wait_seconds(12.0), 0.0)

    def test_late_failure(self) -> None:
        """What was under way and fails while it is open does not lengthen the pause."""
        self.fail_times(3)
        self.breaker.failed(9.0)
        self.assertEqual((self.breaker.wait_seconds(10.0), self.breaker.opened), (0.0, 1))

    def test_one_try(self) -> None:
        """After the pause one try is made, and no other beside it."""
        self.fail_times(3)
        self.breaker.begin()
        self.assertEqual((self.breaker.state, self.breaker.wait_seconds(99.0)), (BreakerState.HALF_OPEN, None))
        self.breaker.failed(20.0)
        self.assertEqual((self.breaker.wait_seconds(20.0), self.breaker.opened), (10.0, 2))
        self.breaker.begin()
        self.breaker.succeeded()
        self.assertEqual((self.breaker.state, self.breaker.wait_seconds(20.0)), (BreakerState.CLOSED, 0.0))
        self.fail_times(2)
        self.assertEqual(self.breaker.state, BreakerState.CLOSED)
