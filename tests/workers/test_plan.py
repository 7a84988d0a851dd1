"""The configuration of all -> the one of each."""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.config.listening import parse_stream_place, parse_udp_place
from meshrelay.config.schema import (
    AppConfig,
    AuthConfig,
    Config,
    GroupConfig,
    ListenConfig,
    MeshConfig,
    NodeConfig,
    OverlayConfig,
    RelayConfig,
    SessionConfig,
    StaticGroup,
)
from meshrelay.errors import ConfigError
from meshrelay.workers.plan import (
    MAX_DIRECTORY_BYTES,
    WorkerPlan,
    keep_what_needs_a_restart,
    read_plan,
    supervisor_config,
    supervisor_id,
    worker_id,
    write_plan,
)

CONFIG = Config(
    node=NodeConfig(id="sup", workers=3, drain_seconds=2.0),
    listen=ListenConfig(udp="udp:7100:interface=127.0.0.1"),
    session=SessionConfig(heartbeat_seconds=3.0),
    group=GroupConfig(static_groups=(StaticGroup(group_id="g" * 52),)),
    relay=RelayConfig(listen="tcp:33080:interface=127.0.0.1"),
    overlay=OverlayConfig(
        listen="tcp:7400:interface=127.0.0.1", bootstrap=("ws://a:1",), public_url="ws://b:1", key_file="k"
    ),
    app=AppConfig(module="game"),
)


def plan(index: int = 1, config: Config = CONFIG, directory: str = "/tmp/x") -> WorkerPlan:
    """Return the plan of a worker."""
    return WorkerPlan(
        index=index,
        supervisor_id="sup",
        directory=directory,
        shared_ports={"tcp": 7200, "websocket": 0},
        ticket_key=bytes(range(224, 256)),
        config=config,
    )


class WorkerConfigTests(SynchronousTestCase):
    """What a worker is."""

    def setUp(self) -> None:
        """The second of three."""
        self.config = plan().worker_config()

    def test_node(self) -> None:
        """It is one node, named after its supervisor, that is told how long to drain."""
        self.assertEqual(self.config.node, NodeConfig(id="sup-w1", workers=1, drain_seconds=2.0))

    def test_listen(self) -> None:
        """It listens for clients where the operator said, and for nobody else."""
        self.assertEqual(self.config.listen.tcp, CONFIG.listen.tcp)
        self.assertEqual(self.config.listen.websocket, CONFIG.listen.websocket)
        self.assertEqual((self.config.listen.http, self.config.relay.listen), ("", ""))
        self.assertEqual(self.config.overlay, OverlayConfig())

    def test_mesh(self) -> None:
        """It is linked by sockets of the private directory that its user alone may open."""
        self.assertEqual(self.config.mesh.listen, "unix:/tmp/x/w1.sock:mode=600")
        self.assertEqual(self.config.mesh.directory, "pb:unix:/tmp/x/supervisor.sock")

    def test_other_links(self) -> None:
        """Certificates and the address of a node that was linked to others are not those of its workers."""
        mesh = MeshConfig(advertised_address="a.example:6779", ca_file="ca", certificate_file="a", key_file="k")
        config = msgspec.structs.replace(CONFIG, mesh=mesh)
        self.assertEqual(plan(config=config).worker_config().mesh, self.config.mesh)
        self.assertEqual(supervisor_config(config, "s", "/tmp/x").mesh, supervisor_config(CONFIG, "s", "/tmp/x").mesh)

    def test_odd_directory(self) -> None:
        """A colon in the name of the directory does not end the place."""
        listen = plan(directory="/tmp/a:b").worker_config().mesh.listen
        self.assertEqual(listen, "unix:/tmp/a\\:b/w1.sock:mode=600")
        self.assertEqual(parse_stream_place(listen).kind, "unix")

    def test_the_rest(self) -> None:
        """Everything else is as the operator wrote it."""
        for section in ("auth", "session", "group", "app", "dm", "room", "link", "http"):
            self.assertEqual(getattr(self.config, section), getattr(CONFIG, section), section)

    def test_udp(self) -> None:
        """Each worker has a UDP port of its own: the configured one plus its number, or any free one."""
        cases = {
            "udp:7100:interface=127.0.0.1": (7103, "127.0.0.1"),
            "udp:7100": (7103, ""),
            r"udp:7100:interface=\:\:1": (7103, "::1"),
            "udp:0:interface=127.0.0.1": (0, "127.0.0.1"),
        }
        for place, expected in cases.items():
            config = msgspec.structs.replace(CONFIG, listen=ListenConfig(udp=place))
            own = parse_udp_place(plan(3, config).worker_config().listen.udp)
            self.assertEqual((own.port, own.interface), expected, place)
        off = msgspec.structs.replace(CONFIG, listen=ListenConfig(udp=""))
        self.assertEqual(plan(3, off).worker_config().listen.udp, "")


