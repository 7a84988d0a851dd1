"""A daemon with workers, as an operator sees it: real processes that share real ports."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import ConfigError
from meshrelay.transport.shared_port import hold_port
from tests.integration.cluster import free_port
from tests.integration.daemon import Daemon, run_until_exit
from tests.integration.members import create_group
from tests.integration.wire_clients import TcpClient, UdpClient, WebSocketClient

OFF = 'tcp = ""\nudp = ""\nwebsocket = ""\nhttp = ""\n'

SECONDS = 60.0

PING, JOIN, BROADCAST, LIST = 2, 111, 113, 115

REPLACED = 4500

#: A group that is there from the start, and who holds it and another one then.
STATIC = "s" * 52
HELD = {"sup": 0, "sup-w0": 2, "sup-w1": 2}

#: Flags of a Unix socket in /proc/net/unix that somebody listens on (__SO_ACCEPTCON).
LISTENS = "00010000"


def workers_of(daemon: Daemon) -> list[int]:
    """Process IDs of the workers, oldest first."""
    assert daemon.process is not None
    pid = daemon.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    """Whether there is such a process that has not ended."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rsplit(")", 1)[1].split()[0] != "Z"


def node_of(client: TcpClient, user: str) -> str:
    """Sign in, and return the ID of the node that the client is on."""
    node: str = client.hello(user)["node"]
    return node


class WorkersKit(SynchronousTestCase):
    """Waits for what other processes do."""

    def setUp(self) -> None:
        """The private directories of this test are its own."""
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.patch(os, "environ", {**os.environ, "TMPDIR": self.folder.name})

    def leftovers(self) -> list[str]:
        """Private directories of supervisors."""
        return [path.name for path in Path(self.folder.name).glob("meshrelay-*")]

    def wait_until(self, is_so: Callable[[], bool], daemon: Daemon) -> None:
        """Wait for something that is about to happen."""
        deadline = time.monotonic() + SECONDS
        while not is_so():
            self.assertLess(time.monotonic(), deadline, daemon.log)
            time.sleep(0.02)

    def daemon(self, **node: Any) -> Daemon:
        """A daemon with two workers."""
        return Daemon({"node": {"id": "sup", "workers": 2, "drain_seconds": 0.2, **node}})


class HeldPortTests(SynchronousTestCase):
    """What the kernel makes of a port that is held and shared."""

    def setUp(self) -> None:
        """A port that is held."""
        self.held = hold_port("tcp", "tcp:0:interface=127.0.0.1")
        self.addCleanup(self.held.close)
        self.address = ("127.0.0.1", self.held.number)

    def listen(self) -> socket.socket:
        """Listen as a worker does."""
        opened = socket.socket()
        self.addCleanup(opened.close)
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            opened.setsockopt(socket.SOL_SOCKET, option, 1)
        opened.bind(self.address)
        opened.listen()
        return opened

    def test_no_connection(self) -> None:
        """Who holds a port gets no connection: without a worker clients are refused at once."""
        self.assertRaises(ConnectionRefusedError, socket.create_connection, self.address, 5)

    def test_shared(self) -> None:
        """Two listen beside the one who holds it, and a third without sharing cannot."""
        self.listen()
        self.listen()
        socket.create_connection(self.address, 5).close()
        with socket.socket() as foreign:
            foreign.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.assertRaises(OSError, foreign.bind, self.address)

    def test_second_supervisor(self) -> None:
        """Another supervisor is refused as soon as workers listen."""
        self.listen()
        refused = self.assertRaises(ConfigError, hold_port, "tcp", f"tcp:{self.held.number}:interface=127.0.0.1")
        self.assertIn("already in use", str(refused))

    def test_start_again(self) -> None:
        """A daemon that is started again gets its port although old connections linger."""
        listening = self.listen()
        client = socket.create_connection(self.address, 5)
        accepted, _ = listening.accept()
        accepted.close()
        client.close()
        listening.close()
        self.held.close()
        hold_port("tcp", f"tcp:{self.address[1]}:interface=127.0.0.1").close()


