"""A node in memory with a console, and consoles that watch it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.http.admin_links import LinkPages
from meshrelay.http.admin_local import LocalParts
from meshrelay.http.console import Console, Widen, make_console
from meshrelay.http.console_state import StateSources
from meshrelay.http.console_tickets import TicketAuthenticator, Tickets
from meshrelay.mesh.alone import Alone
from meshrelay.session.auth import OpenAuthenticator
from meshrelay.testing.node import MemoryClient, make_node
from meshrelay.wire.commands import Command
from meshrelay.wire.frame import Frame
from meshrelay.wire.hello import Hello

__all__ = ["WATCH", "ConsoleTestCase", "node_row"]

WATCH = b"\1"


def node_row(node_id: str, state: str = "ready", *links: tuple[str, str]) -> dict[str, Any]:
    """A node as GET /cluster tells it."""
    shown = [{"to": to, "state": how, "rtt_ms": 1.5, "queued_bytes": 0, "resent_batches": 0} for to, how in links]
    facts = {"load": 0.1, "version": "1", "users": 2, "groups": 1, "uptime_seconds": 9.0, "places": {}}
    return {"id": node_id, "state": state, "links": shown, **facts}


class ConsoleTestCase(SynchronousTestCase):
    """A node whose clock stands still unless a test moves it."""

    def setUp(self) -> None:
        """Start the node and its console."""
        self.node = make_node()
        self.clock = self.node.clock
        self.nodes = [node_row("n1")]
        self.asked = 0
        self.is_failing = False
        node, nothing = self.node, lambda: None
        local = LocalParts("n1", node.registry, node.groups, node.rooms, Alone("n1"), self.clock, nothing)
        links = LinkPages("n1", node.links.started_rooms, node.links.statistics, node.links.link_pairs)
        self.sources = StateSources(local, "1.2.3", node.counters, self.read_cluster, links)
        self.tickets = Tickets(self.clock, Random(1).randbytes)
        node.reception.authenticator = TicketAuthenticator(OpenAuthenticator(), self.tickets)
        self.console = self.make_console(self.sources)
        node.registry.add_observer(self.console.feed)
        node.dispatcher.register(self.console.feed.command_table())
        self.console.history.startService()

    def make_console(
        self, sources: StateSources, widen: Widen | None = None, tickets: Tickets | None = None
    ) -> Console:
        """Return a console that does not run yet, of the node or of something wider."""
        return make_console(
            sources, self.tickets if tickets is None else tickets, lambda kind, host: (kind, host, 7300), widen
        )

    def tickets_of(self, name: str) -> Tickets:
        """Tickets of one process of a node that has several."""
        return Tickets(self.clock, Random(name).randbytes, b"key of the node")

    async def read_cluster(self) -> Mapping[str, Any]:
        """See `StateSources`."""
        self.asked += 1
        if self.is_failing:
            raise ZeroDivisionError
        return {"asked": "n1", "nodes": self.nodes, "directory": {"kind": "memory", "state": "up", "counts": {}}}

    def open_console(self, limit_bytes: int = 1 << 20) -> MemoryClient:
        """Return a client that has signed in with a ticket."""
        client = self.node.connect("websocket", limit_bytes)
        client.say_hello(Hello(protocol=1, token=self.tickets.issue().token))
        assert client.welcome is not None
        return client

    def watch(self, client: MemoryClient) -> Any:
        """Begin to watch; return what is answered."""
        return json.loads(client.request(Command.CONSOLE_WATCH, WATCH).payload)

    def read(self) -> Any:
        """What a page without a WebSocket is told."""
        return json.loads(self.successResultOf(self.console.feed.read()))

    def seconds(self, count: int) -> None:
        """Let time pass."""
        for _ in range(count * 4):
            self.clock.advance(0.25)
            self.node.settle()

    def states(self, client: MemoryClient) -> list[Any]:
        """What a console was told since the last call."""
        return [json.loads(frame.payload) for frame in client.pushes() if is_state(frame)]


def is_state(frame: Frame) -> bool:
    """Whether a push is one of the console."""
    return (frame.ver, frame.cmd) == (1, Command.CONSOLE_WATCH)
