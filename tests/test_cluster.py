"""The cluster as one node has it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from socket import gethostname
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from meshrelay import cluster
from meshrelay.cli.ca import init_authority, issue_certificate
from meshrelay.cluster import SETTLE_SECONDS, Cluster, NodeFace, read_certificates
from meshrelay.config.schema import Config, MeshConfig
from meshrelay.directory.memory import MemoryDirectory
from meshrelay.directory.records import NodeRecord
from meshrelay.directory.redis import RedisDirectory
from meshrelay.directory.remote import RemoteDirectory
from meshrelay.directory.serving import DirectoryServer
from meshrelay.errors import ConfigError, MeshError
from meshrelay.fanout.turn import Turn
from meshrelay.mesh.alone import Alone
from meshrelay.mesh.nodes import Nodes
from meshrelay.transport.listen import ListeningPlaces
from meshrelay.wire.node import NODE_PROTOCOL
from tests.transport.port_reactor import PortReactor

LOCAL = "tcp:0:interface=127.0.0.1"


class ClusterTestCase(SynchronousTestCase):
    """A reactor whose ports are open in memory only."""

    def setUp(self) -> None:
        """No node yet."""
        self.reactor = PortReactor()
        self.places = ListeningPlaces(self.reactor)
        self.load = 0.25
        self.shown: Mapping[str, str] = {"tcp": "192.0.2.1:7200"}

    def make(self, node_id: str = "n1", **keys: Any) -> Cluster:
        """Make the cluster of a node from its section [mesh]."""
        mesh = MeshConfig(**{"insecure": True, **keys})
        return Cluster(node_id, Config(mesh=mesh), self.reactor, Turn(self.reactor))

    def face(self) -> NodeFace:
        """What a node says of itself."""
        return NodeFace(
            lambda: self.shown, lambda: self.load, lambda: (), lambda: (), lambda record: None, lambda record: None
        )

    def start(self, cluster: Cluster) -> None:
        """Do what a service does."""
        cluster.introduce(self.face())
        cluster.listen(self.places)
        cluster.start()
        self.addCleanup(self.stop, cluster)

    def stop(self, cluster: Cluster) -> None:
        """Stop it, and look that nothing of it ticks on."""
        stopped = Deferred.fromCoroutine(cluster.stop())
        for _ in range(200):
            self.reactor.advance(0.1)
        self.successResultOf(stopped)
        self.assertEqual([call for call in self.reactor.getDelayedCalls() if call.active()], [])


class AloneTests(ClusterTestCase):
    """A node without links."""

    def test_alone(self) -> None:
        """It has the same parts, with nobody at the other end, opens no port and says nothing to a directory."""
        cluster = self.make()
        self.assertIsInstance(cluster.nodes, Alone)
        self.assertIsInstance(cluster.directory, MemoryDirectory)
        self.assertEqual((cluster.is_alone, cluster.directory_kind, cluster.links), (True, "memory", None))
        self.assertIsNone(cluster.introduce(self.face()))
        cluster.listen(self.places)
        cluster.start()
        self.successResultOf(cluster.settled())
        self.assertEqual((cluster.records(), cluster.host, self.reactor.opened), ([], "", []))
        self.assertIsNone(self.successResultOf(Deferred.fromCoroutine(cluster.stop())))

    def test_records(self) -> None:
        """Before it says what it is, it takes no clients."""
        record = self.make().own_record()
        self.assertEqual((record.node_id, record.load, dict(record.places)), ("n1", 1.0, {}))


class DirectoryTests(ClusterTestCase):
    """Where a node finds users and groups."""

    def test_own(self) -> None:
        """A node with links has the memory directory itself, and answers other nodes from it."""
        cluster = self.make(listen=LOCAL)
        assert isinstance(cluster.nodes, Nodes)
        self.assertIsInstance(cluster.directory, MemoryDirectory)
        self.assertEqual((cluster.is_alone, cluster.directory_kind, cluster.contact), (False, "memory", None))
        answers = DirectoryServer(cluster.directory).answers()
        self.assertGreater(len(answers), 0)
        for name in answers:
            self.assertRaises(ValueError, cluster.nodes.answer, name, lambda *_: b"")

    def test_started(self) -> None:
        """It is in its own directory as soon as it is started, and has no others to wait for."""
        cluster = self.make(listen=LOCAL)
        self.start(cluster)
        settled = cluster.settled()
        for _ in range(50):
            self.reactor.advance(0.02)
        self.successResultOf(settled)
        (record,) = self.successResultOf(cluster.directory.nodes())
        self.assertEqual((record.node_id, record.mesh_endpoint), ("n1", "127.0.0.1:40000"))
        self.assertEqual(cluster.records(), [])

    def test_remote(self) -> None:
        """With pb: it is that of another node, which it dials; until that is reached each question fails."""
        cluster = self.make(directory="pb:127.0.0.1:6779")
        self.assertIsInstance(cluster.directory, RemoteDirectory)
        self.assertEqual((cluster.is_alone, cluster.directory_kind), (False, "pb"))
        self.start(cluster)
        self.reactor.advance(0)
        self.failureResultOf(cluster.directory.find_group("g" * 52), MeshError)
        self.assertEqual([client[:2] for client in self.reactor.tcpClients], [("127.0.0.1", 6779)])

    def test_remote_by_socket(self) -> None:
        """It may be behind a Unix socket."""
        self.start(self.make(directory="pb:unix:/run/mesh.sock"))
        self.assertEqual([client[0] for client in self.reactor.unixClients], ["/run/mesh.sock"])

    def test_redis(self) -> None:
        """With redis: it is in Redis, to which nothing goes before the node is started."""
        for where in ("redis://127.0.0.1:6379/1", "redis+sentinel://127.0.0.1:26379/main/0"):
            cluster = self.make(directory=where)
            self.assertIsInstance(cluster.directory, RedisDirectory)
            self.assertEqual((cluster.is_alone, cluster.directory_kind), (False, "redis"))
        self.assertEqual(self.reactor.tcpClients, [])

    def test_wait(self) -> None:
        """Waiting for nodes that are not there ends, and is told in the log."""
        observer = EventLoggingObserver()
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        cluster = self.make(listen=LOCAL)
        self.start(cluster)
        settled = cluster.settled(["n2"])
        for _ in range(round((SETTLE_SECONDS - 0.1) / 0.02)):
            self.reactor.advance(0.02)
        self.assertNoResult(settled)
        for _ in range(10):
            self.reactor.advance(0.02)
        self.successResultOf(settled)
        self.assertIn("not linked to all other nodes yet", [formatEvent(event) for event in observer])


class AddressTests(ClusterTestCase):
    """What other nodes are told to link to."""

    def advertised(self, **keys: Any) -> tuple[str, str]:
        """Return the mesh endpoint of a node, and its host."""
        cluster = self.make(**keys)
        cluster.listen(self.places)
        self.assertEqual(cluster.nodes.mesh_endpoint, cluster.own_record().mesh_endpoint)
        return cluster.own_record().mesh_endpoint, cluster.host

    def test_address(self) -> None:
        """One address is told as it is, with the port that is really open."""
        self.assertEqual(self.advertised(listen=LOCAL), ("127.0.0.1:40000", "127.0.0.1"))

    def test_ipv6(self) -> None:
        """An IPv6 address is told in brackets, and is a host without them."""
        self.assertEqual(self.advertised(listen=r"tcp6:0:interface=\:\:1"), ("[::1]:40000", "::1"))

    def test_everywhere(self) -> None:
        """Where all addresses are listened on the name of the machine is told."""
        for place in ("tcp:7000", r"tcp6:7000:interface=\:\:"):
            self.assertEqual(self.advertised(listen=place), (f"{gethostname()}:7000", gethostname()))

    def test_socket(self) -> None:
        """A Unix socket is told by its path; it says nothing of the host."""
        self.assertEqual(self.advertised(listen="unix:/run/mesh.sock"), ("unix:/run/mesh.sock", ""))

    def test_configured(self) -> None:
        """What the operator says is told, whatever is open."""
        told = self.advertised(listen=LOCAL, advertised_address="n1.example:7000")
        self.assertEqual(told, ("n1.example:7000", "n1.example"))

    def test_no_links(self) -> None:
        """A node that takes no links tells no endpoint, and can be linked all the same."""
        cluster = self.make(directory="pb:127.0.0.1:6779")
        cluster.listen(self.places)
        self.assertEqual((cluster.own_record().mesh_endpoint, cluster.host, self.reactor.opened), ("", "", []))

    def test_taken(self) -> None:
        """A port that somebody else has is told with its key."""
        self.reactor.taken = 7000
        cluster = self.make(listen="tcp:7000:interface=127.0.0.1")
        error = self.assertRaises(ConfigError, cluster.listen, self.places)
        self.assertEqual([problem.path for problem in error.problems], ["mesh.listen"])


class RecordTests(ClusterTestCase):
    """What a node says of itself."""

    def test_record(self) -> None:
        """It says where it is and how busy, between 0 and 1 whatever the application thinks."""
        cluster = self.make(listen=LOCAL)
        cluster.introduce(self.face())
        cluster.listen(self.places)
        expected = NodeRecord(
            node_id="n1",
            incarnation=cluster.incarnation.hex(),
            mesh_endpoint="127.0.0.1:40000",
            places=self.shown,
            load=0.25,
            protocol=NODE_PROTOCOL,
        )
        self.assertEqual(cluster.own_record(), expected)
        for self.load, told in ((-1.0, 0.0), (7.0, 1.0)):
            self.assertEqual(cluster.own_record().load, told)

    def test_draining(self) -> None:
        """A node that drains says that it is full, so that no clients are sent to it."""
        cluster = self.make(listen=LOCAL)
        cluster.introduce(self.face())
        cluster.drain()
        self.assertEqual(cluster.own_record().load, 1.0)

    def test_stopping(self) -> None:
        """So does one that stops."""
        cluster = self.make()
        cluster.introduce(self.face())
        self.successResultOf(Deferred.fromCoroutine(cluster.stop()))
        self.assertEqual(cluster.own_record().load, 1.0)

    def test_incarnation(self) -> None:
        """Each start of a node is another life of it."""
        self.assertNotEqual(self.make().incarnation, self.make().incarnation)


class CertificateTests(ClusterTestCase):
    """The certificate of a node."""

    def setUp(self) -> None:
        """An authority that has issued one to n1."""
        super().setUp()
        directory = Path(self.mktemp())
        init_authority(directory, datetime.now(UTC))
        issue_certificate(directory, "n1", (), datetime.now(UTC))
        self.keys: dict[str, Any] = {
            "insecure": False,
            "ca_file": str(directory / "ca.pem"),
            "certificate_file": str(directory / "n1.pem"),
            "key_file": str(directory / "n1.key"),
        }

    def test_right(self) -> None:
        """A node with its certificate starts."""
        cluster = self.make(listen="tcp:7000", **self.keys)
        cluster.listen(self.places)
        self.assertEqual(len(self.reactor.opened), 1)

    def test_wrong_name(self) -> None:
        """One with that of another node does not, and is told what can be done."""
        error = self.assertRaises(ConfigError, self.make, "n2", listen="tcp:7000", **self.keys)
        self.assertEqual([problem.path for problem in error.problems], ["mesh.certificate_file"])
        self.assertIn("is for n1, this node is n2", str(error))
        self.assertIn("meshrelay ca issue n2", str(error))

    def test_host(self) -> None:
        """Who dials the directory does not know which node is there: its certificate must be for the host."""
        dialled: list[tuple[Any, ...]] = []
        self.patch(cluster, "dialer", lambda *arguments: dialled.append(arguments))
        for where in ("pb:n9.example:7000", "pb:unix:/run/mesh.sock"):
            made = self.make(directory=where, **self.keys)
            self.patch(cluster, "dialer", lambda *arguments: lambda: dialled.append(arguments))
            made._dialer(where.removeprefix("pb:"), by_host=True)()
        self.assertEqual([arguments[-1] for arguments in dialled], ["n9.example", None])
        self.assertEqual([arguments[2] is not None for arguments in dialled], [True, False])

    def test_reload(self) -> None:
        """Certificates that were renewed are used for the links that are made from then on."""
        made = self.make(listen="tcp:7000", **self.keys)
        made.listen(self.places)
        door = self.reactor.opened[0]
        again = made.read_again(Config(mesh=MeshConfig(**{"insecure": True, "listen": "tcp:7000", **self.keys})))
        before = made._certificates
        assert again is not None
        made.use(again)
        self.assertIsNot(again, before)
        self.assertIs(made._certificates, again)
        self.assertTrue(door)

    def test_missing(self) -> None:
        """A file that cannot be read is told."""
        keys = {**self.keys, "key_file": self.mktemp()}
        self.assertRaises(ConfigError, self.make, listen="tcp:7000", **keys)

    def test_none(self) -> None:
        """Without any there is none."""
        self.assertIsNone(read_certificates(MeshConfig(), "n1"))
