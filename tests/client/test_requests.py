"""Tests of `meshrelay.client.requests`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.client.errors import TooManyPending
from meshrelay.client.requests import HELLO_ID, PROBE_ID, PendingRequests, Settled, read_answer
from meshrelay.errors import GroupNotFound, MalformedPayload, RemoteProtocolError, TimedOut
from meshrelay.model import Status
from meshrelay.wire.commands import encode_error
from meshrelay.wire.frame import Frame


class PendingRequestsTests(SynchronousTestCase):
    """The table of open requests."""

    def setUp(self) -> None:
        self.requests: PendingRequests[str] = PendingRequests(3)

    def test_answer_finds_its_waiter(self) -> None:
        """Answers may come in any order; each settles the request whose ID it carries."""
        first = self.requests.add("first", 0.0, 10.0)
        second = self.requests.add("second", 0.0, 10.0)
        self.assertEqual(self.requests.answered(Frame(1, 1, 113, second, b"2")), Settled("second", b"2", None))
        self.assertEqual(self.requests.answered(Frame(1, 1, 113, first, b"1")), Settled("first", b"1", None))
        self.assertEqual(len(self.requests), 0)

    def test_answer_is_taken_once(self) -> None:
        """A second answer to the same request is passed over."""
        request_id = self.requests.add("first", 0.0, 10.0)
        self.requests.answered(Frame(1, 1, 113, request_id, b""))
        self.assertIsNone(self.requests.answered(Frame(1, 1, 113, request_id, b"")))

    def test_refusal(self) -> None:
        """A BAD answer settles with the error that it names."""
        request_id = self.requests.add("first", 0.0, 10.0)
        settled = self.requests.answered(Frame(1, Status.BAD, 111, request_id, encode_error(21, "no such group")))
        assert settled is not None
        self.assertIsInstance(settled.error, GroupNotFound)

    def test_unreadable_refusal(self) -> None:
        """An error without a code is the node's fault."""
        request_id = self.requests.add("first", 0.0, 10.0)
        self.assertRaises(MalformedPayload, self.requests.answered, Frame(1, Status.BAD, 111, request_id, b"x"))

    def test_bound(self) -> None:
        """No more than the limit can wait; an answer makes room again."""
        ids = [self.requests.add(str(number), 0.0, 10.0) for number in range(3)]
        error = self.assertRaises(TooManyPending, self.requests.add, "more", 0.0, 10.0)
        self.assertEqual(error.limit, 3)
        self.requests.answered(Frame(1, 1, 1, ids[0], b""))
        self.requests.add("more", 0.0, 10.0)

    def test_deadlines(self) -> None:
        """What is not answered in time fails with TimedOut, and only that."""
        self.requests.add("slow", 0.0, 10.0)
        self.requests.add("fast", 0.0, 1.0)
        self.assertEqual(self.requests.next_deadline, 1.0)
        self.assertEqual(self.requests.expire(0.9), [])
        [settled] = self.requests.expire(1.0)
        self.assertEqual(settled.waiter, "fast")
        self.assertIsInstance(settled.error, TimedOut)
        self.assertEqual(self.requests.next_deadline, 10.0)

    def test_no_deadline_without_requests(self) -> None:
        """Nothing is waited for when nothing is open."""
        request_id = self.requests.add("first", 0.0, 1.0)
        self.requests.answered(Frame(1, 1, 1, request_id, b""))
        self.assertIsNone(self.requests.next_deadline)
        self.requests.add("later", 5.0, 10.0)
        self.assertEqual(self.requests.next_deadline, 15.0)

    def test_forgotten(self) -> None:
        """The answer to a request that was given up is passed over."""
        request_id = self.requests.add("first", 0.0, 1.0)
        self.requests.forget("first")
        self.assertIsNone(self.requests.answered(Frame(1, 1, 1, request_id, b"")))

    def test_break_fails_all(self) -> None:
        """When the connection breaks every request gets an error of its own."""
        self.requests.add("one", 0.0, 1.0)
        self.requests.add("two", 0.0, 1.0)
        one, two = self.requests.fail_all(lambda: TimedOut("gone"))
        self.assertEqual((one.waiter, two.waiter), ("one", "two"))
        self.assertIsNot(one.error, two.error)
        self.assertEqual(len(self.requests), 0)

    def test_ids_begin_again(self) -> None:
        """After 2^32 requests IDs start over, and skip those of old requests and of the connection itself."""
        old = self.requests.add("old", 0.0, 1e9)
        self.requests._last_id = HELLO_ID - 2
        last = self.requests.add("last", 0.0, 1.0)
        self.assertEqual((old, last), (1, HELLO_ID - 1))
        self.assertEqual(self.requests.add("again", 0.0, 1.0), 2)
        self.assertNotIn(last, (HELLO_ID, PROBE_ID))


class ReadAnswerTests(SynchronousTestCase):
    """What an answer says."""

    def test_readable(self) -> None:
        """An answer is what it says."""
        self.assertEqual(read_answer(b"7", int), 7)

    def test_unreadable(self) -> None:
        """An answer that cannot be read is the node's fault, and not that of the request."""

        def decode(_: bytes) -> None:
            raise MalformedPayload("too short")

        self.assertRaisesRegex(RemoteProtocolError, "cannot be read: too short", read_answer, b"", decode)
