"""The relay client against NetBird's own relay server, with NetBird's own client as the other peer."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from meshrelay.relay.auth import make_token
from meshrelay.relay.errors import ConnClosed, OpenTimedOut, RelayClientNotConnected
from meshrelay.relay_client import (
    NoRelayServer,
    RelayClient,
    RelayConn,
    RelayConnectFailed,
    RelayManager,
    RelayOptions,
    SecretTokens,
    TransportMode,
    hmac_key,
)
from tests.integration.daemon import Daemon
from tests.interop.netbird_programs import Certificates, NetBirdPeer, NetBirdServer, make_certificates, programs

reactor: Any = global_reactor

SECRET = "correct horse"
ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 30.0

#: The verdict of a server comes after 45 seconds, that of a client after 35.
IDLE_SECONDS = 48.0


async def until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so."""
    began = reactor.seconds()
    while not is_so():
        assert reactor.seconds() - began < PATIENCE_SECONDS, "waited for too long"
        await deferLater(reactor, 0.02)


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Kill a program whose test has failed, rather than wait for it."""
    try:
        yield
    finally:
        process.kill()


class InteropTests(TestCase):
    """Runs programs and clients until the end of the test."""

    timeout = 120

    def setUp(self) -> None:
        programs()

    def start_server(self, **options: Any) -> NetBirdServer:
        """NetBird's relay server."""
        server = NetBirdServer(**options).__enter__()
        self.addCleanup(server.__exit__, None, None, None)
        return server

    async def start_peer(self, name: str, server: str, **options: Any) -> NetBirdPeer:
        """NetBird's client, connected."""
        peer = NetBirdPeer(name, server, **options).__enter__()
        self.addCleanup(deferToThread, peer.__exit__, None, None, None)
        await deferToThread(peer.ask, "connect")
        return peer

    async def connect(self, name: str, url: str, secret: str = "", **options: Any) -> RelayClient:
        """Our client, connected."""
        client = self.client(name, url, secret, **options)
        await client.connect()
        return client

    def client(self, name: str, url: str, secret: str = "", **options: Any) -> RelayClient:
        """Our client, not connected."""
        tokens = SecretTokens(hmac_key(secret.encode()), lambda: 2e9) if secret else None
        client = RelayClient(reactor, url, name, tokens, RelayOptions(**options))
        self.addCleanup(client.close)
        return client

    def manager(self, *urls: str, name: str = "alice") -> RelayManager:
        """Our manager, not serving."""
        manager = RelayManager(reactor, urls, name, options=RelayOptions(transport=TransportMode.WS))
        self.addCleanup(manager.close)
        return manager

    def make_certificates(self) -> Certificates:
        """Certificates of this test."""
        directory = Path(self.mktemp())
        directory.mkdir(parents=True)
        return make_certificates(directory.resolve())

    async def open_echo(self, client: RelayClient, bob: NetBirdPeer) -> RelayConn:
        """A connection to NetBird's client, which echoes."""
        await deferToThread(bob.ask, "open", peer="alice", on_message="echo")
        return await client.open_conn("bob")


