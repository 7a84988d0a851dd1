"""Groups and their members: the state behind the group component, without commands or callbacks."""

from __future__ import annotations

from base64 import b32encode
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import NamedTuple

from meshrelay.background import Alarm, Alarms
from meshrelay.errors import AlreadyMember, GroupNotFound, NotMember, NotSignedIn, TooManyGroups
from meshrelay.fanout.hub import Channel, Hub
from meshrelay.interfaces import ISession
from meshrelay.model import Group, Member

__all__ = ["GroupTable", "GroupTableLimits", "LiveGroup", "NewGroupSettings", "merging_interval_ms"]

#: A shorter merging interval means none (seed 001, NewGroup).
MIN_INTERVAL_MS = 100

#: Random picks among the joinable groups before all of them are looked at.
RANDOM_PICKS = 16

#: Groups looked at one by one when the random picks found only groups that the user is in.
MAX_SCANNED = 4096


def merging_interval_ms(interval_ms: int) -> int:
    """The merging interval that is used: below 100 ms there is none."""
    return interval_ms if interval_ms >= MIN_INTERVAL_MS else 0


class GroupTableLimits(NamedTuple):
    """Bounds of the table."""

    #: On this node, static groups apart.
    max_groups: int
    #: Groups that one user is a member of.
    max_groups_per_user: int


class NewGroupSettings(NamedTuple):
    """How a group is made."""

    allow_empty: bool
    is_static: bool
    #: From creation; an empty group with `allow_empty` is discarded then. 0 for a static group.
    ttl_seconds: int
    #: As `merging_interval_ms` gives it.
    interval_ms: int


class LiveGroup:
    """One group. Invariant: `members` and the subscribers of `channel` are the same, in join order."""

    __slots__ = ("channel", "id", "is_expired", "members", "random_index", "settings", "ttl_alarm", "wire_id")

    def __init__(self, group_id: str, settings: NewGroupSettings, channel: Channel) -> None:
        self.id = group_id
        self.wire_id = group_id.encode("ascii")
        self.settings = settings
        self.channel = channel
        self.members: dict[str, ISession] = {}
        self.ttl_alarm: Alarm | None = None
        #: The lifetime is over; the group lives on until it is empty.
        self.is_expired = False
        #: Place in the list of joinable groups; -1 = not joinable at random.
        self.random_index = -1

    def snapshot(self, mesh_endpoint: str) -> Group:
        """What the application sees."""
        settings = self.settings
        members = tuple(Member(user_id, session.user.sid, mesh_endpoint) for user_id, session in self.members.items())
        return Group(
            self.id, settings.allow_empty, settings.is_static, settings.ttl_seconds, settings.interval_ms, (), members
        )


