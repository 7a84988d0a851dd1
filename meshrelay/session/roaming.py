"""One session of a user in the whole cluster: who wins, and how a session goes on at another node.

A sign-in is *claimed* in the directory under a stamp; the newest stamp wins. Whoever it displaced is ended by its node,
which is told by a call, or by the directory when that is refreshed. Stamps are microseconds of the wall clock, but each
is greater than all that this node has seen: a node whose clock is late loses once and not for ever.

The newest sign-in is the one whose HELLO came last, however long it took to find its session: the stamp is that of the
HELLO. So a client that gave a slow node up is not thrown out where it went by what that node still does. Nor is it by a
sign-in whose client has gone again: a node with a connection asks whether the other one has any before it yields.

A client that resumes at another node::

    connection --fetch--> search --session.release at the node that has it--> registry.adopt --> the connection resumes
                            |                                                      |
                            +--session.recall at all nodes-------------------------+

What was released takes along the pushes that were kept and the IDs of its groups and rooms. What was only recalled,
because its node is dead, has its memberships and nothing else. Nothing found: the sign-in is a new one, and the client
is not told why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from meshrelay.background import start
from meshrelay.directory.interfaces import IDirectory
from meshrelay.directory.records import MAX_STAMP, UserRecord
from meshrelay.errors import MeshError
from meshrelay.interfaces import INodes, ISession, ISessionObserver
from meshrelay.model import CloseReason
from meshrelay.session.auth import Identity
from meshrelay.session.registry import SessionRegistry
from meshrelay.session.roaming_search import MAX_WAITERS, RELEASE_SECONDS, Arrival, SessionSearch
from meshrelay.session.session import Session
from meshrelay.wire.buffer import GROUP_ID_BYTES
from meshrelay.wire.session_node import (
    MAX_GROUPS,
    EndRequest,
    Handover,
    Recalled,
    SessionName,
    decode_end,
    decode_name,
    encode_end,
    encode_handover,
    encode_recalled,
    fit_handover,
    is_sid,
    join_group_ids,
    split_group_ids,
)

__all__ = [
    "MAX_ARRIVALS",
    "MAX_PENDING_ENDS",
    "MAX_WAITERS",
    "Memberships",
    "Roaming",
    "RoomMemberships",
    "UserRegistration",
]

#: How long a session that was adopted may take to enter its groups before its client is answered.
ADOPT_SECONDS = 3.0

#: A question between nodes rarely takes longer; of use where their clocks do not agree.
UNSURE_SECONDS = 0.5

#: Stands for the sid of a session of which a node does not say which one it is.
NO_SID = "unknown"

#: Searches at the same time; beyond, a sign-in is a new one. Each asks every node in the worst case.
MAX_ARRIVALS = 1000
#: Sessions of other nodes that are still to be ended; beyond, it is left to the directory's refresh.
MAX_PENDING_ENDS = 10_000
#: So many tries take longer than a node is known that cannot be reached.
END_TRIES = 30
END_RETRY_SECONDS = 2.0


class UserRegistration(Protocol):
    """Says in the directory which users are here. Given by `meshrelay.mesh.registration`."""

    def claim(self, record: UserRecord) -> object:
        """A user signed in here."""

    def release(self, user_id: str, sid: str) -> object:
        """A session is over."""

    def moved(self, user_id: str, sid: str) -> object:
        """A session goes on at another node, which claims it."""


class RoomMemberships(NamedTuple):
    """What the component of rooms knows.

    :ivar of: ``of(session)`` -> IDs of the rooms that the session is in, in the order in which they were joined.
    :ivar recall: ``recall(user_id, sid)`` -> IDs of rooms of this node that have this session as a member.
    :ivar adopt: ``adopt(session, room_ids)`` gives a session that came from another node its places there; fires when
        that is done, never fails.
    """

    of: Callable[[ISession], list[str]]
    recall: Callable[[str, str], list[str]]
    adopt: Callable[[ISession, list[str]], Deferred[None]]


_NO_ROOMS = RoomMemberships(lambda session: [], lambda user_id, sid: [], lambda session, room_ids: succeed(None))


class Memberships(NamedTuple):
    """What the components know.

    :ivar of: ``of(session)`` -> IDs of the groups that the session is in, in the order in which they were joined.
    :ivar recall: ``recall(user_id, sid)`` -> IDs of groups that have this session of another node as a member, also
        when it was lost with its node; only where the sid is exactly that. Asked for other nodes as well.
    """

    of: Callable[[ISession], list[str]]
    recall: Callable[[str, str], list[str]]
    rooms: RoomMemberships = _NO_ROOMS

    def is_known(self, user_id: str, sid: str) -> bool:
        """Whether a group or a room here has this session as a member."""
        return bool(self.recall(user_id, sid) or self.rooms.recall(user_id, sid))


class _Claim(NamedTuple):
    """What the directory is told of a session."""

    stamp: int
    #: When its client said HELLO, in seconds of this node's clock.
    said_at: float
    #: The session that the client wanted and did not get; "" = none.
    wanted_sid: str = ""


@implementer(ISessionObserver)
class Roaming:
    """See the module; also the `meshrelay.session.handshake.Arrivals` of a node with others. One for each node.

    :param now_microseconds: the wall clock, since 1970.
    """

    _log = Logger()

    def __init__(
        self,
        nodes: INodes,
        directory: IDirectory,
        registration: UserRegistration,
        registry: SessionRegistry,
        clock: IReactorTime,
        now_microseconds: Callable[[], int],
        memberships: Memberships,
    ) -> None:
        self._nodes = nodes
        self._registration = registration
        self._registry = registry
        self._clock = clock
        self._now_microseconds = now_microseconds
        self._memberships = memberships
        #: Sessions that the directory is told about; those of the registry.
        self._claims: dict[ISession, _Claim] = {}
        self._last_stamp = 0
        self._arrivals: dict[tuple[str, str], Arrival] = {}
        #: What the session that is being made or taken over comes from.
        self._entering: tuple[SessionName, Arrival] | None = None
        self._pending_ends: set[IDelayedCall] = set()
        self._counts = dict.fromkeys(
            ("arrived", "recalled", "not_found", "refused", "left", "replaced", "ends_given_up", "malformed"), 0
        )
        self._search = SessionSearch(nodes, directory, clock, memberships, now_microseconds, self._saw, self._counts)
        nodes.answer("session.end", self._end_asked)
        nodes.answer("session.release", self._release_asked)
        nodes.answer("session.recall", self._recall_asked)

    def statistics(self) -> dict[str, int]:
        """Counts for the metrics page: what became of searches, and of sessions that were here; malformed answers."""
        return {**self._counts, "searching": len(self._arrivals), "pending_ends": len(self._pending_ends)}

    def stop(self) -> None:
        """Forget what is still to be told to other nodes."""
        for retry in self._pending_ends:
            retry.cancel()
        self._pending_ends.clear()

    # What the directory is told, and what it tells.

    def records(self) -> Iterator[UserRecord]:
        """Yield what this node has to say to a directory that was wiped; take it as slowly as you like."""
        for session in list(self._claims):
            claim = self._claims.get(session)
            if claim is not None:
                yield self._record(session, claim.stamp)

    def _record(self, session: ISession, stamp: int) -> UserRecord:
        user = session.user
        return UserRecord(user_id=user.user_id, node_id=self._nodes.node_id, sid=user.sid, stamp=stamp)

    def _claim(self, session: ISession) -> None:
        if session.is_over:
            # Another observer has thrown it out already, and nobody would ever release it.
            return
        claim = self._claim_of(session)
        if claim != self._claims.get(session):
            self._claims[session] = claim
            self._registration.claim(self._record(session, claim.stamp))

    def _claim_of(self, session: ISession) -> _Claim:
        user = session.user
        if self._entering is not None:
            name, arrival = self._entering
            if name.user_id == user.user_id:
                return _Claim(arrival.stamp, arrival.said_at, "" if name.sid == user.sid else name.sid)
        return _Claim(self._next_stamp(), self._clock.seconds())

    def _stamp_of(self, session: ISession) -> int:
        claim = self._claims.get(session)
        return claim.stamp if claim is not None else 0

    def _next_stamp(self) -> int:
        self._last_stamp = min(MAX_STAMP, max(self._now_microseconds(), self._last_stamp + 1))
        return self._last_stamp

    def _saw(self, stamp: int) -> None:
        self._last_stamp = max(self._last_stamp, min(stamp, MAX_STAMP))

    def displaced(self, record: UserRecord) -> None:
        """A claim of ours displaced `record`: its node is to end that session."""
        if record.node_id != self._nodes.node_id and is_sid(record.sid):
            self._end_elsewhere(record, 1)

    def _end_elsewhere(self, record: UserRecord, number: int) -> None:
        session = self._registry.find_user(record.user_id)
        by_sid, by_stamp = (session.user.sid, self._stamp_of(session)) if session is not None else ("", 0)
        request = EndRequest(
            user_id=record.user_id, sid=record.sid, stamp=record.stamp, by_sid=by_sid, by_stamp=by_stamp
        )
        asked = self._nodes.call(record.node_id, "session.end", encode_end(request))
        asked.addErrback(self._end_failed, record, number)

    def _end_failed(self, failure: Failure, record: UserRecord, number: int) -> None:
        if failure.check(MeshError) is None:
            self._log.failure("ending a session at another node failed", failure=failure)
            return
        if record.node_id not in self._nodes.known():
            return
        if number >= END_TRIES or len(self._pending_ends) >= MAX_PENDING_ENDS:
            self._counts["ends_given_up"] += 1
            return

        def again() -> None:
            self._pending_ends.discard(retry)
            self._end_elsewhere(record, number + 1)

        retry = self._clock.callLater(END_RETRY_SECONDS, again)
        self._pending_ends.add(retry)

    def taken_over(self, current: UserRecord) -> None:
        """The directory knows a newer sign-in of a user whom we said to be here."""
        self._saw(current.stamp)
        session = self._registry.find_user(current.user_id)
        if session is None:
            return
        mine = self._record(session, self._stamp_of(session))
        # What it knows may be older than what it is about to be told.
        if not mine.is_same_session(current) and not mine.is_newer_than(current):
            self._yield_to(session, current)

    def _yield_to(self, session: Session, current: UserRecord) -> None:
        """A newer sign-in is at another node; but one whose client has gone throws out nobody who is here."""
        if session.is_attached and is_sid(current.sid):
            start(self._contest(session, current), self._log, "asking for a newer sign-in")
        else:
            self._replace(session, current.sid)

    async def _contest(self, session: Session, current: UserRecord) -> None:
        recalled = await self._search.recall(current)
        claim = self._claims.get(session)
        if claim is None or claim.stamp > current.stamp:
            # It is over, or its client has signed in again.
            return
        if recalled is not None and session.is_attached and (recalled.is_away or not recalled.is_live):
            claim = self._claims[session] = claim._replace(stamp=min(current.stamp + 1, MAX_STAMP))
            self._registration.claim(self._record(session, claim.stamp))
        else:
            self._replace(session, current.sid if recalled is not None else session.user.sid)

    def _replace(self, session: Session, by_sid: str) -> None:
        """End a session because of another one; it is not released in the directory, it may be at that node by now."""
        claim = self._claims.get(session)
        is_its_own = by_sid != "" and by_sid in (session.user.sid, claim.wanted_sid if claim is not None else "")
        self._forget(session)
        self._counts["replaced"] += 1
        # Nobody else has signed in: two nodes had the same client at the same time, and it knows where it is.
        self._registry.expel(session, CloseReason.MOVED if is_its_own else CloseReason.REPLACED)

    # What happens here.

    def session_opened(self, session: ISession) -> None:
        """See `ISessionObserver`."""
        self._claim(session)

    def session_away(self, session: ISession) -> None:
        """See `ISessionObserver`: its entry stays, so that another node finds it."""

    def session_back(self, session: ISession) -> None:
        """See `ISessionObserver`: a resume is a sign-in, and the newest one wins."""
        self._claim(session)

    def session_closed(self, session: ISession, reason: CloseReason | None) -> None:
        """See `ISessionObserver`."""
        if reason is CloseReason.REPLACED:
            # The claim of the newer one takes its place; to release it might take the entry of another node that has
            # the same session, and nobody would end that one.
            self._forget(session)
        elif self._claims.pop(session, None) is not None:
            self._registration.release(session.user.user_id, session.user.sid)

    def session_moved(self, session: ISession) -> None:
        """See `ISessionObserver`: the other node claims it."""
        self._forget(session)

    def _forget(self, session: ISession) -> None:
        if self._claims.pop(session, None) is not None:
            self._registration.moved(session.user.user_id, session.user.sid)

    def session_adopted(self, session: ISession, group_ids: list[str]) -> None:
        """See `ISessionObserver`."""
        self._claim(session)

    # Sessions that come.

    def fetch(self, identity: Identity, sid: str) -> Deferred[None] | None:
        """See `meshrelay.session.handshake.Arrivals`. Who asks again for one session waits for the first search."""
        key = (identity.user_id, sid)
        arrival = self._arrivals.get(key)
        if arrival is not None:
            arrival.said_hello(self._clock.seconds(), self._next_stamp())
            return arrival.when_over()
        if not is_sid(sid) or self._registry.can_resume(*key):
            return None
        if not self._nodes.known() and not self._memberships.is_known(*key):
            return None
        if len(self._arrivals) >= MAX_ARRIVALS:
            self._counts["refused"] += 1
            return None
        arrival = self._arrivals[key] = Arrival(self._clock.seconds(), self._next_stamp())
        over = arrival.when_over()
        name = SessionName(user_id=identity.user_id, sid=sid)
        start(self._arrive(arrival, identity, name), self._log, "the search for a session").addCallback(
            self._arrival_over, name
        )
        return over

    def _arrival_over(self, _: None, name: SessionName) -> None:
        arrival = self._arrivals.pop((name.user_id, name.sid))
        for waiter in arrival.waiters:
            self._entering = (name, arrival)
            waiter.callback(None)
            self._entering = None

    async def _arrive(self, arrival: Arrival, identity: Identity, name: SessionName) -> None:
        before = self._registry.find_user(identity.user_id)
        found = await self._search.search(name, arrival)
        if not found.is_found:
            self._counts["not_found"] += 1
            return
        arrival.is_adopting = True
        self._entering = (name, arrival)
        adoption = self._registry.adopt(identity, name.sid, found, before)
        self._entering = None
        if adoption is None:
            self._counts["refused"] += 1
            return
        ends_at = self._clock.seconds() + ADOPT_SECONDS
        room_ids = split_group_ids(found.rooms)
        rooms = self._memberships.rooms.adopt(adoption.session, room_ids) if room_ids else succeed(None)
        for entering in (*adoption.waiting, rooms):
            await self._search.within(entering, ends_at, ADOPT_SECONDS)

    # Sessions that go.

    def _find(self, user_id: str, sid: str) -> Session | None:
        return self._registry.find_user(user_id) if self._registry.can_resume(user_id, sid) else None

    def _end_asked(self, node_id: str, payload: bytes) -> bytes:
        request = decode_end(payload)
        session = self._find(request.user_id, request.sid)
        # A user who has come back here since the other node's claim stays.
        if session is not None and self._stamp_of(session) <= request.stamp:
            current = UserRecord(
                user_id=request.user_id, node_id=node_id, sid=request.by_sid or NO_SID, stamp=request.by_stamp
            )
            self._yield_to(session, current)
        return b""

    def _release_asked(self, node_id: str, payload: bytes) -> bytes | Deferred[bytes]:
        name = decode_name(payload)
        arrival = self._arrivals.get((name.user_id, name.sid))
        # One that is on its way here is here in a moment, and one that is about to enter its groups has to be in them
        # before it can say which ones it leaves.
        is_coming = arrival is not None and (arrival.is_fetching or arrival.is_adopting)
        over = arrival.when_over() if arrival is not None and is_coming else None
        return self._hand_over(name) if over is None else over.addCallback(lambda _: self._hand_over(name))

    def _hand_over(self, name: SessionName) -> bytes:
        session = self._find(name.user_id, name.sid)
        if session is None:
            return encode_handover(Handover())
        stamp = self._stamp_of(session)
        reason = self._reason_to_move(session, name)
        if reason is None:
            return encode_handover(Handover(stamp=stamp))
        groups, rooms = self._join_places(self._memberships.of(session), self._memberships.rooms.of(session))
        self._registry.move_out(session, reason)
        self._counts["left"] += 1
        kept = session.hand_over()
        # What is sent to its rooms until it is in them again does not reach it.
        has_lapse = kept.has_lapse or bool(rooms)
        handover = msgspec.structs.replace(kept, groups=groups, rooms=rooms, stamp=stamp, has_lapse=has_lapse)
        return encode_handover(fit_handover(handover))

    def _reason_to_move(self, session: Session, name: SessionName) -> CloseReason | None:
        """What the connection of a session is told that another node asks for; None: its client came here later."""
        claim = self._claims.get(session)
        if not session.is_attached or claim is None or name.age_ms is None:
            return CloseReason.REPLACED
        here_seconds = self._clock.seconds() - claim.said_at
        age_seconds = name.age_ms / 1000
        # The question took its time as well; how long is known if the clocks of both nodes agree.
        by_clocks = (self._now_microseconds() - name.stamp) / 1e6
        unsure_seconds = UNSURE_SECONDS
        if by_clocks > age_seconds + RELEASE_SECONDS:
            # If they do, nobody waits for the answer any more.
            unsure_seconds = here_seconds + 1.0
        elif by_clocks >= age_seconds:
            age_seconds, unsure_seconds = by_clocks, 0.0
        if here_seconds < age_seconds:
            return None
        return CloseReason.MOVED if here_seconds < age_seconds + unsure_seconds else CloseReason.REPLACED

    def _join_places(self, group_ids: list[str], room_ids: list[str]) -> tuple[bytes, bytes]:
        """Groups and rooms as they travel; together they must fit one call."""
        rooms = join_group_ids(room_ids)
        return join_group_ids(group_ids[: MAX_GROUPS - len(rooms) // GROUP_ID_BYTES]), rooms

    def _recall_asked(self, node_id: str, payload: bytes) -> bytes:
        name = decode_name(payload)
        arrival = self._arrivals.get((name.user_id, name.sid))
        is_coming = arrival is not None and arrival.is_fetching
        session = self._find(name.user_id, name.sid)
        is_live = is_coming or session is not None
        is_away = session is not None and not session.is_attached
        memberships = self._memberships
        groups, rooms = self._join_places(
            memberships.recall(name.user_id, name.sid), memberships.rooms.recall(name.user_id, name.sid)
        )
        return encode_recalled(Recalled(is_live=is_live, is_away=is_away, groups=groups, rooms=rooms))
