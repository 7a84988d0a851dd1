"""What the pages ask of the cluster -> links, directory and records of this node.

The pages know `meshrelay.http.chooser.Cluster` and `meshrelay.http.cluster.StatusCluster` only; this is both of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.defer import Deferred, maybeDeferred

from meshrelay.directory.interfaces import IDirectory
from meshrelay.directory.records import NodeRecord, UserRecord
from meshrelay.http.chooser import Question
from meshrelay.http.node_status import STATUS_CALL
from meshrelay.http.placement import Place
from meshrelay.http.reserve import RESERVE_CALL, decode_reserved, encode_request
from meshrelay.interfaces import INodes
from meshrelay.transport.udp import UdpCredentials

__all__ = ["Neighbours"]


class Neighbours:
    """The cluster as this node sees it.

    :param records: the living nodes as the directory last told.
    :param own_load: load of this node, 0 to 1.
    """

    def __init__(
        self,
        nodes: INodes,
        directory: IDirectory,
        records: Callable[[], Iterable[NodeRecord]],
        own_load: Callable[[], float],
    ) -> None:
        self._nodes = nodes
        self._directory = directory
        self._records = records
        self._own_load = own_load

    def own_load(self) -> float:
        """See `meshrelay.http.chooser.Cluster`."""
        return self._own_load()

    def records(self) -> Iterable[NodeRecord]:
        """See `meshrelay.http.chooser.Cluster`."""
        return self._records()

    def known(self) -> Iterable[str]:
        """See `meshrelay.http.cluster.StatusCluster`."""
        known: list[str] = self._nodes.known()
        return known

    def is_lost(self, node_id: str) -> bool:
        """See `meshrelay.http.chooser.Cluster`."""
        return bool(self._nodes.is_lost(node_id))

    def whereabouts(self, user_id: str) -> Deferred[str | None]:
        """See `meshrelay.http.chooser.Cluster`."""
        found: Deferred[UserRecord | None] = self._directory.find_user(user_id)
        return found.addCallback(lambda record: record.node_id if record is not None else None)

    def reserve_at(self, node_id: str, question: Question) -> Deferred[tuple[Place, UdpCredentials]]:
        """See `meshrelay.http.chooser.Cluster`."""
        answer = maybeDeferred(lambda: self._nodes.call(node_id, RESERVE_CALL, encode_request(question)))
        return answer.addCallback(decode_reserved)

    def status_of(self, node_id: str, question: bytes) -> Deferred[bytes]:
        """See `meshrelay.http.cluster.StatusCluster`."""
        answer: Deferred[bytes] = self._nodes.call(node_id, STATUS_CALL, question)
        return answer
