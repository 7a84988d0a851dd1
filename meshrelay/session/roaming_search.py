"""Looking for a session that its client wants to go on with here: asks the directory, its node, then all nodes.

::

    find_user --here is its record--> session.release at that node --> what it takes along
        |                                       |
        +--none, or the directory is away-------+--> session.recall at all nodes, session.release where it lives

A session may be on its way to another node when this one asks. That node says that it has it, and whoever asks for it
there waits until it has come. So a client that finds a third node before the second has answered loses nothing. Nobody
waits in a circle: only a node that asks one that had the session says so, and nobody who waits for it does.
"""

from __future__ import annotations

from collections.abc import Callable
from hmac import compare_digest
from typing import TYPE_CHECKING, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from meshrelay.directory.interfaces import IDirectory
from meshrelay.directory.records import MAX_STAMP, UserRecord
from meshrelay.errors import MalformedFrame, MeshError
from meshrelay.interfaces import INodes
from meshrelay.wire.session_node import (
    Handover,
    Recalled,
    SessionName,
    decode_handover,
    decode_recalled,
    encode_name,
    join_group_ids,
    split_group_ids,
)

if TYPE_CHECKING:
    from meshrelay.session.roaming import Memberships

__all__ = ["MAX_WAITERS", "RELEASE_SECONDS", "SEARCH_SECONDS", "Arrival", "SessionSearch"]

#: Longest search for a session, all questions together; a client waits for it.
SEARCH_SECONDS = 3.0
#: Of that, for the directory, for the node that has the session, and for each of all nodes.
FIND_SECONDS = 1.0
RELEASE_SECONDS = 2.0
RECALL_SECONDS = 1.0

#: Who waits for the same search; beyond, a sign-in is a new one.
MAX_WAITERS = 64

T = TypeVar("T")


class Arrival:
    """A search, and then an adoption.

    :param now: seconds.
    :ivar said_at: when the client said HELLO, the last time.
    :ivar hello_stamp: the stamp of that moment.
    :ivar stamp: what the sign-in is claimed under, whenever that is.
    :ivar is_fetching: the node that had the session is asked for it, and may have given it away already.
    """

    __slots__ = ("ends_at", "hello_stamp", "is_adopting", "is_fetching", "said_at", "stamp", "waiters")

    def __init__(self, now: float, stamp: int) -> None:
        self.ends_at = now + SEARCH_SECONDS
        self.said_hello(now, stamp)
        self.is_fetching = False
        self.is_adopting = False
        self.waiters: list[Deferred[None]] = []

    def said_hello(self, now: float, stamp: int) -> None:
        """The client said HELLO, perhaps not for the first time; the last one counts."""
        self.said_at = now
        self.hello_stamp = self.stamp = stamp

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

    def is_after(self, stamp: int) -> None:
        """What is gone on with was signed in under `stamp`: now it is here."""
        self.stamp = max(self.stamp, min(stamp + 1, MAX_STAMP))

    def is_before(self, stamp: int) -> None:
        """The client has signed in elsewhere since, under `stamp`: that one stays."""
        self.stamp = min(self.stamp, max(0, stamp - 1))


class SessionSearch:
    """See the module.

    :param next_stamp: what a sign-in at this moment is claimed under.
    :param saw: called with each stamp of another node.
    :param counts: "arrived", "recalled" and "malformed" are counted in it.
    """

    _log = Logger()

    def __init__(
        self,
        nodes: INodes,
        directory: IDirectory,
        clock: IReactorTime,
        memberships: Memberships,
        now_microseconds: Callable[[], int],
        saw: Callable[[int], object],
        counts: dict[str, int],
    ) -> None:
        self._nodes = nodes
        self._directory = directory
        self._clock = clock
        self._memberships = memberships
        self._now_microseconds = now_microseconds
        self._saw = saw
        self._counts = counts

    async def search(self, name: SessionName, arrival: Arrival) -> Handover:
        """Return what was found of a session; whoever had it has it no more."""
        record = await self.within(self._directory.find_user(name.user_id), arrival.ends_at, FIND_SECONDS)
        if record is not None:
            self._saw(record.stamp)
            if not compare_digest(record.sid, name.sid):
                # A newer sign-in is elsewhere, so the session is over, if it ever was.
                if not arrival.stamp < record.stamp <= self._now_microseconds():
                    # And it is older than this one; a stamp that is still to come is that of a fast clock.
                    arrival.is_after(record.stamp)
                return Handover()
            if record.node_id != self._nodes.node_id:
                arrival.is_fetching = True
                handover = await self._ask_release(record.node_id, name, arrival)
                arrival.is_fetching = False
                if handover.is_found or handover.stamp:
                    return handover
        return await self._search_everywhere(name, arrival)

    async def _search_everywhere(self, name: SessionName, arrival: Arrival) -> Handover:
        payload = encode_name(name)
        node_ids = [node_id for node_id in self._nodes.known() if self._nodes.is_up(node_id)]
        ends_at = min(arrival.ends_at, self._clock.seconds() + RECALL_SECONDS)
        asked = [
            self.within(self._nodes.call(node_id, "session.recall", payload), ends_at, RECALL_SECONDS)
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
            if handover.is_found or handover.stamp:
                return handover
        if not arrival.waiters:
            return Handover()
        if is_known:
            self._counts["recalled"] += 1
        return Handover(is_found=is_known, groups=join_group_ids(group_ids), rooms=join_group_ids(room_ids))

    async def _ask_release(self, node_id: str, name: SessionName, arrival: Arrival) -> Handover:
        if not arrival.waiters:
            # The client has gone, perhaps to the very node that would be asked.
            return Handover()
        age_ms = max(0, int((self._clock.seconds() - arrival.said_at) * 1000))
        question = SessionName(user_id=name.user_id, sid=name.sid, age_ms=age_ms, stamp=arrival.hello_stamp)
        payload = encode_name(question)
        asked = self._nodes.call(node_id, "session.release", payload)
        answer = await self.within(asked, arrival.ends_at, RELEASE_SECONDS)
        handover = self._read(decode_handover, answer, node_id) or Handover()
        self._saw(handover.stamp)
        if handover.is_found:
            self._counts["arrived"] += 1
            arrival.is_after(handover.stamp)
        elif handover.stamp:
            arrival.is_before(handover.stamp)
        return handover

    async def recall(self, record: UserRecord) -> Recalled | None:
        """Return what its node knows of one session; None: it does not say."""
        payload = encode_name(SessionName(user_id=record.user_id, sid=record.sid))
        asked = self._nodes.call(record.node_id, "session.recall", payload)
        answer = await self.within(asked, self._clock.seconds() + RECALL_SECONDS, RECALL_SECONDS)
        return self._read(decode_recalled, answer, record.node_id)

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

    def within(self, asked: Deferred[T], ends_at: float, seconds: float) -> Deferred[T | None]:
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
