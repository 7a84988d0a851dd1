"""What goes wrong at the relay client beside `meshrelay.relay.errors`: no way to a server, deadlines, limits."""

from __future__ import annotations

from meshrelay.relay.errors import RelayError

__all__ = [
    "AlreadyServing",
    "DeadlinePassed",
    "NoRelayServer",
    "NoRelayTransport",
    "RelayConnectFailed",
    "SendQueueFull",
    "StreamBroken",
    "TooManyRelays",
    "TooManyWaiting",
]


class RelayConnectFailed(RelayError):
    """No connection to a relay came about; another try may work.

    :ivar url: as it was configured.
    :ivar detail: what went wrong, each transport's word in the order in which they were tried.
    """

    def __init__(self, url: str, detail: str) -> None:
        self.url = url
        self.detail = detail
        super().__init__(f"cannot connect to {url}: {detail}")


class NoRelayTransport(RelayConnectFailed):
    """The options leave no transport to try."""

    def __init__(self, url: str, detail: str = "no relay transport available") -> None:
        super().__init__(url, detail)


class NoRelayServer(RelayError):
    """No server of the list let this client in, or the list is empty.

    :ivar detail: each server's word.
    """

    def __init__(self, detail: str = "") -> None:
        self.detail = detail
        super().__init__(f"no relay server available: {detail}" if detail else "no relay server available")


class AlreadyServing(RelayError):
    """`RelayManager.serve` was called a second time."""

    def __init__(self) -> None:
        super().__init__("manager already serving")


class DeadlinePassed(RelayError, TimeoutError):
    """A read or a write of a connection was not done by its deadline; nothing was read, nothing sent."""

    def __init__(self) -> None:
        super().__init__("deadline passed")


class SendQueueFull(RelayError):
    """The server does not read as fast as is written; nothing was sent.

    :ivar unsent_bytes: what waits.
    """

    def __init__(self, unsent_bytes: int, limit_bytes: int) -> None:
        self.unsent_bytes = unsent_bytes
        self.limit_bytes = limit_bytes
        super().__init__(f"{unsent_bytes} bytes wait to be sent to the relay, max_unsent_bytes is {limit_bytes}")


class StreamBroken(RelayError):
    """A stream of bytes over a relay ended before both ends had finished."""


class TooManyWaiting(RelayError):
    """More reads or writes of one connection wait than may; the program's own doing, nothing was sent.

    :ivar limit: how many may.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"{limit} calls wait already")


class TooManyRelays(RelayError):
    """The manager has as many foreign relays as it may have.

    :ivar limit: how many.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"there are {limit} foreign relays already")
