"""The admin API of nodes in memory: whole nodes with sessions, groups and rooms, asked over HTTP without a port."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.config.schema import Config, GroupConfig, StaticGroup
from meshrelay.counters import NodeCounters
from meshrelay.http.admin import AdminAccess
from meshrelay.http.admin_actions import AdminActions, AdminParts, Input
from meshrelay.http.admin_api import AdminApi
from meshrelay.http.admin_keys import WrongKeys
from meshrelay.http.admin_local import LocalNode, LocalParts, answer_calls
from meshrelay.http.admin_problems import Problem
from meshrelay.http.admin_repeats import Repeats
from meshrelay.session.auth import OpenAuthenticator
from meshrelay.testing.builders import make_group_id
from meshrelay.testing.memory_groups import GroupCluster
from meshrelay.testing.node import MemoryClient
from meshrelay.wire.commands import Command
from meshrelay.wire.room_commands import NewRoom, encode_new_room
from tests.http.exchange import NODE, Response, SiteUnderTest, parse_responses

__all__ = ["HERE", "KEY", "STATIC", "AdminTestCase"]

HERE = IPv4Address("TCP", "127.0.0.1", 50000)
KEY = b"a-long-admin-key"

#: A method of `AdminActions`.
Run = Callable[[AdminActions, Input], Any]

#: A group that all nodes have.
STATIC = make_group_id("static")


class AdminTestCase(SynchronousTestCase):
    """Nodes a, b and c; the API of a is asked."""

    node_ids: tuple[str, ...] = ("a", "b", "c")

    def setUp(self) -> None:
        """Start the nodes."""
        group = GroupConfig(send_interval_ms=0, static_groups=(StaticGroup(group_id=STATIC),))
        self.cluster = GroupCluster(self.node_ids, Config(group=group))
        self.drained: list[str] = []
        self.apis: dict[str, AdminApi] = {}
        self.locals: dict[str, LocalNode] = {}
        for node_id in self.node_ids:
            self._add(node_id)
        self.api = self.apis["a"]
        self.counters = NodeCounters()
        access = AdminAccess(KEY, wrong_keys=WrongKeys(self.cluster.clock, self.counters))
        self.site = SiteUnderTest(OpenAuthenticator(), clock=self.cluster.clock, api=self.api, admin=access)
        self.cluster.run(0.1)

    def _add(self, node_id: str) -> None:
        node = self.cluster[node_id]
        nodes = self.cluster.links[node_id].nodes
        drain: Callable[[], object] = lambda: self.drained.append(node_id)  # noqa: E731
        local = LocalNode(LocalParts(node_id, node.registry, node.groups, node.rooms, nodes, self.cluster.clock, drain))
        answer_calls(local, nodes)
        self.locals[node_id] = local

        async def read_nodes() -> Any:
            return {"asked": node_id, "nodes": []}

        limit = Config().session.max_payload_bytes
        parts = AdminParts(
            local, node.rooms, node.direct, nodes, self.cluster.directory, read_nodes, self.cluster.clock, limit
        )
        self.apis[node_id] = AdminApi(AdminActions(parts), Repeats(self.cluster.clock))

    # What users do.

    def sign_in(self, user_id: str, node_id: str, transport: str = "tcp") -> MemoryClient:
        """Return a client of a node."""
        client = self.cluster[node_id].sign_in(user_id, transport)
        self.cluster.run(0.05)
        return client

    def create_room(self, client: MemoryClient, max_members: int = 10) -> str:
        """Return the ID of a room that a client has made."""
        wanted = NewRoom(max_members, False, True, 60, 0)
        return self.cluster.request(client, Command.ROOM_CREATE, encode_new_room(wanted)).payload.decode("ascii")

    def heard(self, client: MemoryClient) -> list[tuple[str, bytes]]:
        """User and message of each group push that came since the last call."""
        self.cluster.run(0.05)
        return [(each.user_id, each.message) for each in client.messages()]

    # What operators do.

    def act(self, run: Run, body: Any = None, query: dict[str, str] | None = None, **path: str) -> Any:
        """Return what comes of an action on node a."""
        return self.successResultOf(self._begin(run, body, query, path))

    def problem(self, run: Run, body: Any = None, query: dict[str, str] | None = None, **path: str) -> tuple[str, str]:
        """Return code and field of the problem that an action ends with."""
        problem = self.failureResultOf(self._begin(run, body, query, path), Problem).value
        return problem.code, problem.field

    def _begin(self, run: Run, body: Any, query: dict[str, str] | None, path: dict[str, str]) -> Deferred[Any]:
        coming: Deferred[Any] = Deferred.fromCoroutine(run(self.api.actions, Input(path, query or {}, body)))
        for _ in range(500):
            if coming.called:
                break
            self.cluster.run(0.01)
        return coming

    def ask(
        self,
        path: str,
        *headers: str,
        method: str = "GET",
        body: bytes | None = None,
        client: IAddress = HERE,
        name: str = "localhost:7000",
    ) -> Response:
        """Return the answer of node a to one request."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {name}", *headers]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        transport = self.site.send("\r\n".join([*lines, "", ""]).encode("utf-8") + (body or b""), NODE, client)
        for _ in range(600):
            if transport.value():
                break
            self.cluster.run(0.01)
        (response,) = parse_responses(transport.value(), method == "HEAD")
        return response

    def post(self, path: str, document: Any = None, *headers: str, **options: Any) -> Response:
        """Return the answer to a POST of JSON."""
        body = msgspec.json.encode(document if document is not None else {})
        return self.ask(path, "Content-Type: application/json", *headers, method="POST", body=body, **options)
