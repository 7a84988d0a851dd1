"""A peer of the overlay and its sockets: the one place where the two meet."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any, NamedTuple

from meshrelay.background import Alarms
from meshrelay.fanout.turn import Turn
from meshrelay.overlay.dial_policy import DialPolicy
from meshrelay.overlay.identity import Identity
from meshrelay.overlay.interfaces import IWrtcMaker
from meshrelay.overlay.offers import Surroundings
from meshrelay.overlay.options import PeerOptions
from meshrelay.overlay.peer import OverlayPeer
from meshrelay.transport.overlay_dial import DialOptions, OverlayDialler
from meshrelay.transport.overlay_link import OverlaySocketCounters, OverlaySocketParts
from meshrelay.transport.overlay_webrtc import WrtcMaker, wrtc_maker
from meshrelay.transport.overlay_webrtc_link import WrtcOptions
from meshrelay.transport.overlay_websocket import OverlayServerFactory, OverlayServerRules
from meshrelay.transport.websocket_mask import fastest_unmask

__all__ = ["AssembledPeer", "Ground", "SocketOptions", "assemble"]


class Ground(NamedTuple):
    """What sockets and a peer stand on.

    :ivar random_bytes: like `secrets.token_bytes`.
    """

    reactor: Any
    turn: Turn
    alarms: Alarms
    rng: Random
    random_bytes: Callable[[int], bytes]


class SocketOptions(NamedTuple):
    """What may be chosen for the sockets of a peer."""

    #: The URL by which others dial this peer, as it is known now; "": nobody can.
    url: Callable[[], str] = str
    #: Addresses and URLs of this peer, beside its bootstraps: how near may be what others ask it to dial.
    own_places: tuple[str, ...] = ()
    #: None: no WebRTC.
    wrtc: WrtcOptions | None = None
    dial: DialOptions = DialOptions()
    server: OverlayServerRules = OverlayServerRules()


class AssembledPeer(NamedTuple):
    """A peer and its sockets."""

    peer: OverlayPeer
    #: What a listening port is given.
    factory: OverlayServerFactory
    counters: OverlaySocketCounters
    policy: DialPolicy
    #: None: no WebRTC.
    wrtc: WrtcMaker | None


def assemble(ground: Ground, identity: Identity, options: PeerOptions, sockets: SocketOptions) -> AssembledPeer:
    """Make a peer. It does nothing before `OverlayPeer.start`, and links that come by the factory are its own."""
    counters = OverlaySocketCounters()
    parts = OverlaySocketParts(ground.turn, ground.alarms, counters, ground.random_bytes, fastest_unmask())
    policy = DialPolicy(options.dial_networks, _places(options, sockets))
    maker: WrtcMaker | None = None
    if sockets.wrtc is not None:
        maker = wrtc_maker(ground.reactor, sockets.wrtc._replace(allows=policy.allows), ground.random_bytes)
    wrtc: IWrtcMaker | None = maker
    dialler = OverlayDialler(ground.reactor, parts, policy.allows, sockets.dial)
    surroundings = Surroundings(ground.alarms, dialler, wrtc, sockets.url, policy)
    peer = OverlayPeer(identity, options, surroundings, ground.rng, ground.random_bytes)
    factory = OverlayServerFactory(peer.accept, parts, sockets.server, ground.reactor)
    return AssembledPeer(peer, factory, counters, policy, maker)


def _places(options: PeerOptions, sockets: SocketOptions) -> Iterable[str]:
    return (*options.bootstrap, *sockets.own_places)
