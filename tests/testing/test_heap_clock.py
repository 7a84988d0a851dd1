"""Tests of `meshrelay.testing.heap_clock`."""

from __future__ import annotations

from random import Random

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from meshrelay.testing.heap_clock import HeapClock


class HeapClockTests(SynchronousTestCase):
    """It does what Twisted's clock does."""

    def test_contract(self) -> None:
        """It is what reactors are asked for the time."""
        verifyObject(IReactorTime, HeapClock())

    def run_on(self, clock: Clock, seed: int) -> list[tuple[float, int]]:
        """Add, move and cancel calls by chance and return which were made when."""
        random = Random(seed)
        made: list[tuple[float, int]] = []
        calls = []
        for number in range(200):
            calls.append(
                clock.callLater(random.randrange(50), lambda number=number: made.append((clock.seconds(), number)))
            )
            call = random.choice(calls)
            if call.active() and random.random() < 0.3:
                change = random.randrange(3)
                if change == 0:
                    call.cancel()
                elif change == 1:
                    call.reset(7)
                else:
                    call.delay(3)
            if random.random() < 0.2:
                clock.advance(random.randrange(5))
        clock.advance(1000)
        return made

    def test_like_twisted(self) -> None:
        """The same calls at the same times as Twisted's own clock, whatever is moved or cancelled."""
        for seed in range(20):
            ours, theirs = self.run_on(HeapClock(), seed), self.run_on(Clock(), seed)
            self.assertEqual(sorted(ours), sorted(theirs))

    def test_ended(self) -> None:
        """A call that was made or cancelled cannot be cancelled, and is not listed."""
        clock = HeapClock()
        first, second = clock.callLater(1, list), clock.callLater(2, list)
        self.assertEqual(list(clock.getDelayedCalls()), [first, second])
        clock.advance(1)
        second.cancel()
        self.assertRaises(AlreadyCalled, first.cancel)
        self.assertRaises(AlreadyCancelled, second.cancel)
        self.assertEqual(list(clock.getDelayedCalls()), [])
