"""This node in the directory, and the links to the nodes that the directory names.

::

    each second:  own record, with its load of now --register_node--> directory --nodes--> whom to dial --keep--> links

Of two nodes that take links the one with the smaller ID dials; one that takes none dials all that do. Who is no longer
in the directory is dialled no more, but whether it is gone is for `meshrelay.mesh.nodes` to find out: a directory that
was wiped must not cut links. While the directory is away, what it said last stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from meshrelay.background import start
from meshrelay.directory.errors import NodeIdInUse
from meshrelay.directory.interfaces import IDirectory
from meshrelay.directory.records import NodeRecord
from meshrelay.errors import MeshError
from meshrelay.mesh.errors import LinkRefused
from meshrelay.mesh.interfaces import Dial
from meshrelay.mesh.links import Links
from meshrelay.mesh.nodes import Nodes
from meshrelay.mesh.rarely import Rarely

__all__ = ["Membership"]

#: Between two rounds: the load in the directory is never older than this and a call.
_ROUND_SECONDS = 1.0


class Membership:
    """Registers this node, and dials the others.

    :param dialer_for: makes what connects to the mesh endpoint of a record.
    :param own_record: what this node says of itself now.
    :param registered: called after each `IDirectory.register_node` with its answer: False = say everything again.
    :ivar is_registered: the last `register_node` worked.
    :ivar has_read: the directory has said who the others are, at least once.
    """

    _log = Logger()

    def __init__(
        self,
        directory: IDirectory,
        links: Links,
        nodes: Nodes,
        dialer_for: Callable[[NodeRecord], Dial],
        own_record: Callable[[], NodeRecord],
        registered: Callable[[bool], object],
        clock: IReactorTime,
    ) -> None:
        self._directory = directory
        self._links = links
        self._nodes = nodes
        self._dialer_for = dialer_for
        self._own_record = own_record
        self._registered = registered
        self._clock = clock
        self._records: dict[str, NodeRecord] = {}
        self._endpoints: dict[str, str] = {}
        #: Whom we dial -> the record that said where.
        self._dialled: dict[str, NodeRecord] = {}
        self._timer: IDelayedCall | None = None
        self._is_running = False
        self._rarely = Rarely(clock)
        self.is_registered = False
        self.has_read = False
        self.failed_rounds = 0

    @property
    def records(self) -> Mapping[str, NodeRecord]:
        """The other living nodes, by ID, as the directory said last."""
        return self._records

    def start(self) -> None:
        """Register now, and from then on each second."""
        self._is_running = True
        self._begin_round()

    def stop(self) -> Deferred[None]:
        """Take this node out of the directory; dial no more.

        :returns: fires when that was done, or could not be: then the lease ends by itself. Never fails.
        """
        if not self._is_running:
            return succeed(None)
        self._is_running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for node_id in list(self._dialled):
            self._release(node_id)
        return start(self._withdraw(), self._log, "leaving the directory")

    async def _withdraw(self) -> None:
        own = self._own_record()
        try:
            await self._directory.withdraw_node(own.node_id, own.incarnation)
        except MeshError as error:
            self._log.info("this node stays in the directory until its lease ends: {error}", error=str(error))

    def _begin_round(self) -> None:
        self._timer = None
        # Behind the end of each round, so that there is never more than one.
        start(self._round(), self._log, "a round of the membership").addCallback(self._round_over)

    def _round_over(self, _: None) -> None:
        if self._is_running:
            self._timer = self._clock.callLater(_ROUND_SECONDS, self._begin_round)

    async def _round(self) -> None:
        own = self._own_record()
        await self._register(own)
        if not self._is_running:
            return
        try:
            records = await self._directory.nodes()
        except MeshError as error:
            self._failed(error)
            return
        if self._is_running:
            self._take(own, records)

    async def _register(self, own: NodeRecord) -> None:
        try:
            is_renewed = await self._directory.register_node(own)
        except MeshError as error:
            # An ID in use may be our own lease from before a restart, which ends soon: trying goes on.
            self.is_registered = False
            self._failed(error)
            return
        self.is_registered = True
        if self._is_running:
            self._registered(is_renewed)

    def _failed(self, error: MeshError) -> None:
        self.failed_rounds += 1
        self._log_rarely("node ID in use" if isinstance(error, NodeIdInUse) else type(error).__name__, str(error))

    def _log_rarely(self, what: str, text: str) -> None:
        if self._rarely.is_due(what):
            self._log.warn("membership: {what}: {text}", what=what, text=text)

    def _take(self, own: NodeRecord, records: list[NodeRecord]) -> None:
        """Dial, and no longer dial, as the directory says."""
        self.has_read = True
        self._records = {record.node_id: record for record in records if record.node_id != own.node_id}
        self._tell_endpoints()
        for node_id, record in self._records.items():
            if self._is_ours_to_dial(own, record):
                self._dial(record)
            else:
                self._release(node_id)
        for node_id in self._dialled.keys() - self._records.keys():
            self._release(node_id)
        wanted = self._records.keys() | set(self._nodes.known())
        self._links.forget_unused(wanted)

    def _tell_endpoints(self) -> None:
        """Where nodes are that are missing in the directory for now is not forgotten while they are known."""
        known = set(self._nodes.known())
        kept = {node_id: where for node_id, where in self._endpoints.items() if node_id in known}
        self._endpoints = kept | {node_id: record.mesh_endpoint for node_id, record in self._records.items()}
        self._nodes.set_endpoints(self._endpoints)

    def _is_ours_to_dial(self, own: NodeRecord, record: NodeRecord) -> bool:
        return bool(record.mesh_endpoint) and (own.node_id < record.node_id or not own.mesh_endpoint)

    def _dial(self, record: NodeRecord) -> None:
        node_id = record.node_id
        before = self._dialled.get(node_id)
        is_same = before is not None and (before.incarnation, before.mesh_endpoint) == (
            record.incarnation,
            record.mesh_endpoint,
        )
        # The link is forgotten when the node is gone, and made anew when it comes back or stays in the directory.
        link = self._links.find(node_id)
        if is_same and link is not None and link.is_kept:
            return
        try:
            self._links.keep(node_id, self._dialer_for(record))
        except LinkRefused as refused:
            self._log_rarely(refused.code.name, str(refused))
        else:
            self._dialled[node_id] = record

    def _release(self, node_id: str) -> None:
        if self._dialled.pop(node_id, None) is None:
            return
        link = self._links.find(node_id)
        if link is not None:
            link.release()

    def statistics(self) -> Mapping[str, int]:
        """Counts for the metrics page; the same keys at each call."""
        return {
            "nodes_in_directory": len(self._records),
            "is_registered": int(self.is_registered),
            "failed_rounds": self.failed_rounds,
        }
