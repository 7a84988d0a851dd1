"""Tests of `meshrelay.overlay.bootstraps`."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.overlay.bootstraps import (
    CAP_SECONDS,
    FEW_LINKS_FACTOR,
    QUICK_CAP_SECONDS,
    QUICK_SECONDS,
    STABLE_SECONDS,
    Bootstraps,
    BootstrapState,
)

HUB, OTHER = "ws://127.0.0.1:7400", "wss://hub.example"
PEER = b"\x07" * 20


def _longest(low: float, high: float) -> float:
    return high


def _bootstraps(*urls: str) -> Bootstraps:
    return Bootstraps(urls or (HUB,), _longest)


def _wait(bootstraps: Bootstraps, now: float) -> float:
    """Seconds until the next dial."""
    next_at = bootstraps.next_at(now)
    assert next_at is not None
    return next_at - now


def _fail(bootstraps: Bootstraps, now: float) -> float:
    """One failed dial; the seconds until the next one."""
    bootstraps.dialling(HUB)
    bootstraps.failed(HUB, now)
    return _wait(bootstraps, now)


class DialTests(SynchronousTestCase):
    """When what is dialled."""

    def test_all_at_once(self) -> None:
        """At the start every URL is dialled at once."""
        bootstraps = _bootstraps(HUB, OTHER)
        self.assertEqual(bootstraps.next_at(5.0), 5.0)
        self.assertEqual(bootstraps.due(5.0), [HUB, OTHER])

    def test_none(self) -> None:
        """A peer without bootstraps has nothing to dial."""
        bootstraps = Bootstraps((), _longest)
        self.assertEqual((bootstraps.due(0.0), bootstraps.next_at(0.0)), ([], None))

    def test_one_dial_at_a_time(self) -> None:
        """A URL that is being dialled, or has its link, is left alone."""
        bootstraps = _bootstraps()
        bootstraps.dialling(HUB)
        self.assertEqual((bootstraps.due(1e9), bootstraps.next_at(1e9)), ([], None))
        bootstraps.opened(HUB, 0.0, PEER)
        self.assertEqual((bootstraps.due(1e9), bootstraps.next_at(1e9)), ([], None))
        self.assertEqual(bootstraps.linked_count, 1)

    def test_waits_double(self) -> None:
        """Waits double up to half a minute, for as long as it takes."""
        bootstraps = _bootstraps()
        waits = [_fail(bootstraps, 0.0) for _ in range(9)]
        self.assertEqual(waits, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, CAP_SECONDS, CAP_SECONDS, CAP_SECONDS])

    def test_not_before_its_time(self) -> None:
        """A URL is dialled when its wait is over and not before."""
        bootstraps = _bootstraps()
        _fail(bootstraps, 10.0)
        self.assertEqual(bootstraps.due(10.499), [])
        self.assertEqual(bootstraps.due(10.5), [HUB])
        self.assertEqual(bootstraps.next_at(11.0), 11.0)

    def test_each_has_its_own_wait(self) -> None:
        """One URL that is dead does not hold up another."""
        bootstraps = _bootstraps(HUB, OTHER)
        for _ in range(6):
            _fail(bootstraps, 0.0)
        bootstraps.dialling(OTHER)
        bootstraps.failed(OTHER, 0.0)
        self.assertEqual(bootstraps.due(0.5), [OTHER])

    def test_few_links(self) -> None:
        """With too few links the waits are a third as long, and there is still one."""
        bootstraps = _bootstraps()
        for _ in range(9):
            _fail(bootstraps, 0.0)
        early = CAP_SECONDS * FEW_LINKS_FACTOR
        self.assertEqual(bootstraps.next_at(0.0, has_few_links=True), early)
        self.assertEqual(bootstraps.due(early - 0.001, has_few_links=True), [])
        self.assertEqual(bootstraps.due(early, has_few_links=True), [HUB])
        self.assertEqual(bootstraps.due(early), [])


class LossTests(SynchronousTestCase):
    """After a link."""

    def test_good_link(self) -> None:
        """After a link that lasted, waits are short again, and stay so for a minute."""
        bootstraps = _bootstraps()
        for _ in range(9):
            _fail(bootstraps, 0.0)
        bootstraps.opened(HUB, 100.0)
        bootstraps.lost(HUB, 100.0 + STABLE_SECONDS)
        self.assertEqual(_wait(bootstraps, 100.0 + STABLE_SECONDS), 0.5)
        waits = [_fail(bootstraps, 100.0 + STABLE_SECONDS + QUICK_SECONDS - 0.001) for _ in range(5)]
        self.assertEqual(waits, [1.0, 2.0, QUICK_CAP_SECONDS, QUICK_CAP_SECONDS, QUICK_CAP_SECONDS])

    def test_a_minute_later(self) -> None:
        """What has been away for a minute is dialled like anything else."""
        bootstraps = _bootstraps()
        for _ in range(9):
            _fail(bootstraps, 0.0)
        bootstraps.opened(HUB, 0.0)
        bootstraps.lost(HUB, STABLE_SECONDS)
        waits = [_fail(bootstraps, STABLE_SECONDS + QUICK_SECONDS) for _ in range(7)]
        self.assertEqual(waits, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, CAP_SECONDS])

    def test_link_that_flaps(self) -> None:
        """A place that takes links and drops them is dialled less and less often."""
        bootstraps = _bootstraps()
        waits = []
        for _ in range(7):
            bootstraps.dialling(HUB)
            bootstraps.opened(HUB, 0.0)
            bootstraps.lost(HUB, STABLE_SECONDS - 0.001)
            waits.append(_wait(bootstraps, STABLE_SECONDS - 0.001))
        self.assertEqual(waits[-1], CAP_SECONDS)
        self.assertEqual(bootstraps.statistics()[0].failures, 7)

    def test_lost_twice(self) -> None:
        """The loss of a link that is gone already does not make the wait longer."""
        bootstraps = _bootstraps()
        bootstraps.opened(HUB, 0.0)
        bootstraps.lost(HUB, 0.0)
        bootstraps.lost(HUB, 0.0)
        self.assertEqual(_wait(bootstraps, 0.0), 0.5)

    @settings(max_examples=200, deadline=None)
    @given(st.integers(0, 10_000), st.floats(STABLE_SECONDS, 1e6), st.floats(0.0, 7.0))
    def test_restart_is_healed(self, seed: int, lasted: float, away: float) -> None:
        """A hub that is away for up to seven seconds is dialled within three seconds of its return."""
        bootstraps = Bootstraps((HUB,), random.Random(seed).uniform)
        bootstraps.opened(HUB, 0.0)
        now = lasted
        bootstraps.lost(HUB, now)
        while now < lasted + away:
            now += _wait(bootstraps, now)
            if now < lasted + away:
                _fail(bootstraps, now)
        self.assertLessEqual(now, lasted + away + QUICK_CAP_SECONDS + 1e-6)


class PlaceTests(SynchronousTestCase):
    """What stands for one place."""

    def test_spellings(self) -> None:
        """One place in many spellings is dialled once, as it was spelled first."""
        same = ("ws://Hub.example", "WS://hub.example:80/", "ws://hub.example./", "ws://HUB.EXAMPLE:80")
        self.assertEqual(_bootstraps(*same).due(0.0), ["ws://Hub.example"])
        self.assertEqual(_bootstraps(OTHER, OTHER, "wss://hub.example:443").urls, (OTHER,))

    def test_different_places(self) -> None:
        """Another scheme, port, path or query is another place."""
        urls = (HUB, "wss://127.0.0.1:7400", "ws://127.0.0.1:7401", HUB + "/a", HUB + "/A", HUB + "/?a=1")
        self.assertEqual(_bootstraps(*urls).urls, urls)

    def test_own(self) -> None:
        """A URL that leads to ourselves is never dialled again."""
        bootstraps = _bootstraps()
        bootstraps.dialling(HUB)
        bootstraps.reached_self(HUB)
        bootstraps.failed(HUB, 0.0)
        bootstraps.lost(HUB, 0.0)
        self.assertEqual((bootstraps.due(1e9), bootstraps.next_at(1e9)), ([], None))
        self.assertTrue(bootstraps.is_own(HUB))
        self.assertEqual(bootstraps.linked_count, 0)

    def test_linked_already(self) -> None:
        """A place whose peer has another link counts as linked until that link is gone."""
        bootstraps = _bootstraps()
        bootstraps.dialling(HUB)
        bootstraps.opened(HUB, 0.0, PEER)
        bootstraps.peer_lost(b"\x08" * 20, 50.0)
        self.assertEqual(bootstraps.due(50.0), [])
        bootstraps.peer_lost(PEER, 50.0)
        self.assertEqual(bootstraps.due(50.5), [HUB])

    def test_peer_came_back_by_itself(self) -> None:
        """If the peer of a place dials us while we wait, there is nothing to dial."""
        bootstraps = _bootstraps(HUB, OTHER)
        bootstraps.opened(HUB, 0.0, PEER)
        bootstraps.lost(HUB, 100.0)
        bootstraps.peer_linked(b"\x08" * 20, 100.1)
        bootstraps.peer_linked(PEER, 100.2)
        self.assertEqual(bootstraps.due(200.0), [OTHER])
        bootstraps.peer_lost(PEER, 200.0)
        self.assertEqual(bootstraps.due(200.5), [HUB, OTHER])

    def test_unknown_peers(self) -> None:
        """A peer that was never found at a place says nothing of it."""
        bootstraps = _bootstraps()
        bootstraps.peer_linked(PEER, 0.0)
        self.assertEqual(bootstraps.due(0.0), [HUB])

    def test_statistics(self) -> None:
        """An operator sees what became of each place."""
        bootstraps = _bootstraps(HUB, OTHER, "ws://a", "ws://b")
        bootstraps.opened(HUB, 0.0, PEER)
        bootstraps.dialling(OTHER)
        bootstraps.failed(OTHER, 0.0)
        bootstraps.dialling(OTHER)
        bootstraps.reached_self("ws://a")
        self.assertEqual(
            bootstraps.statistics(),
            [
                (HUB, BootstrapState.LINKED, 0, PEER),
                (OTHER, BootstrapState.DIALLING, 1, None),
                ("ws://a", BootstrapState.OWN, 0, None),
                ("ws://b", BootstrapState.WAITING, 0, None),
            ],
        )
