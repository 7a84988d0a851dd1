"""Who may offer, answer and dial: the handshake of two peers that know of each other and have no link yet.

A peer that wants a link sends an offer over other peers; the other answers with the ways it can be reached by; the
offerer dials. Messages may be late, doubled or lost, either side may begin, both may begin at once, and anybody can
send offers and answers in another's name. This module decides, and sends nothing itself::

    want -> offer sent -> answer_came -> dialling -> opened
               |              |             |
               +-- expire     +-- unusable  +-- failed       all three: a rest, longer each time, and maybe `invites`

Rules that hold whatever comes:

* A dial needs an offer of ours that has had no answer yet and is younger than `OFFER_SECONDS`. One offer, one dial.
* When offers cross, the one from the lower ID is answered, so the lower ID dials and there is one link.
* An offer that is not answered for that reason waits: if our own try comes to nothing, it is answered then.
* What others make us remember is apart from what we try: a flood of offers cannot push out a try of ours.

The JavaScript package never takes back that it waits for a peer. It then ignores offers of higher IDs for good, and
offers nothing itself. But it takes any answer, so one sent without an offer makes it dial: see `Handshakes.invites`.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

from meshrelay.machine.backoff import Backoff

__all__ = [
    "ANSWER_GAP_SECONDS",
    "DIAL_SECONDS",
    "FORGET_SECONDS",
    "MAX_ANSWERED",
    "MAX_PENDING",
    "MAX_RESTING",
    "OFFER_SECONDS",
    "REST_BASE_SECONDS",
    "REST_CAP_SECONDS",
    "STABLE_SECONDS",
    "Handshakes",
    "Reply",
]

#: How long an offer of ours waits for its answer, and an answer of ours for the other's dial.
OFFER_SECONDS = 10.0
#: How long a dial may take; WebRTC gathers candidates and tries them. Dialling has deadlines of its own below this.
DIAL_SECONDS = 30.0
#: One ID gets one answer in this time.
ANSWER_GAP_SECONDS = 5.0
#: The longest rest after the first failure, and at all.
REST_BASE_SECONDS = 5.0
REST_CAP_SECONDS = 600.0
#: A link that closes sooner after its try than this counts as a failed try.
STABLE_SECONDS = 60.0
#: Failures older than this do not count any more.
FORGET_SECONDS = 1_800.0

#: Offers and dials of ours under way.
MAX_PENDING = 1_024
#: IDs whose failures are remembered.
MAX_RESTING = 4_096
#: IDs whose offers we answered lately.
MAX_ANSWERED = 4_096


class Reply(NamedTuple):
    """What to send back to a peer whose offer came."""

    sends_answer: bool
    #: An offer of our own too: nobody can dial us, so we must be the one who dials.
    sends_offer: bool


class _Stage(Enum):
    OFFERED = auto()
    DIALLING = auto()


class _Ended(Enum):
    """How the last try ended."""

    #: It led to a link, or there was none.
    WELL = auto()
    #: No answer came.
    SILENT = auto()
    #: The other cannot be dialled, or the dial failed.
    BADLY = auto()


_IGNORED = Reply(sends_answer=False, sends_offer=False)


class _Try:
    """All that is known of our tries to reach one ID."""

    __slots__ = (
        "backoff",
        "deadline",
        "ended",
        "may_invite",
        "offer_waits",
        "rested_at",
        "resumes_at",
        "stage",
        "tried_at",
    )

    def __init__(self, backoff: Backoff, now: float) -> None:
        self.backoff = backoff
        self.stage = _Stage.OFFERED
        self.deadline = now
        self.tried_at = now
        self.rested_at = now
        self.resumes_at = now
        self.ended = _Ended.WELL
        #: The last try failed, and nobody has asked yet whether to invite the other.
        self.may_invite = False
        #: An offer of theirs came and was not answered.
        self.offer_waits = False


class Handshakes:
    """The handshakes of one peer. Times are seconds of one clock that never goes back.

    Ask only for peers without a link; the link table knows who has one.

    :param own_id: ours; it never gets an offer or an answer.
    :param uniform: `random.uniform` of the caller's random source.
    :param is_reachable: others can dial us: our answers carry a URL or say that we speak WebRTC.
    """

    def __init__(self, own_id: bytes, uniform: Callable[[float, float], float], *, is_reachable: bool) -> None:
        #: May be set when it changes.
        self.is_reachable = is_reachable
        #: What happened -> how often: answers_unasked, answers_late, answers_limited, offers_crossed, offers_refused,
        #: unusable, failed, timed_out, invited.
        self.counts: Counter[str] = Counter()
        self._own_id = own_id
        self._uniform = uniform
        self._pending: dict[bytes, _Try] = {}
        #: In the order in which they began to rest.
        self._resting: OrderedDict[bytes, _Try] = OrderedDict()
        #: ID -> when we answered it last, oldest first.
        self._answered: OrderedDict[bytes, float] = OrderedDict()

    @property
    def pending_count(self) -> int:
        """Offers and dials of ours under way. What others began does not count: it must not keep us from dialling."""
        return len(self._pending)

    @property
    def resting_count(self) -> int:
        """IDs whose last tries are remembered."""
        return len(self._resting)

    @property
    def answered_count(self) -> int:
        """IDs that were answered lately."""
        return len(self._answered)

    def is_pending(self, peer_id: bytes) -> bool:
        """Whether an offer or a dial of ours to this ID is under way."""
        return peer_id in self._pending

    def want(self, peer_id: bytes, now: float, *, by_user: bool = False) -> bool:
        """Ask whether an offer may be sent now; if so it counts as sent.

        :param by_user: somebody asked for this link: a rest after failures does not matter this once.
        :returns: False: a try is under way on either side, or the ID rests, or there are `MAX_PENDING` tries.
        """
        if peer_id == self._own_id or peer_id in self._pending or self.is_awaited(peer_id, now):
            return False
        known = self._resting.get(peer_id)
        if known is not None and now < known.resumes_at and not by_user:
            return False
        if len(self._pending) >= MAX_PENDING:
            self.counts["offers_refused"] += 1
            return False
        self._begin(peer_id, now, _Stage.OFFERED, OFFER_SECONDS)
        return True

    def offer_came(self, peer_id: bytes, now: float, is_linked: bool) -> Reply:
        """Decide what an offer gets.

        :param is_linked: there is a link to that ID: the offer is late, or not from it.
        """
        if peer_id == self._own_id or is_linked:
            return _IGNORED
        trying = self._pending.get(peer_id)
        if trying is not None and (trying.stage is _Stage.DIALLING or peer_id > self._own_id):
            trying.offer_waits = True
            self.counts["offers_crossed"] += 1
            return _IGNORED
        if not self._answer(peer_id, now):
            return _IGNORED
        resting = self._resting.get(peer_id)
        if resting is not None and resting.ended is _Ended.SILENT:
            # It may well have been away; now it is here.
            resting.resumes_at = now
        return Reply(sends_answer=True, sends_offer=not self.is_reachable and self.want(peer_id, now))

    def answer_came(self, peer_id: bytes, now: float) -> bool:
        """Ask whether an answer may be acted on; `dialling`, `unusable` or `failed` is to follow.

        :returns: True once for each offer of ours, within `OFFER_SECONDS`. False: do not dial.
        """
        trying = self._pending.get(peer_id)
        if trying is None or trying.stage is not _Stage.OFFERED:
            self.counts["answers_unasked"] += 1
            return False
        if now >= trying.deadline:
            self.counts["answers_late"] += 1
            return False
        self._begin(peer_id, now, _Stage.DIALLING, DIAL_SECONDS)
        return True

    def dialling(self, peer_id: bytes, now: float) -> None:
        """A dial begins: of an answer that was taken, or of a WebRTC offer of theirs. It has `DIAL_SECONDS`."""
        if peer_id in self._pending or len(self._pending) < MAX_PENDING:
            self._begin(peer_id, now, _Stage.DIALLING, DIAL_SECONDS)

    def unusable(self, peer_id: bytes, now: float) -> None:
        """The answer names no way that we can go. Ask `invites` next."""
        self._end("unusable", peer_id, now, _Ended.BADLY)

    def failed(self, peer_id: bytes, now: float) -> None:
        """The dial failed, or what was reached is somebody else. Ask `invites` next."""
        self._end("failed", peer_id, now, _Ended.BADLY)

    def opened(self, peer_id: bytes) -> None:
        """There is a link, whoever dialled. Failures before it are forgotten once it has lasted: see `closed`."""
        self._answered.pop(peer_id, None)
        trying = self._pending.pop(peer_id, None)
        if trying is not None:
            self._end_well(trying)
            self._rest(peer_id, trying, trying.tried_at, 0.0)

    def closed(self, peer_id: bytes, now: float, *, by_user: bool = False) -> None:
        """The link is gone. The next offer of ours waits a little, or longer if the link did not last.

        :param by_user: somebody asked to close it: we offer nothing for `REST_CAP_SECONDS`, unless asked to.
        """
        known = self._pending.pop(peer_id, None) or self._resting.get(peer_id)
        if known is None:
            known = self._new_try(now)
        elif now - known.tried_at >= STABLE_SECONDS:
            known.backoff.succeeded()
        known.tried_at = now
        self._end_well(known)
        self._rest(peer_id, known, now, REST_CAP_SECONDS if by_user else known.backoff.next_delay())

    def expire(self, now: float) -> list[bytes]:
        """End the tries whose time is over; call it about once a second.

        :returns: their IDs. Dials among them are to be given up. Ask `invites` for each.
        """
        late = [peer_id for peer_id, trying in self._pending.items() if trying.deadline <= now]
        for peer_id in late:
            is_silent = self._pending[peer_id].stage is _Stage.OFFERED
            self._end("timed_out", peer_id, now, _Ended.SILENT if is_silent else _Ended.BADLY)
        while self._answered and next(iter(self._answered.values())) + OFFER_SECONDS <= now:
            self._answered.popitem(last=False)
        while self._resting and next(iter(self._resting.values())).rested_at + FORGET_SECONDS <= now:
            self._resting.popitem(last=False)
        return late

    def invites(self, peer_id: bytes, now: float) -> bool:
        """Ask, after a try that came to nothing, whether to send an answer, so that the other may dial us.

        Their own offer may have waited for the end of our try. If none came, then the JavaScript package may still
        wait for us without a word: after an answer of its own that we could not use, or, when its ID is lower, after
        an offer of its own that was lost. Peers of ours ignore an answer that they did not ask for.

        :returns: True once for each failed try at most.
        """
        resting = self._resting.get(peer_id)
        if resting is None or not resting.may_invite:
            return False
        is_stuck = resting.ended is _Ended.BADLY or peer_id < self._own_id
        is_due = resting.offer_waits or (self.is_reachable and is_stuck)
        resting.offer_waits = resting.may_invite = False
        # Whoever was answered a moment ago is dialling, and would come twice.
        if not is_due or self.is_awaited(peer_id, now) or not self._answer(peer_id, now):
            return False
        self.counts["invited"] += 1
        return True

    def is_awaited(self, peer_id: bytes, now: float) -> bool:
        """Whether we have just told this ID how to reach us: its dial, or its signals, may come."""
        answered_at = self._answered.get(peer_id)
        return self.is_reachable and answered_at is not None and now < answered_at + OFFER_SECONDS

    def _answer(self, peer_id: bytes, now: float) -> bool:
        answered_at = self._answered.get(peer_id)
        if answered_at is not None and now < answered_at + ANSWER_GAP_SECONDS:
            self.counts["answers_limited"] += 1
            return False
        self._answered[peer_id] = now
        self._answered.move_to_end(peer_id)
        if len(self._answered) > MAX_ANSWERED:
            self._answered.popitem(last=False)
        return True

    def _new_try(self, now: float) -> _Try:
        return _Try(Backoff(REST_BASE_SECONDS, REST_CAP_SECONDS, self._uniform), now)

    def _begin(self, peer_id: bytes, now: float, stage: _Stage, seconds: float) -> None:
        trying = self._pending.get(peer_id)
        if trying is None:
            trying = self._resting.pop(peer_id, None) or self._new_try(now)
            trying.offer_waits = False
            self._pending[peer_id] = trying
        trying.stage = stage
        trying.tried_at = now
        trying.deadline = now + seconds

    def _end(self, why: str, peer_id: bytes, now: float, ended: _Ended) -> None:
        trying = self._pending.pop(peer_id, None)
        if trying is None:
            return
        self.counts[why] += 1
        trying.ended = ended
        trying.may_invite = True
        self._rest(peer_id, trying, now, trying.backoff.next_delay())

    @staticmethod
    def _end_well(trying: _Try) -> None:
        trying.ended = _Ended.WELL
        trying.offer_waits = trying.may_invite = False

    def _rest(self, peer_id: bytes, trying: _Try, now: float, seconds: float) -> None:
        trying.rested_at = now
        trying.resumes_at = now + seconds
        self._resting[peer_id] = trying
        self._resting.move_to_end(peer_id)
        if len(self._resting) > MAX_RESTING:
            self._resting.popitem(last=False)
