"""Groups, for the application."""

from __future__ import annotations

from collections.abc import Callable

from zope.interface import Interface

from meshrelay.interfaces.callbacks import Hook, MessageMaker
from meshrelay.model import Group, HistoryPage, Presence, User

__all__ = ["IGroups"]


class IGroups(Interface):
    """Groups (seed 001). The methods of clients and of the application are the same.

    Hooks must be registered before `expose_commands`; later is a RuntimeError.
    """

    def create_group(user: User | None, allow_empty: bool, join: bool, ttl_seconds: int, interval_ms: int) -> str:
        """Make a group and return its ID of 52 characters.

        :param user: the first member if `join`; None for a group that the application makes.
        :param ttl_seconds: > 10; an empty group with `allow_empty` lives until this much after its creation.
        :param interval_ms: merging interval; below 100 means 0, no merging.
        :raises GroupNewError: InvalidTTL, EmptyAndNotJoined (the caller's fault), NodeOffline, TooManyGroups.
        :raises NotSignedIn: `user` is to join and is not on this node.
        """

    async def join_group(group_id: str, user: User, ver: int, cmd: int, message: bytes) -> None:
        """Join, and push `message` to the others under (ver, cmd) unless it is empty.

        :raises GroupJoinError: AlreadyMember, GroupNotFound, TooManyGroups, RemoteTimeout.
        :raises NotSignedIn: `user` is not on this node.
        :raises MessageTooLarge: `message` is over max_payload_bytes.
        """

    async def leave_group(group_id: str, user: User, ver: int, cmd: int, message: bytes) -> None:
        """Leave, and push `message` to those who stay under (ver, cmd) unless it is empty.

        :raises GroupLeaveError: NotMember, GroupNotFound.
        :raises NotSignedIn: `user` is not on this node.
        :raises MessageTooLarge: `message` is over max_payload_bytes.
        """

    def broadcast(group_id: str, sender: User, ver: int, cmd: int, message: bytes, reliable: bool) -> None:
        """Push `message` to all members but `sender`. A group that is gone is passed over in silence.

        :raises MessageTooLarge: `message` is over max_payload_bytes.
        :raises ValueError: ver is 0, which is the node's own.
        """

    def announce(group_id: str, ver: int, cmd: int, message: bytes, reliable: bool) -> None:
        """Push `message` to all members; otherwise like `broadcast`. Clients cannot reach it."""

    def expose_commands() -> None:
        """Let clients use the group commands. A second call is a RuntimeError."""

    def before_create(hook: Hook) -> None:
        """Run `hook` before GROUP_CREATE."""

    def after_create(hook: Hook) -> None:
        """Run `hook` after GROUP_CREATE."""

    def before_join(hook: Hook) -> None:
        """Run `hook` before GROUP_JOIN, and before a GROUP_JOIN_RANDOM joins."""

    def after_join(hook: Hook) -> None:
        """Run `hook` after GROUP_JOIN."""

    def before_leave(hook: Hook) -> None:
        """Run `hook` before GROUP_LEAVE."""

    def after_leave(hook: Hook) -> None:
        """Run `hook` after GROUP_LEAVE."""

    def before_broadcast(hook: Hook) -> None:
        """Run `hook` before GROUP_BROADCAST."""

    def after_broadcast(hook: Hook) -> None:
        """Run `hook` after GROUP_BROADCAST."""

    def group_ids(user: User) -> list[str]:
        """IDs of the groups of `user`, newest last."""

    def latest_group_id(user: User) -> str | None:
        """The group that `user` joined or created last; None without any."""

    def member_nodes(group_id: str) -> list[str]:
        """Mesh endpoints of the nodes that hold the group; empty without the group."""

    def get_group(group_id: str) -> Group | None:
        """A snapshot of the group."""

    async def history(group_id: str, after: int, limit: int) -> HistoryPage:
        """Messages that are kept of a group, see ``group.history`` of the configuration.

        :param after: offset; what follows it is returned, or what is left of that.
        :param limit: messages, at most 1,000 come and 256 KiB; 0 = only where the history is.
        :raises GroupNotFound: this node does not hold the group.
        :raises TimedOut: where the history is kept is away.
        """

    def presence(group_id: str, after: str, limit: int) -> Presence:
        """Who is in a group, in the whole cluster; of more than ``presence_max_members`` just how many.

        :param after: user ID; members behind it are returned, in the order of their IDs. "" = from the first one on.
        :raises GroupNotFound: this node does not hold the group.
        """

    def on_discard_message(make: MessageMaker) -> None:
        """Make what the others are pushed as GROUP_LOST when a member was lost without leaving; empty = nothing.

        If neither this nor `on_rejoin_message` is called, groups of up to 256 members are pushed both, empty.
        """

    def on_rejoin_message(make: MessageMaker) -> None:
        """Make what the others are pushed as GROUP_BACK when a lost member is back."""

    def on_tick(group_id: str, callback: Callable[[str], object], interval_seconds: float) -> None:
        """Call ``callback(group_id)`` each `interval_seconds`, checked every 2 seconds, while the group exists.

        What it raises is logged and it is called again next time.

        :raises GroupNotFound: no such group.
        """
