"""`INodes` for tests of one component: a few nodes that hand each other messages and calls directly.

Nothing is sent, resent or timed as real links do; `meshrelay.testing.memory_nodes` has those. What a test needs to see
can be done by hand: a link is cut and mended, a node dies or falls silent::

    nodes = PairedNodes(["a", "b"])
    nodes["b"].answer("echo.now", lambda node_id, payload: payload)
    nodes["a"].call("b", "echo.now", b"hello")  ->  a Deferred that has fired
    nodes.cut("a", "b")
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import cast

from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from meshrelay.interfaces import INodeObserver, INodes
from meshrelay.mesh.errors import CallFailed, LinkLost
from meshrelay.wire.node import CallStatus

__all__ = ["PairedNode", "PairedNodes"]


class PairedNodes:
    """Nodes that are all linked to each other, and were met before the test begins.

    :param clock: messages, calls and answers take `delay_seconds` on it; None = no time at all.
    """

    def __init__(self, node_ids: Iterable[str], clock: Clock | None = None, delay_seconds: float = 0.001) -> None:
        self._clock = clock
        self._delay_seconds = delay_seconds
        self._nodes: dict[str, PairedNode] = {}
        self._cuts: set[frozenset[str]] = set()
        self._dead: set[str] = set()
        self._silent: set[str] = set()
        for node_id in sorted(node_ids):
            self._nodes[node_id] = PairedNode(self, node_id)

    def __getitem__(self, node_id: str) -> PairedNode:
        return self._nodes[node_id]

    def __iter__(self) -> Iterator[PairedNode]:
        return iter(self._nodes.values())

    def cut(self, one: str, other: str) -> None:
        """There is no link between two nodes: messages wait, calls fail. No observer is told."""
        self._cuts.add(frozenset((one, other)))

    def mend(self, one: str, other: str) -> None:
        """There is a link again, and first what waited for it comes."""
        self._cuts.discard(frozenset((one, other)))
        for node_id, to in ((one, other), (other, one)):
            self._nodes[node_id].send_waiting(to)

    def kill(self, node_id: str) -> None:
        """A node is dead: the others forget it and tell their observers that it is gone."""
        self._dead.add(node_id)
        for node in self:
            if node.node_id not in self._dead:
                node.forget(node_id)

    def silence(self, node_id: str) -> None:
        """A node takes what comes and says nothing any more, and nobody has noticed."""
        self._silent.add(node_id)

    def is_known(self, node_id: str) -> bool:
        """Whether the node exists and lives."""
        return node_id in self._nodes and node_id not in self._dead

    def is_linked(self, one: str, other: str) -> bool:
        """Whether there is a link."""
        both_live = self.is_known(one) and self.is_known(other)
        return one != other and both_live and frozenset((one, other)) not in self._cuts

    def is_silent(self, *node_ids: str) -> bool:
        """Whether one of them answers nothing."""
        return not self._silent.isdisjoint(node_ids)

    def later(self, callback: Callable[[], object]) -> None:
        """Do what takes one way over a link."""
        if self._clock is None:
            callback()
        else:
            self._clock.callLater(self._delay_seconds, callback)


@implementer(INodes)
class PairedNode:
    """One of `PairedNodes`.

    :ivar calls: (from, name, payload) of all calls that came here.
    """

    def __init__(self, cluster: PairedNodes, node_id: str) -> None:
        self.node_id = node_id
        self.mesh_endpoint = f"{node_id}.example:7000"
        self.calls: list[tuple[str, str, bytes]] = []
        self._cluster = cluster
        self._handlers: dict[int, Callable[[str, bytes], object]] = {}
        self._answers: dict[str, Callable[[str, bytes], Deferred[bytes] | bytes]] = {}
        self._observers: list[INodeObserver] = []
        self._waiting: dict[str, list[tuple[int, bytes]]] = {}

    def known(self) -> list[str]:
        """See `INodes`."""
        return [node.node_id for node in self._cluster if node is not self and self._cluster.is_known(node.node_id)]

    def is_up(self, node_id: str) -> bool:
        """See `INodes`."""
        return self._cluster.is_linked(self.node_id, node_id)

    def is_lost(self, node_id: str) -> bool:
        """See `INodes`; nobody is ever lost here."""
        return False

    def endpoint_of(self, node_id: str) -> str:
        """See `INodes`."""
        return self._cluster[node_id].mesh_endpoint if self._cluster.is_known(node_id) else node_id

    def send(self, node_id: str, kind: int, payload: bytes) -> bool:
        """See `INodes`."""
        if node_id not in self.known():
            return False
        self._waiting.setdefault(node_id, []).append((kind, payload))
        self._cluster.later(lambda: self.send_waiting(node_id))
        return True

    def send_waiting(self, node_id: str) -> None:
        """Hand over what waits for a node, if there is a link."""
        while self._waiting.get(node_id) and self.is_up(node_id) and not self._cluster.is_silent(self.node_id, node_id):
            kind, payload = self._waiting[node_id].pop(0)
            self._cluster[node_id].take(self.node_id, kind, payload)

    def take(self, node_id: str, kind: int, payload: bytes) -> None:
        """A message has come."""
        self._handlers[kind](node_id, payload)

    def call(self, node_id: str, name: str, payload: bytes) -> Deferred[bytes]:
        """See `INodes`; what a silent node is asked stays open."""
        if not self.is_up(node_id):
            return fail(LinkLost(node_id, "there is no link"))
        answer: Deferred[bytes] = Deferred()

        def ask() -> None:
            if self._cluster.is_silent(self.node_id, node_id):
                return
            if self.is_up(node_id):
                self._cluster[node_id].run(self.node_id, name, payload).addBoth(come_back)
            else:
                answer.errback(LinkLost(node_id, "the link was cut"))

        def come_back(result: bytes | Failure) -> None:
            self._cluster.later(lambda: self._answered(answer, node_id, result))

        self._cluster.later(ask)
        return answer

    def _answered(self, answer: Deferred[bytes], node_id: str, result: bytes | Failure) -> None:
        if not self.is_up(node_id):
            answer.errback(LinkLost(node_id, "the link was cut"))
        elif isinstance(result, Failure):
            answer.errback(CallFailed(CallStatus.FAILED, result.getErrorMessage()))
        else:
            answer.callback(result)

    def run(self, node_id: str, name: str, payload: bytes) -> Deferred[bytes]:
        """A call has come."""
        self.calls.append((node_id, name, payload))
        # What is raised is told to the caller alone, as over a link.
        handler = cast("Callable[[str, bytes], Deferred[bytes]]", self._answers[name])
        return maybeDeferred(handler, node_id, payload)

    def handle(self, kind: int, handler: Callable[[str, bytes], object]) -> None:
        """See `INodes`."""
        if kind in self._handlers:
            raise ValueError(f"messages of kind {kind} have a handler already")
        self._handlers[kind] = handler

    def answer(self, name: str, handler: Callable[[str, bytes], Deferred[bytes] | bytes]) -> None:
        """See `INodes`."""
        if name in self._answers:
            raise ValueError(f"calls {name!r} are answered already")
        self._answers[name] = handler

    def add_observer(self, observer: INodeObserver) -> None:
        """See `INodes`."""
        self._observers.append(observer)

    def forget(self, node_id: str) -> None:
        """A node is gone, and what waits for it as well."""
        self._waiting.pop(node_id, None)
        for observer in self._observers:
            observer.node_gone(node_id)
