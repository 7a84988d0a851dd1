"""The client library and the chat-like commands against a real daemon."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import textwrap
import time
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, TypeVar

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from meshrelay.client import (
    Client,
    ClientOptions,
    Connected,
    ConnectFailed,
    Disconnected,
    Event,
    GroupMessageReceived,
    SignInRefused,
)
from meshrelay.client.connector import LinkOpener
from meshrelay.client.links import open_link
from meshrelay.errors import GroupNotFound, MessageTooLarge, UnknownCommand
from tests.integration.cluster import free_port
from tests.integration.daemon import ROOT, Daemon

reactor: Any = global_reactor

E = TypeVar("E", bound=Event)

#: Longest wait for anything that must happen.
PATIENCE_SECONDS = 60.0


def _urls(daemon: Daemon) -> dict[str, str]:
    return {
        "tcp": f"tcp://{daemon.places['tcp']}",
        "websocket": f"ws://{daemon.places['websocket']}/",
        "udp": f"udp+http://{daemon.places['http']}",
    }


def next_events(client: Client, event_class: type[E], count: int = 1) -> Deferred[list[E]]:
    """Fire with the next so many events of that class."""
    heard: list[E] = []
    done: Deferred[list[E]] = Deferred()

    def hear(event: E) -> None:
        heard.append(event)
        if len(heard) == count:
            remove()
            done.callback(heard)

    remove = client.on(event_class, hear)
    return done.addTimeout(PATIENCE_SECONDS, reactor)


class Breaker:
    """Opens links as usual, and can break the newest one without a word to the node's session."""

    def __init__(self) -> None:
        self.links: list[Any] = []
        self.receivers: list[Any] = []

    @property
    def opener(self) -> LinkOpener:
        def open_and_remember(*arguments: Any) -> Any:
            self.receivers.append(arguments[2])
            return open_link(*arguments).addCallback(self._remember)

        return open_and_remember

    def _remember(self, opened: Any) -> Any:
        self.links.append(opened[0])
        return opened

    def break_newest(self) -> None:
        self.links[-1].abort()
        self.receivers[-1].link_lost(None, "broken by the test")


class DaemonCase(TestCase):
    """A daemon for each test."""

    timeout = 240

    def setUp(self) -> None:
        self.start()

    def start(self, config: dict[str, dict[str, Any]] | None = None) -> None:
        """Start the daemon."""
        self.daemon = Daemon(config)
        self.daemon.__enter__()
        self.addCleanup(lambda: self.daemon.__exit__(None, None, None))
        self.urls = _urls(self.daemon)

    async def connect(self, transport: str, user: str, **changes: Any) -> Client:
        """A client that is signed in and closed at the end of the test."""
        client = Client(reactor, self.urls[transport], user, **changes)
        self.addCleanup(client.close)
        await client.connect()
        return client


class TransportTests(DaemonCase):
    """The same over each transport."""

    async def test_three_transports_in_one_group(self) -> None:
        """A TCP, a WebSocket and a UDP client in one group each receive what the others broadcast, in order."""
        clients = {name: await self.connect(name, name) for name in self.urls}
        group_id = await clients["tcp"].create_group()
        await clients["websocket"].join_group(group_id, b"hello")
        await clients["udp"].join_group(group_id, b"hello")
        waiting = {name: next_events(client, GroupMessageReceived, 40) for name, client in clients.items()}
        for number in range(20):
            for client in clients.values():
                await client.broadcast(group_id, str(number).encode())
        for name, done in waiting.items():
            events = await done
            for sender in set(clients) - {name}:
                messages = [int(event.message) for event in events if event.user_id == sender]
                self.assertEqual(messages, list(range(20)), f"{sender} to {name}")

    async def test_commands(self) -> None:
        """Every group command and PING work over each transport, results and errors typed."""
        for name in self.urls:
            client = await self.connect(name, f"user-{name}")
            self.assertTrue(0 <= await client.ping() < 5, name)
            group_id = await client.create_group(ttl_seconds=60)
            self.assertEqual(await client.list_groups(), [group_id], name)
            await client.leave_group(group_id)
            await self.assertFailure(client.join_group(group_id), GroupNotFound)
            await self.assertFailure(client.request(200, 1, b"x"), UnknownCommand)
            created, random_id = await client.join_random_group(ttl_seconds=60)
            self.assertEqual((created, len(random_id)), (True, 52), name)
            await client.close()

    async def test_large_messages(self) -> None:
        """The largest message passes; one byte more is refused here, and the connection lives."""
        ann, bob = await self.connect("tcp", "ann"), await self.connect("websocket", "bob")
        group_id = await ann.create_group()
        await bob.join_group(group_id)
        for sender, receiver in ((ann, bob), (bob, ann)):
            heard = next_events(receiver, GroupMessageReceived)
            message = bytes(range(256)) * 255
            await sender.broadcast(group_id, message)
            self.assertEqual((await heard)[0].message, message)
            await self.assertFailure(sender.broadcast(group_id, bytes(65536 - 52 + 1)), MessageTooLarge)
            await sender.ping()

    async def test_many_requests_at_once(self) -> None:
        """Thousands of requests in one turn all get their own answers."""
        for name in ("tcp", "websocket"):
            client = await self.connect(name, f"user-{name}")
            payloads = [str(number).encode() for number in range(3000)]
            answers = await gatherResults([client.request(0, 2, payload) for payload in payloads])
            self.assertEqual(answers, payloads, name)

    async def test_same_user_elsewhere(self) -> None:
        """A newer sign-in of the same user takes over; the older client hears why and stays away."""
        for name in self.urls:
            older = await self.connect(name, "ann")
            gone = next_events(older, Disconnected)
            newer = await self.connect("tcp", "ann")
            [event] = await gone
            self.assertEqual((event.code, event.will_retry), (4500, False), name)
            self.assertFalse(older.is_connected)
            await newer.close()


