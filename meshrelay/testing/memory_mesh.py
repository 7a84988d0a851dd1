"""Many nodes that are linked in memory, on one virtual clock, through lines that are slow, lossy and cut by a seed.

The links are the real ones (`meshrelay.mesh.links`); only what is below them, Perspective Broker and its sockets, is a
twin: `MemoryConnection` carries the same five calls. `meshrelay.testing.link_contract` holds both to the same promises.
Lines are streams: what is lost on the way comes later and holds up what is behind it, and nothing overtakes.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass
from random import Random

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from meshrelay.fanout.turn import Turn
from meshrelay.mesh.errors import LinkLost
from meshrelay.mesh.greeting import NodeIdentity
from meshrelay.mesh.interfaces import Dial, IConnectionUser, INodeConnection, INodeLinkObserver
from meshrelay.mesh.link import NodeLink
from meshrelay.mesh.links import Chance, LinkOptions, Links
from meshrelay.testing.heap_clock import HeapClock
from meshrelay.wire.node import INCARNATION_BYTES, Message

__all__ = ["Line", "MemoryConnection", "MemoryMesh", "MemoryNode", "RecordingObserver"]

#: How much later something comes that was lost once: what TCP needs to send it again.
_RESEND_SECONDS = 0.2

#: Kinds of messages that nodes of a memory mesh know.
KNOWN_KINDS = frozenset(range(128))


@dataclass(frozen=True, slots=True)
class Line:
    """How good the lines are."""

    #: Seconds on the way: uniform between these.
    min_delay_seconds: float = 0.001
    max_delay_seconds: float = 0.001
    #: Share of calls and answers that are lost once on their way, 0 to 1.
    loss: float = 0.0


@implementer(INodeLinkObserver)
class RecordingObserver:
    """Keeps all that it is told.

    :ivar events: ("up", node), ("down", node), ("reset", node) in order.
    :ivar messages: node -> what came from it.
    :ivar answer: what is done with calls; echoes unless a test says otherwise.
    """

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.reasons: list[str] = []
        self.dropped: list[int] = []
        self.messages: dict[str, list[Message]] = {}
        self.calls: list[tuple[str, str, bytes]] = []
        self.answer: Callable[[str, bytes], Deferred[bytes]] = lambda _, payload: succeed(payload)

    def messages_received(self, node_id: str, messages: list[Message]) -> None:
        """See `INodeLinkObserver`."""
        self.messages.setdefault(node_id, []).extend(messages)

    def call_received(self, node_id: str, name: str, payload: bytes) -> Deferred[bytes]:
        """See `INodeLinkObserver`."""
        self.calls.append((node_id, name, payload))
        return self.answer(name, payload)

    def link_up(self, node_id: str) -> None:
        """See `INodeLinkObserver`."""
        self.events.append(("up", node_id))

    def link_down(self, node_id: str, reason: str) -> None:
        """See `INodeLinkObserver`."""
        self.events.append(("down", node_id))
        self.reasons.append(reason)

    def link_reset(self, node_id: str, dropped_messages: int) -> None:
        """See `INodeLinkObserver`."""
        self.events.append(("reset", node_id))
        self.dropped.append(dropped_messages)


@implementer(INodeConnection)
class MemoryConnection:
    """One end of a connection without a socket. Made in pairs by `MemoryMesh`."""

    def __init__(self, mesh: MemoryMesh, peer: str, names: tuple[str, ...] | None) -> None:
        self._mesh = mesh
        self.peer = peer
        self.names = names
        self.other: MemoryConnection
        self._user: IConnectionUser | None = None
        self.is_open = True
        #: Nothing that this end says arrives any more, and nobody is told.
        self.is_dead = False
        self._last_arrival = 0.0
        self._waiting: set[Deferred[bytes]] = set()

    def attach(self, user: IConnectionUser) -> None:
        """See `INodeConnection`."""
        self._user = user

    def call(self, method: str, data: bytes) -> Deferred[bytes]:
        """See `INodeConnection`."""
        if not self.is_open:
            return fail(LinkLost("", "the connection is closed"))
        result: Deferred[bytes] = Deferred()
        self._waiting.add(result)
        self._carry(lambda: self.other._called(method, data, result))
        return result

    def _carry(self, arrive: Callable[[], None]) -> None:
        """Let something happen at the other end, later and in order."""
        if self.is_dead:
            return
        delay = self._mesh.delay()
        now = self._mesh.clock.seconds()
        self._last_arrival = max(self._last_arrival, now + delay)
        self._mesh.clock.callLater(self._last_arrival - now, self._arrive, arrive)

    def _arrive(self, arrive: Callable[[], None]) -> None:
        if self.other.is_open and not self.is_dead:
            self._mesh.carried_count += 1
            arrive()

    def _called(self, method: str, data: bytes, result: Deferred[bytes]) -> None:
        if self._user is None:
            return
        self._user.heard()
        answer = self._user.received(method, data)
        if not isinstance(answer, Deferred):
            answer = succeed(answer)
        answer.addCallback(lambda done: self._carry(lambda: self.other._answered(result, done)))

    def _answered(self, result: Deferred[bytes], answer: bytes) -> None:
        if result in self._waiting:
            self._waiting.discard(result)
            if self._user is not None:
                self._user.heard()
            result.callback(answer)

    def finish(self) -> None:
        """See `INodeConnection`."""
        if self.is_open:
            self._carry(lambda: self.other.lose("closed by the other end"))
            self.lose("closed")

    def abort(self, reason: str) -> None:
        """See `INodeConnection`."""
        if self.is_open:
            self._carry(lambda: self.other.lose("reset by the other end"))
            self.lose(reason)

    def lose(self, reason: str) -> None:
        """This end sees the connection end."""
        if not self.is_open:
            return
        self.is_open = False
        waiting, self._waiting = self._waiting, set()
        user, self._user = self._user, None
        if user is not None:
            user.connection_lost(reason)
        for result in waiting:
            result.errback(Failure(LinkLost("", reason)))


class MemoryNode:
    """One node of a memory mesh."""

    def __init__(self, links: Links, observer: RecordingObserver) -> None:
        self.links = links
        self.observer = observer
        #: False: connecting to it fails.
        self.is_reachable = True
        #: False: it was killed, and connects to nobody any more.
        self.is_running = True

    @property
    def node_id(self) -> str:
        """Its ID."""
        return self.links.identity.node_id

    def link(self, node_id: str) -> NodeLink:
        """The link to another node.

        :raises LookupError: there is none.
        """
        link = self.links.find(node_id)
        if link is None:
            raise LookupError(f"{self.node_id} has no link to {node_id}")
        return link


class MemoryMesh:
    """Nodes and the lines between them.

    :param seed: of all that is random; the same seed gives the same run.
    :ivar connections: all that were ever made: the dialling end and the other one.
    """

    def __init__(self, seed: int = 1, line: Line | None = None) -> None:
        self.clock = HeapClock()
        self.random = Random(seed)
        self.line = line or Line()
        self.nodes: dict[str, MemoryNode] = {}
        self.connections: list[tuple[MemoryConnection, MemoryConnection]] = []
        #: Pairs of nodes that cannot connect to each other; what is open between them stays.
        self.parted: set[frozenset[str]] = set()
        #: Calls and answers that arrived.
        self.carried_count = 0

    def delay(self) -> float:
        """How long the next call or answer is on its way."""
        line = self.line
        seconds = self.random.uniform(line.min_delay_seconds, line.max_delay_seconds)
        return seconds + (_RESEND_SECONDS if self.random.random() < line.loss else 0.0)

    def add_node(
        self,
        node_id: str,
        secret: bytes = b"secret",
        options: LinkOptions | None = None,
        identity: NodeIdentity | None = None,
        observer: INodeLinkObserver | None = None,
        kinds: Container[int] = KNOWN_KINDS,
    ) -> MemoryNode:
        """Start a node; one that had this ID is no longer dialled.

        :param observer: is told about its links; None = ``node.observer`` is.
        :param kinds: messages that it understands.
        """
        identity = identity or NodeIdentity(node_id, self.random.randbytes(INCARNATION_BYTES))
        recording = RecordingObserver()
        chance = Chance(self.random.randbytes, self.random.uniform)
        links = Links(
            identity,
            secret,
            kinds,
            observer or recording,
            Turn(self.clock),
            self.clock,
            chance,
            options or LinkOptions(),
        )
        node = self.nodes[node_id] = MemoryNode(links, recording)
        return node

    def dialer(self, source: str, target: str, names: tuple[str, ...] | None = None) -> Dial:
        """Return what opens a connection from one node to whoever has the address of another.

        :param names: what the certificate of the target says; None = there is none.
        """
        here = self.nodes[source]

        def dial() -> Deferred[INodeConnection]:
            node = self.nodes.get(target)
            is_there = node is not None and node.is_reachable and here.is_running
            if node is None or not is_there or {source, target} in self.parted:
                return fail(LinkLost(target, "connection refused"))
            ours, theirs = MemoryConnection(self, target, names), MemoryConnection(self, source, None)
            ours.other, theirs.other = theirs, ours
            self.connections.append((ours, theirs))
            result: Deferred[INodeConnection] = Deferred(lambda _: ours.abort("given up"))
            self.clock.callLater(self.delay(), self._open, node, ours, theirs, result)
            return result

        return dial

    def _open(
        self, node: MemoryNode, ours: MemoryConnection, theirs: MemoryConnection, result: Deferred[INodeConnection]
    ) -> None:
        if result.called:
            return
        if not ours.is_open or not node.is_reachable:
            result.errback(LinkLost("", "connection refused"))
            return
        node.links.accepted(theirs)
        result.callback(ours)

    def keep(self, source: str, target: str) -> NodeLink:
        """Let one node dial another whenever it is not linked."""
        return self.nodes[source].links.keep(target, self.dialer(source, target))

    def open_connections(self, *node_ids: str) -> list[tuple[MemoryConnection, MemoryConnection]]:
        """Connections of these nodes that both ends believe in; of all nodes without an argument."""
        return [
            (dialling, other)
            for dialling, other in self.connections
            if dialling.is_open and other.is_open
            if not node_ids or {dialling.peer, other.peer} >= set(node_ids)
        ]

    def cut(self, *node_ids: str) -> int:
        """End all open connections of these nodes; both ends see it. What was on its way is lost.

        :returns: how many that were.
        """
        pairs = self.open_connections(*node_ids)
        for pair in pairs:
            for end in pair:
                end.is_dead = True
            for end in pair:
                end.lose("cut")
        return len(pairs)

    def part(self, source: str, target: str) -> None:
        """Cut two nodes from each other until `join`."""
        self.parted.add(frozenset((source, target)))
        self.cut(source, target)

    def join(self, source: str, target: str) -> None:
        """The opposite of `part`."""
        self.parted.discard(frozenset((source, target)))

    def black_hole(self, *node_ids: str) -> int:
        """From now on nothing arrives through the open connections of these nodes, and nobody is told."""
        pairs = self.open_connections(*node_ids)
        for pair in pairs:
            for end in pair:
                end.is_dead = True
        return len(pairs)

    def kill(self, node_id: str) -> None:
        """End a node as kill -9 does: its connections break, and it is no longer there."""
        node = self.nodes.pop(node_id)
        node.is_reachable = node.is_running = False
        for pair in self.connections:
            for end in pair:
                if node_id in (pair[0].peer, pair[1].peer):
                    end.is_dead = True
        for dialling, other in self.connections:
            if node_id == dialling.peer:
                dialling.lose("reset by the other end")
            elif node_id == other.peer:
                other.lose("reset by the other end")

    def run(self, seconds: float, step_seconds: float = 0.01) -> None:
        """Let time pass."""
        for _ in range(round(seconds / step_seconds)):
            self.clock.advance(step_seconds)
