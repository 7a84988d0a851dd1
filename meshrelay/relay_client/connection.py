"""One signed-in connection to a relay server: drives the machine of `meshrelay.relay.client_machine` over a link.

::

    link --message_received--> machine --events--> opens that wait, RelayConn, owner
    RelayConn.write --> link, past the machine; waits here in turn while the link is behind
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall

from meshrelay.relay.client_machine import (
    ClientEvent,
    ClientMachine,
    ClientState,
    Connected,
    ConnEnded,
    ConnOpened,
    Disconnected,
    MessageArrived,
    PeerConn,
)
from meshrelay.relay.errors import PayloadTooLarge, RelayEnd
from meshrelay.relay_client.conn import RelayConn
from meshrelay.relay_client.interfaces import RelayLink
from meshrelay.relay_client.options import RelayOptions
from meshrelay.wire.relay import MAX_PAYLOAD_BYTES, TRANSPORT_HEADER_BYTES, peer_id_of

__all__ = ["Connection"]

#: As many times the limit may wait before the connection is of no use: connections to peers stop at the limit, what
#: comes on top are answers to a server that asks and does not read.
_HOPELESS_LIMITS = 2


class Connection:
    """See the module.

    :param tell: called with `Connected`, and with `Disconnected` as the last.
    :param too_large: called once, when a payload does not fit into a datagram but would into a WebSocket message;
        the connection ends then.
    :ivar is_paused: the link is behind.
    """

    def __init__(
        self,
        reactor: Any,
        link: RelayLink,
        name: str,
        token: bytes,
        options: RelayOptions,
        tell: Callable[[Connected | Disconnected], None],
        too_large: Callable[[], None] | None = None,
    ) -> None:
        self.is_paused = False
        self.max_unsent_bytes = options.max_unsent_bytes
        self.transport_name = link.transport_name
        self.peer_ip = link.peer_ip
        self.host = link.host
        self._reactor = reactor
        self._link: RelayLink = link
        self._tell = tell
        self._unsent_bytes = 0
        #: Fires when the socket is gone, once the connection has ended.
        self.gone: Deferred[None] = succeed(None)
        self._too_large: Callable[[], None] | None = too_large
        self._machine = ClientMachine(
            peer_id_of(name),
            token,
            options.machine_options(link.transport_name),
            reactor.seconds(),
            link.max_message_bytes,
        )
        self._opening: dict[PeerConn, tuple[str, Deferred[RelayConn]]] = {}
        self._conns: dict[PeerConn, RelayConn] = {}
        #: Connections with writes that wait, each as often as it has some; bounded by their own bounds.
        self._writers: deque[RelayConn] = deque()
        self._timer: IDelayedCall | None = None

    @property
    def is_open(self) -> bool:
        """True: signed in."""
        return self._machine.state is ClientState.OPEN

    @property
    def has_conns(self) -> bool:
        """True: there is a connection to a peer, or one is being opened."""
        return self._machine.has_conns

    @property
    def instance_url(self) -> str:
        """What the server calls itself.

        :raises RelayClientNotConnected: not signed in.
        """
        return self._machine.instance_url

    @property
    def max_payload_bytes(self) -> int:
        """See `ServerConnection`."""
        return self._link.max_message_bytes - TRANSPORT_HEADER_BYTES

    @property
    def unsent_bytes(self) -> int:
        """See `ServerConnection`."""
        return self._unsent_bytes

    def start(self) -> None:
        """Sign in; to be called in the turn in which the link came about."""
        self._link.start(self)
        self._done(())

    def open_conn(self, peer: str, timeout_seconds: float | None) -> Deferred[RelayConn]:
        """See `RelayClient.open_conn`.

        :raises RelayClientNotConnected: not signed in.
        :raises ConnAlreadyExists: there is one.
        """
        peer_conn = self._machine.open_conn(peer_id_of(peer), self._reactor.seconds(), timeout_seconds)
        opened: Deferred[RelayConn] = Deferred(lambda _: self._give_up(peer_conn))
        self._opening[peer_conn] = (peer, opened)
        self._done(())
        return opened

    def transport_message(self, peer_conn: PeerConn, payload: bytes) -> bytes:
        """See `ServerConnection`."""
        try:
            return self._machine.transport_message(peer_conn, payload, self._link.max_message_bytes)
        except PayloadTooLarge:
            if self._too_large is not None and len(payload) <= MAX_PAYLOAD_BYTES:
                too_large, self._too_large = self._too_large, None
                too_large()
                self._reactor.callLater(0, self.link_lost, "a payload does not fit into a datagram")
            raise

    def send(self, message: bytes) -> None:
        """See `ServerConnection`."""
        self._link.send(message)
        if self.is_paused:
            self._unsent_bytes += len(message)

    def close_conn(self, peer_conn: PeerConn) -> None:
        """See `ServerConnection`."""
        self._done(self._machine.close_conn(peer_conn))

    def wait_until_writable(self, conn: RelayConn) -> None:
        """See `ServerConnection`."""
        self._writers.append(conn)

    def close(self) -> None:
        """Say CLOSE and end it. Does nothing when it has ended."""
        self._done(self._machine.close())

    def message_received(self, message: bytes) -> None:
        """Called by the link."""
        self._done(self._machine.receive(message, self._reactor.seconds()))
        if self._unsent_bytes > _HOPELESS_LIMITS * self.max_unsent_bytes:
            self._done(self._machine.close(RelayEnd.LOST, "the server does not read"))

    def link_lost(self, text: str) -> None:
        """Called by the link."""
        self._done(self._machine.close(RelayEnd.LOST, text))

    def writing_paused(self) -> None:
        """Called by the link."""
        self._flow_changed(True)

    def writing_resumed(self) -> None:
        """Called by the link."""
        self._flow_changed(False)
        while self._writers and not self.is_paused:
            self._writers.popleft().write_next()

    def _flow_changed(self, is_paused: bool) -> None:
        self.is_paused = is_paused
        self._unsent_bytes = 0
        for conn in list(self._conns.values()):
            conn.flow_changed(is_paused)

    def _give_up(self, peer_conn: PeerConn) -> None:
        if not peer_conn.is_closed:
            self.close_conn(peer_conn)

    def _done(self, events: Iterable[ClientEvent]) -> None:
        for message in self._machine.messages_to_send():
            self.send(message)
        for event in events:
            if isinstance(event, MessageArrived):
                conn = self._conns.get(event.conn)
                if conn is not None:
                    conn.message_arrived()
            elif isinstance(event, ConnOpened):
                self._conn_opened(event.conn)
            elif isinstance(event, ConnEnded):
                self._conn_ended(event)
            else:
                self._changed(event)
        self._set_timer()

    def _conn_opened(self, peer_conn: PeerConn) -> None:
        waiting = self._opening.pop(peer_conn, None)
        if waiting is None:
            # Given up by whoever was told of another one that the same message opened.
            return
        peer, opened = waiting
        self._conns[peer_conn] = conn = RelayConn(self, peer_conn, peer, self._reactor)
        opened.callback(conn)

    def _conn_ended(self, event: ConnEnded) -> None:
        _, opened = self._opening.pop(event.conn, ("", None))
        if opened is not None and not opened.called:
            opened.errback(event.error)
        conn = self._conns.pop(event.conn, None)
        if conn is not None:
            conn.ended(event.error)

    def _changed(self, event: Connected | Disconnected) -> None:
        if isinstance(event, Disconnected):
            self._writers.clear()
            if event.end is RelayEnd.LEFT or event.end is RelayEnd.PEER_CLOSED:
                self.gone = self._link.close()
            else:
                self._link.abort()
        self._tell(event)

    def _set_timer(self) -> None:
        deadline = self._machine.next_deadline()
        timer = self._timer
        if deadline is None:
            self._timer = None
            if timer is not None and timer.active():
                timer.cancel()
            return
        if timer is not None and timer.active():
            # Waking too early is cheap, and moving the timer for each message is not.
            if timer.getTime() <= deadline:
                return
            timer.cancel()
        self._timer = self._reactor.callLater(max(0.0, deadline - self._reactor.seconds()), self._deadline_passed)

    def _deadline_passed(self) -> None:
        self._timer = None
        self._done(self._machine.deadline_passed(self._reactor.seconds()))
