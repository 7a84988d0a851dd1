"""What an application registers, as types."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from meshrelay.model import User

__all__ = ["CommandHandler", "Hook", "MessageCallback", "MessageMaker", "ReceiveCallback"]

#: ``callback(ver, cmd, payload, user)``; may be a coroutine function. Raising refuses the command.
Hook: TypeAlias = Callable[[int, int, bytes, User], "Awaitable[object] | object"]

#: ``handler(ver, cmd, payload, user)`` -> payload of the OK response, None = empty; may be a coroutine function.
CommandHandler: TypeAlias = Callable[[int, int, bytes, User], "Awaitable[bytes | None] | bytes | None"]

#: ``make(group_id, user_id, sid)`` -> message, None or empty = none; may be a coroutine function.
MessageMaker: TypeAlias = Callable[[str, str, str], "Awaitable[bytes | None] | bytes | None"]

#: ``callback(ver, cmd, message, sender_id, receiver)`` -> False declines; may be a coroutine function.
ReceiveCallback: TypeAlias = Callable[[int, int, bytes, str, User], "Awaitable[bool] | bool"]

#: ``callback(ver, cmd, message, sender_id, receiver)`` -> the message instead, None = as it is; likewise.
MessageCallback: TypeAlias = Callable[[int, int, bytes, str, User], "Awaitable[bytes | None] | bytes | None"]
