"""The node as a peer of the overlay: section [overlay] -> one `OverlayPeer`, its sockets, its bridge, its pages.

A node that is no peer has a part in the bridge all the same: its users reach peers through the nodes that are.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import ip_network
from random import Random, SystemRandom
from typing import Any, NamedTuple, Protocol

from prometheus_client import CollectorRegistry
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from meshrelay import __version__
from meshrelay.background import Alarms, start
from meshrelay.components.direct_routes import Outside
from meshrelay.config.listening import is_all_addresses, parse_stream_place
from meshrelay.config.schema import Config, OverlayConfig
from meshrelay.fanout.turn import Turn
from meshrelay.http.admin_overlay import LinkedPeer, OverlayPages, ShownBootstrap
from meshrelay.http.overlay_metrics import OverlayCollector
from meshrelay.interfaces import INodes
from meshrelay.node_parts import listen_as
from meshrelay.overlay.bridge import Bridge, BridgedUsers, BridgeLimits
from meshrelay.overlay.bridge_nodes import BridgeNodes
from meshrelay.overlay.channel import Channel
from meshrelay.overlay.counters import OverlayCounters
from meshrelay.overlay.identity import Identity
from meshrelay.overlay.options import PeerOptions
from meshrelay.overlay.peer import OverlayPeer
from meshrelay.peer_relay.assembly import AssembledPeer, Ground, SocketOptions, assemble
from meshrelay.transport.listen import ListeningPlaces
from meshrelay.transport.overlay_dial import DialOptions
from meshrelay.transport.overlay_link import OverlaySocketCounters
from meshrelay.transport.overlay_webrtc import webrtc_missing
from meshrelay.transport.overlay_webrtc_link import WrtcOptions
from meshrelay.transport.overlay_websocket import OverlayServerRules
from meshrelay.transport.stream_link import shown_address

__all__ = ["BridgeUsers", "OverlayNode", "OverlayRandom", "overlay_identity", "own_places", "peer_options"]

#: Name of the listening place.
PLACE = "overlay"


class BridgeUsers(BridgedUsers, Protocol):
    """What a bridge needs of direct messages; `meshrelay.components.direct.DirectMessages` is one."""

    def use_outside(self, outside: Outside) -> None:
        """From now on messages go there whose receivers are outside."""


class OverlayRandom(NamedTuple):
    """Where randomness comes from."""

    rng: Random = SystemRandom()
    random_bytes: Callable[[int], bytes] = secrets.token_bytes


def overlay_identity(config: OverlayConfig, random_bytes: Callable[[int], bytes]) -> Identity:
    """Return the identity in the file, which is made if there is none, or a new one.

    :raises ConfigError: the file cannot be used.
    """
    if not config.key_file:
        return Identity.new(random_bytes)
    return Identity.load_or_create(config.key_file, random_bytes, "overlay.key_file")


def peer_options(config: OverlayConfig) -> PeerOptions:
    """Return what the configuration says of the peer."""
    return PeerOptions(
        bootstrap=config.bootstrap,
        dial_networks=tuple(map(ip_network, config.dial_networks)),
        accepts_unsigned=config.unsigned == "accept",
        max_links=config.max_links,
    )


def own_places(config: OverlayConfig) -> tuple[str, ...]:
    """Return where the node is, beside its bootstraps: strangers may name what is as near."""
    if config.public_url:
        # Behind a proxy it listens on loopback, and yet is on no machine that strangers may name.
        return (config.public_url,)
    interface = parse_stream_place(config.listen).interface if config.listen else ""
    return (interface,) if interface else ()


class OverlayNode:
    """The part of one node in the overlay. Nothing is there before `listen`."""

    _log = Logger()

    def __init__(
        self,
        config: Config,
        reactor: Any,
        turn: Turn,
        alarms: Alarms,
        randomness: OverlayRandom = OverlayRandom(),  # noqa: B008  (frozen)
    ) -> None:
        self._config = config.overlay
        self._advertised_host = config.listen.advertised_host
        self._reactor = reactor
        self._turn = turn
        self._alarms = alarms
        self._rng, self._random_bytes = randomness
        self._parts: AssembledPeer | None = None
        self._places: ListeningPlaces | None = None
        self._bridge: Bridge | None = None
        self._bridge_nodes: BridgeNodes | None = None

    # What there is.

    def listen(self, places: ListeningPlaces, nodes: INodes, users: BridgeUsers) -> None:
        """Become a peer, where the configuration says so, and bring users and peers together. Nobody is dialled yet.

        :raises ConfigError: the port cannot be opened, or the file of the key cannot be used.
        """
        config = self._config
        if config.bridge:
            # Also where there is no peer: the node has to hear of those that are.
            self._bridge_nodes = BridgeNodes(nodes, self._alarms)
            users.use_outside(self._bridge_nodes)
        if config.listen or config.bootstrap:
            self._make_peer(places)
        if self.peer is not None and self._bridge_nodes is not None:
            limits = BridgeLimits(config.bridge_messages_per_second)
            self._bridge = self._bridge_nodes.bridge = Bridge(self.peer, users, self._reactor.seconds, limits)

    def _make_peer(self, places: ListeningPlaces) -> None:
        config = self._config
        self._places = places
        identity = overlay_identity(config, self._random_bytes)
        ground = Ground(self._reactor, self._turn, self._alarms, self._rng, self._random_bytes)
        sockets = SocketOptions(
            url=self._shown_url,
            own_places=own_places(config),
            wrtc=self._wrtc_options(),
            dial=DialOptions(f"meshrelay/{__version__}"),
            server=OverlayServerRules(max_links=config.max_links),
        )
        parts = assemble(ground, identity, peer_options(config), sockets)
        if config.listen:
            listen_as("overlay.listen", lambda: places.listen_stream(PLACE, config.listen, parts.factory))
        self._parts = parts

    def _shown_url(self) -> str:
        """The URL by which others dial this peer: the configured one, or where it listens, if that is one address."""
        config = self._config
        address = self._places.host(PLACE) if self._places is not None else None
        host = getattr(address, "host", "")
        if config.public_url or not host:
            return config.public_url
        if is_all_addresses(host):
            host = self._advertised_host
        if not host:
            return ""
        scheme = "wss" if parse_stream_place(config.listen).kind in ("tls", "ssl") else "ws"
        return f"{scheme}://{shown_address(host, getattr(address, 'port', 0))}"

    def _wrtc_options(self) -> WrtcOptions | None:
        config = self._config
        if not config.webrtc:
            return None
        if missing := webrtc_missing(self._reactor):
            # Not an error: the default is to speak it where that is possible.
            self._log.info("the overlay goes without WebRTC: {why}", why=missing)
            return None
        return WrtcOptions(config.stun, config.webrtc_addresses)

    @property
    def peer(self) -> OverlayPeer | None:
        """None: the node is no peer, or does not listen yet."""
        return self._parts.peer if self._parts is not None else None

    def start(self) -> None:
        """Dial the bootstraps; called when the node can take what comes of it."""
        if self.peer is not None:
            self.peer.start()
            self._log.info("overlay peer {peer_id}", peer_id=self.peer.peer_id.hex())

    def leave_bridge(self) -> None:
        """Other nodes are to send to peers by others from now on; this node's own users still can."""
        if self._bridge is not None and self._bridge_nodes is not None:
            self._bridge_nodes.say_gone()

    def stop(self) -> Deferred[None]:
        """Close all links; fires when nothing of them is left."""
        return start(self._stop(self._parts), self._log, "the end of the peer") if self._parts else succeed(None)

    async def _stop(self, parts: AssembledPeer) -> None:
        parts.factory.stop()
        await parts.peer.stop()
        if parts.wrtc is not None:
            await parts.wrtc.stop()

    # What is told about it.

    @property
    def name(self) -> str:
        """See `meshrelay.http.metrics.Counted`."""
        return "overlay"

    def statistics(self) -> Mapping[str, int]:
        """See `meshrelay.http.metrics.Counted`: what nodes that are no peers have as well."""
        if self._bridge_nodes is None:
            return {}
        return {f"overlay_bridge_{name}": count for name, count in self._bridge_nodes.statistics().items()}

    def add_metrics(self, registry: CollectorRegistry) -> CollectorRegistry:
        """Put the counters of a peer on the metrics page."""
        if self._parts is not None:
            registry.register(OverlayCollector(_Source(self._parts.peer, self._parts.counters, self._sizes)))
        return registry

    def _sizes(self) -> Mapping[str, int]:
        sizes: dict[str, int] = {}
        if self._parts is not None:
            peer, wrtc = self._parts.peer, self._parts.wrtc
            totals = peer.counters.totals()
            sizes.update((name, count) for name, count in peer.statistics().items() if name not in totals)
            if wrtc is not None:
                sizes.update((f"wrtc_{name}", getattr(wrtc.counters, name)) for name in wrtc.counters.__slots__)
        if self._bridge is not None:
            sizes.update((f"bridge_{name}", count) for name, count in self._bridge.statistics().items())
        return sizes

    def pages(self, node_id: str) -> OverlayPages | None:
        """What the page for operators is made of; None = there is no peer."""
        peer = self.peer
        if peer is None:
            return None
        return OverlayPages(
            node_id,
            peer.peer_id.hex(),
            self._shown_url,
            lambda: _bootstraps(peer),
            lambda: (len(peer.channels), _peers(peer, self._reactor.seconds())),
            lambda: {**peer.counters.totals(), **self._sizes(), **self.statistics()},
        )


