"""Others of our kind that neighbours name."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.overlay.kin import MAX_FAILURES, MAX_KIN, MAX_KIN_OF_NEIGHBOUR, Kin


def ids(start: int, count: int) -> list[bytes]:
    """Some that nobody else has."""
    return [number.to_bytes(20, "big") for number in range(start, start + count)]


NEIGHBOURS = ids(10**6, 100)


class KinTests(SynchronousTestCase):
    """See `Kin`."""

    def setUp(self) -> None:
        """Nobody is named."""
        self.kin = Kin()

    def test_one_neighbour(self) -> None:
        """A neighbour may name so many; its oldest go when it names more."""
        names = ids(0, MAX_KIN_OF_NEIGHBOUR + 10)
        self.kin.add(NEIGHBOURS[0], names)
        self.assertEqual(len(self.kin), MAX_KIN_OF_NEIGHBOUR)
        self.assertNotIn(names[9], self.kin)
        self.assertIn(names[10], self.kin)

    def test_all(self) -> None:
        """There are so many in all; who named most pays for it, and not who named one."""
        self.kin.add(NEIGHBOURS[0], ids(0, 1))
        for number in range(1, 10):
            self.kin.add(NEIGHBOURS[number], ids(1000 * number, MAX_KIN_OF_NEIGHBOUR))
        self.assertEqual(len(self.kin), MAX_KIN)
        self.assertIn(ids(0, 1)[0], self.kin)

    def test_turns(self) -> None:
        """A flood of one neighbour does not stand before what others name."""
        self.kin.add(NEIGHBOURS[0], ids(0, 500))
        self.kin.add(NEIGHBOURS[1], ids(1000, 2))
        self.assertEqual(set(self.kin.candidates()[:4]), {*ids(0, 2), *ids(1000, 2)})
        self.assertEqual(len(self.kin.candidates()), 502)

    def test_failures(self) -> None:
        """Who cannot be linked with goes last, and is forgotten at the third time."""
        first, second = ids(0, 2)
        self.kin.add(NEIGHBOURS[0], [first, second])
        self.kin.failed(first)
        self.assertEqual(self.kin.candidates(), [second, first])
        for _ in range(MAX_FAILURES - 1):
            self.kin.failed(first)
        self.assertEqual(self.kin.candidates(), [second])
        self.kin.failed(first)

    def test_linked(self) -> None:
        """Who is linked is no candidate; nothing is left of a neighbour that named nobody else."""
        self.kin.add(NEIGHBOURS[0], ids(0, 1))
        self.kin.discard(ids(0, 1)[0])
        self.kin.discard(ids(0, 1)[0])
        self.assertEqual((len(self.kin), self.kin.candidates(), list(self.kin)), (0, [], []))

    def test_named_twice(self) -> None:
        """Whom two neighbours name is one candidate."""
        self.kin.add(NEIGHBOURS[0], ids(0, 1))
        self.kin.add(NEIGHBOURS[1], ids(0, 1))
        self.assertEqual(self.kin.candidates(), ids(0, 1))
