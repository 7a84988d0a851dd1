"""The ``twistd meshrelay`` plug-in: command line -> configuration -> the service of a node, or of several.

Twisted finds `Options` and `makeService` by name (`twisted.application.service.ServiceMaker`).
"""

from __future__ import annotations

import os
import sys
from typing import ClassVar

from twisted.application.service import IService
from twisted.python import usage

from meshrelay.config.load import read_config
from meshrelay.config.schema import Config
from meshrelay.errors import ConfigError
from meshrelay.workers.plan import PLAN_VARIABLE, read_plan

__all__ = ["Options", "makeService"]


class Options(usage.Options):
    """What may be said on the command line: which file. It has no defaults of its own."""

    synopsis = "[--config FILE]"
    longdesc = (
        "Serves groups to clients over TCP, WebSocket and UDP. Without a file it listens on loopback only. "
        "MESHRELAY_SECTION__KEY in the environment overrides the file; `meshrelay default-config` prints every key."
    )
    optParameters: ClassVar[list[list[str | None]]] = [["config", "c", None, "The TOML file with the configuration."]]

    @property
    def config_path(self) -> str | None:
        """The file that was named, None without one."""
        path: str | None = self["config"]
        return path


def makeService(options: Options) -> IService:
    """Build the node that `options` asks for.

    :raises SystemExit: the configuration is wrong: status 1, each problem on a line of standard error.
    """
    # Taken out of the environment: what an application starts is no worker.
    plan_path = os.environ.pop(PLAN_VARIABLE, "")

    def read() -> Config:
        if plan_path:
            return read_plan(plan_path).worker_config()
        return read_config(options.config_path, os.environ)

    # Late: whoever imports this module must neither choose a reactor nor wait for a whole node to be imported.
    try:
        config = read()
        from twisted.internet import reactor

        from meshrelay.garbage import freeze_start
        from meshrelay.signals import handle_signals
        from meshrelay.transport.service_manager import manager_of_environment
        from meshrelay.workers.start import make_service_or_supervisor

        # Before workers get the environment.
        manager = manager_of_environment(os.environ, os.getpid())
        service = make_service_or_supervisor(config, reactor, plan_path, options.config_path, os.environ)
    except ConfigError as error:
        # SystemExit with a text prints it and ends with 1; a UsageError would print the usage as well.
        raise SystemExit(str(error)) from None
    if config.app.module:
        _import_from_here()
    handle_signals(reactor, service, read, manager)
    # Here and not in the node: it is about the whole process. By then the ports are open.
    reactor.callWhenRunning(freeze_start)
    return service


def _import_from_here() -> None:
    """Let the application be in the directory in which the node is started, as ``python -m`` would."""
    here = os.getcwd()
    if here not in sys.path:
        # Last: nothing that lies about there takes the place of what is installed.
        sys.path.append(here)
