"""Rules between the keys of workers and of linked nodes."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.config.checks import check_config
from meshrelay.config.cluster_checks import (
    CLUSTER_RULES,
    MAX_MESH_PAYLOAD_BYTES,
    MAX_SUPERVISOR_ID_LENGTH,
)
from meshrelay.config.keys import keys_by_section
from meshrelay.config.schema import Config, ListenConfig, MeshConfig, NodeConfig, SessionConfig

LOCAL = "tcp:6779:interface=127.0.0.1"
TO_ALL = "tcp:6779"
QUIET = ListenConfig(tcp="", udp="", websocket="", http="")
CERTIFICATES = {"ca_file": "ca.pem", "certificate_file": "node.pem", "key_file": "node.key"}


def problems_of(config: Config, *, wrong: frozenset[str] = frozenset()) -> list[str]:
    """Return what is wrong, as the operator reads it."""
    return [str(problem) for problem in check_config(config, wrong)]


def mesh(listen: str = LOCAL, **keys: object) -> Config:
    """Return the configuration of a node with links."""
    return Config(mesh=MeshConfig(listen=listen, **keys))  # type: ignore[arg-type]


def workers(count: int = 2, **sections: object) -> Config:
    """Return the configuration of a supervisor."""
    return Config(node=NodeConfig(workers=count), **sections)  # type: ignore[arg-type]


class RuleTests(SynchronousTestCase):
    """The table of rules."""

    def test_keys_exist(self) -> None:
        """Every key that a rule names exists."""
        sections = keys_by_section()
        for paths, _ in CLUSTER_RULES:
            for path in paths:
                section, name = path.split(".")
                self.assertIn(name, sections[section])

    def test_defaults(self) -> None:
        """A node alone, and one with workers, need nothing to be set."""
        self.assertEqual(problems_of(Config()) + problems_of(workers(256)), [])

    def test_one_mistake_once(self) -> None:
        """A rule says nothing when one of its keys is known to be wrong."""
        config = mesh(TO_ALL, insecure=True)
        self.assertEqual(len(problems_of(config)), 1)
        for path in ("mesh.listen", "mesh.insecure", "mesh.ca_file"):
            self.assertEqual(problems_of(config, wrong=frozenset({path})), [])


class WorkerTests(SynchronousTestCase):
    """node.workers."""

    def test_unix(self) -> None:
        """A Unix socket has one listener, so workers cannot share it; one worker may have it."""
        listen = ListenConfig(tcp="unix:/run/a", udp="", websocket="unix:/run/b", http="unix:/run/c")
        self.assertEqual(
            problems_of(workers(listen=listen)),
            [
                "listen.tcp: unix:/run/a cannot be shared by workers: node.workers needs a TCP port",
                "listen.websocket: unix:/run/b cannot be shared by workers: node.workers needs a TCP port",
            ],
        )
        self.assertEqual(problems_of(workers(1, listen=listen)), [])

    def test_unreadable_place(self) -> None:
        """A place that cannot be read is told once, by its own rule."""
        listen = ListenConfig(tcp="7200", udp="7200", websocket="", http="")
        paths = [problem.partition(":")[0] for problem in problems_of(workers(listen=listen))]
        self.assertEqual(paths, ["listen.tcp", "listen.udp"])

    def test_udp_ports(self) -> None:
        """Each worker has a UDP port, one after the other; the last one must exist."""
        listen = ListenConfig(tcp="", udp="udp:65534:interface=127.0.0.1", websocket="", http="")
        self.assertEqual(problems_of(workers(2, listen=listen)), [])
        self.assertEqual(
            problems_of(workers(3, listen=listen)), ["listen.udp: the last worker would have port 65536, over 65535"]
        )

    def test_id(self) -> None:
        """The ID of a supervisor leaves room for what its workers add."""
        longest = "n" * MAX_SUPERVISOR_ID_LENGTH
        self.assertLessEqual(len(longest + "-w255"), 64)
        self.assertEqual(problems_of(Config(node=NodeConfig(id=longest, workers=2))), [])
        self.assertEqual(problems_of(Config(node=NodeConfig(id=longest + "n"))), [])
        self.assertEqual(
            problems_of(Config(node=NodeConfig(id=longest + "n", workers=2))),
            ["node.id: must have at most 59 characters with node.workers"],
        )

    def test_mesh(self) -> None:
        """Workers are a mesh of their own and cannot be part of another one."""
        config = workers(mesh=MeshConfig(listen=LOCAL, insecure=True, directory="redis://127.0.0.1:1"))
        self.assertEqual(
            problems_of(config),
            [
                "mesh.listen: must be '' with node.workers: workers use their supervisor's",
                "mesh.directory: must be 'memory' with node.workers: workers use their supervisor's",
            ],
        )

    def test_payload(self) -> None:
        """What clients may send must fit between workers."""
        fits = SessionConfig(max_payload_bytes=MAX_MESH_PAYLOAD_BYTES)
        over = SessionConfig(max_payload_bytes=MAX_MESH_PAYLOAD_BYTES + 1)
        self.assertEqual(problems_of(workers(session=fits)), [])
        self.assertEqual(problems_of(workers(1, session=over)), [])
        self.assertEqual(
            problems_of(workers(session=over)), ["session.max_payload_bytes: may be at most 262144 with node.workers"]
        )


class LinkTests(SynchronousTestCase):
    """What protects links."""

    def test_certificates(self) -> None:
        """With certificates a node may be linked from anywhere."""
        self.assertEqual(problems_of(mesh(TO_ALL, **CERTIFICATES)), [])

    def test_missing_file(self) -> None:
        """The three files belong together, whether or not the node takes links itself."""
        for name in CERTIFICATES:
            some = {key: path for key, path in CERTIFICATES.items() if key != name}
            told = [f"mesh.{name}: is needed: ca_file, certificate_file and key_file belong together"]
            self.assertEqual(problems_of(mesh(TO_ALL, **some)), told)
            self.assertEqual(problems_of(mesh("", directory="pb:127.0.0.1:1", **some)), told)

    def test_nothing(self) -> None:
        """Without certificates links are refused, even on loopback, unless the operator insists there."""
        hint = "meshrelay ca init makes one; on loopback mesh.insecure = true does without"
        told = [f"mesh.ca_file: is needed for links: {hint}"]
        self.assertEqual(problems_of(mesh(TO_ALL)), told)
        self.assertEqual(problems_of(mesh(LOCAL)), told)
        self.assertEqual(problems_of(mesh(LOCAL, insecure=True)), [])

    def test_insecure_everywhere(self) -> None:
        """No insisting lets links without TLS leave the machine."""
        for place in (TO_ALL, "tcp:6779:interface=192.0.2.1", "tcp6:6779"):
            self.assertEqual(
                problems_of(mesh(place, insecure=True)),
                [f"mesh.insecure: {place} can be reached from other machines: links there need TLS"],
            )

    def test_insecure_with_certificates(self) -> None:
        """Certificates and insecure at once are a contradiction."""
        self.assertEqual(
            problems_of(mesh(LOCAL, insecure=True, **CERTIFICATES)),
            ["mesh.insecure: is true, but there are certificates: take one of the two away"],
        )

    def test_unix(self) -> None:
        """A Unix socket needs neither."""
        self.assertEqual(problems_of(mesh("unix:/run/mesh.sock")), [])

    def test_kind(self) -> None:
        """TLS comes from the three files, not from the endpoint."""
        self.assertEqual(
            problems_of(mesh("ssl:6779:privateKey=k:certKey=c:interface=127.0.0.1", **CERTIFICATES)),
            ["mesh.listen: ssl: must be tcp: or unix:, TLS comes from ca_file and its kin"],
        )


class PayloadTests(SynchronousTestCase):
    """Frames between nodes."""

    def test_payload(self) -> None:
        """What clients may send must fit between nodes; a node without others may take more."""
        over = SessionConfig(max_payload_bytes=MAX_MESH_PAYLOAD_BYTES + 1)
        told = ["session.max_payload_bytes: may be at most 262144 where nodes are linked"]
        for section in (MeshConfig(listen="unix:/run/mesh.sock"), MeshConfig(directory="pb:127.0.0.1:1")):
            self.assertEqual(problems_of(Config(mesh=section, session=over)), told)
            fits = SessionConfig(max_payload_bytes=MAX_MESH_PAYLOAD_BYTES)
            self.assertEqual(problems_of(Config(mesh=section, session=fits)), [])
        self.assertEqual(problems_of(Config(session=over)), [])
