"""One connection of a relay server: messages and the time go in, what is to be done comes out. Pure.

=========  ===================================================================================
state      what it does
=========  ===================================================================================
HANDSHAKE  waits 10 s at most for AUTH; anything else, or a token that is not good, ends it without a word
OPEN       passes TRANSPORT on, sends HEALTH_CHECK, looks for the client's, keeps its subscriptions
CLOSED     says and does nothing any more
=========  ===================================================================================

What the client gets wrong either ends the connection or is passed over and counted:

=======================================================  =================
another version, an unknown type, or one of the server   ends it
fewer than 2 bytes, more than `max_message_bytes`        ends it
TRANSPORT without a whole peer ID                        passed over
a list that does not hold whole peer IDs                 passed over
AUTH once more                                           passed over
=======================================================  =================

Each message causes at most one event, and the owner acts on it at once: that keeps the order in which things are to
be sent, and costs a message of a peer no queue.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from meshrelay.errors import MalformedFrame
from meshrelay.relay.auth import TokenRefused
from meshrelay.relay.counters import RelayCounters
from meshrelay.relay.errors import RelayEnd
from meshrelay.relay.health import HealthWatch
from meshrelay.wire.relay import (
    CLOSE_MESSAGE,
    HEALTH_CHECK_MESSAGE,
    MAX_AUTH_BYTES,
    MAX_MESSAGE_BYTES,
    TRANSPORT_HEADER_BYTES,
    MessageType,
    decode_auth,
    decode_peer_ids,
    encode_auth_response,
    read_type,
    transport_header,
)

__all__ = [
    "Accepted",
    "Closed",
    "Event",
    "Forward",
    "Send",
    "ServerMachine",
    "ServerOptions",
    "State",
    "Subscribe",
    "Unsubscribe",
]

_TRANSPORT = bytes((1, MessageType.TRANSPORT))
_FROM_CLIENT = frozenset(
    {
        MessageType.TRANSPORT,
        MessageType.CLOSE,
        MessageType.HEALTH_CHECK,
        MessageType.AUTH,
        MessageType.SUBSCRIBE_PEER_STATE,
        MessageType.UNSUBSCRIBE_PEER_STATE,
    }
)


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What all connections of one server have in common; the times are NetBird's."""

    #: See `meshrelay.relay.addresses.instance_url`.
    instance_url: str
    #: From the connection to the AUTH.
    handshake_seconds: float = 10.0
    health_check_seconds: float = 25.0
    #: From one look for the client's HEALTH_CHECK to the next.
    health_verdict_seconds: float = 45.0
    #: Looks in a row that must fail.
    health_threshold: int = 1


class State(Enum):
    """Where a connection stands."""

    HANDSHAKE = "handshake"
    OPEN = "open"
    CLOSED = "closed"


class Accepted(NamedTuple):
    """The client may stay. Send the response first and register the peer then.

    Whatever came from another peer before the response would end the handshake of NetBird's client.
    """

    peer_id: bytes
    response: bytes


class Forward(NamedTuple):
    """Something for another peer, or for this one itself."""

    destination: bytes
    #: As the receiver gets it: the ID of this peer is in it.
    message: bytes


class Subscribe(NamedTuple):
    """The client wants to be told when these come and go; none or the same twice are possible."""

    peer_ids: list[bytes]


class Unsubscribe(NamedTuple):
    """The reverse of `Subscribe`."""

    peer_ids: list[bytes]


class Send(NamedTuple):
    """A message for the client."""

    message: bytes


class Closed(NamedTuple):
    """It is over: drop the connection."""

    end: RelayEnd
    #: For the log.
    detail: str
    #: To be sent before the connection goes; b"" = nothing, and nothing that still waits.
    last_words: bytes = b""


Event = Accepted | Forward | Subscribe | Unsubscribe | Send | Closed


