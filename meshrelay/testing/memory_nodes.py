"""A cluster in memory: nodes of `meshrelay.testing.memory_mesh`, each with its `Nodes`, all linked to each other.

::

    cluster = MemoryCluster(["a", "b", "c"])
    cluster.linked()
    cluster["a"].nodes.send("b", 1, b"hello")
    cluster.run(0.1)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from meshrelay.errors import MeshError
from meshrelay.interfaces import INodeObserver, INodes
from meshrelay.mesh.links import LinkOptions
from meshrelay.mesh.nodes import Nodes, NodesOptions
from meshrelay.testing.memory_mesh import Line, MemoryMesh, MemoryNode

__all__ = ["ClusterNode", "MemoryCluster", "RecordingNodeObserver", "check_nodes", "endpoint"]

#: What may follow what, for each node; "" = it is not known.
_LEGAL = {
    "": {"met"},
    "met": {"lost", "gone"},
    "lost": {"back", "gone"},
    "back": {"lost", "gone"},
}


def endpoint(node_id: str) -> str:
    """Where the node of a cluster says that others link to it."""
    return f"{node_id}.example:7000"


def check_nodes(nodes: Any) -> None:
    """Check what every `INodes` promises of itself and of nodes that nobody knows.

    :raises AssertionError: a promise is broken.
    """
    verifyObject(INodes, nodes)
    _expect(nodes.node_id not in nodes.known(), "a node knows itself")
    _expect(bool(nodes.mesh_endpoint), "a node without an endpoint")
    _expect(nodes.endpoint_of(nodes.node_id) == nodes.mesh_endpoint, "its own endpoint is another one")
    _expect(nodes.endpoint_of("nobody") == "nobody", "an unknown endpoint is not the ID")
    _expect(not nodes.is_up("nobody") and not nodes.is_lost("nobody"), "nobody is up or lost")
    _expect(nodes.send("nobody", 1, b"") is False, "a message to nobody was taken")
    failures: list[Failure] = []
    nodes.call("nobody", "a.b", b"").addErrback(failures.append)
    _expect(len(failures) == 1 and failures[0].check(MeshError) is not None, "a call to nobody did not fail")
    nodes.handle(127, lambda *_: None)
    nodes.answer("check.twice", lambda *_: b"")
    wrong: list[Callable[[], object]] = [
        lambda: nodes.handle(127, lambda *_: None),
        lambda: nodes.handle(128, lambda *_: None),
        lambda: nodes.answer("check.twice", lambda *_: b""),
        lambda: nodes.answer("check.t\u00e9", lambda *_: b""),
    ]
    for number, attempt in enumerate(wrong):
        try:
            attempt()
        except ValueError:
            continue
        raise AssertionError(f"wrong registration {number} was taken")


def _expect(condition: bool, what: str) -> None:
    if not condition:
        raise AssertionError(what)


@implementer(INodeObserver)
class RecordingNodeObserver:
    """Keeps all that it is told of nodes, and takes nothing that breaks the promises of `INodeObserver`.

    :ivar events: ("met", node), ("lost", node), ("back", node), ("gone", node) in order.
    """

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self._last: dict[str, str] = {}

    def _take(self, event: str, node_id: str) -> None:
        last = self._last.get(node_id, "")
        if event not in _LEGAL[last]:
            raise AssertionError(f"{node_id}: {event} behind {last or 'nothing'}")
        self._last[node_id] = "" if event == "gone" else event
        self.events.append((event, node_id))

    def knows(self, node_id: str) -> bool:
        """Whether the node was met and is not gone."""
        return bool(self._last.get(node_id))

    def of(self, node_id: str) -> list[str]:
        """What was told of one node."""
        return [event for event, each in self.events if each == node_id]

    def node_met(self, node_id: str) -> None:
        """See `INodeObserver`."""
        self._take("met", node_id)

    def node_lost(self, node_id: str) -> None:
        """See `INodeObserver`."""
        self._take("lost", node_id)

    def node_back(self, node_id: str) -> None:
        """See `INodeObserver`."""
        self._take("back", node_id)

    def node_gone(self, node_id: str) -> None:
        """See `INodeObserver`."""
        self._take("gone", node_id)


class ClusterNode:
    """One node of a memory cluster.

    :ivar nodes: the others, as its components see them.
    :ivar observer: the first observer of `nodes`.
    """

    def __init__(self, memory: MemoryNode, nodes: Nodes, observer: RecordingNodeObserver) -> None:
        self.memory = memory
        self.links = memory.links
        self.nodes = nodes
        self.observer = observer

    @property
    def node_id(self) -> str:
        """Its ID."""
        return self.nodes.node_id


class MemoryCluster:
    """Nodes that all know where the others are, on one virtual clock.

    Of two nodes the one with the smaller ID dials. Handlers and components may be added to ``cluster[ID].nodes`` before
    time passes.

    :ivar mesh: the lines between them: cut, black_hole.
    """

    def __init__(
        self,
        node_ids: Iterable[str] = (),
        seed: int = 1,
        line: Line | None = None,
        options: NodesOptions = NodesOptions(),  # noqa: B008  (frozen)
    ) -> None:
        self.mesh = MemoryMesh(seed, line)
        self.clock = self.mesh.clock
        self._options = options
        self._nodes: dict[str, ClusterNode] = {}
        for node_id in node_ids:
            self.add(node_id)

    def __getitem__(self, node_id: str) -> ClusterNode:
        return self._nodes[node_id]

    def __iter__(self) -> Iterator[ClusterNode]:
        """All living nodes, in order of ID."""
        return iter([self._nodes[node_id] for node_id in sorted(self._nodes)])

    def add(
        self,
        node_id: str,
        is_dialled: bool = True,
        options: LinkOptions | None = None,
        nodes_options: NodesOptions | None = None,
    ) -> ClusterNode:
        """Start a node.

        :param is_dialled: False: it is alone until somebody dials, by ``mesh.keep`` or by a membership.
        :param nodes_options: for this node alone; None = those of the cluster.
        """
        nodes = Nodes(node_id, endpoint(node_id), self.clock, nodes_options or self._options)
        memory = self.mesh.add_node(node_id, options=options, observer=nodes, kinds=nodes.kinds)
        nodes.attach(memory.links)
        observer = RecordingNodeObserver()
        nodes.add_observer(observer)
        node = self._nodes[node_id] = ClusterNode(memory, nodes, observer)
        if is_dialled:
            self._dial_all(node_id)
        return node

    def _dial_all(self, node_id: str) -> None:
        for other in self._nodes:
            if other != node_id:
                self.mesh.keep(min(node_id, other), max(node_id, other))

    def redial(self) -> None:
        """Let every node dial those that it should: after one was gone, and is wanted again."""
        for node_id in self._nodes:
            self._dial_all(node_id)

    def kill(self, node_id: str) -> None:
        """End a node as kill -9 does. `add` starts another one of this ID."""
        node = self._nodes.pop(node_id)
        node.nodes.stop()
        self.mesh.kill(node_id)
        node.links.stop()

    def stop(self, node_id: str) -> None:
        """End a node cleanly: it says goodbye."""
        node = self._nodes.pop(node_id)
        node.nodes.stop()
        node.links.stop()
        self.mesh.run(0.1)
        if self.mesh.nodes.get(node_id) is node.memory:
            self.mesh.kill(node_id)

    def run(self, seconds: float, step_seconds: float = 0.01) -> None:
        """Let time pass."""
        self.mesh.run(seconds, step_seconds)

    def linked(self, within_seconds: float = 20.0) -> None:
        """Let time pass until all nodes are linked to all.

        :raises AssertionError: they are not.
        """
        for _ in range(round(within_seconds / 0.1)):
            if self._is_linked():
                return
            self.run(0.1)
        raise AssertionError(f"not all nodes were linked within {within_seconds} seconds")

    def _is_linked(self) -> bool:
        ids = sorted(self._nodes)
        return all(each.nodes.is_up(other) for each in self for other in ids if other != each.node_id)
