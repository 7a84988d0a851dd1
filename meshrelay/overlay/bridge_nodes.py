"""Which node of the cluster hands a user's message to the overlay: this one if it is a peer, else one that is.

::

    DirectRoutes --"peer:..."--> BridgeNodes --> Bridge of this node
                                     |
                                     `--OVERLAY_SEND--> BridgeNodes of another --> its Bridge
                                     <--OVERLAY_RESULT--

Nodes with a bridge say so to every node they meet. Of several the peer's ID chooses, so that the messages to one peer
go through one node. A sender waits for `BRIDGE_SECONDS` at most, and for a node that is lost not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count, takewhile
from zlib import crc32

from zope.interface import implementer

from meshrelay.background import Alarms
from meshrelay.errors import CommandError, InternalError, MessageTooLarge, ReliableTimeout, UserNotFound
from meshrelay.interfaces import INodeObserver, INodes
from meshrelay.overlay.bridge import MAX_PENDING, Bridge
from meshrelay.wire.direct_node import Direct
from meshrelay.wire.node_kinds import NodeKind
from meshrelay.wire.overlay_bridge import (
    MAX_BRIDGED_BYTES,
    BridgeOutcome,
    BridgeParcel,
    decode_bridge_result,
    decode_bridge_send,
    decode_overlay_here,
    encode_bridge_result,
    encode_bridge_send,
    encode_overlay_here,
    is_peer_user,
    peer_of_user,
)

__all__ = ["BRIDGE_SECONDS", "CHECK_SECONDS", "BridgeNodes"]

#: A message that was not handed over by then is given up. Clients wait ten seconds for an answer.
BRIDGE_SECONDS = 9.0

#: Deadlines are looked at this often.
CHECK_SECONDS = 0.25


class _Item:
    """One message that somebody waits for."""

    __slots__ = ("direct", "done", "gives_up_at", "is_done", "node_id", "number", "peer_id")

    def __init__(
        self,
        number: int,
        peer_id: bytes,
        direct: Direct,
        done: Callable[[CommandError | None], object],
        gives_up_at: float,
    ) -> None:
        self.number = number
        self.peer_id = peer_id
        self.direct = direct
        self.done = done
        self.gives_up_at = gives_up_at
        #: The node that has it; "" = this one.
        self.node_id = ""
        self.is_done = False


@implementer(INodeObserver)
class BridgeNodes:
    """See the module; it is the `meshrelay.components.direct_routes.Outside` of the node.

    :ivar bridge: of this node; None: it is no peer of the overlay. Set before the first node is met.
    """

    def __init__(self, nodes: INodes, alarms: Alarms, max_pending: int = MAX_PENDING) -> None:
        self.bridge: Bridge | None = None
        self._nodes = nodes
        self._alarms = alarms
        self._max_pending = max_pending
        self._numbers = count(1)
        #: Nodes with a bridge -> peer ID.
        self._peers: dict[str, bytes] = {}
        #: Number -> message, oldest first: they all wait equally long.
        self._pending: dict[int, _Item] = {}
        self._is_checking = False
        self._is_leaving = False
        self.timeouts = 0
        for kind, handler in (
            (NodeKind.OVERLAY_HERE, self._here_came),
            (NodeKind.OVERLAY_GONE, self._gone_came),
            (NodeKind.OVERLAY_SEND, self._parcel_came),
            (NodeKind.OVERLAY_RESULT, self._result_came),
        ):
            nodes.handle(kind, handler)
        nodes.add_observer(self)

    def statistics(self) -> Mapping[str, int]:
        """Counts for the metrics page; the same keys at each call."""
        return {"nodes": len(self._peers), "pending": len(self._pending), "timeouts": self.timeouts}

    def has(self, user_id: str) -> bool:
        """See `meshrelay.components.direct_routes.Outside`."""
        return is_peer_user(user_id)

    def send(self, direct: Direct, done: Callable[[CommandError | None], object]) -> None:
        """See `meshrelay.components.direct_routes.Outside`."""
        peer_id = peer_of_user(direct.peer_id)
        if peer_id is None:
            done(UserNotFound("no such user: a peer of the overlay is peer: and 40 hexadecimal digits"))
            return
        if len(self._pending) >= self._max_pending:
            done(ReliableTimeout(f"{self._max_pending} messages to peers of the overlay wait, the limit of this node"))
            return
        gives_up_at = self._alarms.now() + BRIDGE_SECONDS
        item = _Item(next(self._numbers), peer_id, direct, done, gives_up_at)
        self._pending[item.number] = item
        self._dispatch(item)
        if not item.is_done:
            self._check_later()

    def _dispatch(self, item: _Item) -> None:
        if self.bridge is not None:
            item.node_id = ""
            self.bridge.send(item.peer_id, item.direct, lambda outcome: self._outcome(item, outcome))
            return
        payload = encode_bridge_send(BridgeParcel(item.number, item.peer_id, item.direct))
        nodes = sorted(node_id for node_id in self._peers if not self._nodes.is_lost(node_id))
        first = crc32(item.peer_id) % len(nodes) if nodes else 0
        for node_id in nodes[first:] + nodes[:first]:
            item.node_id = node_id
            if self._nodes.send(node_id, NodeKind.OVERLAY_SEND, payload):
                return
        if self._peers:
            self._finish(item, ReliableTimeout("the node that is in the overlay cannot be reached"))
        else:
            self._finish(item, UserNotFound("no such user: no node of the cluster is in the overlay"))

    def _outcome(self, item: _Item, outcome: BridgeOutcome) -> None:
        if not item.is_done:
            self._finish(item, _error_of(outcome))

    def _finish(self, item: _Item, error: CommandError | None) -> None:
        item.is_done = True
        del self._pending[item.number]
        item.done(error)

    def _check_later(self) -> None:
        if not self._is_checking:
            self._is_checking = True
            self._alarms.call_later(CHECK_SECONDS, self._check)

    def _check(self) -> None:
        self._is_checking = False
        now = self._alarms.now()
        late = list(takewhile(lambda item: item.gives_up_at <= now, self._pending.values()))
        self.timeouts += len(late)
        for item in late:
            self._outcome(item, BridgeOutcome.TIMED_OUT)
        if self._pending:
            self._check_later()

    # What nodes tell each other.

    def say_gone(self) -> None:
        """Tell the other nodes to send by others; the users of this one can go on."""
        self._is_leaving = True
        for node_id in self._nodes.known():
            self._nodes.send(node_id, NodeKind.OVERLAY_GONE, b"")

    def node_met(self, node_id: str) -> None:
        """See `INodeObserver`."""
        if self.bridge is not None and not self._is_leaving:
            self._nodes.send(node_id, NodeKind.OVERLAY_HERE, encode_overlay_here(self.bridge.peer_id))

    def node_lost(self, node_id: str) -> None:
        """See `INodeObserver`: what is on its way there may or may not have been handed over."""
        for item in [item for item in self._pending.values() if item.node_id == node_id]:
            self._finish(item, ReliableTimeout("the node that is in the overlay was lost"))

    def node_back(self, node_id: str) -> None:
        """See `INodeObserver`."""

    def node_gone(self, node_id: str) -> None:
        """See `INodeObserver`."""
        self._peers.pop(node_id, None)
        self.node_lost(node_id)

    def _here_came(self, node_id: str, payload: bytes) -> None:
        self._peers[node_id] = decode_overlay_here(payload)

    def _gone_came(self, node_id: str, payload: bytes) -> None:
        self._peers.pop(node_id, None)

    def _parcel_came(self, node_id: str, payload: bytes) -> None:
        parcel = decode_bridge_send(payload)

        def done(outcome: BridgeOutcome) -> None:
            self._nodes.send(node_id, NodeKind.OVERLAY_RESULT, encode_bridge_result(parcel.number, outcome))

        if self.bridge is None or self._is_leaving:
            done(BridgeOutcome.NO_OVERLAY)
        else:
            self.bridge.send(parcel.peer_id, parcel.direct, done)

    def _result_came(self, node_id: str, payload: bytes) -> None:
        number, outcome = decode_bridge_result(payload)
        item = self._pending.get(number)
        if item is None or item.node_id != node_id:
            return
        if outcome is BridgeOutcome.NO_OVERLAY:
            # Each time one node less is asked.
            self._peers.pop(node_id, None)
            self._dispatch(item)
        else:
            self._outcome(item, outcome)


def _error_of(outcome: BridgeOutcome) -> CommandError | None:
    match outcome:
        case BridgeOutcome.TAKEN:
            return None
        case BridgeOutcome.NOT_FOUND:
            return UserNotFound("no such user: the overlay knows no way to this peer, or it did not answer")
        case BridgeOutcome.TIMED_OUT:
            return ReliableTimeout("the peer of the overlay did not answer in time")
        case BridgeOutcome.TOO_LARGE:
            return MessageTooLarge(f"message too large: to the overlay {MAX_BRIDGED_BYTES} bytes of JSON fit")
        case BridgeOutcome.TOO_MANY:
            return ReliableTimeout("too many messages to peers of the overlay wait")
        case BridgeOutcome.NO_OVERLAY:
            return ReliableTimeout("the node has left the overlay")
        case _:
            return InternalError()