class ServingTests(WorkersKit):
    """Several processes that look like one daemon."""

    def test_ready(self) -> None:
        """The one ready line names every place, health agrees, and clients of each transport are served."""
        with self.daemon() as daemon:
            self.assertEqual(set(daemon.places), {"node", "tcp", "udp", "websocket", "http"})
            self.assertEqual(daemon.places["node"], "sup")
            self.assertEqual(daemon.log.count(" ready node="), 1)
            self.assertEqual(daemon.get("/health/ready")[0], 200)
            for client in (TcpClient(daemon), WebSocketClient(daemon)):
                self.assertIn(node_of(client, "ann"), ("sup-w0", "sup-w1"))
                client.close()
            self.assertEqual(len(self.leftovers()), 1)
        self.assertEqual(self.leftovers(), [])

    def test_spread(self) -> None:
        """Many connections reach more than one worker."""
        with self.daemon() as daemon:
            clients = [TcpClient(daemon) for _ in range(40)]
            nodes = {node_of(client, f"user{number}") for number, client in enumerate(clients)}
            self.assertEqual(nodes, {"sup-w0", "sup-w1"})
            for client in clients:
                client.close()

    def test_port_in_use(self) -> None:
        """A port that somebody else has, be it another daemon with workers, ends the start with the key."""
        with self.daemon() as daemon:
            place = f"tcp:{daemon.address('tcp')[1]}:interface=127.0.0.1"
            status, out, err = run_until_exit(
                f'[node]\nworkers = 2\n[listen]\n{OFF.replace("tcp = ", "#")}tcp = "{place}"\n'
            )
            self.assertEqual(status, 1)
            self.assertIn("listen.tcp", err)
            self.assertNotIn("Traceback", out + err)
            self.assertEqual(len(self.leftovers()), 1)

    def test_application_that_cannot_be_imported(self) -> None:
        """What no worker can start with ends the start, with the text and the status that one node would give."""
        status, out, err = run_until_exit(
            f'[node]\nworkers = 2\n[listen]\n{OFF}[app]\nmodule = "no_such_module_of_ours"\n'
        )
        self.assertEqual(status, 1, out + err)
        self.assertIn("app.module", err)
        self.assertNotIn("Traceback", out + err)
        self.assertEqual(self.leftovers(), [])


class RestartTests(WorkersKit):
    """A worker that dies."""

    def test_killed(self) -> None:
        """It is started again and serves, the other one went on, and health says so all the time."""
        with self.daemon() as daemon:
            clients = [TcpClient(daemon) for _ in range(20)]
            nodes = [node_of(client, f"user{number}") for number, client in enumerate(clients)]
            victim = workers_of(daemon)[0]
            os.kill(victim, signal.SIGKILL)
            self.wait_until(lambda: " ended by SIGKILL" in daemon.log, daemon)
            self.assertEqual(daemon.get("/health/ready")[0], 200)
            survivors = [client for client, node in zip(clients, nodes, strict=True) if node == "sup-w1"]
            for client in survivors:
                client.ask(0, 2)
            self.wait_until(lambda: daemon.log.count("NodeWebSocketFactory starting") == 3, daemon)

            def is_served_by_the_new_one() -> bool:
                client = TcpClient(daemon)
                node = node_of(client, "late")
                client.close()
                return node == "sup-w0"

            self.wait_until(is_served_by_the_new_one, daemon)
            self.assertNotIn(victim, workers_of(daemon))
            self.assertEqual(len(workers_of(daemon)), 2)
            for client in clients:
                client.close()

    def test_all_killed(self) -> None:
        """With no worker left the daemon is not ready; when one is back it is."""
        with self.daemon() as daemon:
            for pid in workers_of(daemon):
                os.kill(pid, signal.SIGKILL)
            self.wait_until(lambda: daemon.get("/health/ready")[0] == 503, daemon)
            self.wait_until(lambda: daemon.get("/health/ready")[0] == 200, daemon)


