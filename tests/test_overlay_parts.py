"""The node as a peer of the overlay, made from its configuration."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.background import Alarms
from meshrelay.config.schema import Config, OverlayConfig
from meshrelay.errors import ConfigError, ErrorCode
from meshrelay.fanout.turn import Turn
from meshrelay.mesh.alone import Alone
from meshrelay.overlay.dial_policy import DialPolicy, Scope
from meshrelay.overlay_parts import OverlayNode, OverlayRandom, overlay_identity, own_places, peer_options
from meshrelay.testing.node import make_node
from meshrelay.transport.listen import ListeningPlaces
from meshrelay.wire.commands import Command, encode_direct
from meshrelay.wire.overlay_bridge import user_of_peer
from tests.components.test_direct import told
from tests.overlay.neighbour_link import NeighbourLink
from tests.transport.port_reactor import PortReactor

TCP = "tcp:0:interface=127.0.0.1"
BOB = b"b" * 20


class PartTests(SynchronousTestCase):
    """From configuration to parts."""

    def test_identity(self) -> None:
        """With a file a node is the same peer at each start, without one another."""
        make = Random(1).randbytes
        path = str(Path(self.mktemp()))
        kept = [overlay_identity(OverlayConfig(key_file=path), make).peer_id for _ in range(2)]
        new = [overlay_identity(OverlayConfig(), make).peer_id for _ in range(2)]
        self.assertEqual(len({*kept, *new}), 3)

    def test_wrong_key(self) -> None:
        """A file that holds something else is told under its key."""
        path = Path(self.mktemp())
        path.write_text("something else")
        path.chmod(0o600)
        refused = self.assertRaises(ConfigError, overlay_identity, OverlayConfig(key_file=str(path)), bytes)
        self.assertEqual([problem.path for problem in refused.problems], ["overlay.key_file"])

    def test_options(self) -> None:
        """What is configured is what the peer is told."""
        options = peer_options(OverlayConfig(bootstrap=("ws://a:1",), unsigned="refuse", max_links=7))
        self.assertEqual((options.bootstrap, options.accepts_unsigned, options.max_links), (("ws://a:1",), False, 7))
        self.assertTrue(peer_options(OverlayConfig()).accepts_unsigned)

    def test_networks(self) -> None:
        """Networks are read as what they are."""
        networks = peer_options(OverlayConfig(dial_networks=("10.0.0.0/8", "fd00::/8"))).dial_networks
        self.assertEqual([str(network) for network in networks], ["10.0.0.0/8", "fd00::/8"])

    def test_places(self) -> None:
        """How near strangers may send the node depends on where it is itself, for them."""
        for config, nearest in (
            (OverlayConfig(listen="tcp:7400"), Scope.PUBLIC),
            (OverlayConfig(listen=TCP), Scope.LOOPBACK),
            (OverlayConfig(listen="tcp:7400:interface=10.1.1.1"), Scope.PRIVATE),
            (OverlayConfig(listen="unix:/run/overlay"), Scope.PUBLIC),
            (OverlayConfig(listen=TCP, public_url="wss://peer.example"), Scope.PUBLIC),
            (OverlayConfig(bootstrap=("ws://localhost:1",)), Scope.PUBLIC),
        ):
            self.assertEqual((config, DialPolicy(own_places=own_places(config)).nearest), (config, nearest))


class OverlayNodeTests(SynchronousTestCase):
    """Ports that are open in memory only, and a user."""

    def setUp(self) -> None:
        """Make a node; ann is signed in."""
        self.reactor = PortReactor()
        self.places = ListeningPlaces(self.reactor)
        self.node = make_node()
        self.ann = self.node.sign_in("ann")

    def start(self, **overlay: Any) -> OverlayNode:
        """Return the part of the node in the overlay."""
        # Bytes are no secret here.
        randomness = OverlayRandom(Random(1), Random(2).randbytes)
        alarms = Alarms(self.reactor)
        part = OverlayNode(
            Config(overlay=OverlayConfig(**overlay)), self.reactor, Turn(self.reactor), alarms, randomness
        )
        part.listen(self.places, Alone("n1"), self.node.direct)
        part.start()
        self.addCleanup(part.stop)
        return part

    def link(self, part: OverlayNode, peer_id: bytes = BOB) -> NeighbourLink:
        """Let a peer come in."""
        link = NeighbourLink(peer_id)
        assert part.peer is not None
        receiver = part.peer.accept(link)
        assert receiver is not None
        link.start(receiver)
        return link

    def page(self, part: OverlayNode) -> str:
        """The metrics page."""
        return generate_latest(part.add_metrics(CollectorRegistry())).decode()

    def test_off(self) -> None:
        """Without listen and bootstrap nothing listens and no page speaks of the overlay; peers cannot be reached."""
        part = self.start()
        self.assertEqual((self.places.addresses(), part.peer, part.pages("n1"), self.page(part)), ({}, None, None, ""))
        self.assertEqual(part.statistics()["overlay_bridge_nodes"], 0)
        refusal = self.ann.refusal(Command.DM_SEND, encode_direct(user_of_peer(BOB), b"hi"))
        self.assertEqual(
            refusal[1:], (ErrorCode.USER_NOT_FOUND, "no such user: no node of the cluster is in the overlay")
        )
        self.assertIsNone(self.successResultOf(part.stop()))

    def test_place(self) -> None:
        """The port has a name of its own on the ready line."""
        self.start(listen=TCP)
        self.assertEqual(self.places.addresses(), {"overlay": "127.0.0.1:40000"})

    def test_port_taken(self) -> None:
        """A port that somebody else has is told under the key that names it."""
        self.reactor.taken = 7400
        refused = self.assertRaises(ConfigError, self.start, listen="tcp:7400:interface=127.0.0.1")
        self.assertEqual([problem.path for problem in refused.problems], ["overlay.listen"])

    def test_dials(self) -> None:
        """With bootstraps alone a node is a peer that listens nowhere and dials them."""
        part = self.start(bootstrap=("ws://127.0.0.1:7400",))
        self.reactor.pump([0.1] * 3)
        self.assertEqual([client[:2] for client in self.reactor.tcpClients], [("127.0.0.1", 7400)])
        pages = part.pages("n1")
        assert pages is not None
        [bootstrap] = pages.bootstraps()
        self.assertEqual((bootstrap.url, bootstrap.state, bootstrap.id), ("ws://127.0.0.1:7400", "dialling", None))

    def test_bridge(self) -> None:
        """A user and a peer write to each other."""
        part = self.start(listen=TCP)
        bob = self.link(part)
        assert part.peer is not None
        bob.write(part.peer.peer_id, {"to": "ann", "data": "hello"})
        self.assertEqual(told(self.ann), [(user_of_peer(BOB), b"hello")])
        self.ann.send(Command.DM_SEND, encode_direct(user_of_peer(BOB), b"hi"))
        self.assertEqual(bob.read(), [{"from": "ann", "data": "hi"}])

    def test_rate(self) -> None:
        """The configured rate is that of the bridge."""
        part = self.start(listen=TCP, bridge_messages_per_second=2)
        bob = self.link(part)
        assert part.peer is not None
        for _ in range(9):
            bob.write(part.peer.peer_id, {"to": "ann", "data": "hello"})
        self.assertEqual(len(told(self.ann)), 4)
        self.assertIn("meshrelay_overlay_bridge_to_users_limited_total 5.0", self.page(part))

    def test_no_bridge(self) -> None:
        """Without the bridge an ID that looks like a peer's is that of any user, and peers reach nobody."""
        part = self.start(listen=TCP, bridge=False)
        bob = self.link(part)
        assert part.peer is not None
        bob.write(part.peer.peer_id, {"to": "ann", "data": "hello"})
        peer = self.node.sign_in(user_of_peer(BOB))
        self.ann.request(Command.DM_SEND, encode_direct(user_of_peer(BOB), b"hi"))
        self.assertEqual((told(peer), told(self.ann), bob.read()), ([("ann", b"hi")], [], []))
        self.assertEqual(part.statistics(), {})

    def test_pages(self) -> None:
        """Pages tell who is linked, and what was counted."""
        part = self.start(listen=TCP, public_url="ws://n1.example:1")
        self.link(part)
        self.reactor.advance(1.5)
        assert part.peer is not None
        pages = part.pages("n1")
        assert pages is not None
        count, [peer] = pages.peers()
        self.assertEqual((count, peer.id, peer.transport, peer.address), (1, BOB.hex(), "ws", "127.0.0.1:50000"))
        self.assertEqual((peer.outgoing, peer.is_own, peer.is_proved, peer.since_seconds), (False, False, False, 1.5))
        self.assertEqual((pages.peer_id, pages.url()), (part.peer.peer_id.hex(), "ws://n1.example:1"))
        counts = dict(pages.counts())
        self.assertEqual((counts["links"], counts["frames_received"], counts["bridge_to_users"]), (1, 1, 0))
        msgspec.json.encode(counts)
        self.assertIn('meshrelay_overlay_peers{transport="ws"} 1.0', self.page(part))

    def test_stop(self) -> None:
        """At the end all links are closed, and nobody is taken any more."""
        part = self.start(listen=TCP)
        link = self.link(part)
        part.leave_bridge()
        self.assertIsNone(self.successResultOf(part.stop()))
        self.assertTrue(link.is_closed)
        assert part.peer is not None
        self.assertIsNone(part.peer.accept(NeighbourLink(BOB)))

    def test_web_rtc(self) -> None:
        """With a reactor that cannot carry WebRTC a node goes without it, and starts."""
        for webrtc in (True, False):
            self.assertNotIn("wrtc_attempts", self.page(self.start(listen=TCP, webrtc=webrtc)))
