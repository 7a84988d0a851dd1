"""NetBird's own relay client against the relay of our daemon: over WebSocket, over QUIC, and on two linked nodes."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.cluster import free_port
from tests.integration.daemon import Daemon
from tests.integration.test_directory_redis import MISSING, RedisProcess
from tests.interop.netbird_programs import Certificates, NetBirdPeer, Refused, make_certificates, programs

SECRET = "correct horse"

TCP = "tcp:0:interface=127.0.0.1"

#: Longest wait until NetBird's QUIC has found out that 1,452 bytes pass.
PROBED_SECONDS = 20.0


class RelayServerTests(SynchronousTestCase):
    """Runs daemons and peers until the end of the test."""

    def setUp(self) -> None:
        programs()
        self.running = ExitStack()
        self.addCleanup(self.running.close)
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir(parents=True)

    def start(self, relay: dict[str, Any] | None = None, **sections: dict[str, Any]) -> Daemon:
        """A daemon with a relay."""
        return self.running.enter_context(Daemon({"relay": {"listen": TCP, **(relay or {})}, **sections}))

    def url(self, daemon: Daemon) -> str:
        """Where peers find a daemon."""
        return f"rel://{daemon.places['relay']}"

    def start_peer(self, name: str, url: str, **options: Any) -> NetBirdPeer:
        """A peer that is connected."""
        peer = self.running.enter_context(NetBirdPeer(name, url, **options))
        peer.ask("connect")
        return peer

    def start_pair(self, alice_url: str, bob_url: str = "", **options: Any) -> tuple[NetBirdPeer, NetBirdPeer]:
        """Two connected peers, alice and bob; bob echoes what alice sends."""
        alice = self.start_peer("alice", alice_url, **options)
        bob = self.start_peer("bob", bob_url or alice_url, **options)
        bob.ask("open", peer="alice", on_message="echo")
        alice.ask("open", peer="bob")
        return alice, bob

    def secret_file(self) -> str:
        """A file with the secret."""
        path = self.directory / "secret"
        path.write_text(SECRET + "\n")
        return str(path)


class WebSocketTests(RelayServerTests):
    """One node, over WebSocket."""

    def test_echo(self) -> None:
        """Messages of every length that fits reach the other peer and come back as they were sent."""
        daemon = self.start()
        alice, _ = self.start_pair(self.url(daemon))
        for size in (1, 87, 88, 1000, 8782):
            payload = bytes(number % 251 for number in range(size))
            alice.send("bob", payload)
            self.assertEqual(alice.next_message(), ("bob", payload))
        state = alice.ask("state")
        self.assertEqual((state["transport"], state["instance_url"]), ("ws", self.url(daemon)))

    def test_many(self) -> None:
        """Ten thousand messages, many on their way, all come back."""
        alice, _ = self.start_pair(self.url(self.start()))
        result = alice.ask("measure", peer="bob", count=10_000, size=1000, window=64)
        self.assertEqual((result["echoed"], result["lost"]), (10_000, 0))

    def test_tokens(self) -> None:
        """A token of the secret lets a peer in; another one, an old one or none do not."""
        daemon = self.start({"secret_file": self.secret_file()})
        wrong: list[dict[str, Any]] = [{"secret": "another"}, {}, {"secret": SECRET, "token_time": "-1h"}]
        for options in wrong:
            with NetBirdPeer("alice", self.url(daemon), **options) as peer:
                self.assertRaises(Refused, peer.ask, "connect")
        alice, _ = self.start_pair(self.url(daemon), secret=SECRET)
        alice.send("bob", b"in")
        self.assertEqual(alice.next_message(), ("bob", b"in"))

    def test_eviction(self) -> None:
        """Who connects with a name that is in use takes it over."""
        daemon = self.start()
        older = self.start_peer("alice", self.url(daemon))
        self.start_peer("alice", self.url(daemon))
        older.next_event("disconnected")
        self.assertEqual(daemon.metric("relay_peer_reconnections_total"), 1)

    def test_states(self) -> None:
        """A peer is told when the other goes, and opens it again when it is back."""
        alice, bob = self.start_pair(self.url(self.start()))
        bob.ask("disconnect")
        self.assertEqual(alice.next_event("closed")["peer"], "bob")
        bob.ask("connect")
        bob.ask("open", peer="alice", on_message="echo")
        alice.ask("open", peer="bob")
        alice.send("bob", b"again")
        self.assertEqual(alice.next_message(), ("bob", b"again"))

    def test_waiting(self) -> None:
        """A peer can be opened before it is there."""
        url = self.url(self.start())
        alice = self.start_peer("alice", url)
        self.assertRaises(Refused, alice.ask, "open", peer="bob", seconds=0.2)
        bob = self.start_peer("bob", url)
        alice.ask("open", peer="bob")
        bob.ask("open", peer="alice", on_message="echo")
        alice.send("bob", b"here")
        self.assertEqual(alice.next_message(), ("bob", b"here"))

    def test_stopped(self) -> None:
        """A daemon that stops takes leave, and its peers know."""
        daemon = self.start()
        alice, _ = self.start_pair(self.url(daemon))
        self.assertEqual(daemon.terminate(), 0)
        self.assertEqual(alice.next_event("disconnected")["server"], self.url(daemon))
        self.assertEqual(alice.next_event("closed")["peer"], "bob")

    def test_restarted(self) -> None:
        """After a restart of the daemon peers are back by themselves, and can be opened."""
        port = free_port()
        listen = f"tcp:{port}:interface=127.0.0.1"
        url = f"rel://127.0.0.1:{port}"
        with Daemon({"relay": {"listen": listen}}):
            alice = self.start_peer("alice", url, manager="true", max_backoff="1s")
            bob = self.start_peer("bob", url, manager="true", max_backoff="1s")
            alice.ask("open", peer="bob")
        with Daemon({"relay": {"listen": listen}}):
            alice.next_event("reconnected")
            bob.next_event("reconnected")
            bob.ask("open", peer="alice", on_message="echo")
            alice.ask("open", peer="bob")
            alice.send("bob", b"after all")
            self.assertEqual(alice.next_message(), ("bob", b"after all"))
            for peer in (alice, bob):
                peer.stop()

    def test_pages(self) -> None:
        """The health page and the metrics say what is there."""
        daemon = self.start({"exposed_address": "rels://relay.example:443"})
        alice = self.start_peer("alice", self.url(daemon))
        self.assertEqual(alice.ask("state")["instance_url"], "rels://relay.example:443")
        status, health = daemon.get("/health/relay")
        self.assertEqual((status, health["status"], health["listeners"]), (200, "healthy", ["ws"]))
        self.assertEqual(daemon.metric('relay_peers{transport="ws"}'), 1)


class WorkersTests(RelayServerTests):
    """A daemon of several processes."""

    def test_workers(self) -> None:
        """The supervisor is the relay of all, and it is on the page of all."""
        daemon = self.start(node={"workers": 2})
        alice, _ = self.start_pair(self.url(daemon))
        alice.send("bob", b"one of three")
        self.assertEqual(alice.next_message(), ("bob", b"one of three"))
        self.assertEqual(daemon.metric('relay_peers{transport="ws"}'), 2)


class TlsTests(RelayServerTests):
    """One node with a certificate."""

    def setUp(self) -> None:
        super().setUp()
        self.certificates: Certificates = make_certificates(self.directory)
        self.port = free_port()

    def start_tls(self) -> Daemon:
        """A daemon with WebSocket over TLS and QUIC on one port."""
        certificates = self.certificates
        files = f"privateKey={certificates.key}:certKey={certificates.certificate}"
        relay = {
            "listen": f"ssl:{self.port}:interface=127.0.0.1:{files}",
            "quic": f"udp:{self.port}:interface=127.0.0.1",
            "certificate_file": str(certificates.certificate),
            "key_file": str(certificates.key),
            "secret_file": self.secret_file(),
        }
        return self.start(relay)

    def start_tls_pair(self, transport: str) -> tuple[NetBirdPeer, NetBirdPeer]:
        """Two connected peers."""
        options: dict[str, Any] = {
            "authority": self.certificates.authority,
            "transport": transport,
            "secret": SECRET,
        }
        return self.start_pair(f"rels://127.0.0.1:{self.port}", **options)

    def check(self, transport: str) -> Daemon:
        """Echoes over a transport."""
        daemon = self.start_tls()
        alice, _ = self.start_tls_pair(transport)
        self.assertEqual(alice.ask("state")["transport"], transport)
        result = alice.ask("measure", peer="bob", count=1000, size=1000, window=8, seconds=10)
        self.assertEqual((result["sent"], result["lost"]), (1000, 0))
        self.assertEqual(daemon.metric(f'relay_peers{{transport="{transport}"}}'), 2)
        return daemon

    def test_websocket(self) -> None:
        """WebSocket goes over TLS."""
        self.check("ws")

    def test_quic(self) -> None:
        """QUIC carries messages as datagrams."""
        daemon = self.check("quic")
        health = daemon.get("/health/relay")[1]
        self.assertEqual((health["listeners"], health["certificate_valid"]), (["ws", "quic"], True))

    def test_full_packets(self) -> None:
        """A full WireGuard packet passes by QUIC, once the client knows what the path carries."""
        self.start_tls()
        alice, _ = self.start_tls_pair("quic")
        # It finds out by and by, with probes among what it sends.
        deadline = time.monotonic() + PROBED_SECONDS
        alice.ask("measure", peer="bob", count=300, size=1000, window=4, seconds=10)
        while not self.passes(alice, 1312):
            self.assertLess(time.monotonic(), deadline)
            alice.ask("measure", peer="bob", count=100, size=1000, window=4, seconds=10)
        result = alice.ask("measure", peer="bob", count=200, size=1312, window=4, seconds=10)
        self.assertEqual((result["sent"], result["lost"]), (200, 0))

    def passes(self, alice: NetBirdPeer, size: int) -> bool:
        """Whether messages of a size come back by now; NetBird's client refuses or drops what it takes for too long."""
        try:
            return bool(alice.ask("measure", peer="bob", count=3, size=size, window=1, seconds=1)["lost"] == 0)
        except Refused:
            return False

    def test_quic_token(self) -> None:
        """A wrong token lets nobody in by QUIC."""
        self.start_tls()
        options: dict[str, Any] = {"authority": self.certificates.authority, "transport": "quic", "secret": "another"}
        with NetBirdPeer("alice", f"rels://127.0.0.1:{self.port}", **options) as peer:
            self.assertRaises(Refused, peer.ask, "connect")

    def test_quic_stopped(self) -> None:
        """A daemon that stops takes leave by QUIC as well."""
        daemon = self.start_tls()
        alice, _ = self.start_tls_pair("quic")
        self.assertEqual(daemon.terminate(), 0)
        # Without leave it would be the end of the idle timeout, half a minute later.
        alice.next_event("disconnected", timeout=15)

    def test_both(self) -> None:
        """A peer by QUIC and one by WebSocket reach each other."""
        self.start_tls()
        url = f"rels://127.0.0.1:{self.port}"
        options: dict[str, Any] = {"authority": self.certificates.authority, "secret": SECRET}
        alice = self.start_peer("alice", url, transport="quic", **options)
        bob = self.start_peer("bob", url, transport="ws", **options)
        bob.ask("open", peer="alice", on_message="echo")
        alice.ask("open", peer="bob")
        alice.send("bob", b"across")
        self.assertEqual(alice.next_message(), ("bob", b"across"))


