"""What components send to other nodes, where a message that was not taken must not be forgotten.

A link takes only so much. What may fail says so to its caller; what must arrive is kept here, in order, until the link
takes it again, and until then nothing else may overtake it.
"""

from __future__ import annotations

from collections import deque

from meshrelay.background import Alarms
from meshrelay.interfaces import INodes
from meshrelay.wire.node_kinds import NodeKind

__all__ = ["MAX_KEPT", "RETRY_SECONDS", "NodePost"]

#: How often it is tried again.
RETRY_SECONDS = 0.5

#: Messages that are kept for one node. One more is dropped: a member that is gone may then stay in the list of its room
#: until it comes back or its node is lost, and direct messages between two users wait until they are idle.
MAX_KEPT = 100_000


class NodePost:
    """See the module.

    :ivar refused: messages that no link took, and that were told to be lost.
    :ivar dropped: messages that should have arrived.
    """

    def __init__(self, nodes: INodes, alarms: Alarms) -> None:
        self._nodes = nodes
        self._alarms = alarms
        self._kept: dict[str, deque[tuple[NodeKind, bytes]]] = {}
        self._is_waiting = False
        self.refused = 0
        self.dropped = 0

    @property
    def kept_count(self) -> int:
        """Messages that wait to be taken, at most `MAX_KEPT` for each node."""
        return sum(map(len, self._kept.values()))

    def send(self, node_id: str, kind: NodeKind, payload: bytes) -> bool:
        """Send one message behind all others. False: it was not taken."""
        if node_id not in self._kept and self._nodes.send(node_id, kind, payload):
            return True
        self.refused += 1
        return False

    def tell(self, node_id: str, kind: NodeKind, payload: bytes) -> None:
        """Send one message that must arrive as long as the node is known."""
        if node_id not in self._kept and self._nodes.send(node_id, kind, payload):
            return
        if node_id not in self._nodes.known():
            return
        kept = self._kept.setdefault(node_id, deque())
        if len(kept) >= MAX_KEPT:
            self.dropped += 1
            return
        kept.append((kind, payload))
        self._retry_later()

    def _retry_later(self) -> None:
        if not self._is_waiting:
            self._is_waiting = True
            self._alarms.call_later(RETRY_SECONDS, self._retry)

    def _retry(self) -> None:
        self._is_waiting = False
        for node_id, kept in list(self._kept.items()):
            while kept and self._nodes.send(node_id, *kept[0]):
                kept.popleft()
            if not kept:
                del self._kept[node_id]
        if self._kept:
            self._retry_later()

    def node_gone(self, node_id: str) -> None:
        """Nothing that waits for the node means anything to it any more."""
        self._kept.pop(node_id, None)
