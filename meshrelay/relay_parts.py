"""The NetBird-compatible relay of a node: section [relay] -> one `RelayServer`, the ports that lead to it, pages."""

from __future__ import annotations

from collections.abc import Mapping
from socket import gethostname
from typing import Any, NamedTuple

from cryptography import x509
from prometheus_client import CollectorRegistry
from twisted.internet.protocol import DatagramProtocol

from meshrelay.background import Alarms
from meshrelay.cluster import Cluster
from meshrelay.config.files import read_secret
from meshrelay.config.listening import is_all_addresses, parse_stream_place
from meshrelay.config.schema import Config, RelayConfig
from meshrelay.counters import TransportCounters
from meshrelay.errors import ConfigError, ConfigProblem
from meshrelay.fanout.turn import Turn
from meshrelay.http.relay_health import RelayHealth
from meshrelay.http.relay_metrics import RelayCollector
from meshrelay.mesh.links import Links
from meshrelay.node_parts import listen_as
from meshrelay.relay.addresses import instance_url
from meshrelay.relay.auth import AnyToken, HmacTokens, TokenCheck, hmac_key
from meshrelay.relay.counters import RelayCounters
from meshrelay.relay.interfaces import IRelayLink
from meshrelay.relay.nodes import RelayNodes
from meshrelay.relay.server import RelayClocks, RelayPeer, RelayServer
from meshrelay.relay.server_machine import ServerOptions
from meshrelay.transport.listen import ListeningPlaces
from meshrelay.transport.relay_queue import RelayOutlet
from meshrelay.transport.relay_websocket import RelayWebSocketFactory
from meshrelay.transport.stream_link import shown_address
from meshrelay.wire.node_kinds import NodeKind

__all__ = ["PLACES", "RelayCertificates", "RelayNode", "certificate_end", "relay_tokens"]

#: Names of the listening places, and NetBird's names of what listens there.
PLACES = {"relay": "ws", "quic": "quic"}


def relay_tokens(config: RelayConfig) -> TokenCheck:
    """Return what decides which peers may sign in.

    :raises ConfigError: the secret cannot be read.
    """
    return HmacTokens(hmac_key(read_secret(config.secret_file))) if config.secret_file else AnyToken()


def certificate_end(config: RelayConfig) -> float:
    """Return the last second of the certificate, in Unix seconds; 0 = none is named.

    :raises ConfigError: it cannot be read.
    """
    if not config.certificate_file:
        return 0.0
    try:
        certificate = x509.load_pem_x509_certificate(read_secret(config.certificate_file))
    except ValueError as error:
        problem = f"{config.certificate_file} holds no certificate: {error}"
        raise ConfigError([ConfigProblem("relay.certificate_file", problem)]) from error
    return certificate.not_valid_after_utc.timestamp()


class RelayCertificates(NamedTuple):
    """What `RelayNode.read_certificates` has read.

    :ivar ends_at: see `certificate_end`.
    :ivar quic: what connections of QUIC are begun with; None = the relay does not listen by QUIC.
    """

    ends_at: float
    quic: Any


