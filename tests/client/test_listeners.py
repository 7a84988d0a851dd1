"""Tests of `meshrelay.client.listeners`."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.client.events import Connected, Disconnected, Event, PushReceived
from meshrelay.client.listeners import EventStream, Listeners, WhenFull


def _push(number: int) -> PushReceived:
    return PushReceived(2, number, b"")


class ListenersTests(SynchronousTestCase):
    """Callbacks by class of event."""

    def setUp(self) -> None:
        self.listeners = Listeners()
        self.heard: list[Event] = []

    def test_by_class(self) -> None:
        """A callback hears its own class, and one for Event hears all."""
        everything: list[Event] = []
        self.listeners.add(PushReceived, self.heard.append)
        self.listeners.add(Event, everything.append)
        gone = Disconnected(None, "", True)
        self.listeners.tell(_push(1))
        self.listeners.tell(gone)
        self.assertEqual(self.heard, [_push(1)])
        self.assertEqual(everything, [_push(1), gone])

    def test_later_callback(self) -> None:
        """A callback that is added later hears what comes later."""
        self.listeners.tell(_push(1))
        self.listeners.add(PushReceived, self.heard.append)
        self.listeners.tell(_push(2))
        self.assertEqual(self.heard, [_push(2)])

    def test_removed(self) -> None:
        """A removed callback hears nothing more; removing it twice does no harm."""
        remove = self.listeners.add(PushReceived, self.heard.append)
        self.listeners.tell(_push(1))
        remove()
        remove()
        self.listeners.tell(_push(2))
        self.assertEqual(self.heard, [_push(1)])

    def test_raising_callback(self) -> None:
        """What a callback raises is logged, and the next one is called all the same."""

        def broken(event: PushReceived) -> None:
            raise RuntimeError("the program's bug")

        self.listeners.add(PushReceived, broken)
        self.listeners.add(PushReceived, self.heard.append)
        self.listeners.tell(_push(1))
        self.assertEqual(self.heard, [_push(1)])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_coroutine(self) -> None:
        """A coroutine function may be a callback; its failure is logged."""
        gate: Deferred[None] = Deferred()

        async def slow(event: PushReceived) -> None:
            await gate
            self.heard.append(event)
            raise RuntimeError("the program's bug")

        self.listeners.add(PushReceived, slow)
        self.listeners.tell(_push(1))
        self.assertEqual(self.heard, [])
        gate.callback(None)
        self.assertEqual(self.heard, [_push(1)])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class EventStreamTests(SynchronousTestCase):
    """Events with async for."""

    def test_order(self) -> None:
        """Events are read in the order in which they came, waited for or not."""
        stream = EventStream(10, WhenFull.DROP_OLDEST)
        stream.put(_push(1))
        self.assertEqual(self.successResultOf(stream.next_event()), _push(1))
        waiting = stream.next_event()
        self.assertNoResult(waiting)
        stream.put(_push(2))
        self.assertEqual(self.successResultOf(waiting), _push(2))

    def test_async_for(self) -> None:
        """The loop ends when the stream does, after what still waited."""
        stream = EventStream(10, WhenFull.DROP_OLDEST)

        async def read() -> list[Event]:
            return [event async for event in stream]

        done = Deferred.fromCoroutine(read())
        stream.put(_push(1))
        stream.put(_push(2))
        stream.end()
        self.assertEqual(self.successResultOf(done), [_push(1), _push(2)])
        self.failureResultOf(stream.next_event(), StopAsyncIteration)

    def _overrun(self, when_full: WhenFull) -> tuple[EventStream, list[int]]:
        stream = EventStream(2, when_full)
        for number in range(4):
            stream.put(_push(number))
        stream.end()
        left = []
        while True:
            reading = stream.next_event()
            reading.addErrback(lambda failure: failure.trap(StopAsyncIteration) and None)
            event = self.successResultOf(reading)
            if event is None:
                return stream, left
            assert isinstance(event, PushReceived)
            left.append(event.cmd)

    def test_drop_oldest(self) -> None:
        """A full stream keeps the newest and counts what it dropped."""
        stream, left = self._overrun(WhenFull.DROP_OLDEST)
        self.assertEqual((left, stream.dropped), ([2, 3], 2))

    def test_drop_newest(self) -> None:
        """Or it keeps the oldest."""
        stream, left = self._overrun(WhenFull.DROP_NEWEST)
        self.assertEqual((left, stream.dropped), ([0, 1], 2))

    def test_end(self) -> None:
        """Or it ends, so that the program cannot overlook the gap."""
        stream, left = self._overrun(WhenFull.END)
        self.assertEqual((left, stream.dropped), ([0, 1], 1))
        self.assertTrue(stream.is_over)

    def test_cancelled_reader(self) -> None:
        """A reader that was cancelled takes no event with it."""
        stream = EventStream(2, WhenFull.DROP_OLDEST)
        reading = stream.next_event()
        reading.addErrback(lambda _: None)
        reading.cancel()
        stream.put(Connected("ann", "n", "s", False, False))
        self.assertIsInstance(self.successResultOf(stream.next_event()), Connected)