class StopTests(WorkersKit):
    """The end."""

    def test_sigterm(self) -> None:
        """Clients are told DRAINING, the status is 0, and no process and no file stays."""
        with self.daemon() as daemon:
            clients = [TcpClient(daemon) for _ in range(6)]
            for number, client in enumerate(clients):
                client.hello(f"user{number}")
            pids = workers_of(daemon)
            assert daemon.process is not None
            daemon.process.send_signal(signal.SIGTERM)
            for client in clients:
                self.assertEqual(client.goodbye()[0], 4000)
                client.close()
            self.assertEqual(daemon.process.wait(SECONDS), 0)
            self.assertEqual([pid for pid in pids if is_alive(pid)], [])
        self.assertEqual(self.leftovers(), [])

    def test_signal_to_all(self) -> None:
        """A signal to every process of the service, as service managers send it, is still one drain."""
        with self.daemon(drain_seconds=2.0) as daemon:
            client = TcpClient(daemon)
            client.hello("ann")
            assert daemon.process is not None
            for pid in (*workers_of(daemon), daemon.process.pid):
                os.kill(pid, signal.SIGTERM)
            self.assertEqual(client.goodbye()[0], 4000)
            client.close()
            self.assertEqual(daemon.process.wait(SECONDS), 0)

    def test_second_sigterm(self) -> None:
        """A second signal does not wait for a client that neither reads nor closes, on whatever worker it is."""
        with self.daemon(drain_seconds=10.0) as daemon:
            client = TcpClient(daemon)
            client.hello("ann")
            assert daemon.process is not None
            daemon.process.send_signal(signal.SIGTERM)
            self.wait_until(lambda: daemon.log.count("draining") == 2, daemon)
            started = time.monotonic()
            daemon.process.send_signal(signal.SIGTERM)
            self.assertEqual(daemon.process.wait(SECONDS), 0)
            # The client would be waited for for five.
            self.assertLess(time.monotonic() - started, 4.5)
            client.close()

    def test_supervisor_killed(self) -> None:
        """When the supervisor is killed its workers say goodbye to their clients and end by themselves."""
        daemon = self.daemon()
        with self.assertRaises(AssertionError), daemon:
            client = TcpClient(daemon)
            client.hello("ann")
            pids = workers_of(daemon)
            assert daemon.process is not None
            daemon.process.kill()
            daemon.process.wait(SECONDS)
            self.assertEqual(client.goodbye()[0], 4000)
            client.close()
            deadline = time.monotonic() + SECONDS
            while any(is_alive(pid) for pid in pids) and time.monotonic() < deadline:
                time.sleep(0.02)
            still = [pid for pid in pids if is_alive(pid)]
        self.assertEqual(still, [])
        self.assertEqual(self.leftovers(), [])


class ReloadTests(WorkersKit):
    """SIGHUP."""

    def test_sighup(self) -> None:
        """Every worker applies what can change, also one that is started afterwards; a wrong file changes nothing."""
        config: dict[str, dict[str, Any]] = {
            "node": {"id": "sup", "workers": 2},
            "session": {"heartbeat_seconds": 20.0},
        }
        with Daemon(config) as daemon:
            assert daemon.process is not None
            text = daemon.config_path.read_text()
            daemon.config_path.write_text(text.replace("20.0", "7.0"))
            daemon.process.send_signal(signal.SIGHUP)
            self.wait_until(lambda: daemon.log.count("configuration reloaded") == 3, daemon)
            self.assertEqual(self.heartbeats_of(daemon), {7.0})
            daemon.config_path.write_text(text.replace("20.0", '"never"'))
            daemon.process.send_signal(signal.SIGHUP)
            self.wait_until(lambda: "nothing changed" in daemon.log, daemon)
            os.kill(workers_of(daemon)[0], signal.SIGKILL)
            self.wait_until(lambda: daemon.log.count("NodeWebSocketFactory starting") == 3, daemon)
            self.assertEqual(self.heartbeats_of(daemon), {7.0})

    def heartbeats_of(self, daemon: Daemon) -> set[float]:
        """What clients that come now are told, on every worker."""
        found: dict[str, float] = {}
        deadline = time.monotonic() + SECONDS
        while len(found) < 2:
            self.assertLess(time.monotonic(), deadline, daemon.log)
            client = TcpClient(daemon)
            hello = client.hello("ann")
            found[hello["node"]] = hello["heartbeat_seconds"]
            client.close()
        return set(found.values())


class UdpTests(WorkersKit):
    """UDP, whose sessions belong to one worker."""

    def test_own_ports(self) -> None:
        """Each worker has the configured port plus its number."""
        port = free_port()
        place = f"udp:{port}:interface=127.0.0.1"
        with Daemon({"node": {"id": "sup", "workers": 2}, "listen": {"udp": place}}) as daemon:
            self.assertEqual(daemon.address("udp")[1], port)
            self.assertIn(f"UdpListener starting on {port + 1}", daemon.log)


