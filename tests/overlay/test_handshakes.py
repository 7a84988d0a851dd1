"""Tests of `meshrelay.overlay.handshakes`."""

from __future__ import annotations

import copy

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.overlay.handshakes import (
    ANSWER_GAP_SECONDS,
    DIAL_SECONDS,
    FORGET_SECONDS,
    MAX_ANSWERED,
    MAX_PENDING,
    MAX_RESTING,
    OFFER_SECONDS,
    REST_BASE_SECONDS,
    REST_CAP_SECONDS,
    STABLE_SECONDS,
    Handshakes,
    Reply,
)

OWN = b"\x80" * 20
LOWER, HIGHER = b"\x01" * 20, b"\xf0" * 20
NOTHING = Reply(sends_answer=False, sends_offer=False)
ANSWER = Reply(sends_answer=True, sends_offer=False)


def _longest(low: float, high: float) -> float:
    return high


def _handshakes(*, is_reachable: bool = True) -> Handshakes:
    return Handshakes(OWN, _longest, is_reachable=is_reachable)


def _id(number: int) -> bytes:
    return number.to_bytes(20, "big")


class OfferTests(SynchronousTestCase):
    """Offers of ours."""

    def test_one_at_a_time(self) -> None:
        """A peer gets no second offer while the first waits for its answer."""
        handshakes = _handshakes()
        self.assertTrue(handshakes.want(LOWER, 0.0))
        self.assertFalse(handshakes.want(LOWER, 1.0))
        self.assertFalse(handshakes.want(LOWER, 1.0, by_user=True))
        self.assertEqual(handshakes.pending_count, 1)

    def test_own_id(self) -> None:
        """Nobody offers a link to himself."""
        self.assertFalse(_handshakes().want(OWN, 0.0, by_user=True))

    def test_timed_out(self) -> None:
        """An offer without an answer ends after ten seconds, and not before."""
        handshakes = _handshakes()
        handshakes.want(LOWER, 100.0)
        self.assertEqual(handshakes.expire(100.0 + OFFER_SECONDS - 0.001), [])
        self.assertEqual(handshakes.expire(100.0 + OFFER_SECONDS), [LOWER])
        self.assertEqual(handshakes.expire(100.0 + OFFER_SECONDS), [])
        self.assertEqual((handshakes.pending_count, handshakes.counts["timed_out"]), (0, 1))

    def test_rests_double(self) -> None:
        """An ID that never answers is asked less and less often, but at least every ten minutes."""
        handshakes = _handshakes()
        now = 0.0
        for rest in (5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, REST_CAP_SECONDS, REST_CAP_SECONDS):
            self.assertTrue(handshakes.want(LOWER, now))
            handshakes.expire(now + OFFER_SECONDS)
            self.assertFalse(handshakes.want(LOWER, now + OFFER_SECONDS + rest - 0.001))
            now += OFFER_SECONDS + rest

    def test_user_overrides_the_rest_once(self) -> None:
        """Somebody who asks for a link gets a try at once, and after it the rest is as long as ever."""
        handshakes = _handshakes()
        handshakes.want(LOWER, 0.0)
        handshakes.failed(LOWER, 1.0)
        self.assertFalse(handshakes.want(LOWER, 1.0))
        self.assertTrue(handshakes.want(LOWER, 1.0, by_user=True))
        handshakes.failed(LOWER, 2.0)
        self.assertFalse(handshakes.want(LOWER, 2.0 + 2 * REST_BASE_SECONDS - 0.001))
        self.assertTrue(handshakes.want(LOWER, 2.0 + 2 * REST_BASE_SECONDS))

    def test_pending_bound(self) -> None:
        """There are so many tries at once and no more; what is refused is counted and is free when a try ends."""
        handshakes = _handshakes()
        for number in range(MAX_PENDING):
            self.assertTrue(handshakes.want(_id(number), 0.0))
        self.assertFalse(handshakes.want(HIGHER, 0.0, by_user=True))
        handshakes.dialling(HIGHER, 0.0)
        self.assertFalse(handshakes.is_pending(HIGHER))
        self.assertEqual((handshakes.pending_count, handshakes.counts["offers_refused"]), (MAX_PENDING, 1))
        handshakes.failed(_id(0), 0.0)
        self.assertTrue(handshakes.want(HIGHER, 0.0))

    def test_resting_bound(self) -> None:
        """The failures of so many IDs are remembered; the oldest is forgotten first."""
        handshakes = _handshakes()
        for number in range(MAX_RESTING + 1):
            handshakes.want(_id(number), 0.0)
            handshakes.failed(_id(number), 0.0)
        self.assertEqual(handshakes.resting_count, MAX_RESTING)
        self.assertTrue(handshakes.want(_id(0), 0.0))
        self.assertFalse(handshakes.want(_id(1), 0.0))

    def test_forgotten(self) -> None:
        """Failures of long ago take no memory."""
        handshakes = _handshakes()
        handshakes.want(LOWER, 0.0)
        handshakes.failed(LOWER, 0.0)
        handshakes.expire(FORGET_SECONDS - 0.001)
        self.assertEqual(handshakes.resting_count, 1)
        handshakes.expire(FORGET_SECONDS)
        self.assertEqual(handshakes.resting_count, 0)