class ResumeTests(DaemonCase):
    """After a break."""

    async def _break(self, transport: str) -> tuple[Connected, list[bytes], list[bytes]]:
        """Break one member's connection while another one sends; return how it came back and what it received."""
        breaker = Breaker()
        options = ClientOptions(retry_base_seconds=0.3, uniform=lambda low, high: high)
        ann = await self.connect(transport, "ann", options=options, opener=breaker.opener)
        bob = await self.connect("tcp", "bob")
        group_id = await ann.create_group()
        await bob.join_group(group_id)
        received: list[bytes] = []
        ann.on(GroupMessageReceived, lambda event: received.append(event.message))
        sent = [str(number).encode() for number in range(300)]
        back = next_events(ann, Connected)
        for number, message in enumerate(sent):
            await bob.broadcast(group_id, message)
            if number == 150:
                breaker.break_newest()
        [connected] = await back
        await ann.ping()
        await bob.broadcast(group_id, b"end")
        await deferLater(reactor, 0.2)
        self.assertEqual(await ann.list_groups(), [group_id])
        return connected, received, [*sent, b"end"]

    async def _nothing_is_lost(self, transport: str) -> None:
        connected, received, sent = await self._break(transport)
        self.assertEqual((connected.resumed, connected.recovered), (True, True))
        self.assertEqual(received, sent)

    async def test_tcp(self) -> None:
        """A break in the middle of a stream of messages loses nothing, doubles nothing, reorders nothing."""
        await self._nothing_is_lost("tcp")

    async def test_websocket(self) -> None:
        """So over WebSocket."""
        await self._nothing_is_lost("websocket")

    async def test_udp(self) -> None:
        """So over UDP."""
        await self._nothing_is_lost("udp")


class StopTests(DaemonCase):
    """A daemon that stops."""

    def setUp(self) -> None:
        # A client that tries again and again may be given a port of the kernel's choice itself.
        self.start({"listen": {"tcp": f"tcp:{free_port()}:interface=127.0.0.1"}})

    async def test_draining(self) -> None:
        """When the node stops, clients are told to come back, and do when it is there again."""
        client = await self.connect("tcp", "ann", options=ClientOptions(retry_base_seconds=0.1, retry_cap_seconds=0.3))
        gone = next_events(client, Disconnected)
        assert self.daemon.process is not None
        self.daemon.process.send_signal(signal.SIGTERM)
        [event] = await gone
        self.assertEqual((event.code, event.will_retry), (4000, True))
        back = next_events(client, Connected)
        port = self.daemon.places["tcp"]
        while self.daemon.process.poll() is None:
            await deferLater(reactor, 0.05)
        place = "tcp:{1}:interface={0}".format(*port.rsplit(":", 1))
        with Daemon({"listen": {"tcp": place}}):
            [connected] = await back
            self.assertFalse(connected.resumed)
            await client.close()

    async def test_nobody_there(self) -> None:
        """A node that is not there is named in a clear error, over each transport."""
        self.daemon.terminate()
        for name, url in self.urls.items():
            error = await self.assertFailure(Client(reactor, url, "ann").connect(), ConnectFailed)
            self.assertIn(url, str(error), name)


