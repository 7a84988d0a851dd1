"""One configuration -> what this process is: a node, the supervisor of several, or one worker of them."""

from __future__ import annotations

import atexit
import os
import random
import secrets
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from twisted.application.reactors import getReactorTypes
from twisted.application.service import MultiService
from twisted.internet.interfaces import IProcessTransport

from meshrelay.config.schema import Config
from meshrelay.service import make_service
from meshrelay.workers.plan import PLAN_VARIABLE
from meshrelay.workers.supervisor import Supervisor, SupervisorParts
from meshrelay.workers.worker import make_worker
from meshrelay.workers.worker_process import READY_DESCRIPTOR, WorkerProtocol

__all__ = ["make_service_or_supervisor", "worker_command"]

#: twistd without its script, which need not be beside this Python.
_TWISTD = "from twisted.scripts.twistd import run; run()"


def make_service_or_supervisor(
    config: Config, reactor: Any, plan_path: str, config_path: str | None, environ: Mapping[str, str]
) -> MultiService:
    """Build what this process is to be; its service "node" is a `meshrelay.service.Node`.

    :param plan_path: what a supervisor has written for this process; "" = no supervisor has started it.
    :param config_path: the file of `config`, for the command line of the workers; None without one.
    :param environ: the environment of the workers.
    :raises ConfigError: a file that the configuration names cannot be used.
    """
    if plan_path:
        return make_worker(plan_path, reactor)
    if config.node.workers == 1:
        return make_service(config, reactor)
    launch = partial(_launch, reactor, worker_command(reactor, config_path), dict(environ))
    directory = Path(tempfile.gettempdir()) / f"meshrelay-{secrets.token_hex(8)}"
    parts = SupervisorParts(launch, _exit_with, random.SystemRandom().uniform, str(directory))
    top = MultiService()
    supervisor = Supervisor(config, reactor, parts)
    supervisor.setName("node")  # type: ignore[no-untyped-call]
    supervisor.setServiceParent(top)  # type: ignore[no-untyped-call]
    return top


def worker_command(reactor: Any, config_path: str | None) -> list[str]:
    """Return the command line of a worker, on the kind of reactor that this process has."""
    command = [sys.executable, "-c", _TWISTD, "--nodaemon", "--pidfile="]
    module = type(reactor).__module__
    command += [f"--reactor={kind.shortName}" for kind in getReactorTypes() if _module_of(kind) == module][:1]
    command.append("meshrelay")
    # The worker does not read the file; it is there for people who look at the list of processes.
    return command + (["--config", config_path] if config_path else [])


def _module_of(reactor_type: object) -> str:
    return str(getattr(reactor_type, "moduleName", ""))


def _launch(
    reactor: Any, command: list[str], environ: Mapping[str, str], protocol: WorkerProtocol, plan_path: Path
) -> IProcessTransport:
    process: IProcessTransport = reactor.spawnProcess(
        protocol,
        command[0],
        command,
        # Unbuffered: what an application prints is to be in the log when it happens.
        env={**environ, PLAN_VARIABLE: str(plan_path), "PYTHONUNBUFFERED": "1"},
        childFDs={0: "w", 1: "r", 2: "r", READY_DESCRIPTOR: "r"},
    )
    return process


def _exit_with(status: int) -> None:
    """End this process with `status` when it would end with 0: twistd has no word for that once the reactor ran."""

    def leave() -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)

    atexit.register(leave)
