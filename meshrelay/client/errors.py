"""What can go wrong at the client's end. What the node refuses comes as the classes of `meshrelay.errors`.

Everything here that is a `DeliveryError` may be tried again once the client is connected; whether the node acted upon
the request before the break is not known.
"""

from __future__ import annotations

from typing import Any

from meshrelay.errors import (
    CommandError,
    DeliveryError,
    ErrorCode,
    MeshRelayError,
    NodeDraining,
    NodeOffline,
    RateLimited,
    TimedOut,
)
from meshrelay.model import Status

__all__ = [
    "ConnectFailed",
    "ConnectionLost",
    "NotConnected",
    "SignInRefused",
    "TooManyPending",
    "UnsentFull",
    "command_error",
]


class NotConnected(DeliveryError):
    """There is no signed-in connection at this moment; nothing was sent."""

    def __init__(self, text: str = "not connected") -> None:
        super().__init__(text)


class ConnectionLost(DeliveryError):
    """The connection ended while the request was on its way. The node may or may not have acted upon it.

    :param close_code: what the node gave as its reason; None when it gave none.
    """

    def __init__(self, close_code: int | None, text: str) -> None:
        self.close_code = close_code
        super().__init__(f"connection lost: {text}" if close_code is None else f"connection lost: {close_code} {text}")


class TooManyPending(DeliveryError):
    """As many requests as `max_pending_requests` allows wait for their answers; nothing was sent."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"{limit} requests are waiting for their answers (max_pending_requests)")


class UnsentFull(DeliveryError):
    """The node does not read as fast as this program sends; nothing was sent. Wait for `Client.when_drained`.

    :param unsent_bytes: what waits to be sent.
    """

    def __init__(self, unsent_bytes: int, limit_bytes: int) -> None:
        self.unsent_bytes = unsent_bytes
        self.limit_bytes = limit_bytes
        super().__init__(f"{unsent_bytes} bytes wait to be sent, max_unsent_bytes is {limit_bytes}")


class ConnectFailed(MeshRelayError):
    """No node could be reached at the address, or it did not speak as it should.

    :param url: where the node was looked for.
    :param detail: one line for people.
    """

    def __init__(self, url: str, detail: str) -> None:
        self.url = url
        self.detail = detail
        super().__init__(f"cannot connect to {url}: {detail}")


class SignInRefused(ConnectFailed):
    """The node was reached and does not take this user or token.

    :param close_code: 4000 to 4499 = try again later, 4500 to 4999 = do not. None: the node answered with an error.
    """

    def __init__(self, url: str, close_code: int | None, text: str) -> None:
        self.close_code = close_code
        super().__init__(url, text if close_code is None else f"{close_code} {text}")


#: Refusals that say nothing about what was asked: it may be taken in a moment.
PASSING = (TimedOut, RateLimited, NodeDraining, NodeOffline, TooManyPending, UnsentFull)


def _classes_by_code() -> dict[int, type[CommandError]]:
    found: dict[int, type[CommandError]] = {}
    waiting: list[type[CommandError]] = [CommandError]
    while waiting:
        error_class = waiting.pop()
        # A class that inherits its code only refines another one; on the wire they are the same.
        if "code" in vars(error_class) and error_class is not CommandError:
            found[error_class.code.value] = error_class
        waiting.extend(error_class.__subclasses__())
    return found


_CLASSES = _classes_by_code()
_CODES: dict[int, Any] = {code.value: code for code in ErrorCode}


def command_error(status: int, code: int, text: str) -> CommandError:
    """Return the error that a BAD or ERROR response stands for.

    :param code: what the node sent; a code of a newer node gives a plain CommandError that carries it in `code`.
    """
    error_class = _CLASSES.get(code, CommandError)
    # Not by the constructor: those build their texts from numbers that only the node has.
    error = error_class.__new__(error_class)
    CommandError.__init__(error, text)
    if error_class is CommandError:
        # A number of a newer node is no member of the enum, and programs still want to compare it.
        error.code = _CODES.get(code, code)
    if status in (Status.BAD, Status.ERROR):
        error.status = Status(status)
    return error
