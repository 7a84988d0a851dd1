"""Rooms, for the application."""

from __future__ import annotations

from collections.abc import Iterable

from zope.interface import Interface

from meshrelay.interfaces.callbacks import Hook, MessageMaker
from meshrelay.model import Room, User

__all__ = ["IRooms"]


class IRooms(Interface):
    """Rooms: like groups, but bounded, with an owner, and with one order of all that is sent for all members.

    A room lives on the node that made it, its home; every method works on every node. The owner is the first member;
    when it goes the next one in join order is the owner, and all are pushed ROOM_OWNER. A member whose connection
    breaks stays one in silence for as long as its session can be resumed.

    Whatever waits for the home raises RoomTimeout after five seconds, or at once while the home is lost; it may have
    been done all the same. RoomNotFound also means that the home died. What waits for nothing (`broadcast` and its
    like) passes over a room that is gone. Hooks must be registered before `expose_commands`; later is a RuntimeError.
    """

    def create_room(
        user: User | None, max_members: int, allow_empty: bool, join: bool, ttl_seconds: int, interval_ms: int
    ) -> str:
        """Make a room on this node and return its ID of 52 characters.

        :param user: the first member if `join`; None for a room that the application makes.
        :param max_members: 1 to ``[room] max_members``; 0 = that many.
        :param ttl_seconds: > 10; an empty room with `allow_empty` lives until this much after its creation.
        :param interval_ms: merging interval; below 100 means 0, no merging.
        :raises RoomNewError: InvalidTTL, EmptyAndNotJoined (the caller's fault), NodeOffline, TooManyRooms.
        :raises MalformedPayload: `max_members` is more than the configuration allows.
        :raises NotSignedIn: `user` is to join and is not on this node.
        """

    async def join_room(room_id: str, user: User, ver: int, cmd: int, message: bytes) -> str:
        """Join, and push `message` to the others under (ver, cmd) unless it is empty. Returns the owner's user ID.

        :raises RoomJoinError: AlreadyMember, RoomFull, RoomNotFound, TooManyRooms, RoomTimeout.
        :raises NotSignedIn: `user` is not on this node.
        :raises MessageTooLarge: `message` is over max_payload_bytes.
        """

    async def leave_room(room_id: str, user: User, ver: int, cmd: int, message: bytes) -> None:
        """Leave, and push `message` to those who stay under (ver, cmd) unless it is empty.

        :raises RoomLeaveError: NotInRoom, RoomNotFound, RoomTimeout.
        :raises NotSignedIn: `user` is not on this node.
        :raises MessageTooLarge: `message` is over max_payload_bytes.
        """

    def broadcast(room_id: str, sender: User, ver: int, cmd: int, message: bytes, reliable: bool) -> None:
        """Push `message` to all members but `sender`, who must be one of them; if not, nothing happens.

        :raises MessageTooLarge: `message` is over max_payload_bytes.
        :raises ValueError: ver is 0, which is the node's own.
        """

    def send_to(room_id: str, user_ids: Iterable[str], ver: int, cmd: int, message: bytes, reliable: bool) -> None:
        """Push `message` to these members, wherever they are; who is none is passed over. In order with broadcasts.

        :param user_ids: 1 to 65,535 of them.
        :raises MessageTooLarge: `message` is over max_payload_bytes, or the IDs are over 128 KiB.
        :raises ValueError: ver is 0, which is the node's own.
        """

    def announce(room_id: str, ver: int, cmd: int, message: bytes, reliable: bool) -> None:
        """Push `message` to all members; otherwise like `broadcast`. Clients cannot reach it."""

    async def members(room_id: str) -> list[str]:
        """User IDs of the members in join order; the first is the owner.

        :raises RoomLeaveError: RoomNotFound, RoomTimeout.
        """

    async def owner(room_id: str) -> str | None:
        """User ID of the owner; None: the room is empty. Raises as `members` does."""

    async def get_room(room_id: str) -> Room:
        """A snapshot of the room, with the node and the facts of each member. Raises as `members` does."""

    async def close_room(room_id: str) -> None:
        """End the room; each member is pushed ROOM_LOST with its own user ID. Raises as `members` does."""

    def room_ids(user: User) -> list[str]:
        """IDs of the rooms that `user`, of this node, is in; newest last."""

    def set_member_facts(room_id: str, user: User, facts: bytes) -> None:
        """Keep `facts` beside the member until the next call; they are opaque, and part of `get_room` everywhere.

        Nothing happens when `user` is not in the room on this node. A member's facts move to other nodes with it.

        :param facts: at most 512 bytes.
        :raises MessageTooLarge: they are more.
        """

    def expose_commands() -> None:
        """Let clients use the room commands. A second call is a RuntimeError."""

    def before_create(hook: Hook) -> None:
        """Run `hook` before ROOM_CREATE."""

    def after_create(hook: Hook) -> None:
        """Run `hook` after ROOM_CREATE."""

    def before_join(hook: Hook) -> None:
        """Run `hook` before ROOM_JOIN."""

    def after_join(hook: Hook) -> None:
        """Run `hook` after ROOM_JOIN."""

    def before_leave(hook: Hook) -> None:
        """Run `hook` before ROOM_LEAVE."""

    def after_leave(hook: Hook) -> None:
        """Run `hook` after ROOM_LEAVE."""

    def before_broadcast(hook: Hook) -> None:
        """Run `hook` before ROOM_BROADCAST."""

    def after_broadcast(hook: Hook) -> None:
        """Run `hook` after ROOM_BROADCAST."""

    def on_discard_message(make: MessageMaker) -> None:
        """Make what the others are pushed as ROOM_LOST when a member was lost without leaving; None = empty.

        Called at the home of the room. One that takes its time holds up nobody; its push comes when it is made.
        """
