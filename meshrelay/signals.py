"""What a daemon does when it is told something by signal.

========  ====================================================================
SIGTERM   drain and end with status 0; a second one ends the drain at once
SIGINT    the same, for Ctrl-C
SIGHUP    read the configuration again and apply what can change while running
========  ====================================================================

Twisted's own handlers end the process as if killed by the signal, which a supervisor takes for a crash.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from twisted.application.service import MultiService
from twisted.logger import Logger

from meshrelay.background import stop_reactor
from meshrelay.config.schema import Config
from meshrelay.errors import ConfigError
from meshrelay.transport.service_manager import ServiceManager

__all__ = ["SignalHandler", "handle_signals"]


class SignalHandler:
    """Turns signals into calls of the node, in turns of the reactor.

    :param read_config: reads the configuration again; may raise ConfigError.
    :param manager: is told of reloads.
    """

    _log = Logger()

    def __init__(
        self, reactor: Any, node: Any, read_config: Callable[[], Config], manager: ServiceManager | None = None
    ) -> None:
        self._reactor = reactor
        self._manager = manager or ServiceManager()
        self._node = node
        self._read_config = read_config
        self._is_stopping = False

    def install(self) -> None:
        """Take over; call it when the reactor runs, after it has set its own handlers."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop_soon)
        signal.signal(signal.SIGHUP, self._reload_soon)
        self._manager.watch(self._reactor)
        # Whatever stops the reactor: a signal, or a supervisor whose workers cannot start.
        self._reactor.addSystemEventTrigger("before", "shutdown", self._manager.stopping)

    def _stop_soon(self, number: int, _: object) -> None:
        self._reactor.callFromThread(self.stop, signal.Signals(number).name)

    def _reload_soon(self, _: int, __: object) -> None:
        self._reactor.callFromThread(self.reload)

    def stop(self, name: str) -> None:
        """Drain and stop; a second call does not wait for clients."""
        if self._is_stopping:
            self._log.info("{name} again: not waiting any longer", name=name)
            self._node.cut_drain()
            return
        self._is_stopping = True
        self._log.info("{name}: stopping", name=name)
        stop_reactor(self._reactor)

    def reload(self) -> None:
        """Apply the configuration as it is now; a wrong one changes nothing."""
        self._manager.reloading()
        try:
            self._node.reload(self._read_config())
        except ConfigError as error:
            for problem in error.problems:
                self._log.error("SIGHUP: nothing changed: {problem}", problem=problem)
        self._manager.ready()


def handle_signals(
    reactor: Any, service: MultiService, read_config: Callable[[], Config], manager: ServiceManager | None = None
) -> None:
    """Handle signals for the node in `service` from the moment the reactor runs.

    :param manager: who started the process; is told when the node is ready, reloads and stops.
    """
    manager = manager or ServiceManager()
    node: Any = service.getServiceNamed("node")
    handler = SignalHandler(reactor, node, read_config, manager)
    reactor.callWhenRunning(handler.install)
    node.when_ready.addCallback(manager.ready)