class LinkedTests(WorkersKit):
    """Workers that are one cluster: what a client does on one of them reaches those on the others."""

    def daemon(self, **node: Any) -> Daemon:
        """Two workers with an application that lets groups be told who was lost."""
        return Daemon(
            {
                "node": {"id": "sup", "workers": 2, "drain_seconds": 0.2, **node},
                "group": {"static_groups": [{"group_id": STATIC}]},
                "app": {"module": "tests.integration.cluster"},
            }
        )

    def client_on(self, daemon: Daemon, node: str, user: str, **members: Any) -> tuple[TcpClient, dict[str, Any]]:
        """A user on this worker, and how it was welcomed; the kernel decides, so it takes a few tries."""
        for _ in range(100):
            client = TcpClient(daemon)
            self.addCleanup(client.close)
            welcome = client.hello(user, **members)
            if welcome["node"] == node:
                return client, welcome
            client.close()
        raise AssertionError(f"no connection reached {node}")

    def pair(self, daemon: Daemon) -> tuple[TcpClient, TcpClient, bytes, dict[str, Any]]:
        """Ann on the first worker and bob on the second one in one group, and how ann was welcomed."""
        ann, welcome = self.client_on(daemon, "sup-w0", "ann")
        bob, _ = self.client_on(daemon, "sup-w1", "bob")
        group = create_group(ann)
        bob.ask(1, JOIN, group + b"hello")
        self.assertEqual((ann.push().cmd, bob.ask(1, LIST)), (JOIN, group))
        return ann, bob, group, welcome

    def kill_worker_of(self, daemon: Daemon, node: str) -> None:
        """Take the process of a worker away; its command line does not say which it is, its sockets do."""
        for pid in workers_of(daemon):
            links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
            inodes = {link[8:-1] for link in links if link.startswith("socket:[")}
            bound = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
            names = {fields[7] for fields in bound if len(fields) > 7 and fields[6] in inodes and fields[3] == LISTENS}
            if any(name.endswith(f"/{node.removeprefix('sup-')}.sock") for name in names):
                os.kill(pid, signal.SIGKILL)
                return
        raise AssertionError(f"{node} has no process")

    def nodes(self, daemon: Daemon) -> dict[str, Any]:
        """What the page of the cluster tells of each node."""
        return {node["id"]: node for node in daemon.get("/cluster")[1]["nodes"]}

    def assert_talk(self, first: TcpClient, second: TcpClient, group: bytes) -> None:
        """What each of the two says in the group reaches the other one."""
        for number, (sender, receiver) in enumerate(((first, second), (second, first))):
            sender.ask(1, BROADCAST, group + b"talk %d" % number)
            while not (push := receiver.push()).payload.endswith(b"talk %d" % number):
                self.assertNotEqual(push.cmd, BROADCAST)

    def test_group(self) -> None:
        """Members of one group are on two workers, and all hear each other; the supervisor holds nothing."""
        with self.daemon() as daemon:
            ann, bob, group, _ = self.pair(daemon)
            self.assert_talk(ann, bob, group)
            for client in (ann, bob):
                client.ask(1, JOIN, STATIC.encode())
            self.assert_talk(bob, ann, STATIC.encode())
            told = self.nodes(daemon)
            self.assertEqual({node_id: node["groups"] for node_id, node in told.items()}, HELD)
            self.assertEqual((told["sup"]["places"], told["sup"]["users"]), ({}, 0))

    def test_take_over(self) -> None:
        """A user that signs in again on another worker is replaced on the first one."""
        with self.daemon() as daemon:
            before = TcpClient(daemon)
            node = node_of(before, "ann")
            while True:
                after = TcpClient(daemon)
                self.addCleanup(after.close)
                is_elsewhere = node_of(after, "ann") != node
                self.assertEqual(before.goodbye()[0], REPLACED)
                before.close()
                if is_elsewhere:
                    break
                before = after
            after.ask(0, PING)

    def test_resume(self) -> None:
        """A user whose worker was killed resumes on another one and is in its groups."""
        with self.daemon() as daemon:
            ann, bob, group, welcome = self.pair(daemon)
            self.kill_worker_of(daemon, "sup-w0")
            self.assertTrue(ann.is_closed())
            # What the kernel gave to the listener that dies is reset; see `meshrelay.transport.shared_port`.
            self.wait_until(lambda: " ended by SIGKILL" in daemon.log, daemon)
            again = TcpClient(daemon)
            self.addCleanup(again.close)
            resumed = again.hello("ann", resume=welcome["sid"])
            self.assertEqual((resumed["resumed"], resumed["sid"]), (True, welcome["sid"]))
            self.assertEqual(again.ask(1, LIST), group)
            self.assert_talk(again, bob, group)

    def test_restart(self) -> None:
        """The process that follows a killed one is soon linked under the same ID and serves the old groups."""
        before = time.monotonic()
        with self.daemon() as daemon:
            start_seconds = time.monotonic() - before
            _, bob, group, welcome = self.pair(daemon)
            self.kill_worker_of(daemon, "sup-w0")
            self.wait_until(lambda: " ended by SIGKILL" in daemon.log, daemon)
            self.assertNotIn("sup-w0", [node for node, told in self.nodes(daemon).items() if told["places"]])
            started = time.monotonic()

            def is_back() -> bool:
                told = self.nodes(daemon)
                links = {link["to"]: link["state"] for link in told["sup-w1"]["links"]}
                return told["sup-w0"]["state"] == "ready" and links.get("sup-w0") == "up"

            self.wait_until(is_back, daemon)
            # The lease of the dead one would last for ten; on a busy machine a start takes longer.
            self.assertLess(time.monotonic() - started, 5 + 2 * start_seconds)
            self.assertEqual(daemon.get("/cluster")[1]["directory"]["counts"]["nodes"], 3)
            self.assertNotIn("in use", daemon.log)
            carl, _ = self.client_on(daemon, "sup-w0", "carl")
            carl.ask(1, JOIN, group)
            self.assert_talk(carl, bob, group)
            ann, again = self.client_on(daemon, "sup-w0", "ann", resume=welcome["sid"])
            self.assertTrue(again["resumed"])
            self.assertEqual(ann.ask(1, LIST), group)


