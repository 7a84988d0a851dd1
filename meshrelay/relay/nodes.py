"""The relay peers of the other nodes: with it, linked nodes are one relay.

::

    a peer comes --> RELAY_HERE to all relay nodes --> each knows where it is, evicts an older connection of its own,
                                                       and tells those who watch it
    TRANSPORT for a peer elsewhere --> RELAY_SEND to its node --> RelayServer.deliver

Every node knows all peers of all nodes: a message finds its way at once, and whoever subscribes is answered at once. It
costs some 250 bytes for each peer of another node, and one message to each node for each turn in which peers come or
go. The nodes find each other by the directory of the cluster, so any directory will do. A node that begins says that
it is a relay and is told what the others have; one that is lost takes its peers along until it is back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import NamedTuple, Protocol, TypeVar

from zope.interface import implementer

from meshrelay.interfaces import INodeObserver, INodes
from meshrelay.relay.interfaces import IRelayElsewhere
from meshrelay.wire.node_kinds import NodeKind
from meshrelay.wire.relay_node import (
    MAX_ENTRIES,
    PeerHere,
    decode_forward,
    decode_gone,
    decode_here,
    encode_forward,
    encode_gone,
    encode_here,
)

__all__ = ["MAX_PEERS_ELSEWHERE", "RelayHere", "RelayNodes"]

#: Peers of other nodes that are known; more are counted, and cannot be reached from here.
MAX_PEERS_ELSEWHERE = 1_000_000

_T = TypeVar("_T")


class RelayHere(Protocol):
    """What is asked of the server of this node; `meshrelay.relay.server.RelayServer` is one."""

    def deliver(self, destination: bytes, message: bytes) -> bool:
        """Hand on a message of another node."""

    def set_elsewhere(self, peer_id: bytes, is_online: bool) -> None:
        """Another node has the peer, or no longer."""

    def evict(self, peer_id: bytes) -> None:
        """The peer is on another node."""


class _Place(NamedTuple):
    node_id: str
    stamp: int


@implementer(IRelayElsewhere, INodeObserver)
class RelayNodes:
    """See the module. `server` is set before the node listens.

    :param forward: sends a RELAY_SEND to a node, which may drop it when too much waits; False: it was dropped.
    :param schedule: called when the next `flush` has something to do; once, until then.
    :param unix: the time of day, in seconds.
    """

    def __init__(
        self,
        nodes: INodes,
        forward: Callable[[str, bytes], bool],
        schedule: Callable[[], None],
        unix: Callable[[], float],
        max_peers: int = MAX_PEERS_ELSEWHERE,
    ) -> None:
        self.server: RelayHere | None = None
        self._nodes = nodes
        self._forward = forward
        self._schedule = schedule
        self._unix = unix
        self._max_peers = max_peers
        #: Peers of this node.
        self._own: dict[bytes, int] = {}
        #: Own peers that came or went since the last flush; a dict, because it keeps the order.
        self._changed: dict[bytes, None] = {}
        #: Of each peer elsewhere the newest connection that is known.
        self._places: dict[bytes, _Place] = {}
        #: Relay node -> its peers, those that a newer connection elsewhere has taken left out.
        self._peers_of: dict[str, set[bytes]] = {}
        self._lost: set[str] = set()
        self.evictions = 0
        self.dropped = 0
        self.refused_full = 0
        for kind, handler in (
            (NodeKind.RELAY_HERE, self._here_came),
            (NodeKind.RELAY_GONE, self._gone_came),
            (NodeKind.RELAY_SEND, self._message_came),
        ):
            nodes.handle(kind, handler)
        nodes.add_observer(self)

    def forward(self, destination: bytes, message: bytes) -> bool:
        """See `IRelayElsewhere`."""
        place = self._places.get(destination)
        if place is None or place.node_id in self._lost:
            return False
        if not self._forward(place.node_id, encode_forward(destination, message)):
            self.dropped += 1
        return True

    def peer_registered(self, peer_id: bytes) -> None:
        """See `IRelayElsewhere`."""
        place = self._places.get(peer_id)
        stamp = int(self._unix() * 1_000_000)
        self._own[peer_id] = stamp if place is None else max(stamp, place.stamp + 1)
        self._change(peer_id)

    def peer_unregistered(self, peer_id: bytes) -> None:
        """See `IRelayElsewhere`."""
        self._own.pop(peer_id, None)
        self._change(peer_id)

    def _change(self, peer_id: bytes) -> None:
        if not self._peers_of:
            return
        if not self._changed:
            self._schedule()
        # At its end: what is told last is how it stands.
        self._changed.pop(peer_id, None)
        self._changed[peer_id] = None

    def peers_watched(self, peer_ids: list[bytes]) -> None:
        """See `IRelayElsewhere`."""
        for peer_id in peer_ids:
            place = self._places.get(peer_id)
            if place is not None and place.node_id not in self._lost:
                self._set_elsewhere(peer_id, True)

    def peers_unwatched(self, peer_ids: list[bytes]) -> None:
        """See `IRelayElsewhere`: what is known of them stays known."""

    def flush(self) -> None:
        """Tell the other nodes who came and who went since the last time."""
        changed, self._changed = self._changed, {}
        gone = [peer_id for peer_id in changed if peer_id not in self._own]
        here = [PeerHere(peer_id, self._own[peer_id]) for peer_id in changed if peer_id in self._own]
        for node_id in self._peers_of:
            for part in _parts(gone):
                self._nodes.send(node_id, NodeKind.RELAY_GONE, encode_gone(part))
            self._say_here(node_id, here)

    def _say_here(self, node_id: str, peers: Iterable[PeerHere]) -> None:
        for part in _parts(peers):
            self._nodes.send(node_id, NodeKind.RELAY_HERE, encode_here(part))

    def node_met(self, node_id: str) -> None:
        """See `INodeObserver`."""
        # It answers if it is a relay as well; others need not hear of peers.
        self._nodes.send(node_id, NodeKind.RELAY_HERE, b"")

    def node_lost(self, node_id: str) -> None:
        """See `INodeObserver`."""
        self._lost.add(node_id)
        for peer_id in self._peers_of.get(node_id, ()):
            self._set_elsewhere(peer_id, False)

    def node_back(self, node_id: str) -> None:
        """See `INodeObserver`."""
        self._lost.discard(node_id)
        for peer_id in self._peers_of.get(node_id, ()):
            self._set_elsewhere(peer_id, True)

    def node_gone(self, node_id: str) -> None:
        """See `INodeObserver`."""
        self._lost.discard(node_id)
        for peer_id in self._peers_of.pop(node_id, ()):
            del self._places[peer_id]
            self._set_elsewhere(peer_id, False)

    def _here_came(self, node_id: str, payload: bytes) -> None:
        peers = self._peers_of.get(node_id)
        if peers is None:
            peers = self._peers_of[node_id] = set()
            # What changed in this turn is told once more, which does no harm.
            self._say_here(node_id, [PeerHere(*own) for own in self._own.items()])
        for peer_id, stamp in decode_here(payload):
            self._came(node_id, peers, peer_id, stamp)

    def _came(self, node_id: str, peers: set[bytes], peer_id: bytes, stamp: int) -> None:
        before = self._places.get(peer_id)
        if before is not None:
            # Of two nodes that claim one moment, all choose the same.
            if (stamp, node_id) < (before.stamp, before.node_id):
                return
            self._peers_of[before.node_id].discard(peer_id)
        elif len(self._places) >= self._max_peers:
            self.refused_full += 1
            return
        self._places[peer_id] = _Place(node_id, stamp)
        peers.add(peer_id)
        self._set_elsewhere(peer_id, node_id not in self._lost)
        own = self._own.get(peer_id)
        if own is not None and (own, self._nodes.node_id) < (stamp, node_id):
            self.evictions += 1
            if self.server is not None:
                self.server.evict(peer_id)

    def _gone_came(self, node_id: str, payload: bytes) -> None:
        for peer_id in decode_gone(payload):
            place = self._places.get(peer_id)
            # Else a newer connection elsewhere has the ID.
            if place is not None and place.node_id == node_id:
                del self._places[peer_id]
                self._peers_of[node_id].discard(peer_id)
                self._set_elsewhere(peer_id, False)

    def _message_came(self, node_id: str, payload: bytes) -> None:
        destination, message = decode_forward(payload)
        if self.server is not None:
            self.server.deliver(destination, message)

    def _set_elsewhere(self, peer_id: bytes, is_online: bool) -> None:
        if self.server is not None:
            self.server.set_elsewhere(peer_id, is_online)

    def statistics(self) -> dict[str, int]:
        """Counts for the metrics page; the same keys at each call."""
        return {
            "nodes": len(self._peers_of),
            "peers_elsewhere": len(self._places),
            "evictions_by_nodes": self.evictions,
            "dropped_to_nodes": self.dropped,
            "peers_not_known": self.refused_full,
        }


def _parts(items: Iterable[_T]) -> Iterable[list[_T]]:
    """Cut into lists of at most `MAX_ENTRIES`; nothing of nothing."""
    iterator = iter(items)
    while part := list(islice(iterator, MAX_ENTRIES)):
        yield part
