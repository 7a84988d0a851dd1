"""Where an envelope goes."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.overlay.links import LinkTable
from meshrelay.overlay.paths import DOUBT_SECONDS, MAX_PATHS, PATH_SECONDS
from meshrelay.overlay.router import AGAIN_KEY, Dropped, Router, Verdict
from meshrelay.overlay.seen import MAX_NONCES
from meshrelay.wire.overlay import (
    MAX_PATH,
    NO_EXTRAS,
    Answer,
    DataType,
    Envelope,
    encode_answer,
    new_envelope,
)


def peer(number: int) -> bytes:
    """Some peer; the numbers are the distances from peer 0."""
    return number.to_bytes(20)


#: This peer, one that nobody knows, a sender somewhere, and the neighbours.
SELF, TARGET, SENDER = peer(512), peer(0), peer(300)
ONE, TWO, THREE, FOUR = peer(1), peer(2), peer(3), peer(4)


class RouterCase(SynchronousTestCase):
    """A router with four neighbours of our kind; the lower their number, the nearer they are to the target."""

    def setUp(self) -> None:
        """Link it."""
        self.links = LinkTable()
        for number in (1, 2, 3, 4):
            self.links.add(peer(number), is_own=True, now=float(number))
        self.router = Router(SELF, self.links, Random(1))
        self._nonces = 0

    def envelope(
        self,
        to: bytes = TARGET,
        sender: bytes = SENDER,
        *,
        kind: str = DataType.USER,
        data: bytes | None = b"1",
        path: tuple[bytes, ...] = (),
        is_again: bool = False,
    ) -> Envelope:
        """A new envelope."""
        self._nonces += 1
        extras = {AGAIN_KEY: b"1"} if is_again else NO_EXTRAS
        return new_envelope(to, sender, str(self._nonces), kind, data, extras)._replace(path=path)

    def hear(self, sender: bytes, link: bytes, now: float = 0.0, *, is_verified: bool = False) -> None:
        """An envelope of a peer comes for this one."""
        envelope = self.envelope(SELF, sender, path=(sender, link))
        self.assertTrue(self.router.received(envelope, link, now, is_verified=is_verified).is_for_us)

    def relay(self, envelope: Envelope, link: bytes = FOUR, now: float = 0.0) -> tuple[bytes, ...]:
        """Where an envelope goes on to."""
        verdict = self.router.received(envelope, link, now)
        self.assertEqual((verdict.is_for_us, verdict.dropped), (False, None))
        return verdict.hops

    def assert_dropped(self, envelope: Envelope, why: Dropped, link: bytes = FOUR) -> None:
        """An envelope ends here."""
        self.assertEqual(self.router.received(envelope, link, 0.0), Verdict(dropped=why))


class OriginateTests(RouterCase):
    """Envelopes of this peer."""

    def test_neighbour(self) -> None:
        """A neighbour gets the one copy."""
        self.assertEqual(self.router.originate(THREE, 0.0), (THREE,))

    def test_held(self) -> None:
        """What a neighbour says it is linked to gets one copy through that neighbour."""
        self.links.set_holdings(FOUR, [TARGET])
        self.assertEqual(self.router.originate(TARGET, 0.0), (FOUR,))

    def test_learned(self) -> None:
        """Who was heard within the last minute gets one copy the same way back."""
        self.hear(TARGET, THREE)
        self.assertEqual(self.router.originate(TARGET, PATH_SECONDS - 1.0), (THREE,))
        self.assertEqual(self.router.originate(TARGET, PATH_SECONDS), (ONE, TWO))

    def test_unknown(self) -> None:
        """Of an unknown peer the two nearest neighbours get a copy."""
        self.assertEqual(self.router.originate(TARGET, 0.0), (ONE, TWO))

    def test_nearest_itself(self) -> None:
        """Two copies are enough at the start, also when no neighbour is nearer than this peer."""
        self.assertEqual(self.router.originate(peer(513), 0.0), (ONE, THREE))

    def test_nobody(self) -> None:
        """Without links there is nowhere to go."""
        self.assertEqual(Router(SELF, LinkTable(), Random(1)).originate(TARGET, 0.0), ())

    def test_avoid(self) -> None:
        """Sent again, it goes other ways than before."""
        self.assertEqual(self.router.originate(TARGET, 0.0, [ONE, TWO]), (THREE, FOUR))
        self.assertEqual(self.router.originate(ONE, 0.0, [ONE]), (THREE, TWO))

    def test_avoid_all(self) -> None:
        """When all ways were tried they are tried again."""
        self.assertEqual(self.router.originate(TARGET, 0.0, [ONE, TWO, THREE, FOUR]), (ONE, TWO))

    def test_lost_link(self) -> None:
        """A way over a lost link is none."""
        self.hear(TARGET, THREE)
        self.links.remove(THREE)
        self.assertEqual(self.router.originate(TARGET, 1.0), (ONE, TWO))
        self.router.link_lost(THREE)
        self.links.add(THREE, is_own=True, now=1.0)
        self.assertEqual(self.router.originate(TARGET, 1.0), (ONE, TWO))


class RelayTests(RouterCase):
    """Envelopes of others."""

    def test_for_us(self) -> None:
        """What is for this peer is delivered, however long its way was."""
        path = tuple(peer(1000 + number) for number in range(MAX_PATH))
        verdict = self.router.received(self.envelope(SELF, path=path), ONE, 0.0)
        self.assertEqual(verdict, Verdict(is_for_us=True))

    def test_direct(self) -> None:
        """Only the target sees an envelope when it is a neighbour; npm's package shows it to a second one."""
        self.assertEqual(self.relay(self.envelope(THREE)), (THREE,))

    def test_duplicate(self) -> None:
        """A second copy ends here, whoever brings it."""
        envelope = self.envelope(SELF)
        self.assertTrue(self.router.received(envelope, ONE, 0.0).is_for_us)
        self.assert_dropped(envelope._replace(path=(TWO,)), Dropped.DUPLICATE, TWO)

    def test_own(self) -> None:
        """An envelope of this peer does not come back, nor one that says it is its own."""
        self.assert_dropped(self.envelope(TARGET, SELF), Dropped.OWN)
        self.assert_dropped(self.envelope(SELF, SELF), Dropped.OWN)

    def test_never_back(self) -> None:
        """Neither the link it came on, nor its sender, nor anybody in its path gets it, whatever else they say."""
        self.links.set_holdings(ONE, [TARGET])
        self.links.set_holdings(TWO, [TARGET])
        self.links.set_holdings(THREE, [TARGET])
        self.assertEqual(self.relay(self.envelope(sender=THREE, path=(TWO,)), ONE), (FOUR,))

    def test_no_route(self) -> None:
        """When all neighbours had it, it ends here."""
        self.assert_dropped(self.envelope(path=(ONE, TWO, THREE)), Dropped.NO_ROUTE)

    def test_loop(self) -> None:
        """What has been here is not passed on again, though its nonce is forgotten."""
        self.assert_dropped(self.envelope(path=(SENDER, SELF, ONE)), Dropped.LOOP)

    def test_hops(self) -> None:
        """After nineteen peers it goes on, after twenty it does not."""
        path = tuple(peer(1000 + number) for number in range(20))
        self.assertEqual(self.relay(self.envelope(ONE, path=path[1:])), (ONE,))
        self.assert_dropped(self.envelope(ONE, path=path), Dropped.HOP_LIMIT)

    def test_nobody_nearer(self) -> None:
        """When this peer is nearest itself, any neighbour gets a copy beside the two nearest."""
        target = peer(513)
        self.links.add(peer(5), is_own=True, now=0.0)
        hops = {self.relay(self.envelope(target), FOUR) for _ in range(50)}
        self.assertEqual(hops, {(ONE, THREE, TWO), (ONE, THREE, peer(5))})

    def test_somebody_nearer(self) -> None:
        """When a neighbour is nearer two copies are enough."""
        self.assertEqual(self.relay(self.envelope()), (ONE, TWO))

    def test_holdings(self) -> None:
        """Whom a neighbour is linked to is said on its link, and never passed on."""
        self.assertTrue(self.router.received(self.envelope(SELF, ONE, kind=DataType.HOLDINGS), ONE, 0.0).is_for_us)
        self.assert_dropped(self.envelope(SELF, ONE, kind=DataType.HOLDINGS), Dropped.HOLDINGS, TWO)
        self.assert_dropped(self.envelope(TWO, ONE, kind=DataType.HOLDINGS), Dropped.HOLDINGS, ONE)

    def test_unknown_type(self) -> None:
        """Types that are not known go on like any other."""
        self.assertEqual(self.relay(self.envelope(ONE, kind="tomorrow")), (ONE,))


