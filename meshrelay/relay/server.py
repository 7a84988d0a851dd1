"""A relay server without its sockets: links and messages go in, messages to links come out.

::

    WebSocket, QUIC --RelayPeer.message_received--> ServerMachine --events--> RelayServer
    WebSocket, QUIC <--IRelayLink.send------------- PeerTable, RelayServer.forward

One synchronous call takes a message from its sender's link to its receiver's. A receiver that does not read costs only
itself: its link drops what does not fit, and nobody waits for it.

Peers that are told of others coming and going are told once a turn: the owner gives `schedule`, which is called when
there is something to tell, and calls `RelayServer.flush`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from twisted.logger import Logger

from meshrelay.relay.auth import HEALTH_PROBE_ID, TokenCheck
from meshrelay.relay.counters import RelayCounters
from meshrelay.relay.errors import RelayEnd
from meshrelay.relay.interfaces import IRelayElsewhere, IRelayLink
from meshrelay.relay.peers import PeerChanges, PeerLimits, PeerTable
from meshrelay.relay.server_machine import (
    Accepted,
    Closed,
    Event,
    Forward,
    Send,
    ServerMachine,
    ServerOptions,
    State,
    Subscribe,
    Unsubscribe,
)
from meshrelay.wire.relay import MessageType, encode_peer_ids, peer_id_text

__all__ = ["ACTIVE_SECONDS", "RelayClocks", "RelayPeer", "RelayServer", "RelayServerLimits"]

#: A peer counts as active for so long after its last TRANSPORT (relay_peers_active).
ACTIVE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class RelayServerLimits:
    """Bounds of one server."""

    #: Connections, signed in or not.
    max_connections: int = 100_000
    peers: PeerLimits = field(default_factory=PeerLimits)


@dataclass(frozen=True, slots=True)
class RelayClocks:
    """The two times that a server needs."""

    #: Seconds that never go back.
    monotonic: Callable[[], float]
    #: Unix seconds, for the expiry of tokens.
    unix: Callable[[], float]


class RelayServer:
    """All peers of one server.

    :param schedule: called when the next `flush` has something to do; once, until then.
    :param elsewhere: the other nodes; None = this is the only one.
    """

    _log = Logger()

    def __init__(
        self,
        options: ServerOptions,
        tokens: TokenCheck,
        clocks: RelayClocks,
        schedule: Callable[[], None],
        counters: RelayCounters,
        limits: RelayServerLimits | None = None,
        elsewhere: IRelayElsewhere | None = None,
    ) -> None:
        self.options = options
        self.clocks = clocks
        self.counters = counters
        self._tokens = tokens
        self._limits = limits or RelayServerLimits()
        self._schedule = schedule
        self._is_scheduled = False
        self._is_stopping = False
        self._elsewhere = elsewhere
        self._table: PeerTable[RelayPeer] = PeerTable(self._limits.peers, counters)
        #: All connections, signed in or not; a dict, because it keeps the order.
        self._connections: dict[RelayPeer, None] = {}

    def accept(self, link: IRelayLink) -> RelayPeer:
        """Take a new connection; the server may abort its link within this call."""
        machine = ServerMachine(self.options, self._check_token, self.counters, self.clocks.monotonic())
        peer = RelayPeer(self, machine, link)
        self._connections[peer] = None
        self.counters.connections += 1
        if self._is_stopping or len(self._connections) > self._limits.max_connections:
            self.counters.connections_refused += 1
            peer.close(RelayEnd.REFUSED, "the server stops or is full")
        return peer

    def forward(self, destination: bytes, message: bytes) -> bool:
        """Hand a TRANSPORT, ready for its receiver, to whoever has the ID, here or elsewhere.

        :returns: False: it was dropped. The sender is not told: the protocol has no way to.
        """
        peer = self._table.find(destination)
        if peer is not None:
            return peer.deliver(message)
        if self._elsewhere is not None and self._elsewhere.forward(destination, message):
            return True
        self.counters.dropped["absent"] += 1
        return False

    def deliver(self, destination: bytes, message: bytes) -> bool:
        """Hand on a TRANSPORT that another node sent; it is not sent elsewhere again.

        :returns: False: no peer of this node has the ID, or it was dropped.
        """
        peer = self._table.find(destination)
        if peer is None:
            self.counters.dropped["absent"] += 1
            return False
        return peer.deliver(message)

    def set_elsewhere(self, peer_id: bytes, is_online: bool) -> None:
        """Another node of this relay has the peer, or no longer."""
        self._table.set_elsewhere(peer_id, is_online)
        self._flush_later()

    def evict(self, peer_id: bytes) -> None:
        """The peer has connected to another node of this relay."""
        peer = self._table.find(peer_id)
        if peer is not None:
            peer.close(RelayEnd.REPLACED, "a newer connection to another node")

    def flush(self) -> None:
        """Tell everybody of who came and went since the last time."""
        self._is_scheduled = False
        for peer, changes in self._table.take_changes():
            peer.tell(changes)

    def shut_down(self) -> None:
        """Take no more connections, say CLOSE to every peer and close it."""
        self._is_stopping = True
        for peer in list(self._connections):
            peer.close(RelayEnd.SHUTDOWN, "the server stops")

    @property
    def peer_count(self) -> int:
        """Peers signed in here."""
        return self._table.peer_count

    def has_peer(self, peer_id: bytes) -> bool:
        """Tell whether a peer is connected to this node."""
        return self._table.find(peer_id) is not None

    def active_count(self) -> int:
        """Return how many peers sent something in the last 30 s; looks at each of them."""
        since = self.clocks.monotonic() - ACTIVE_SECONDS
        return sum(peer.was_active_since(since) for peer in self._table.peers())

    def _check_token(self, token: bytes) -> None:
        self._tokens.check(token, self.clocks.unix())

    def register(self, peer: RelayPeer) -> None:
        """Called by `RelayPeer` when its client was answered."""
        started_at = self.clocks.monotonic()
        self.counters.authentication.add(started_at - peer.machine.opened_at)
        displaced = self._table.register(peer.machine.peer_id, peer)
        self.counters.peers[peer.link.transport_name] += 1
        if displaced is not None:
            displaced.close(RelayEnd.REPLACED, "a newer connection has this peer ID")
        if self._elsewhere is not None:
            self._elsewhere.peer_registered(peer.machine.peer_id)
        self._flush_later()
        self.counters.storing.add(self.clocks.monotonic() - started_at)

    def subscribe(self, peer: RelayPeer, peer_ids: list[bytes]) -> None:
        """Called by `RelayPeer`."""
        newly_watched = self._table.subscribe(peer, peer_ids)
        if newly_watched and self._elsewhere is not None:
            self._elsewhere.peers_watched(newly_watched)
        # At once: a client that opens a connection waits for this answer.
        peer.tell(self._table.take_changes_of(peer))

    def unsubscribe(self, peer: RelayPeer, peer_ids: list[bytes]) -> None:
        """Called by `RelayPeer`."""
        self._unwatched(self._table.unsubscribe(peer, peer_ids))

    def forget(self, peer: RelayPeer, was_open: bool, closed: Closed) -> None:
        """Called by `RelayPeer` when it is closed."""
        self._connections.pop(peer, None)
        self.counters.connections -= 1
        peer_id = peer.machine.peer_id
        say = self._log.debug if was_open or peer_id in (b"", HEALTH_PROBE_ID) else self._log.info
        say(
            "relay connection {peer_id} from {address} ended: {end} {detail}",
            peer_id=peer_id_text(peer_id) if peer_id else "of nobody",
            address=peer.link.remote_address,
            end=closed.end.value,
            detail=closed.detail,
        )
        if not was_open:
            return
        self.counters.peers[peer.link.transport_name] -= 1
        self._unwatched(self._table.unsubscribe_all(peer))
        if self._table.unregister(peer_id, peer) and self._elsewhere is not None:
            self._elsewhere.peer_unregistered(peer_id)
        self._flush_later()

    def _unwatched(self, peer_ids: list[bytes]) -> None:
        if peer_ids and self._elsewhere is not None:
            self._elsewhere.peers_unwatched(peer_ids)

    def _flush_later(self) -> None:
        if self._table.has_changes and not self._is_scheduled:
            self._is_scheduled = True
            self._schedule()


class RelayPeer:
    """One connection of a server. The transport calls `message_received`, `deadline_passed` and `connection_lost`."""

    __slots__ = ("_server", "is_registered", "link", "machine")

    def __init__(self, server: RelayServer, machine: ServerMachine, link: IRelayLink) -> None:
        self._server = server
        self.machine = machine
        self.link = link
        self.is_registered = False

    @property
    def is_closed(self) -> bool:
        """True: the link is closed, and nothing is done any more."""
        return self.machine.state is State.CLOSED

    def message_received(self, message: bytes) -> None:
        """Take one whole message; what comes after the end is passed over."""
        event = self.machine.receive(message, self._server.clocks.monotonic())
        if event is None:
            return
        if type(event) is Forward:
            self._server.forward(event.destination, event.message)
        else:
            self._act(event)

    def next_deadline(self) -> float | None:
        """Return when `deadline_passed` is to be called; it changes with AUTH and with each deadline."""
        return self.machine.next_deadline()

    def deadline_passed(self) -> None:
        """Do all that is due."""
        now = self._server.clocks.monotonic()
        while (deadline := self.machine.next_deadline()) is not None and deadline <= now:
            event = self.machine.deadline_passed(now)
            if event is not None:
                self._act(event)

    def connection_lost(self, detail: str = "") -> None:
        """The transport is gone, for whatever reason."""
        self.close(RelayEnd.LOST, detail)

    def close(self, end: RelayEnd, detail: str) -> None:
        """End it from this side, if it is not over."""
        was_open = self.is_registered
        closed = self.machine.close(end, detail)
        if closed is not None:
            self._closed(closed, was_open)

    def deliver(self, message: bytes) -> bool:
        """Send a TRANSPORT to this peer; False: it was dropped, and counted."""
        counters, link = self._server.counters, self.link
        if len(message) > link.max_message_bytes:
            counters.dropped["too_large"] += 1
            return False
        if not link.offer(message):
            counters.dropped["slow"] += 1
            return False
        counters.messages_sent += 1
        counters.sent_bytes += len(message)
        return True

    def tell(self, changes: PeerChanges) -> None:
        """Say who came and who went."""
        for message_type, peer_ids in (
            (MessageType.PEERS_ONLINE, changes.online),
            (MessageType.PEERS_WENT_OFFLINE, changes.offline),
        ):
            if peer_ids:
                for message in encode_peer_ids(message_type, peer_ids, self.link.max_message_bytes):
                    self.link.send(message)

    def was_active_since(self, since: float) -> bool:
        """Tell whether it sent a TRANSPORT since then."""
        at = self.machine.last_transport_at
        return at is not None and at >= since

    def _act(self, event: Event) -> None:
        if isinstance(event, Send):
            self.link.send(event.message)
        elif isinstance(event, Subscribe):
            self._server.subscribe(self, event.peer_ids)
        elif isinstance(event, Unsubscribe):
            self._server.unsubscribe(self, event.peer_ids)
        elif isinstance(event, Accepted):
            self.link.send(event.response)
            self.is_registered = True
            self._server.register(self)
        elif isinstance(event, Closed):
            self._closed(event, self.is_registered)

    def _closed(self, closed: Closed, was_open: bool) -> None:
        if closed.last_words:
            self.link.send(closed.last_words)
            self.link.close()
        elif closed.end is RelayEnd.PEER_CLOSED:
            # A reset could meet the client's own farewell: NetBird's client takes that for an error.
            self.link.close()
        else:
            self.link.abort()
        self._server.forget(self, was_open, closed)
