"""What makes a node one of several: links, the other nodes, the directory, and what this node says of itself there.

::

    config [mesh] --> directory (memory, of another node, Redis)
                  --> links + nodes <-- membership (whom to dial, by the directory)
                                    <-- contact (the node that has the directory)
    sessions, groups --> registration --> directory

A node without a place for links and with its own directory is alone: it has the same parts, and nobody at their other
end.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from os import urandom
from random import Random, SystemRandom
from socket import gethostname
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint
from twisted.internet.interfaces import IAddress, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from meshrelay.components.group_log_store import NodesHistory
from meshrelay.config.files import read_secret
from meshrelay.config.listening import is_all_addresses, parse_stream_place
from meshrelay.config.schema import Config, MeshConfig
from meshrelay.directory.history import HistoryStore, MemoryHistory
from meshrelay.directory.interfaces import IDirectory
from meshrelay.directory.memory import MemoryDirectory
from meshrelay.directory.options import DirectoryOptions
from meshrelay.directory.records import NodeRecord, UserRecord
from meshrelay.directory.redis import open_redis_directory
from meshrelay.directory.redis_history import open_redis_history
from meshrelay.directory.redis_url import is_redis_url
from meshrelay.directory.remote import RemoteDirectory
from meshrelay.directory.serving import DirectoryServer
from meshrelay.errors import ConfigError, ConfigProblem
from meshrelay.fanout.turn import Turn
from meshrelay.interfaces import INodes
from meshrelay.machine.backoff import Backoff
from meshrelay.mesh.alone import Alone
from meshrelay.mesh.contact import DirectoryContact
from meshrelay.mesh.errors import LinkLost
from meshrelay.mesh.greeting import NodeIdentity
from meshrelay.mesh.interfaces import Dial, INodeConnection
from meshrelay.mesh.links import Chance, LinkOptions, Links
from meshrelay.mesh.membership import Membership
from meshrelay.mesh.nodes import Nodes
from meshrelay.mesh.pb import dialer, server_factory
from meshrelay.mesh.registration import Registration
from meshrelay.mesh.tls import NodeCertificates
from meshrelay.transport.listen import ListeningPlaces
from meshrelay.wire.node import INCARNATION_BYTES, NODE_PROTOCOL

__all__ = ["Cluster", "NodeFace"]

#: Keys in Redis begin with it.
_CLUSTER_NAME = "meshrelay"

#: How long the ready line waits for the first links.
SETTLE_SECONDS = 5.0
_SETTLE_CHECK_SECONDS = 0.02

_CONNECT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class NodeFace:
    """What the cluster is told of this node.

    :ivar places: kind of place -> host:port, for the endpoint API of other nodes.
    :ivar load: 0 = idle, 1 = takes no more.
    :ivar users: see `meshrelay.mesh.registration.Registration`.
    :ivar groups: likewise.
    """

    places: Callable[[], Mapping[str, str]]
    load: Callable[[], float]
    users: Callable[[], Iterable[UserRecord]]
    groups: Callable[[], Iterable[tuple[str, bytes]]]
    displaced: Callable[[UserRecord], object]
    taken_over: Callable[[UserRecord], object]


def read_certificates(mesh: MeshConfig, node_id: str) -> NodeCertificates | None:
    """Read the three files of [mesh]; None when they are not configured.

    :raises ConfigError: one cannot be read or used, or the certificate is another node's.
    """
    if not mesh.ca_file:
        return None
    certificates = NodeCertificates.from_pem(
        read_secret(mesh.ca_file), read_secret(mesh.certificate_file), read_secret(mesh.key_file)
    )
    if node_id not in certificates.node_ids:
        names = ", ".join(certificates.node_ids) or "no node"
        problem = (
            f"is for {names}, this node is {node_id}: set node.id, or issue one with `meshrelay ca issue {node_id}`"
        )
        raise ConfigError([ConfigProblem("mesh.certificate_file", problem)])
    return certificates


class _Door(Factory):
    """Lets connections in by the factory of the moment."""

    noisy = False

    def __init__(self, factory: IProtocolFactory) -> None:
        self.factory = factory

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """See `Factory`."""
        protocol: Any = self.factory.buildProtocol(addr)  # type: ignore[arg-type]
        return protocol


class Cluster:
    """The cluster as one node has it.

    :ivar nodes: the other nodes.
    :ivar links: None = this node is alone.
    :ivar directory: which node has what.
    :ivar directory_kind: "memory", "pb" or "redis".
    """

    _log = Logger()

    def __init__(self, node_id: str, config: Config, reactor: Any, turn: Turn) -> None:
        mesh = config.mesh
        self.node_id = node_id
        self.incarnation = urandom(INCARNATION_BYTES)
        self._config = mesh
        self._history_bytes = config.group.history_bytes
        self._history: HistoryStore | None = None
        self._reactor = reactor
        self._random = SystemRandom()
        self._certificates = read_certificates(mesh, node_id)
        self._mesh_endpoint = ""
        self._face: NodeFace | None = None
        self.links: Links | None = None
        self.membership: Membership | None = None
        self.registration: Registration | None = None
        self.contact: DirectoryContact | None = None
        self._is_draining = False
        self._door: _Door | None = None
        self._has_begun = False
        self.is_alone = not mesh.listen and mesh.directory == "memory"
        self.nodes: INodes
        if self.is_alone:
            self.nodes = Alone(node_id)
        else:
            self.nodes = self._linked_nodes(turn)
        self.directory_kind = "memory"
        self.directory: IDirectory = self._open_directory()

    def _linked_nodes(self, turn: Turn) -> Nodes:
        nodes = Nodes(self.node_id, "", self._reactor)
        secret = read_secret(self._config.secret_file) if self._config.secret_file else b""
        identity = NodeIdentity(self.node_id, self.incarnation)
        chance = Chance(urandom, self._random.uniform)
        self.links = Links(identity, secret, nodes.kinds, nodes, turn, self._reactor, chance, LinkOptions())
        nodes.attach(self.links)
        return nodes

    def _open_directory(self) -> IDirectory:
        where = self._config.directory
        options = DirectoryOptions()
        random = Random(secrets.randbits(64))
        if is_redis_url(where):
            self.directory_kind = "redis"
            tls = self._certificates.for_client if self._certificates is not None else None
            return open_redis_directory(self._reactor, where, _CLUSTER_NAME, random, options, tls=tls)
        if where.startswith("pb:"):
            self.directory_kind = "pb"
            return self._remote_directory(where.removeprefix("pb:"), random, options)
        memory = MemoryDirectory(self._reactor, random, options)
        for name, handler in DirectoryServer(memory).answers().items():
            self.nodes.answer(name, handler)
        return memory

    def open_history(self) -> HistoryStore:
        """Open what keeps the messages of groups; once. It ends with the cluster."""
        where = self._config.directory
        if is_redis_url(where):
            tls = self._certificates.for_client if self._certificates is not None else None
            random = Random(secrets.randbits(64))
            self._history = open_redis_history(self._reactor, where, _CLUSTER_NAME, random, tls=tls)
        else:
            memory = MemoryHistory(self._history_bytes, self._reactor, self._random.randrange)
            self._history = NodesHistory(self.nodes, memory, self._reactor)
        return self._history

    def _remote_directory(self, address: str, random: Random, options: DirectoryOptions) -> RemoteDirectory:
        nodes, links = self.nodes, self.links
        assert isinstance(nodes, Nodes)
        assert links is not None

        def call(name: str, payload: bytes) -> Deferred[bytes]:
            if contact.node_id is None:
                return fail(LinkLost("", f"the node with the directory, {address}, was not reached yet"))
            return nodes.call(contact.node_id, name, payload)

        directory = RemoteDirectory(call, self._reactor, random, options)
        contact = self.contact = DirectoryContact(
            links,
            nodes,
            self._dialer(address, by_host=True),
            self._reactor,
            Backoff(0.2, 5.0, self._random.uniform),
            partial(self._contact_changed, directory),
        )
        return directory

    def _dialer(self, address: str, by_host: bool = False) -> Dial:
        """Return what connects to another node.

        :param by_host: it is not known which node will answer: its certificate must be for the host.
        """
        endpoint, host = self._client_endpoint(address)

        def dial() -> Deferred[INodeConnection]:
            # At each try: the certificates may be others by then.
            certificates = None if host is None else self._certificates
            named = host if by_host else None
            return dialer(endpoint, self._reactor, certificates, self._config.insecure, named)()

        return dial

    def _client_endpoint(self, address: str) -> tuple[IStreamClientEndpoint, str | None]:
        if address.startswith("unix:"):
            path = address.removeprefix("unix:")
            return UNIXClientEndpoint(self._reactor, path, timeout=int(_CONNECT_SECONDS)), None
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        return HostnameEndpoint(self._reactor, host, int(port), timeout=_CONNECT_SECONDS), host

    @property
    def host(self) -> str:
        """Name or address by which others reach this machine, as far as it knows."""
        host, _, _ = self._mesh_endpoint.rpartition(":")
        is_socket = self._mesh_endpoint.startswith("unix:") or not host
        return "" if is_socket else host.strip("[]")

    def records(self) -> list[NodeRecord]:
        """The other living nodes: as a directory inside this node says now, as any other one said last."""
        if self.membership is None:
            return []
        records = list(self.membership.records.values())
        if isinstance(self.directory, MemoryDirectory):
            found: list[NodeRecord] = []
            # It answers at once; only one that was stopped already fails.
            self.directory.nodes().addCallbacks(found.extend, lambda _: found.extend(records))
            records = [record for record in found if record.node_id != self.node_id]
        return records

    def own_record(self) -> NodeRecord:
        """What this node says of itself in the directory."""
        face = self._face
        return NodeRecord(
            node_id=self.node_id,
            incarnation=self.incarnation.hex(),
            mesh_endpoint=self._mesh_endpoint,
            places={} if face is None else face.places(),
            load=1.0 if face is None or self._is_draining else min(1.0, max(0.0, face.load())),
            protocol=NODE_PROTOCOL,
        )

    def introduce(self, face: NodeFace) -> Registration | None:
        """Say what this node is and has; once, before `start`.

        :returns: where sessions and groups are said; None = this node is alone.
        """
        self._face = face
        nodes, links = self.nodes, self.links
        if links is None or not isinstance(nodes, Nodes):
            return None
        registration = self.registration = Registration(
            self.directory, self.node_id, self._reactor, face.users, face.groups, face.displaced, face.taken_over
        )
        self.membership = Membership(
            self.directory,
            links,
            nodes,
            lambda record: self._dialer(record.mesh_endpoint),
            self.own_record,
            registration.node_registered,
            self._reactor,
        )
        return registration

    def listen(self, places: ListeningPlaces) -> None:
        """Open the port for links.

        :raises ConfigError: it cannot be opened.
        """
        if self.links is None or not self._config.listen:
            return
        self._door = _Door(self._server_factory())
        try:
            places.listen_stream("mesh", self._config.listen, self._door)
        except ConfigError as error:
            # Told as "listen.mesh": in the file the key is in another section than those of other ports.
            problems = [ConfigProblem("mesh.listen", problem.problem) for problem in error.problems]
            raise ConfigError(problems) from error
        self._mesh_endpoint = self._advertised(places)
        if isinstance(self.nodes, Nodes):
            self.nodes.mesh_endpoint = self._mesh_endpoint

    def _server_factory(self) -> IProtocolFactory:
        assert self.links is not None
        is_unix = parse_stream_place(self._config.listen).kind == "unix"
        certificates = None if is_unix else self._certificates
        return server_factory(self.links.accepted, self._reactor, certificates, self._config.insecure)

    def read_again(self, config: Config) -> NodeCertificates | None:
        """Read the certificates that `config` names, for `use`.

        :raises ConfigError: one cannot be used.
        """
        return read_certificates(config.mesh, self.node_id) if self._certificates is not None else None

    def use(self, certificates: NodeCertificates | None) -> None:
        """Make links with these certificates from now on; those that are up stay. None changes nothing."""
        if certificates is not None:
            self._certificates = certificates
            if self._door is not None:
                self._door.factory = self._server_factory()

    def _advertised(self, places: ListeningPlaces) -> str:
        if self._config.advertised_address:
            return self._config.advertised_address
        shown = places.addresses()["mesh"]
        address = places.host("mesh")
        if not hasattr(address, "port"):
            return f"unix:{shown}"
        return f"{gethostname()}:{address.port}" if is_all_addresses(address.host) else shown

    def start(self) -> None:
        """Find the others. The ports are open by now."""
        if self.contact is not None:
            self.contact.start()
        else:
            self._begin()

    def _contact_changed(self, directory: RemoteDirectory, is_up: bool) -> None:
        if is_up and not self._has_begun:
            # Asked before, it would be away, and the next try comes a second later.
            self._begin()
        else:
            directory.link_changed(is_up)

    def _begin(self) -> None:
        self._has_begun = True
        self.directory.start()
        if self.registration is not None:
            self.registration.start()
        if self.membership is not None:
            self.membership.start()

    def settled(self, others: Collection[str] = ()) -> Deferred[None]:
        """Fires when this node is registered and linked to all that it should be linked to, or after 5 seconds.

        Whoever is told that a node is ready expects it to find what is on the others.

        :param others: IDs of nodes that it should be linked to, whether the directory names them already or not.
        """
        if self.membership is None:
            return succeed(None)
        return Deferred.fromCoroutine(self._settle(self.membership, others))

    async def _settle(self, membership: Membership, others: Collection[str]) -> None:
        ends_at = self._reactor.seconds() + SETTLE_SECONDS
        while self._reactor.seconds() < ends_at and not self._is_draining:
            wanted = {*membership.records, *others}
            if membership.has_read and all(self.nodes.is_up(node_id) for node_id in wanted):
                return
            pause: Deferred[None] = Deferred()
            self._reactor.callLater(_SETTLE_CHECK_SECONDS, pause.callback, None)
            await pause
        self._log.warn("not linked to all other nodes yet")

    def drain(self) -> None:
        """Send no more clients here."""
        self._is_draining = True

    async def stop(self) -> None:
        """Leave the cluster. Never fails."""
        self._is_draining = True
        if self.contact is not None:
            self.contact.stop()
        if self.registration is not None:
            self.registration.stop()
        if self.membership is not None:
            await self.membership.stop()
        if isinstance(self.nodes, Nodes):
            self.nodes.stop()
        if self.links is not None:
            await self.links.stop()
        if self._history is not None:
            await self._history.stop()
        await self.directory.stop()