class ServerMachine:
    """See the module.

    :param check_token: returns if a token is good.
    :param now: seconds, monotonic; as all times here.
    """

    __slots__ = (
        "_check_token",
        "_counters",
        "_handshake_ends_at",
        "_health",
        "_health_check_at",
        "_options",
        "_state",
        "_transport_header",
        "last_transport_at",
        "opened_at",
        "peer_id",
    )

    def __init__(
        self, options: ServerOptions, check_token: Callable[[bytes], None], counters: RelayCounters, now: float
    ) -> None:
        self._options = options
        self._check_token = check_token
        self._counters = counters
        self._state = State.HANDSHAKE
        self._handshake_ends_at = now + options.handshake_seconds
        self._health: HealthWatch | None = None
        self._health_check_at = 0.0
        self._transport_header = b""
        self.opened_at = now
        #: The client's last TRANSPORT; None = none yet.
        self.last_transport_at: float | None = None
        #: What the client calls itself, also if it was refused; b"" = not known.
        self.peer_id = b""

    @property
    def state(self) -> State:
        """Where it stands."""
        return self._state

    @property
    def max_message_bytes(self) -> int:
        """The longest message that is taken now; the transport need not read more of one."""
        return MAX_AUTH_BYTES if self._state is State.HANDSHAKE else MAX_MESSAGE_BYTES

    def receive(self, message: bytes, now: float) -> Event | None:
        """Take one whole message of the client."""
        if self._state is State.OPEN:
            size = len(message)
            if message[:2] == _TRANSPORT and TRANSPORT_HEADER_BYTES <= size <= MAX_MESSAGE_BYTES:
                self.last_transport_at = now
                self._counters.messages_received += 1
                self._counters.received_bytes += size
                return Forward(
                    message[2:TRANSPORT_HEADER_BYTES], self._transport_header + message[TRANSPORT_HEADER_BYTES:]
                )
            return self._receive_other(message)
        if self._state is State.HANDSHAKE:
            return self._receive_auth(message, now)
        return None

    def next_deadline(self) -> float | None:
        """Return when `deadline_passed` is to be called; None = never."""
        if self._state is State.HANDSHAKE:
            return self._handshake_ends_at
        if self._health is None:
            return None
        return min(self._health_check_at, self._health.next_look_at)

    def deadline_passed(self, now: float) -> Event | None:
        """Do one thing that is due; to be called again while `next_deadline` is not in the future."""
        if self._state is State.HANDSHAKE and now >= self._handshake_ends_at:
            return self.close(RelayEnd.HANDSHAKE_TIMEOUT, f"no AUTH in {self._options.handshake_seconds:g} s")
        if self._health is None:
            return None
        if now >= self._health_check_at:
            self._health_check_at = now + self._options.health_check_seconds
            return Send(HEALTH_CHECK_MESSAGE)
        if now >= self._health.next_look_at and self._health.is_gone(now):
            return self.close(RelayEnd.HEALTH_TIMEOUT, "the client did not answer HEALTH_CHECK")
        return None

    def close(self, end: RelayEnd, detail: str = "") -> Closed | None:
        """End it from this side, or note that the transport is gone; the first reason stays.

        :returns: None if it was closed before.
        """
        if self._state is State.CLOSED:
            return None
        is_told = end is RelayEnd.SHUTDOWN and self._state is State.OPEN
        self._state = State.CLOSED
        self._health = None
        self._counters.closes[end.value] += 1
        return Closed(end, detail, CLOSE_MESSAGE if is_told else b"")

    def _receive_auth(self, message: bytes, now: float) -> Event | None:
        try:
            if read_type(message) is not MessageType.AUTH:
                return self.close(RelayEnd.BAD_MESSAGE, f"type {message[1]} before AUTH")
            auth = decode_auth(message)
        except MalformedFrame as error:
            return self.close(RelayEnd.BAD_MESSAGE, error.problem)
        self.peer_id = auth.peer_id
        try:
            self._check_token(auth.token)
        except TokenRefused as error:
            self._counters.tokens_refused[error.reason] += 1
            return self.close(RelayEnd.BAD_TOKEN, error.detail)
        options = self._options
        self._state = State.OPEN
        self._transport_header = transport_header(auth.peer_id)
        self._health_check_at = now + options.health_check_seconds
        self._health = HealthWatch(options.health_verdict_seconds, options.health_threshold, now)
        return Accepted(auth.peer_id, encode_auth_response(options.instance_url))

    def _receive_other(self, message: bytes) -> Event | None:
        try:
            message_type = read_type(message)
        except MalformedFrame as error:
            return self.close(RelayEnd.BAD_MESSAGE, error.problem)
        if message_type not in _FROM_CLIENT:
            return self.close(RelayEnd.BAD_MESSAGE, f"{message_type.name} from a client")
        if len(message) > MAX_MESSAGE_BYTES:
            return self.close(RelayEnd.BAD_MESSAGE, f"{message_type.name} of {len(message)} bytes")
        if message_type is MessageType.HEALTH_CHECK:
            assert self._health is not None
            self._health.heard()
            return None
        if message_type is MessageType.CLOSE:
            return self.close(RelayEnd.PEER_CLOSED, "CLOSE of the client")
        if message_type is MessageType.SUBSCRIBE_PEER_STATE or message_type is MessageType.UNSUBSCRIBE_PEER_STATE:
            return self._receive_list(message_type, message)
        # A TRANSPORT that is too short, or a second AUTH.
        self._ignore(message_type)
        return None

    def _receive_list(self, message_type: MessageType, message: bytes) -> Event | None:
        try:
            peer_ids = decode_peer_ids(message)
        except MalformedFrame:
            self._ignore(message_type)
            return None
        return Subscribe(peer_ids) if message_type is MessageType.SUBSCRIBE_PEER_STATE else Unsubscribe(peer_ids)

    def _ignore(self, message_type: MessageType) -> None:
        self._counters.ignored[message_type.name.lower()] += 1
