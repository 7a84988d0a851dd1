"""A daemon that systemd has started, as far as the daemon can tell."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.daemon import Daemon
from tests.transport.self_signed import self_signed_pem


class NotifyTests(SynchronousTestCase):
    """Type=notify."""

    def setUp(self) -> None:
        """A socket where systemd has one."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = str(Path(folder.name) / "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.socket.close)
        self.socket.bind(self.path)
        self.socket.settimeout(60)
        for name, value in (("NOTIFY_SOCKET", self.path), ("WATCHDOG_USEC", "3000000")):
            self.addCleanup(os.environ.pop, name, None)
            os.environ[name] = value

    def next_told(self) -> str:
        """What is said next beside being alive."""
        deadline = time.monotonic() + 60
        while (told := self.socket.recv(4096).decode()) == "WATCHDOG=1":
            self.assertLess(time.monotonic(), deadline)
        return told

    def check_life(self, workers: int) -> None:
        """Ready, alive, reloading, ready, stopping, in this order and by one process only."""
        with Daemon({"node": {"id": "one", "workers": workers}}) as daemon:
            assert daemon.process is not None
            ready = self.next_told()
            self.assertTrue(ready.startswith("READY=1\nSTATUS=ready node=one tcp=127.0.0.1:"), ready)
            self.assertEqual([self.socket.recv(4096) for _ in range(2)], [b"WATCHDOG=1"] * 2)
            daemon.process.send_signal(signal.SIGHUP)
            self.assertEqual([self.next_told(), self.next_told()], ["RELOADING=1", "READY=1"])
            daemon.process.send_signal(signal.SIGTERM)
            self.assertEqual(self.next_told(), "STOPPING=1\nSTATUS=draining")
            self.assertEqual(daemon.process.wait(60), 0)

    def test_node(self) -> None:
        """A node tells when clients can come, that it is alive, reads its files again, and drains."""
        self.check_life(1)

    def test_workers(self) -> None:
        """A supervisor tells for all its workers, once they are ready."""
        self.check_life(2)


class CertificateTests(SynchronousTestCase):
    """Certificates that are renewed under a running node."""

    def setUp(self) -> None:
        """A folder with a certificate."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.pem = Path(folder.name) / "relay.example.pem"
        self.write("first")

    def write(self, organisation: str) -> None:
        """Renew it."""
        self.pem.write_bytes(self_signed_pem("relay.example", organisation))

    def connect(self, daemon: Daemon, place: str) -> ssl.SSLSocket:
        """A connection with TLS."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        plain = socket.create_connection(daemon.address(place), 30)
        wrapped = context.wrap_socket(plain, server_hostname="relay.example")
        self.addCleanup(wrapped.close)
        return wrapped

    def is_shown(self, daemon: Daemon, place: str, organisation: str) -> bool:
        """Whether that certificate is what new connections see."""
        shown = self.connect(daemon, place).getpeercert(binary_form=True)
        assert shown is not None
        return organisation.encode() in shown

    def reload(self, daemon: Daemon, text: str) -> None:
        """Send SIGHUP and wait until the log has `text` once more."""
        assert daemon.process is not None
        count = daemon.log.count(text)
        daemon.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 60
        while daemon.log.count(text) == count:
            self.assertLess(time.monotonic(), deadline, daemon.log)
            time.sleep(0.02)

    def check_renewal(self, workers: int) -> None:
        """SIGHUP shows the new certificate to new connections; old ones go on; a bad file changes nothing."""
        place = f"tls:{self.pem.parent}:0:interface=127.0.0.1"
        config: dict[str, dict[str, Any]] = {"node": {"workers": workers}, "listen": {"tcp": place, "http": place}}
        with Daemon(config) as daemon:
            self.assertTrue(self.is_shown(daemon, "tcp", "first"))
            old = self.connect(daemon, "http")
            self.write("second")
            self.reload(daemon, "configuration reloaded")
            self.assertTrue(self.is_shown(daemon, "http", "second"))
            old.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            self.assertTrue(old.recv(4096).startswith(b"HTTP/1.1 200"))
            if workers == 1:
                self.assertTrue(self.is_shown(daemon, "tcp", "second"))
            self.pem.write_text("-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----\n")
            self.reload(daemon, "nothing changed: listen.tcp" if workers == 1 else "nothing changed: listen.http")
            self.assertTrue(self.is_shown(daemon, "http", "second"))

    def test_renewal(self) -> None:
        """At a node."""
        self.check_renewal(1)

    def test_renewal_with_workers(self) -> None:
        """At a supervisor."""
        self.check_renewal(2)
