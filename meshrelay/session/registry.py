"""All sessions of this node: who is signed in, who took over from whom, who is away and for how long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from hmac import compare_digest
from typing import NamedTuple

from twisted.logger import Logger
from zope.interface import implementer

from meshrelay.background import Alarm, Alarms
from meshrelay.counters import NodeCounters
from meshrelay.interfaces import IConnection, IDownlink, ISessionObserver, ISessions
from meshrelay.model import CloseReason, User
from meshrelay.session.auth import Identity
from meshrelay.session.session import Session

__all__ = ["RegistryLimits", "Resume", "SessionRegistry", "SignIn"]


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
        self._disconnect(session, CloseReason.KICKED, text)
        self.end(session, CloseReason.KICKED)
        return True

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
        self._by_user[user_id] = session
        self._by_sid[user.sid] = session
        return SignIn(session, False, False, [])

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
        self._away[session] = self._alarms.call_later(self._limits.resume_seconds, lambda: self.end(session, None))
        self._tell("session_away", session)
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
        if self._by_sid.pop(session.user.sid, None) is None:
            return
        self._by_user.pop(session.user.user_id, None)
        self._stop_waiting(session)
        session.let_go()
        session.is_over = True
        self._tell("session_closed", session, reason)

    def _tell(self, event: str, session: Session, *details: object) -> None:
        calls: dict[str, Callable[[ISessionObserver], Callable[..., None]]] = {
            "session_opened": lambda observer: observer.session_opened,
            "session_away": lambda observer: observer.session_away,
            "session_back": lambda observer: observer.session_back,
            "session_closed": lambda observer: observer.session_closed,
        }
        for observer in self._observers:
            try:
                calls[event](observer)(session, *details)
            except Exception:  # one component's bug must not keep the others from knowing
                self._log.failure("{event} failed in {observer}", event=event, observer=observer)