class SupervisorTests(SynchronousTestCase):
    """What the supervisor is."""

    def test_config(self) -> None:
        """It is a node with the pages and the directory, without clients, groups and application."""
        config = supervisor_config(CONFIG, "sup", "/tmp/x")
        self.assertEqual(config.node, NodeConfig(id="sup", workers=1, drain_seconds=2.0))
        self.assertEqual((config.listen.tcp, config.listen.udp, config.listen.websocket), ("", "", ""))
        self.assertEqual(config.listen.http, CONFIG.listen.http)
        self.assertEqual(
            (config.mesh.listen, config.mesh.directory), ("unix:/tmp/x/supervisor.sock:mode=600", "memory")
        )
        self.assertEqual((config.app.module, config.group.static_groups), ("", ()))
        self.assertEqual((config.relay, config.session), (CONFIG.relay, CONFIG.session))
        self.assertEqual(config.overlay, CONFIG.overlay)

    def test_id(self) -> None:
        """Its ID is the configured one; without one it is random and leaves room for the workers'."""
        self.assertEqual(supervisor_id(CONFIG), "sup")
        self.patch(socket, "gethostname", lambda: "h" * 64)
        first, second = supervisor_id(Config()), supervisor_id(Config())
        self.assertNotEqual(first, second)
        longest = worker_id(first, 255)
        self.assertEqual(len(longest), 64)
        msgspec.convert({"id": longest}, NodeConfig)

    def test_long_id(self) -> None:
        """An ID that leaves no room is refused with its key."""
        self.assertEqual(supervisor_id(Config(node=NodeConfig(id="i" * 59))), "i" * 59)
        refused = self.assertRaises(ConfigError, supervisor_id, Config(node=NodeConfig(id="i" * 60)))
        self.assertEqual([problem.path for problem in refused.problems], ["node.id"])

    def test_longest_directory(self) -> None:
        """In the longest directory that is allowed the longest socket can still be opened."""
        config = supervisor_config(CONFIG, "sup", "d" * MAX_DIRECTORY_BYTES)
        self.assertEqual(len(config.mesh.listen.split(":")[1]), 107)
        self.assertLess(len(str(plan(255, directory="d" * MAX_DIRECTORY_BYTES).socket_path)), 107)


class ReloadTests(SynchronousTestCase):
    """A configuration that was reloaded."""

    def test_keys(self) -> None:
        """Keys that can change while a node runs are the new ones, the others stay until everything is restarted."""
        new = Config(
            auth=AuthConfig(mode="token", issuer="me"),
            session=SessionConfig(heartbeat_seconds=9.0, max_payload_bytes=100, outbox_bytes=2048),
            listen=ListenConfig(tcp=""),
        )
        merged = keep_what_needs_a_restart(CONFIG, new)
        self.assertEqual((merged.auth.issuer, merged.session.heartbeat_seconds), ("me", 9.0))
        self.assertEqual((merged.auth.mode, merged.session.max_payload_bytes), ("open", 65536))
        self.assertEqual((merged.listen, merged.node, merged.app), (CONFIG.listen, CONFIG.node, CONFIG.app))

    def test_mode(self) -> None:
        """A file without the keys of tokens does not take them from workers, whose mode stays."""
        auth = AuthConfig(mode="token", secret_file="s", audience="game")
        new = AuthConfig(mode="open", algorithms=(), allowed_origins=("https://a",))
        merged = keep_what_needs_a_restart(Config(auth=auth), Config(auth=new))
        self.assertEqual(merged.auth, msgspec.structs.replace(auth, allowed_origins=("https://a",)))


class OtherTests(SynchronousTestCase):
    """Who there is beside a worker."""

    def test_other_ids(self) -> None:
        """A worker knows all workers but itself."""
        three = Config(node=NodeConfig(workers=3))
        self.assertEqual(plan(1, three).other_ids, ["sup-w0", "sup-w2"])


class FileTests(SynchronousTestCase):
    """What goes to the worker's process."""

    def test_round_trip(self) -> None:
        """The worker reads what was written, again after it was written anew; only this user can."""
        directory = self.mktemp()
        Path(directory).mkdir()
        for config in (CONFIG, Config()):
            written = plan(2, config, directory)
            write_plan(written)
            self.assertEqual(read_plan(str(written.path)), written)
        self.assertEqual(written.path.stat().st_mode & 0o777, 0o600)
        self.assertEqual([path.name for path in Path(directory).iterdir()], ["w2.json"])

    def test_unreadable(self) -> None:
        """Without its plan, or with a broken one, a worker does not start."""
        self.assertRaises(ConfigError, read_plan, self.mktemp())
        path = Path(self.mktemp())
        path.write_text('{"index": "first"}')
        self.assertRaises(ConfigError, read_plan, str(path))
