"""The twistd plug-in."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from twisted.application.service import IService, IServiceMaker
from twisted.plugin import getPlugins
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from meshrelay import tap
from meshrelay.config.schema import Config
from meshrelay.garbage import freeze_start
from meshrelay.workers.plan import PLAN_VARIABLE, WorkerPlan, write_plan


def options(*arguments: str) -> tap.Options:
    """Return what twistd makes of a command line."""
    parsed = tap.Options()
    parsed.parseOptions(list(arguments))
    return parsed


class OptionsTests(SynchronousTestCase):
    """The command line."""

    def test_config(self) -> None:
        """The file is named by --config or -c, and need not be."""
        self.assertEqual(options("--config", "node.toml").config_path, "node.toml")
        self.assertEqual(options("-c", "node.toml").config_path, "node.toml")
        self.assertIsNone(options().config_path)

    def test_unknown(self) -> None:
        """Anything else is refused."""
        for arguments in (["--port", "7200"], ["node.toml"]):
            self.assertRaises(UsageError, options, *arguments)


class MakeServiceTests(SynchronousTestCase):
    """From the command line to a node."""

    def setUp(self) -> None:
        """No environment, and nothing is left for a reactor that runs."""
        self.patch(os, "environ", {})
        self.when_running: list[object] = []
        self.patch(import_module("twisted.internet.reactor"), "callWhenRunning", self.when_running.append)

    def test_wrong_configuration(self) -> None:
        """A wrong configuration ends the start with every problem on a line of its own."""
        path = Path(self.mktemp())
        path.write_text('[session]\nreplay_bytes = -1\noutbox = 3\n[node]\nid = "a b"\n')
        stop = self.assertRaises(SystemExit, tap.makeService, options("--config", str(path)))
        lines = str(stop.code).splitlines()
        paths = [line.partition(":")[0] for line in lines]
        self.assertEqual(paths, ["node.id", "session.replay_bytes", "session.outbox"])

    def test_environment(self) -> None:
        """The environment of the process counts."""
        os.environ["MESHRELAY_SESSION__REPLAY_BYTES"] = "much"
        stop = self.assertRaises(SystemExit, tap.makeService, options())
        self.assertIn("(from MESHRELAY_SESSION__REPLAY_BYTES)", str(stop.code))

    def test_service(self) -> None:
        """A right configuration gives a service that twistd can start; nothing listens yet."""
        service = tap.makeService(options())
        self.assertTrue(IService.providedBy(service))
        self.assertFalse(service.running)

    def test_application_here(self) -> None:
        """An application is found in the directory in which the node is started, behind all that is installed."""
        elsewhere = [entry for entry in sys.path if entry != os.getcwd()]
        self.patch(sys, "path", elsewhere.copy())
        tap.makeService(options())
        self.assertEqual(sys.path, elsewhere)
        os.environ["MESHRELAY_APP__MODULE"] = "mygame.app"
        for _ in range(2):
            tap.makeService(options())
            self.assertEqual(sys.path, [*elsewhere, os.getcwd()])

    def test_garbage(self) -> None:
        """When the ports are open, what the start made is left to the collector no more."""
        tap.makeService(options())
        self.assertIn(freeze_start, self.when_running)

    def test_worker(self) -> None:
        """Who is started by a supervisor reads its plan, and what it starts itself is no worker."""
        directory = Path(self.mktemp())
        directory.mkdir()
        plan = WorkerPlan(
            index=4,
            supervisor_id="s",
            directory=str(directory),
            shared_ports={},
            config=Config(),
            ticket_key=bytes(32),
        )
        write_plan(plan)
        os.environ[PLAN_VARIABLE] = str(plan.path)
        service: Any = tap.makeService(options("--config", "nowhere.toml"))
        self.assertEqual(service.getServiceNamed("node").node_id, "s-w4")
        self.assertNotIn(PLAN_VARIABLE, os.environ)

    def test_worker_without_supervisor(self) -> None:
        """A worker whose supervisor is gone does not start."""
        os.environ[PLAN_VARIABLE] = self.mktemp()
        stop = self.assertRaises(SystemExit, tap.makeService, options())
        self.assertIn("node.workers", str(stop.code))


class PluginTests(SynchronousTestCase):
    """What twistd finds."""

    def test_listed(self) -> None:
        """twistd lists one plug-in of ours, which leads to this module."""
        makers = [maker for maker in getPlugins(IServiceMaker) if maker.tapname == "meshrelay"]
        self.assertEqual([getattr(maker, "module", "") for maker in makers], ["meshrelay.tap"])
        self.assertIs(makers[0].options, tap.Options)
