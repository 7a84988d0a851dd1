"""Direct messages, for the application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from zope.interface import Interface

from meshrelay.interfaces.callbacks import MessageCallback, ReceiveCallback
from meshrelay.model import User

__all__ = ["IDirectMessages"]


class IDirectMessages(Interface):
    """Messages from one user to another, wherever in the cluster the two are (seed 002).

    Callbacks may be coroutine functions; they have lookup_timeout_seconds. One that raises, or takes longer, is logged,
    and the sender is told InternalError or ReliableTimeout.
    """

    async def send_direct(user: User | None, peer_id: str, ver: int, cmd: int, message: bytes) -> None:
        """Push `message` under (ver, cmd) to `peer_id`, reliably. It returns when the peer's node has taken it.

        Messages of one sender to one peer arrive in the order in which they were sent.

        :param user: the sender; None = the server, whose ID the callbacks see as "".
        :raises DirectMessageError: MessageIsEmpty, UserNotFound, NodesNotFound, UserDeclined, ReliableTimeout (it may
            have been delivered).
        :raises MessageTooLarge: `message` is over max_payload_bytes.
        :raises ValueError: ver is 0, which is the node's own.
        """

    async def clear_cache(user: User, peer_id: str, ver: int, cmd: int, message: bytes) -> None:
        """Forget the way between two users, if there is one, and push `message` to the peer unless it is empty.

        :raises MessageTooLarge: `message` is over max_payload_bytes.
        """

    def expose_commands() -> None:
        """Let clients use the commands; once."""

    def on_receive(callback: ReceiveCallback) -> None:
        """Ask `callback` whether a message may be delivered; False declines. All are asked, in order."""

    def on_message(callback: MessageCallback) -> None:
        """Let `callback` change a message before it is delivered: each gets what the one before made of it.

        None changes nothing. When empty bytes are left in the end nothing is delivered, and the sender is told OK.
        """

    def on_clear_cache(callback: Callable[[str, User], object]) -> None:
        """Call ``callback(cleared_user_id, user)`` for the `user` who stayed, unless a last message told it."""

    def on_user_disconnect(callback: Callable[[User, str], Awaitable[bytes | None] | bytes | None]) -> None:
        """Push what ``callback(user, peer_id)`` makes to each peer of a user whose session is over; empty = nothing.

        For a user whose node died, `user` has the ID and the sid only.
        """
