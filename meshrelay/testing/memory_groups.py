"""Whole nodes in memory that are a cluster: sessions, groups and links of each, one clock and one directory for all.

::

    cluster = GroupCluster(["a", "b", "c"])
    ann, bob = cluster["a"].sign_in("ann"), cluster["b"].sign_in("bob")
    lobby = ann.create_group()
    cluster.join(bob, lobby)
    ann.broadcast(lobby, b"hello")
    cluster.run(0.1)
    bob.messages()  ->  [PushedMessage(lobby, "ann", b"hello")]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

from meshrelay.config.schema import Config, GroupConfig
from meshrelay.directory.memory import MemoryDirectory
from meshrelay.directory.options import DirectoryOptions
from meshrelay.directory.records import NodeRecord
from meshrelay.interfaces import IMeshRelay
from meshrelay.mesh.nodes import NodesOptions
from meshrelay.mesh.registration import Registration
from meshrelay.session.roaming import Memberships, Roaming, RoomMemberships
from meshrelay.testing.memory_mesh import Line
from meshrelay.testing.memory_nodes import ClusterNode, MemoryCluster
from meshrelay.testing.node import MemoryClient, MemoryNode, NodeSurroundings, make_node
from meshrelay.wire.commands import Command, encode_gid_message
from meshrelay.wire.frame import Frame

__all__ = ["GroupCluster"]

#: Longer than any test: the directory forgets a node when it is told to.
_LEASE_SECONDS = 1e6


class GroupCluster:
    """See the module.

    :param config: of every node; merging on replicas is off unless it is given.
    :param set_up: the application of every node.
    :ivar links: the same nodes as their links see them: kill, cut and the like are there.
    :ivar directory: of all nodes.
    """

    def __init__(
        self,
        node_ids: Iterable[str],
        config: Config | None = None,
        set_up: Callable[[IMeshRelay], object] | None = None,
        seed: int = 1,
        line: Line | None = None,
        options: NodesOptions = NodesOptions(),  # noqa: B008  (frozen)
    ) -> None:
        self.links = MemoryCluster((), seed, line, options)
        self.clock = self.links.clock
        self._config = config or Config(group=GroupConfig(send_interval_ms=0))
        self._set_up = set_up
        self.directory = MemoryDirectory(self.clock, Random(seed), DirectoryOptions(lease_seconds=_LEASE_SECONDS))
        self._nodes: dict[str, MemoryNode] = {}
        for node_id in node_ids:
            self.add(node_id)
        self.links.linked()

    def __getitem__(self, node_id: str) -> MemoryNode:
        return self._nodes[node_id]

    @property
    def node_ids(self) -> list[str]:
        """IDs of the living nodes."""
        return sorted(self._nodes)

    def add(self, node_id: str) -> MemoryNode:
        """Start a node."""
        linked: ClusterNode = self.links.add(node_id)
        self.directory.register_node(
            NodeRecord(
                node_id=node_id,
                incarnation=linked.links.identity.incarnation.hex(),
                mesh_endpoint=linked.nodes.mesh_endpoint,
                places={},
                load=0.0,
                protocol=1,
            )
        )
        endpoints = {each.node_id: each.nodes.mesh_endpoint for each in self.links}
        for each in self.links:
            each.nodes.set_endpoints(endpoints)
        parts: list[tuple[MemoryNode, Roaming]] = []
        registration = Registration(
            self.directory,
            node_id,
            self.clock,
            users=lambda: parts[0][1].records() if parts else (),
            groups=lambda: parts[0][0].groups.held() if parts else (),
            displaced=lambda record: parts[0][1].displaced(record),  # noqa: PLW0108  (made after this)
            taken_over=lambda record: parts[0][1].taken_over(record),  # noqa: PLW0108
        )
        around = NodeSurroundings(linked.nodes, self.clock, self.directory, registration)
        node = self._nodes[node_id] = make_node(self._config, self._set_up, around=around)
        roaming = Roaming(
            linked.nodes,
            self.directory,
            registration,
            node.registry,
            self.clock,
            lambda: int(self.clock.seconds() * 1_000_000),
            Memberships(
                node.groups.memberships,
                node.groups.recall,
                RoomMemberships(node.rooms.memberships, node.rooms.recall, node.rooms.adopt),
            ),
        )
        parts.append((node, roaming))
        node.reception.arrivals = roaming
        node.registry.add_observer(roaming)
        registration.start()
        return node

    def kill(self, node_id: str) -> None:
        """End a node as kill -9 does; the directory forgets it at once."""
        incarnation = self.links[node_id].links.identity.incarnation.hex()
        self.links.kill(node_id)
        del self._nodes[node_id]
        self.directory.withdraw_node(node_id, incarnation)

    def run(self, seconds: float, step_seconds: float = 0.01) -> None:
        """Let time pass, and what was sent be read."""
        for _ in range(max(1, round(seconds / step_seconds))):
            self.clock.advance(step_seconds)
            for node in self._nodes.values():
                node.read()

    def request(self, client: MemoryClient, cmd: int, payload: bytes, within_seconds: float = 10.0) -> Frame:
        """Send a request that other nodes have a part in, and return the response.

        :raises AssertionError: it does not come.
        """
        request_id = client.ask(cmd, payload)
        for _ in range(round(within_seconds / 0.01)):
            self.run(0.01)
            answer = client.answer_to(request_id)
            if answer is not None:
                return answer
        raise AssertionError(f"no answer to cmd {cmd} within {within_seconds} seconds")

    def join(self, client: MemoryClient, group_id: str, message: bytes = b"") -> Frame:
        """GROUP_JOIN."""
        return self.request(client, Command.GROUP_JOIN, encode_gid_message(group_id, message))