class RelayNode:
    """The relay of one node. Nothing is there before `listen`."""

    def __init__(self, config: Config, reactor: Any, turn: Turn, alarms: Alarms) -> None:
        self._config = config
        self._reactor = reactor
        self._turn = turn
        self._alarms = alarms
        self._outlet = RelayOutlet(turn)
        self._tokens = relay_tokens(config.relay)
        self._certificate_ends_at = certificate_end(config.relay)
        self._transports: dict[str, TransportCounters] = {}
        self._quic: Any = None
        self.counters = RelayCounters()
        #: None: the node has no relay, or does not listen yet.
        self.server: RelayServer | None = None
        #: None: the node is alone.
        self.others: RelayNodes | None = None
        self._is_open = False

    @property
    def name(self) -> str:
        """See `meshrelay.http.metrics.Counted`."""
        return "relay"

    def statistics(self) -> Mapping[str, int]:
        """See `meshrelay.http.metrics.Counted`."""
        if self.others is None:
            return {}
        return {f"relay_{name}": count for name, count in self.others.statistics().items()}

    def listen(self, places: ListeningPlaces, cluster: Cluster) -> None:
        """Open the ports, where the configuration names any.

        :raises ConfigError: one cannot be opened, or the address that peers are told is none.
        """
        relay = self._config.relay
        if not relay.listen and not relay.quic:
            return
        if relay.listen:
            counters = self._transports["ws"] = TransportCounters()
            factory = RelayWebSocketFactory(self._accept, self._outlet, self._alarms, counters, self._reactor)
            listen_as("relay.listen", lambda: places.listen_stream("relay", relay.listen, factory))
        if relay.quic:
            listener = self._quic_listener()
            listen_as("relay.quic", lambda: places.listen_datagram("quic", relay.quic, listener))
        # Only now is the port known. Nobody was let in yet: the reactor has not turned.
        self._make_server(self._instance_url(places), cluster)
        self._is_open = True

    def _make_server(self, url: str, cluster: Cluster) -> None:
        seconds = self._reactor.seconds
        links = cluster.links
        if links is not None:
            others = self.others = RelayNodes(
                cluster.nodes,
                lambda node_id, payload: _forward(links, node_id, payload),
                lambda: self._turn.join(others),
                seconds,
            )
        server = self.server = RelayServer(
            ServerOptions(url),
            self._tokens,
            RelayClocks(seconds, seconds),
            lambda: self._turn.join(server),
            self.counters,
            elsewhere=self.others,
        )
        if self.others is not None:
            self.others.server = server

    def read_certificates(self) -> RelayCertificates:
        """Read the certificate again, whichever port uses it.

        :returns: for `use_certificates`; until then nothing changes.
        :raises ConfigError: it cannot be used.
        """
        ends_at = certificate_end(self._config.relay)
        return RelayCertificates(ends_at, self._quic_configuration() if self._quic is not None else None)

    def use_certificates(self, fresh: RelayCertificates) -> None:
        """Show new connections of QUIC what `read_certificates` has read; those that are there stay as they are."""
        self._certificate_ends_at = fresh.ends_at
        if self._quic is not None and fresh.quic is not None:
            self._quic.use(fresh.quic)

    def _quic_listener(self) -> DatagramProtocol:
        configuration = self._quic_configuration()
        from meshrelay.transport.relay_quic import RelayQuicListener

        counters = self._transports["quic"] = TransportCounters()
        listener = RelayQuicListener(self._accept, configuration, self._turn, self._alarms, counters, self._reactor)
        self._quic = listener
        return listener

    def _quic_configuration(self) -> Any:
        relay = self._config.relay
        try:
            # Here, as it needs an extra that whoever has no QUIC need not have.
            from meshrelay.transport.relay_quic import quic_configuration
        except ImportError as error:
            problem = f'needs the extra quic: pip install "meshrelay[quic]" ({error})'
            raise ConfigError([ConfigProblem("relay.quic", problem)]) from error
        try:
            configuration = quic_configuration(relay.certificate_file, relay.key_file)
        except (OSError, ValueError, TypeError, LookupError) as error:
            raise ConfigError([ConfigProblem("relay.certificate_file", f"is of no use for quic: {error}")]) from error
        return configuration

    def _accept(self, link: IRelayLink) -> RelayPeer:
        assert self.server is not None
        return self.server.accept(link)

    def _instance_url(self, places: ListeningPlaces) -> str:
        relay = self._config.relay
        # QUIC is always encrypted; NetBird's clients go to the same port with either.
        is_tls = not relay.listen or parse_stream_place(relay.listen).kind in ("tls", "ssl")
        exposed = relay.exposed_address
        if not exposed:
            address = places.host("relay") or places.host("quic")
            host = getattr(address, "host", "")
            if not host:
                raise ConfigError([ConfigProblem("relay.exposed_address", "is needed with this relay.listen")])
            if is_all_addresses(host):
                host = self._config.listen.advertised_host or gethostname()
            exposed = shown_address(host, address.port)
        try:
            return instance_url(exposed, is_tls)
        except ValueError as error:
            raise ConfigError([ConfigProblem("relay.exposed_address", str(error))]) from error

    def active_count(self) -> int:
        """See `meshrelay.http.relay_metrics.RelaySource`."""
        return 0 if self.server is None else self.server.active_count()

    def transports(self) -> Mapping[str, TransportCounters]:
        """See `meshrelay.http.relay_metrics.RelaySource`."""
        return self._transports

    def refused_handshakes(self) -> int:
        """See `meshrelay.http.relay_metrics.RelaySource`."""
        return self._quic.refused_handshakes if self._quic is not None else 0

    def add_metrics(self, registry: CollectorRegistry) -> CollectorRegistry:
        """Put the counters of a relay that listens on the metrics page."""
        if self.server is not None:
            registry.register(RelayCollector(self))
        return registry

    def health(self) -> RelayHealth | None:
        """What the health page of the relay is made of; None = there is no relay."""
        if self.server is None:
            return None
        return RelayHealth(
            lambda: list(self._transports) if self._is_open else [],
            lambda: self._is_open,
            lambda: self._certificate_ends_at,
            self._reactor.seconds,
        )

    def stop(self) -> None:
        """Take leave of all peers; the port of the WebSockets is closed before, that of QUIC carries the farewell."""
        self._is_open = False
        if self.server is not None:
            self.server.shut_down()


def _forward(links: Links, node_id: str, payload: bytes) -> bool:
    """Send a peer's message to a node; what nodes say to each other must not be kept from it by a flood of those."""
    link = links.find(node_id)
    return link is not None and link.send(NodeKind.RELAY_SEND, payload, is_reliable=False)
