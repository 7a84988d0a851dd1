"""What the node tells systemd, or whatever else started it with ``NOTIFY_SOCKET``: that it is ready, reads its
configuration again, stops, and is alive.

::

    NOTIFY_SOCKET, WATCHDOG_USEC --> ServiceManager --datagrams "READY=1", ...--> service manager

Source: sd_notify(3) and sd_watchdog_enabled(3) of systemd 252. Nobody listens: nothing happens.
"""

from __future__ import annotations

import socket
from collections.abc import MutableMapping

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

__all__ = ["ServiceManager", "manager_of_environment"]

#: So long a manager may take to read what it was told before; the kernel keeps ten datagrams for it.
SAY_SECONDS = 0.1

#: Alive is said so many times in the time after which the manager would end the node.
WATCHDOG_BEATS = 3


class ServiceManager:
    """Who started the process.

    :param address: path of its datagram socket, with ``@`` in front an abstract one; "" = nobody wants to know.
    :param watchdog_seconds: who says nothing for this long is taken for dead; 0 = never.
    """

    _log = Logger()

    def __init__(self, address: str = "", watchdog_seconds: float = 0.0) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_seconds = watchdog_seconds if address else 0.0
        self._is_failure_told = False

    def ready(self, places: str = "") -> None:
        """The node takes clients; also the end of `reloading`.

        :param places: shown to people by ``systemctl status``.
        """
        self._say("READY=1" + (f"\nSTATUS=ready {places}" if places else ""))

    def reloading(self) -> None:
        """The configuration is being read again; `ready` says that this is over."""
        self._say("RELOADING=1")

    def stopping(self) -> None:
        """The node drains."""
        self._say("STOPPING=1\nSTATUS=draining")

    def watch(self, clock: IReactorTime) -> None:
        """Say that the reactor comes round, from now to the end of the process: a node that drains is alive as well."""
        if self.watchdog_seconds > 0:
            self._say("WATCHDOG=1")
            clock.callLater(self.watchdog_seconds / WATCHDOG_BEATS, self.watch, clock)

    def _say(self, state: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as speaker:
                # A manager that does not read must not hold the node up.
                speaker.settimeout(SAY_SECONDS)
                speaker.sendto(state.encode("utf-8"), self._address)
        except OSError as error:
            if not self._is_failure_told:
                self._is_failure_told = True
                self._log.warn("the service manager cannot be told {state!r}: {error}", state=state, error=error)


def manager_of_environment(environ: MutableMapping[str, str], pid: int) -> ServiceManager:
    """Read who started this process, and take it out of the environment: what the node starts is no service.

    :param pid: of this process; a watchdog for another one is none of ours.
    """
    address = environ.pop("NOTIFY_SOCKET", "")
    usec = environ.pop("WATCHDOG_USEC", "")
    watched = environ.pop("WATCHDOG_PID", "")
    is_watched = usec.isascii() and usec.isdigit() and watched in ("", str(pid))
    return ServiceManager(address, int(usec) / 1_000_000 if is_watched else 0.0)
