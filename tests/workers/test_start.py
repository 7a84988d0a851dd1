"""What a process is to be."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import asyncioreactor
from twisted.trial.unittest import SynchronousTestCase

from meshrelay import node_parts
from meshrelay.config.schema import Config, NodeConfig
from meshrelay.service import Node
from meshrelay.workers import start
from meshrelay.workers.plan import PLAN_VARIABLE, WorkerPlan, write_plan
from meshrelay.workers.start import make_service_or_supervisor, worker_command
from meshrelay.workers.supervisor import Supervisor
from meshrelay.workers.worker import WorkerNode
from meshrelay.workers.worker_process import READY_DESCRIPTOR
from tests.transport.port_reactor import PortReactor


class SpawningReactor(PortReactor):
    """Keeps what it was to start."""

    def __init__(self) -> None:
        super().__init__()
        self.spawned: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def spawnProcess(self, *arguments: Any, **named: Any) -> str:
        """See `IReactorProcess`."""
        self.spawned.append((arguments, named))
        return "process"


class MakeTests(SynchronousTestCase):
    """One of three."""

    def setUp(self) -> None:
        """No process is started."""
        self.patch(node_parts, "raise_open_files_limit", lambda: 1000)
        self.reactor = SpawningReactor()

    def node(self, workers: int, plan_path: str = "") -> Any:
        """Build what a configuration and a plan ask for."""
        config = Config(node=NodeConfig(workers=workers))
        environ = {"HOME": "/"}
        return make_service_or_supervisor(config, self.reactor, plan_path, "node.toml", environ).getServiceNamed("node")

    def test_node(self) -> None:
        """One worker is a plain node."""
        self.assertIs(type(self.node(1)), Node)

    def test_supervisor(self) -> None:
        """More make a supervisor; nothing is on the disk before it starts."""
        supervisor = self.node(3)
        self.assertIsInstance(supervisor, Supervisor)
        self.assertEqual(len(supervisor.pool.workers), 3)
        self.assertFalse(Path(supervisor._parts.directory).exists())

    def test_worker(self) -> None:
        """Who is given a plan is a worker, whatever the configuration says."""
        directory = Path(self.mktemp())
        directory.mkdir()
        plan = WorkerPlan(
            index=0, supervisor_id="s", directory=str(directory), shared_ports={}, ticket_key=b"", config=Config()
        )
        write_plan(plan)
        self.assertIsInstance(self.node(3, str(plan.path)), WorkerNode)

    def test_launch(self) -> None:
        """A worker gets its plan by the environment, three pipes to its supervisor, and the one to say ready on."""
        process = self.node(2)._parts.launch("protocol", Path("/x/w0.json"))
        self.assertEqual(process, "process")
        ((protocol, executable, command), named) = self.reactor.spawned[0]
        self.assertEqual((protocol, executable, command[0]), ("protocol", sys.executable, sys.executable))
        self.assertEqual(named["env"], {"HOME": "/", PLAN_VARIABLE: "/x/w0.json", "PYTHONUNBUFFERED": "1"})
        self.assertEqual(named["childFDs"], {0: "w", 1: "r", 2: "r", READY_DESCRIPTOR: "r"})


class CommandTests(SynchronousTestCase):
    """The command line of a worker."""

    def test_file(self) -> None:
        """It names the file, for people; without one it does not."""
        self.assertEqual(worker_command(object(), "node.toml")[-3:], ["meshrelay", "--config", "node.toml"])
        self.assertEqual(worker_command(object(), None)[-1], "meshrelay")

    def test_reactor(self) -> None:
        """A worker runs on the same kind of reactor."""
        reactor = object.__new__(asyncioreactor.AsyncioSelectorReactor)
        self.assertIn("--reactor=asyncio", worker_command(reactor, None))
        self.assertEqual([part for part in worker_command(object(), None) if "reactor" in part], [])


class ExitTests(SynchronousTestCase):
    """A status that is not 0."""

    def test_at_the_end(self) -> None:
        """The process goes on, and has the status when it ends."""
        last: list[Callable[[], None]] = []
        statuses: list[int] = []
        self.patch(atexit, "register", last.append)
        self.patch(os, "_exit", statuses.append)
        start._exit_with(1)
        self.assertEqual(statuses, [])
        last[0]()
        self.assertEqual(statuses, [1])
