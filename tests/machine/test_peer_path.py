from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.machine.peer_path import DEATH_SECONDS, KEEP_ALIVE_SECONDS, Path, PathCheck, PathStage
from meshrelay.wire.addresses import UdpAddress
from meshrelay.wire.peer_packet import MAX_PROBE_BYTES

PATH = Path(UdpAddress("203.0.113.5", 7000))


def verified(is_active: bool = True) -> PathCheck:
    """Return a path that was verified at 0.2, with round trips of 0.1."""
    check = PathCheck(PATH, 0.0)
    check.ask(0.0)
    check.answered(0.0, False, is_active, 0.1)
    check.ask(0.1)
    check.answered(0.1, True, is_active, 0.2)
    return check


def silence(check: PathCheck, until: float) -> list[float]:
    """Let nobody answer and return when questions were asked."""
    asked = []
    while check.ask_at <= until:
        now = check.ask_at
        check.expire(now)
        if check.stage is PathStage.DEAD:
            break
        if check.ask_at <= now:
            check.ask(now)
            asked.append(now)
    return asked


class PathCheckTests(SynchronousTestCase):
    def test_full_length_first(self) -> None:
        """A path is good when a datagram of full length has gone there and back, not before."""
        check = PathCheck(PATH, 0.0)
        self.assertEqual((check.stage, check.ask(0.0)), (PathStage.HEARD, 0))
        check.answered(0.0, False, True, 0.1)
        self.assertEqual((check.stage, check.ask_at), (PathStage.OPEN, 0.1))
        self.assertEqual(check.ask(0.1), MAX_PROBE_BYTES)
        check.answered(0.1, True, True, 0.2)
        self.assertIs(check.stage, PathStage.VERIFIED)
        self.assertAlmostEqual(check.round_trip_seconds, 0.1)

    def test_narrow(self) -> None:
        """A path that swallows long packets is known as such, and asked again later."""
        check = PathCheck(PATH, 0.0)
        check.ask(0.0)
        check.answered(0.0, False, True, 0.1)
        asked = silence(check, 20.0)
        self.assertEqual((check.stage, len(asked)), (PathStage.NARROW, 8))
        self.assertEqual(check.ask(check.ask_at), MAX_PROBE_BYTES)
        check.answered(40.0, True, True, 40.1)
        self.assertIs(check.stage, PathStage.VERIFIED)

    def test_one_way(self) -> None:
        """A path by which the peer is heard and does not hear is given up after eight questions."""
        check = PathCheck(PATH, 0.0)
        self.assertEqual(len(silence(check, 60.0)), 8)
        self.assertIs(check.stage, PathStage.DEAD)

    def test_keep_alive(self) -> None:
        """A quiet path is asked often enough for any NAT to keep it open."""
        check = verified(is_active=False)
        self.assertEqual(check.ask_at, 0.2 + KEEP_ALIVE_SECONDS)
        self.assertLess(KEEP_ALIVE_SECONDS, 30)

    def test_data(self) -> None:
        """When data move it is asked every second, the first time at once if it was quiet."""
        check = verified(is_active=False)
        check.data_moved(9.0)
        self.assertEqual(check.ask_at, 9.0)
        check.ask(9.0)
        check.answered(9.0, False, True, 9.1)
        check.data_moved(9.2)
        self.assertAlmostEqual(check.ask_at, 10.0)

    def test_death(self) -> None:
        """While data move the end of a path is known within five seconds, and suspected after two."""
        check = verified()
        asked = silence(check, 60.0)
        self.assertIs(check.stage, PathStage.DEAD)
        self.assertLess(check.ask_at - 0.2, 5.0)
        self.assertGreaterEqual(len(asked), 6)
        self.assertAlmostEqual(check.ask_at, 1.2 + DEATH_SECONDS)

    def test_suspect(self) -> None:
        """An overdue answer makes it suspect, an answer clears it."""
        check = verified()
        check.ask(1.2)
        self.assertEqual([check.is_suspect(now) for now in (1.3, 1.9, 2.0)], [False, False, True])
        check.answered(1.2, False, True, 2.1)
        self.assertFalse(check.is_suspect(2.2))

    def test_slow_path(self) -> None:
        """A path over two satellites is neither suspect nor dead for being slow."""
        check = PathCheck(PATH, 0.0)
        check.ask(0.0)
        check.answered(0.0, False, True, 1.2)
        check.ask(1.2)
        check.answered(1.2, True, True, 2.4)
        check.ask(3.4)
        self.assertFalse(check.is_suspect(4.6))

    def test_dead_stays_dead(self) -> None:
        """A late answer does not wake a path that was given up."""
        check = verified()
        silence(check, 60.0)
        check.answered(5.0, True, True, 60.0)
        self.assertIs(check.stage, PathStage.DEAD)

    def test_doubt(self) -> None:
        """A path that is doubted is asked at once; one that is being asked already is not asked more often."""
        check = verified(is_active=False)
        check.doubt(1.0)
        self.assertEqual(check.ask_at, 1.0)
        check.ask(1.0)
        check.doubt(1.1)
        self.assertEqual(check.ask_at, 1.5)
