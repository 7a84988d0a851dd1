"""Groups and their members: the state behind the group component, without commands or callbacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from meshrelay.background import Alarm, Alarms
from meshrelay.components.group_log import GroupLog
from meshrelay.components.group_spread import Holder, Spread
from meshrelay.components.group_watch import PresenceWatch
from meshrelay.components.place_ids import home_key, new_place_id, node_key
from meshrelay.config.schema import MIN_INTERVAL_MS, GroupConfig
from meshrelay.errors import AlreadyMember, GroupNotFound, NotMember, NotSignedIn, TooManyGroups
from meshrelay.fanout.hub import Channel, Hub
from meshrelay.interfaces import ISession
from meshrelay.model import Group, Member
from meshrelay.wire.group_node import EntryType

__all__ = [
    "GroupMaker",
    "GroupTable",
    "GroupTableLimits",
    "LiveGroup",
    "MIN_TTL_SECONDS",
    "NewGroupSettings",
    "merging_interval_ms",
]

#: A lifetime must be greater (seed 001, NewGroup).
MIN_TTL_SECONDS = 10

#: Random picks among the joinable groups before all of them are looked at.
RANDOM_PICKS = 16

_NO_HOLDERS: Mapping[str, Holder] = MappingProxyType({})

#: Groups looked at one by one when the random picks found only groups that the user is in.
MAX_SCANNED = 4096


def merging_interval_ms(interval_ms: int) -> int:
    """The merging interval that is used: below 100 ms there is none (seed 001, NewGroup)."""
    return interval_ms if interval_ms >= MIN_INTERVAL_MS else 0


class GroupTableLimits(NamedTuple):
    """Bounds of the table."""

    #: On this node, static groups apart.
    max_groups: int
    #: Groups that one user is a member of.
    max_groups_per_user: int
    #: Merging interval of groups whose home is another node; 0 = none.
    replica_interval_ms: int = 0

    @classmethod
    def of(cls, group: GroupConfig) -> GroupTableLimits:
        """Return what [group] of the configuration says."""
        return cls(group.max_groups, group.max_groups_per_user, group.send_interval_ms)


class NewGroupSettings(NamedTuple):
    """How a group is made."""

    allow_empty: bool
    is_static: bool
    #: From creation; an empty group with `allow_empty` is discarded then. 0 for a static group.
    ttl_seconds: int
    #: As `merging_interval_ms` gives it.
    interval_ms: int


#: See `LiveGroup`.
Tap: TypeAlias = "Callable[[LiveGroup, bytes, ISession | None, int], object]"


class LiveGroup:
    """One group. Invariant: `members` and the subscribers of `channel` are the same, in join order."""

    __slots__ = (
        "channel",
        "created_at",
        "id",
        "is_expired",
        "is_replica",
        "log",
        "members",
        "pins",
        "random_index",
        "settings",
        "spread",
        "tap",
        "ttl_alarm",
        "watch",
        "wire_id",
    )

    #: How much longer a push may become than that of a GROUP_BROADCAST.
    extra_bytes = 0

    def __init__(
        self, group_id: str, settings: NewGroupSettings, channel: Channel, is_replica: bool, created_at: float
    ) -> None:
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
        #: The home of the group is another node; this one holds it only as long as it has members here.
        self.is_replica = is_replica
        #: By the clock of this node, also where it was made on another.
        self.created_at = created_at
        #: The other nodes that hold it; None = nobody ever asked.
        self.spread: Spread | None = None
        #: It is not discarded while somebody is about to come in.
        self.pins = 0
        #: The history of the group; None = it has none.
        self.log: GroupLog | None = None
        #: Who wants to know who comes and goes; None = nobody ever did.
        self.watch: PresenceWatch | None = None
        #: ``tap(group, frames, sender, count)`` is told what is published on this node; None = nobody wants to know.
        self.tap: Tap | None = None

    @property
    def holders(self) -> Mapping[str, Holder]:
        """The other nodes that hold it, by ID; those that are lost for the moment as well."""
        return self.spread.holders if self.spread is not None else _NO_HOLDERS

    @property
    def node_count(self) -> int:
        """How many nodes hold it."""
        return 1 + len(self.holders)

    @property
    def member_count(self) -> int:
        """How many members it has, on all nodes that hold it."""
        return len(self.members) + sum(len(holder.members) for holder in self.holders.values())

    def publish(self, frame: bytes, sender: ISession | None, reliable: bool, count: int = 1) -> None:
        """Push `frame`, or `count` joined ones, to all members but `sender`, wherever they are."""
        self.channel.publish(frame, sender, reliable, count)
        if self.spread is not None:
            self.spread.publish(frame, reliable)
        if self.tap is not None:
            self.tap(self, frame, sender, count)

    def say(self, entry_type: EntryType, session: ISession) -> None:
        """Tell the other holders what happened to a member of this node."""
        if self.spread is not None:
            self.spread.say(entry_type, session.user.user_id, session.user.sid)

    def leave_pushes(self, session: ISession) -> None:
        """A member goes on at another node, or is none any more: nothing is pushed to it from here."""
        if self.log is not None:
            self.log.pushes.leave(session)
        if self.watch is not None:
            self.watch.remove(session)

    def touch(self, user_id: str) -> None:
        """Something may have become of a user here or elsewhere: who watches finds out what."""
        if self.watch is not None:
            self.watch.touch(user_id)

    def snapshot(self, endpoint_of: Callable[[str], str], node_id: str) -> Group:
        """What the application sees.

        :param endpoint_of: node ID -> mesh endpoint.
        :param node_id: of this node.
        """
        settings = self.settings
        own_endpoint = endpoint_of(node_id)
        members = [Member(user_id, session.user.sid, own_endpoint) for user_id, session in self.members.items()]
        remote_nodes = []
        for holder in self.holders.values():
            endpoint = endpoint_of(holder.node_id)
            remote_nodes.append(endpoint)
            members += [Member(user_id, member.sid, endpoint) for user_id, member in holder.members.items()]
        return Group(
            self.id,
            settings.allow_empty,
            settings.is_static,
            settings.ttl_seconds,
            settings.interval_ms,
            tuple(remote_nodes),
            tuple(members),
        )


#: ``make(group_id, settings, channel, is_replica, created_at)`` -> a group.
GroupMaker: TypeAlias = Callable[[str, NewGroupSettings, Channel, bool, float], LiveGroup]


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
        make_group: GroupMaker = LiveGroup,
    ) -> None:
        self._node_key = node_key(node_id)
        self._limits = limits
        self._hub = hub
        self._alarms = alarms
        self._random_bytes = random_bytes
        self._random_below = random_below
        self._make_group = make_group
        self._groups: dict[str, LiveGroup] = {}
        self._static_count = 0
        self._groups_of: dict[ISession, dict[str, LiveGroup]] = {}
        self._joinable: list[LiveGroup] = []
        self._made: list[Callable[[LiveGroup], object]] = []
        self._discarded: list[Callable[[LiveGroup], object]] = []
        self._joined: list[Callable[[LiveGroup, ISession], object]] = []

    def __len__(self) -> int:
        return len(self._groups)

    def __iter__(self) -> Iterator[LiveGroup]:
        return iter(list(self._groups.values()))

    @property
    def member_count(self) -> int:
        """Memberships in all groups."""
        return sum(len(groups) for groups in self._groups_of.values())

    def when_made(self, callback: Callable[[LiveGroup], object]) -> None:
        """Call `callback` with each group that is new here."""
        self._made.append(callback)

    def when_discarded(self, callback: Callable[[LiveGroup], object]) -> None:
        """Call `callback` with each group that is gone from here."""
        self._discarded.append(callback)

    def when_joined(self, callback: Callable[[LiveGroup, ISession], object]) -> None:
        """Call ``callback(group, session)`` with each member that is new on this node."""
        self._joined.append(callback)

    def find(self, group_id: str) -> LiveGroup | None:
        """The group of this ID."""
        return self._groups.get(group_id)

    def groups_of(self, session: ISession) -> list[LiveGroup]:
        """The groups of this member, newest last."""
        return list(self._groups_of.get(session, {}).values())

    def new_group_id(self) -> str:
        """52 characters that name this node and cannot be guessed."""
        return new_place_id(self._node_key, self._random_bytes)

    def static_groups(self) -> list[LiveGroup]:
        """The groups that exist from start to stop; they come first in the table."""
        return list(islice(self._groups.values(), self._static_count))

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

    def create(
        self, group_id: str, settings: NewGroupSettings, is_replica: bool = False, age_seconds: float = 0.0
    ) -> LiveGroup:
        """Add an empty group. The caller has called `check_room`, and adds a member unless it may be empty.

        :param is_replica: its home is another node.
        :param age_seconds: since it was made, where that was on another node.
        """
        interval_ms = self._limits.replica_interval_ms if is_replica else settings.interval_ms
        channel = self._hub.open_channel(interval_ms / 1000)
        group = self._make_group(group_id, settings, channel, is_replica, self._alarms.now() - age_seconds)
        self._groups[group_id] = group
        if settings.is_static:
            self._static_count += 1
        else:
            group.random_index = len(self._joinable)
            self._joinable.append(group)
            if settings.allow_empty:
                remaining = max(0.0, settings.ttl_seconds - age_seconds)
                group.ttl_alarm = self._alarms.call_later(remaining, lambda: self._expire(group))
        for made in self._made:
            made(group)
        return group

    def is_home(self, group_id: str) -> bool:
        """Whether this node made the group of this ID, or an earlier life of it did."""
        return home_key(group_id) == self._node_key

    def age_of(self, group: LiveGroup) -> float:
        """Seconds since the group was made, on whatever node."""
        return self._alarms.now() - group.created_at

    def _expire(self, group: LiveGroup) -> None:
        group.is_expired = True
        self.settle(group)

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
        self.forget_moved(group, session.user.user_id)
        group.channel.subscribe(session)
        group.members[session.user.user_id] = session
        self._groups_of.setdefault(session, {})[group_id] = group
        if group.log is not None:
            group.log.pushes.join(session)
        group.say(EntryType.JOINED, session)
        group.touch(session.user.user_id)
        for joined in self._joined:
            joined(group, session)
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
        group.leave_pushes(session)
        del group.members[session.user.user_id]
        groups = self._groups_of[session]
        del groups[group_id]
        if not groups:
            del self._groups_of[session]
        group.say(EntryType.LEFT, session)
        group.touch(session.user.user_id)
        return group

    def forget_moved(self, group: LiveGroup, user_id: str) -> None:
        """A user is a member at another node, or anew at this one: a session that moved away is none any more.

        The group is not discarded by this; call `settle` behind it.
        """
        session = group.members.get(user_id)
        if session is not None and session.is_over:
            self.remove(group.id, session)

    def settle(self, group: LiveGroup) -> None:
        """Discard the group if nobody needs it here any more. Called behind each change that may have that effect."""
        settings = group.settings
        if group.members or group.pins or settings.is_static:
            return
        if not group.is_replica:
            # The home is where others look for it, as long as anybody holds it.
            if group.holders:
                return
            if settings.allow_empty and not group.is_expired:
                return
        if self._groups.pop(group.id, None) is None:
            return
        if group.ttl_alarm is not None:
            group.ttl_alarm.cancel()
        if group.log is not None:
            group.log.stop()
        if group.watch is not None:
            group.watch.close()
        self._hub.close_channel(group.channel)
        # The last one takes the place of the one that goes, so that a random pick stays one look into a list.
        last = self._joinable.pop()
        if last is not group:
            self._joinable[group.random_index] = last
            last.random_index = group.random_index
        for discarded in self._discarded:
            discarded(group)

    def pick_joinable(self, user_id: str) -> LiveGroup | None:
        """A random group that is not static and that the user is not in here; None when there is none."""
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