class ClusterTests(RelayServerTests):
    """Two linked nodes are one relay."""

    def setUp(self) -> None:
        super().setUp()
        mesh = {"listen": TCP, "insecure": True}
        self.first = self.start(node={"id": "first"}, mesh=mesh)
        directory = f"pb:{self.first.places['mesh']}"
        self.second = self.start(node={"id": "second"}, mesh={**mesh, "directory": directory})

    def test_echo(self) -> None:
        """Peers of two nodes reach each other, both ways."""
        alice, _ = self.start_pair(self.url(self.first), self.url(self.second))
        result = alice.ask("measure", peer="bob", count=2000, size=1000, window=32)
        self.assertEqual((result["echoed"], result["lost"]), (2000, 0))

    def test_states(self) -> None:
        """A peer is told when one of the other node goes, and when it is back on its own node."""
        alice, bob = self.start_pair(self.url(self.first), self.url(self.second))
        bob.ask("disconnect")
        self.assertEqual(alice.next_event("closed")["peer"], "bob")
        again = self.start_peer("bob", self.url(self.first))
        again.ask("open", peer="alice", on_message="echo")
        alice.ask("open", peer="bob")
        alice.send("bob", b"near")
        self.assertEqual(alice.next_message(), ("bob", b"near"))

    def test_eviction(self) -> None:
        """Who connects to the other node with a name that is in use takes it over."""
        older = self.start_peer("alice", self.url(self.first))
        self.start_peer("alice", self.url(self.second))
        older.next_event("disconnected")

    def test_killed(self) -> None:
        """When a node dies its peers are gone for those of the other."""
        alice, _ = self.start_pair(self.url(self.first), self.url(self.second))
        assert self.second.process is not None
        self.second.process.kill()
        self.second.process.wait()
        # What its end says about the exit status is not the point here.
        self.second.process.returncode = 0
        self.assertEqual(alice.next_event("closed", timeout=15)["peer"], "bob")


