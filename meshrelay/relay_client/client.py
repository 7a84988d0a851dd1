"""A client of one relay server: connects, opens connections to peers, and can be connected again when it was cut off.

::

            connect              signed in
    IDLE ------------> CONNECTING ---------> OPEN
      ^                     |                  |
      +--- failed, close ---+------------------+  lost, closed by either side

It does not come back by itself: that is for `Guard`, as part of `RelayManager`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, unique
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from meshrelay.background import fire_all, result_of, start
from meshrelay.relay.client_machine import Connected, Disconnected
from meshrelay.relay.errors import RelayClientNotConnected, RelayEnd, RelayError
from meshrelay.relay_client.conn import RelayConn
from meshrelay.relay_client.connection import Connection
from meshrelay.relay_client.dial import dial
from meshrelay.relay_client.errors import RelayConnectFailed
from meshrelay.relay_client.fallback import TransportFallback
from meshrelay.relay_client.interfaces import RelayLink
from meshrelay.relay_client.options import RelayOptions, TransportMode
from meshrelay.relay_client.token_store import TokenSource, TokenStore

__all__ = ["ClientState", "LinkOpener", "RelayClient"]

LinkOpener = Callable[[Any, str, RelayOptions, str, bool], "Deferred[RelayLink]"]


@unique
class ClientState(Enum):
    """See the module."""

    IDLE = "idle"
    CONNECTING = "connecting"
    OPEN = "open"


class RelayClient:
    """See the module.

    :param url: ``rel://host:port`` or ``rels://host:port``.
    :param name: of this peer; NetBird's are WireGuard keys in base64. Who connects under the same name later takes
        its place.
    :param tokens: None: for a server that takes every token.
    :param server_ip: address of the server if it is known; tried before its name.
    :param fallback: shared by the clients of a manager.
    :param opener: `meshrelay.relay_client.dial.dial`, or its twin of a test.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        url: str,
        name: str,
        tokens: TokenSource | None = None,
        options: RelayOptions | None = None,
        *,
        server_ip: str = "",
        fallback: TransportFallback | None = None,
        opener: LinkOpener = dial,
    ) -> None:
        self.url = url
        self.state = ClientState.IDLE
        self._reactor = reactor
        self._name = name
        self._tokens = tokens or TokenStore()
        self._options = options or RelayOptions()
        self._server_ip = server_ip
        self._fallback = fallback or TransportFallback(reactor.seconds)
        self._opener = opener
        self._dialling: Deferred[None] | None = None
        self._connection: Connection | None = None
        self._connecting: list[Deferred[str]] = []
        self._listeners: list[Callable[[str], object]] = []

    @property
    def is_connected(self) -> bool:
        """True: signed in at this moment."""
        return self.state is ClientState.OPEN

    @property
    def has_conns(self) -> bool:
        """True: there is a connection to a peer, or one is being opened."""
        return self._connection is not None and self._connection.has_conns

    @property
    def transport_name(self) -> str:
        """ "ws" or "quic"; "" when not connected."""
        return self._connection.transport_name if self._connection is not None and self.is_connected else ""

    @property
    def connected_ip(self) -> str:
        """Address of the server, "" when not connected."""
        return self._connection.peer_ip if self._connection is not None and self.is_connected else ""

    @property
    def server_instance_url(self) -> str:
        """What the server calls itself: its identity, for other peers to find it.

        :raises RelayClientNotConnected: it is not known now.
        """
        return self._open_connection().instance_url

    def connect(self) -> Deferred[str]:
        """Sign in; at once with what is there when that is done already.

        :returns: fires with the instance URL of the server; fails with `RelayConnectFailed`, or with
            `RelayClientNotConnected` when `close` is called meanwhile. A server that does not take the token just
            closes. Cancelling the last call that waits ends the attempt.
        """
        if self._connection is not None and self.is_connected:
            return succeed(self._connection.instance_url)
        done: Deferred[str] = Deferred(self._connect_cancelled)
        self._connecting.append(done)
        if self.state is ClientState.IDLE:
            self.state = ClientState.CONNECTING
            dialling = self._dialling = Deferred.fromCoroutine(self._dial())
            dialling.addErrback(self._dial_failed, dialling)
        return done

    def open_conn(self, peer: str, timeout_seconds: float | None = None) -> Deferred[RelayConn]:
        """Open a connection to a peer, as soon as it is online at this server. The peer does not learn of it.

        :param timeout_seconds: how long to wait for the peer; at most, and by default, 30 s.
        :returns: fails with `RelayClientNotConnected`, `ConnAlreadyExists` (there is one, or one is being opened),
            `OpenTimedOut` (the peer was not online), or `OpenCancelled` (the relay or the peer went). While the client
            connects it waits for that first. Cancelling it leaves nothing behind.
        """
        if self.state is ClientState.CONNECTING:
            return Deferred.fromCoroutine(self._connect_and_open(peer, timeout_seconds))
        try:
            return self._open_connection().open_conn(peer, timeout_seconds)
        except RelayError as error:
            return fail(error)

    def close(self) -> Deferred[None]:
        """Take leave of the server; all connections to peers end. May be called at any time.

        :returns: fires when the socket is gone, a few seconds later at most; never fails.
        """
        connection = self._connection
        if connection is not None:
            connection.close()
            return connection.gone
        dialling, self._dialling = self._dialling, None
        if dialling is not None:
            self._be_idle(RelayClientNotConnected())
            dialling.cancel()
        return succeed(None)

    def on_disconnect(self, callback: Callable[[str], object]) -> Callable[[], None]:
        """Call back with `url` when the connection to the server is over, for whatever reason, each time.

        :param callback: what it raises is logged; a coroutine that it returns is run.
        :returns: a function that ends it.
        """
        self._listeners.append(callback)

        def remove() -> None:
            if callback in self._listeners:
                self._listeners.remove(callback)

        return remove

    def _open_connection(self) -> Connection:
        if self._connection is None or not self.is_connected:
            raise RelayClientNotConnected
        return self._connection

    async def _connect_and_open(self, peer: str, timeout_seconds: float | None) -> RelayConn:
        await self.connect()
        return await self.open_conn(peer, timeout_seconds)

    async def _dial(self) -> None:
        is_fallback = self._fallback.is_active(self.url)
        link = await self._opener(self._reactor, self.url, self._options, self._server_ip, is_fallback)
        is_pinned = self._options.transport is TransportMode.QUIC
        too_large = None if is_pinned or link.transport_name != "quic" else self._datagram_too_large
        try:
            token = self._tokens.token()
            connection = Connection(self._reactor, link, self._name, token, self._options, self._told, too_large)
        except BaseException:
            link.abort()
            raise
        self._dialling = None
        self._connection = connection
        connection.start()

    def _dial_failed(self, failure: Failure, dialling: Deferred[None]) -> None:
        if dialling is not self._dialling:
            # Closed meanwhile; what the cancelled attempt says is of no interest.
            return
        self._dialling = None
        error = failure.value
        if not isinstance(error, RelayError):
            error = RelayConnectFailed(self.url, failure.getErrorMessage() or type(error).__name__)
        self._be_idle(error)

    def _told(self, event: Connected | Disconnected) -> None:
        if isinstance(event, Connected):
            self.state = ClientState.OPEN
            connecting, self._connecting = self._connecting, []
            fire_all(connecting, event.instance_url)
            return
        was_open = self.is_connected
        self._connection, ended = None, self._connection
        if was_open:
            self._log.info("relay {url} lost: {end} {detail}", url=self.url, end=event.end.value, detail=event.detail)
        self._be_idle(_why_not(self.url, event))
        assert ended is not None
        if was_open:
            for callback in list(self._listeners):
                start(_call(callback, self.url), self._log, "a callback for the end of a relay connection")

    def _be_idle(self, error: Exception) -> None:
        self.state = ClientState.IDLE
        connecting, self._connecting = self._connecting, []
        fire_all(connecting, error)

    def _connect_cancelled(self, done: Deferred[str]) -> None:
        if done in self._connecting:
            self._connecting.remove(done)
        if not self._connecting and self.state is ClientState.CONNECTING:
            self.close()

    def _datagram_too_large(self) -> None:
        self._fallback.record(self.url)


async def _call(callback: Callable[[str], object], url: str) -> None:
    await result_of(callback(url))


def _why_not(url: str, event: Disconnected) -> RelayError:
    if event.end is RelayEnd.LEFT:
        return RelayClientNotConnected()
    detail = event.detail
    if event.end is RelayEnd.LOST:
        detail = f"the server closed the connection, perhaps it does not take the token ({detail})"
    return RelayConnectFailed(url, detail)
