"""Requests that come twice."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.http.admin_problems import Problem
from meshrelay.http.admin_repeats import KEEP_SECONDS, MAX_KEY_CHARACTERS, MAX_KEYS, Repeats, fingerprint_of
from meshrelay.http.page import Answer

DONE = Answer(202, b"{}")


class RepeatsTests(SynchronousTestCase):
    """What was done is not done again."""

    def setUp(self) -> None:
        """Nothing came yet."""
        self.clock = Clock()
        self.repeats = Repeats(self.clock)

    def do(self, key: str, fingerprint: bytes = b"1") -> Answer:
        """Do a request, or return what it was answered."""
        before = self.repeats.begin(key, fingerprint)
        if before is None:
            self.repeats.done(key, fingerprint, DONE)
            return DONE
        return before

    def code(self, key: str, fingerprint: bytes = b"1") -> str:
        """The problem with a request."""
        problem: Problem = self.assertRaises(Problem, self.repeats.begin, key, fingerprint)
        return problem.code

    def test_again(self) -> None:
        """The same request gets the same answer, marked as such, for ten minutes."""
        self.assertEqual(self.do("k"), DONE)
        self.clock.advance(KEEP_SECONDS - 1)
        again = self.do("k")
        self.assertEqual((again.body, again.headers), (b"{}", (("Idempotency-Replayed", "true"),)))
        self.assertEqual(self.repeats.replayed, 1)
        self.clock.advance(2)
        self.assertEqual(self.do("k"), DONE)

    def test_another_request(self) -> None:
        """Another request with the same key is a mistake."""
        self.do("k")
        self.assertEqual(self.code("k", b"2"), "key_reused")

    def test_under_way(self) -> None:
        """A request that is being done is not begun again."""
        self.repeats.begin("k", b"1")
        self.assertEqual(self.code("k"), "in_progress")
        self.assertEqual(self.code("k", b"2"), "key_reused")

    def test_failed(self) -> None:
        """A request that was not done may be tried again with its key."""
        self.repeats.begin("k", b"1")
        self.repeats.failed("k", b"1")
        self.assertEqual(self.do("k"), DONE)
        self.repeats.failed("k", b"1")
        self.assertEqual(len(self.repeats), 1)

    def test_keys(self) -> None:
        """A key is 1 to 128 printable characters."""
        self.do("k" * MAX_KEY_CHARACTERS)
        for key in ("", "a b", "k" * (MAX_KEY_CHARACTERS + 1), "\u00e9", "a\n"):
            self.assertEqual((key, self.code(key)), (key, "bad_header"))

    def test_bound(self) -> None:
        """At the bound the oldest key is forgotten, and counted; what it was for may still end."""
        self.repeats.begin("first", b"1")
        for number in range(MAX_KEYS):
            self.do(str(number))
        self.assertEqual((len(self.repeats), self.repeats.evicted), (MAX_KEYS, 1))
        self.repeats.done("first", b"1", DONE)
        self.assertEqual(len(self.repeats), MAX_KEYS)
        self.assertIsNone(self.repeats.begin("first", b"2"))
        self.repeats.done("first", b"1", DONE)
        self.assertEqual(self.code("first", b"2"), "in_progress")

    def test_fingerprint(self) -> None:
        """Where a part ends matters."""
        self.assertNotEqual(fingerprint_of(b"ab", b"c"), fingerprint_of(b"a", b"bc"))
        self.assertEqual(fingerprint_of(b"ab", b"c"), fingerprint_of(b"ab", b"c"))
