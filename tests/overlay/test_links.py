"""Whom a peer is linked with."""

from __future__ import annotations

from collections import Counter
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.overlay.links import (
    MAX_ALL_HOLDINGS,
    MAX_HOLDERS,
    MAX_HOLDINGS,
    MAX_PLAIN_PEERS,
    MAX_WRTC_PEERS,
    LinkTable,
)


def peer(number: int) -> bytes:
    """Some peer; the numbers are the distances from peer 0."""
    return number.to_bytes(20)


def linked(*numbers: int, **bounds: int) -> LinkTable:
    """A table with links to some peers of our kind, each a second younger than the one before."""
    table = LinkTable(**bounds)
    for now, number in enumerate(numbers):
        table.add(peer(number), is_own=True, now=float(now))
    return table


class LinkTests(SynchronousTestCase):
    """Open links."""

    def test_there(self) -> None:
        """A link is there from when it opens until it is lost."""
        table = linked(1, 2)
        self.assertEqual((peer(1) in table, peer(3) in table, len(table)), (True, False, 2))
        table.remove(peer(1))
        table.remove(peer(1))
        self.assertEqual((peer(1) in table, len(table), list(table)), (False, 1, [peer(2)]))

    def test_twice(self) -> None:
        """A second link to the same peer changes nothing."""
        table = linked(1)
        table.add(peer(1), is_own=False, now=5.0)
        self.assertEqual((len(table), table.is_own(peer(1))), (1, True))

    def test_kinds(self) -> None:
        """Whether a neighbour is of our kind, and has proved its ID, is known while it is linked."""
        table = linked(1)
        table.add(peer(2), is_own=False, now=0.0)
        table.mark_proved(peer(1))
        table.mark_proved(peer(3))
        self.assertEqual([table.is_own(peer(number)) for number in (1, 2, 3)], [True, False, False])
        self.assertEqual([table.is_proved(peer(number)) for number in (1, 2, 3)], [True, False, False])
        table.remove(peer(1))
        table.add(peer(1), is_own=True, now=1.0)
        self.assertFalse(table.is_proved(peer(1)))

    def test_closest(self) -> None:
        """The nearest neighbours come first, without those that are left out."""
        table = linked(8, 1, 4, 2)
        self.assertEqual(table.closest(peer(0), 3), [peer(1), peer(2), peer(4)])
        self.assertEqual(table.closest(peer(0), 2, {peer(1), peer(2)}), [peer(4), peer(8)])
        table.remove(peer(4))
        self.assertEqual(table.closest(peer(0), 9), [peer(1), peer(2), peer(8)])

    def test_full_bucket(self) -> None:
        """A thousand peers on the far side are all neighbours, where npm's package hears twenty of them."""
        far = [2**159 + number for number in range(1000)]
        table = linked(*far)
        self.assertEqual(len(table.closest(peer(0), 1000)), 1000)

    def test_random(self) -> None:
        """Any neighbour may be picked, each about as often as the others."""
        table = linked(*range(12))
        # The last one takes the place of the first, and must be found there.
        table.remove(peer(0))
        table.remove(peer(11))
        rng = Random(1)
        counts = Counter(table.random_link(rng) for _ in range(1000))
        self.assertEqual(set(counts), {peer(number) for number in range(1, 11)})
        self.assertGreater(min(counts.values()), 50)

    def test_random_left_out(self) -> None:
        """The only neighbour that is not left out is found; when there is none, that is said."""
        table, rng = linked(*range(200)), Random(1)
        left_out = {peer(number) for number in range(199)}
        self.assertEqual({table.random_link(rng, left_out) for _ in range(20)}, {peer(199)})
        self.assertIsNone(table.random_link(rng, left_out | {peer(199)}))
        self.assertIsNone(LinkTable().random_link(rng))


