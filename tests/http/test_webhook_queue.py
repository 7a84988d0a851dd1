"""Events for one URL."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.http.webhook_events import HookEvent
from meshrelay.http.webhook_queue import (
    GATHER_SECONDS,
    MAX_BATCH_BYTES,
    MAX_BATCH_EVENTS,
    RETRY_BASE_SECONDS,
    HookLimits,
    HookQueue,
    HookSource,
)
from meshrelay.wire.frame import encode_push
from tests.http.hook_kit import FakePost

LIMITS = HookLimits(1000, 10_000_000, 1, 3, 5, 30.0)


class HookQueueTests(SynchronousTestCase):
    """From events to POSTs."""

    def make(self, **limits: Any) -> HookQueue:
        """Return a queue, and begin anew."""
        self.clock = Clock()
        self.post = FakePost()
        source = HookSource("n1", "r", self.clock, self.post, lambda low, high: high)
        return HookQueue(3, "http://h/hook", LIMITS._replace(**limits), source)

    def add(self, queue: HookQueue, count: int, first: int = 0) -> None:
        """Add so many events, of users that are numbered."""
        for number in range(first, first + count):
            queue.add(HookEvent("connect", 1.0, str(number), detail="tcp"))

    def users(self) -> list[list[str]]:
        """Users of the events of each POST."""
        return [[event["user"] for event in posted.events] for posted in self.post.posted]

    def test_batch(self) -> None:
        """Events that come together go together, a moment later, and say who sends them."""
        queue = self.make()
        self.add(queue, 3)
        self.assertEqual(self.post.posted, [])
        self.clock.advance(GATHER_SECONDS)
        [posted] = self.post.posted
        self.assertEqual(self.users(), [["0", "1", "2"]])
        self.assertEqual(
            {name: value for name, value in posted.document.items() if name != "events"},
            {"node": "n1", "delivery": "n1-r-3-1", "sequence": 1, "dropped": 0},
        )
        self.assertEqual(posted.headers, {"Meshrelay-Delivery": "n1-r-3-1", "Meshrelay-Try": "1"})
        self.assertEqual((queue.sent, queue.is_idle, queue.waiting_bytes), (3, True, 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_storm(self) -> None:
        """A storm of events costs few POSTs, in order, one at a time."""
        queue = self.make()
        self.post.status = None
        self.add(queue, 250)
        self.clock.advance(0)
        self.assertEqual([len(users) for users in self.users()], [MAX_BATCH_EVENTS])
        for _ in range(2):
            self.post.posted[-1].answer.callback(204)
            self.clock.advance(0)
        self.assertEqual([user for users in self.users() for user in users], [str(number) for number in range(250)])
        self.assertEqual([len(users) for users in self.users()], [100, 100, 50])

    def test_concurrent(self) -> None:
        """More POSTs at the same time, if the operator wants that."""
        queue = self.make(max_concurrent=3)
        self.post.status = None
        self.add(queue, 900)
        self.clock.advance(0)
        self.assertEqual((len(self.post.posted), queue.batches, queue.waiting_events), (3, 3, 600))

    def test_large(self) -> None:
        """A POST is not much longer than its bound; one event may be."""
        queue = self.make()
        for size in (MAX_BATCH_BYTES, 10, 10, MAX_BATCH_BYTES - 700):
            frame = encode_push(2, 1, b"x" * size)
            queue.add(HookEvent("message", 1.0, "ann", "g", "", frame))
        self.clock.advance(GATHER_SECONDS)
        self.clock.advance(0)
        self.clock.advance(0)
        self.assertEqual([len(users) for users in self.users()], [1, 2, 1])

    def test_bounds(self) -> None:
        """Over its bounds the oldest events are dropped and counted, and the next POST says how many."""
        queue = self.make(max_queue_events=50)
        self.post.status = None
        self.add(queue, 60)
        self.assertEqual((queue.waiting_events, queue.dropped), (50, 10))
        self.clock.advance(GATHER_SECONDS)
        self.assertEqual(self.users()[0][0], "10")
        self.assertEqual(self.post.posted[0].document["dropped"], 10)
        self.post.status = 200
        self.add(queue, 1)
        self.post.posted[0].answer.callback(200)
        self.clock.advance(GATHER_SECONDS)
        self.assertEqual(self.post.posted[1].document["dropped"], 0)
        by_bytes = self.make(max_queue_bytes=2000)
        self.add(by_bytes, 100)
        self.assertLessEqual(by_bytes.waiting_bytes, 2000)
        self.assertEqual(by_bytes.waiting_events + by_bytes.dropped, 100)

    def test_retry(self) -> None:
        """A failure of the server, or no answer, is tried again: the same bytes, a higher number, longer pauses."""
        for trouble in (500, 503, 429, OSError("refused")):
            queue = self.make()
            self.post.status = None
            self.add(queue, 2)
            self.clock.advance(GATHER_SECONDS)
            for pause in (RETRY_BASE_SECONDS, 2 * RETRY_BASE_SECONDS):
                if isinstance(trouble, int):
                    self.post.posted[-1].answer.callback(trouble)
                else:
                    self.post.posted[-1].answer.errback(trouble)
                before = len(self.post.posted)
                self.clock.advance(pause - 0.01)
                self.assertEqual(len(self.post.posted), before)
                self.clock.advance(0.02)
            self.post.posted[-1].answer.callback(200)
            self.assertEqual([posted.headers["Meshrelay-Try"] for posted in self.post.posted], ["1", "2", "3"])
            self.assertEqual(len({posted.body for posted in self.post.posted}), 1)
            self.assertEqual((queue.sent, queue.failed, queue.given_up), (2, 2, 0))

    def test_given_up(self) -> None:
        """After so many tries a batch is given up, and the next one goes."""
        queue = self.make(tries=2)
        self.post.status = 500
        self.add(queue, 2)
        self.clock.pump([GATHER_SECONDS, RETRY_BASE_SECONDS])
        self.assertEqual((queue.given_up, queue.is_idle), (2, True))
        self.post.status = 200
        self.add(queue, 1, 5)
        self.clock.advance(GATHER_SECONDS)
        self.assertEqual(self.users()[-1], ["5"])

    def test_refused(self) -> None:
        """What the server does not want is not sent again."""
        for status in (400, 404, 301, 410):
            queue = self.make()
            self.post.status = status
            self.add(queue, 2)
            self.clock.pump([GATHER_SECONDS, 60.0])
            self.assertEqual((len(self.post.posted), queue.given_up, queue.is_idle), (1, 2, True))

    def test_breaker(self) -> None:
        """A server that always fails is left in peace, tried by one POST, and served again when it is well."""
        queue = self.make(tries=1, max_concurrent=4)
        self.post.status = 500
        for _ in range(8):
            self.add(queue, 1)
            self.clock.advance(GATHER_SECONDS)
        self.assertEqual((len(self.post.posted), queue.is_open, queue.waiting_events), (5, True, 3))
        self.clock.advance(31.0)
        self.assertEqual((len(self.post.posted), queue.is_open), (6, True))
        self.add(queue, 4)
        self.post.status = 200
        self.clock.advance(31.0)
        self.clock.advance(0)
        self.assertEqual((queue.is_open, queue.sent, queue.breaker_openings), (False, 4, 2))

    def test_probe(self) -> None:
        """While the one POST that tries is under way, no other one goes."""
        queue = self.make(tries=1, max_concurrent=4, breaker_failures=1)
        self.post.status = 500
        self.add(queue, 1)
        self.clock.advance(GATHER_SECONDS)
        self.post.status = None
        self.add(queue, 250)
        self.clock.advance(31.0)
        self.assertEqual(len(self.post.posted), 2)
        self.post.posted[-1].answer.callback(200)
        self.clock.advance(0)
        self.assertEqual(len(self.post.posted), 4)

    def test_retry_waits_for_breaker(self) -> None:
        """A batch that is to be tried again waits as well."""
        queue = self.make(tries=3, breaker_failures=1)
        self.post.status = 500
        self.add(queue, 1)
        self.clock.advance(GATHER_SECONDS)
        self.clock.advance(20.0)
        self.assertEqual(len(self.post.posted), 1)
        self.post.status = 200
        self.clock.advance(11.0)
        self.assertEqual((len(self.post.posted), queue.sent), (2, 1))

    def test_stop(self) -> None:
        """When it is stopped, what is under way is cancelled, nothing is left, and nothing is taken any more."""
        queue = self.make()
        self.post.status = None
        self.add(queue, 150)
        self.clock.advance(0)
        queue.flush()
        queue.stop()
        self.add(queue, 5)
        self.assertTrue(self.post.posted[0].answer.called)
        self.assertEqual((queue.given_up, queue.is_idle, self.clock.getDelayedCalls()), (150, True, []))

    def test_flush(self) -> None:
        """What waits for others need not wait any longer."""
        queue = self.make()
        queue.flush()
        self.add(queue, 1)
        queue.flush()
        self.clock.advance(0)
        self.assertEqual(self.users(), [["0"]])
