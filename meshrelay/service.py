"""The composition root: one `Config` becomes one node, and nothing else builds anything.

Read it from top to bottom to see what a node consists of and who knows whom. No other module has state at import, so
two nodes fit in one process.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry
from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from meshrelay import __version__
from meshrelay.background import Alarms, stop_reactor
from meshrelay.cluster import Cluster, NodeFace
from meshrelay.components.direct import DirectMessages, DirectRules
from meshrelay.components.direct_routes import RouteParts
from meshrelay.components.group_nodes import GroupSurroundings
from meshrelay.components.group_parts import Chances, GroupHouse, make_groups
from meshrelay.components.groups import Groups
from meshrelay.components.link_parts import LinkRules, LinkSurroundings
from meshrelay.components.links import PeerLinks
from meshrelay.components.room_home import RoomRules
from meshrelay.components.rooms import Rooms, RoomSurroundings
from meshrelay.config.listening import parse_stream_place
from meshrelay.config.schema import Config, SessionConfig
from meshrelay.console_parts import ConsoleNode
from meshrelay.counters import NodeCounters
from meshrelay.errors import ConfigError
from meshrelay.fanout.hub import Hub
from meshrelay.fanout.outbox import OutboxLimits
from meshrelay.fanout.turn import Turn
from meshrelay.http.admin_api import AdminApi, make_admin_api
from meshrelay.http.admin_direct import ServerMessages
from meshrelay.http.admin_keys import WrongKeys
from meshrelay.http.admin_links import LinkPages
from meshrelay.http.admin_local import LocalParts
from meshrelay.http.cluster import ClusterStatus, DirectoryView
from meshrelay.http.console import Console
from meshrelay.http.console_state import StateSources
from meshrelay.http.health import DirectoryProbe, NodePhase
from meshrelay.http.lag import LagMeter
from meshrelay.http.metrics import MetricSources, PartCounts, make_registry
from meshrelay.http.neighbours import Neighbours
from meshrelay.http.node_status import STATUS_CALL, StatusSources, answer_status
from meshrelay.http.reserve import RESERVE_CALL, answer_reserve
from meshrelay.http.site import HttpPages, RelaySite, make_site
from meshrelay.http.webhooks import make_webhooks
from meshrelay.mesh.nodes import Nodes
from meshrelay.mesh.registration import Registration
from meshrelay.node_parts import (
    admin_access,
    advertised_places,
    application_setups,
    connection_rules,
    expose_commands,
    make_authenticator,
    new_sid,
    node_id_of,
    udp_parts,
    warnings_of,
    websocket_rules,
)
from meshrelay.overlay_parts import OverlayNode
from meshrelay.relay_parts import RelayNode
from meshrelay.session.application import Application, Components
from meshrelay.session.auth import Identity
from meshrelay.session.dispatch import Dispatcher
from meshrelay.session.drain import Drain
from meshrelay.session.reception import Reception
from meshrelay.session.registry import RegistryLimits, SessionRegistry
from meshrelay.session.roaming import Memberships, Roaming, RoomMemberships
from meshrelay.session.rules import ConnectionRules
from meshrelay.transport.listen import ListeningPlaces
from meshrelay.transport.stream_link import StreamParts
from meshrelay.transport.tcp import TcpFactory
from meshrelay.transport.udp import UdpCredentials, UdpListener
from meshrelay.transport.websocket import NodeWebSocketFactory

__all__ = ["Node", "make_service"]

#: How exact retransmission and pacing of UDP are.
PACER_RESOLUTION_SECONDS = 0.002

#: Between the call that ends a node and its end.
END_SECONDS = 0.1


def make_service(config: Config, reactor: Any) -> MultiService:
    """Build the node that `config` describes. Nothing runs and no port is open until it is started.

    :raises ConfigError: a file that the configuration names cannot be used.
    """
    top = MultiService()
    node = Node(config, reactor)
    node.setName("node")  # type: ignore[no-untyped-call]
    node.setServiceParent(top)  # type: ignore[no-untyped-call]
    return top


class Node(Service):
    """One node: everything built in `__init__`, opened by `startService`, drained by `stopService`.

    :param ticket_key: see `meshrelay.http.console_tickets.Tickets`.
    """

    _log = Logger()

    def __init__(self, config: Config, reactor: Any, ticket_key: bytes | None = None) -> None:
        self.config = config
        self.node_id = node_id_of(config)
        self._reactor = reactor
        self.counters = NodeCounters()
        self._alarms = Alarms(reactor)
        self._pacer = Alarms(reactor, PACER_RESOLUTION_SECONDS)
        self._turn = Turn(reactor)
        self._hub = Hub(self._turn, reactor, self.counters)
        self.cluster = Cluster(self.node_id, config, reactor, self._turn)
        self._started_at = reactor.seconds()
        rules = connection_rules(config.session)
        self.registry = SessionRegistry(
            self._registry_limits(config.session, rules), self._alarms, new_sid, self.counters
        )
        self._dispatcher = Dispatcher(reactor, config.session.hook_timeout_seconds, self.counters)
        self.console = ConsoleNode(config.http, reactor, ticket_key)
        self.authenticator = self.console.guard(make_authenticator(config))
        self.reception = Reception(
            self.node_id, rules, self.authenticator, self.registry, self._dispatcher, self._alarms, self.counters
        )
        self.groups: Groups
        registration = self.cluster.introduce(self._face())
        self.groups = self._make_groups(config, registration)
        self.rooms = self._make_rooms(config)
        self.links = self._make_links(config)
        self.direct = self._make_direct(config)
        self.roaming: Roaming | None = None
        if registration is not None:
            self.roaming = self._make_roaming(registration)
            self.reception.arrivals = self.roaming
            self.registry.add_observer(self.roaming)
        self.application = Application(
            self.node_id,
            reactor,
            Components(self.groups, self.rooms, self.links, self.direct),
            self.registry,
            self._dispatcher,
            config.session.max_payload_bytes,
        )
        self.webhooks = make_webhooks(config.webhooks, self.node_id, reactor)
        self.webhooks.events.watch(self.groups.table)
        observers = (self.groups, self.rooms, self.links, self.direct, self.application, self.webhooks.events)
        for observer in observers:
            self.registry.add_observer(observer)
        self._udp = UdpListener(
            self.reception, udp_parts(config.session, self._turn, self._alarms, self._pacer, self.counters)
        )
        self.relay = RelayNode(config, reactor, self._turn, self._alarms)
        self.overlay = OverlayNode(config, reactor, self._turn, self._alarms)
        self._lag = LagMeter(reactor, self.counters)
        self.places = ListeningPlaces(reactor)
        self._site: RelaySite | None = None
        self._status: ClusterStatus
        self.api = self._make_api()
        self._websockets: NodeWebSocketFactory | None = None
        self._drain: Drain | None = None
        self._is_ready = False
        #: Fires once, with the text of the ready line.
        self.when_ready: Deferred[str] = Deferred()

    def _registry_limits(self, session: SessionConfig, rules: ConnectionRules) -> RegistryLimits:
        return RegistryLimits(session.resume_seconds, session.replay_bytes, max_away=rules.max_connections)

    def _make_roaming(self, registration: Registration) -> Roaming:
        rooms = RoomMemberships(self.rooms.memberships, self.rooms.recall, self.rooms.adopt)
        cluster, reactor = self.cluster, self._reactor
        memberships = Memberships(self.groups.memberships, self.groups.recall, rooms)
        return Roaming(cluster.nodes, cluster.directory, registration, self.registry, reactor, self._stamp, memberships)

    def _stamp(self) -> int:
        return int(self._reactor.seconds() * 1_000_000)

    def _make_rooms(self, config: Config) -> Rooms:
        nodes, alarms = self.cluster.nodes, self._alarms
        around = RoomSurroundings(
            nodes, self.registry, self._hub, self._turn, alarms, secrets.token_bytes, lambda: self.reception.is_draining
        )
        return Rooms(around, RoomRules.of(config))

    def _make_links(self, config: Config) -> PeerLinks:
        nodes, alarms = self.cluster.nodes, self._alarms
        around = LinkSurroundings(
            nodes, self.registry, self.rooms, self._turn, alarms, secrets.token_bytes, self._send_lossy
        )
        return PeerLinks(around, LinkRules.of(config))

    def _send_lossy(self, node_id: str, kind: int, payload: bytes) -> bool:
        links = self.cluster.links
        link = links.find(node_id) if links is not None else None
        return link is not None and link.send(kind, payload, is_reliable=False)

    def _make_direct(self, config: Config) -> DirectMessages:
        cluster = self.cluster
        directory = None if cluster.is_alone else cluster.directory
        return DirectMessages(
            RouteParts(cluster.nodes, directory, self.registry, self._reactor, self._alarms),
            self._turn,
            DirectRules.of(config),
        )

    def _face(self) -> NodeFace:
        """What the cluster asks this node; asked only once it is built."""
        return NodeFace(
            places=lambda: advertised_places(self.places, self.place, self.cluster.host),
            load=self._load,
            users=lambda: self.roaming.records() if self.roaming is not None else (),
            groups=lambda: self.groups.held(),  # noqa: PLW0108  (made after this)
            displaced=lambda record: self.roaming.displaced(record) if self.roaming is not None else None,
            taken_over=lambda record: self.roaming.taken_over(record) if self.roaming is not None else None,
        )

    def _load(self) -> float:
        return len(self.reception.connections) / self.reception.rules.max_connections

    def _make_groups(self, config: Config, registration: Registration | None) -> Groups:
        cluster = self.cluster
        house = GroupHouse(
            GroupSurroundings(cluster.nodes, cluster.directory, registration, self._turn, self._reactor, self._alarms),
            cluster.open_history(),
            self._hub,
            self.registry,
            Chances(secrets.token_bytes, secrets.randbelow),
        )
        groups, _ = make_groups(config, house, lambda: self.reception.is_draining)
        return groups

    @property
    def is_ready(self) -> bool:
        """True from the ready line to the beginning of the drain."""
        return self._is_ready

    def startService(self) -> None:
        """Set the application up, open the ports, and say so.

        :raises SystemExit: something cannot be opened or set up: status 1, the problem on standard error.
        """
        super().startService()  # type: ignore[no-untyped-call]
        try:
            self._set_up_application()
            exposed = (
                (self.groups, self.config.group.expose_commands),
                (self.rooms, self.config.room.expose_commands),
                (self.links, self.config.link.expose_commands),
                (self.direct, self.config.dm.expose_commands),
            )
            expose_commands(exposed, self._dispatcher.register)
            self._listen()
        except ConfigError as error:
            # By now sys.stderr is the log; whoever started the node reads the real one.
            if sys.__stderr__ is not None:
                sys.__stderr__.write(f"{error}\n")
            raise SystemExit(1) from None
        for warning in warnings_of(self.config):
            self._log.warn("{problem}", problem=warning)
        self._lag.startService()
        self._reactor.callWhenRunning(self._join_cluster)

    def _join_cluster(self) -> None:
        """Find the other nodes; who is told that this one is ready expects it to find what is on the others."""
        if self.running:
            self.cluster.start()
            self.overlay.start()
            self.cluster.settled().addCallback(lambda _: self._ready())

    def _set_up_application(self) -> None:
        for setup in application_setups(self.config.app.module):
            setup(self.application)

    def _listen(self) -> None:
        listen = self.config.listen
        session = self.config.session
        limits = OutboxLimits(session.outbox_bytes, session.slow_consumer)
        parts = StreamParts(self._turn, self._alarms, limits, self.counters, session.max_payload_bytes)
        accept = self.reception.accept
        origins = tuple(self.config.auth.allowed_origins)
        handshakes = websocket_rules(self.config)
        self.places.listen_stream("tcp", listen.tcp, TcpFactory(accept, parts))
        self.places.listen_datagram("udp", listen.udp, self._udp)
        self._websockets = NodeWebSocketFactory(accept, parts, handshakes, self._reactor)
        self.places.listen_stream("websocket", listen.websocket, self._websockets)
        self.cluster.listen(self.places)
        self.relay.listen(self.places, self.cluster)
        self.overlay.listen(self.places, self.cluster.nodes, self.direct)
        self._site = make_site(self._pages(origins), self._reactor)
        self.places.listen_stream("http", listen.http, self._site)

    def _pages(self, origins: tuple[str, ...]) -> HttpPages:
        cluster = self.cluster
        probe = DirectoryProbe(cluster.directory.loopback, self._reactor, lambda: secrets.token_hex(16))
        neighbours = Neighbours(cluster.nodes, cluster.directory, cluster.records, self._load)
        phase = NodePhase(lambda: self._is_ready, self._is_starting)
        status = StatusSources(
            cluster.own_record,
            phase.name,
            __version__,
            lambda: len(self.registry),
            lambda: self.groups.statistics()["groups"],
            lambda: self._reactor.seconds() - self._started_at,
            cluster.links or (),
        )
        cluster.nodes.answer(RESERVE_CALL, answer_reserve(self, lambda: self._is_ready))
        cluster.nodes.answer(STATUS_CALL, answer_status(status))
        view = DirectoryView(cluster.directory_kind, probe, cluster.directory.statistics)
        self._status = ClusterStatus(status, neighbours, view, self._reactor)
        links = LinkPages(self.node_id, self.links.started_rooms, self.links.statistics, self.links.link_pairs)
        overlay = self.overlay.pages(self.node_id)
        relay = self.relay if self.relay.server is not None else None
        shown = StateSources(self._local, __version__, self.counters, self._status.read, links, relay, overlay)
        return HttpPages(
            endpoints=self,
            authenticator=self.authenticator,
            is_ready=lambda: self._is_ready,
            node_id=self.node_id,
            allowed_origins=origins,
            registry=self.metrics(),
            counters=self.counters,
            cluster=neighbours,
            is_starting=self._is_starting,
            probe=probe,
            cluster_status=self._status,
            direct=ServerMessages(self.direct.send_as_server, self.config.session.max_payload_bytes),
            links=links,
            admin=admin_access(self.config, WrongKeys(self._reactor, self.counters)),
            api=self.api,
            metrics_page=self._metrics_of_all(),
            relay=self.relay.health(),
            overlay=overlay,
            console=self._open_console(shown),
        )

    def _open_console(self, sources: StateSources) -> Console | None:
        return self.console.open(sources, self.place, self._dispatcher)

    def _make_api(self) -> AdminApi:
        nodes, reactor = self.cluster.nodes, self._reactor
        self._local = LocalParts(self.node_id, self.registry, self.groups, self.rooms, nodes, reactor, self._end_soon)
        directory = None if self.cluster.is_alone else self.cluster.directory
        limit = self.config.session.max_payload_bytes
        return make_admin_api(self._local, self.direct, directory, lambda: self._status.read(), limit)  # noqa: PLW0108

    def _end_soon(self) -> None:
        # Whoever asked for it gets an answer first.
        self._reactor.callLater(END_SECONDS, stop_reactor, self._reactor)

    def metrics(self) -> CollectorRegistry:
        """Return what makes the metrics page of this process."""
        return self.overlay.add_metrics(self.relay.add_metrics(make_registry(self._metric_sources())))

    def _metrics_of_all(self) -> Callable[[], Deferred[bytes]] | None:
        """What makes the metrics page of several processes; None: the page is about this one."""
        return None

    def _is_starting(self) -> bool:
        return bool(self.running) and not self._is_ready

    def _cluster_counts(self) -> Iterator[PartCounts]:
        for name, part in (
            ("mesh", self.cluster.nodes if isinstance(self.cluster.nodes, Nodes) else None),
            ("membership", self.cluster.membership),
            ("registration", self.cluster.registration),
            ("roaming", self.roaming),
            ("admin", self.api),
        ):
            if part is not None:
                yield PartCounts(name, part.statistics)

    def _metric_sources(self) -> MetricSources:
        return MetricSources(
            self.node_id,
            __version__,
            self.counters,
            self.registry,
            (
                self.groups,
                self.rooms,
                self.links,
                self.direct,
                self.relay,
                self.overlay,
                self.webhooks,
                self.console,
                *self._cluster_counts(),
            ),
            lambda: self._udp.reservation_count,
            self._lag,
            lambda: (self._udp.receive_buffer_bytes, self._udp.send_buffer_bytes),
            links=self.cluster.links,
            directory=self.cluster.directory.statistics,
        )

    def _ready(self) -> None:
        if self.running:
            self._say_places(self.places.addresses())

    def _say_places(self, places: Mapping[str, str], is_ready: bool = True) -> None:
        self._is_ready = is_ready
        text = " ".join([f"node={self.node_id}", *(f"{name}={address}" for name, address in places.items())])
        self._log.info("ready {text}", text=text)
        self.when_ready.callback(text)

    def reload(self, config: Config) -> None:
        """Apply what of `config` can change while the node runs: keys, and limits of connections made from now on.

        Certificates are read again from where they were.

        :raises ConfigError: a key or a certificate cannot be read; nothing was changed.
        """
        # Whose the IDs of peers are needs a restart.
        users = make_authenticator(msgspec.structs.replace(config, overlay=self.config.overlay))
        authenticator = self.console.guard(users)
        rules = connection_rules(config.session)
        certificates, relay = self.places.read_certificates(), self.relay.read_certificates()
        self.cluster.use(self.cluster.read_again(config))
        self.places.use_certificates(certificates)
        self.relay.use_certificates(relay)
        same_mode = config.auth.mode == self.config.auth.mode
        if not same_mode or config.session.max_payload_bytes != self.config.session.max_payload_bytes:
            self._log.warn("reload: auth.mode and session.max_payload_bytes need a restart")
        if same_mode:
            self.authenticator = self.reception.authenticator = authenticator
        if self._site is not None and self._websockets is not None:
            origins = tuple(config.auth.allowed_origins)
            self._site.set_sign_in(self.authenticator, origins)
            self._websockets.set_rules(websocket_rules(config))
        self._udp.set_reservation_seconds(config.session.hello_timeout_seconds)
        self.reception.rules = rules._replace(max_payload_bytes=self.config.session.max_payload_bytes)
        self.registry.set_limits(self._registry_limits(config.session, rules))
        self._log.info("configuration reloaded")

    def stopService(self) -> Deferred[None]:
        """Stop accepting, say GOODBYE, flush, close.

        :returns: fires when that is done, see `meshrelay.session.drain.Drain.start`.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        self._is_ready = False
        self._log.info("draining {count} connections", count=len(self.reception.connections))
        self._hub.flush()
        self.cluster.drain()
        self._drain = Drain(self.reception, self._alarms, self.config.node.drain_seconds)
        return Deferred.fromCoroutine(self._stop(self._drain))

    async def _stop(self, drain: Drain) -> None:
        # HTTP stays open until the end: load balancers ask it whether the node is ready.
        await self.places.close("tcp", "websocket", "relay", "overlay")
        self.relay.stop()
        self.overlay.leave_bridge()
        await drain.start()
        await self.overlay.stop()
        for component in (self.groups, self.rooms, self.links, self.direct):
            component.stop()
        self.console.stop()
        await self.webhooks.stop()
        if self.roaming is not None:
            self.roaming.stop()
        await self.cluster.stop()
        await self.places.close()
        self._lag.stopService()
        self._alarms.stop()
        self._pacer.stop()
        self._log.info("stopped")

    def cut_drain(self) -> None:
        """Stop waiting for clients; for a second signal."""
        if self._drain is not None:
            self._drain.cut()

    def place(self, server_type: str, asked_host: str) -> tuple[str, str, int] | None:
        """Where clients of a type connect; see `meshrelay.http.endpoint.Endpoints`."""
        names = {"UDP": "udp", "TCP": "tcp", "WS": "websocket", "WSS": "websocket"}
        address = self.places.host(names[server_type])
        if address is None or not hasattr(address, "port"):
            return None
        if server_type == "WS" and parse_stream_place(self.config.listen.websocket).kind in ("tls", "ssl"):
            server_type = "WSS"
        return server_type, self.config.listen.advertised_host or asked_host, address.port

    def reserve_udp(self, identity: Identity, resume: str, received: int | None) -> UdpCredentials:
        """Secrets for a UDP client; see `meshrelay.http.endpoint.Endpoints`."""
        return self._udp.reserve(identity, resume, received)
