"""What this node has, said to the directory: its users and its groups, now and again after anything went wrong.

::

    sign-in, join --claim, join_group--> directory       UserTakenOver --> taken_over
    sign-out, leave --release, leave_group-->            an older sign-in elsewhere --> displaced
    a call failed, data lost, a new lease --> claims that failed, refresh: all users and groups, then what was left

This node owns the truth about its own users, so nothing waits for an answer here, and what the directory missed is said
again until it took it. A claim that failed is said again by itself: a refresh does not tell whom it displaced.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from itertools import islice
from typing import TypeVar

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from meshrelay.background import start
from meshrelay.directory.errors import DirectoryFull, UserTakenOver
from meshrelay.directory.interfaces import IDirectory
from meshrelay.directory.records import GroupRecord, UserRecord
from meshrelay.errors import MeshError

__all__ = ["Registration"]

K = TypeVar("K")
V = TypeVar("V")

#: Between two tries to say everything.
_RETRY_SECONDS = 1.0

#: The same while the directory is full: trying costs it as much as succeeding would.
_FULL_RETRY_SECONDS = 10.0

#: Claims, releases and leaves that are kept to be said again, each. More are counted: claims are left to the refresh,
#: the others to the nodes that ask here in vain.
_MAX_UNSAID = 100_000

#: So many of them are said at a time.
_UNSAID_AT_ONCE = 500


class Registration:
    """Keeps what the directory says of this node true.

    :param users: all signed-in users of this node. Consumed in pieces, while others sign in and out: must yield each
        one only while it is still here.
    :param groups: (group ID, settings) of all groups that this node holds, in the same manner.
    :param displaced: called with an older sign-in on another node, for that node to end.
    :param taken_over: called with a newer sign-in elsewhere of a user that signed in here before.
    """

    _log = Logger()

    def __init__(
        self,
        directory: IDirectory,
        node_id: str,
        clock: IReactorTime,
        users: Callable[[], Iterable[UserRecord]],
        groups: Callable[[], Iterable[tuple[str, bytes]]],
        displaced: Callable[[UserRecord], object],
        taken_over: Callable[[UserRecord], object],
    ) -> None:
        self._directory = directory
        self._node_id = node_id
        self._clock = clock
        self._users = users
        self._groups = groups
        self._displaced = displaced
        self._taken_over = taken_over
        self._timer: IDelayedCall | None = None
        self._is_running = False
        #: `IDirectory.refresh` is under way; the whole, with what was left, is.
        self._is_refreshing = False
        self._is_busy = False
        #: Something failed since the last refresh began.
        self._is_behind = False
        self._retry_seconds = _RETRY_SECONDS
        self._held_groups: set[str] = set()
        #: (user ID, sid) twice, and group IDs; in order, so that the oldest is said first.
        self._claims: dict[tuple[str, str], UserRecord] = {}
        #: Claims under way whose session has not ended; the directory bounds how many wait.
        self._claiming: dict[tuple[str, str], UserRecord] = {}
        self._releases: dict[tuple[str, str], None] = {}
        self._leaves: dict[str, None] = {}
        self.refreshes = 0
        self.failed_calls = 0
        self.dropped_unsaid = 0

    @property
    def is_whole(self) -> bool:
        """Whether the directory took all that it was told."""
        return not (self._is_behind or self._is_busy or self._claims or self._releases or self._leaves)

    def start(self) -> None:
        """Watch for losses, and say everything when the directory wants it now and then."""
        self._is_running = True
        self._directory.watch_lost(self._lost)
        self._refresh_regularly()
        if self._is_behind:
            self._refresh_in(0.0)

    def stop(self) -> None:
        """Say nothing again any more."""
        self._is_running = False
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def node_registered(self, is_renewed: bool) -> None:
        """The lease of this node was renewed; or it is a new one, and nothing of ours is in the directory."""
        if not is_renewed:
            self._lost()

    def claim(self, record: UserRecord) -> None:
        """A user signed in here."""
        start(self._claim(record), self._log, "claiming a user")

    async def _claim(self, record: UserRecord) -> None:
        key = (record.user_id, record.sid)
        self._claims.pop(key, None)
        # The session was over here, and has come back before that could be said.
        self._releases.pop(key, None)
        self._claiming[key] = record
        try:
            before = await self._directory.claim_user(record)
        except UserTakenOver as error:
            self._tell(self._taken_over, error.current)
        except MeshError as error:
            if self._claiming.get(key) is record:
                self._keep(self._claims, key, record)
            self._failed(error)
        else:
            if before is not None and before.node_id != self._node_id:
                self._tell(self._displaced, before)
        finally:
            # A later claim of the same session, after a resume, may be under way.
            if self._claiming.get(key) is record:
                del self._claiming[key]

    def release(self, user_id: str, sid: str) -> None:
        """A session of this node ended."""
        self._forget_claim(user_id, sid)
        if self._is_refreshing:
            # A batch that was made before may come behind this and bring the user back.
            self._keep(self._releases, (user_id, sid), None)
        start(self._release(user_id, sid), self._log, "releasing a user")

    def moved(self, user_id: str, sid: str) -> None:
        """A session of this node goes on at another one, which claims it: say no more of it."""
        self._forget_claim(user_id, sid)

    def _forget_claim(self, user_id: str, sid: str) -> None:
        """A claim that failed, or that is under way and may fail, is not said again: it would bring the user back."""
        self._claims.pop((user_id, sid), None)
        self._claiming.pop((user_id, sid), None)

    async def _release(self, user_id: str, sid: str) -> None:
        try:
            await self._directory.release_user(user_id, sid, self._node_id)
        except MeshError as error:
            self._keep(self._releases, (user_id, sid), None)
            self._failed(error)

    def join_group(self, group_id: str, settings: bytes) -> Deferred[GroupRecord | None]:
        """This node holds a group from now on.

        :returns: fires with the group and its holders, this node among them; None: the directory is away and will be
            told later. Never fails.
        """
        self._held_groups.add(group_id)
        self._leaves.pop(group_id, None)
        return Deferred.fromCoroutine(self._join_group(group_id, settings)).addErrback(
            lambda failure: self._log.failure("joining a group failed", failure=failure)
        )

    async def _join_group(self, group_id: str, settings: bytes) -> GroupRecord | None:
        try:
            return await self._directory.join_group(group_id, self._node_id, settings)
        except MeshError as error:
            self._failed(error)
            return None

    def leave_group(self, group_id: str) -> None:
        """This node does not hold a group any more."""
        self._held_groups.discard(group_id)
        if self._is_refreshing:
            self._keep(self._leaves, group_id, None)
        start(self._leave_group(group_id), self._log, "leaving a group")

    async def _leave_group(self, group_id: str) -> None:
        try:
            await self._directory.leave_group(group_id, self._node_id)
        except MeshError as error:
            # It may have been joined again while this was under way.
            if group_id not in self._held_groups:
                self._keep(self._leaves, group_id, None)
            self._failed(error)

    def _keep(self, unsaid: dict[K, V], what: K, value: V) -> None:
        if len(unsaid) < _MAX_UNSAID or what in unsaid:
            unsaid[what] = value
        else:
            self.dropped_unsaid += 1

    def _failed(self, error: MeshError) -> None:
        self.failed_calls += 1
        self._is_behind = True
        self._retry_seconds = _FULL_RETRY_SECONDS if isinstance(error, DirectoryFull) else _RETRY_SECONDS
        self._refresh_in(self._retry_seconds)

    def _lost(self) -> None:
        self._is_behind = True
        self._retry_seconds = _RETRY_SECONDS
        self._refresh_in(0.0)

    def _refresh_in(self, seconds: float) -> None:
        """Refresh after so many seconds, or when that was planned already, if it is earlier."""
        if not self._is_running or self._is_busy:
            return
        due = self._clock.seconds() + seconds
        if self._timer is not None and self._timer.active():
            if self._timer.getTime() <= due:
                return
            self._timer.cancel()
        self._timer = self._clock.callLater(seconds, self._refresh_now)

    def _refresh_regularly(self) -> None:
        if self._directory.refresh_seconds > 0:
            self._refresh_in(self._directory.refresh_seconds)

    def _refresh_now(self) -> None:
        self._timer = None
        self._is_busy = self._is_refreshing = True
        self._is_behind = False
        start(self._refresh(), self._log, "saying everything to the directory").addCallback(self._refreshed)

    async def _refresh(self) -> None:
        try:
            await self._say_claims()
            newer = await self._directory.refresh(self._node_id, self._users(), self._groups())
        except MeshError as error:
            self._failed(error)
            return
        except Exception:
            # Our own bug in what was to be said: the log gets it, and it is tried again.
            self._is_behind = True
            raise
        finally:
            self._is_refreshing = False
        self.refreshes += 1
        for record in newer:
            self._tell(self._taken_over, record)
        await self._say_ends()

    async def _say_claims(self) -> None:
        """Say the claims that failed. What fails again is kept, and ends it."""
        keys = iter(list(self._claims))
        while not self._is_behind and (some := list(islice(keys, _UNSAID_AT_ONCE))):
            # One that was released meanwhile is not there any more.
            records = [self._claims.pop(key) for key in some if key in self._claims]
            await self._all([self._claim(record) for record in records])

    async def _say_ends(self) -> None:
        """Say the releases and leaves that were missed. What fails is kept, and ends it."""
        while not self._is_behind and (self._releases or self._leaves):
            releases = list(islice(self._releases, _UNSAID_AT_ONCE))
            leaves = list(islice(self._leaves, _UNSAID_AT_ONCE))
            for each in releases:
                del self._releases[each]
            for group_id in leaves:
                del self._leaves[group_id]
            said = [self._release(user_id, sid) for user_id, sid in releases]
            await self._all([*said, *(self._leave_group(group_id) for group_id in leaves)])

    def _all(self, calls: Iterable[Coroutine[Deferred[object], object, object]]) -> Deferred[list[None]]:
        return gatherResults([start(each, self._log, "saying what was missed") for each in calls])

    def _refreshed(self, _: None) -> None:
        self._is_busy = False
        if self._is_behind:
            self._refresh_in(self._retry_seconds)
        else:
            self._refresh_regularly()

    def _tell(self, callback: Callable[[UserRecord], object], record: UserRecord) -> None:
        maybeDeferred(callback, record).addErrback(
            lambda failure: self._log.failure("telling of a sign-in elsewhere failed", failure=failure)
        )

    def statistics(self) -> Mapping[str, int]:
        """Counts for the metrics page; the same keys at each call."""
        return {
            "refreshes": self.refreshes,
            "failed_calls": self.failed_calls,
            "unsaid": len(self._claims) + len(self._releases) + len(self._leaves),
            "dropped_unsaid": self.dropped_unsaid,
        }
