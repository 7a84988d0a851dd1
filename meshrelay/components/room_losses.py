"""What the members of a room are told when one of them was lost: ROOM_LOST with the application's message, or none.

The callback never holds up the room: what it makes later is pushed later, and if it fails the push is without it.
"""

from __future__ import annotations

from inspect import isawaitable

from twisted.logger import Logger

from meshrelay.background import start
from meshrelay.components.room_table import LiveRoom
from meshrelay.interfaces import MessageMaker
from meshrelay.wire.commands import BUILT_IN_VER, Command, encode_pushed_message
from meshrelay.wire.frame import encode_push

__all__ = ["RoomLosses"]


class RoomLosses:
    """See the module.

    :param max_message_bytes: a longer message of the callback is logged and left out.
    """

    _log = Logger()

    def __init__(self, max_message_bytes: int) -> None:
        self._max_message_bytes = max_message_bytes
        self._make: MessageMaker | None = None

    def on_discard_message(self, make: MessageMaker) -> None:
        """See `IRooms`."""
        self._make = make

    def tell(self, room: LiveRoom, user_id: str, sid: str) -> None:
        """Push to all members that a user who was one is lost."""
        message: object = None
        if self._make is not None:
            try:
                message = self._make(room.id, user_id, sid)
            except Exception:  # noqa: BLE001 - the application's bug must not keep the members from knowing
                self._log.failure("the ROOM_LOST callback failed")
        if isawaitable(message):
            start(self._tell_later(message, room, user_id), self._log, "the ROOM_LOST callback")
        else:
            self._push(room, user_id, message)

    async def _tell_later(self, waiting: object, room: LiveRoom, user_id: str) -> None:
        message = None
        try:
            message = await waiting  # type: ignore[misc]
        finally:
            # A user who is in again by now would be taken for gone.
            if not room.is_gone and user_id not in room.members:
                self._push(room, user_id, message)

    def _push(self, room: LiveRoom, user_id: str, message: object) -> None:
        made = message if isinstance(message, bytes) else b""
        if (message is not None and not isinstance(message, bytes)) or len(made) > self._max_message_bytes:
            limit = self._max_message_bytes
            self._log.error("the ROOM_LOST callback must return at most {limit} bytes", limit=limit)
            made = b""
        body = encode_pushed_message(room.id, user_id, made)
        room.outlet.publish(encode_push(BUILT_IN_VER, Command.ROOM_LOST, body), None, True)