class MessageTests(InteropTests):
    """Messages over one relay, WebSocket without TLS."""

    async def test_echo(self) -> None:
        """What we send NetBird's client gets, and what it sends we get, of any size that fits."""
        server = self.start_server()
        bob = await self.start_peer("bob", server.url)
        alice = await self.connect("alice", server.url)
        self.assertEqual((alice.server_instance_url, alice.connected_ip), (server.url, "127.0.0.1"))
        conn = await self.open_echo(alice, bob)
        for size in (1, 125, 126, 1000, 8000, conn.max_payload_bytes):
            payload = os.urandom(size)
            await conn.write(payload)
            self.assertEqual(await conn.read(), payload)

    async def test_other_way(self) -> None:
        """NetBird's client opens and speaks first; we answer as a Twisted protocol."""

        class Upper(Protocol):
            def dataReceived(self, data: bytes) -> None:
                transport: Any = self.transport
                transport.write(data.upper())

        server = self.start_server()
        bob = await self.start_peer("bob", server.url)
        alice = await self.connect("alice", server.url)
        await deferToThread(bob.ask, "open", peer="alice")
        (await alice.open_conn("bob")).attach(Upper())
        await deferToThread(bob.send, "alice", b"hello")
        self.assertEqual(await deferToThread(bob.next_message), ("alice", b"HELLO"))

    async def test_early(self) -> None:
        """What NetBird's client sends a moment before we open the connection is not lost."""
        server = self.start_server()
        bob = await self.start_peer("bob", server.url)
        alice = await self.connect("alice", server.url)
        await deferToThread(bob.ask, "open", peer="alice")
        await deferToThread(bob.send, "alice", b"early")
        self.assertEqual(await (await alice.open_conn("bob")).read(), b"early")

    async def test_many(self) -> None:
        """Thousands of messages go there and back in order, as long as no more are on the way than a queue holds."""
        server = self.start_server()
        bob = await self.start_peer("bob", server.url)
        conn = await self.open_echo(await self.connect("alice", server.url), bob)
        for start in range(0, 5000, 50):
            for number in range(start, start + 50):
                await conn.write(b"%d" % number)
            got = [await conn.read() for _ in range(50)]
            self.assertEqual(got, [b"%d" % number for number in range(start, start + 50)])

    async def test_absent(self) -> None:
        """A peer that is not there is an error, and can be opened once it is."""
        server = self.start_server()
        alice = await self.connect("alice", server.url)
        with self.assertRaises(OpenTimedOut):
            await alice.open_conn("bob", 0.2)
        opened = alice.open_conn("bob")
        await self.start_peer("bob", server.url)
        self.assertEqual((await opened).peer, "bob")

    async def test_peer_goes(self) -> None:
        """When NetBird's client leaves, our connection ends; when it is back, a new one works."""
        server = self.start_server()
        bob = await self.start_peer("bob", server.url)
        alice = await self.connect("alice", server.url)
        conn = await self.open_echo(alice, bob)
        reading = conn.read()
        await deferToThread(bob.ask, "disconnect")
        with self.assertRaises(ConnClosed):
            await reading
        await deferToThread(bob.ask, "connect")
        conn = await self.open_echo(alice, bob)
        await conn.write(b"again")
        self.assertEqual(await conn.read(), b"again")

    async def test_leave(self) -> None:
        """When we take leave, NetBird's client sees it at once."""
        server = self.start_server()
        bob = await self.start_peer("bob", server.url)
        alice = await self.connect("alice", server.url)
        await self.open_echo(alice, bob)
        await alice.close()
        self.assertEqual((await deferToThread(bob.next_event, "closed"))["peer"], "alice")


class EndTests(InteropTests):
    """Servers that go, and names that are taken."""

    async def test_stopped(self) -> None:
        """A server that is stopped, or killed, is noticed, and all connections end."""
        for how in ("stop", "kill"):
            lost: list[str] = []
            server = self.start_server()
            alice = await self.connect("alice", server.url, transport=TransportMode.WS)
            alice.on_disconnect(lost.append)
            await deferToThread(getattr(server, how))
            await until(lambda alice=alice: not alice.is_connected)  # type: ignore[misc]
            self.assertEqual(lost, [server.url])
            with self.assertRaises(RelayClientNotConnected):
                await alice.open_conn("bob")

    async def test_same_name(self) -> None:
        """NetBird's client may take our name over, and we take it back."""
        server = self.start_server()
        alice = await self.connect("alice", server.url)
        other = await self.start_peer("alice", server.url)
        await until(lambda: not alice.is_connected)
        await alice.connect()
        await deferToThread(other.next_event, "disconnected")


class HealthTests(InteropTests):
    """Connections on which nothing is said."""

    async def test_idle(self) -> None:
        """Each end bears the other's silence and answers its health checks: idle peers stay, with either server."""
        servers = [self.start_server().url]
        daemon = Daemon({"relay": {"listen": "tcp:0:interface=127.0.0.1"}})
        await deferToThread(daemon.__enter__)
        self.addCleanup(deferToThread, daemon.__exit__, None, None, None)
        servers.append(f"rel://{daemon.places['relay']}")
        conns = []
        for url in servers:
            bob = await self.start_peer("bob", url)
            conns.append(await self.open_echo(await self.connect("alice", url), bob))
        await deferLater(reactor, IDLE_SECONDS)
        for conn in conns:
            await conn.write(b"still here")
            self.assertEqual(await conn.read(), b"still here")


class TokenTests(InteropTests):
    """Who is let in."""

    async def test_token(self) -> None:
        """With a token of the server's secret we are let in; with another one, an old one or none we are not."""
        server = self.start_server(secret=SECRET)
        await self.connect("alice", server.url, SECRET)
        for secret in ("another", ""):
            with self.assertRaises(RelayConnectFailed):
                await self.client("alice", server.url, secret, transport=TransportMode.WS).connect()
        old = SecretTokens(hmac_key(SECRET.encode()), lambda: 1e9)
        with self.assertRaises(RelayConnectFailed):
            await RelayClient(reactor, server.url, "bob", old, RelayOptions(transport=TransportMode.WS)).connect()

    async def test_update(self) -> None:
        """A manager that is given a good token later gets in by itself."""
        server = self.start_server(secret=SECRET)
        manager = self.manager(server.url)
        with self.assertRaises(NoRelayServer):
            await manager.serve()
        manager.update_token(make_token(hmac_key(SECRET.encode()), 2_000_000_000))
        await until(lambda: manager.is_ready)


