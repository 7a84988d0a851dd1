"""One connection of a relay client: messages and the time go in, events and messages to send come out. Pure.

==============  ==============================================================================
state           what it does
==============  ==============================================================================
AUTHENTICATING  has AUTH sent, waits 8 s at most for AUTH_RESPONSE
OPEN            echoes HEALTH_CHECK, has connections to peers
CLOSED          has none; to connect again a new machine is made
==============  ==============================================================================

A connection to a peer (`PeerConn`) is made of nothing but a subscription: the peer does not learn of it. What the peer
sends is put in its queue; before it exists, `EarlyMessages` keeps the newest message.

Over datagrams everything may be lost, and a NetBird server repeats nothing. `ClientOptions.repeat_seconds` lets AUTH
and the subscriptions that wait be sent again; servers take them a second time without harm. A lost AUTH_RESPONSE
stays lost, for a second AUTH is passed over; only a new connection helps.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass
from enum import Enum
from itertools import count
from typing import NamedTuple

from meshrelay.errors import MalformedFrame
from meshrelay.relay.early_messages import EarlyMessages
from meshrelay.relay.errors import (
    ConnAlreadyExists,
    ConnClosed,
    OpenCancelled,
    OpenTimedOut,
    PayloadTooLarge,
    RelayClientNotConnected,
    RelayEnd,
    RelayError,
)
from meshrelay.relay.health import HealthWatch
from meshrelay.wire.relay import (
    CLOSE_MESSAGE,
    HEALTH_CHECK_MESSAGE,
    MAX_MESSAGE_BYTES,
    TRANSPORT_HEADER_BYTES,
    MessageType,
    decode_auth_response,
    decode_peer_ids,
    decode_transport,
    encode_auth,
    encode_peer_ids,
    read_type,
    transport_header,
)

__all__ = [
    "MAX_CONN_MESSAGES",
    "ClientEvent",
    "ClientMachine",
    "ClientOptions",
    "ClientState",
    "ConnEnded",
    "ConnOpened",
    "Connected",
    "Disconnected",
    "MessageArrived",
    "PeerConn",
]

#: Messages that wait in one connection to be read; the newest are dropped when it is full.
MAX_CONN_MESSAGES = 100


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """Times in seconds; those of NetBird's client."""

    auth_seconds: float = 8.0
    open_seconds: float = 30.0
    health_verdict_seconds: float = 35.0
    health_threshold: int = 1
    #: AUTH and waiting subscriptions are sent again after so long; 0 = never, for transports that lose nothing.
    repeat_seconds: float = 0.0


class ClientState(Enum):
    """Where a client's connection stands."""

    AUTHENTICATING = "authenticating"
    OPEN = "open"
    CLOSED = "closed"


class PeerConn:
    """A connection to one peer."""

    __slots__ = ("deadline", "dropped", "header", "is_closed", "is_open", "messages", "peer_id", "timeout_seconds")

    def __init__(self, peer_id: bytes, deadline: float, timeout_seconds: float) -> None:
        self.peer_id = peer_id
        self.header = transport_header(peer_id)
        #: When the wait for the peer ends.
        self.deadline = deadline
        self.timeout_seconds = timeout_seconds
        self.is_open = False
        self.is_closed = False
        #: Payloads that came and were not read; at most `MAX_CONN_MESSAGES`. The owner takes them from the left.
        self.messages: deque[bytes] = deque()
        #: Payloads that did not fit.
        self.dropped = 0

    def put(self, payload: bytes) -> bool:
        """Queue a payload; False: it was dropped."""
        if len(self.messages) >= MAX_CONN_MESSAGES:
            self.dropped += 1
            return False
        self.messages.append(payload)
        return True


class Connected(NamedTuple):
    """The server has let the client in."""

    instance_url: str


class ConnOpened(NamedTuple):
    """The peer is online: the connection can be used."""

    conn: PeerConn


