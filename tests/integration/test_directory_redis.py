"""The directory on real Redis servers: the contract, and everything that can happen to a server under load."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from meshrelay.directory.errors import DirectoryUnavailable
from meshrelay.directory.interfaces import IDirectory
from meshrelay.directory.options import DirectoryOptions
from meshrelay.directory.redis import RedisDirectory, open_redis_directory
from meshrelay.directory.redis_dial import TlsMaker
from meshrelay.errors import MeshError
from meshrelay.testing.directory_contract import (
    CONTRACT_MAX_NODES,
    DirectoryContract,
    make_node_record,
    make_user_record,
)
from tests.integration.cluster import free_port

MISSING = ""
if shutil.which("redis-server") is None:
    MISSING = "missing: redis-server"
elif find_spec("txredisapi") is None:
    MISSING = "missing: txredisapi"

START_SECONDS = 60.0
#: Everything is registered again by then, whatever happened.
HEAL_SECONDS = 30.0

#: A call that fails does so by then: two seconds are promised, to a machine that is not busy.
FAIL_SECONDS = 6.0

#: For calls that must succeed, however busy the machine is. Nobody renews a lease here.
PATIENT = DirectoryOptions(deadline_seconds=30.0, lease_seconds=300.0)

#: For those that must not.
PROMPT = DirectoryOptions(lease_seconds=300.0)

PASSWORD = "correct horse"


class RedisProcess:
    """One redis-server in a directory of its own, until `kill`.

    :param options: of the command line.
    :param config: lines of a file that Redis may write to, which Sentinel asks for.
    """

    def __init__(self, options: Iterable[str] = (), config: str = "") -> None:
        # It cannot be told to choose one.
        self.port = free_port()
        self._folder = tempfile.mkdtemp(prefix="redis-")
        self._options = [option.replace("PORT", str(self.port)) for option in options]
        self._config = config
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, again after `kill`, on the same port and without its data."""
        command = ["redis-server"]
        if self._config:
            path = Path(self._folder) / "redis.conf"
            path.write_text(f"port {self.port}\nbind 127.0.0.1\ndir {self._folder}\n{self._config}")
            command += [str(path), *self._options]
        else:
            defaults = ["--port", str(self.port)] if "--tls-port" not in self._options else ["--port", "0"]
            command += [*defaults, "--bind", "127.0.0.1", "--dir", self._folder, "--save", "", *self._options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
                return
            except OSError:
                time.sleep(0.02)
        self.kill()
        raise AssertionError("redis-server did not start")

    def tell(self, *lines: str) -> str:
        """Run commands and return what is answered."""
        command = ["redis-cli", "-p", str(self.port)]
        done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, timeout=60, check=True)
        return done.stdout

    def send_signal(self, number: signal.Signals) -> None:
        """SIGSTOP and SIGCONT."""
        assert self.process is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """Take it away without a word."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def remove(self) -> None:
        """Take it away with its files."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


class RedisCase(TestCase):
    """A case with servers and directories that end with it."""

    timeout = 180
    skip = MISSING or None

    def server(self, options: Iterable[str] = (), config: str = "") -> RedisProcess:
        """Start a server."""
        server = RedisProcess(options, config)
        self.addCleanup(server.remove)
        return server

    def directory(self, url: str, options: DirectoryOptions = PATIENT, tls: TlsMaker | None = None) -> RedisDirectory:
        """Make a directory; it is stopped before the servers are."""
        directory = open_redis_directory(reactor, url, "test", random.Random(), options, tls)
        self.addCleanup(directory.stop)
        return directory

    async def pause(self, seconds: float) -> None:
        """Let time pass."""
        await deferLater(reactor, seconds)

    async def until(self, question: Callable[[], Coroutine[Any, Any, bool]], what: str) -> float:
        """Ask until the answer is yes; returns the seconds that it took, at most `HEAL_SECONDS`."""
        start = time.monotonic()
        while time.monotonic() - start < HEAL_SECONDS:
            try:
                if await question():
                    return time.monotonic() - start
            except DirectoryUnavailable:
                pass
            await self.pause(0.05)
        raise AssertionError(f"{what}: not within {HEAL_SECONDS} seconds")

    async def is_heard(self, directory: RedisDirectory) -> bool:
        """Whether a message goes through the directory."""
        await directory.loopback("token")
        return True

    async def unavailable(self, awaitable: Deferred[Any]) -> tuple[DirectoryUnavailable, float]:
        """Wait for the failure; returns it and the seconds that it took."""
        start = time.monotonic()
        try:
            result = await awaitable
        except DirectoryUnavailable as error:
            return error, time.monotonic() - start
        raise AssertionError(f"{result!r} instead of DirectoryUnavailable")


