"""NetBird's relay client against NetBird's relay server: what the programs of the interop tests can show, they show."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import subprocess
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.netbird_programs import (
    Certificates,
    NetBirdPeer,
    NetBirdServer,
    Refused,
    build_programs,
    make_certificates,
    missing_reason,
    programs,
)

SECRET = "correct horse"


class ProgramTests(SynchronousTestCase):
    """Runs programs until the end of the test."""

    def setUp(self) -> None:
        programs()
        self.running = ExitStack()
        self.addCleanup(self.running.close)

    def start_server(self, **options: Any) -> NetBirdServer:
        """A relay server."""
        return self.running.enter_context(NetBirdServer(**options))

    def start_peer(self, name: str, server: str, **options: Any) -> NetBirdPeer:
        """A peer that is connected."""
        peer = self.running.enter_context(NetBirdPeer(name, server, **options))
        peer.ask("connect")
        return peer

    def start_pair(self, server: str, **options: Any) -> tuple[NetBirdPeer, NetBirdPeer]:
        """Two connected peers, alice and bob; bob echoes what alice sends."""
        alice = self.start_peer("alice", server, **options)
        bob = self.start_peer("bob", server, **options)
        bob.ask("open", peer="alice", on_message="echo")
        alice.ask("open", peer="bob")
        return alice, bob

    def make_certificates(self) -> Certificates:
        """Certificates of this test."""
        directory = Path(self.mktemp())
        directory.mkdir(parents=True)
        return make_certificates(directory.resolve())


class BuildTests(SynchronousTestCase):
    """Where the programs come from."""

    def test_no_go(self) -> None:
        """Where Go is missing, the reason for skipping says so in the words that fail in CI."""
        self.assertEqual(missing_reason(path="/nonexistent"), "missing: Go")

    def test_built_once(self) -> None:
        """The second build is the first one's files."""
        built = programs()
        changed = built.client.stat().st_mtime_ns
        self.assertEqual(build_programs(built.client.parent.parent), built)
        self.assertEqual(built.client.stat().st_mtime_ns, changed)


class MessageTests(ProgramTests):
    """Messages over one relay."""

    def test_echo(self) -> None:
        """A message reaches the other peer and comes back as it was sent."""
        alice, _ = self.start_pair(self.start_server().url)
        self.assertEqual(alice.send("bob", b"hello \x00\xff"), 8)
        self.assertEqual(alice.next_message(), ("bob", b"hello \x00\xff"))

    def test_state(self) -> None:
        """A connected peer says which relay it has, over which transport, and to whom it is open."""
        server = self.start_server()
        alice, _ = self.start_pair(server.url)
        state = alice.ask("state")
        self.assertEqual(state["instance_url"], server.url)
        self.assertEqual((state["ready"], state["transport"], state["server_ip"]), (True, "ws", "127.0.0.1"))
        self.assertEqual([link["peer"] for link in state["links"]], ["bob"])

    def test_absent_peer(self) -> None:
        """A peer that is not there cannot be opened."""
        alice = self.start_peer("alice", self.start_server().url)
        with self.assertRaises(Refused) as caught:
            alice.ask("open", peer="nobody", seconds=0.2)
        self.assertIn("deadline", caught.exception.reason)

    def test_same_name(self) -> None:
        """Who connects with a name that is in use takes it over; the older connection ends."""
        server = self.start_server()
        older = self.start_peer("alice", server.url)
        self.start_peer("alice", server.url)
        older.next_event("disconnected")
        self.assertFalse(older.ask("state")["ready"])

    def test_close(self) -> None:
        """When a peer goes, the link of the other is closed, and can be opened again once it is back."""
        server = self.start_server()
        alice, bob = self.start_pair(server.url)
        bob.ask("disconnect")
        self.assertEqual(alice.next_event("closed")["peer"], "bob")
        bob.ask("connect")
        bob.ask("open", peer="alice", on_message="echo")
        alice.ask("open", peer="bob")
        alice.send("bob", b"again")
        self.assertEqual(alice.next_message(), ("bob", b"again"))

    def test_exposed(self) -> None:
        """Clients are told the address that the server was told to expose."""
        server = self.start_server(exposed="rel://relay.example.com:4433")
        alice = self.start_peer("alice", server.url)
        self.assertEqual(alice.ask("state")["instance_url"], "rel://relay.example.com:4433")


