"""All sessions of this node: who is signed in, who took over from whom, who is away and for how long.

Sessions of other nodes come and go by `SessionRegistry.adopt` and `SessionRegistry.move_out`; who decides that is
`meshrelay.session.roaming`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from hmac import compare_digest
from inspect import isawaitable
from typing import NamedTuple

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from meshrelay.background import Alarm, Alarms, start
from meshrelay.counters import NodeCounters
from meshrelay.interfaces import IConnection, IDownlink, ISessionObserver, ISessions
from meshrelay.model import CloseReason, User
from meshrelay.session.auth import Identity
from meshrelay.session.session import Session
from meshrelay.wire.session_node import Handover, split_group_ids

__all__ = ["Adoption", "RegistryLimits", "Resume", "SessionRegistry", "SignIn"]


class RegistryLimits(NamedTuple):
    """How long and how much is kept for clients that are away."""

    #: 0 = no resume.
    resume_seconds: float
    #: For each session that acknowledges or is away.
    replay_bytes: int
    #: Sessions that are away at the same time; beyond, the one that left first is over.
    max_away: int


class Resume(NamedTuple):
    """What a client says about its earlier session.

    :ivar sid: "" = none.
    :ivar acks: the client acknowledges pushes from now on.
    :ivar received: pushes it has received in the earlier session, mod 2^32; None = it does not say.
    """

    sid: str = ""
    acks: bool = False
    received: int | None = None


class SignIn(NamedTuple):
    """How a sign-in went."""

    session: Session
    resumed: bool
    #: Every push of the earlier session has been or will be received.
    recovered: bool
    #: To be sent to the client after the answer to HELLO and before anything else.
    frames: list[bytes]


class Adoption(NamedTuple):
    """A session that came from another node."""

    session: Session
    #: What the observers still do about it; each fires with None, never with a failure.
    waiting: list[Deferred[None]]


@implementer(ISessions)
class SessionRegistry:
    """The only index of sessions. Invariant: a user has at most one session, and it is in both indexes.

    :param make_sid: returns 32 random hex digits.
    """

    _log = Logger()

    def __init__(
        self, limits: RegistryLimits, alarms: Alarms, make_sid: Callable[[], str], counters: NodeCounters
    ) -> None:
        self._limits = limits
        self._alarms = alarms
        self._make_sid = make_sid
        self._counters = counters
        self._by_user: dict[str, Session] = {}
        self._by_sid: dict[str, Session] = {}
        #: In the order in which they left.
        self._away: dict[Session, Alarm] = {}
        self._observers: list[ISessionObserver] = []

    def __len__(self) -> int:
        return len(self._by_sid)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._by_sid.values()))

    @property
    def away_count(self) -> int:
        """Sessions without a connection, at most ``max_away``."""
        return len(self._away)

    def set_limits(self, limits: RegistryLimits) -> None:
        """Use other limits from now on."""
        self._limits = limits

    def add_observer(self, observer: ISessionObserver) -> None:
        """Tell `observer` about every session from now on."""
        self._observers.append(observer)

    def find_session(self, sid: str) -> Session | None:
        """See `ISessions`."""
        return self._by_sid.get(sid)

    def find_user(self, user_id: str) -> Session | None:
        """See `ISessions`."""
        return self._by_user.get(user_id)

    def can_resume(self, user_id: str, sid: str) -> bool:
        """Whether `sid` is the session of `user_id`."""
        session = self._by_user.get(user_id)
        # The sid is a secret, so how long the comparison takes must not tell how much of a guess was right.
        return session is not None and compare_digest(session.user.sid.encode(), sid.encode("utf-8", "replace"))

    def kick(self, user_id: str, text: str) -> bool:
        """See `ISessions`."""
        session = self._by_user.get(user_id)
        if session is None:
            return False
        self.expel(session, CloseReason.KICKED, text)
        return True

    def expel(self, session: Session, reason: CloseReason, text: str = "") -> None:
        """Close the connection of `session`, if it has one, and end it."""
        self._disconnect(session, reason, text)
        self.end(session, reason)

    def make_sid(self) -> str:
        """A sid that no session has."""
        return self._make_sid()

    def sign_in(self, identity: Identity, connection: IConnection, resume: Resume, sid: str = "") -> SignIn:
        """Make `connection` serve the user; an older connection of the user is closed with REPLACED.

        The caller sends what is to be sent and then calls `signed_in`.

        :param sid: of the new session if one is made; "" = a random one.
        """
        user_id = identity.user_id
        older = self._by_user.get(user_id)
        if older is not None:
            self._disconnect(older, CloseReason.REPLACED, "")
            if resume.sid and self.can_resume(user_id, resume.sid):
                self._stop_waiting(older)
                older.user = replace(older.user, claims=identity.claims)
                recovered, frames = older.resume(connection, resume.acks, resume.received)
                self._counters.resumes["recovered" if recovered else "resumed"] += 1
                return SignIn(older, True, recovered, frames)
            self.end(older, CloseReason.REPLACED)
        if resume.sid:
            self._counters.resumes["refused"] += 1
        user = User(user_id, sid or self._make_sid(), connection.link.transport_name, identity.claims)
        session = Session(user, self._limits.replay_bytes, resume.acks)
        session.attach(connection)
        self._add(session)
        return SignIn(session, False, False, [])

    def _add(self, session: Session) -> None:
        session.since = self._alarms.now()
        self._by_user[session.user.user_id] = session
        self._by_sid[session.user.sid] = session

    def adopt(self, identity: Identity, sid: str, handover: Handover, instead_of: Session | None) -> Adoption | None:
        """Take over a session of another node; it is away until its client resumes it.

        :param instead_of: the session of the user when its client asked for `sid`; it is over.
        :returns: None: the user has signed in meanwhile, or sessions are not kept here.
        """
        older = self._by_user.get(identity.user_id)
        if sid in self._by_sid or self._limits.resume_seconds <= 0:
            return None
        if older is not None:
            if older is not instead_of:
                return None
            self.expel(older, CloseReason.REPLACED)
        session = Session.adopted(User(identity.user_id, sid, "", identity.claims), self._limits.replay_bytes, handover)
        self._add(session)
        self._wait(session)
        results = self._tell("session_adopted", session, split_group_ids(handover.groups))
        waiting = [start(_finish(each), self._log, "adopting a session") for each in results if isawaitable(each)]
        self._keep_bound()
        return Adoption(session, waiting)

    def move_out(self, session: Session, reason: CloseReason = CloseReason.REPLACED) -> None:
        """The session goes on at another node: like `end`, but for its observers. What it had comes by `hand_over`.

        :param reason: told to its connection, if it has one.
        """
        self._disconnect(session, reason, "")
        if self._remove(session):
            self._tell("session_moved", session)

    def signed_in(self, outcome: SignIn) -> None:
        """Tell the observers about a sign-in that the client knows of."""
        self._tell("session_back" if outcome.resumed else "session_opened", outcome.session)

    def _disconnect(self, session: Session, reason: CloseReason, text: str) -> None:
        connection = session.connection
        # First, so that the connection finds that the session is no longer its own to leave.
        session.let_go()
        if connection is not None:
            connection.close(reason, text)

    def detach(self, session: Session, link: IDownlink) -> None:
        """The connection of `session` broke: keep the session for a resume. Nothing if another one serves it."""
        if session.link is not link:
            return
        if self._limits.resume_seconds <= 0:
            self.end(session, None)
            return
        session.let_go()
        self._wait(session)
        self._tell("session_away", session)
        self._keep_bound()

    def _wait(self, session: Session) -> None:
        self._away[session] = self._alarms.call_later(self._limits.resume_seconds, lambda: self.end(session, None))

    def _keep_bound(self) -> None:
        if len(self._away) > self._limits.max_away:
            self.end(next(iter(self._away)), None)

    def _stop_waiting(self, session: Session) -> None:
        alarm = self._away.pop(session, None)
        if alarm is not None:
            alarm.cancel()

    def end(self, session: Session, reason: CloseReason | None) -> None:
        """The session is over for good. Its connection, if any, is the caller's to close. Twice does nothing.

        :param reason: None = the client left, or stayed away too long.
        """
        if self._remove(session):
            self._tell("session_closed", session, reason)

    def _remove(self, session: Session) -> bool:
        """Take `session` out of the indexes. False: it was not there."""
        if self._by_sid.pop(session.user.sid, None) is None:
            return False
        self._by_user.pop(session.user.user_id, None)
        self._stop_waiting(session)
        session.let_go()
        session.is_over = True
        return True

    def _tell(self, event: str, session: Session, *details: object) -> list[object]:
        """Call a method of all observers. Returns what they returned."""
        calls: dict[str, Callable[[ISessionObserver], Callable[..., object]]] = {
            "session_opened": lambda observer: observer.session_opened,
            "session_away": lambda observer: observer.session_away,
            "session_back": lambda observer: observer.session_back,
            "session_closed": lambda observer: observer.session_closed,
            "session_moved": lambda observer: observer.session_moved,
            "session_adopted": lambda observer: observer.session_adopted,
        }
        results = []
        for observer in self._observers:
            try:
                results.append(calls[event](observer)(session, *details))
            except Exception:  # one component's bug must not keep the others from knowing
                self._log.failure("{event} failed in {observer}", event=event, observer=observer)
        return results


async def _finish(waiting: Awaitable[object]) -> None:
    await waiting