class DoubtTests(RouterCase):
    """Paths and claims that lead nowhere."""

    def test_false_claim(self) -> None:
        """A neighbour that swallows what it claims to hold is passed over for a minute, then tried again."""
        self.links.set_holdings(ONE, [TARGET])
        self.links.set_holdings(TWO, [TARGET])
        self.router.failed(TARGET, ONE, 0.0)
        self.assertEqual(self.router.originate(TARGET, 1.0), (ONE, TWO))
        self.assertEqual(self.router.originate(TARGET, DOUBT_SECONDS), (ONE,))

    def test_only_claim(self) -> None:
        """When nobody else claims it, the two nearest get copies as well."""
        self.links.set_holdings(FOUR, [TARGET])
        self.router.failed(TARGET, FOUR, 0.0)
        self.assertEqual(self.router.originate(TARGET, 1.0), (FOUR, ONE, TWO))

    def test_claim_against_path(self) -> None:
        """Where the target was really heard it is looked for when the claim failed."""
        self.links.set_holdings(ONE, [TARGET])
        self.router.failed(TARGET, ONE, 0.0)
        self.hear(TARGET, THREE, 1.0)
        self.assertEqual(self.router.originate(TARGET, 1.0), (ONE, THREE))

    def test_lying_path(self) -> None:
        """A path that somebody showed in another's name is not the only way for long."""
        self.hear(TARGET, FOUR)
        self.assertEqual(self.router.originate(TARGET, 0.0), (FOUR,))
        self.router.failed(TARGET, FOUR, 1.0)
        self.hear(TARGET, FOUR, 2.0)
        self.assertEqual(self.router.originate(TARGET, 3.0), (FOUR, ONE, TWO))

    def test_written_path(self) -> None:
        """What is written in a path teaches nothing; the link that it came on does."""
        self.router.received(self.envelope(SELF, TARGET, path=(TARGET, ONE, TWO)), THREE, 0.0)
        self.assertEqual(self.router.originate(TARGET, 0.0), (THREE,))

    def test_forged_sender(self) -> None:
        """Who writes another's name draws nothing to itself while signed envelopes come."""
        self.hear(TARGET, THREE, is_verified=True)
        self.hear(TARGET, FOUR, 1.0)
        self.assertEqual(self.router.originate(TARGET, 2.0), (THREE,))

    def test_copies_teach_nothing(self) -> None:
        """The first copy shows the way; later ones, which whoever saw it can send, do not."""
        envelope = self.envelope(SELF, TARGET)
        self.router.received(envelope, THREE, 0.0)
        self.router.received(envelope, FOUR, 0.0)
        self.assertEqual(self.router.originate(TARGET, 0.0), (THREE,))

    def test_worked(self) -> None:
        """An acknowledgement ends the doubt about the way that a message went."""
        self.links.set_holdings(FOUR, [TARGET])
        self.router.failed(TARGET, FOUR, 0.0)
        self.router.worked(TARGET, FOUR)
        self.assertEqual(self.router.originate(TARGET, 1.0), (FOUR,))

    def test_verified(self) -> None:
        """A message that opens with the target's key ends the doubt about the way that it came."""
        self.links.set_holdings(FOUR, [TARGET])
        self.router.failed(TARGET, FOUR, 0.0)
        self.router.verified(TARGET, FOUR, 1.0)
        self.assertEqual(self.router.originate(TARGET, 1.0), (FOUR,))
        self.router.failed(ONE, ONE, 2.0)
        self.router.verified(ONE, ONE, 3.0)
        self.assertEqual(self.router.originate(ONE, 3.0), (ONE,))

    def test_verified_later(self) -> None:
        """The way of a message that opened stays the way, whoever writes the sender's name afterwards."""
        self.hear(TARGET, THREE)
        self.router.verified(TARGET, THREE, 0.0)
        self.hear(TARGET, FOUR, 1.0)
        self.assertEqual(self.router.originate(TARGET, 2.0), (THREE,))

    def test_false_neighbour(self) -> None:
        """A link that somebody opened in the target's name does not keep its messages; the true one's is certain."""
        self.links.set_holdings(TWO, [ONE])
        self.router.failed(ONE, ONE, 0.0)
        self.assertEqual(self.router.originate(ONE, 1.0), (ONE, TWO))
        self.links.mark_proved(ONE)
        self.assertEqual(self.router.originate(ONE, 1.0), (ONE,))

    def test_again(self) -> None:
        """Sent again by its originator, an envelope goes on by more than one way, and so do those after it."""
        self.links.set_holdings(THREE, [TARGET])
        self.links.set_holdings(TWO, [TARGET])
        self.assertEqual(self.relay(self.envelope()), (TWO,))
        self.assertEqual(self.relay(self.envelope(is_again=True)), (TWO, THREE, ONE))
        self.assertEqual(self.relay(self.envelope()), (TWO, THREE))

    def test_again_and_again(self) -> None:
        """However often it is said, there are at most three copies."""
        for link in (ONE, TWO, THREE):
            self.links.set_holdings(link, [TARGET])
        for _ in range(5):
            self.assertEqual(len(self.relay(self.envelope(is_again=True))), 3)

    def test_again_to_its_target(self) -> None:
        """Where the target is and has proved it, nobody else gets a copy, though it is sent again."""
        self.links.mark_proved(ONE)
        self.assertEqual(self.relay(self.envelope(ONE, is_again=True)), (ONE,))


