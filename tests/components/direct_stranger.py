"""A node that treats direct messages as a test tells it to. Its links are real ones."""

from __future__ import annotations

from meshrelay.directory.records import NodeRecord, UserRecord
from meshrelay.testing.memory_groups import GroupCluster
from meshrelay.testing.memory_nodes import endpoint
from meshrelay.wire.direct_node import Outcome, Parcel, decode_send, encode_results
from meshrelay.wire.node_kinds import NodeKind

__all__ = ["DirectStranger"]


class DirectStranger:
    """See the module.

    :ivar parcels: direct messages that came and are not answered yet, oldest first.
    :ivar cleared: payloads of the DIRECT_CLEAR that came.
    :ivar gone: payloads of the DIRECT_GONE that came.
    :ivar results: payloads of the DIRECT_RESULTS that came.
    """

    def __init__(self, cluster: GroupCluster, node_id: str) -> None:
        self._cluster = cluster
        self.node_id = node_id
        self.parcels: list[Parcel] = []
        self.cleared: list[bytes] = []
        self.gone: list[bytes] = []
        self.results: list[bytes] = []
        linked = cluster.links.add(node_id)
        self._nodes = linked.nodes
        heard = {
            NodeKind.DIRECT_SEND: lambda node_id, data: self.parcels.append(decode_send(data)),
            NodeKind.DIRECT_CLEAR: lambda node_id, data: self.cleared.append(data),
            NodeKind.DIRECT_GONE: lambda node_id, data: self.gone.append(data),
            NodeKind.DIRECT_RESULTS: lambda node_id, data: self.results.append(data),
        }
        for kind in NodeKind:
            linked.nodes.handle(kind, heard.get(kind, lambda node_id, data: None))
        cluster.directory.register_node(
            NodeRecord(
                node_id=node_id,
                incarnation=linked.links.identity.incarnation.hex(),
                mesh_endpoint=endpoint(node_id),
                places={},
                load=0.0,
                protocol=1,
            )
        )

    def claim(self, user_id: str, stamp: int = 1) -> None:
        """Say in the directory that a user is here."""
        record = UserRecord(user_id=user_id, node_id=self.node_id, sid=f"{stamp:032x}", stamp=stamp)
        self._cluster.directory.claim_user(record)

    def answer(self, outcome: int, count: int | None = None) -> list[bytes]:
        """Say what became of the oldest messages, of all that came if `count` is None; return them."""
        count = len(self.parcels) if count is None else count
        answered, self.parcels = self.parcels[:count], self.parcels[count:]
        self.send(NodeKind.DIRECT_RESULTS, encode_results([(parcel.number, outcome) for parcel in answered]))
        return [parcel.direct.message for parcel in answered]

    def take(self) -> list[bytes]:
        """Take all that came; return it."""
        return self.answer(Outcome.TAKEN)

    def send(self, kind: NodeKind, payload: bytes, node_id: str = "a") -> None:
        """Send anything, and let it arrive."""
        assert self._nodes.send(node_id, kind, payload)
        self._cluster.run(0.03)