class RedisContractTests(DirectoryContract, RedisCase):
    """The Redis directory keeps the promises of all directories."""

    def setUp(self) -> None:
        """A server for the test."""
        self.redis = self.server()

    async def open_directory(self) -> IDirectory:
        """Each node has connections of its own."""
        options = replace(PATIENT, lease_seconds=2.0, check_seconds=0.1, max_nodes=CONTRACT_MAX_NODES)
        return self.directory(f"redis://127.0.0.1:{self.redis.port}/3", options)

    async def pass_a_lease(self) -> None:
        """Wait."""
        await self.pause(2.1)

    async def pass_half_a_lease(self) -> None:
        """Wait."""
        await self.pause(1.1)

    async def lose_data(self, directory: IDirectory) -> None:
        """Wipe the server."""
        self.redis.tell("FLUSHALL")
        await self.pause(0.3)


class Node:
    """A node as far as the directory sees one: registers, renews, and says everything again when data were lost.

    :param count: of its users, and of its groups.
    """

    def __init__(self, directory: RedisDirectory, name: str, count: int) -> None:
        self.directory = directory
        self.record = make_node_record(name)
        self.users = [make_user_record(f"{name}-{number}", node_id=name) for number in range(count)]
        self.groups = [(f"{number:052}", b"settings") for number in range(count)]
        self.refreshed = 0
        directory.watch_lost(lambda: Deferred.fromCoroutine(self.say_everything()))

    async def say_everything(self) -> None:
        """What a node does at start, and when it is told that data were lost."""
        try:
            await self.directory.register_node(self.record)
            await self.directory.refresh(self.record.node_id, self.users, self.groups)
        except DirectoryUnavailable:
            return
        self.refreshed += 1

    async def is_found(self) -> bool:
        """Whether everything of this node is in the directory."""
        for user in self.users:
            if await self.directory.find_user(user.user_id) != user:
                return False
        for group_id, _ in self.groups:
            group = await self.directory.find_group(group_id)
            if group is None or self.record.node_id not in group.nodes:
                return False
        return True


