"""The node that has workers."""

from __future__ import annotations

import json
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.address import IPv4Address
from twisted.internet.testing import EventLoggingObserver, StringTransport
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from meshrelay import node_parts
from meshrelay.cluster import SETTLE_SECONDS
from meshrelay.config.schema import Config, ListenConfig, NodeConfig, SessionConfig
from meshrelay.errors import ConfigError, ConfigProblem
from meshrelay.http.console_tickets import Tickets
from meshrelay.workers import supervisor
from meshrelay.workers.console import ANSWER_SECONDS
from meshrelay.workers.plan import MAX_DIRECTORY_BYTES, read_plan
from meshrelay.workers.supervisor import Supervisor, SupervisorParts
from meshrelay.workers.worker_process import RESTART_CAP_SECONDS, WorkerProtocol
from tests.http.exchange import make_record
from tests.transport.port_reactor import PortReactor
from tests.workers.fake_process import FakeProcess, Launcher

CONFIG = Config(
    node=NodeConfig(id="sup", workers=2, drain_seconds=0.0),
    listen=ListenConfig(websocket="", udp="", http="tcp:0:interface=127.0.0.1"),
)


class StoppingReactor(PortReactor):
    """Counts how often it was stopped."""

    stops = 0

    def stop(self) -> None:
        """See `IReactorCore`."""
        self.stops += 1


class FakeHeldPort:
    """A port number that nobody holds really."""

    number = 7777

    def __init__(self) -> None:
        self.is_closed = False

    def close(self) -> None:
        """See `HeldPort`."""
        self.is_closed = True


