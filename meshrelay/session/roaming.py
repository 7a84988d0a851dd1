"""One session of a user in the whole cluster: who wins, and how a session goes on at another node.

A sign-in is *claimed* in the directory under a stamp; the newest stamp wins. Whoever it displaced is ended by its node,
which is told by a call, or by the directory when that is refreshed. Stamps are microseconds of the wall clock, but each
is greater than all that this node has seen: a node whose clock is late loses once and not for ever.

A client that resumes at another node::

    connection --fetch--> find_user --here is its record--> session.release at that node --> registry.adopt
                              |                                         |
                              +--none, or the directory is away---------+--> session.recall at all nodes --> adopt
                                                                                 (and what is known here)

What was released takes along the pushes that were kept and the IDs of its groups and rooms. What was only recalled,
because its node is dead, has its memberships and nothing else. Nothing found: the sign-in is a new one, and the client
is not told why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hmac import compare_digest
from typing import NamedTuple, Protocol, TypeVar

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from meshrelay.background import start
from meshrelay.directory.interfaces import IDirectory
from meshrelay.directory.records import MAX_STAMP, UserRecord
from meshrelay.errors import MalformedFrame, MeshError
from meshrelay.interfaces import INodes, ISession, ISessionObserver
from meshrelay.model import CloseReason
from meshrelay.session.auth import Identity
from meshrelay.session.registry import SessionRegistry
from meshrelay.session.session import Session
from meshrelay.wire.buffer import GROUP_ID_BYTES
from meshrelay.wire.session_node import (
    MAX_GROUPS,
    EndRequest,
    Handover,
    Recalled,
    SessionName,
    decode_end,
    decode_handover,
    decode_name,
    decode_recalled,
    encode_end,
    encode_handover,
    encode_name,
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

#: Longest search for a session, all questions together; a client waits for it.
SEARCH_SECONDS = 3.0
#: Of that, for the directory, for the node that has the session, and for each of all nodes.
FIND_SECONDS = 1.0
RELEASE_SECONDS = 2.0
RECALL_SECONDS = 1.0
#: How long a session that was adopted may take to enter its groups before its client is answered.
ADOPT_SECONDS = 3.0

#: Searches at the same time; beyond, a sign-in is a new one. Each asks every node in the worst case.
MAX_ARRIVALS = 1000
#: Who waits for the same search; beyond, a sign-in is a new one.
MAX_WAITERS = 64

#: Sessions of other nodes that are still to be ended; beyond, it is left to the directory's refresh.
MAX_PENDING_ENDS = 10_000
#: So many tries take longer than a node is known that cannot be reached.
END_TRIES = 30
END_RETRY_SECONDS = 2.0

T = TypeVar("T")


class UserRegistration(Protocol):
    """Says in the directory which users are here. Given by `meshrelay.mesh.registration`."""

    def claim(self, record: UserRecord) -> object:
        """A user signed in here."""

    def release(self, user_id: str, sid: str) -> object:
        """A session is over."""


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


class _Arrival:
    """A search, and then an adoption."""

    __slots__ = ("ends_at", "is_adopting", "waiters")

    def __init__(self, ends_at: float) -> None:
        self.ends_at = ends_at
        self.is_adopting = False
        self.waiters: list[Deferred[None]] = []

    def when_over(self) -> Deferred[None] | None:
        """None: too many wait."""
        if len(self.waiters) >= MAX_WAITERS:
            return None
        waiter: Deferred[None] = Deferred(self._given_up)
        self.waiters.append(waiter)
        return waiter

    def _given_up(self, waiter: Deferred[None]) -> None:
        if waiter in self.waiters:
            self.waiters.remove(waiter)


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
        self._directory = directory
        self._registration = registration
        self._registry = registry
        self._clock = clock
        self._now_microseconds = now_microseconds
        self._memberships = memberships
        #: Sessions that the directory is told about; those of the registry.
        self._stamps: dict[ISession, int] = {}
        self._last_stamp = 0
        self._arrivals: dict[tuple[str, str], _Arrival] = {}
        self._pending_ends: set[IDelayedCall] = set()
        self._counts = dict.fromkeys(
            ("arrived", "recalled", "not_found", "refused", "left", "replaced", "ends_given_up", "malformed"), 0
        )
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
        for session in list(self._stamps):
            stamp = self._stamps.get(session)
            if stamp is not None:
                yield self._record(session, stamp)

    def _record(self, session: ISession, stamp: int) -> UserRecord:
        user = session.user
        return UserRecord(user_id=user.user_id, node_id=self._nodes.node_id, sid=user.sid, stamp=stamp)

    def _claim(self, session: ISession) -> None:
        if session.is_over:
            # Another observer has thrown it out already, and nobody would ever release it.
            return
        self._last_stamp = min(MAX_STAMP, max(self._now_microseconds(), self._last_stamp + 1))
        self._stamps[session] = self._last_stamp
        self._registration.claim(self._record(session, self._last_stamp))

    def _saw(self, stamp: int) -> None:
        self._last_stamp = max(self._last_stamp, min(stamp, MAX_STAMP))

    def displaced(self, record: UserRecord) -> None:
        """A claim of ours displaced `record`: its node is to end that session."""
        if record.node_id != self._nodes.node_id and is_sid(record.sid):
            self._end_elsewhere(record, 1)

    def _end_elsewhere(self, record: UserRecord, number: int) -> None:
        request = EndRequest(user_id=record.user_id, sid=record.sid, stamp=record.stamp)
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
        mine = self._record(session, self._stamps.get(session, 0))
        # What it knows may be older than what it is about to be told.
        if not mine.is_same_session(current) and not mine.is_newer_than(current):
            self._replace(session)

    def _replace(self, session: Session) -> None:
        # Not released in the directory: the same session may be at the other node by now.
        self._stamps.pop(session, None)
        self._counts["replaced"] += 1
        self._registry.expel(session, CloseReason.REPLACED)

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
        if self._stamps.pop(session, None) is not None:
            self._registration.release(session.user.user_id, session.user.sid)

    def session_moved(self, session: ISession) -> None:
        """See `ISessionObserver`: the other node claims it."""
        self._stamps.pop(session, None)

    def session_adopted(self, session: ISession, group_ids: list[str]) -> None:
        """See `ISessionObserver`."""
        self._claim(session)

    # Sessions that come.

    def fetch(self, identity: Identity, sid: str) -> Deferred[None] | None:
        """See `meshrelay.session.handshake.Arrivals`. Who asks again for one session waits for the first search."""
        key = (identity.user_id, sid)
        arrival = self._arrivals.get(key)
        if arrival is not None:
            return arrival.when_over()
        if not is_sid(sid) or self._registry.can_resume(*key):
            return None
        if not self._nodes.known() and not self._memberships.is_known(*key):
            return None
        if len(self._arrivals) >= MAX_ARRIVALS:
            self._counts["refused"] += 1
            return None
        arrival = self._arrivals[key] = _Arrival(self._clock.seconds() + SEARCH_SECONDS)
        over = arrival.when_over()
        start(self._arrive(arrival, identity, sid), self._log, "the search for a session").addCallback(
            self._arrival_over, key
        )
        return over

    def _arrival_over(self, _: None, key: tuple[str, str]) -> None:
        for waiter in self._arrivals.pop(key).waiters:
            waiter.callback(None)

    async def _arrive(self, arrival: _Arrival, identity: Identity, sid: str) -> None:
        before = self._registry.find_user(identity.user_id)
        found = await self._search(SessionName(user_id=identity.user_id, sid=sid), arrival)
        if not found.is_found:
            self._counts["not_found"] += 1
            return
        self._saw(found.stamp)
        arrival.is_adopting = True
        adoption = self._registry.adopt(identity, sid, found, before)
        if adoption is None:
            self._counts["refused"] += 1
            return
        ends_at = self._clock.seconds() + ADOPT_SECONDS
        room_ids = split_group_ids(found.rooms)
        rooms = self._memberships.rooms.adopt(adoption.session, room_ids) if room_ids else succeed(None)
        for entering in (*adoption.waiting, rooms):
            await self._within(entering, ends_at, ADOPT_SECONDS)

    async def _search(self, name: SessionName, arrival: _Arrival) -> Handover:
        record = await self._within(self._directory.find_user(name.user_id), arrival.ends_at, FIND_SECONDS)
        if record is not None:
            self._saw(record.stamp)
            if not compare_digest(record.sid, name.sid):
                # A newer sign-in is elsewhere, so the session is over, if it ever was.
                return Handover()
            if record.node_id != self._nodes.node_id:
                handover = await self._ask_release(record.node_id, name, arrival)
                if handover.is_found:
                    self._counts["arrived"] += 1
                    return handover
        return await self._search_everywhere(name, arrival)

    async def _search_everywhere(self, name: SessionName, arrival: _Arrival) -> Handover:
        payload = encode_name(name)
        node_ids = [node_id for node_id in self._nodes.known() if self._nodes.is_up(node_id)]
        ends_at = min(arrival.ends_at, self._clock.seconds() + RECALL_SECONDS)
        asked = [
            self._within(self._nodes.call(node_id, "session.recall", payload), ends_at, RECALL_SECONDS)
            for node_id in node_ids
        ]
        group_ids = dict.fromkeys(self._memberships.recall(name.user_id, name.sid))
        room_ids = dict.fromkeys(self._memberships.rooms.recall(name.user_id, name.sid))
        is_known = bool(group_ids or room_ids)
        live_at = []
        for node_id, answer in zip(node_ids, asked, strict=True):
            recalled = self._read(decode_recalled, await answer, node_id) or Recalled()
            group_ids.update(dict.fromkeys(split_group_ids(recalled.groups)))
            room_ids.update(dict.fromkeys(split_group_ids(recalled.rooms)))
            is_known = is_known or recalled.is_live or bool(recalled.groups or recalled.rooms)
            if recalled.is_live:
                live_at.append(node_id)
        for node_id in live_at:
            handover = await self._ask_release(node_id, name, arrival)
            if handover.is_found:
                self._counts["arrived"] += 1
                return handover
        if not arrival.waiters:
            return Handover()
        if is_known:
            self._counts["recalled"] += 1
        return Handover(is_found=is_known, groups=join_group_ids(group_ids), rooms=join_group_ids(room_ids))

    async def _ask_release(self, node_id: str, name: SessionName, arrival: _Arrival) -> Handover:
        if not arrival.waiters:
            # The client has gone, perhaps to the very node that would be asked.
            return Handover()
        asked = self._nodes.call(node_id, "session.release", encode_name(name))
        answer = await self._within(asked, arrival.ends_at, RELEASE_SECONDS)
        return self._read(decode_handover, answer, node_id) or Handover()

    def _read(self, decode: Callable[[bytes], T], answer: bytes | None, node_id: str) -> T | None:
        """Return what a node answered; None: nothing, or nothing that can be read."""
        if answer is None:
            return None
        try:
            return decode(answer)
        except MalformedFrame as error:
            self._counts["malformed"] += 1
            self._log.warn("node {node_id} answered {problem}", node_id=node_id, problem=error.problem)
            return None

    def _within(self, asked: Deferred[T], ends_at: float, seconds: float) -> Deferred[T | None]:
        """Wait for an answer at most until `ends_at` and at most `seconds`.

        :returns: fires with the answer, or None: it failed or is late. What was asked is not cancelled.
        """
        answer: Deferred[T | None] = Deferred()
        wait_seconds = max(0.0, min(seconds, ends_at - self._clock.seconds()))
        timer = self._clock.callLater(wait_seconds, answer.callback, None)

        def answered(result: T | None) -> None:
            if timer.active():
                timer.cancel()
                answer.callback(result)

        def failed(failure: Failure) -> None:
            if failure.check(MeshError) is None:
                self._log.failure("a question about a session failed", failure=failure)
            answered(None)

        asked.addCallbacks(answered, failed)
        return answer

    # Sessions that go.

    def _find(self, user_id: str, sid: str) -> Session | None:
        return self._registry.find_user(user_id) if self._registry.can_resume(user_id, sid) else None

    def _end_asked(self, node_id: str, payload: bytes) -> bytes:
        request = decode_end(payload)
        session = self._find(request.user_id, request.sid)
        # A user who has come back here since the other node's claim stays.
        if session is not None and self._stamps.get(session, 0) <= request.stamp:
            self._replace(session)
        return b""

    def _release_asked(self, node_id: str, payload: bytes) -> bytes | Deferred[bytes]:
        name = decode_name(payload)
        arrival = self._arrivals.get((name.user_id, name.sid))
        # One that is about to enter its groups has to be in them before it can say which ones it leaves.
        over = arrival.when_over() if arrival is not None and arrival.is_adopting else None
        return self._hand_over(name) if over is None else over.addCallback(lambda _: self._hand_over(name))

    def _hand_over(self, name: SessionName) -> bytes:
        session = self._find(name.user_id, name.sid)
        if session is None:
            return encode_handover(Handover())
        groups, rooms = self._join_places(self._memberships.of(session), self._memberships.rooms.of(session))
        stamp = self._stamps.get(session, 0)
        self._registry.move_out(session)
        self._counts["left"] += 1
        kept = session.hand_over()
        # What is sent to its rooms until it is in them again does not reach it.
        has_lapse = kept.has_lapse or bool(rooms)
        handover = msgspec.structs.replace(kept, groups=groups, rooms=rooms, stamp=stamp, has_lapse=has_lapse)
        return encode_handover(fit_handover(handover))

    def _join_places(self, group_ids: list[str], room_ids: list[str]) -> tuple[bytes, bytes]:
        """Groups and rooms as they travel; together they must fit one call."""
        rooms = join_group_ids(room_ids)
        return join_group_ids(group_ids[: MAX_GROUPS - len(rooms) // GROUP_ID_BYTES]), rooms

    def _recall_asked(self, node_id: str, payload: bytes) -> bytes:
        name = decode_name(payload)
        is_live = self._registry.can_resume(name.user_id, name.sid)
        memberships = self._memberships
        groups, rooms = self._join_places(
            memberships.recall(name.user_id, name.sid), memberships.rooms.recall(name.user_id, name.sid)
        )
        return encode_recalled(Recalled(is_live=is_live, groups=groups, rooms=rooms))