class ServerTests(RedisCase):
    """What happens to one server."""

    async def test_gone(self) -> None:
        """A server that hangs makes no call hang, and is used again when it answers again."""
        redis = self.server()
        directory = self.directory(f"redis://127.0.0.1:{redis.port}", PROMPT)
        node = Node(directory, "node-a", 10)
        directory.start()
        await node.say_everything()
        redis.send_signal(signal.SIGSTOP)
        self.addCleanup(redis.send_signal, signal.SIGCONT)
        first = [directory.find_user("node-a-1") for _ in range(10)]
        for call in first:
            _, seconds = await self.unavailable(call)
            self.assertLess(seconds, FAIL_SECONDS)
        for _ in range(20):
            error, seconds = await self.unavailable(directory.find_user("node-a-1"))
            self.assertLess(seconds, FAIL_SECONDS)
            self.assertTrue(error.retryable)
            if seconds < 0.1:
                break
        else:
            self.fail("every call waits for a server that is known to be away")
        await self.unavailable(directory.loopback("token"))
        redis.send_signal(signal.SIGCONT)
        await self.until(node.is_found, "everything is found again")
        self.assertGreaterEqual(node.refreshed, 2)
        await self.until(lambda: self.is_heard(directory), "loopback")

    async def test_never_there(self) -> None:
        """A node starts without its directory, and registers when it comes."""
        redis = self.server()
        redis.kill()
        directory = self.directory(f"redis://127.0.0.1:{redis.port}", PROMPT)
        node = Node(directory, "node-a", 3)
        directory.start()
        _, seconds = await self.unavailable(directory.register_node(node.record))
        self.assertLess(seconds, FAIL_SECONDS)
        redis.start()
        await self.until(node.is_found, "registered")

    async def test_restarted(self) -> None:
        """A server that was killed fails the calls in flight at once; a new one without data is filled again."""
        redis = self.server()
        directory = self.directory(f"redis://127.0.0.1:{redis.port}", PROMPT)
        node = Node(directory, "node-a", 500)
        directory.start()
        await node.say_everything()
        redis.send_signal(signal.SIGSTOP)
        pending = [directory.find_user("node-a-1") for _ in range(100)]
        redis.kill()
        for call in pending:
            _, seconds = await self.unavailable(call)
            # By their deadline they would fail after two.
            self.assertLess(seconds, 1.8)
        redis.start()
        await self.until(node.is_found, "everything is found again")

    async def test_wiped_under_load(self) -> None:
        """A wiped server has everything of all nodes again within seconds, while they go on working."""
        redis = self.server()
        nodes = [Node(self.directory(f"redis://127.0.0.1:{redis.port}"), name, 2_000) for name in ("node-a", "node-b")]
        for node in nodes:
            await node.say_everything()
            node.directory.start()
        await self.pause(0.5)
        working = [True]
        load = Deferred.fromCoroutine(self.work(nodes, working))
        redis.tell("FLUSHALL")
        for node in nodes:
            await self.until(node.is_found, f"{node.record.node_id} is found again")
            self.assertGreaterEqual(node.refreshed, 2)
        working.clear()
        self.assertGreater(await load, 0)

    async def work(self, nodes: list[Node], working: list[bool]) -> int:
        """Sign users in and look for others, until `working` is empty; returns how often that went well."""
        number = done = 0

        def count(_: object) -> None:
            nonlocal done
            done += 1

        while working:
            for node in nodes:
                user = make_user_record(f"walk-in {number}", node_id=node.record.node_id)
                calls = [node.directory.claim_user(user), node.directory.find_user("node-a-1")]
                for call in calls:
                    # NodeUnknown between the loss and the refresh: told at once, and worth another try.
                    await call.addCallbacks(count, lambda failure: failure.trap(MeshError))
            number += 1
            await self.pause(0)
        return done

    async def test_scripts_flushed(self) -> None:
        """A server that forgot the scripts is sent them again."""
        redis = self.server()
        directory = self.directory(f"redis://127.0.0.1:{redis.port}")
        self.assertEqual(await directory.nodes(), [])
        redis.tell("SCRIPT FLUSH")
        self.assertEqual(await directory.nodes(), [])

    async def test_entries_end(self) -> None:
        """What nobody says again is forgotten by the server, so that it does not fill up with the past."""
        redis = self.server()
        options = replace(PATIENT, entry_seconds=0.3)
        directory = self.directory(f"redis://127.0.0.1:{redis.port}", options)
        await directory.register_node(make_node_record())
        await directory.claim_user(make_user_record())
        await directory.join_group("g" * 52, "node-a", b"")
        self.assertAlmostEqual(directory.refresh_seconds, 0.1)
        await self.pause(0.5)
        self.assertIsNone(await directory.find_user("ann"))
        self.assertIsNone(await directory.find_group("g" * 52))
        self.assertEqual(len(await directory.nodes()), 1)

    async def test_foreign_data(self) -> None:
        """Keys that something else wrote break no listing, and are an error where they are asked for."""
        redis = self.server()
        directory = self.directory(f"redis://127.0.0.1:{redis.port}", PROMPT)
        await directory.register_node(make_node_record())
        redis.tell("HSET meshrelay:{test}:nodes node-z rubbish", "SET meshrelay:{test}:lease:node-z x")
        redis.tell("SET meshrelay:{test}:user:ann rubbish")
        self.assertEqual(await directory.nodes(), [make_node_record()])
        self.assertEqual(directory.statistics()["unreadable"], 1)
        await self.unavailable(directory.find_user("ann"))
        self.assertEqual(len(await directory.nodes()), 1)

    async def test_clusters(self) -> None:
        """Two clusters share a server and see nothing of each other."""
        redis = self.server()
        url = f"redis://127.0.0.1:{redis.port}"
        directory = self.directory(url)
        other = open_redis_directory(reactor, url, "other", random.Random())
        self.addCleanup(other.stop)
        await directory.register_node(make_node_record())
        self.assertEqual(await other.nodes(), [])

    async def test_listening_connection_killed(self) -> None:
        """Loopback works again after its connection was lost, so readiness does not stay red."""
        redis = self.server()
        directory = self.directory(f"redis://127.0.0.1:{redis.port}")
        await directory.loopback("before")
        redis.tell("CLIENT KILL TYPE pubsub")
        await self.until(lambda: self.is_heard(directory), "loopback")

    async def test_many_calls(self) -> None:
        """Thousands of calls at once are all answered, over one connection."""
        redis = self.server()
        directory = self.directory(f"redis://127.0.0.1:{redis.port}")
        await directory.register_node(make_node_record())
        calls = [directory.claim_user(make_user_record(f"user-{number}")) for number in range(3_000)]
        for call in calls:
            self.assertIsNone(await call)
        self.assertEqual(directory.statistics()["connections"], 1)


