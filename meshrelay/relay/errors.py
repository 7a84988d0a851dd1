"""What goes wrong at the relay: the errors that users of the client see, and why connections end."""

from __future__ import annotations

from enum import Enum

from meshrelay.errors import MeshRelayError

__all__ = [
    "ConnAlreadyExists",
    "ConnClosed",
    "OpenCancelled",
    "OpenTimedOut",
    "PayloadTooLarge",
    "RelayClientNotConnected",
    "RelayEnd",
    "RelayError",
]


class RelayEnd(Enum):
    """Why a connection between a client and a server ended; the value is a metric label."""

    #: The other end sent what ends a connection.
    BAD_MESSAGE = "bad_message"
    BAD_TOKEN = "bad_token"
    HANDSHAKE_TIMEOUT = "handshake_timeout"
    HEALTH_TIMEOUT = "health_timeout"
    #: The client's own wish.
    LEFT = "left"
    #: The transport went, without a word.
    LOST = "lost"
    PEER_CLOSED = "peer_closed"
    REFUSED = "refused"
    REPLACED = "replaced"
    SHUTDOWN = "shutdown"


class RelayError(MeshRelayError):
    """An operation of a relay client failed."""


class RelayClientNotConnected(RelayError):
    """There is no connection to a relay now; it may come back."""

    def __init__(self) -> None:
        super().__init__("relay client not connected")


class ConnAlreadyExists(RelayError):
    """This client has a connection to that peer already, or is opening one."""

    def __init__(self) -> None:
        super().__init__("connection already exists")


class ConnClosed(RelayError):
    """The connection to the peer is closed, by either side."""

    def __init__(self) -> None:
        super().__init__("connection is closed")


class OpenTimedOut(RelayError):
    """The peer did not come to the relay in time."""

    def __init__(self, timeout_seconds: float) -> None:
        self.timeout_seconds = timeout_seconds
        super().__init__(f"the peer was not online within {timeout_seconds:g} s")


class OpenCancelled(RelayError):
    """The wait for the peer ended early: it went, or the relay did, or the user closed."""

    def __init__(self) -> None:
        super().__init__("wait for peer to come online has been cancelled")


class PayloadTooLarge(RelayError):
    """What is to be sent does not fit into one message; nothing was sent."""

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes
        super().__init__(f"payload of {size_bytes} bytes, {limit_bytes} fit")