class TokenTests(DaemonCase):
    """Signing in with a token."""

    def setUp(self) -> None:
        secret = Path(self.mktemp()).absolute()
        secret.write_text("s" * 64)
        config = {"auth": {"mode": "token", "secret_file": str(secret)}}
        self.token = jwt.encode({"sub": "ann", "exp": time.time() + 60}, "s" * 64, "HS256")
        self.start(config)

    async def test_good_and_bad(self) -> None:
        """A good token signs in, from a function too; a bad one is refused as such, over each transport."""
        for name in self.urls:
            client = await self.connect(name, "ann", token=lambda: self.token)
            await client.ping()
            self.assertEqual((await client.connect()).user_id, "ann")
            await client.close()
            refused = Client(reactor, self.urls[name], "ann", token="nonsense").connect()
            await self.assertFailure(refused, SignInRefused)

    async def test_token_names_the_user(self) -> None:
        """On a stream the token alone says who one is."""
        for name in ("tcp", "websocket"):
            client = Client(reactor, self.urls[name], token=self.token)
            self.addCleanup(client.close)
            self.assertEqual((await client.connect()).user_id, "ann", name)
            await client.close()


def _self_signed(directory: Path) -> tuple[Path, Path]:
    """A key and a certificate for 127.0.0.1 and localhost, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    directory.mkdir()
    (directory / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (directory / "certificate.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    return directory / "key.pem", directory / "certificate.pem"


class TlsTests(DaemonCase):
    """TLS on each transport."""

    def setUp(self) -> None:
        key, certificate = _self_signed(Path(self.mktemp()).absolute())
        place = f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={certificate}"
        self.start({"listen": {"tcp": place, "websocket": place, "http": place}})
        self.urls = {
            "tcp": f"tls://{self.daemon.places['tcp']}",
            "websocket": f"wss://{self.daemon.places['websocket']}/",
            "udp": f"udp+https://{self.daemon.places['http']}",
        }
        self.trust = trustRootFromCertificates([Certificate.loadPEM(certificate.read_bytes())])

    async def test_trusted(self) -> None:
        """With the node's certificate trusted all works, large messages too, by address and by name."""
        for name, url in list(self.urls.items()):
            for place in (url, url.replace("127.0.0.1", "localhost")):
                self.urls[name] = place
                client = await self.connect(name, "ann", options=ClientOptions(trust_root=self.trust))
                await self.assertFailure(client.request(200, 1, bytes(60000)), UnknownCommand)
                await client.close()

    async def test_not_trusted(self) -> None:
        """A certificate that nobody vouches for is refused, over each transport."""
        for name, url in self.urls.items():
            error = await self.assertFailure(Client(reactor, url, "ann").connect(), ConnectFailed)
            self.assertIn("certificate verify failed", str(error), name)


_AIO = """
    import asyncio, sys
    from meshrelay.client import aio, GroupMessageReceived, Disconnected

    async def main(url, other):
        # Warnings are errors here, and a busy machine is not a fault of the program.
        asyncio.get_running_loop().slow_callback_duration = 5
        async with aio.Client(url, "ann") as ann, aio.Client(other, "bob") as bob:
            group_id = await ann.create_group()
            events = bob.events()
            await bob.join_group(group_id)
            await ann.broadcast(group_id, b"hello")
            event = await asyncio.wait_for(anext(events), 30)
            assert event == GroupMessageReceived(group_id, "ann", b"hello"), event
            for number in range(100):
                ann.broadcast_nowait(group_id, str(number).encode())
            for number in range(100):
                event = await asyncio.wait_for(anext(events), 30)
                assert event.message == str(number).encode(), event
            try:
                await ann.join_group("x" * 52)
            except Exception as error:
                assert type(error).__name__ == "GroupNotFound"
        left = [event async for event in events]
        assert isinstance(left[-1], Disconnected), left
        assert asyncio.get_running_loop().is_running()

    for _ in range(2):
        asyncio.run(main(sys.argv[1], sys.argv[2]), debug=True)
    print("done")
"""