class HoldingTests(SynchronousTestCase):
    """Whom neighbours say they are linked to."""

    def test_said(self) -> None:
        """Who says that it is linked to a peer holds it, until it says otherwise."""
        table = linked(1, 2)
        table.set_holdings(peer(1), [peer(7), peer(8), peer(7)])
        table.set_holdings(peer(2), [peer(8)])
        self.assertEqual(table.holders(peer(7)), (peer(1),))
        self.assertEqual(table.holders(peer(8)), (peer(1), peer(2)))
        self.assertEqual(table.holders(peer(9)), ())
        table.set_holdings(peer(1), [], [peer(8), peer(9)])
        self.assertEqual(table.holders(peer(8)), (peer(2),))
        self.assertEqual(table.holding_count, 2)

    def test_lost(self) -> None:
        """With the link goes what was said on it."""
        table = linked(1, 2)
        table.set_holdings(peer(1), [peer(7), peer(8)])
        table.set_holdings(peer(2), [peer(8)])
        table.remove(peer(1))
        self.assertEqual((table.holders(peer(7)), table.holders(peer(8))), ((), (peer(2),)))
        self.assertEqual(table.holding_count, 1)

    def test_strangers(self) -> None:
        """Who is not linked says nothing, and nobody holds itself."""
        table = linked(1)
        table.set_holdings(peer(2), [peer(7)])
        table.set_holdings(peer(1), [peer(1)])
        self.assertEqual((table.holders(peer(7)), table.holders(peer(1)), table.holding_count), ((), (), 0))

    def test_best_first(self) -> None:
        """Proved neighbours come first, then those linked longest, and three are enough."""
        table = linked(1, 2, 3, 4, 5)
        for number in (5, 4, 3, 2, 1):
            table.set_holdings(peer(number), [peer(9)])
        table.mark_proved(peer(4))
        self.assertEqual(table.holders(peer(9)), (peer(4), peer(1), peer(2)))
        self.assertEqual(len(table.holders(peer(9))), MAX_HOLDERS)

    def test_bound(self) -> None:
        """A neighbour that claims everything is believed for ten thousand peers."""
        table = linked(1)
        table.set_holdings(peer(1), map(peer, range(100, 12_100)))
        self.assertEqual((table.holding_count, table.holdings_refused), (MAX_HOLDINGS, 2_000))
        self.assertEqual(table.holders(peer(12_099)), ())

    def test_bound_of_all(self) -> None:
        """However many neighbours claim thousands, there are two hundred thousand claims at most."""
        table = linked(*range(25))
        for number in range(25):
            table.set_holdings(peer(number), map(peer, range(1000, 1000 + MAX_HOLDINGS)))
        self.assertEqual(table.holding_count, MAX_ALL_HOLDINGS)
        self.assertGreater(table.holdings_refused, 0)

    def test_who_claims_most(self) -> None:
        """When there is no room, who claims most makes it for who claims little."""
        table = linked(1, 2, max_all_holdings=100)
        table.set_holdings(peer(1), map(peer, range(100, 300)))
        table.set_holdings(peer(2), map(peer, range(300, 310)))
        self.assertTrue(all(table.holders(peer(number)) == (peer(2),) for number in range(300, 310)))
        self.assertEqual((table.holding_count, table.holdings_refused), (100, 110))
        table.set_holdings(peer(2), map(peer, range(310, 500)))
        shares = [sum(table.holders(peer(held)) == (peer(holder),) for held in range(100, 500)) for holder in (1, 2)]
        self.assertEqual(shares, [50, 50])

    def test_all_gone(self) -> None:
        """Nothing is left of claims when all links are."""
        table = linked(1, 2, max_all_holdings=100)
        table.set_holdings(peer(1), map(peer, range(100, 300)))
        table.set_holdings(peer(2), map(peer, range(150, 250)))
        table.remove(peer(1))
        table.remove(peer(2))
        self.assertEqual((table.holding_count, table.holders(peer(150))), (0, ()))


class WrtcTests(SynchronousTestCase):
    """Who speaks WebRTC."""

    def test_gone(self) -> None:
        """Nothing is known of who comes under an ID whose link is gone: that may be somebody else."""
        table = linked(1)
        table.mark_wrtc(peer(1))
        table.remove(peer(1))
        table.add(peer(1), is_own=False, now=1.0)
        self.assertFalse(table.takes_signals(peer(1)))

    def test_marked(self) -> None:
        """Only who is known to speak it does."""
        table = linked(1)
        table.mark_wrtc(peer(2))
        self.assertEqual((table.takes_signals(peer(1)), table.takes_signals(peer(2))), (False, True))

    def test_bound(self) -> None:
        """The peers marked longest ago are forgotten first."""
        table = LinkTable()
        for number in range(MAX_WRTC_PEERS):
            table.mark_wrtc(peer(number))
        table.mark_wrtc(peer(0))
        table.mark_wrtc(peer(MAX_WRTC_PEERS))
        self.assertEqual(table.wrtc_count, MAX_WRTC_PEERS)
        self.assertEqual((table.takes_signals(peer(0)), table.takes_signals(peer(1))), (True, False))


class PlainTests(SynchronousTestCase):
    """Who is said to be of npm's package."""

    def test_bound(self) -> None:
        """The peers marked longest ago are forgotten first."""
        table = LinkTable()
        for number in range(MAX_PLAIN_PEERS):
            table.mark_plain(peer(number))
        table.mark_plain(peer(0))
        table.mark_plain(peer(MAX_PLAIN_PEERS))
        self.assertEqual(table.plain_count, MAX_PLAIN_PEERS)
        self.assertEqual((table.is_plain(peer(0)), table.is_plain(peer(1))), (True, False))