class SupervisorTests(SynchronousTestCase):
    """A supervisor of two workers whose processes are fakes."""

    def setUp(self) -> None:
        """It is not started."""
        self.patch(node_parts, "raise_open_files_limit", lambda: 1000)
        self.patch(node_parts, "getPlugins", lambda interface: [])
        self.patch(supervisor, "hold_port", self.hold_port)
        self.errors = StringIO()
        self.patch(sys, "__stderr__", self.errors)
        self.observer = EventLoggingObserver()
        globalLogPublisher.addObserver(self.observer)
        self.addCleanup(globalLogPublisher.removeObserver, self.observer)
        self.reactor = StoppingReactor()
        self.launcher = Launcher()
        self.plans: list[Path] = []
        self.statuses: list[int] = []
        self.held: dict[str, FakeHeldPort] = {}
        self.directory = Path(self.mktemp())
        self.supervisor = self.make(str(self.directory))

    def make(self, directory: str, config: Config = CONFIG) -> Supervisor:
        """A supervisor with its files in `directory`."""
        parts = SupervisorParts(self.launch, self.statuses.append, lambda low, high: high, directory)
        return Supervisor(config, self.reactor, parts)

    def launch(self, protocol: WorkerProtocol, plan: Path) -> Any:
        """Start a fake process."""
        self.plans.append(plan)
        return self.launcher.launch(protocol)

    def hold_port(self, name: str, place: str) -> FakeHeldPort:
        """Hold a port in memory."""
        if "taken" in place:
            raise ConfigError([ConfigProblem(f"listen.{name}", "taken")])
        self.held[name] = FakeHeldPort()
        return self.held[name]

    def run_reactor(self) -> None:
        """Let the reactor say that it runs."""
        for function, arguments, named in self.reactor.whenRunningHooks:
            function(*arguments, **named)
        self.reactor.whenRunningHooks.clear()

    def start(self) -> list[FakeProcess]:
        """Start everything and return the processes."""
        self.supervisor.startService()
        self.run_reactor()
        return self.launcher.started

    def link(self, node_id: str) -> None:
        """Let the link to a worker come up."""
        nodes: Any = self.supervisor.cluster.nodes
        nodes.link_up(node_id)
        self.reactor.advance(0.1)

    def log(self) -> list[str]:
        """Everything that was logged."""
        return [str(formatEvent(event)) for event in self.observer]

    def test_start(self) -> None:
        """Ports are held and plans written before the first worker runs; only this user may look into the directory."""
        self.supervisor.startService()
        self.assertEqual(list(self.held), ["tcp"])
        self.assertEqual(self.directory.stat().st_mode & 0o777, 0o700)
        self.assertEqual(self.launcher.started, [])
        self.run_reactor()
        plans = [read_plan(str(path)) for path in self.plans]
        self.assertEqual([plan.node_id for plan in plans], ["sup-w0", "sup-w1"])
        self.assertEqual([plan.shared_ports for plan in plans], [{"tcp": 7777}] * 2)
        self.assertEqual(plans[0].config, CONFIG)

    def test_ready(self) -> None:
        """It says ready once, when all workers are, with their places and its own; then health follows the workers."""
        processes = self.start()
        processes[0].say_ready(b'{"places": {"tcp": "127.0.0.1:7777", "udp": "127.0.0.1:5", "mesh": "/x"}}\n')
        self.assertFalse(self.supervisor.is_ready)
        processes[1].say_ready()
        self.link("sup-w0")
        self.assertFalse(self.supervisor.is_ready)
        self.link("sup-w1")
        self.assertTrue(self.supervisor.is_ready)
        ready = [line for line in self.log() if line.startswith("ready ")]
        http = self.supervisor.places.addresses()["http"]
        self.assertEqual(ready, [f"ready node=sup tcp=127.0.0.1:7777 udp=127.0.0.1:5 http={http}"])
        for process in processes[:2]:
            process.exit(signal=9)
        self.assertFalse(self.supervisor.is_ready)
        self.reactor.advance(RESTART_CAP_SECONDS)
        processes[2].say_ready()
        self.assertTrue(self.supervisor.is_ready)

    def test_ended_early(self) -> None:
        """When the last worker ends just before the ready line, nobody is sent here until one is back."""
        processes = self.start()
        for process in processes[:2]:
            process.say_ready()
        for process in processes[:2]:
            process.exit(signal=9)
        self.reactor.advance(SETTLE_SECONDS)
        self.reactor.advance(SETTLE_SECONDS)
        self.assertFalse(self.supervisor.is_ready)
        processes[2].say_ready()
        self.assertTrue(self.supervisor.is_ready)

    def test_stopped_early(self) -> None:
        """A daemon that stops does not say that it is ready."""
        for process in self.start():
            process.say_ready()
        self.supervisor.stopService()
        self.link("sup-w0")
        self.link("sup-w1")
        self.assertFalse(self.supervisor.is_ready)
        self.assertFalse([line for line in self.log() if line.startswith("ready ")])

    def test_dead_worker(self) -> None:
        """A worker that ended is out of the directory at once, and so is what it said last; the others stay."""
        processes = self.start()
        directory = self.supervisor.cluster.directory
        for worker in ("sup-w0", "sup-w1"):
            directory.register_node(make_record(worker))
        self.assertEqual([record.node_id for record in self.supervisor.cluster.records()], ["sup-w0", "sup-w1"])
        processes[0].exit(signal=9)
        self.assertEqual([record.node_id for record in self.supervisor.cluster.records()], ["sup-w1"])
        directory.register_node(make_record("sup-w0"))
        self.reactor.advance(RESTART_CAP_SECONDS / 10)
        self.assertEqual(len(processes), 3)
        self.assertEqual([record.node_id for record in self.supervisor.cluster.records()], ["sup-w1"])

    def test_application(self) -> None:
        """Applications run in the workers and not here, also those that are installed as plug-ins."""
        self.patch(node_parts, "getPlugins", lambda interface: self.fail("plug-ins were looked for"))
        self.supervisor.startService()
        self.assertEqual(self.supervisor.groups.statistics()["groups"], 0)

    def test_metrics(self) -> None:
        """The metrics page is there while no worker answers, with what the supervisor itself counts."""
        self.start()
        site = self.reactor.factories[-1]
        transport = StringTransport()
        channel = site.buildProtocol(None)
        channel.makeConnection(transport)
        channel.dataReceived(b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n")
        self.assertTrue(transport.value().startswith(b"HTTP/1.1 200 "))
        self.assertIn(b'meshrelay_node_info{node="sup"', transport.value())
        self.assertEqual(len([line for line in self.log() if line.startswith("no metrics of sup-w")]), 2)

    def start_with_websocket(self, place: str, **listen: str) -> None:
        """Start a supervisor whose workers have WebSockets."""
        changed = msgspec.structs.replace(CONFIG.listen, websocket=place, **listen)
        self.supervisor = self.make(str(self.directory), msgspec.structs.replace(CONFIG, listen=changed))
        self.supervisor.startService()

    def ask(self, method: bytes, path: bytes) -> Any:
        """Return what a page on this machine is answered."""
        channel: Any = self.reactor.factories[-1].buildProtocol(None)
        here = IPv4Address("TCP", "127.0.0.1", 50000)
        transport = StringTransport(hostAddress=here, peerAddress=here)
        channel.makeConnection(transport)
        channel.dataReceived(method + b" " + path + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        self.reactor.advance(ANSWER_SECONDS)
        return json.loads(transport.value().partition(b"\r\n\r\n")[2])

    def test_console(self) -> None:
        """Pages get a ticket that workers take, for the port that all workers share, and are told of what there is."""
        self.start_with_websocket("tcp:7300:interface=127.0.0.1")
        ticket = self.ask(b"POST", b"/admin/console/ticket")
        self.assertEqual(ticket["url"], "ws://localhost:7777/")
        key = read_plan(str(self.directory / "w1.json")).ticket_key
        self.assertEqual(Tickets(self.reactor, bytes, key).redeem(ticket["token"]), ticket["user"])
        self.assertEqual(self.ask(b"GET", b"/admin/console/state")["state"]["node"], "sup")

    def test_console_with_tls(self) -> None:
        """Pages go to the port of the workers as it is, by the name that clients are told."""
        self.start_with_websocket("tls:7300:privateKey=k.pem:certKey=c.pem", advertised_host="chat.example")
        self.assertEqual(self.ask(b"POST", b"/admin/console/ticket")["url"], "wss://localhost:7777/")

    def test_console_without_websockets(self) -> None:
        """Where workers have no WebSockets pages are told to ask by HTTP."""
        self.supervisor.startService()
        self.assertIsNone(self.ask(b"POST", b"/admin/console/ticket")["url"])

    def test_plan_is_gone(self) -> None:
        """A worker that is started again finds its plan, also where something has tidied up the directory."""
        processes = self.start()
        self.plans[0].unlink()
        processes[0].exit(signal=9)
        self.reactor.advance(RESTART_CAP_SECONDS)
        self.assertEqual(len(processes), 3)
        self.assertEqual(read_plan(str(self.plans[2])).node_id, "sup-w0")

    def test_stale_socket(self) -> None:
        """The socket that a killed worker has left behind is gone when the next one starts."""
        processes = self.start()
        socket = read_plan(str(self.plans[0])).socket_path
        socket.write_bytes(b"")
        processes[0].exit(signal=9)
        self.reactor.advance(RESTART_CAP_SECONDS)
        self.assertEqual(len(processes), 3)
        self.assertFalse(socket.exists())

    def test_stop(self) -> None:
        """First the workers drain, then the pages close; nothing is left behind."""
        processes = self.start()
        for process in processes:
            process.say_ready()
        stopped = self.supervisor.stopService()
        self.assertFalse(self.supervisor.is_ready)
        self.assertEqual([process.signals for process in processes], [["TERM"]] * 2)
        self.assertIn("http", self.supervisor.places.addresses())
        for process in processes:
            self.assertNoResult(stopped)
            process.exit()
        self.reactor.advance(1)
        self.successResultOf(stopped)
        self.assertEqual(self.supervisor.places.addresses(), {})
        self.assertTrue(self.held["tcp"].is_closed)
        self.assertFalse(self.directory.exists())

    def test_cut_drain(self) -> None:
        """A second signal reaches every worker."""
        processes = self.start()
        self.supervisor.stopService()
        self.supervisor.cut_drain()
        self.assertEqual([process.told for process in processes], [b"cut\n"] * 2)

    def test_start_failed(self) -> None:
        """What a worker cannot start with is told to who started the daemon, which ends with status 1."""
        processes = self.start()
        processes[0].protocol.childDataReceived(2, b"app.module: cannot import game\n")
        processes[0].exit(1)
        self.assertEqual(self.errors.getvalue(), "app.module: cannot import game\n")
        self.assertEqual((self.statuses, self.reactor.stops), ([1], 1))
        processes[1].exit(1)
        self.reactor.advance(RESTART_CAP_SECONDS)
        self.assertEqual((self.statuses, self.reactor.stops, len(processes)), ([1], 1, 2))

    def test_reload(self) -> None:
        """Workers are told to read their plans again; those hold what can change, and nothing else that is new."""
        processes = self.start()
        new = Config(
            listen=ListenConfig(tcp=""), session=SessionConfig(heartbeat_seconds=3.0), node=NodeConfig(workers=7)
        )
        self.supervisor.reload(new)
        self.assertEqual([process.told for process in processes], [b"reload\n"] * 2)
        plan = read_plan(str(self.plans[1]))
        self.assertEqual(plan.config.session.heartbeat_seconds, 3.0)
        self.assertEqual((plan.config.listen, plan.config.node), (CONFIG.listen, CONFIG.node))

    def test_port_taken(self) -> None:
        """A port that somebody else has ends the start like that of a node, and leaves nothing behind."""

        def refuse(name: str, place: str) -> Any:
            raise ConfigError([ConfigProblem("listen.tcp", "taken")])

        self.patch(supervisor, "hold_port", refuse)
        stop = self.assertRaises(SystemExit, self.supervisor.startService)
        self.assertEqual((stop.code, self.errors.getvalue()), (1, "listen.tcp: taken\n"))
        self.assertFalse(self.directory.exists())

    def test_no_directory(self) -> None:
        """A directory that cannot be made, is there already or has too long a path ends the start with the key."""
        self.directory.mkdir()
        (self.directory / "precious").write_text("x")
        for directory in (str(self.directory), f"{self.directory}/a/b", "d" * (MAX_DIRECTORY_BYTES + 1)):
            stop = self.assertRaises(SystemExit, self.make(directory).startService)
            self.assertEqual(stop.code, 1)
        self.assertEqual(self.errors.getvalue().count("node.workers: no directory"), 3)
        self.assertTrue((self.directory / "precious").exists())
