"""Tests of `meshrelay.peer_relay.assembly`."""

from __future__ import annotations

from ipaddress import ip_network
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.background import Alarms
from meshrelay.fanout.turn import Turn
from meshrelay.overlay.identity import Identity
from meshrelay.overlay.options import PeerOptions
from meshrelay.peer_relay.assembly import AssembledPeer, Ground, SocketOptions, assemble
from meshrelay.transport.overlay_webrtc_link import WrtcOptions
from meshrelay.transport.overlay_websocket import OverlayServerRules
from tests.peer_relay.memory_sockets import SocketReactor


class AssembleTests(SynchronousTestCase):
    """A peer and its sockets become one."""

    def setUp(self) -> None:
        """A reactor in memory."""
        self.reactor = SocketReactor()

    def assemble(self, seed: bytes = b"1" * 32, options: PeerOptions | None = None, **sockets: Any) -> AssembledPeer:
        """Make one."""
        rng = Random(seed)
        ground = Ground(self.reactor, Turn(self.reactor), Alarms(self.reactor), rng, rng.randbytes)
        return assemble(ground, Identity(seed), options or PeerOptions(), SocketOptions(**sockets))

    def test_nothing_begins(self) -> None:
        """Before it is started nobody is dialled and no timer runs."""
        self.assemble(options=PeerOptions(bootstrap=("ws://127.0.0.1:9",)))
        self.assertEqual((self.reactor.getDelayedCalls(), self.reactor.tcpClients), ([], []))

    def test_links(self) -> None:
        """What comes in by the factory is a link of the peer, and what it dials is as well."""
        hub = self.assemble(b"h" * 32)
        self.reactor.listenTCP(7400, hub.factory)
        other = self.assemble(options=PeerOptions(bootstrap=("ws://127.0.0.1:7400",)))
        for made in (hub, other):
            made.peer.start()
        self.reactor.pass_time(0.5)
        self.assertEqual(list(hub.peer.channels), [other.peer.peer_id])
        self.assertEqual(list(other.peer.channels), [hub.peer.peer_id])
        self.assertEqual((hub.counters.connections, other.counters.connections), (1, 1))

    def test_policy(self) -> None:
        """What strangers may name is as near as bootstraps and own places are, or in a network that is named."""
        network = PeerOptions(dial_networks=(ip_network("10.1.0.0/16"),))
        for options, places, expected in (
            (PeerOptions(), (), (True, False, False)),
            (PeerOptions(bootstrap=("ws://10.0.0.1:9",)), (), (True, True, False)),
            (PeerOptions(bootstrap=("ws://localhost:9",)), (), (True, True, True)),
            (PeerOptions(), ("127.0.0.1",), (True, True, True)),
            (PeerOptions(), ("wss://peer.example",), (True, False, False)),
            (network, (), (True, True, False)),
        ):
            policy = self.assemble(options=options, own_places=places).policy
            allowed = tuple(policy.allows(address) for address in ("8.8.8.8", "10.1.2.3", "127.0.0.1"))
            self.assertEqual((options, places, allowed), (options, places, expected))

    def test_stranger_names_this_machine(self) -> None:
        """The dialler asks the policy: a URL on this machine that a stranger names is dialled only where it may be."""
        for places, count in (((), 0), (("127.0.0.1",), 1)):
            other = SocketReactor()
            self.reactor = other
            made = self.assemble(own_places=places)
            dialler: Any = made.peer.neighbourhood._dialler
            dialler.dial("ws://127.0.0.1:9", lambda link: None, lambda why: None, is_checked=True)
            other.settle()
            self.assertEqual((places, len(other.tcpClients)), (places, count))

    def test_rules(self) -> None:
        """The rules of the server are those that were given."""
        self.assertEqual(self.assemble(server=OverlayServerRules(max_links=3)).factory.rules.max_links, 3)

    def test_without_webrtc(self) -> None:
        """WebRTC is there only where it is wanted and can be; this reactor cannot."""
        self.assertIsNone(self.assemble().wrtc)
        self.assertIsNone(self.assemble(wrtc=WrtcOptions()).wrtc)