class TransportTests(InteropTests):
    """Ways to a server with TLS."""

    async def check(self, transport: TransportMode, wanted: str, size: int, host: str = "127.0.0.1") -> None:
        """One echo over a transport."""
        certificates = self.make_certificates()
        server = self.start_server(certificates=certificates)
        bob = await self.start_peer("bob", server.url, authority=certificates.authority, transport="ws")
        url = f"rels://{host}:{server.port}"
        alice = await self.connect("alice", url, transport=transport, ca_file=str(certificates.authority))
        self.assertEqual(alice.transport_name, wanted)
        conn = await self.open_echo(alice, bob)
        payload = os.urandom(size)
        await conn.write(payload)
        self.assertEqual(await conn.read(), payload)

    async def test_websocket(self) -> None:
        """WebSocket goes over TLS."""
        await self.check(TransportMode.WS, "ws", 8000)

    async def test_by_name(self) -> None:
        """The certificate may be that of a name."""
        await self.check(TransportMode.PREFER_WS, "ws", 8000, "localhost")

    async def test_quic(self) -> None:
        """QUIC carries messages as datagrams, up to what fits."""
        await self.check(TransportMode.QUIC, "quic", 1150)

    async def test_quic_by_name(self) -> None:
        """QUIC looks names up too."""
        await self.check(TransportMode.PREFER_QUIC, "quic", 1, "localhost")

    async def test_quic_many(self) -> None:
        """Hundreds of datagrams go there and back; the other peer uses QUIC as well."""
        certificates = self.make_certificates()
        server = self.start_server(certificates=certificates)
        bob = await self.start_peer("bob", server.url, authority=certificates.authority, transport="quic")
        options: dict[str, Any] = {"transport": TransportMode.QUIC, "ca_file": str(certificates.authority)}
        conn = await self.open_echo(await self.connect("alice", server.url, **options), bob)
        for number in range(500):
            await conn.write(b"%d" % number)
            self.assertEqual(await conn.read(), b"%d" % number)

    async def test_fall_back(self) -> None:
        """Without QUIC at the server the WebSocket wins, also where QUIC is preferred."""
        server = self.start_server()
        for mode in (TransportMode.AUTO, TransportMode.PREFER_QUIC):
            alice = await self.connect("alice", server.url, transport=mode, dial_seconds=5.0)
            self.assertEqual(alice.transport_name, "ws")

    async def test_server_ip(self) -> None:
        """A name that cannot be looked up does not matter when the address is known."""
        certificates = self.make_certificates()
        server = self.start_server(certificates=certificates)
        options = RelayOptions(transport=TransportMode.WS, ca_file=str(certificates.authority))
        url = f"rels://localhost:{server.port}"
        client = RelayClient(reactor, url, "alice", options=options, server_ip="127.0.0.1")
        self.addCleanup(client.close)
        await client.connect()
        self.assertEqual(client.connected_ip, "127.0.0.1")

    async def test_unknown_authority(self) -> None:
        """A certificate of an authority that we do not know is refused over either transport."""
        server = self.start_server(certificates=self.make_certificates())
        stranger = str(self.make_certificates().authority)
        for mode in (TransportMode.WS, TransportMode.QUIC):
            client = self.client("alice", server.url, transport=mode, ca_file=stranger)
            with self.assertRaises(RelayConnectFailed):
                await client.connect()


class ManagerTests(InteropTests):
    """Home and foreign relays."""

    async def test_foreign(self) -> None:
        """At a peer's home relay, which is foreign to us, we meet NetBird's own manager."""
        home, far = self.start_server(), self.start_server()
        alice = self.manager(home.url)
        self.assertEqual(await alice.serve(), home.url)
        bob = await self.start_peer("bob", far.url, manager="true")
        conn = await alice.open_conn(far.url, "bob", "127.0.0.1")
        await deferToThread(bob.ask, "open", peer="alice", on_message="echo")
        await conn.write(b"from afar")
        self.assertEqual(await conn.read(), b"from afar")
        self.assertEqual([state.url for state in alice.relay_states()], [home.url, far.url])

    async def test_restart(self) -> None:
        """A home relay that goes away and comes back is found again, and connections can be opened anew."""
        server = self.start_server()
        manager = self.manager(server.url)
        await manager.serve()
        lost: list[str] = []
        manager.add_close_listener(server.url, lambda: lost.append("lost"))
        place = f"127.0.0.1:{server.port}"
        await deferToThread(server.stop)
        await until(lambda: not manager.is_ready)
        self.assertEqual(lost, ["lost"])
        again = self.start_server(listen=place)
        self.assertEqual(again.url, server.url)
        await until(lambda: manager.is_ready)
        bob = await self.start_peer("bob", again.url)
        await deferToThread(bob.ask, "open", peer="alice", on_message="echo")
        conn = await manager.open_conn(again.url, "bob")
        await conn.write(b"back")
        self.assertEqual(await conn.read(), b"back")

    async def test_pick(self) -> None:
        """Of two servers, one of which is not there, the other one becomes home."""
        server = self.start_server()
        manager = self.manager("rel://127.0.0.1:1", server.url)
        self.assertEqual(await manager.serve(), server.url)