class AnswerTests(SynchronousTestCase):
    """Answers to offers of ours."""

    def test_once(self) -> None:
        """An offer is worth one dial, however often it is answered."""
        handshakes = _handshakes()
        handshakes.want(LOWER, 0.0)
        self.assertTrue(handshakes.answer_came(LOWER, 1.0))
        self.assertFalse(handshakes.answer_came(LOWER, 1.0))
        self.assertEqual(handshakes.counts["answers_unasked"], 1)

    def test_unasked(self) -> None:
        """An answer that nobody asked for never makes us dial."""
        handshakes = _handshakes()
        handshakes.want(HIGHER, 0.0)
        self.assertFalse(handshakes.answer_came(LOWER, 0.0))
        self.assertEqual(handshakes.counts["answers_unasked"], 1)

    def test_limit(self) -> None:
        """An answer counts until the offer's time is over, and from then on it does not, noticed or not."""
        handshakes = _handshakes()
        handshakes.want(LOWER, 0.0)
        handshakes.want(HIGHER, 0.0)
        self.assertTrue(handshakes.answer_came(LOWER, OFFER_SECONDS - 0.001))
        self.assertFalse(handshakes.answer_came(HIGHER, OFFER_SECONDS))
        self.assertEqual(handshakes.counts["answers_late"], 1)
        self.assertEqual(handshakes.expire(OFFER_SECONDS), [HIGHER])
        self.assertFalse(handshakes.answer_came(HIGHER, OFFER_SECONDS))

    def test_after_the_link(self) -> None:
        """Once there is a link, an answer that was on its way does not make another."""
        handshakes = _handshakes()
        handshakes.want(LOWER, 0.0)
        handshakes.opened(LOWER)
        self.assertFalse(handshakes.answer_came(LOWER, 0.1))

    def test_dial_ends(self) -> None:
        """A dial that never ends is given up."""
        handshakes = _handshakes()
        handshakes.want(LOWER, 0.0)
        handshakes.answer_came(LOWER, 1.0)
        handshakes.dialling(LOWER, 2.0)
        self.assertEqual(handshakes.expire(2.0 + DIAL_SECONDS - 0.001), [])
        self.assertEqual(handshakes.expire(2.0 + DIAL_SECONDS), [LOWER])

    def test_unusable(self) -> None:
        """A peer that cannot be dialled takes no place among the tries, and is not asked again at once."""
        handshakes = _handshakes()
        handshakes.want(LOWER, 0.0)
        handshakes.answer_came(LOWER, 0.0)
        handshakes.unusable(LOWER, 0.0)
        self.assertEqual(handshakes.pending_count, 0)
        self.assertFalse(handshakes.want(LOWER, REST_BASE_SECONDS - 0.001))
        self.assertEqual((handshakes.counts["unusable"], handshakes.counts["failed"]), (1, 0))

    def test_ends_of_nothing(self) -> None:
        """The end of a try that is over already changes nothing."""
        handshakes = _handshakes()
        handshakes.failed(LOWER, 0.0)
        handshakes.unusable(LOWER, 0.0)
        handshakes.opened(LOWER)
        self.assertEqual((handshakes.resting_count, sum(handshakes.counts.values())), (0, 0))


