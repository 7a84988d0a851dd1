"""The node inside a worker's process."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.protocol import connectionDone
from twisted.internet.testing import EventLoggingObserver, StringTransport
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from meshrelay import node_parts
from meshrelay.cluster import SETTLE_SECONDS
from meshrelay.config.schema import Config, HttpConfig, ListenConfig, NodeConfig, SessionConfig
from meshrelay.errors import AuthenticationError, ConfigError
from meshrelay.http.console_tickets import Tickets
from meshrelay.session.drain import Drain
from meshrelay.workers.console import PART_CALL, USED_CALL
from meshrelay.workers.metrics import METRICS_CALL
from meshrelay.workers.plan import WorkerPlan, write_plan
from meshrelay.workers.worker import Leash, WorkerNode, make_worker
from meshrelay.workers.worker_process import BEAT, BEAT_SECONDS, ReadyWorker
from tests.transport.port_reactor import PortReactor

LISTEN = ListenConfig(tcp="tcp:7200", udp="", websocket="")


class LeashTests(SynchronousTestCase):
    """What a supervisor tells a worker."""

    def setUp(self) -> None:
        """A leash with one command."""
        self.did: list[str] = []
        self.leash = Leash({"cut": lambda: self.did.append("cut")}, lambda: self.did.append("loose"))
        self.transport = StringTransport()
        self.leash.makeConnection(self.transport)

    def test_commands(self) -> None:
        """Each line is a command, whole or in pieces; what is none is logged."""
        observer = EventLoggingObserver()
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        self.leash.dataReceived(b"cu")
        self.leash.dataReceived(b"t\ndance\ncut\n")
        self.assertEqual(self.did, ["cut", "cut"])
        self.assertEqual(len([event for event in observer if "dance" in str(formatEvent(event))]), 1)

    def test_cut_loose(self) -> None:
        """The end of the pipe is the end of the supervisor."""
        self.leash.connectionLost(connectionDone)
        self.assertEqual(self.did, ["loose"])

    def test_ready(self) -> None:
        """One line says where clients can come; without a supervisor nobody is told."""
        self.leash.say_ready({"tcp": "a:1"})
        line = self.transport.value()
        self.assertEqual((line.count(b"\n"), msgspec.json.decode(line, type=ReadyWorker).places), (1, {"tcp": "a:1"}))
        Leash({}, lambda: None).say_ready({})


class StoppingReactor(PortReactor):
    """Counts how often it was stopped; like a real one it does not take it twice."""

    stops = 0

    def stop(self) -> None:
        """See `IReactorCore`."""
        self.stops += 1
        if self.stops > 1:
            raise ReactorNotRunning


class WorkerNodeTests(SynchronousTestCase):
    """A worker that was started."""

    def setUp(self) -> None:
        """Its ports are open in memory."""
        self.patch(node_parts, "raise_open_files_limit", lambda: 1000)
        self.patch(node_parts, "getPlugins", lambda interface: [])
        self.observer = EventLoggingObserver()
        globalLogPublisher.addObserver(self.observer)
        self.addCleanup(globalLogPublisher.removeObserver, self.observer)
        self.reactor = StoppingReactor()
        self.transport = StringTransport()
        self.leashes: list[Leash] = []
        directory = Path(self.mktemp())
        directory.mkdir()
        self.plan = WorkerPlan(
            index=1,
            supervisor_id="sup",
            directory=str(directory),
            shared_ports={"tcp": 7777},
            ticket_key=b"k" * 32,
            config=Config(listen=LISTEN, node=NodeConfig(workers=2, drain_seconds=0)),
        )
        write_plan(self.plan)
        self.node = WorkerNode(self.plan, self.reactor, self.connect)
        self.node.startService()

    def connect(self, leash: Leash) -> None:
        """Connect the leash to a memory transport."""
        self.leashes.append(leash)
        leash.makeConnection(self.transport)

    def run_reactor(self) -> None:
        """Let the reactor say that it runs."""
        for function, arguments, named in self.reactor.whenRunningHooks:
            function(*arguments, **named)

    def log(self) -> list[str]:
        """Everything that was logged."""
        return [str(formatEvent(event)) for event in self.observer]

    def test_ready(self) -> None:
        """It says ready to its supervisor and not in the log, where programs wait for the line of all.

        Before that it waits a while for the supervisor, which does not answer here.
        """
        self.run_reactor()
        self.reactor.advance(SETTLE_SECONDS - 0.1)
        self.assertEqual((self.transport.value(), self.node.is_ready), (b"", False))
        self.reactor.advance(0.2)
        self.assertTrue(self.node.is_ready)
        ready, *beats = self.transport.value().splitlines()
        self.assertIn("tcp", msgspec.json.decode(ready, type=ReadyWorker).places)
        for _ in range(3):
            self.reactor.advance(BEAT_SECONDS)
        self.assertEqual(self.transport.value().splitlines()[1:], [*beats, *[BEAT.encode()] * 3])
        self.assertFalse([line for line in self.log() if line.startswith("ready")])

    def test_console(self) -> None:
        """It tells its supervisor its part of the console, and takes a ticket that the supervisor issued once."""
        handlers: Any = self.node.cluster.nodes
        answer = handlers.call_received("sup", PART_CALL, b'{"since": 0}')
        self.assertEqual(json.loads(self.successResultOf(answer))["state"]["node"], "sup-w1")
        ticket = Tickets(self.reactor, os.urandom, self.plan.ticket_key).issue()
        self.assertEqual(self.node.authenticator.authenticate(None, ticket.token).user_id, ticket.user)
        self.assertRaises(AuthenticationError, self.node.authenticator.authenticate, None, ticket.token)

    def test_ticket_of_another_worker(self) -> None:
        """A ticket that another worker has let somebody in with is void here."""
        tickets = Tickets(self.reactor, os.urandom, self.plan.ticket_key)
        used: list[str] = []
        tickets.when_used(used.append)
        ticket = tickets.issue()
        tickets.redeem(ticket.token)
        nodes: Any = self.node.cluster.nodes
        self.successResultOf(nodes.call_received("sup-w0", USED_CALL, used[0].encode()))
        self.assertRaises(AuthenticationError, self.node.authenticator.authenticate, None, ticket.token)

    def test_without_console(self) -> None:
        """``http.console = false``: it tells nothing of itself, and takes no ticket."""
        config = msgspec.structs.replace(self.plan.config, http=HttpConfig(console=False))
        node = WorkerNode(msgspec.structs.replace(self.plan, config=config), self.reactor, self.connect)
        node.startService()
        nodes: Any = node.cluster.nodes
        self.failureResultOf(nodes.call_received("sup", PART_CALL, b'{"since": 0}'))
        ticket = Tickets(self.reactor, os.urandom, self.plan.ticket_key).issue()
        self.assertEqual(node.authenticator.authenticate("ann", ticket.token).user_id, "ann")

    def test_nobody_asked(self) -> None:
        """Until it is linked to its supervisor it asks for no directory, and so does not complain about it."""
        self.run_reactor()
        self.reactor.advance(1)
        self.assertFalse([line for line in self.log() if "directory" in line])

    def test_places(self) -> None:
        """A port on all interfaces is told without a host: clients come by the address on which they asked."""
        self.assertEqual(self.node.cluster.own_record().places, {"tcp": ":7777"})

    def test_metrics(self) -> None:
        """Its supervisor is answered with its own metrics."""
        nodes: Any = self.node.cluster.nodes
        page = self.successResultOf(nodes.call_received("sup", METRICS_CALL, b""))
        self.assertIn(b'meshrelay_node_info{node="sup-w1"', page)

    def test_shared_port(self) -> None:
        """Its TCP port is the one of all workers, opened to be shared."""
        (opened,) = [asked for asked in self.reactor.opened if asked[0] == "tcp"]
        self.assertEqual((opened[1]._port, opened[1]._reusePort), (7777, True))  # type: ignore[attr-defined]

    def test_reload(self) -> None:
        """It reads its plan again when it is told to; a plan that is gone changes nothing."""
        session = SessionConfig(heartbeat_seconds=3.0)
        write_plan(
            msgspec.structs.replace(self.plan, config=msgspec.structs.replace(self.plan.config, session=session))
        )
        self.leashes[0].dataReceived(b"reload\n")
        self.assertEqual(self.node.reception.rules.heartbeat_seconds, 3.0)
        self.plan.path.unlink()
        self.leashes[0].dataReceived(b"reload\n")
        self.assertIn("reload: nothing changed", self.log()[-1])

    def test_cut(self) -> None:
        """Only its supervisor can end the drain early; a signal of a service manager to every process does not."""
        cuts: list[bool] = []
        self.patch(Drain, "cut", lambda drain: cuts.append(True))
        self.patch(Drain, "start", lambda drain: Deferred())
        self.node.stopService()
        self.node.cut_drain()
        self.assertEqual(cuts, [])
        self.leashes[0].dataReceived(b"cut\n")
        self.assertEqual(cuts, [True])

    def test_cut_loose(self) -> None:
        """When its supervisor is dead it takes the files away, writes to no log any more, and stops; once."""
        redirected: list[int] = []
        self.patch(os, "dup2", lambda source, target: redirected.append(target))
        self.leashes[0].connectionLost(connectionDone)
        self.assertEqual((self.reactor.stops, redirected), (1, [1, 2]))
        self.assertFalse(os.path.exists(self.plan.directory))
        self.leashes[0].connectionLost(connectionDone)
        self.assertEqual(self.reactor.stops, 2)

    def test_cut_loose_late(self) -> None:
        """While it stops that is nothing new."""
        self.node.stopService()
        self.leashes[0].connectionLost(connectionDone)
        self.assertEqual(self.reactor.stops, 0)


class MakeWorkerTests(SynchronousTestCase):
    """From the plan to the node."""

    def test_plan(self) -> None:
        """The node is the worker that the plan describes; nothing is connected yet."""
        self.patch(node_parts, "raise_open_files_limit", lambda: 1000)
        directory = Path(self.mktemp())
        directory.mkdir()
        plan = WorkerPlan(
            index=0, supervisor_id="s", directory=str(directory), shared_ports={}, ticket_key=b"", config=Config()
        )
        write_plan(plan)
        top = make_worker(str(plan.path), PortReactor())
        self.assertEqual(top.getServiceNamed("node").node_id, "s-w0")

    def test_no_plan(self) -> None:
        """Without a plan there is no worker."""
        self.assertRaises(ConfigError, make_worker, self.mktemp(), PortReactor())
