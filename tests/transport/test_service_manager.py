"""What systemd is told."""

from __future__ import annotations

import secrets
import socket

from twisted.internet.task import Clock
from twisted.internet.testing import EventLoggingObserver
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.transport.service_manager import ServiceManager, manager_of_environment


class ManagerKit(SynchronousTestCase):
    """A service manager that listens, in no folder."""

    def setUp(self) -> None:
        """Bind its socket."""
        self.name = f"meshrelay-test-{secrets.token_hex(8)}"
        self.address = f"@{self.name}"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.socket.close)
        self.socket.bind(f"\0{self.name}")
        self.socket.setblocking(False)

    def told(self) -> list[str]:
        """Return all that was said."""
        found = []
        while True:
            try:
                found.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return found


class SayTests(ManagerKit):
    """What it is told."""

    def test_life(self) -> None:
        """Ready with the places for people, reloading and ready again, stopping."""
        manager = ServiceManager(self.address)
        manager.ready("node=n1 tcp=127.0.0.1:7200")
        manager.reloading()
        manager.ready()
        manager.stopping()
        ready = "READY=1\nSTATUS=ready node=n1 tcp=127.0.0.1:7200"
        self.assertEqual(self.told(), [ready, "RELOADING=1", "READY=1", "STOPPING=1\nSTATUS=draining"])

    def test_nobody(self) -> None:
        """Without a manager nothing is said, and nothing is wrong."""
        clock = Clock()
        manager = ServiceManager(watchdog_seconds=3.0)
        manager.ready()
        manager.watch(clock)
        self.assertEqual((self.told(), clock.getDelayedCalls()), ([], []))

    def test_gone(self) -> None:
        """A manager that is gone is told of once in the log, and harms nobody."""
        observer = EventLoggingObserver()
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        manager = ServiceManager(f"{self.address}-not-there")
        manager.ready()
        manager.stopping()
        (line,) = [formatEvent(event) for event in observer]
        self.assertIn("cannot be told", line)

    def test_watchdog(self) -> None:
        """Alive is said three times in the time after which the manager would end the node, also while it drains."""
        clock = Clock()
        ServiceManager(self.address, watchdog_seconds=3.0).watch(clock)
        clock.pump([1.0] * 3)
        self.assertEqual(self.told(), ["WATCHDOG=1"] * 4)

    def test_no_watchdog(self) -> None:
        """Without a watchdog nothing is said."""
        clock = Clock()
        ServiceManager(self.address).watch(clock)
        self.assertEqual((self.told(), clock.getDelayedCalls()), ([], []))


class EnvironmentTests(ManagerKit):
    """Who it is."""

    def test_read(self) -> None:
        """The variables are read, and taken away from what the node starts."""
        environ = {"NOTIFY_SOCKET": self.address, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7", "HOME": "/"}
        manager = manager_of_environment(environ, 7)
        manager.ready()
        self.assertEqual((self.told(), manager.watchdog_seconds), (["READY=1"], 30.0))
        self.assertEqual(environ, {"HOME": "/"})

    def test_not_ours(self) -> None:
        """The watchdog of another process, or one that cannot be read, is none."""
        for variables in ({"WATCHDOG_PID": "8", "WATCHDOG_USEC": "5"}, {"WATCHDOG_USEC": "soon"}, {}):
            manager = manager_of_environment({"NOTIFY_SOCKET": self.address, **variables}, 7)
            self.assertEqual(manager.watchdog_seconds, 0.0)
