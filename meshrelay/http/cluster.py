"""``GET /cluster``: all nodes, their links, and the directory, as one JSON document for operators.

::

    request -> AdminAccess -> ClusterStatus --"node.status"--> every other node, all at once
                                            <--NodeStatus---- those that answer in time

Only what the asked node can see is told: a node that it does not reach stands there with the state "no answer".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import msgspec
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web import http
from twisted.web.server import Request

from meshrelay.directory.records import NodeRecord
from meshrelay.errors import MeshRelayError
from meshrelay.http.admin import AdminAccess
from meshrelay.http.health import DirectoryProbe
from meshrelay.http.node_status import (
    MAX_LINKS,
    NodeStatus,
    StatusSources,
    decode_status,
    encode_question,
    own_status,
    unanswered_status,
)
from meshrelay.http.page import Answer, Page, json_answer

__all__ = ["ClusterPage", "ClusterStatus", "DirectoryView", "StatusCluster"]

#: For the answer of each node.
STATUS_SECONDS = 2.0


class StatusCluster(Protocol):
    """What the page needs of the other nodes; `meshrelay.http.neighbours.Neighbours` is one."""

    def records(self) -> Iterable[NodeRecord]:
        """The living nodes as the directory last told; this one among them or not."""

    def known(self) -> Iterable[str]:
        """IDs of all nodes that are or were linked and are not forgotten."""

    def status_of(self, node_id: str, question: bytes) -> Deferred[bytes]:
        """Ask a node. May fail with a MeshRelayError."""


class DirectoryView(NamedTuple):
    """The directory as this node sees it.

    :ivar kind: "memory", "pb" or "redis".
    :ivar statistics: its counts.
    """

    kind: str
    probe: DirectoryProbe
    statistics: Callable[[], Mapping[str, int]]


class ClusterStatus:
    """Asks all nodes."""

    _log = Logger()

    def __init__(
        self, own: StatusSources, cluster: StatusCluster, directory: DirectoryView, clock: IReactorTime
    ) -> None:
        self._own = own
        self._cluster = cluster
        self._directory = directory
        self._clock = clock

    async def read(self) -> dict[str, Any]:
        """Return the document; it takes a little over 2 seconds at most."""
        own_id = self._own.record().node_id
        records = {record.node_id: record for record in self._cluster.records()}
        others = sorted({*records, *self._cluster.known()} - {own_id})
        max_links = MAX_LINKS // (len(others) + 1)
        question = encode_question(max_links)
        coming = [Deferred.fromCoroutine(self._ask(node_id, records.get(node_id), question)) for node_id in others]
        directory = self._directory.probe.ask()
        answers: list[NodeStatus] = await gatherResults(coming, consumeErrors=True)
        nodes = sorted([own_status(self._own, max_links), *answers], key=lambda node: node.id)
        return {
            "asked": own_id,
            "nodes": msgspec.to_builtins(nodes),
            "directory": {
                "kind": self._directory.kind,
                "state": "up" if await directory else "away",
                "counts": dict(self._directory.statistics()),
            },
        }

    async def _ask(self, node_id: str, record: NodeRecord | None, question: bytes) -> NodeStatus:
        coming = self._cluster.status_of(node_id, question)
        try:
            return decode_status(node_id, await coming.addTimeout(STATUS_SECONDS, self._clock))
        except (MeshRelayError, DeferredTimeoutError) as error:
            self._log.info("{node} tells no status: {why!r}", node=node_id, why=error)
            return unanswered_status(node_id, record)


class ClusterPage(Page):
    """See the module."""

    def __init__(self, status: ClusterStatus, access: AdminAccess) -> None:
        super().__init__()
        self._status = status
        self._access = access

    def answer(self, request: Request) -> Answer | Deferred[Answer]:
        """See `Page.answer`."""
        refusal = self._access.refusal(request)
        if refusal is not None:
            return refusal
        return Deferred.fromCoroutine(self._status.read()).addCallback(lambda document: json_answer(http.OK, document))