class PagesTests(WorkersKit):
    """The pages of the supervisor, which are about all workers."""

    def test_endpoint(self) -> None:
        """Clients of each transport are sent to the workers, UDP clients to all of them, and are served there."""
        with self.daemon() as daemon:
            for server_type, name in (("TCP", "tcp"), ("WS", "websocket")):
                told = daemon.get(f"/endpoint/type/{server_type}/user/ann")
                self.assertEqual(told[0], 200)
                self.assertEqual((told[1]["serverHost"], told[1]["serverPort"]), daemon.address(name))
            clients = [UdpClient(daemon, f"user{number}") for number in range(6)]
            ports = {client.endpoint["serverPort"] for client in clients}
            self.assertEqual(len(ports), 2)
            group = create_group(clients[0])
            for client in clients[1:]:
                client.ask(1, JOIN, group)
            clients[0].ask(1, BROADCAST, group + b"to all")
            for client in clients[1:]:
                while not client.push().payload.endswith(b"to all"):
                    pass
                client.close()
            clients[0].close()

    def test_metrics(self) -> None:
        """One page has the sums of all workers, and what is about one process with its name."""
        with self.daemon() as daemon:
            clients = [TcpClient(daemon) for _ in range(20)]
            nodes = {node_of(client, f"user{number}") for number, client in enumerate(clients)}
            self.assertEqual(len(nodes), 2)
            self.assertEqual(daemon.metric('meshrelay_sessions{transport="tcp"}'), 20)
            page = daemon.get("/metrics")[1]
            for node in ("sup", "sup-w0", "sup-w1"):
                self.assertIn(f'meshrelay_node_info{{node="{node}"', page)
                self.assertIn(f'process_resident_memory_bytes{{worker="{node}"}}', page)
            for client in clients:
                client.close()

    def test_status(self) -> None:
        """`meshrelay cluster status` shows the supervisor and all workers, linked to each other."""
        with self.daemon() as daemon:
            program = "from meshrelay.cli import main; main()"
            command = [sys.executable, "-c", program, "cluster", "status", "--json", "--url", daemon.url("")]
            done = subprocess.run(command, capture_output=True, check=False, timeout=SECONDS)
            self.assertEqual(done.returncode, 0, done.stderr)
            told = {node["id"]: node for node in json.loads(done.stdout)["nodes"]}
            self.assertEqual(set(told), {"sup", "sup-w0", "sup-w1"})
            for node_id, node in told.items():
                self.assertEqual(node["state"], "ready")
                links = {link["to"]: link["state"] for link in node["links"]}
                self.assertEqual(links, dict.fromkeys(set(told) - {node_id}, "up"))
