"""P2P links, for the application."""

from __future__ import annotations

from collections.abc import Iterable

from zope.interface import Interface

from meshrelay.interfaces.callbacks import Hook
from meshrelay.model import LinkPair, User

__all__ = ["IPeerLinks"]


class IPeerLinks(Interface):
    """Members of a room are told each other's addresses and keys, and speak to each other without the node (seed 000).

    A start cuts the members into link groups; those of one group may then speak to each other, directly or, where no
    hole could be punched, through the node. A room may live on another node, so what asks it is a coroutine, and raises
    RoomTimeout after five seconds. Hooks must be registered before `expose_commands`; later is a RuntimeError.
    """

    async def create_link_groups(room_id: str, max_link_members: int) -> tuple[list[list[User]], list[list[str]]]:
        """Sort the members by latency and cut them into groups; nobody is told.

        Who was not measured yet comes last, in join order. The second list has the user IDs of the first one.

        :param max_link_members: of one group, 2 to ``[link] max_link_members``; 0 = that many.
        :raises LinkGroupSizeInvalid: it is another number.
        :raises RoomNotFound:
        :raises RoomTimeout:
        """

    async def create_sync_bytes(room_id: str, users: Iterable[User]) -> bytes:
        """Make the sync bytes of a link group: new keys, and where each user is, in this order.

        Nobody is told, so the node forwards no packets between these users: that needs `start_links`.

        :raises NotInRoom: one of the users is not in the room; nobody is introduced outside of one.
        :raises MessageTooLarge: they are over max_payload_bytes even without local addresses.
        :raises RoomNotFound:
        :raises RoomTimeout:
        """

    async def start_links(ver: int, cmd: int, payload: bytes, user: User) -> None:
        """Start links for all members of a room, as LINK_START does.

        Each is pushed the sync bytes of its group under (ver, cmd), reliably; also who has no UDP address, whom the
        others reach through the node. What was started before in the room is over.

        :param payload: room ID, and one byte, the group size as in `create_link_groups`.
        :param user: a member, of this node.
        :raises CommandError: MalformedPayload, NotSignedIn, NotInRoom, RoomNotFound, RoomTimeout, LinkGroupSizeInvalid,
            NotEnoughMembers (fewer than two have a UDP address), MessageTooLarge, or RateLimited (too many starts in
            this room). Its `answer` has the bytes that the client is answered.
        :raises ValueError: ver is 0, which is the node's own.
        """

    def relay_link_message(room_id: str, ver: int, cmd: int, message: bytes, user: User, reliable: bool) -> bool:
        """Push `message` to one member of each link group, which is to pass it on in its group.

        That is the one whose latency was the lowest when links were started, of those who are still in the room. None
        of the group of `user`, of this node, is sent it: there `user` passes it on.

        :returns: False: it was sent to nobody. No links were started, `user` is in none of the groups, or there is no
            other group. Where the room lives on another node, True says that it is on its way there.
        :raises MessageTooLarge: `message` is over max_payload_bytes.
        :raises ValueError: ver is 0, which is the node's own.
        """

    async def link_pairs(room_id: str) -> tuple[int, list[LinkPair]]:
        """How the members of each link group reach each other, as they say, and why not directly.

        :returns: how many pairs there are, and the first 1,000 of them.
        :raises RoomNotFound:
        :raises RoomTimeout:
        """

    def expose_commands() -> None:
        """Let clients use the link commands. A second call is a RuntimeError."""

    def before_start(hook: Hook) -> None:
        """Run `hook` before LINK_START."""

    def after_start(hook: Hook) -> None:
        """Run `hook` after LINK_START."""