class RedisClusterTests(RelayServerTests):
    """Two nodes that know each other by Redis alone are one relay."""

    skip = MISSING or None

    def setUp(self) -> None:
        super().setUp()
        self.redis = RedisProcess()
        self.running.callback(self.redis.remove)
        mesh = {"listen": TCP, "insecure": True, "directory": f"redis://127.0.0.1:{self.redis.port}/0"}
        self.first = self.start(node={"id": "first"}, mesh=mesh)
        self.second = self.start(node={"id": "second"}, mesh=mesh)

    def test_echo(self) -> None:
        """Peers of two nodes reach each other, both ways, and a name is taken over from the other node."""
        alice, _ = self.start_pair(self.url(self.first), self.url(self.second))
        result = alice.ask("measure", peer="bob", count=2000, size=1000, window=32)
        self.assertEqual((result["echoed"], result["lost"]), (2000, 0))
        self.start_peer("alice", self.url(self.second))
        alice.next_event("disconnected")

    def test_without_redis(self) -> None:
        """With Redis gone nothing changes for peers of linked nodes: who comes and goes is told, and found."""
        alice, bob = self.start_pair(self.url(self.first), self.url(self.second))
        self.redis.kill()
        bob.ask("disconnect")
        self.assertEqual(alice.next_event("closed")["peer"], "bob")
        bob.ask("connect")
        bob.ask("open", peer="alice", on_message="echo")
        alice.ask("open", peer="bob")
        alice.send("bob", b"without it")
        self.assertEqual(alice.next_message(), ("bob", b"without it"))
