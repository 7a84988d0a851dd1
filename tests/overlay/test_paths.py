"""The way back to a peer."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.overlay.paths import DOUBT_SECONDS, MAX_DOUBTS, PATH_SECONDS, LearnedPaths

ANN, BOB = b"a" * 20, b"b" * 20
NEAR, FAR = b"n" * 20, b"f" * 20


def peer(number: int) -> bytes:
    """Some peer."""
    return number.to_bytes(20)


class PathTests(SynchronousTestCase):
    """What is learned."""

    def test_learned(self) -> None:
        """Where a peer was last heard, it is for a minute."""
        paths = LearnedPaths()
        paths.learn(ANN, NEAR, 0.0)
        self.assertEqual(paths.find(ANN, PATH_SECONDS - 0.1), NEAR)
        self.assertIsNone(paths.find(ANN, PATH_SECONDS))
        self.assertIsNone(paths.find(BOB, 0.0))

    def test_last_one(self) -> None:
        """The last envelope says where."""
        paths = LearnedPaths()
        paths.learn(ANN, NEAR, 0.0)
        paths.learn(ANN, FAR, 1.0)
        self.assertEqual(paths.find(ANN, 2.0), FAR)

    def test_forged(self) -> None:
        """Who writes another's ID without its key changes no path that was signed, while that is fresh."""
        paths = LearnedPaths()
        paths.learn(ANN, NEAR, 0.0, is_verified=True)
        paths.learn(ANN, FAR, PATH_SECONDS - 1.0)
        self.assertEqual(paths.find(ANN, PATH_SECONDS - 1.0), NEAR)
        paths.learn(ANN, FAR, PATH_SECONDS)
        self.assertEqual(paths.find(ANN, PATH_SECONDS), FAR)

    def test_signed_wins(self) -> None:
        """A signed envelope takes the place of whatever was there."""
        paths = LearnedPaths()
        paths.learn(ANN, FAR, 0.0)
        paths.learn(ANN, NEAR, 1.0, is_verified=True)
        self.assertEqual(paths.find(ANN, 1.0), NEAR)

    def test_forget(self) -> None:
        """With a link go the paths over it, and no others."""
        paths = LearnedPaths()
        paths.learn(ANN, NEAR, 0.0)
        paths.learn(BOB, NEAR, 0.0)
        paths.learn(BOB, FAR, 0.0)
        paths.forget(NEAR)
        paths.forget(NEAR)
        self.assertEqual((paths.find(ANN, 0.0), paths.find(BOB, 0.0), len(paths)), (None, FAR, 1))

    def test_expire(self) -> None:
        """Old paths are let go, the renewed ones are not."""
        paths = LearnedPaths()
        paths.learn(ANN, NEAR, 0.0)
        paths.learn(BOB, NEAR, 0.0)
        paths.learn(ANN, NEAR, 30.0)
        paths.expire(PATH_SECONDS)
        self.assertEqual((len(paths), paths.find(ANN, PATH_SECONDS)), (1, NEAR))
        paths.expire(PATH_SECONDS + 30.0)
        self.assertEqual(len(paths), 0)

    def test_bound(self) -> None:
        """A link on which a million senders are made up loses those; the others keep theirs."""
        paths = LearnedPaths(1000)
        for number in range(100):
            paths.learn(peer(number), NEAR, 0.0)
        for number in range(100, 20_000):
            paths.learn(peer(number), FAR, 0.0)
        self.assertLessEqual(len(paths), 1000)
        self.assertGreaterEqual(paths.evicted, 19_000)
        self.assertTrue(all(paths.find(peer(number), 1.0) == NEAR for number in range(100)))
        self.assertEqual(paths.find(peer(19_999), 1.0), FAR)

    def test_bound_oldest(self) -> None:
        """The link that loses loses its oldest paths."""
        paths = LearnedPaths(4)
        for number in (0, 1, 2, 3, 0, 4):
            paths.learn(peer(number), NEAR, 0.0)
        self.assertEqual([paths.find(peer(number), 0.0) for number in range(5)], [NEAR, None, NEAR, NEAR, NEAR])


class DoubtTests(SynchronousTestCase):
    """What failed."""

    def test_a_minute(self) -> None:
        """A way that failed is in doubt for a minute, for that target only."""
        paths = LearnedPaths()
        paths.failed(ANN, NEAR, 0.0)
        self.assertTrue(paths.is_doubtful(ANN, NEAR, DOUBT_SECONDS - 0.1))
        self.assertFalse(paths.is_doubtful(ANN, NEAR, DOUBT_SECONDS))
        self.assertFalse(paths.is_doubtful(ANN, FAR, 0.0))
        self.assertFalse(paths.is_doubtful(BOB, NEAR, 0.0))

    def test_worked(self) -> None:
        """A way that works is in doubt no more."""
        paths = LearnedPaths()
        paths.failed(ANN, NEAR, 0.0)
        paths.worked(ANN, NEAR)
        self.assertFalse(paths.is_doubtful(ANN, NEAR, 1.0))

    def test_signed(self) -> None:
        """A signed envelope shows that a way works; one that anybody may have written shows nothing."""
        paths = LearnedPaths()
        paths.failed(ANN, NEAR, 0.0)
        paths.learn(ANN, NEAR, 1.0)
        self.assertTrue(paths.is_doubtful(ANN, NEAR, 2.0))
        paths.learn(ANN, NEAR, 3.0, is_verified=True)
        self.assertFalse(paths.is_doubtful(ANN, NEAR, 4.0))

    def test_bound(self) -> None:
        """Only so many doubts are kept, the last ones, and none of them for ever."""
        paths = LearnedPaths()
        for number in (*range(MAX_DOUBTS), 0, *range(MAX_DOUBTS, MAX_DOUBTS + 9)):
            paths.failed(peer(number), NEAR, 0.0)
        self.assertEqual(paths.doubt_count, MAX_DOUBTS)
        self.assertFalse(paths.is_doubtful(peer(9), NEAR, 1.0))
        self.assertTrue(paths.is_doubtful(peer(10), NEAR, 1.0))
        self.assertTrue(paths.is_doubtful(peer(0), NEAR, 1.0))
        paths.expire(DOUBT_SECONDS)
        self.assertEqual(paths.doubt_count, 0)
