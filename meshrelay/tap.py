"""The ``twistd meshrelay`` plug-in: command line -> configuration -> the service of a node.

Twisted finds `Options` and `makeService` by name (`twisted.application.service.ServiceMaker`).
"""

from __future__ import annotations

import os
from typing import ClassVar

from twisted.application.service import IService
from twisted.python import usage

from meshrelay.config.load import read_config
from meshrelay.errors import ConfigError

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
    try:
        config = read_config(options.config_path, os.environ)
    except ConfigError as error:
        # SystemExit with a text prints it and ends with 1; a UsageError would print the usage as well.
        raise SystemExit(str(error)) from None
    # Late: whoever imports this module must neither choose a reactor nor wait for a whole node to be imported.
    from twisted.internet import reactor

    from meshrelay.service import make_service
    from meshrelay.signals import handle_signals

    service = make_service(config, reactor)
    handle_signals(reactor, service, lambda: read_config(options.config_path, os.environ))
    return service