class TheirOfferTests(SynchronousTestCase):
    """Offers of others."""

    def test_answered(self) -> None:
        """An offer is answered, and we wait for the dial instead of offering too."""
        handshakes = _handshakes()
        self.assertEqual(handshakes.offer_came(LOWER, 0.0, False), ANSWER)
        self.assertFalse(handshakes.want(LOWER, OFFER_SECONDS - 0.001, by_user=True))
        self.assertTrue(handshakes.want(LOWER, OFFER_SECONDS))

    def test_awaited(self) -> None:
        """Whom we told how to reach us may dial, or signal, for ten seconds; whom we could tell nothing may not."""
        handshakes = _handshakes()
        self.assertFalse(handshakes.is_awaited(LOWER, 0.0))
        handshakes.offer_came(LOWER, 0.0, False)
        self.assertTrue(handshakes.is_awaited(LOWER, OFFER_SECONDS - 0.001))
        self.assertFalse(handshakes.is_awaited(LOWER, OFFER_SECONDS))
        handshakes.is_reachable = False
        self.assertFalse(handshakes.is_awaited(LOWER, 0.0))

    def test_not_answered(self) -> None:
        """An offer of a peer that has a link, or in our own name, gets nothing."""
        handshakes = _handshakes()
        self.assertEqual(handshakes.offer_came(LOWER, 0.0, True), NOTHING)
        self.assertEqual(handshakes.offer_came(OWN, 0.0, False), NOTHING)
        self.assertEqual(handshakes.answered_count, 0)

    def test_crossing(self) -> None:
        """When offers cross, the one of the lower ID is answered and the other is not."""
        for other, reply in ((LOWER, ANSWER), (HIGHER, NOTHING)):
            handshakes = _handshakes()
            handshakes.want(other, 0.0)
            self.assertEqual(handshakes.offer_came(other, 0.1, False), reply)

    def test_crossing_a_dial(self) -> None:
        """Whom we are dialling gets no answer, as it would dial too."""
        handshakes = _handshakes()
        handshakes.want(LOWER, 0.0)
        handshakes.answer_came(LOWER, 0.1)
        self.assertEqual(handshakes.offer_came(LOWER, 0.2, False), NOTHING)
        self.assertEqual(handshakes.counts["offers_crossed"], 1)

    def test_flood(self) -> None:
        """One ID gets one answer in five seconds, however many offers come."""
        handshakes = _handshakes()
        replies = [handshakes.offer_came(LOWER, step / 10, False) for step in range(101)]
        times = [step / 10 for step, reply in enumerate(replies) if reply.sends_answer]
        self.assertEqual(times, [0.0, ANSWER_GAP_SECONDS, 2 * ANSWER_GAP_SECONDS])
        self.assertEqual(handshakes.counts["answers_limited"], 98)

    def test_invented_ids(self) -> None:
        """A flood of offers in invented names takes bounded memory and leaves our own tries alone."""
        handshakes = _handshakes()
        handshakes.want(HIGHER, 0.0)
        handshakes.want(LOWER, 0.0)
        handshakes.failed(LOWER, 0.0)
        for number in range(1, MAX_ANSWERED + 1000):
            handshakes.offer_came(_id(number), 0.0, False)
        self.assertEqual(handshakes.answered_count, MAX_ANSWERED)
        self.assertEqual((handshakes.pending_count, handshakes.resting_count), (1, 1))
        self.assertTrue(handshakes.answer_came(HIGHER, 1.0))
        handshakes.expire(OFFER_SECONDS)
        self.assertEqual(handshakes.answered_count, 0)

    def test_nobody_can_dial_us(self) -> None:
        """A peer that cannot be dialled answers an offer with one of its own."""
        handshakes = _handshakes(is_reachable=False)
        self.assertEqual(handshakes.offer_came(LOWER, 0.0, False), Reply(sends_answer=True, sends_offer=True))
        self.assertTrue(handshakes.answer_came(LOWER, 0.1))

    def test_two_that_cannot_be_dialled(self) -> None:
        """Two peers that cannot be dialled do not offer to each other for ever."""
        handshakes = _handshakes(is_reachable=False)
        handshakes.want(LOWER, 0.0)
        handshakes.answer_came(LOWER, 0.0)
        handshakes.unusable(LOWER, 0.0)
        self.assertEqual(handshakes.offer_came(LOWER, 0.0, False), ANSWER)

    def test_back_from_silence(self) -> None:
        """A peer that did not answer and now makes an offer itself is not left to rest."""
        handshakes = _handshakes(is_reachable=False)
        handshakes.want(LOWER, 0.0)
        handshakes.expire(OFFER_SECONDS)
        self.assertFalse(handshakes.want(LOWER, OFFER_SECONDS))
        self.assertTrue(handshakes.offer_came(LOWER, OFFER_SECONDS, False).sends_offer)


