"""Relay servers in memory, real ones without sockets, and links to them; time is a Clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from meshrelay.relay.auth import AnyToken, TokenCheck
from meshrelay.relay.counters import RelayCounters
from meshrelay.relay.interfaces import IRelayLink
from meshrelay.relay.server import RelayClocks, RelayPeer, RelayServer
from meshrelay.relay.server_machine import ServerOptions
from meshrelay.relay_client.client import RelayClient
from meshrelay.relay_client.conn import RelayConn
from meshrelay.relay_client.errors import RelayConnectFailed
from meshrelay.relay_client.interfaces import RelayLink, RelayLinkReceiver
from meshrelay.relay_client.options import RelayOptions
from meshrelay.relay_client.token_store import TokenSource
from meshrelay.wire.relay import MAX_MESSAGE_BYTES

__all__ = ["HOME", "MemoryLink", "MemoryRelays"]

HOME = "rel://home:80"


@implementer(IRelayLink)
class MemoryLink:
    """Both ends of one connection; messages wait until `MemoryRelays.settle`.

    :ivar is_mute: the server says nothing more, and hears nothing.
    """

    def __init__(self, relays: MemoryRelays, server: RelayServer, name: str, max_message_bytes: int) -> None:
        self.transport_name = name
        self.max_message_bytes = max_message_bytes
        self.remote_address = "192.0.2.1:4000"
        self.host = IPv4Address("TCP", "192.0.2.1", 4000)
        self.peer_ip = "198.51.100.1"
        self.is_mute = False
        self.ended = ""
        self.sent: list[bytes] = []
        self.receiver: RelayLinkReceiver | None = None
        self._relays = relays
        self._peer: RelayPeer | None = None
        self._server = server

    def start(self, receiver: RelayLinkReceiver) -> None:
        """See `RelayLink`."""
        self.receiver = receiver
        self._peer = self._server.accept(self)

    def offer(self, message: bytes) -> bool:
        """See `IRelayLink`."""
        self._relays.later(lambda: self._to_client(message))
        return True

    def send(self, message: bytes) -> None:
        """Of the client; the server's are told from it by whose turn it is."""
        if self._relays.is_server_turn:
            self.offer(message)
            return
        self.sent.append(message)
        self._relays.later(lambda: self._to_server(message))

    def close(self) -> Any:
        """Of either end."""
        return self._drop("close")

    def abort(self) -> None:
        """Of either end."""
        self._drop("abort")

    def cut(self) -> None:
        """End it under both."""
        self.ended = self.ended or "cut"
        self._lost()

    def _drop(self, how: str) -> Deferred[None]:
        if self.ended:
            return succeed(None)
        self.ended = how
        self._relays.later(self._lost)
        return succeed(None)

    def _lost(self) -> None:
        peer, self._peer = self._peer, None
        receiver, self.receiver = self.receiver, None
        if receiver is not None:
            receiver.link_lost("cut")
        if peer is not None:
            self._relays.as_server(lambda: peer.connection_lost("cut"))

    def _to_client(self, message: bytes) -> None:
        if self.receiver is not None and not self.is_mute:
            self.receiver.message_received(message)

    def _to_server(self, message: bytes) -> None:
        peer = self._peer
        if peer is not None and not self.is_mute:
            self._relays.as_server(lambda: peer.message_received(message))


class MemoryRelays:
    """Servers by URL.

    :ivar links: all that were made, the newest last.
    :ivar dialled: URL, server IP and whether datagrams were to be avoided, of each dial.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.servers: dict[str, RelayServer] = {}
        self.links: list[MemoryLink] = []
        self.dialled: list[tuple[str, str, bool]] = []
        #: URLs that never answer.
        self.hanging: set[str] = set()
        self.transport_name = "ws"
        self.max_message_bytes = MAX_MESSAGE_BYTES
        self.is_server_turn = False
        self._queue: deque[Callable[[], object]] = deque()

    def add_server(self, url: str = HOME, tokens: TokenCheck | None = None) -> RelayServer:
        """Start a server; its instance URL is its URL."""
        clocks = RelayClocks(self.clock.seconds, self.clock.seconds)
        options = ServerOptions(url, health_check_seconds=1e9, health_verdict_seconds=1e9)
        server: list[RelayServer] = []
        schedule = lambda: self.later(lambda: self.as_server(server[0].flush))  # noqa: E731
        server.append(RelayServer(options, tokens or AnyToken(), clocks, schedule, RelayCounters()))
        self.servers[url] = server[0]
        return server[0]

    def open(
        self, reactor: Any, url: str, options: RelayOptions, server_ip: str = "", is_fallback: bool = False
    ) -> Deferred[RelayLink]:
        """A `LinkOpener`."""
        self.dialled.append((url, server_ip, is_fallback))
        if url in self.hanging:
            return Deferred()
        if url not in self.servers:
            return fail(RelayConnectFailed(url, "nobody there"))
        link = MemoryLink(self, self.servers[url], self.transport_name, self.max_message_bytes)
        self.links.append(link)
        opened: Deferred[RelayLink] = succeed(link)
        return opened

    def client(
        self,
        name: str,
        url: str = HOME,
        tokens: TokenSource | None = None,
        options: RelayOptions | None = None,
    ) -> RelayClient:
        """A client that is not connected."""
        return RelayClient(self.clock, url, name, tokens, options, opener=self.open)

    def connected(self, name: str, url: str = HOME, options: RelayOptions | None = None) -> RelayClient:
        """A client that is connected."""
        client = self.client(name, url, options=options)
        client.connect().addErrback(lambda failure: failure)
        self.settle()
        assert client.is_connected
        return client

    def conn(self, client: RelayClient, peer: str) -> RelayConn:
        """A connection from a client to a peer that is online."""
        conns: list[RelayConn] = []
        client.open_conn(peer).addCallback(conns.append)
        self.settle()
        return conns[0]

    def pair(self) -> tuple[RelayConn, RelayConn]:
        """Connections of alice to bob, and of bob to alice."""
        alice, bob = self.connected("alice"), self.connected("bob")
        return self.conn(alice, "bob"), self.conn(bob, "alice")

    def later(self, call: Callable[[], object]) -> None:
        """Do this in `settle`."""
        self._queue.append(call)

    def as_server(self, call: Callable[[], object]) -> None:
        """Let a server act."""
        before, self.is_server_turn = self.is_server_turn, True
        try:
            call()
        finally:
            self.is_server_turn = before

    def settle(self) -> None:
        """Do all that waits."""
        while self._queue:
            self._queue.popleft()()

    def advance(self, seconds: float) -> None:
        """Let time pass, in steps of at most a quarter of a second."""
        until = self.clock.seconds() + seconds
        self.settle()
        while (left := until - self.clock.seconds()) > 1e-9:
            self.clock.advance(min(left, 0.25))
            self.settle()
