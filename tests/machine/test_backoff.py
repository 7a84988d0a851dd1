"""Tests of `meshrelay.machine.backoff`."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.machine.backoff import Backoff


def _longest(low: float, high: float) -> float:
    return high


class BackoffTests(SynchronousTestCase):
    """Delays between tries."""

    def test_bounds_double_up_to_the_cap(self) -> None:
        """The longest possible delay doubles with each try and never passes the cap."""
        backoff = Backoff(0.5, 5.0, _longest)
        self.assertEqual([backoff.next_delay() for _ in range(6)], [0.5, 1.0, 2.0, 4.0, 5.0, 5.0])

    def test_jitter_is_taken_after_the_cap(self) -> None:
        """Late tries are spread over the whole range below the cap, not bunched at it."""
        backoff = Backoff(0.5, 4.0, lambda low, high: (low + high) / 2)
        for _ in range(10):
            delay = backoff.next_delay()
        self.assertEqual(delay, 2.0)

    def test_delays_may_be_as_short_as_nothing(self) -> None:
        """The lower bound is 0: full jitter."""
        seen: list[float] = []
        backoff = Backoff(1.0, 8.0, lambda low, high: seen.append(low) or high)  # type: ignore[func-returns-value]
        backoff.next_delay()
        self.assertEqual(seen, [0.0])

    def test_success_begins_anew(self) -> None:
        """After a success the next break waits for a short time again."""
        backoff = Backoff(0.5, 60.0, _longest)
        for _ in range(5):
            backoff.next_delay()
        self.assertEqual(backoff.tries, 5)
        backoff.succeeded()
        self.assertEqual((backoff.tries, backoff.next_delay()), (0, 0.5))

    def test_thousands_of_tries(self) -> None:
        """A node that is away for weeks breaks nothing."""
        backoff = Backoff(0.5, 30.0, _longest)
        for _ in range(5000):
            delay = backoff.next_delay()
        self.assertEqual(delay, 30.0)

    def test_two_clients_differ(self) -> None:
        """Clients that were cut off together come back at different times."""
        one, two = (Backoff(1.0, 30.0, random.Random(seed).uniform) for seed in (1, 2))
        self.assertNotEqual([one.next_delay() for _ in range(3)], [two.next_delay() for _ in range(3)])

    def test_bad_numbers(self) -> None:
        """Numbers that make no sense are refused."""
        for base, cap in ((0, 1), (-1, 1), (2, 1)):
            self.assertRaises(ValueError, Backoff, base, cap, _longest)