class SignalTests(RouterCase):
    """Signals, of which a peer of npm's package without WebRTC dies."""

    def setUp(self) -> None:
        """Two more neighbours, of npm's package."""
        super().setUp()
        self.page, self.listener = peer(10), peer(11)
        self.links.add(self.page, is_own=False, now=0.0)
        self.links.add(self.listener, is_own=False, now=0.0)
        self.links.mark_wrtc(self.page)

    def signal(self, to: bytes, sender: bytes = SENDER) -> Envelope:
        """A signal."""
        return self.envelope(to, sender, kind=DataType.SIGNAL, data=b'{"type":"offer","sdp":"v=0"}')

    def answer(self, sender: bytes, has_wrtc: bool) -> Envelope:
        """An answer to some offer."""
        return self.envelope(SELF, sender, kind=DataType.ANSWER, data=encode_answer(Answer(None, has_wrtc)))

    def test_takes_signals(self) -> None:
        """Whoever speaks WebRTC for sure gets it, and our own kind, which bears it."""
        self.assertEqual(self.relay(self.signal(self.page)), (self.page,))
        self.assertEqual(self.relay(self.signal(ONE)), (ONE,))

    def test_kept_from_harm(self) -> None:
        """Others do not get it."""
        self.assert_dropped(self.signal(self.listener), Dropped.NO_WRTC)

    def test_other_holder(self) -> None:
        """Another neighbour that is linked to the target may know that it speaks WebRTC."""
        self.links.set_holdings(TWO, [self.listener])
        self.assertEqual(self.relay(self.signal(self.listener)), (TWO,))

    def test_under_way(self) -> None:
        """Towards a target that is no neighbour a signal goes like anything else."""
        self.assertEqual(self.relay(self.signal(TARGET)), (ONE, TWO))

    def test_answer(self) -> None:
        """An answer that says so shows it, on the peer's own link."""
        self.router.received(self.answer(self.listener, False), self.listener, 0.0)
        self.assert_dropped(self.signal(self.listener), Dropped.NO_WRTC)
        self.router.received(self.answer(self.listener, True), self.listener, 0.0)
        self.assertEqual(self.relay(self.signal(self.listener)), (self.listener,))

    def test_null_answer(self) -> None:
        """An answer of nothing shows nothing."""
        self.router.received(self.answer(self.listener, True)._replace(data=b"null"), self.listener, 0.0)
        self.assert_dropped(self.signal(self.listener), Dropped.NO_WRTC)

    def test_signal(self) -> None:
        """Who sends signals takes them."""
        self.router.received(self.signal(SELF, self.listener), self.listener, 0.0)
        self.assertEqual(self.relay(self.signal(self.listener)), (self.listener,))

    def test_in_its_name(self) -> None:
        """What others send in its name shows nothing, or they could kill it."""
        self.router.received(self.answer(self.listener, True), ONE, 0.0)
        self.router.received(self.signal(SELF, self.listener), ONE, 0.0)
        self.assert_dropped(self.signal(self.listener), Dropped.NO_WRTC)