class AsyncioTests(DaemonCase):
    """asyncio programs, each in a process of its own because the reactor is one of a process."""

    def test_programs(self) -> None:
        """asyncio.run works, twice in one process, over each transport, and the process ends."""
        localhost = {name: url.replace("127.0.0.1", "localhost") for name, url in self.urls.items()}
        for one, two in (("tcp", "websocket"), ("websocket", "udp"), ("udp", "tcp")):
            done = subprocess.run(
                [sys.executable, "-W", "error", "-c", textwrap.dedent(_AIO), localhost[one], localhost[two]],
                capture_output=True,
                timeout=120,
                check=False,
                env={"PYTHONPATH": str(ROOT), "PYTHONDEVMODE": "1"},
            )
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"done\n", b""), (one, two))


def _command(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", "from meshrelay.cli import main; main()", name, *arguments]


class CommandTests(DaemonCase):
    """The commands of a terminal."""

    def run_command(self, name: str, *arguments: str, text: str = "") -> tuple[int, str, str]:
        """Exit status, output and errors."""
        done = subprocess.run(
            _command(name, *arguments), input=text, text=True, capture_output=True, timeout=120, cwd=ROOT, check=False
        )
        return done.returncode, done.stdout, done.stderr

    def start_command(self, name: str, *arguments: str) -> subprocess.Popen[str]:
        """A command that runs beside the test."""
        process = subprocess.Popen(
            _command(name, *arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
            cwd=ROOT,
        )

        def clean_up() -> None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                assert stream is not None
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

        self.addCleanup(clean_up)
        return process

    def _read_until(self, process: subprocess.Popen[str], words: str) -> str:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if words in line:
                return line
        raise AssertionError(f"no {words!r} in {lines}")

    def test_chat(self) -> None:
        """Two terminals on a fresh daemon talk to each other; Ctrl-C and the end of input end them cleanly."""
        ann = self.start_command("chat", "--group", "lobby", "--user", "ann", "--url", self.urls["tcp"])
        self._read_until(ann, "in group")
        bob = self.start_command("chat", "--group", "lobby", "--user", "bob", "--url", self.urls["websocket"])
        self._read_until(bob, "in group")
        self._read_until(ann, "bob joined")
        assert ann.stdin is not None
        assert bob.stdin is not None
        ann.stdin.write("hello bob\n")
        self.assertEqual(self._read_until(bob, "hello"), "ann: hello bob\n")
        bob.stdin.write("hello ann\n")
        self.assertEqual(self._read_until(ann, "hello"), "bob: hello ann\n")
        bob.stdin.close()
        self._read_until(ann, "bob left")
        self.assertEqual(bob.wait(PATIENCE_SECONDS), 0)
        ann.send_signal(signal.SIGINT)
        self.assertEqual(ann.wait(PATIENCE_SECONDS), 0)

    def test_send_and_listen(self) -> None:
        """What send says listen prints, from arguments and from standard input."""
        listener = self.start_command("listen", "--group", "lobby", "--json", "--count", "3", "--url", self.urls["tcp"])
        self._read_until(listener, "listening in group")
        send = ("send", "--group", "lobby", "--user", "ann", "--url", self.urls["udp"])
        self.assertEqual(self.run_command(*send, "one", "two"), (0, "", ""))
        self.assertEqual(self.run_command(*send, "-", text="three\nfour"), (0, "", ""))
        output, _ = listener.communicate(timeout=PATIENCE_SECONDS)
        messages = [json.loads(line)["message"] for line in output.splitlines()]
        self.assertEqual((messages, listener.returncode), (["one two", "three", "four"], 0))

    def test_ping(self) -> None:
        """ping prints round trips over each transport."""
        for name, url in self.urls.items():
            status, output, errors = self.run_command("ping", "--count", "2", "--interval", "0", "--url", url)
            self.assertEqual((status, errors), (0, ""), name)
            self.assertIn("2 sent, 2 answered, 0% lost", output, name)

    def test_nobody_there(self) -> None:
        """Each command ends with status 1 and one clear line when the node cannot be reached."""
        self.daemon.terminate()
        url = self.urls["tcp"]
        for name, arguments in {
            "ping": (),
            "chat": ("--group", "lobby"),
            "listen": ("--group", "lobby"),
            "send": ("--group", "lobby", "hi"),
        }.items():
            status, output, errors = self.run_command(name, "--url", url, *arguments)
            self.assertEqual((status, output), (1, ""), name)
            self.assertEqual(errors.count("\n"), 1, errors)
            self.assertIn(f"cannot connect to {url}", errors)
