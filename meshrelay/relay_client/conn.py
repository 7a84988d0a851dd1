"""A connection of a relay client to one peer: whole messages, read and written by coroutines or by a Twisted protocol.

The peer does not learn of it, nor of its end; it has to open its own. What it sends while nobody reads waits in a queue
of `meshrelay.relay.client_machine.MAX_CONN_MESSAGES`, and more is dropped: a relay loses messages, like a network does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IAddress, IProtocol
from twisted.logger import Logger
from zope.interface import implementer

from meshrelay.relay.client_machine import PeerConn
from meshrelay.relay.errors import ConnClosed, RelayError
from meshrelay.relay_client.errors import DeadlinePassed, SendQueueFull
from meshrelay.relay_client.transport import RelayTransport
from meshrelay.relay_client.waiting import Waiting

__all__ = ["RelayConn", "RelayPeerAddress", "ServerConnection"]


@implementer(IAddress)
class RelayPeerAddress:
    """Where the other end of a connection is: a peer on a relay.

    :ivar url: the relay's name for itself.
    :ivar peer: name of the peer.
    """

    network = "relay"

    def __init__(self, url: str, peer: str) -> None:
        self.url = url
        self.peer = peer

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RelayPeerAddress) and (self.url, self.peer) == (other.url, other.peer)

    def __hash__(self) -> int:
        return hash((self.url, self.peer))

    def __repr__(self) -> str:
        return f"RelayPeerAddress({self.url!r}, {self.peer!r})"


class ServerConnection(Protocol):
    """What a connection to a peer needs of the one to the server: `meshrelay.relay_client.connection`."""

    is_paused: bool
    max_unsent_bytes: int

    @property
    def instance_url(self) -> str:
        """What the server calls itself."""

    @property
    def host(self) -> Any:
        """The `IAddress` of this end."""

    @property
    def max_payload_bytes(self) -> int:
        """The longest payload that gets through now."""

    @property
    def unsent_bytes(self) -> int:
        """What was sent since the transport asked to pause."""

    def transport_message(self, peer_conn: PeerConn, payload: bytes) -> bytes:
        """Return a payload as a message.

        :raises ConnClosed: the connection to the peer is over.
        :raises PayloadTooLarge: it does not fit.
        """

    def send(self, message: bytes) -> None:
        """Send it."""

    def close_conn(self, peer_conn: PeerConn) -> None:
        """End the connection to the peer.

        :raises ConnClosed: it is over already.
        """

    def wait_until_writable(self, conn: RelayConn) -> None:
        """Call `write_next` when the transport has caught up; once for each that waits."""


class RelayConn:
    """See the module. Made by `RelayClient.open_conn`.

    :ivar peer: name of the peer.
    """

    _log = Logger()

    def __init__(self, server: ServerConnection, peer_conn: PeerConn, peer: str, clock: Any) -> None:
        self.peer = peer
        self._server = server
        self._peer_conn = peer_conn
        self._clock = clock
        self._reads: Waiting[None, bytes] = Waiting(clock)
        self._writes: Waiting[bytes, None] = Waiting(clock)
        self._error: RelayError | None = None
        self._transport: RelayTransport | None = None
        self._closed: list[Callable[[RelayError], object]] = []
        self._remote_addr = RelayPeerAddress(server.instance_url, peer)

    @property
    def is_closed(self) -> bool:
        """True: nothing can be read or written any more."""
        return self._error is not None

    @property
    def local_addr(self) -> Any:
        """The `IAddress` of the socket."""
        return self._server.host

    @property
    def remote_addr(self) -> RelayPeerAddress:
        """The relay and the peer."""
        return self._remote_addr

    @property
    def max_payload_bytes(self) -> int:
        """The longest message that gets through now: 8,782 bytes over WebSocket, some 1,150 over QUIC."""
        return self._server.max_payload_bytes

    @property
    def dropped_count(self) -> int:
        """Messages of the peer that did not fit into the queue."""
        return self._peer_conn.dropped

    def read(self) -> Deferred[bytes]:
        """Read one message, whole. Reads that wait are served in order; cancelling one loses nothing.

        :returns: fails with `ConnClosed` (what waited in the queue is gone then), `DeadlinePassed` or `TooManyWaiting`.
        """
        if self._error is not None:
            return fail(ConnClosed())
        if self._reads.is_too_late:
            return fail(DeadlinePassed())
        if self._peer_conn.messages and not self._reads:
            return succeed(self._peer_conn.messages.popleft())
        return self._reads.add(None)

    def write(self, payload: bytes) -> Deferred[None]:
        """Send one message; waits while the transport is behind.

        :param payload: 0 to `max_payload_bytes` bytes.
        :returns: fires when it is on its way, which does not mean that it arrives; fails with `ConnClosed`,
            `PayloadTooLarge`, `DeadlinePassed` or `TooManyWaiting`, and nothing was sent then. Nor is it
            when this is cancelled.
        """
        try:
            message = self._server.transport_message(self._peer_conn, payload)
        except RelayError as error:
            return fail(error)
        if self._writes.is_too_late:
            return fail(DeadlinePassed())
        if not self._server.is_paused and not self._writes:
            self._server.send(message)
            return succeed(None)
        done = self._writes.add(message)
        if not done.called:
            self._server.wait_until_writable(self)
        return done

    def write_nowait(self, payload: bytes) -> None:
        """Send one message now, ahead of writes that wait.

        :raises ConnClosed: it is over.
        :raises PayloadTooLarge: it does not fit.
        :raises SendQueueFull: the server does not read as fast as is written; nothing was sent.
        """
        server = self._server
        message = server.transport_message(self._peer_conn, payload)
        if server.is_paused and server.unsent_bytes + len(message) > server.max_unsent_bytes:
            raise SendQueueFull(server.unsent_bytes, server.max_unsent_bytes)
        server.send(message)

    def set_deadline(self, at: float | None) -> None:
        """See `set_read_deadline`, `set_write_deadline`: both."""
        self.set_read_deadline(at)
        self.set_write_deadline(at)

    def set_read_deadline(self, at: float | None) -> None:
        """Let reads, those that wait too, fail with `DeadlinePassed` from this time of the reactor's clock on.

        :param at: as ``reactor.seconds()``; None = never.
        :raises ConnClosed: it is over.
        """
        self._check_open()
        self._reads.set_deadline(at)

    def set_write_deadline(self, at: float | None) -> None:
        """The same for `write`."""
        self._check_open()
        self._writes.set_deadline(at)

    def close(self) -> None:
        """Close this end; what the peer sends from now on is no longer taken.

        :raises ConnClosed: it is over already.
        """
        self._server.close_conn(self._peer_conn)

    def on_closed(self, callback: Callable[[RelayError], object]) -> None:
        """Call back once when it is over, with the reason; at once if it is. What it raises later is logged."""
        if self._error is not None:
            callback(self._error)
        else:
            self._closed.append(callback)

    def attach(self, protocol: IProtocol) -> RelayTransport:
        """Let a protocol have what is read from now on, each message by one `dataReceived`, and write to the peer.

        What it writes is cut into messages. A relay may lose some of them, which most protocols cannot bear; see the
        documentation.

        :raises ConnClosed: it is over.
        """
        self._check_open()
        self._transport = RelayTransport(self, protocol, self._clock)
        self._transport.start()
        self.message_arrived()
        return self._transport

    def message_arrived(self) -> None:
        """Called when there is something new in the queue, and when the protocol wants to go on."""
        messages = self._peer_conn.messages
        while messages and self._reads:
            self._reads.take()[1].callback(messages.popleft())
        while messages and self._transport is not None and not self._transport.is_paused:
            self._transport.deliver(messages.popleft())

    def write_next(self) -> bool:
        """Called when the transport has caught up; send one message that waits.

        :returns: True: there are more.
        """
        if self._writes:
            message, done = self._writes.take()
            self._server.send(message)
            done.callback(None)
        return bool(self._writes)

    def flow_changed(self, is_paused: bool) -> None:
        """Called when the transport is behind, and when it has caught up."""
        if self._transport is not None:
            self._transport.flow_changed(is_paused)

    def ended(self, error: RelayError) -> None:
        """Called when the connection is over."""
        self._error = error
        self._reads.end(ConnClosed())
        self._writes.end(ConnClosed())
        if self._transport is not None:
            self._transport.conn_ended(error)
        callbacks, self._closed = self._closed, []
        for callback in callbacks:
            try:
                callback(error)
            except Exception:  # noqa: BLE001 - the other connections, and the owner of this one, must hear of the end too
                self._log.failure("a callback for the end of a connection to {peer} failed", peer=self.peer)

    def _check_open(self) -> None:
        if self._error is not None:
            raise ConnClosed
