"""What runs beside the flow of messages."""

from __future__ import annotations

from random import Random

from twisted.internet.defer import CancelledError, Deferred, TimeoutError, fail
from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.background import Alarm, Alarms, fire_all, in_time, start, stop_reactor


class StartTests(SynchronousTestCase):
    """Coroutines that nobody waits for."""

    def test_end(self) -> None:
        """A coroutine runs to its end, and its end can be waited for."""
        gate: Deferred[None] = Deferred()
        order: list[str] = []

        async def flow() -> None:
            order.append("begun")
            await gate
            order.append("done")

        done = start(flow(), Logger(), "the flow")
        self.assertEqual(order, ["begun"])
        gate.callback(None)
        self.assertEqual(order, ["begun", "done"])
        self.assertIsNone(self.successResultOf(done))

    def test_failure(self) -> None:
        """A coroutine that fails is logged, never lost, and never somebody else's failure."""

        async def flow() -> None:
            raise RuntimeError("broken")

        self.assertIsNone(self.successResultOf(start(flow(), Logger(), "the flow")))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class AlarmTestCase(SynchronousTestCase):
    """Alarms on a clock."""

    def setUp(self) -> None:
        """No alarm is set."""
        self.clock = Clock()
        self.alarms = Alarms(self.clock, 0.05)
        self.rung: list[str] = []

    def set_alarm(self, seconds: float, name: str) -> Alarm:
        """Set an alarm that writes down its name."""
        return self.alarms.call_later(seconds, lambda: self.rung.append(name))


class AlarmTests(AlarmTestCase):
    """Many coarse alarms on one timer."""

    def test_rings(self) -> None:
        """An alarm rings once, at its time or up to one step later."""
        alarm = self.set_alarm(1.0, "a")
        self.clock.advance(0.99)
        self.assertEqual(self.rung, [])
        self.assertTrue(alarm.is_set)
        self.clock.advance(0.06)
        self.assertEqual(self.rung, ["a"])
        self.assertFalse(alarm.is_set)
        self.clock.advance(10)
        self.assertEqual(self.rung, ["a"])

    def test_order(self) -> None:
        """Alarms ring in the order of their times, those of one step in the order in which they were set."""
        for seconds, name in ((2.0, "c"), (1.0, "a"), (1.0, "b")):
            self.set_alarm(seconds, name)
        self.clock.advance(5)
        self.assertEqual(self.rung, ["a", "b", "c"])

    def test_one_timer(self) -> None:
        """However many alarms are set, the reactor has one timer; without alarms none."""
        self.assertEqual(self.clock.getDelayedCalls(), [])
        for index in range(100):
            self.set_alarm(10 - index / 20, str(index))
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.pump([0.05] * 210)
        self.assertEqual(len(self.rung), 100)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cancel(self) -> None:
        """A cancelled alarm does not ring; cancelling twice, or too late, does nothing."""
        alarm = self.set_alarm(1.0, "a")
        self.set_alarm(1.0, "b")
        alarm.cancel()
        alarm.cancel()
        self.clock.advance(2)
        alarm.cancel()
        self.assertEqual(self.rung, ["b"])

    def test_set_inside(self) -> None:
        """An alarm may set the next one, nearer or farther than the others."""

        def again() -> None:
            self.rung.append("first")
            self.set_alarm(0.1, "soon")
            self.set_alarm(9.0, "later")

        self.alarms.call_later(1.0, again)
        self.set_alarm(5.0, "other")
        self.clock.pump([0.1] * 120)
        self.assertEqual(self.rung, ["first", "soon", "other", "later"])

    def test_failure(self) -> None:
        """An alarm that fails is logged; the others ring."""

        def fail() -> None:
            raise RuntimeError("alarm")

        self.alarms.call_later(1.0, fail)
        self.set_alarm(1.0, "same step")
        self.set_alarm(2.0, "later")
        self.clock.pump([1.1, 1.1])
        self.assertEqual(self.rung, ["same step", "later"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_stop(self) -> None:
        """After a stop nothing rings and no timer is left; new alarms may be set."""
        self.set_alarm(1.0, "a")
        self.alarms.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(2)
        self.set_alarm(1.0, "b")
        self.clock.advance(2)
        self.assertEqual(self.rung, ["b"])

    def test_stop_inside(self) -> None:
        """An alarm may stop them all."""
        self.alarms.call_later(1.0, self.alarms.stop)
        self.set_alarm(2.0, "a")
        self.clock.pump([1.1, 1.1])
        self.assertEqual(self.rung, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_now(self) -> None:
        """Alarms know the time."""
        self.clock.advance(3.5)
        self.assertEqual(self.alarms.now(), 3.5)

    def test_any_times(self) -> None:
        """Whatever the times and the steps of the clock: never before, at most a step and one wake-up after."""
        random = Random(3)
        late: list[float] = []

        def set_one(seconds: float) -> None:
            due = self.clock.seconds() + seconds
            self.alarms.call_later(seconds, lambda: late.append(self.clock.seconds() - due))

        for _ in range(300):
            set_one(random.random() * 5)
            self.clock.advance(random.random() / 20)
        self.clock.pump([0.05] * 130)
        self.assertEqual(len(late), 300)
        self.assertGreaterEqual(min(late), 0.0)
        self.assertLess(max(late), 0.11)


class InTimeTests(SynchronousTestCase):
    """What must not take longer."""

    def setUp(self) -> None:
        """It may take 10 seconds."""
        self.clock = Clock()
        self.work: Deferred[str] = Deferred()
        self.answer = in_time(self.work, 10.0, self.clock)

    def test_in_time(self) -> None:
        """What ends in time is given on, be it a failure, and no timer is left."""
        self.work.callback("done")
        self.assertEqual((self.successResultOf(self.answer), self.clock.getDelayedCalls()), ("done", []))
        self.failureResultOf(in_time(fail(KeyError()), 10.0, self.clock), KeyError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_too_late(self) -> None:
        """What takes longer is cancelled."""
        self.clock.advance(10.0)
        self.failureResultOf(self.answer, TimeoutError)
        self.assertTrue(self.work.called)

    def test_cancelled(self) -> None:
        """Who waits no more cancels the work."""
        self.answer.cancel()
        self.failureResultOf(self.answer, CancelledError)
        self.assertTrue(self.work.called)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class FireAllTests(SynchronousTestCase):
    """Several who wait for the same."""

    def fire(self, outcome: str | Exception) -> Deferred[str]:
        """Tell three, of whom the first gives up the second; return the third."""
        first, second, third = (Deferred[str](lambda _: None) for _ in range(3))

        def give_up(_: object) -> None:
            second.cancel()

        first.addCallbacks(give_up, give_up)
        second.addErrback(lambda _: None)
        fire_all([first, second, third], outcome)
        self.successResultOf(first)
        return third

    def test_cancelled_by_another(self) -> None:
        """Who hears of it may give up another one; those behind it hear of it all the same."""
        self.assertEqual(self.successResultOf(self.fire("done")), "done")
        self.failureResultOf(self.fire(KeyError()), KeyError)


class StopTests(SynchronousTestCase):
    """The end of the reactor."""

    def test_twice(self) -> None:
        """Whoever comes second does nothing; any other error is told."""
        errors: list[Exception] = [ReactorNotRunning(), KeyError()]

        class Stopped:
            def stop(self) -> None:
                raise errors.pop(0)

        stop_reactor(Stopped())
        self.assertRaises(KeyError, stop_reactor, Stopped())
