"""The relay client library and the command against the relay of a real daemon, over real sockets."""

from __future__ import annotations

import json
import logging
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from meshrelay.relay_client import (
    ConnClosed,
    OpenTimedOut,
    RelayClient,
    RelayClientNotConnected,
    RelayConn,
    RelayConnectFailed,
    RelayManager,
    RelayOptions,
    RelayToken,
    SecretTokens,
    TokenSource,
    TokenStore,
    TransportMode,
    hmac_key,
)
from meshrelay.relay_client.dial import dial
from tests.integration.cluster import free_port
from tests.integration.daemon import ROOT, Daemon
from tests.interop.netbird_programs import Certificates, make_certificates

reactor: Any = global_reactor

SECRET = "correct horse"
TCP = "tcp:0:interface=127.0.0.1"
PATIENCE_SECONDS = 30.0

#: What others may feel of a peer that does not read, in most cases and in the worst: a machine that does other things
#: as well makes a few worse; a relay that waits for such a peer makes all of them so.
FELT_SECONDS = 1.0
WORST_SECONDS = 10.0

#: The end of a daemon is noticed by what it says; by QUIC's pings alone it takes 15 s.
NOTICED_SECONDS = 10.0

MIB = 1 << 20


async def until(is_so: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until something is so."""
    began = reactor.seconds()
    while not is_so():
        assert reactor.seconds() - began < seconds, "waited for too long"
        await deferLater(reactor, 0.01)


async def soon(done: Deferred[Any]) -> Any:
    """Wait for what must not take long."""
    return await done.addTimeout(PATIENCE_SECONDS, reactor)


async def echo(there: RelayConn, back: RelayConn, payload: bytes) -> bytes:
    """Send a message to the other end and return what it sends back."""
    await there.write(payload)
    await back.write(await soon(back.read()))
    answer: bytes = await soon(there.read())
    return answer


def tokens(secret: str = SECRET, seconds: int = 600) -> SecretTokens:
    """Fresh tokens of a secret, good for so long."""
    return SecretTokens(hmac_key(secret.encode()), lambda: datetime.now(UTC).timestamp(), seconds)


class Links:
    """Connects as usual, and remembers the sockets."""

    def __init__(self) -> None:
        self.links: list[Any] = []

    def __call__(self, *arguments: Any) -> Deferred[Any]:
        return dial(*arguments).addCallback(self._remember)

    def _remember(self, link: Any) -> Any:
        self.links.append(link)
        return link


class Sink(Protocol):
    """Counts what comes."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        self.messages.append(data)


class RelayCase(TestCase):
    """Runs daemons and clients until the end of the test."""

    timeout = 180

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir(parents=True)

    def start(self, relay: dict[str, Any] | None = None, **sections: dict[str, Any]) -> Daemon:
        """A daemon with a relay."""
        daemon = Daemon({"relay": {"listen": TCP, **(relay or {})}, **sections}).__enter__()
        self.addCleanup(lambda: daemon.__exit__(None, None, None))
        return daemon

    def tls_relay(self) -> tuple[dict[str, Any], int]:
        """A relay with WebSocket over TLS and QUIC on one port, which wants a token; and the port."""
        self.certificates: Certificates = make_certificates(self.directory)
        port = free_port()
        key, certificate = str(self.certificates.key), str(self.certificates.certificate)
        relay = {
            "listen": f"ssl:{port}:interface=127.0.0.1:privateKey={key}:certKey={certificate}",
            "quic": f"udp:{port}:interface=127.0.0.1",
            "certificate_file": certificate,
            "key_file": key,
            "secret_file": self.secret_file(),
        }
        return relay, port

    def start_tls(self) -> str:
        """Such a daemon; returns its URL."""
        relay, port = self.tls_relay()
        self.daemon = self.start(relay)
        return f"rels://127.0.0.1:{port}"

    def secret_file(self) -> str:
        """A file with the secret."""
        path = self.directory / "secret"
        path.write_text(SECRET + "\n")
        return str(path)

    def url(self, daemon: Daemon) -> str:
        """Where peers find a daemon."""
        return f"rel://{daemon.places['relay']}"

    def options(self, transport: TransportMode = TransportMode.WS, **changes: Any) -> RelayOptions:
        """One transport, the authority of this test, and no long waits."""
        certificates = getattr(self, "certificates", None)
        ca_file = None if certificates is None else str(certificates.authority)
        return RelayOptions(
            transport=transport,
            ca_file=ca_file,
            quick_reconnect_seconds=0.1,
            retry_base_seconds=0.2,
            retry_cap_seconds=0.5,
            **changes,
        )

    def client(
        self,
        name: str,
        url: str,
        transport: TransportMode = TransportMode.WS,
        source: TokenSource | None = None,
        opener: Any = dial,
    ) -> RelayClient:
        """A client that is closed with the test."""
        client = RelayClient(reactor, url, name, source, self.options(transport), opener=opener)
        self.addCleanup(client.close)
        return client

    async def connect(self, name: str, url: str, *arguments: Any, **options: Any) -> RelayClient:
        """A client that is signed in."""
        client = self.client(name, url, *arguments, **options)
        await soon(client.connect())
        return client

    async def open_pair(self, alice: RelayClient, bob: RelayClient) -> tuple[RelayConn, RelayConn]:
        """Both ends of a connection between two clients of these names."""
        opened: list[RelayConn] = await soon(gatherResults([alice.open_conn("bob"), bob.open_conn("alice")]))
        return opened[0], opened[1]

    def manager(self, name: str, *urls: str, **changes: Any) -> RelayManager:
        """A manager that is closed with the test, at relays that need no token."""
        manager = RelayManager(reactor, urls, name, options=self.options(**changes))
        self.addCleanup(manager.close)
        return manager

    async def open_both(self, alice: RelayManager, bob: RelayManager, url: str) -> tuple[RelayConn, RelayConn]:
        """Both ends of a connection between two managers of these names, at one relay."""
        opened = [alice.open_conn(url, "bob", "127.0.0.1"), bob.open_conn(url, "alice", "127.0.0.1")]
        here, there = await soon(gatherResults(opened))
        return here, there


class TransportTests(RelayCase):
    """Messages of two clients at one daemon."""

    async def check(self, alice: RelayClient, bob: RelayClient) -> None:
        """Messages of all sizes go both ways."""
        ends = await self.open_pair(alice, bob)
        longest = min(end.max_payload_bytes for end in ends)
        for here, there in (ends, ends[::-1]):
            for size in (0, 1, 87, 88, 125, 126, 1000, longest):
                payload = os.urandom(size)
                self.assertEqual(await echo(here, there, payload), payload)

    async def test_websocket(self) -> None:
        """Messages of every length that fits go both ways, and the server says what its URL is."""
        daemon = self.start()
        alice, bob = [await self.connect(name, self.url(daemon)) for name in ("alice", "bob")]
        self.assertEqual((alice.server_instance_url, alice.connected_ip), (self.url(daemon), "127.0.0.1"))
        await self.check(alice, bob)

    async def test_tls(self) -> None:
        """The same over WebSocket with TLS, over QUIC, with one peer by each, and with what is found first."""
        url = self.start_tls()
        ws, quic = TransportMode.WS, TransportMode.QUIC
        for first, second in ((ws, ws), (quic, quic), (ws, quic), (TransportMode.AUTO, TransportMode.AUTO)):
            clients = [
                await self.connect(name, url, mode, tokens()) for name, mode in (("alice", first), ("bob", second))
            ]
            if first is not TransportMode.AUTO:
                self.assertEqual([client.transport_name for client in clients], [first.value, second.value])
            await self.check(*clients)
            for client in clients:
                await soon(client.close())
        self.assertEqual(self.daemon.metric('meshrelay_relay_dropped_total{reason="too_large"}'), 0)

    async def test_many_by_quic(self) -> None:
        """Thousands of datagrams go there and back, with no more on the way than a queue holds."""
        url = self.start_tls()
        alice, bob = [await self.connect(name, url, TransportMode.QUIC, tokens()) for name in ("alice", "bob")]
        here, there = await self.open_pair(alice, bob)
        for start in range(0, 2000, 20):
            wanted = {b"%d" % number for number in range(start, start + 20)}
            for payload in wanted:
                await here.write(payload)
            for _ in wanted:
                await there.write(await soon(there.read()))
            self.assertEqual({await soon(here.read()) for _ in wanted}, wanted)

    async def test_wrong_token(self) -> None:
        """By either transport another secret, an old token or none lets nobody in, and puts nobody out."""
        url = self.start_tls()
        alice = await self.connect("alice", url, TransportMode.WS, tokens())
        wrong = {"another": tokens("another"), "old": tokens(seconds=-600), "none": None}
        for mode in (TransportMode.WS, TransportMode.QUIC):
            for name, source in wrong.items():
                with self.assertRaises(RelayConnectFailed, msg=f"{name} by {mode}"):
                    await soon(self.client("alice", url, mode, source).connect())
        self.assertTrue(alice.is_connected)
        self.assertEqual(self.daemon.metric('meshrelay_relay_closes_total{reason="bad_token"}'), 6)
        for peer in ("ws", "quic"):
            self.assertEqual(self.daemon.metric(f'relay_peers{{transport="{peer}"}}'), int(peer == "ws"))

    async def test_unknown_authority(self) -> None:
        """A certificate of an authority that the client does not know is refused over either transport."""
        # aioquic says it on standard error too, where nobody listens to its log.
        quiet = logging.NullHandler()
        logging.getLogger("quic").addHandler(quiet)
        self.addCleanup(logging.getLogger("quic").removeHandler, quiet)
        url = self.start_tls()
        stranger = self.directory / "stranger"
        stranger.mkdir()
        self.certificates = make_certificates(stranger)
        for mode in (TransportMode.WS, TransportMode.QUIC):
            with self.assertRaises(RelayConnectFailed):
                await soon(self.client("alice", url, mode, tokens()).connect())


class PeerTests(RelayCase):
    """Peers that come and go."""

    async def test_eviction(self) -> None:
        """By either transport who connects with a name that is in use takes it over; the older one can take it back."""
        url = self.start_tls()
        for mode in (TransportMode.WS, TransportMode.QUIC):
            older = await self.connect("alice", url, mode, tokens())
            bob = await self.connect("bob", url, mode, tokens())
            conn, _ = await self.open_pair(older, bob)
            newer = await self.connect("alice", url, mode, tokens())
            await until(lambda conn=conn: conn.is_closed)  # type: ignore[misc]
            self.assertFalse(older.is_connected)
            with self.assertRaises(RelayClientNotConnected):
                await older.open_conn("bob")
            await soon(older.connect())
            await until(lambda newer=newer: not newer.is_connected)  # type: ignore[misc]
            await soon(gatherResults([older.close(), bob.close()]))
        self.assertEqual(self.daemon.metric("relay_peer_reconnections_total"), 4)

    async def test_messages_after_eviction(self) -> None:
        """The newer connection has the messages of those who had opened the name before; they notice nothing."""
        url = self.url(self.start())
        older, bob = [await self.connect(name, url) for name in ("alice", "bob")]
        _, conn = await self.open_pair(older, bob)
        newer = await self.connect("alice", url)
        await until(lambda: not older.is_connected)
        self.assertFalse(conn.is_closed)
        await conn.write(b"to whoever is alice")
        self.assertEqual(await soon((await soon(newer.open_conn("bob"))).read()), b"to whoever is alice")

    async def test_peer_goes(self) -> None:
        """By either transport a peer's connections end when it goes; when it is back it can be opened again."""
        url = self.start_tls()
        for mode in (TransportMode.WS, TransportMode.QUIC):
            alice, bob = [await self.connect(name, url, mode, tokens()) for name in ("alice", "bob")]
            here, _ = await self.open_pair(alice, bob)
            reading = here.read()
            await soon(bob.close())
            with self.assertRaises(ConnClosed):
                await soon(reading)
            with self.assertRaises(OpenTimedOut):
                await alice.open_conn("bob", 0.2)
            await soon(bob.connect())
            ends = await self.open_pair(alice, bob)
            self.assertEqual(await echo(*ends, b"again"), b"again")
            await soon(alice.close())
            await soon(bob.close())

    async def test_waiting(self) -> None:
        """A peer can be opened before it is there, and what it says before it is opened is not lost."""
        url = self.url(self.start())
        alice = await self.connect("alice", url)
        opened = alice.open_conn("bob")
        bob = await self.connect("bob", url)
        await (await soon(opened)).write(b"early")
        self.assertEqual(await soon((await soon(bob.open_conn("alice"))).read()), b"early")


class RestartTests(RelayCase):
    """Daemons that end, and come back on the same port."""

    def start_at(self, relay: dict[str, Any]) -> Daemon:
        """A daemon that the test may kill."""
        daemon = Daemon({"relay": relay}).__enter__()
        self.addCleanup(self.end, daemon)
        return daemon

    def end(self, daemon: Daemon) -> None:
        """Expect a clean exit, if it was not killed."""
        assert daemon.process is not None
        if daemon.process.poll() == -signal.SIGKILL:
            daemon.process.returncode = 0
        daemon.__exit__(None, None, None)

    async def check(self, url: str, relay: dict[str, Any], mode: TransportMode, *how: signal.Signals) -> None:
        """End daemons one after the other; two managers are lost and back each time."""
        daemon = await deferToThread(self.start_at, relay)
        alice, bob = self.manager("alice", url, transport=mode), self.manager("bob", url, transport=mode)
        self.assertEqual(await soon(gatherResults([alice.serve(), bob.serve()])), [url, url])
        told: list[str] = []
        alice.on_reconnected(lambda: told.append("alice back"))
        bob.on_reconnected(lambda: told.append("bob back"))
        for number in how:
            told.clear()
            alice.add_close_listener(url, lambda: told.append("alice lost"))
            bob.add_close_listener(url, lambda: told.append("bob lost"))
            here, there = await self.open_both(alice, bob, url)
            self.assertEqual(await echo(here, there, b"before"), b"before")
            assert daemon.process is not None
            daemon.process.send_signal(number)
            await deferToThread(daemon.process.wait)
            ends = (here, there)
            await until(lambda ends=ends: all(end.is_closed for end in ends), NOTICED_SECONDS)  # type: ignore[misc]
            daemon = await deferToThread(self.start_at, relay)
            await until(lambda: alice.is_ready and bob.is_ready)
            self.assertEqual(sorted(told), ["alice back", "alice lost", "bob back", "bob lost"])
        here, there = await self.open_both(alice, bob, url)
        self.assertEqual(await echo(here, there, b"after all"), b"after all")

    async def test_websocket(self) -> None:
        """A daemon that stops, or is killed, has its peers again when it is back, and they can be opened anew."""
        port = free_port()
        relay = {"listen": f"tcp:{port}:interface=127.0.0.1"}
        await self.check(f"rel://127.0.0.1:{port}", relay, TransportMode.WS, signal.SIGTERM, signal.SIGKILL)

    async def test_quic(self) -> None:
        """The same by QUIC with a daemon that stops."""
        relay, port = self.tls_relay()
        del relay["secret_file"]
        await self.check(f"rels://127.0.0.1:{port}", relay, TransportMode.QUIC, signal.SIGTERM)


class ManagerTests(RelayCase):
    """Home and foreign relays."""

    async def test_foreign(self) -> None:
        """Peers of two relays meet at the home of one; it is left when unused, and missed when it goes."""
        home, far = self.start(), self.start()
        alice = self.manager("alice", self.url(home), cleanup_seconds=0.1, cleanup_age_seconds=0.1)
        bob = self.manager("bob", self.url(far))
        await soon(gatherResults([alice.serve(), bob.serve()]))
        place = bob.relay_instance_address
        here, there = await self.open_both(alice, bob, place.url)
        for ends in ((here, there), (there, here)):
            self.assertEqual(await echo(*ends, b"from afar"), b"from afar")
        self.assertEqual([state.url for state in alice.relay_states()], [self.url(home), place.url])
        here.close()
        await until(lambda: there.is_closed)
        self.assertEqual([state.url for state in alice.relay_states()], [self.url(home)])

        lost: list[str] = []
        here = await soon(alice.open_conn(place.url, "bob", place.server_ip))
        alice.add_close_listener(place.url, lambda: lost.append(place.url))
        self.assertEqual(await deferToThread(far.terminate), 0)
        await until(lambda: here.is_closed and lost)
        self.assertEqual((lost, alice.is_ready, bob.is_ready), ([place.url], True, False))

    async def test_pick(self) -> None:
        """Of servers that are not there, do not take the token, and do, the last becomes home."""
        strict, easy = self.start({"secret_file": self.secret_file()}), self.start()
        manager = self.manager("alice", f"rel://127.0.0.1:{free_port()}", self.url(strict), self.url(easy))
        self.assertEqual(await soon(manager.serve()), self.url(easy))


class ClusterTests(RelayCase):
    """Two linked nodes under one address, as behind a load balancer."""

    ADDRESS = "rel://relay.example:33080"

    def setUp(self) -> None:
        super().setUp()
        relay = {"exposed_address": self.ADDRESS}
        mesh = {"listen": TCP, "insecure": True}
        self.first = self.start(relay, node={"id": "first"}, mesh=mesh)
        directory = f"pb:{self.first.places['mesh']}"
        self.second = self.start(relay, node={"id": "second"}, mesh={**mesh, "directory": directory})

    async def test_one_relay(self) -> None:
        """Peers of both nodes are at home at the same relay, reach each other, and see each other come and go."""
        alice, bob = self.manager("alice", self.url(self.first)), self.manager("bob", self.url(self.second))
        self.assertEqual(await soon(gatherResults([alice.serve(), bob.serve()])), [self.ADDRESS] * 2)
        here, there = await self.open_both(alice, bob, self.ADDRESS)
        for ends in ((here, there), (there, here)):
            for size in (0, 1, 1000, 8782):
                payload = os.urandom(size)
                self.assertEqual(await echo(*ends, payload), payload)
        await soon(bob.close())
        await until(lambda: here.is_closed)
        # Now of the same node as alice.
        bob = self.manager("bob", self.url(self.first))
        await soon(bob.serve())
        here, there = await self.open_both(alice, bob, self.ADDRESS)
        self.assertEqual(await echo(here, there, b"near"), b"near")

    async def test_take_over(self) -> None:
        """Who connects to the other node with a name that is in use takes it over, and has its messages."""
        older = await self.connect("carol", self.url(self.first))
        newer = await self.connect("carol", self.url(self.second))
        await until(lambda: not older.is_connected)
        self.assertTrue(newer.is_connected)
        dave = await self.connect("dave", self.url(self.first))
        conn = await soon(dave.open_conn("carol"))
        await conn.write(b"over there")
        self.assertEqual(await soon((await soon(newer.open_conn("dave"))).read()), b"over there")


class SlowPeerTests(RelayCase):
    """A peer whose socket is not read, and two pairs beside it, one of which has its sender."""

    async def sign_in(self, name: str, mode: TransportMode, opener: Any = dial) -> RelayClient:
        """A client with a token."""
        return await self.connect(name, self.where, mode, tokens(), opener)

    async def set_up(self, mode: TransportMode) -> None:
        """Connect all, and open what they need; everybody reads yet."""
        self.where = self.start_tls()
        links = Links()
        slow = await self.sign_in("slow", mode, links)
        alice, bob, carol = [await self.sign_in(name, mode) for name in ("alice", "bob", "carol")]
        self.to_slow = await soon(alice.open_conn("slow"))
        self.sink = Sink()
        (await soon(slow.open_conn("alice"))).attach(self.sink)
        self.link = links.links[0]
        #: Pairs of ends; bob is the second of both.
        self.others = [
            (await soon(sender.open_conn("bob")), await soon(bob.open_conn(name)))
            for sender, name in ((alice, "alice"), (carol, "carol"))
        ]

    async def flood(self, size: int, count: int) -> list[float]:
        """Send so many messages to the slow peer, and as many to others, all of which must arrive.

        :returns: how long each run of messages took, until the others had theirs.
        """
        felt = []
        for start in range(0, count, 20):
            began = reactor.seconds()
            for number in range(start, start + 20):
                await self.to_slow.write(b"%8d" % number + bytes(size - 8))
            for here, there in self.others:
                for number in range(start, start + 10):
                    await here.write(b"%8d" % number + bytes(size - 8))
                numbers = {int((await soon(there.read()))[:8]) for _ in range(10)}
                self.assertEqual(numbers, set(range(start, start + 10)))
            felt.append(reactor.seconds() - began)
        return felt

    async def check_flood(self, size: int, count: int) -> None:
        """What is promised of a peer that does not read."""
        before = self.daemon.memory_bytes()
        felt = await self.flood(size, count)
        self.assertLess(statistics.median(felt), FELT_SECONDS)
        self.assertLess(max(felt), WORST_SECONDS)
        self.assertLess(self.daemon.memory_bytes() - before, 8 * MIB)
        self.assertGreater(self.dropped(), count / 4)

    def dropped(self) -> float:
        """Messages that the daemon has dropped because their receiver was slow."""
        return self.daemon.metric('meshrelay_relay_dropped_total{reason="slow"}')

    async def test_websocket(self) -> None:
        """Its messages are dropped and counted, little is kept, others feel nothing; what was kept is whole."""
        await self.set_up(TransportMode.WS)
        self.link.transport.pauseProducing()
        await self.check_flood(8000, 3000)
        self.link.transport.resumeProducing()
        await until(lambda: len(self.sink.messages) + self.dropped() == 3000)
        numbers = [int(message[:8]) for message in self.sink.messages]
        self.assertEqual(numbers, sorted(numbers))
        self.assertEqual({len(message) for message in self.sink.messages}, {8000})
        await self.to_slow.write(b"going on")
        await until(lambda: self.sink.messages[-1] == b"going on")

    async def test_quic(self) -> None:
        """The same by QUIC, where some may be lost on the way as well."""
        await self.set_up(TransportMode.QUIC)
        self.link.transport.stopReading()
        await self.check_flood(1000, 2000)
        self.link.transport.startReading()
        deadline = reactor.seconds() + PATIENCE_SECONDS
        while b"going on" not in self.sink.messages:
            self.assertLess(reactor.seconds(), deadline)
            await self.to_slow.write(b"going on")
            await deferLater(reactor, 0.1)


class CommandTests(RelayCase):
    """``meshrelay relay``."""

    def run_command(self, *arguments: str, data: bytes = b"") -> Deferred[subprocess.CompletedProcess[bytes]]:
        """Run it until it ends."""
        command = [sys.executable, "-W", "error", "-c", "from meshrelay.cli import main; main()", "relay", *arguments]
        return deferToThread(
            subprocess.run, command, cwd=ROOT, input=data, capture_output=True, timeout=120, check=False
        )

    async def test_token(self) -> None:
        """Either form of a token of the command lets a peer in; one of another secret does not."""
        secret_file = self.secret_file()
        daemon = self.start({"secret_file": secret_file})
        other = str(self.directory / "other")
        plain, as_json, wrong = await gatherResults(
            [
                self.run_command("token", "--secret-file", secret_file),
                self.run_command("token", "--secret-file", secret_file, "--json"),
                self.run_command("token", "--new-secret", other),
            ]
        )
        self.assertEqual([done.returncode for done in (plain, as_json, wrong)], [0, 0, 0])
        good = (bytes.fromhex(plain.stdout.decode()), RelayToken(**json.loads(as_json.stdout)))
        for token in good:
            client = await self.connect("alice", self.url(daemon), source=TokenStore(token))
            await soon(client.close())
        with self.assertRaises(RelayConnectFailed):
            await self.connect("alice", self.url(daemon), source=TokenStore(bytes.fromhex(wrong.stdout.decode())))

    async def test_pipe(self) -> None:
        """Five megabytes go each way at once, unchanged, and both ends are done without a word."""
        url = self.start_tls()
        there, back = os.urandom(5_000_000), os.urandom(5_000_000)
        token_file = self.directory / "token"
        token_file.write_bytes((await self.run_command("token", "--secret-file", self.secret_file())).stdout)
        common = ("pipe", "--server", url, "--ca-file", str(self.certificates.authority))
        first, second = await gatherResults(
            [
                self.run_command(*common, "--peer", "a", "--to", "b", "--secret-file", self.secret_file(), data=there),
                self.run_command(*common, "--peer", "b", "--to", "a", "--token-file", str(token_file), data=back),
            ]
        )
        for done in (first, second):
            self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertTrue(first.stdout == back and second.stdout == there)
        await until(lambda: self.daemon.metric("meshrelay_relay_connections") == 0)
        self.assertEqual(self.daemon.metric('meshrelay_relay_closes_total{reason="peer_closed"}'), 2)
