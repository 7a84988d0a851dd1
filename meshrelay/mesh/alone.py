"""The other nodes of a node that has no links: there are none."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred, fail
from zope.interface import implementer

from meshrelay.interfaces import INodeObserver, INodes
from meshrelay.mesh.errors import LinkLost

__all__ = ["Alone"]


@implementer(INodes)
class Alone:
    """`INodes` with nobody: components need not know whether there is a cluster."""

    def __init__(self, node_id: str) -> None:
        self.node_id = node_id
        self.mesh_endpoint = node_id
        self._kinds: set[int] = set()
        self._names: set[str] = set()

    def known(self) -> list[str]:
        """See `INodes`."""
        return []

    def is_up(self, node_id: str) -> bool:
        """See `INodes`."""
        return False

    def is_lost(self, node_id: str) -> bool:
        """See `INodes`."""
        return False

    def endpoint_of(self, node_id: str) -> str:
        """See `INodes`."""
        return node_id

    def send(self, node_id: str, kind: int, payload: bytes) -> bool:
        """See `INodes`."""
        return False

    def call(self, node_id: str, name: str, payload: bytes) -> Deferred[bytes]:
        """See `INodes`."""
        return fail(LinkLost(node_id, "this node has no links"))

    def handle(self, kind: int, handler: Callable[[str, bytes], object]) -> None:
        """See `INodes`."""
        if not 0 <= kind <= 127 or kind in self._kinds:
            raise ValueError(f"messages of kind {kind} have a handler already, or are not from 0 to 127")
        self._kinds.add(kind)

    def answer(self, name: str, handler: Callable[[str, bytes], Deferred[bytes] | bytes]) -> None:
        """See `INodes`."""
        if not name.isascii() or name in self._names:
            raise ValueError(f"calls {name!r} are answered already, or the name is not ASCII")
        self._names.add(name)

    def add_observer(self, observer: INodeObserver) -> None:
        """See `INodes`."""

    def statistics(self) -> Mapping[str, int]:
        """See `meshrelay.mesh.nodes.Nodes.statistics`."""
        return {"nodes_known": 0, "nodes_linked": 0, "nodes_lost": 0, "malformed": 0, "unknown_calls": 0}
