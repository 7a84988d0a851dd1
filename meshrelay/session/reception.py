"""What all connections of a node share, and the only way to get one."""

from __future__ import annotations

from meshrelay.background import Alarms
from meshrelay.counters import NodeCounters
from meshrelay.interfaces import IDownlink
from meshrelay.session.auth import Authenticator
from meshrelay.session.connection import Connection
from meshrelay.session.dispatch import Dispatcher
from meshrelay.session.handshake import Arrivals, NoArrivals, NodeFacts
from meshrelay.session.registry import SessionRegistry
from meshrelay.session.rules import ConnectionRules

__all__ = ["Reception"]


class Reception:
    """What all connections of a node share, and the only way to get one.

    :ivar arrivals: brings sessions of other nodes here; nobody's unless the node has others.
    :ivar is_draining: True: nobody is let in any more.
    """

    def __init__(
        self,
        node_id: str,
        rules: ConnectionRules,
        authenticator: Authenticator,
        registry: SessionRegistry,
        dispatcher: Dispatcher,
        alarms: Alarms,
        counters: NodeCounters,
    ) -> None:
        self.node_id = node_id
        self.rules = rules
        self.authenticator = authenticator
        self.registry = registry
        self.dispatcher = dispatcher
        self.alarms = alarms
        self.counters = counters
        self.connections: set[Connection] = set()
        #: Closed by the node, and its transport not gone yet.
        self.lingering: set[Connection] = set()
        #: User ID -> the connection that waits for a session of another node; some of `connections`.
        self.signing_in: dict[str, Connection] = {}
        self.arrivals: Arrivals = NoArrivals()
        self.is_draining = False

    @property
    def facts(self) -> NodeFacts:
        """What every client is told about this node."""
        return NodeFacts(self.node_id, self.rules.heartbeat_seconds, self.rules.max_payload_bytes)

    def accept(self, link: IDownlink) -> Connection | None:
        """Serve the new connection behind `link`. None: it was refused and aborted."""
        if len(self.connections) + len(self.lingering) >= self.rules.max_connections:
            self.counters.refused["max_connections"] += 1
            link.abort()
            return None
        connection = Connection(link, self)
        self.connections.add(connection)
        return connection