class ConnEnded(NamedTuple):
    """The connection is over, or was never opened. What waited in its queue is gone."""

    conn: PeerConn
    error: RelayError


class MessageArrived(NamedTuple):
    """There is something new in the queue of a connection."""

    conn: PeerConn


class Disconnected(NamedTuple):
    """The connection to the server is over: drop it. The last event."""

    end: RelayEnd
    #: For the log.
    detail: str


ClientEvent = Connected | ConnOpened | ConnEnded | MessageArrived | Disconnected

_NOTHING: tuple[ClientEvent, ...] = ()


class ClientMachine:
    """See the module.

    :param peer_id: of this client; see `meshrelay.wire.relay.peer_id_of`.
    :param token: see `meshrelay.relay.auth`; b"" for a server that takes every token.
    :param max_message_bytes: the longest message that the transport takes, for lists of peers.
    :param now: seconds, monotonic; as all times here.
    :raises LocalProtocolError: the ID or the token does not fit.
    """

    def __init__(
        self,
        peer_id: bytes,
        token: bytes,
        options: ClientOptions,
        now: float,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        self._options = options
        self._auth = encode_auth(peer_id, token)
        self._max_list_bytes = max_message_bytes
        self._state = ClientState.AUTHENTICATING
        self._outgoing = [self._auth]
        self._auth_ends_at = now + options.auth_seconds
        self._auth_again_at = now + options.repeat_seconds if options.repeat_seconds else None
        self._health: HealthWatch | None = None
        self._conns: dict[bytes, PeerConn] = {}
        #: When to look at a connection that waits, and which; entries of others are passed over when they come up.
        self._waiting: list[tuple[float, int, PeerConn]] = []
        self._numbers = count()
        self._early = EarlyMessages()
        self._instance_url = ""
        #: Messages of the server that could not be read, or came at the wrong time.
        self.ignored = 0

    @property
    def state(self) -> ClientState:
        """Where it stands."""
        return self._state

    @property
    def has_conns(self) -> bool:
        """True: there is a connection to a peer, or one is being opened."""
        return bool(self._conns)

    @property
    def instance_url(self) -> str:
        """What the server calls itself.

        :raises RelayClientNotConnected: the server has not answered, or the connection is over.
        """
        self._check_open()
        return self._instance_url

    @property
    def early(self) -> EarlyMessages:
        """What came from peers without a connection."""
        return self._early

    def messages_to_send(self) -> list[bytes]:
        """Return what is to be sent to the server, in order, once; to be called after every other method."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def receive(self, message: bytes, now: float) -> tuple[ClientEvent, ...]:
        """Take one whole message of the server."""
        if self._state is ClientState.OPEN:
            try:
                return self._receive_open(message, now)
            except MalformedFrame:
                self.ignored += 1
                return _NOTHING
        if self._state is ClientState.AUTHENTICATING:
            try:
                return self._receive_answer(message, now)
            except MalformedFrame as error:
                return self._disconnect(RelayEnd.BAD_MESSAGE, error.problem)
        return _NOTHING

    def open_conn(self, peer_id: bytes, now: float, timeout_seconds: float | None = None) -> PeerConn:
        """Begin to open a connection; `ConnOpened` or `ConnEnded` follows.

        :param timeout_seconds: how long to wait for the peer; None, and more than the options say, = as these say.
        :raises RelayClientNotConnected: there is no server.
        :raises ConnAlreadyExists: there is one to this peer already, or one is being opened.
        """
        self._check_open()
        if peer_id in self._conns:
            raise ConnAlreadyExists
        longest = self._options.open_seconds
        timeout = longest if timeout_seconds is None else min(timeout_seconds, longest)
        conn = self._conns[peer_id] = PeerConn(peer_id, now + timeout, timeout)
        early = self._early.take(peer_id, now)
        if early is not None:
            conn.put(early)
        self._subscribe(conn, now)
        return conn

    def transport_message(self, conn: PeerConn, payload: bytes, max_message_bytes: int = MAX_MESSAGE_BYTES) -> bytes:
        """Return the message that carries a payload to the peer, to be sent by the caller at once.

        :param max_message_bytes: what the transport takes now.
        :raises ConnClosed: it is over, or was not opened yet.
        :raises PayloadTooLarge: a NetBird server would lose its connection, or the datagram.
        """
        if not conn.is_open:
            raise ConnClosed
        limit = min(max_message_bytes, MAX_MESSAGE_BYTES) - TRANSPORT_HEADER_BYTES
        if len(payload) > limit:
            raise PayloadTooLarge(len(payload), limit)
        return conn.header + payload

    def close_conn(self, conn: PeerConn) -> tuple[ClientEvent, ...]:
        """Close a connection from this side.

        :raises ConnClosed: it is closed already; a newer one to the same peer stays.
        """
        if conn.is_closed:
            raise ConnClosed
        return (self._end_conn(conn, OpenCancelled() if not conn.is_open else ConnClosed()),)

    def close(self, end: RelayEnd = RelayEnd.LEFT, detail: str = "") -> tuple[ClientEvent, ...]:
        """End it from this side, or note that the transport is gone (`RelayEnd.LOST`); may be called again."""
        if self._state is ClientState.CLOSED:
            return _NOTHING
        if end is RelayEnd.LEFT and self._state is ClientState.OPEN:
            self._outgoing.append(CLOSE_MESSAGE)
        return self._disconnect(end, detail)

    def next_deadline(self) -> float | None:
        """Return when `deadline_passed` is to be called; None = never."""
        if self._state is ClientState.CLOSED:
            return None
        if self._health is None:
            again = self._auth_again_at
            return self._auth_ends_at if again is None else min(again, self._auth_ends_at)
        deadlines = [self._health.next_look_at]
        if self._waiting:
            deadlines.append(self._waiting[0][0])
        early = self._early.next_deadline()
        if early is not None:
            deadlines.append(early)
        return min(deadlines)

    def deadline_passed(self, now: float) -> tuple[ClientEvent, ...]:
        """Do all that is due."""
        if self._state is ClientState.AUTHENTICATING:
            return self._auth_deadline_passed(now)
        if self._health is None:
            return _NOTHING
        self._early.expire(now)
        events: list[ClientEvent] = []
        while self._waiting and self._waiting[0][0] <= now:
            _, _, conn = heapq.heappop(self._waiting)
            if conn.is_open or conn.is_closed:
                continue
            if now >= conn.deadline:
                events.append(self._end_conn(conn, OpenTimedOut(conn.timeout_seconds)))
            else:
                self._subscribe(conn, now)
        if now >= self._health.next_look_at and self._health.is_gone(now):
            events += self._disconnect(RelayEnd.HEALTH_TIMEOUT, "no HEALTH_CHECK of the server")
        return tuple(events)

    def _check_open(self) -> None:
        if self._state is not ClientState.OPEN:
            raise RelayClientNotConnected

    def _auth_deadline_passed(self, now: float) -> tuple[ClientEvent, ...]:
        if now >= self._auth_ends_at:
            return self._disconnect(RelayEnd.HANDSHAKE_TIMEOUT, f"no answer in {self._options.auth_seconds:g} s")
        if self._auth_again_at is not None and now >= self._auth_again_at:
            self._auth_again_at = now + self._options.repeat_seconds
            self._outgoing.append(self._auth)
        return _NOTHING

    def _receive_answer(self, message: bytes, now: float) -> tuple[ClientEvent, ...]:
        message_type = read_type(message)
        if message_type is MessageType.CLOSE:
            return self._disconnect(RelayEnd.PEER_CLOSED, "CLOSE of the server")
        if message_type is MessageType.TRANSPORT:
            # A NetBird server lets others send to this client before it has answered it.
            early = decode_transport(message)
            self._early.put(early.peer_id, early.payload, now)
            return _NOTHING
        if message_type is not MessageType.AUTH_RESPONSE:
            return self._disconnect(RelayEnd.BAD_MESSAGE, f"{message_type.name} instead of AUTH_RESPONSE")
        self._instance_url = decode_auth_response(message)
        self._state = ClientState.OPEN
        self._health = HealthWatch(self._options.health_verdict_seconds, self._options.health_threshold, now)
        return (Connected(self._instance_url),)

    def _receive_open(self, message: bytes, now: float) -> tuple[ClientEvent, ...]:
        message_type = read_type(message)
        if message_type is MessageType.TRANSPORT:
            return self._receive_transport(message, now)
        if message_type is MessageType.HEALTH_CHECK:
            assert self._health is not None
            self._health.heard()
            self._outgoing.append(HEALTH_CHECK_MESSAGE)
            return _NOTHING
        if message_type is MessageType.CLOSE:
            return self._disconnect(RelayEnd.PEER_CLOSED, "CLOSE of the server")
        if message_type is MessageType.PEERS_ONLINE:
            return self._peers_online(decode_peer_ids(message))
        if message_type is MessageType.PEERS_WENT_OFFLINE:
            return self._peers_went_offline(decode_peer_ids(message))
        self.ignored += 1
        return _NOTHING

    def _receive_transport(self, message: bytes, now: float) -> tuple[ClientEvent, ...]:
        peer_id, payload = decode_transport(message)
        conn = self._conns.get(peer_id)
        if conn is None:
            self._early.put(peer_id, payload, now)
            return _NOTHING
        return (MessageArrived(conn),) if conn.put(payload) else _NOTHING

    def _peers_online(self, peer_ids: list[bytes]) -> tuple[ClientEvent, ...]:
        events: list[ClientEvent] = []
        for peer_id in peer_ids:
            conn = self._conns.get(peer_id)
            if conn is not None and not conn.is_open:
                conn.is_open = True
                events.append(ConnOpened(conn))
        return tuple(events)

    def _peers_went_offline(self, peer_ids: list[bytes]) -> tuple[ClientEvent, ...]:
        events: list[ClientEvent] = []
        for peer_id in peer_ids:
            conn = self._conns.get(peer_id)
            if conn is not None:
                events.append(self._end_conn(conn, ConnClosed() if conn.is_open else OpenCancelled()))
        return tuple(events)

    def _subscribe(self, conn: PeerConn, now: float) -> None:
        self._outgoing += encode_peer_ids(MessageType.SUBSCRIBE_PEER_STATE, [conn.peer_id], self._max_list_bytes)
        repeat = self._options.repeat_seconds
        look_at = min(conn.deadline, now + repeat) if repeat else conn.deadline
        heapq.heappush(self._waiting, (look_at, next(self._numbers), conn))

    def _end_conn(self, conn: PeerConn, error: RelayError) -> ConnEnded:
        self._forget_conn(conn)
        del self._conns[conn.peer_id]
        self._outgoing += encode_peer_ids(MessageType.UNSUBSCRIBE_PEER_STATE, [conn.peer_id], self._max_list_bytes)
        return ConnEnded(conn, error)

    def _forget_conn(self, conn: PeerConn) -> None:
        conn.is_open = False
        conn.is_closed = True
        conn.messages.clear()

    def _disconnect(self, end: RelayEnd, detail: str) -> tuple[ClientEvent, ...]:
        self._state = ClientState.CLOSED
        self._health = None
        conns, self._conns = self._conns, {}
        events: list[ClientEvent] = []
        for conn in conns.values():
            error = ConnClosed() if conn.is_open else OpenCancelled()
            self._forget_conn(conn)
            events.append(ConnEnded(conn, error))
        self._waiting.clear()
        self._early.clear()
        return (*events, Disconnected(end, detail))