class EndTests(ProgramTests):
    """What a peer sees when the server ends."""

    def test_stopped(self) -> None:
        """A server that is stopped takes leave, and its peers know."""
        server = self.start_server()
        alice, _ = self.start_pair(server.url)
        self.assertEqual(server.stop(), 0)
        self.assertEqual(alice.next_event("disconnected")["server"], server.url)
        self.assertEqual(alice.next_event("closed")["peer"], "bob")
        with self.assertRaises(Refused):
            alice.ask("open", peer="bob", seconds=1)

    def test_killed(self) -> None:
        """A server that breaks off is noticed too."""
        server = self.start_server()
        alice = self.start_peer("alice", server.url)
        server.kill()
        alice.next_event("disconnected")

    def test_manager(self) -> None:
        """The manager comes back to a relay that has let it go, without being told."""
        server = self.start_server()
        alice = self.start_peer("alice", server.url, manager="true", max_backoff="2s")
        self.start_peer("alice", server.url).ask("disconnect")
        alice.next_event("reconnected")
        self.assertTrue(alice.ask("state")["ready"])


class CommandTests(ProgramTests):
    """What the client program makes of commands."""

    def test_unknown(self) -> None:
        """A command or an argument that there is not is refused, and the next one works."""
        alice = self.start_peer("alice", self.start_server().url)
        wrong: list[tuple[str, dict[str, Any]]] = [("dance", {}), ("open", {"pere": "bob"}), ("send", {"peer": "bob"})]
        for command, arguments in wrong:
            self.assertRaises(Refused, alice.ask, command, **arguments)
        self.assertTrue(alice.ask("state")["ready"])

    def test_ended(self) -> None:
        """A program that has ended is said to have ended, at once."""
        alice = self.start_peer("alice", self.start_server().url)
        alice.allow_end()
        alice.ask("quit")
        alice.stop()
        error = self.assertRaises(AssertionError, alice.next_event, "message")
        self.assertIn("alice has ended", str(error))
        self.assertRaises(AssertionError, alice.ask, "state")


class TokenTests(ProgramTests):
    """Who is let in."""

    def test_token(self) -> None:
        """Peers with a token of the server's secret are let in."""
        alice, _ = self.start_pair(self.start_server(secret=SECRET).url, secret=SECRET)
        alice.send("bob", b"in")
        self.assertEqual(alice.next_message(), ("bob", b"in"))

    def test_refused(self) -> None:
        """Peers with another token, an old one or none are not let in."""
        server = self.start_server(secret=SECRET)
        wrong: list[dict[str, Any]] = [{"secret": "another"}, {}, {"secret": SECRET, "token_time": "-1h"}]
        for options in wrong:
            with NetBirdPeer("alice", server.url, **options) as peer:
                self.assertRaises(Refused, peer.ask, "connect")

    def test_ready_made(self) -> None:
        """A token in the two texts that NetBird's management sends is good, at the start and later."""
        server = self.start_server(secret=SECRET)
        payload = str(int(datetime.now(UTC).timestamp()) + 3600)
        key = hashlib.sha256(SECRET.encode()).digest()
        signature = base64.b64encode(hmac.digest(key, payload.encode(), "sha256")).decode()
        self.start_peer("alice", server.url, token_payload=payload, token_signature=signature)
        bob = self.running.enter_context(NetBirdPeer("bob", server.url))
        self.assertRaises(Refused, bob.ask, "connect")
        bob.ask("token", payload=payload, signature=signature)
        bob.ask("connect")


class TransportTests(ProgramTests):
    """Ways to a server with TLS."""

    def check(self, transport: str) -> None:
        """One echo over a transport."""
        certificates = self.make_certificates()
        server = self.start_server(certificates=certificates)
        alice, _ = self.start_pair(server.url, authority=certificates.authority, transport=transport)
        self.assertEqual(alice.ask("state")["transport"], transport)
        alice.send("bob", b"x" * 1000)
        self.assertEqual(alice.next_message(), ("bob", b"x" * 1000))

    def test_websocket(self) -> None:
        """WebSocket goes over TLS."""
        self.check("ws")

    def test_quic(self) -> None:
        """QUIC carries messages as datagrams."""
        self.check("quic")

    def test_unknown_authority(self) -> None:
        """A certificate of an authority that the peer does not know is refused over either transport."""
        server = self.start_server(certificates=self.make_certificates())
        stranger = self.make_certificates().authority
        for transport in ("ws", "quic"):
            with NetBirdPeer("alice", server.url, authority=stranger, transport=transport) as peer:
                self.assertRaises(Refused, peer.ask, "connect")


