"""Peers that one has heard of."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.overlay.distance import distance
from meshrelay.overlay.table import (
    BUCKET_SIZE,
    DEAD_SECONDS,
    LIVE_SECONDS,
    MAX_CONTACTS,
    MAX_DEAD,
    MAX_FAILURES,
    MAX_PER_SOURCE,
    MAX_SPLITS,
    TOLD_SECONDS,
    RoutingTable,
)

OWN = bytes(20)
HUB, EVE = b"\xaa" * 20, b"\xee" * 20


def far(number: int) -> bytes:
    """An ID that shares nothing with the own one: all of them fight for one bucket."""
    return b"\x80" + number.to_bytes(19)


def spread(source: Random) -> bytes:
    """An ID that shares any number of bits with the own one, each as likely."""
    return (source.getrandbits(160) >> source.randrange(MAX_SPLITS + 1)).to_bytes(20)


def by_distance(ids: list[bytes]) -> list[bytes]:
    """The closest to the own ID first."""
    return sorted(ids, key=lambda peer_id: distance(peer_id, OWN))


class KnownTests(SynchronousTestCase):
    """Contacts come and go."""

    def setUp(self) -> None:
        self.table = RoutingTable(OWN)

    def everybody(self, now: float = 0.0) -> list[bytes]:
        """All contacts that may be named."""
        return self.table.closest(OWN, MAX_CONTACTS, now)

    def test_add(self) -> None:
        """A peer is in the table once it was told of, and no more when it is removed."""
        self.assertTrue(self.table.add_contact(far(1), HUB, 0.0))
        self.assertTrue(self.table.add_contact(far(1), EVE, 0.0))
        self.assertEqual((len(self.table), far(1) in self.table, self.everybody()), (1, True, [far(1)]))
        self.table.remove_contact(far(1))
        self.table.remove_contact(far(1))
        self.assertEqual((len(self.table), far(1) in self.table, self.everybody()), (0, False, []))

    def test_self(self) -> None:
        """One never hears of oneself, whoever tells it."""
        self.assertFalse(self.table.add_contact(OWN, HUB, 0.0))
        self.assertFalse(self.table.add_contact(OWN, None, 0.0, is_live=True))
        self.assertEqual(len(self.table), 0)

    def test_live_first(self) -> None:
        """Peers that were linked are named first, then the closest that were told of."""
        for number in range(1, 9):
            self.table.add_contact(far(number), HUB, 0.0, is_live=number > 5)
        self.assertEqual(self.table.closest(far(0), 5, 0.0), [far(6), far(7), far(8), far(1), far(2)])

    def test_named_to_others(self) -> None:
        """Peers that nobody here has been linked to are not named to others, nor are those that fail."""
        for number in range(1, 9):
            self.table.add_contact(far(number), HUB, 0.0, is_live=number > 4)
        self.assertEqual(self.table.closest_live(far(0), 3, 0.0), [far(5), far(6), far(7)])
        self.table.failed(far(6), 0.0)
        self.assertEqual(self.table.closest_live(far(0), 20, 0.0), [far(5), far(7), far(8)])
        self.assertEqual(self.table.closest_live(far(0), 20, LIVE_SECONDS), [])

    def test_becomes_live(self) -> None:
        """A link makes a contact that was told of a live one, and its source may tell of another."""
        source = Random(4)
        told = [
            peer_id for peer_id in (spread(source) for _ in range(300)) if self.table.add_contact(peer_id, HUB, 0.0)
        ]
        self.assertEqual(len(told), MAX_PER_SOURCE)
        self.assertTrue(self.table.add_contact(told[0], None, 0.0, is_live=True))
        self.assertEqual((len(self.table), self.everybody()[0]), (MAX_PER_SOURCE, told[0]))
        self.table.remove_contact(told[1])
        news = [
            peer_id for peer_id in (spread(source) for _ in range(300)) if self.table.add_contact(peer_id, HUB, 0.0)
        ]
        self.assertEqual(len(news), 2)

    def test_age(self) -> None:
        """Hearsay is forgotten after half an hour, however often it is told; a peer that was linked stays for a day."""
        self.table.add_contact(far(1), HUB, 0.0)
        self.table.add_contact(far(2), None, 0.0, is_live=True)
        self.table.add_contact(far(1), HUB, TOLD_SECONDS - 1.0)
        self.assertEqual(self.table.expire(TOLD_SECONDS - 1.0), 0)
        self.assertEqual(self.everybody(TOLD_SECONDS), [far(2)])
        self.assertEqual(self.table.candidates(TOLD_SECONDS, 9), [far(2)])
        self.assertEqual(self.table.expire(TOLD_SECONDS), 1)
        self.assertEqual(len(self.table), 1)
        self.table.add_contact(far(2), None, 100.0, is_live=True)
        self.assertEqual(self.table.expire(LIVE_SECONDS + 99.0), 0)
        self.assertEqual(self.table.expire(LIVE_SECONDS + 100.0), 1)
        self.assertEqual((len(self.table), self.table.expired_count), (0, 2))

    def test_failures(self) -> None:
        """Who does not answer is not named, waits longer each time, and is forgotten at the third."""
        self.table.add_contact(far(1), HUB, 0.0)
        self.table.failed(far(1), 0.0)
        self.assertEqual((self.everybody(), self.table.candidates(14.0, 9)), ([], []))
        self.assertEqual(self.table.candidates(15.0, 9), [far(1)])
        self.table.failed(far(1), 20.0)
        self.assertEqual((self.table.candidates(49.0, 9), self.table.candidates(50.0, 9)), ([], [far(1)]))
        self.table.failed(far(1), 50.0)
        self.assertEqual((len(self.table), self.table.dead_count), (0, 1))
        self.table.failed(far(1), 60.0)
        self.assertFalse(self.table.add_contact(far(1), EVE, 50.0 + DEAD_SECONDS - 1.0))
        self.assertTrue(self.table.add_contact(far(1), EVE, 50.0 + DEAD_SECONDS))

    def test_returns(self) -> None:
        """A peer that was given up is back at once when there is a link to it, and its failures are forgotten."""
        self.table.add_contact(far(1), HUB, 0.0)
        for _ in range(MAX_FAILURES):
            self.table.failed(far(1), 0.0)
        self.assertTrue(self.table.add_contact(far(1), None, 1.0, is_live=True))
        for _ in range(MAX_FAILURES - 1):
            self.table.failed(far(1), 1.0)
        self.assertTrue(self.table.add_contact(far(1), None, 2.0, is_live=True))
        self.assertEqual((self.everybody(2.0), self.table.candidates(2.0, 9)), ([far(1)], [far(1)]))
        self.table.remove_contact(far(1))
        self.assertTrue(self.table.add_contact(far(1), HUB, 3.0))


class CandidateTests(SynchronousTestCase):
    """Whom to offer a link to."""

    def setUp(self) -> None:
        self.table = RoutingTable(OWN)

    def test_closest(self) -> None:
        """The closest to the own ID come first, without those excluded."""
        source = Random(1)
        ids = [source.randbytes(20) for _ in range(30)]
        known = by_distance([peer_id for peer_id in ids if self.table.add_contact(peer_id, HUB, 0.0)])
        self.assertEqual(self.table.candidates(0.0, 15), known[:15])
        self.assertEqual(self.table.candidates(0.0, 5, frozenset(known[:3])), known[3:8])

    def test_sources(self) -> None:
        """One neighbour that names IDs next to ours gets its share of the offers, not all of them."""
        near = [number.to_bytes(20) for number in range(1, 40)]
        for peer_id in near:
            self.table.add_contact(peer_id, EVE, 0.0)
        honest = [far(number) for number in range(5)]
        for peer_id in honest:
            self.table.add_contact(peer_id, HUB, 0.0)
        self.assertEqual(self.table.candidates(0.0, 10)[5:], honest)
        self.assertEqual(len(self.table.candidates(0.0, 20)), 20)

    def test_live(self) -> None:
        """Half of the offers go to peers that were linked before, as long as there are such."""
        for number in range(1, 20):
            self.table.add_contact(number.to_bytes(20), EVE, 0.0)
        live = [far(number) for number in range(3)]
        for peer_id in live:
            self.table.add_contact(peer_id, None, 0.0, is_live=True)
        self.assertEqual(self.table.candidates(0.0, 6)[3:], live)
        self.assertEqual(self.table.candidates(0.0, 7)[4:], live)
        self.assertEqual(self.table.candidates(0.0, 10)[7:], live)
        self.assertEqual(self.table.candidates(0.0, 1), [(1).to_bytes(20)])
        self.assertEqual(self.table.candidates(0.0, 0), [])


class BoundTests(SynchronousTestCase):
    """What others may make the table hold."""

    def setUp(self) -> None:
        self.table = RoutingTable(OWN)
        self.source = Random(2)

    def test_one_source(self) -> None:
        """A neighbour that invents 500 IDs fills a fifth of the table at most."""
        kept = sum(self.table.add_contact(spread(self.source), EVE, 0.0) for _ in range(500))
        self.assertEqual((kept, len(self.table)), (MAX_PER_SOURCE, MAX_PER_SOURCE))
        self.assertEqual(self.table.refused_count, 400)

    def test_many(self) -> None:
        """However many IDs come from however many neighbours, the table stays as small as it is."""
        for number in range(30_000):
            self.table.add_contact(spread(self.source), number.to_bytes(20), 0.0)
        self.assertLessEqual(len(self.table), MAX_CONTACTS)
        self.assertGreater(len(self.table), MAX_CONTACTS - BUCKET_SIZE)
        self.assertEqual(len(self.table) + self.table.refused_count, 30_000)

    def test_near(self) -> None:
        """IDs invented next to the own one fill one bucket, and leave the others to others."""
        for number in range(10_000):
            self.table.add_contact((number + 1 << number % 130).to_bytes(20), number.to_bytes(20), 0.0)
        crowd = [
            peer_id
            for peer_id in self.table.closest(OWN, MAX_CONTACTS, 0.0)
            if distance(peer_id, OWN).bit_length() <= 136
        ]
        self.assertEqual(len(crowd), BUCKET_SIZE)
        self.assertEqual(160 - MAX_SPLITS, 136)
        self.assertTrue(self.table.add_contact(far(1), HUB, 0.0))

    def test_fair(self) -> None:
        """A bucket that one neighbour has filled makes room for what others tell, until their parts are equal."""
        for number in range(BUCKET_SIZE):
            self.table.add_contact(far(number), EVE, float(number))
        self.assertFalse(self.table.add_contact(far(100), EVE, 50.0))
        kept = sum(self.table.add_contact(far(200 + number), HUB, 50.0) for number in range(BUCKET_SIZE))
        self.assertEqual((kept, len(self.table)), (BUCKET_SIZE // 2, BUCKET_SIZE))
        self.assertEqual(self.table.replaced_count, BUCKET_SIZE // 2)
        # The oldest made room.
        self.assertEqual([number for number in range(BUCKET_SIZE) if far(number) in self.table], list(range(10, 20)))

    def test_failing(self) -> None:
        """Who does not answer makes room first."""
        for number in range(BUCKET_SIZE):
            self.table.add_contact(far(number), number.to_bytes(20), 0.0)
        self.table.failed(far(7), 0.0)
        self.assertTrue(self.table.add_contact(far(100), (1).to_bytes(20), 0.0))
        self.assertNotIn(far(7), self.table)
        self.table.failed(far(9), 0.0)
        self.assertTrue(self.table.add_contact(far(101), None, 0.0, is_live=True))
        self.assertNotIn(far(9), self.table)

    def test_live_bucket(self) -> None:
        """A peer with a link displaces hearsay and links that fail, never a link that is well."""
        for number in range(BUCKET_SIZE):
            self.table.add_contact(far(number), EVE, 0.0)
        for number in range(100, 100 + BUCKET_SIZE):
            self.assertTrue(self.table.add_contact(far(number), None, 0.0, is_live=True))
        self.assertFalse(self.table.add_contact(far(1), HUB, 0.0))
        self.assertFalse(self.table.add_contact(far(200), None, 0.0, is_live=True))
        self.table.failed(far(105), 0.0)
        self.assertTrue(self.table.add_contact(far(200), None, 0.0, is_live=True))
        self.assertEqual((far(105) in self.table, len(self.table)), (False, BUCKET_SIZE))

    def test_dead(self) -> None:
        """The memory for peers that do not answer is bounded, and ends."""
        for number in range(MAX_DEAD + 5):
            self.table.add_contact(far(number), HUB, 0.0)
            for _ in range(MAX_FAILURES):
                self.table.failed(far(number), 0.0)
        self.assertEqual(len(self.table._dead), MAX_DEAD)
        self.assertTrue(self.table.add_contact(far(4), HUB, 0.0))
        self.assertFalse(self.table.add_contact(far(5), HUB, 0.0))
        self.table.expire(DEAD_SECONDS)
        self.assertEqual(len(self.table._dead), 0)

    @settings(max_examples=50)
    @given(st.integers(0, 2**32))
    def test_books(self, seed: int) -> None:
        """Whatever happens in whatever order, the parts of the table agree with each other."""
        source = Random(seed)
        table = RoutingTable(OWN)
        sources = [HUB, EVE, None]
        ids = [far(number) for number in range(40)] + [spread(source) for _ in range(20)]
        for step in range(400):
            now = step * 20.0
            match source.randrange(6):
                case 0:
                    table.failed(source.choice(ids), now)
                case 1:
                    table.remove_contact(source.choice(ids))
                case 2:
                    table.add_contact(source.choice(ids), source.choice(sources), now, is_live=True)
                case 3:
                    table.expire(now - 1000.0)
                case _:
                    table.add_contact(source.choice(ids), source.choice(sources), now)
        contacts = [contact for bucket in table._buckets for contact in bucket.values()]
        told = [contact.source for contact in contacts if contact.source is not None]
        self.assertEqual(table._told_by, {each: told.count(each) for each in set(told)})
        self.assertEqual(
            {contact.peer_id for contact in contacts if not contact.failures}, {*table._live, *table._told}
        )
        self.assertTrue(all(contact.source is None for contact in contacts if contact.is_live))
        self.assertTrue(all(len(bucket) <= BUCKET_SIZE for bucket in table._buckets))