class InvitationTests(SynchronousTestCase):
    """Answers that nobody asked for, after a try of ours that failed."""

    def test_offer_that_waited(self) -> None:
        """An offer that was not answered because of our own try is answered when that fails, once."""
        handshakes = _handshakes()
        handshakes.want(HIGHER, 0.0)
        handshakes.offer_came(HIGHER, 0.0, False)
        handshakes.expire(OFFER_SECONDS)
        self.assertTrue(handshakes.invites(HIGHER, OFFER_SECONDS))
        self.assertFalse(handshakes.invites(HIGHER, OFFER_SECONDS))
        self.assertFalse(handshakes.want(HIGHER, OFFER_SECONDS + 1, by_user=True))
        self.assertEqual(handshakes.counts["invited"], 1)

    def test_no_answer(self) -> None:
        """After silence only a lower ID is invited: a higher one would have answered our offer in any case."""
        for other, is_invited in ((LOWER, True), (HIGHER, False)):
            handshakes = _handshakes()
            handshakes.want(other, 0.0)
            handshakes.expire(OFFER_SECONDS)
            self.assertEqual(handshakes.invites(other, OFFER_SECONDS), is_invited)

    def test_cannot_be_dialled(self) -> None:
        """Whom we cannot dial is asked to dial us, if we can be dialled."""
        for is_reachable in (True, False):
            for end in (Handshakes.unusable, Handshakes.failed):
                handshakes = _handshakes(is_reachable=is_reachable)
                handshakes.want(HIGHER, 0.0)
                handshakes.answer_came(HIGHER, 0.0)
                end(handshakes, HIGHER, 0.0)
                self.assertEqual(handshakes.invites(HIGHER, 0.0), is_reachable)

    def test_dial_without_end(self) -> None:
        """A dial whose time is over is a failed dial, and not silence."""
        handshakes = _handshakes()
        handshakes.want(HIGHER, 0.0)
        handshakes.answer_came(HIGHER, 0.0)
        handshakes.expire(DIAL_SECONDS)
        self.assertTrue(handshakes.invites(HIGHER, DIAL_SECONDS))

    def test_answered_a_moment_ago(self) -> None:
        """Whoever got an answer may be dialling us and gets no invitation beside it."""
        handshakes = _handshakes()
        handshakes.want(LOWER, 0.0)
        handshakes.offer_came(LOWER, 1.0, False)
        handshakes.expire(OFFER_SECONDS)
        self.assertFalse(handshakes.invites(LOWER, OFFER_SECONDS))

    def test_nothing_to_invite_for(self) -> None:
        """Nobody is invited out of the blue, nor during a try, nor after a link."""
        handshakes = _handshakes()
        self.assertFalse(handshakes.invites(LOWER, 0.0))
        handshakes.want(LOWER, 0.0)
        self.assertFalse(handshakes.invites(LOWER, 0.0))
        handshakes.opened(LOWER)
        handshakes.closed(LOWER, 1.0)
        self.assertFalse(handshakes.invites(LOWER, 1.0))