class GroupTable:
    """All groups of this node, by ID and by member.

    :param random_bytes: ``random_bytes(n)`` -> n bytes that nobody can guess.
    :param random_below: ``random_below(n)`` -> a number from 0 to n - 1.
    """

    def __init__(
        self,
        node_id: str,
        limits: GroupTableLimits,
        hub: Hub,
        alarms: Alarms,
        random_bytes: Callable[[int], bytes],
        random_below: Callable[[int], int],
    ) -> None:
        self._node_key = sha256(node_id.encode("utf-8")).digest()[:16]
        self._limits = limits
        self._hub = hub
        self._alarms = alarms
        self._random_bytes = random_bytes
        self._random_below = random_below
        self._groups: dict[str, LiveGroup] = {}
        self._static_count = 0
        self._groups_of: dict[ISession, dict[str, LiveGroup]] = {}
        self._joinable: list[LiveGroup] = []
        self._discarded: Callable[[LiveGroup], None] = _nobody

    def __len__(self) -> int:
        return len(self._groups)

    def __iter__(self) -> Iterator[LiveGroup]:
        return iter(list(self._groups.values()))

    @property
    def member_count(self) -> int:
        """Memberships in all groups."""
        return sum(len(groups) for groups in self._groups_of.values())

    def when_discarded(self, callback: Callable[[LiveGroup], None]) -> None:
        """Call `callback` with each group that is gone."""
        self._discarded = callback

    def find(self, group_id: str) -> LiveGroup | None:
        """The group of this ID."""
        return self._groups.get(group_id)

    def groups_of(self, session: ISession) -> list[LiveGroup]:
        """The groups of this member, newest last."""
        return list(self._groups_of.get(session, {}).values())

    def new_group_id(self) -> str:
        """52 characters: base32 of 16 bytes that name this node and 16 random ones."""
        raw = self._node_key + self._random_bytes(16)
        return b32encode(raw).decode("ascii").rstrip("=").lower()

    def check_room(self, session: ISession | None) -> None:
        """Whether one more group, with `session` in it, fits.

        :raises NotSignedIn: the session is over.
        :raises TooManyGroups: the limit of the node or of the user is reached.
        """
        if len(self._groups) - self._static_count >= self._limits.max_groups:
            raise TooManyGroups(f"this node has {self._limits.max_groups} groups, its limit")
        if session is not None:
            self._check_room_of(session)

    def _check_room_of(self, session: ISession) -> None:
        if session.is_over:
            # It ended while a hook kept its command waiting; nobody would ever end this membership.
            raise NotSignedIn("the session is over")
        if len(self._groups_of.get(session, ())) >= self._limits.max_groups_per_user:
            raise TooManyGroups(f"member of {self._limits.max_groups_per_user} groups, the limit of one user")

    def create(self, group_id: str, settings: NewGroupSettings) -> LiveGroup:
        """Add an empty group. The caller has called `check_room`, and adds a member unless it may be empty."""
        group = LiveGroup(group_id, settings, self._hub.open_channel(settings.interval_ms / 1000))
        self._groups[group_id] = group
        if settings.is_static:
            self._static_count += 1
            return group
        group.random_index = len(self._joinable)
        self._joinable.append(group)
        if settings.allow_empty:
            group.ttl_alarm = self._alarms.call_later(settings.ttl_seconds, lambda: self._expire(group))
        return group

    def _expire(self, group: LiveGroup) -> None:
        group.is_expired = True
        self._discard_if_done(group)

    def add(self, group_id: str, session: ISession) -> LiveGroup:
        """Make `session` a member.

        :raises GroupNotFound: no such group.
        :raises AlreadyMember: it is one.
        :raises NotSignedIn: the session is over.
        :raises TooManyGroups: the limit of one user is reached.
        """
        group = self._groups.get(group_id)
        if group is None:
            raise GroupNotFound
        if group.members.get(session.user.user_id) is session:
            raise AlreadyMember
        self._check_room_of(session)
        group.channel.subscribe(session)
        group.members[session.user.user_id] = session
        self._groups_of.setdefault(session, {})[group_id] = group
        return group

    def remove(self, group_id: str, session: ISession) -> LiveGroup:
        """End a membership; what was published before is still delivered to it.

        :raises GroupNotFound: no such group.
        :raises NotMember: it is none.
        """
        group = self._groups.get(group_id)
        if group is None:
            raise GroupNotFound
        if group.members.get(session.user.user_id) is not session:
            raise NotMember
        group.channel.unsubscribe(session)
        del group.members[session.user.user_id]
        groups = self._groups_of[session]
        del groups[group_id]
        if not groups:
            del self._groups_of[session]
        self._discard_if_done(group)
        return group

    def _discard_if_done(self, group: LiveGroup) -> None:
        settings = group.settings
        if group.members or settings.is_static or (settings.allow_empty and not group.is_expired):
            return
        if self._groups.pop(group.id, None) is None:
            return
        if group.ttl_alarm is not None:
            group.ttl_alarm.cancel()
        self._hub.close_channel(group.channel)
        # The last one takes the place of the one that goes, so that a random pick stays one look into a list.
        last = self._joinable.pop()
        if last is not group:
            self._joinable[group.random_index] = last
            last.random_index = group.random_index
        self._discarded(group)

    def pick_joinable(self, session: ISession) -> LiveGroup | None:
        """A random group that is not static and that `session` is not in; None when there is none."""
        user_id = session.user.user_id
        count = len(self._joinable)
        if not count:
            return None
        for _ in range(min(RANDOM_PICKS, count)):
            group = self._joinable[self._random_below(count)]
            if user_id not in group.members:
                return group
        start = self._random_below(count)
        for offset in range(min(MAX_SCANNED, count)):
            group = self._joinable[(start + offset) % count]
            if user_id not in group.members:
                return group
        return None


def _nobody(_: LiveGroup) -> None:
    """Nobody asked to know."""
