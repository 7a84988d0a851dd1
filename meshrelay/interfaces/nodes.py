"""The other nodes of the cluster."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

__all__ = ["INodeObserver", "INodes"]


class INodes(Interface):
    """The other nodes of the cluster. Given by `mesh.nodes`; a node without links has `mesh.alone`.

    A node is *met* when it is linked for the first time, *lost* when it could not be reached for a while, *back* when a
    lost one is linked again, and *gone* when it stayed lost for too long or began anew: then it is met as a new one.
    """

    node_id = Attribute("str: of this node.")
    mesh_endpoint = Attribute("str: where others link to this node; its ID where it takes no links.")

    def known() -> list[str]:
        """IDs of all nodes that were met and are not gone, lost ones included; sorted, without this one."""

    def is_up(node_id: str) -> bool:
        """Whether there is a link to the node right now."""

    def is_lost(node_id: str) -> bool:
        """Whether the node is known and lost."""

    def endpoint_of(node_id: str) -> str:
        """Where others link to that node; its ID when that is not known. Of this node as well."""

    def send(node_id: str, kind: int, payload: bytes) -> bool:
        """Send one message, in order, exactly once as long as the node is known; it waits while there is no link.

        :param kind: 0 to 127, see `meshrelay.wire.node_kinds`.
        :returns: False: the node is not known, or too much waits for it: the message is dropped and counted.
        """

    def call(node_id: str, name: str, payload: bytes) -> Deferred[bytes]:
        """Ask a node; `name` is "component.verb" of ASCII.

        :returns: fires with the answer within 10 s; fails with a MeshError: there is no link, or the other end failed.
        """

    def handle(kind: int, handler: Callable[[str, bytes], object]) -> None:
        """Call ``handler(node_id, payload)`` for each message of this kind; MalformedFrame = it could not be read."""

    def answer(name: str, handler: Callable[[str, bytes], Deferred[bytes] | bytes]) -> None:
        """Answer calls of this name by ``handler(node_id, payload)``; what it raises is told there as a failure."""

    def add_observer(observer: INodeObserver) -> None:
        """Tell `observer` about nodes from now on."""


class INodeObserver(Interface):
    """Who is told about nodes; in the order of registration, what is raised is logged.

    For each node: met, then any number of (lost, back), then gone, perhaps without a lost before it. No message of a
    node comes before it was met or after it is gone.
    """

    def node_met(node_id: str) -> None:
        """The node is linked and begins, for us, with nothing: what was known of it before does not count."""

    def node_lost(node_id: str) -> None:
        """The node could not be reached for a while, by no node that we reach. What is sent to it still waits."""

    def node_back(node_id: str) -> None:
        """A lost node is linked again and is the same as before; nothing that waited for it was lost."""

    def node_gone(node_id: str) -> None:
        """The node will not come back, or has begun anew; nothing that was sent to it waits any more."""