class PipeTests(InteropTests):
    """The command."""

    def write_secret(self) -> str:
        """A file with the secret."""
        path = Path(self.mktemp()).resolve()
        path.write_text(SECRET)
        return str(path)

    def start_pipe(self, server: str, peer: str, to: str, *options: str, data: bytes | None) -> Deferred[Any]:
        """Run the command with this standard input, until it ends; None = it ends when the peer does."""
        program = "from meshrelay.cli import main; main()"
        command = [sys.executable, "-W", "error", "-c", program, "relay", "pipe", "--server", server]
        command += ["--peer", peer, "--to", to, *options]
        return deferToThread(
            subprocess.run, command, cwd=ROOT, input=data or b"", capture_output=True, timeout=60, check=False
        )

    def start_piped(
        self, server: str, peer: str, to: str, *options: str, stdin: int = subprocess.DEVNULL
    ) -> subprocess.Popen[bytes]:
        """Run the command; nobody reads what it writes until the test does."""
        program = "from meshrelay.cli import main; main()"
        command = [sys.executable, "-c", program, "relay", "pipe", "--server", server, "--peer", peer, "--to", to]
        pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
        return subprocess.Popen([*command, *options], cwd=ROOT, stdin=stdin, stdout=pipe, stderr=nothing)

    async def test_both_ways(self) -> None:
        """Megabytes go both ways at once, whole; both ends see the end and are done."""
        secret = self.write_secret()
        server = self.start_server(secret=SECRET)
        there, back = os.urandom(3_000_000), os.urandom(2_000_000)
        options = ("--secret-file", secret)
        running = [
            self.start_pipe(server.url, "a", "b", *options, data=there),
            self.start_pipe(server.url, "b", "a", *options, data=back),
        ]
        first, second = [await done for done in running]
        self.assertEqual((first.returncode, first.stderr), (0, b""))
        self.assertEqual((second.returncode, second.stderr), (0, b""))
        self.assertTrue(first.stdout == back and second.stdout == there)

    async def test_slow_output(self) -> None:
        """Who reads the output late still has all of it, though the other end is done and gone."""
        server = self.start_server()
        data = os.urandom(300_000)
        with self.start_piped(server.url, "b", "a") as late, ended(late):
            sender = await self.start_pipe(server.url, "a", "b", data=data)
            self.assertEqual((sender.returncode, sender.stderr), (0, b""))
            output, _ = await deferToThread(late.communicate, None, 30)
        self.assertTrue((late.returncode, output) == (0, data))

    async def test_refused(self) -> None:
        """A wrong token is one line on standard error and a status."""
        server = self.start_server(secret=SECRET)
        done = await self.start_pipe(server.url, "a", "b", data=b"")
        self.assertEqual((done.returncode, done.stdout), (1, b""))
        self.assertIn(b"perhaps it does not take the token", done.stderr)
        self.assertEqual(done.stderr.count(b"\n"), 1)

    async def test_raw(self) -> None:
        """With --raw the other end can be NetBird's client, which echoes here until it goes."""
        server = self.start_server()
        bob = await self.start_peer("bob", server.url)
        options = ("--raw",)
        with self.start_piped(server.url, "alice", "bob", *options, stdin=subprocess.PIPE) as pipe, ended(pipe):
            assert pipe.stdin is not None
            assert pipe.stdout is not None
            pipe.stdin.write(b"as it is")
            pipe.stdin.close()
            pipe.stdin = None
            await deferToThread(bob.ask, "open", peer="alice", on_message="echo")
            self.assertEqual(await deferToThread(pipe.stdout.read, 8), b"as it is")
            await deferToThread(bob.ask, "disconnect")
            output, _ = await deferToThread(pipe.communicate, None, 30)
        self.assertEqual(output, b"")