class _Source(NamedTuple):
    """See `meshrelay.http.overlay_metrics.OverlaySource`."""

    peer: OverlayPeer
    sockets: OverlaySocketCounters
    sizes: Callable[[], Mapping[str, int]]

    @property
    def counters(self) -> OverlayCounters:
        """See `OverlaySource`."""
        return self.peer.counters

    def links(self) -> Mapping[str, int]:
        """See `OverlaySource`."""
        return Counter(channel.link.transport_name for channel in self.peer.channels.values())

    def refused(self) -> Mapping[str, int]:
        """See `OverlaySource`."""
        return self.sockets.refused


def _bootstraps(peer: OverlayPeer) -> Iterable[ShownBootstrap]:
    for status in peer.neighbourhood.bootstraps.statistics():
        peer_id = status.peer_id.hex() if status.peer_id is not None else None
        yield ShownBootstrap(status.url, status.state.value, status.failures, peer_id)


def _peers(peer: OverlayPeer, now: float) -> Iterator[LinkedPeer]:
    return (_shown(channel, now) for channel in peer.channels.values())


def _shown(channel: Channel, now: float) -> LinkedPeer:
    link = channel.link
    return LinkedPeer(
        channel.peer_id.hex(),
        link.transport_name,
        link.remote_address,
        link.is_outgoing,
        link.is_own,
        channel.is_proved,
        now - channel.since,
        channel.frames_received,
        channel.frames_sent,
        channel.received_bytes,
        channel.sent_bytes,
    )