class MemoryTests(RouterCase):
    """What strangers can make a router keep."""

    def test_bounds(self) -> None:
        """A hundred and fifty thousand senders, each with a message, leave what the bounds allow."""
        envelope = self.envelope(SELF)
        for number in range(150_000):
            self.router.received(envelope._replace(sender=peer(1000 + number)), peer(1 + number % 4), number / 2000)
        self.assertLessEqual(len(self.router.seen), MAX_NONCES)
        self.assertLessEqual(len(self.router.paths), MAX_PATHS)
        self.assertGreater(self.router.seen.evicted, 0)
        self.assertGreater(self.router.paths.evicted, 0)

    def test_nothing_left(self) -> None:
        """Two silent minutes later nothing is kept."""
        for number in range(100):
            self.hear(peer(1000 + number), ONE)
        self.router.failed(TARGET, ONE, 0.0)
        self.router.expire(120.0)
        self.assertEqual((len(self.router.seen), len(self.router.paths), self.router.paths.doubt_count), (0, 0, 0))

    def test_flood(self) -> None:
        """One link that sends a hundred and fifty thousand nonces does not make the others' messages come twice."""
        envelope = self.envelope()
        honest = [self.envelope(SELF) for _ in range(100)]
        for one in honest:
            self.router.received(one, TWO, 0.0)
        for number in range(150_000):
            self.router.received(envelope._replace(nonce=f"x{number}", path=(SELF,)), THREE, 1.0)
        for one in honest:
            self.assert_dropped(one, Dropped.DUPLICATE, FOUR)
