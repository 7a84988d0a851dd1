"""The relay of a node, made from its configuration."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.background import Alarms
from meshrelay.cluster import Cluster
from meshrelay.config.schema import Config, ListenConfig, MeshConfig, RelayConfig
from meshrelay.errors import ConfigError
from meshrelay.fanout.turn import Turn
from meshrelay.relay.auth import AnyToken, TokenRefused
from meshrelay.relay_parts import RelayCertificates, RelayNode, certificate_end, relay_tokens
from meshrelay.transport.listen import ListeningPlaces
from meshrelay.wire.relay import encode_auth, peer_id_of
from tests.relay.relay_kit import MemoryRelayLink
from tests.transport.port_reactor import PortReactor
from tests.transport.quic_kit import CERTIFICATE_END, write_certificate

TCP = "tcp:0:interface=127.0.0.1"
UDP = "udp:0:interface=127.0.0.1"


class RelayNodeTests(SynchronousTestCase):
    """Ports that are open in memory only."""

    def setUp(self) -> None:
        """Make a reactor and a certificate."""
        self.reactor = PortReactor()
        self.places = ListeningPlaces(self.reactor)
        self.directory = Path(self.mktemp())
        self.certificate, self.key = write_certificate(self.directory)

    def start(self, mesh: MeshConfig | None = None, advertised_host: str = "", **relay: Any) -> RelayNode:
        """Return a relay that listens."""
        config = Config(
            relay=RelayConfig(**relay),
            mesh=mesh or MeshConfig(),
            listen=ListenConfig(advertised_host=advertised_host),
        )
        self.places = ListeningPlaces(self.reactor)
        turn = Turn(self.reactor)
        node = RelayNode(config, self.reactor, turn, Alarms(self.reactor))
        node.listen(self.places, Cluster("n1", config, self.reactor, turn))
        return node

    def url(self, **relay: Any) -> str:
        """Return what a relay calls itself."""
        node = self.start(**relay)
        assert node.server is not None
        return node.server.options.instance_url

    def problem(self, **relay: Any) -> str:
        """Return what is wrong with a relay."""
        error = self.assertRaises(ConfigError, self.start, **relay)
        (problem,) = error.problems
        return str(problem)

    def quic(self) -> dict[str, Any]:
        """Return the keys of a relay by QUIC."""
        return {"quic": UDP, "certificate_file": self.certificate, "key_file": self.key}

    def test_off(self) -> None:
        """Without [relay] nothing listens, and no page speaks of it."""
        node = self.start()
        registry = node.add_metrics(CollectorRegistry())
        self.assertEqual((self.places.addresses(), node.server, node.health()), ({}, None, None))
        self.assertEqual((generate_latest(registry), node.statistics(), node.active_count()), (b"", {}, 0))
        node.stop()

    def test_places(self) -> None:
        """Each way in has a port of its own, under its name."""
        node = self.start(listen=TCP, **self.quic())
        self.assertEqual(self.places.addresses(), {"relay": "127.0.0.1:40000", "quic": "127.0.0.1:40001"})
        self.assertEqual(list(node.transports()), ["ws", "quic"])

    def test_url(self) -> None:
        """Peers are told the address that was configured, or the one where the relay listens."""
        self.assertEqual(self.url(listen=TCP), "rel://127.0.0.1:40000")
        self.assertEqual(self.url(listen=TCP, exposed_address="rels://relay.example:443"), "rels://relay.example:443")
        self.assertEqual(self.url(**self.quic()), "rels://127.0.0.1:40002")

    def test_url_of_all_addresses(self) -> None:
        """Where the relay listens on all addresses peers are told the name of the machine."""
        self.assertEqual(self.url(listen="tcp:0", advertised_host="relay.example"), "rel://relay.example:40000")
        self.assertNotIn("0.0.0.0", self.url(listen="tcp:0"))

    def test_url_missing(self) -> None:
        """A relay behind a Unix socket must be told its address."""
        self.assertIn("relay.exposed_address: is needed", self.problem(listen="unix:/run/relay"))

    def test_wrong_url(self) -> None:
        """An address that denies the encryption there is is refused."""
        problem = self.problem(exposed_address="rel://relay.example:443", **self.quic())
        self.assertIn("relay.exposed_address: rel://relay.example:443 says there is no TLS", problem)

    def test_port_taken(self) -> None:
        """A port that somebody else has is told under the key that names it."""
        self.reactor.taken = 33080
        self.assertTrue(self.problem(listen="tcp:33080:interface=127.0.0.1").startswith("relay.listen: "))
        keys = {**self.quic(), "quic": "udp:33080:interface=127.0.0.1"}
        self.assertTrue(self.problem(**keys).startswith("relay.quic: "))

    def test_without_the_extra(self) -> None:
        """Without the extra the node does not start by QUIC, and says what to install."""
        name = "meshrelay.transport.relay_quic"
        modules: dict[str, Any] = sys.modules
        self.addCleanup(modules.__setitem__, name, import_module(name))
        # The import system takes None for "there is none".
        modules[name] = None
        self.assertIn('pip install "meshrelay[quic]"', self.problem(**self.quic()))

    def test_wrong_certificate(self) -> None:
        """Files that hold something else are told under their key."""
        for keys in ({"certificate_file": self.key}, {"key_file": self.certificate}):
            self.assertTrue(self.problem(**{**self.quic(), **keys}).startswith("relay.certificate_file: "), keys)

    def test_certificate_end(self) -> None:
        """The end of the certificate is known, 0 without one."""
        self.assertEqual(certificate_end(RelayConfig(certificate_file=self.certificate)), CERTIFICATE_END.timestamp())
        self.assertEqual(certificate_end(RelayConfig()), 0)

    def test_renewed(self) -> None:
        """A certificate that was renewed is told by the health page; connections of QUIC begin with it."""
        node = self.start(listen=TCP, **self.quic())
        health = node.health()
        assert health is not None
        end = datetime(2099, 1, 1, tzinfo=UTC)
        write_certificate(self.directory, end)
        fresh = node.read_certificates()
        self.assertEqual(health.certificate_ends_at(), CERTIFICATE_END.timestamp())
        before = node._quic._configuration
        node.use_certificates(fresh)
        self.assertEqual(health.certificate_ends_at(), end.timestamp())
        self.assertIsNot(node._quic._configuration, before)
        self.assertEqual(node._quic._configuration.certificate.not_valid_after_utc, end)

    def test_renewed_badly(self) -> None:
        """A file that is wrong, or a key without its certificate, is told under its key."""
        node = self.start(**self.quic())
        write_certificate(self.directory / "other")
        other_key = (self.directory / "other" / "relay.key").read_bytes()
        for path, content in ((self.key, other_key), (self.certificate, b"nothing")):
            Path(path).write_bytes(content)
            error = self.assertRaises(ConfigError, node.read_certificates)
            self.assertTrue(str(error.problems[0]).startswith("relay.certificate_file: "), error)

    def test_nothing_to_renew(self) -> None:
        """A relay without a certificate, or none at all, has nothing to read again."""
        for node in (self.start(), self.start(listen=TCP)):
            fresh = node.read_certificates()
            node.use_certificates(fresh)
            self.assertEqual(fresh, RelayCertificates(0.0, None))

    def test_tokens(self) -> None:
        """With a secret tokens are looked at, without one everybody is let in."""
        secret = self.directory / "secret"
        secret.write_text("correct horse\n")
        self.assertIsInstance(relay_tokens(RelayConfig()), AnyToken)
        self.assertRaises(TokenRefused, relay_tokens(RelayConfig(secret_file=str(secret))).check, b"", 0)

    def test_pages(self) -> None:
        """A relay that listens is on the metrics page and has a health page, until it stops."""
        node = self.start(listen=TCP)
        self.assertIn(b'relay_peers{transport="ws"} 0.0', generate_latest(node.add_metrics(CollectorRegistry())))
        health = node.health()
        assert health is not None
        self.assertEqual((health.listeners(), health.is_open(), health.certificate_ends_at()), (["ws"], True, 0))
        node.stop()
        self.assertEqual((health.listeners(), health.is_open()), ([], False))

    def test_peer(self) -> None:
        """A peer gets in, and is let go when the node stops."""
        node = self.start(listen=TCP)
        assert node.server is not None
        link = MemoryRelayLink()
        node.server.accept(link).message_received(encode_auth(peer_id_of("alice"), b""))
        self.assertEqual((node.server.peer_count, node.refused_handshakes()), (1, 0))
        node.stop()
        self.assertEqual(link.ended, "close")

    def test_cluster(self) -> None:
        """A node with links is one relay with the others, and counts what it knows of them."""
        mesh = MeshConfig(listen="tcp:0:interface=127.0.0.1", insecure=True)
        node = self.start(mesh=mesh, listen=TCP)
        assert node.others is not None
        self.assertIs(node.others.server, node.server)
        self.assertEqual(node.statistics()["relay_peers_elsewhere"], 0)
        # Nobody is there to be sent to.
        self.assertFalse(node.others.forward(peer_id_of("bob"), b""))