class ForeignTests(ProgramTests):
    """Peers at home on different relays."""

    def test_foreign(self) -> None:
        """Peers of two relays meet on one of them, which both can name by its instance URL."""
        home, foreign = self.start_server(), self.start_server()
        alice = self.start_peer("alice", home.url, manager="true")
        bob = self.start_peer("bob", foreign.url, manager="true")
        alice.ask("open", peer="bob", server=foreign.url)
        bob.ask("open", peer="alice", on_message="echo")
        alice.send("bob", b"from afar")
        self.assertEqual(alice.next_message(), ("bob", b"from afar"))
        self.assertEqual({relay["url"] for relay in alice.ask("state")["relays"]}, {home.url, foreign.url})


class MeasurementTests(ProgramTests):
    """Numbers."""

    def test_measure(self) -> None:
        """A measurement counts every echo and says how fast they came."""
        alice, bob = self.start_pair(self.start_server().url)
        result = alice.ask("measure", peer="bob", count=500, size=1000, window=16)
        self.assertEqual((result["sent"], result["echoed"], result["lost"]), (500, 500, 0))
        self.assertAlmostEqual(result["bytes_per_second"], result["messages_per_second"] * 1000, delta=1)
        self.assertTrue(0 < result["p50_ms"] <= result["p99_ms"] <= result["max_ms"], result)
        self.assertEqual(bob.ask("state")["links"][0]["received"], 500)

    def test_lost(self) -> None:
        """What never comes back is counted as lost, and the measurement goes on."""
        server = self.start_server()
        alice = self.start_peer("alice", server.url)
        bob = self.start_peer("bob", server.url)
        bob.ask("open", peer="alice", on_message="count")
        alice.ask("open", peer="bob")
        result = alice.ask("measure", peer="bob", count=5, size=100, window=2, seconds=0.1)
        self.assertEqual((result["sent"], result["echoed"], result["lost"]), (5, 0, 5))

    def test_flood(self) -> None:
        """One peer sends without waiting, at the pace that is asked for; the other counts what arrives."""
        server = self.start_server()
        alice = self.start_peer("alice", server.url)
        bob = self.start_peer("bob", server.url)
        bob.ask("open", peer="alice", on_message="count")
        alice.ask("open", peer="bob")
        sent = alice.ask("flood", peer="bob", count=50, size=200, per_second=500)
        self.assertEqual(sent["sent"], 50)
        self.assertLess(sent["messages_per_second"], 520)
        counted = bob.ask("counted", peer="alice", count=50)
        self.assertEqual((counted["received"], counted["bytes"]), (50, 50 * 200))
        self.assertEqual(bob.ask("counted", peer="alice")["received"], 0)


class CommandLineTests(ProgramTests):
    """The client program, used by hand."""

    def run_client(self, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
        """Exit status and lines of a client whose standard input ends at once."""
        done = subprocess.run(
            [str(programs().client), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]

    def test_measure(self) -> None:
        """One peer echoes and another measures, on two command lines: the result is printed."""
        server = self.start_server()
        command = [str(programs().client), f"-server={server.url}", "-peer=bob", "echo", "alice"]
        echo = self.running.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
        self.running.callback(echo.communicate)
        status, lines = self.run_client(f"-server={server.url}", "-peer=alice", "measure", "bob", "20", "100")
        result = next(line for line in lines if line.get("do") == "measure")
        self.assertEqual((status, result["ok"], result["echoed"]), (0, True, 20))

    def test_failed(self) -> None:
        """A command on the command line that fails is seen in the exit status."""
        server = self.start_server(secret=SECRET)
        status, lines = self.run_client(f"-server={server.url}", "-peer=alice", "wait")
        self.assertEqual((status, lines[0]["ok"]), (1, False))
