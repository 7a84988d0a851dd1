"""A daemon from start to stop, as an operator sees it."""

from __future__ import annotations

import signal
import socket
import struct
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.daemon import Daemon, run_until_exit
from tests.integration.wire_clients import TcpClient, UdpClient, WebSocketClient

EXAMPLE_APPS = str(Path(__file__).resolve().parents[2] / "etc")


class StartTests(SynchronousTestCase):
    """Starting."""

    def test_ready_line_and_health(self) -> None:
        """When it says ready, every port of the line is open and the health pages agree."""
        with Daemon({"node": {"id": "one"}}) as daemon:
            self.assertEqual(daemon.places["node"], "one")
            self.assertEqual(set(daemon.places), {"node", "tcp", "udp", "websocket", "http"})
            self.assertEqual(daemon.get("/health/live")[0], 200)
            status, body = daemon.get("/health/ready")
            self.assertEqual((status, body["node"]), (200, "one"))

    def test_one_transport_off(self) -> None:
        """An empty listening place opens no port, and the endpoint API says that nothing is there."""
        with Daemon({"listen": {"websocket": ""}}) as daemon:
            self.assertNotIn("websocket", daemon.places)
            self.assertEqual(daemon.get("/endpoint/type/WS/user/ann")[0], 404)
            self.assertEqual(daemon.get("/endpoint/type/TCP/user/ann")[0], 200)

    def test_wrong_configuration(self) -> None:
        """Status 1, every problem with its key on standard error, no traceback."""
        wrong = '[session]\noutbox_bytes = "many"\n[lisen]\ntcp = ""\n[auth]\nmode = "shut"\n'
        status, out, err = run_until_exit(wrong)
        self.assertEqual(status, 1)
        for expected in ("session.outbox_bytes", "lisen", "auth.mode"):
            self.assertIn(expected, err)
        self.assertNotIn("Traceback", out + err)

    def test_open_mode_beyond_loopback(self) -> None:
        """Mode "open" on an address that others reach is refused."""
        status, _, err = run_until_exit('[listen]\ntcp = "tcp:0"\n')
        self.assertEqual(status, 1)
        self.assertIn("listen.tcp", err)

    def test_port_in_use(self) -> None:
        """A port that somebody else has ends the start with the key and the reason."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            status, out, err = run_until_exit(
                f'[listen]\ntcp = "tcp:{port}:interface=127.0.0.1"\nudp = ""\nwebsocket = ""\nhttp = ""\n'
            )
        self.assertEqual(status, 1)
        self.assertIn("listen.tcp", err)
        self.assertNotIn("Traceback", out + err)

    def test_application_that_cannot_be_imported(self) -> None:
        """An application that is not there ends the start with the key."""
        status, out, err = run_until_exit('[app]\nmodule = "no_such_module_of_ours"\n')
        self.assertEqual(status, 1)
        self.assertIn("app.module", err)
        self.assertNotIn("Traceback", out + err)


class StopTests(SynchronousTestCase):
    """Stopping."""

    def test_sigterm(self) -> None:
        """Everybody is told DRAINING after what was sent to them, and the status is 0."""
        with Daemon() as daemon:
            tcp, websocket, udp = TcpClient(daemon), WebSocketClient(daemon), UdpClient(daemon, "cy")
            tcp.hello("ann")
            websocket.hello("bob")
            group = tcp.ask(1, 110, struct.pack("!BIH", 2, 60, 300))
            others: list[TcpClient] = [websocket, udp]
            for client in others:
                client.ask(1, 111, group)
            for _ in range(50):
                tcp.send(1, 113, group + b"last words")
            tcp.ask(0, 2)
            assert daemon.process is not None
            daemon.process.send_signal(signal.SIGTERM)
            for client in others:
                pushes = [client.push() for _ in range(50)]
                self.assertTrue(all(push.payload.endswith(b"last words") for push in pushes))
            for client in [tcp, *others]:
                self.assertEqual(client.goodbye()[0], 4000)
                client.close()
            self.assertEqual(daemon.process.wait(60), 0)

    def test_health_while_draining(self) -> None:
        """A draining node answers that it is not ready, until it is gone."""
        with Daemon() as daemon:
            client = TcpClient(daemon)
            client.hello("ann")
            assert daemon.process is not None
            daemon.process.send_signal(signal.SIGTERM)
            self.assertEqual(client.goodbye()[0], 4000)
            self.assertEqual(daemon.get("/health/ready")[0], 503)
            self.assertEqual(daemon.get("/health/live")[0], 200)
            client.close()
            self.assertEqual(daemon.process.wait(60), 0)

    def test_second_sigterm(self) -> None:
        """A second signal does not wait for a client that neither reads nor closes."""
        with Daemon() as daemon:
            client = TcpClient(daemon)
            client.hello("ann")
            assert daemon.process is not None
            daemon.process.send_signal(signal.SIGTERM)
            self.assertEqual(client.goodbye()[0], 4000)
            started = time.monotonic()
            daemon.process.send_signal(signal.SIGTERM)
            self.assertEqual(daemon.process.wait(60), 0)
            # The client would be waited for for five.
            self.assertLess(time.monotonic() - started, 4.5)
            client.close()

    def test_sighup(self) -> None:
        """A reload applies new limits to whoever comes afterwards; a wrong file changes nothing."""
        with Daemon({"session": {"heartbeat_seconds": 20.0}}) as daemon:
            assert daemon.process is not None
            text = daemon.config_path.read_text()
            daemon.config_path.write_text(text.replace("20.0", "7.0"))
            daemon.process.send_signal(signal.SIGHUP)
            self.wait_for(daemon, "configuration reloaded")
            self.assertEqual(self.heartbeat_of(daemon), 7.0)
            daemon.config_path.write_text(text.replace("20.0", '"never"'))
            daemon.process.send_signal(signal.SIGHUP)
            self.wait_for(daemon, "nothing changed")
            self.assertEqual(self.heartbeat_of(daemon), 7.0)

    def heartbeat_of(self, daemon: Daemon) -> float:
        """What a client that comes now is told."""
        client = TcpClient(daemon)
        heartbeat_seconds: float = client.hello("ann")["heartbeat_seconds"]
        client.close()
        return heartbeat_seconds

    def wait_for(self, daemon: Daemon, text: str) -> None:
        """Wait until the log has `text`."""
        deadline = time.monotonic() + 30
        while text not in daemon.log:
            self.assertLess(time.monotonic(), deadline, daemon.log)
            time.sleep(0.02)