class LinkTests(SynchronousTestCase):
    """What a link and its end do to the next try."""

    def test_good_link(self) -> None:
        """After a link that lasted, failures before it do not count."""
        handshakes = _handshakes()
        for now in (0.0, 100.0, 200.0):
            handshakes.want(LOWER, now, by_user=True)
            handshakes.failed(LOWER, now)
        handshakes.want(LOWER, 300.0, by_user=True)
        handshakes.opened(LOWER)
        handshakes.closed(LOWER, 300.0 + STABLE_SECONDS)
        self.assertFalse(handshakes.want(LOWER, 300.0 + STABLE_SECONDS + REST_BASE_SECONDS - 0.001))
        self.assertTrue(handshakes.want(LOWER, 300.0 + STABLE_SECONDS + REST_BASE_SECONDS))

    def test_link_that_flaps(self) -> None:
        """A link that closes again and again soon after it opened is tried less and less often."""
        handshakes = _handshakes()
        now, rests = 0.0, []
        for _ in range(4):
            self.assertTrue(handshakes.want(LOWER, now))
            handshakes.opened(LOWER)
            handshakes.closed(LOWER, now)
            rest = next(rest for rest in (5.0, 10.0, 20.0, 40.0) if handshakes.want(LOWER, now + rest))
            handshakes.opened(LOWER)
            rests.append(rest)
            now += rest
        self.assertEqual(rests, [5.0, 10.0, 20.0, 40.0])

    def test_their_link(self) -> None:
        """A link that the other made is not offered anew in the moment in which it closes."""
        handshakes = _handshakes()
        handshakes.opened(LOWER)
        handshakes.closed(LOWER, 10.0)
        self.assertFalse(handshakes.want(LOWER, 10.0))
        self.assertTrue(handshakes.want(LOWER, 10.0 + REST_BASE_SECONDS))

    def test_closed_by_the_user(self) -> None:
        """A link that somebody closed on purpose does not come back by itself soon, but when it is asked for."""
        handshakes = _handshakes()
        handshakes.closed(LOWER, 0.0, by_user=True)
        self.assertFalse(handshakes.want(LOWER, REST_CAP_SECONDS - 0.001))
        self.assertTrue(handshakes.want(LOWER, 1.0, by_user=True))

    def test_offer_after_the_link(self) -> None:
        """A peer that lost its link and offers anew at once is answered."""
        handshakes = _handshakes()
        handshakes.offer_came(LOWER, 0.0, False)
        handshakes.opened(LOWER)
        handshakes.closed(LOWER, 1.0)
        self.assertEqual(handshakes.offer_came(LOWER, 1.0, False), ANSWER)


class _AnyOrder(RuleBasedStateMachine):
    """Whatever is called in whatever order."""

    ids = st.sampled_from([OWN, *(_id(number) for number in range(6)), HIGHER])

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.offered_at: dict[bytes, float] = {}

    @initialize(is_reachable=st.booleans())
    def begin(self, is_reachable: bool) -> None:
        """A new peer."""
        self.handshakes = _handshakes(is_reachable=is_reachable)

    @rule(seconds=st.sampled_from([0.1, 4.9, 5.0, 10.0, 31.0, 700.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds
        for peer_id in self.handshakes.expire(self.now):
            self.offered_at.pop(peer_id, None)
            self.handshakes.invites(peer_id, self.now)

    @rule(peer_id=ids, by_user=st.booleans())
    def want(self, peer_id: bytes, by_user: bool) -> None:
        """We offer."""
        if self.handshakes.want(peer_id, self.now, by_user=by_user):
            assert peer_id != OWN
            self.offered_at[peer_id] = self.now

    @rule(peer_id=ids, is_linked=st.booleans())
    def offer(self, peer_id: bytes, is_linked: bool) -> None:
        """They offer."""
        reply = self.handshakes.offer_came(peer_id, self.now, is_linked)
        assert not (peer_id == OWN or is_linked) or reply == NOTHING
        if reply.sends_offer:
            self.offered_at[peer_id] = self.now

    @rule(peer_id=ids)
    def answer(self, peer_id: bytes) -> None:
        """They answer: one dial for one offer that is young enough."""
        offered_at = self.offered_at.pop(peer_id, None)
        takes = self.handshakes.answer_came(peer_id, self.now)
        assert takes == (offered_at is not None and self.now < offered_at + OFFER_SECONDS)

    @rule(peer_id=ids, end=st.sampled_from([Handshakes.failed, Handshakes.unusable, Handshakes.closed]))
    def end(self, peer_id: bytes, end: object) -> None:
        """A try or a link ends."""
        assert callable(end)
        end(self.handshakes, peer_id, self.now)
        self.offered_at.pop(peer_id, None)
        self.handshakes.invites(peer_id, self.now)

    @rule(peer_id=ids)
    def opened(self, peer_id: bytes) -> None:
        """A link opens."""
        self.handshakes.opened(peer_id)
        self.offered_at.pop(peer_id, None)

    @invariant()
    def counts(self) -> None:
        """The numbers for people are right, and nothing is pending for ever."""
        assert self.handshakes.pending_count >= len(self.offered_at)
        later = copy.deepcopy(self.handshakes)
        later.expire(self.now + DIAL_SECONDS)
        assert later.pending_count == later.answered_count == 0


class AnyOrderTests(SynchronousTestCase):
    """Calls in any order."""

    def test_any_order(self) -> None:
        """Whatever comes in whatever order, a dial needs a young offer of ours, and every try ends."""
        run_state_machine_as_test(_AnyOrder, settings=settings(max_examples=60, stateful_step_count=30, deadline=None))
