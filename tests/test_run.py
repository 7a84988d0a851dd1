"""The line that counts the tests, which programs read."""

from __future__ import annotations

from twisted.trial.reporter import TestResult
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.run import count, last_line


class Sample(SynchronousTestCase):
    """One test of each kind; none is run but by the tests below."""

    # Trial finds tests by their prefix, and these must not be found.
    def good(self) -> None:
        """Passes."""

    def bad(self) -> None:
        """Fails, and once more in its clean-up."""
        self.addCleanup(self.fail, "again")
        self.fail("bad")

    def broken(self) -> None:
        """Raises."""
        raise KeyError

    def late(self) -> None:
        """Leaves an error in the log."""
        self.addCleanup(self.broken)

    def not_here(self) -> None:
        """Needs something that is not installed."""
        raise SkipTest("missing: redis-server")

    def not_now(self) -> None:
        """Is skipped for another reason."""
        raise SkipTest("only on Sundays")

    def known(self) -> None:
        """Fails as expected."""
        self.fail("known")

    known.todo = "not done"  # type: ignore[attr-defined]

    def surprise(self) -> None:
        """Passes although a failure was expected."""

    surprise.todo = "not done"  # type: ignore[attr-defined]


class CountTests(SynchronousTestCase):
    """Every kind of outcome is counted once."""

    def counted(self, *names: str, is_strict: bool = False) -> tuple[int, int, int]:
        """Run these tests of `Sample` and count."""
        result = TestResult()
        for name in names:
            Sample(name).run(result)
        return count(result, is_strict)

    def test_each(self) -> None:
        """A test that fails twice has failed once; what a clean-up raises has failed too."""
        self.assertEqual(self.counted("good"), (1, 0, 0))
        for name in ("bad", "broken", "late", "surprise"):
            self.assertEqual(self.counted(name), (0, 1, 0), name)
        for name in ("not_here", "not_now", "known"):
            self.assertEqual(self.counted(name), (0, 0, 1), name)

    def test_strict(self) -> None:
        """Where everything must be installed, what is missing has failed."""
        self.assertEqual(self.counted("good", "not_here", "not_now", is_strict=True), (1, 1, 1))

    def test_line(self) -> None:
        """The line names what was skipped only where something was."""
        self.assertEqual(last_line(12, 0, 0), "12 passed, 0 failed")
        self.assertEqual(last_line(12, 3, 1), "12 passed, 3 failed, 1 skipped")