class SignInTests(RedisCase):
    """Users, passwords and TLS."""

    def acl_server(self) -> RedisProcess:
        """A server that lets the user "relay" do what the directory needs, and nobody else anything."""
        rules = f'user relay on ">{PASSWORD}" ~meshrelay:* &meshrelay:* +@all -@dangerous +info'
        return self.server(config=f"user default off\n{rules}\n")

    async def test_user(self) -> None:
        """A user with a percent-encoded password who may touch the keys of meshrelay only."""
        redis = self.acl_server()
        directory = self.directory(f"redis://relay:correct%20horse@127.0.0.1:{redis.port}/1")
        await directory.register_node(make_node_record())
        await directory.claim_user(make_user_record())
        await directory.join_group("g" * 52, "node-a", b"")
        await directory.loopback("token")
        self.assertEqual(await directory.nodes(), [make_node_record()])

    async def test_wrong_password(self) -> None:
        """A wrong password is told as what it is, and never shown."""
        redis = self.acl_server()
        directory = self.directory(f"redis://relay:mistaken@127.0.0.1:{redis.port}", PROMPT)
        error, seconds = await self.unavailable(directory.nodes())
        self.assertIn("WRONGPASS", str(error))
        self.assertNotIn("mistaken", str(error))
        self.assertLess(seconds, FAIL_SECONDS)

    async def test_no_password(self) -> None:
        """A missing password is told, too."""
        redis = self.acl_server()
        error, _ = await self.unavailable(self.directory(f"redis://127.0.0.1:{redis.port}", PROMPT).nodes())
        self.assertIn("NOAUTH", str(error))

    async def test_old_password(self) -> None:
        """A server with one password for all."""
        redis = self.server(["--requirepass", PASSWORD])
        directory = self.directory(f"redis://:correct%20horse@127.0.0.1:{redis.port}")
        self.assertEqual(await directory.nodes(), [])


def make_key() -> ec.EllipticCurvePrivateKey:
    """A fresh key."""
    return ec.generate_private_key(ec.SECP256R1())


class Authority:
    """A CA of one test, with a folder of PEM files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = make_key()
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test authority")])
        self.certificate = self._sign(self._name, self._key, is_authority=True)
        (folder / "ca.pem").write_bytes(self.pem(self.certificate))

    def pem(self, certificate: x509.Certificate) -> bytes:
        """The certificate as text."""
        return certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str) -> dict[str, Any]:
        """Write NAME.pem and NAME.key for 127.0.0.1; returns what shows them."""
        key = make_key()
        certificate = self._sign(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]), key, False)
        key_pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (self.folder / f"{name}.pem").write_bytes(self.pem(certificate))
        (self.folder / f"{name}.key").write_bytes(key_pem)
        return {"privateKey": key, "certificate": certificate}

    def tls(self, client: dict[str, Any] | None = None) -> TlsMaker:
        """Trust this authority alone."""
        root = trustRootFromCertificates([Certificate.loadPEM(self.pem(self.certificate))])
        return lambda host: optionsForClientTLS(host, root, extraCertificateOptions=client)

    def _sign(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, is_authority: bool) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        )
        return builder.sign(self._key, hashes.SHA256())


class TlsTests(RedisCase):
    """rediss://"""

    def setUp(self) -> None:
        """A CA, and a server that shows its certificate and asks for one."""
        folder = Path(tempfile.mkdtemp(prefix="redis-tls-"))
        self.addCleanup(shutil.rmtree, folder, True)
        self.authority = Authority(folder)
        self.client = self.authority.issue("client")
        self.authority.issue("server")
        files = {"cert": "server.pem", "key": "server.key", "ca-cert": "ca.pem"}
        options = [part for kind, name in files.items() for part in (f"--tls-{kind}-file", str(folder / name))]
        self.redis = self.server(["--tls-port", "PORT", "--tls-auth-clients", "yes", *options])
        self.url = f"rediss://127.0.0.1:{self.redis.port}"

    async def test_private_authority(self) -> None:
        """Both connections work over TLS with certificates of a private CA on both sides."""
        directory = self.directory(self.url, tls=self.authority.tls(self.client))
        await directory.register_node(make_node_record())
        self.assertEqual(await directory.refresh("node-a", [make_user_record(str(n)) for n in range(1000)], []), [])
        await directory.loopback("token")

    async def test_unknown_authority(self) -> None:
        """A server whose certificate nobody trusts is not talked to."""
        await self.unavailable(self.directory(self.url, PROMPT).nodes())

    async def test_no_certificate(self) -> None:
        """A node without a certificate is not let in, and does not hang."""
        _, seconds = await self.unavailable(self.directory(self.url, PROMPT, self.authority.tls()).nodes())
        self.assertLess(seconds, FAIL_SECONDS)


