"""Links between nodes over real sockets, TLS and processes."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase

from meshrelay.cli.ca import init_authority, issue_certificate
from meshrelay.mesh.link import LinkState, NodeLink
from meshrelay.mesh.tls import NodeCertificates
from tests.integration.mesh_node import MeshNode, NodeProcess, load_certificates

LOOPBACK = "tcp:0:interface=127.0.0.1"


class MeshTestCase(TestCase):
    """Nodes that are stopped at the end, and what they logged."""

    timeout = 180

    def setUp(self) -> None:
        """Listen to the log."""
        self.log: list[str] = []
        self.failures: list[LogEvent] = []
        observer = cast("ILogObserver", self._logged)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def _logged(self, event: LogEvent) -> None:
        self.log.append(formatEvent(event))
        if "log_failure" in event:
            self.failures.append(event)

    def directory(self) -> str:
        """A directory with a path short enough for sockets."""
        directory = tempfile.TemporaryDirectory(prefix="mesh-")
        self.addCleanup(directory.cleanup)
        return directory.name

    def make_ca(self, *node_ids: str) -> str:
        """Make an authority and certificates in a directory of their own."""
        directory = Path(self.directory())
        init_authority(directory, datetime.now(UTC))
        for node_id in node_ids:
            issue_certificate(directory, node_id, ("127.0.0.1", "localhost"), datetime.now(UTC))
        return str(directory)

    def node(self, node_id: str, certificates: NodeCertificates | None = None, **more: Any) -> MeshNode:
        """A node in this process."""
        node = MeshNode(reactor, node_id, certificates, **more)
        self.addCleanup(lambda: Deferred.fromCoroutine(node.stop()))
        return node

    async def when_logged(self, text: str, count: int = 1, seconds: float = 30.0) -> None:
        """Wait until the log holds `text`."""
        for _ in range(int(seconds / 0.02)):
            if sum(text in line for line in self.log) >= count:
                return
            await deferLater(reactor, 0.02)
        self.fail(f"{text!r} was not logged {count} times:\n" + "\n".join(self.log))

    def assert_no_traceback(self) -> None:
        """Nothing but words was logged."""
        self.assertEqual(self.failures, [])


class TlsTests(MeshTestCase):
    """Both ends show a certificate of the private CA."""

    async def linked(self, server: MeshNode, client: MeshNode, host: str | None = None) -> NodeLink:
        """Link two nodes of this process."""
        port = await server.listen(LOOPBACK)
        link = client.dial(server.links.identity.node_id, f"tcp:127.0.0.1:{port.getHost().port}", host)
        await client.when_event("up")
        await server.when_event("up")
        return link

    async def test_link(self) -> None:
        """Nodes with certificates that `meshrelay ca` made link, by ID and by host, and talk both ways."""
        ca = self.make_ca("n1", "n2")
        for host in (None, "127.0.0.1", "localhost"):
            server = self.node("n1", load_certificates(ca, "n1"))
            client = self.node("n2", load_certificates(ca, "n2"))
            link = await self.linked(server, client, host)
            link.send(1, b"over TLS")
            await client.when_message(b"over TLS")
            self.assertEqual(await link.call("echo", b"call"), b"call")
        self.assert_no_traceback()

    async def test_two_processes(self) -> None:
        """A node in another process is linked in the same way."""
        ca = self.make_ca("n1", "n2")
        with NodeProcess(node_id="n1", ca=ca) as process:
            client = self.node("n2", load_certificates(ca, "n2"))
            link = client.dial("n1", f"tcp:127.0.0.1:{process.port}")
            link.send(1, b"there and back")
            await client.when(lambda: client.messages == [(2, b"there and back")])

    async def refused(self, server: MeshNode, client: MeshNode, *logged: str, dialled: str = "n1") -> None:
        """Dial, and expect these words in the log and no link."""
        port = await server.listen(LOOPBACK)
        link = client.dial(dialled, f"tcp:127.0.0.1:{port.getHost().port}")
        for text in logged:
            await self.when_logged(text)
        self.assertEqual((server.events, client.events), ([], []))
        self.assertNotEqual(link.state, LinkState.UP)
        self.assert_no_traceback()

    async def test_foreign_ca(self) -> None:
        """A certificate of another CA is no way in; both logs name the certificate."""
        server = self.node("n1", load_certificates(self.make_ca("n1"), "n1"))
        client = self.node("n2", load_certificates(self.make_ca("n2"), "n2"))
        await self.refused(server, client, "TLS: certificate verify failed", "TLS: tlsv1 alert unknown ca")

    async def test_name_of_another(self) -> None:
        """A node that says it is another one than its certificate does is refused by both ends."""
        ca = self.make_ca("n1", "n2", "n3")
        server = self.node("n1", load_certificates(ca, "n1"))
        client = self.node("n2", load_certificates(ca, "n3"))
        text = "WRONG_NODE: node n2 shows the certificate of n3"
        await self.refused(server, client, text, text + " (said the other node)")

    async def test_impostor(self) -> None:
        """Who dials n1 and meets n3 goes away, and tells why."""
        ca = self.make_ca("n2", "n3")
        server = self.node("n3", load_certificates(ca, "n3"))
        client = self.node("n2", load_certificates(ca, "n2"))
        text = "WRONG_NODE: n1 was dialled, n3 answered"
        await self.refused(server, client, text, text + " (said the other node)")

    async def test_no_certificate(self) -> None:
        """A peer without TLS, or without a certificate, is cut off before Perspective Broker reads a byte."""
        server = self.node("n1", load_certificates(self.make_ca("n1"), "n1"))
        client = self.node("n2")
        await self.refused(server, client, "no link from 127.0.0.1", "n1 cannot be reached")

    async def test_wrong_secret(self) -> None:
        """A node with the right certificate and the wrong secret is refused; both logs say so."""
        ca = self.make_ca("n1", "n2")
        server = self.node("n1", load_certificates(ca, "n1"))
        client = self.node("n2", load_certificates(ca, "n2"), secret=b"another")
        text = "SECRET: n2 and n1 differ in the secret"
        await self.refused(server, client, text, text + " (said the other node)")


class ProcessTests(MeshTestCase):
    """Peers that fail in ways that only a process can."""

    async def test_stopped_peer(self) -> None:
        """A node that answers nothing (SIGSTOP) is known to be gone within 5 seconds, and comes back by itself."""
        with NodeProcess(node_id="n1") as process:
            client = self.node("n2")
            link = client.dial("n1", f"tcp:127.0.0.1:{process.port}")
            await client.when_event("up")
            os.kill(process.process.pid, signal.SIGSTOP)
            began = time.monotonic()
            link.send(1, b"waits")
            await client.when_event("down n1 nothing was heard")
            taken = time.monotonic() - began
            # Where nothing else runs it is 5.3 at most.
            self.assertLess(taken, 9.0)
            os.kill(process.process.pid, signal.SIGCONT)
            await client.when(lambda: client.messages == [(2, b"waits")])
            self.assertEqual([event.split()[0] for event in client.events], ["up", "down", "up"])

    async def test_killed_peer(self) -> None:
        """After kill -9 and a new start the link is there again, and it is told that the node began anew."""
        path = self.directory() + "/n1.sock"
        client = self.node("n2")
        with NodeProcess(node_id="n1", listen=f"unix:{path}"):
            link = client.dial("n1", f"unix:{path}")
            await client.when_event("up")
            link.send(1, b"one")
            await client.when(lambda: client.messages == [(2, b"one")])
        await client.when_event("down")
        link.send(1, b"for the old one")
        os.unlink(path)
        with NodeProcess(node_id="n1", listen=f"unix:{path}"):
            await client.when_event("reset n1")
            await client.when(lambda: client.events[-1] == "up n1")
            link.send(1, b"two")
            await client.when(lambda: client.messages == [(2, b"one"), (2, b"two")])

    async def test_cuts(self) -> None:
        """Connections that are cut while 30,000 messages pass lose none, double none and keep their order."""
        server, client = self.node("n1"), self.node("n2")
        port = await server.listen(LOOPBACK)
        link = client.dial("n1", f"tcp:127.0.0.1:{port.getHost().port}")
        await client.when_event("up")
        for start in range(0, 30_000, 3_000):
            await client.when(lambda: link.state is LinkState.UP)
            for number in range(start, start + 3_000):
                link.send(2, b"%d" % number)
            await deferLater(reactor, 0.005)
            if link.strand is not None:
                link.strand.abort("cut by the test")
        expected = [(2, b"%d" % number) for number in range(30_000)]
        await server.when(lambda: len(server.messages) >= len(expected))
        self.assertEqual(server.messages, expected)
        self.assertGreaterEqual(sum(event.startswith("down") for event in client.events), 5)

    async def rate(self, listen: str, dial: str, count: int = 400_000) -> None:
        """Send `count` messages of 128 bytes to another process and tell how fast they came."""
        with NodeProcess(node_id="n1", listen=listen) as process:
            client = self.node("n2")
            link = client.dial("n1", dial.format(port=process.port))
            await client.when_event("up")
            began, sent, payload = time.monotonic(), 0, b"m" * 128
            while sent < count:
                while sent < count and link.sender.queued_messages < 8_000:
                    link.send(3, payload)
                    sent += 1
                await deferLater(reactor, 0)
            while int(await link.call("count", b"")) < count:
                await deferLater(reactor, 0.002)
            seconds = time.monotonic() - began
            print(f"\n{listen.partition(':')[0]}: {count / seconds:,.0f} messages of 128 bytes a second")
            self.assertEqual(int(await link.call("count", b"")), count)
            self.assertEqual(link.sender.dropped_messages, 0)

    async def test_rate_tcp(self) -> None:
        """All of many messages arrive over TCP; the rate is printed."""
        await self.rate(LOOPBACK, "tcp:127.0.0.1:{port}")

    async def test_rate_unix(self) -> None:
        """All of many messages arrive over a Unix socket; the rate is printed."""
        path = self.directory() + "/n1.sock"
        await self.rate(f"unix:{path}", f"unix:{path}")


class BombTests(SynchronousTestCase):
    """What a hostile peer sends to a node whose port it reaches."""

    def bomb(self, data: bytes) -> int:
        """Send `data` behind the choice of a dialect until the node closes; return by how much the node grew."""
        with NodeProcess(node_id="n1") as process:
            before = process.memory_bytes()
            most = before
            with socket.create_connection(("127.0.0.1", int(process.port)), 30) as peer:
                peer.settimeout(30)
                peer.recv(100)
                peer.sendall(b"\x02\x82pb")
                try:
                    for start in range(0, len(data), 65536):
                        peer.sendall(data[start : start + 65536])
                        most = max(most, process.memory_bytes())
                    while peer.recv(65536):
                        pass
                except ConnectionError:
                    pass
                else:
                    self.assertEqual(peer.recv(1), b"")
            most = max(most, process.memory_bytes())
            self.assertIsNone(process.process.poll(), "the node is gone")
            return most - before

    def test_nested_lists(self) -> None:
        """10 MB of lists in lists are refused and cost less than 10 MB."""
        self.assertLess(self.bomb(b"\x01\x80" * 5_000_000), 10_000_000)

    def test_giant_strings(self) -> None:
        """Strings that are announced with gigabytes, or come in thousands, are refused and cost less than 10 MB."""
        self.assertLess(self.bomb(b"\x7f\x7f\x7f\x7f\x07\x82" + b"x" * 10_000_000), 10_000_000)
        string = b"\x00\x00\x20\x82" + b"x" * (1 << 19)
        self.assertLess(self.bomb(b"\x7f\x01\x80" + string * 20), 10_000_000)

    def test_many_small_items(self) -> None:
        """An expression of very many items is refused."""
        self.assertLess(self.bomb(b"\x7f\x7f\x10\x80" + b"\x01\x81" * 5_000_000), 10_000_000)