class SentinelTests(RedisCase):
    """redis+sentinel://"""

    def setUp(self) -> None:
        """A master, its replica and one Sentinel that decides alone."""
        self.master = self.server()
        self.replica = self.server(
            ["--replicaof", "127.0.0.1", str(self.master.port), "--repl-diskless-sync-delay", "0"]
        )
        self.wait_for(lambda: "master_link_status:up" in self.replica.tell("INFO replication"))
        self.sentinel = self.server(
            ["--sentinel"],
            f"sentinel monitor main 127.0.0.1 {self.master.port} 1\n"
            "sentinel down-after-milliseconds main 1000\n"
            "sentinel failover-timeout main 5000\n",
        )
        self.wait_for(lambda: str(self.replica.port) in self.sentinel.tell("SENTINEL replicas main"))
        dead = free_port()
        self.url = f"redis+sentinel://127.0.0.1:{dead},127.0.0.1:{self.sentinel.port}/main/2"

    def wait_for(self, is_so: Callable[[], bool]) -> None:
        """Wait while the servers find each other."""
        deadline = time.monotonic() + START_SECONDS * 2
        while not is_so():
            if time.monotonic() > deadline:
                raise AssertionError("the servers did not find each other")
            time.sleep(0.1)

    async def started(self) -> Node:
        """A node that has said everything."""
        directory = self.directory(self.url, PROMPT)
        node = Node(directory, "node-a", 300)
        directory.start()
        await node.say_everything()
        await directory.loopback("before")
        return node

    async def healed(self, node: Node, epoch: str) -> None:
        """Everything is on the new master, and messages go through it."""

        async def is_healed() -> bool:
            if await node.directory.epoch() == epoch or not await node.is_found():
                return False
            return await self.is_heard(node.directory)

        await self.until(is_healed, "healed on the new master")
        self.assertGreaterEqual(node.refreshed, 2)
        self.assertIn("role:master", self.replica.tell("INFO replication"))

    async def test_master_dies(self) -> None:
        """When the master is killed the nodes find its successor and say everything again."""
        node = await self.started()
        epoch = await node.directory.epoch()
        self.master.kill()
        await self.healed(node, epoch)

    async def test_master_demoted(self) -> None:
        """When the operator makes the replica the master, nobody goes on talking to the old one."""
        node = await self.started()
        epoch = await node.directory.epoch()
        self.assertIn("OK", self.sentinel.tell("SENTINEL FAILOVER main"))
        await self.healed(node, epoch)

    async def test_master_hangs(self) -> None:
        """A master that hangs is replaced like one that died."""
        node = await self.started()
        epoch = await node.directory.epoch()
        self.master.send_signal(signal.SIGSTOP)
        self.addCleanup(self.master.send_signal, signal.SIGCONT)
        await self.healed(node, epoch)

    async def test_unknown_service(self) -> None:
        """A name that no Sentinel knows is told with what each of them said."""
        directory = self.directory(f"redis+sentinel://127.0.0.1:{self.sentinel.port}/other", PROMPT)
        error, _ = await self.unavailable(directory.nodes())
        self.assertIn("knows no such service", str(error))
