"""Peers that mean ill against the relay of a real daemon, with the protocol typed in by hand."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import socket
import ssl
import statistics
import struct
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.cli.ca import init_authority, issue_certificate
from tests.integration.daemon import Daemon

TCP = "tcp:0:interface=127.0.0.1"
SECRET = b"correct horse"

ANSWER_SECONDS = 30.0

#: What others may feel of a peer that means ill, in most cases and in the worst: a machine that does other things as
#: well makes a few worse; a relay that waits for such a peer makes all of them so.
FELT_SECONDS = 1.0
WORST_SECONDS = 10.0

MIB = 1 << 20


def peer_id(name: str) -> bytes:
    """The ID of a name."""
    return b"sha-" + hashlib.sha256(name.encode()).digest()


def token(secret: bytes = SECRET, seconds: float = 3600) -> bytes:
    """A token as it stands in AUTH."""
    payload = b"%d" % (time.time() + seconds)
    return b"\x01" + hmac.digest(hashlib.sha256(secret).digest(), payload, "sha256") + payload


def frame(message: bytes, first: int = 0x82) -> bytes:
    """One frame of a WebSocket client, with a mask that changes nothing."""
    size = len(message)
    length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + struct.pack("!H", size)
    return bytes((first,)) + length + bytes(4) + message


class Peer:
    """One connection to the relay.

    :param authority: of the server's certificate; None = without TLS.
    :param first: sent in front of everything.
    :param receive_bytes: how much the kernel may take for it while it does not read; 0 = as it likes.
    """

    def __init__(
        self, address: tuple[str, int], authority: Path | None = None, receive_bytes: int = 0, first: bytes = b""
    ) -> None:
        plain = socket.socket()
        if receive_bytes:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        plain.settimeout(ANSWER_SECONDS)
        plain.connect(address)
        plain.sendall(first)
        self.socket = plain
        if authority is not None:
            context = ssl.create_default_context(cafile=str(authority))
            self.socket = context.wrap_socket(plain, server_hostname="127.0.0.1")
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /relay HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self._received = b""
        while b"\r\n\r\n" not in self._received:
            self._more()
        self._received = self._received.split(b"\r\n\r\n", 1)[1]

    def _more(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise EOFError
        self._received += data

    def sign_in(self, name: str, with_token: bytes | None = None) -> None:
        """Say who it is, and wait for the answer."""
        self.say(b"\x01\x06\x21\x12\xa4\x42" + peer_id(name) + (token() if with_token is None else with_token))
        answer = self.next_message()
        assert answer.startswith(b"\x01\x07rel"), answer

    def say(self, message: bytes) -> None:
        """Send one message."""
        self.socket.sendall(frame(message))

    def next_message(self) -> bytes:
        """Return the next message.

        :raises EOFError: the server has ended the connection.
        """
        while (message := self._take()) is None:
            try:
                self._more()
            except (ConnectionError, ssl.SSLEOFError) as error:
                raise EOFError from error
        return message

    def _take(self) -> bytes | None:
        data = self._received
        if len(data) < 4:
            return None
        assert data[0] == 0x82, data[:2]
        size, start = data[1], 2
        if size == 126:
            size, start = int.from_bytes(data[2:4], "big"), 4
        if len(data) < start + size:
            return None
        self._received = data[start + size :]
        return data[start : start + size]


class RelayTests(SynchronousTestCase):
    """One daemon."""

    authority: Path | None = None

    def setUp(self) -> None:
        """The relay runs, and lets in who has a token."""
        self.running = ExitStack()
        self.addCleanup(self.running.close)
        directory = Path(self.mktemp()).absolute()
        directory.mkdir(parents=True)
        secret_file = directory / "secret"
        secret_file.write_bytes(SECRET)
        relay = {"listen": self.listening(directory), "secret_file": str(secret_file)}
        self.daemon = self.running.enter_context(Daemon({"relay": relay}))

    def listening(self, directory: Path) -> str:
        """Where the relay listens."""
        return TCP

    def connect(self, receive_bytes: int = 0) -> Peer:
        """A peer that has not signed in."""
        peer = Peer(self.daemon.address("relay"), self.authority, receive_bytes)
        self.running.callback(peer.socket.close)
        return peer

    def sign_in(self, name: str, receive_bytes: int = 0) -> Peer:
        """A peer that has signed in."""
        peer = self.connect(receive_bytes)
        peer.sign_in(name)
        return peer

    def echo_seconds(self, peer: Peer, name: str) -> float:
        """How long a message of a peer to itself takes."""
        started = time.monotonic()
        message = b"\x01\x03" + peer_id(name) + b"to myself"
        peer.say(message)
        self.assertEqual(peer.next_message(), message)
        return time.monotonic() - started

    def check_felt(self, felt: list[float]) -> None:
        """What others have felt is what they may feel."""
        self.assertLess(statistics.median(felt), FELT_SECONDS)
        self.assertLess(max(felt), WORST_SECONDS)


class DeafPeerTests(RelayTests):
    """A peer that stops reading."""

    def test_messages(self) -> None:
        """Its messages are dropped, nobody else feels anything, and little is kept for it; it may still go on."""
        deaf = self.sign_in("deaf", receive_bytes=65536)
        alice, carol = self.sign_in("alice"), self.sign_in("carol")
        message = b"\x01\x03" + peer_id("deaf") + bytes(1000)
        before = self.daemon.memory_bytes()
        felt = []
        for _ in range(40):
            alice.socket.sendall(frame(message) * 1000)
            felt += [self.echo_seconds(alice, "alice"), self.echo_seconds(carol, "carol")]
        self.check_felt(felt)
        self.assertLess(self.daemon.memory_bytes() - before, 8 * MIB)
        dropped = self.daemon.metric('meshrelay_relay_dropped_total{reason="slow"}')
        self.assertGreater(dropped, 20_000)
        received = 0
        while received < 40_000 - dropped:
            self.assertEqual(deaf.next_message(), b"\x01\x03" + peer_id("alice") + bytes(1000))
            received += 1
        self.echo_seconds(deaf, "deaf")


class DeafPeerTlsTests(DeafPeerTests):
    """The same with TLS, whose buffers are others."""

    def listening(self, directory: Path) -> str:
        """Where the relay listens."""
        now = datetime.now(UTC)
        init_authority(directory, now)
        issue_certificate(directory, "relay", ("127.0.0.1",), now)
        self.authority = directory / "ca.pem"
        key, certificate = directory / "relay.key", directory / "relay.pem"
        return f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={certificate}"


class SubscriptionTests(RelayTests):
    """A peer that wants to know everything."""

    def test_many(self) -> None:
        """100,000 subscriptions of one peer are taken, cost little, disturb nobody, and are gone when it goes."""
        alice, curious = self.sign_in("alice"), self.sign_in("curious")
        before = self.daemon.memory_bytes()
        felt = []
        ids = [number.to_bytes(36, "big") for number in range(1, 110_001)]
        for first in range(0, len(ids), 244):
            curious.say(b"\x01\x08" + b"".join(ids[first : first + 244]))
            if first % 2440 == 0:
                felt.append(self.echo_seconds(alice, "alice"))
        self.echo_seconds(curious, "curious")
        self.assertEqual(self.daemon.metric("meshrelay_relay_subscriptions"), 100_000)
        self.assertEqual(self.daemon.metric("meshrelay_relay_subscriptions_refused_total"), 10_000)
        self.assertLess(self.daemon.memory_bytes() - before, 64 * MIB)
        curious.socket.close()
        felt.append(self.echo_seconds(alice, "alice"))
        self.check_felt(felt)
        self.assertEqual(self.daemon.metric("meshrelay_relay_subscriptions"), 0)


class SquatterTests(RelayTests):
    """Somebody who wants the ID of another."""

    def test_without_token(self) -> None:
        """Without a good token nobody is put out, and nobody is answered."""
        alice = self.sign_in("alice")
        for wrong in (b"", token(b"another"), token(seconds=-3600), b"\x02" + token()[1:], token()[:32]):
            squatter = self.connect()
            self.assertRaises(EOFError, squatter.sign_in, "alice", wrong)
        self.echo_seconds(alice, "alice")

    def test_with_token(self) -> None:
        """With a token the newer connection has the ID at once, and those who watch it hear of no offline."""
        watcher, older = self.sign_in("watcher"), self.sign_in("alice")
        watcher.say(b"\x01\x08" + peer_id("alice"))
        self.assertEqual(watcher.next_message(), b"\x01\x0a" + peer_id("alice"))
        newer = self.sign_in("alice")
        self.assertRaises(EOFError, older.next_message)
        watcher.say(b"\x01\x03" + peer_id("alice") + b"hello")
        self.assertEqual(newer.next_message(), b"\x01\x03" + peer_id("watcher") + b"hello")
        # It had been online when the watcher asked: the next time is told once more, and that is all.
        self.assertEqual(watcher.next_message(), b"\x01\x0a" + peer_id("alice"))
        self.echo_seconds(watcher, "watcher")


class FrameTests(RelayTests):
    """Frames that no peer may send."""

    def test_ended(self) -> None:
        """Oversized, fragmented, empty, unmasked and text frames end their own connection and no other."""
        alice = self.sign_in("alice")
        whole = b"\x01\x03" + peer_id("alice") + b"x"
        wrong = {
            "8,821 bytes": frame(whole + bytes(8782)),
            "2^63 - 1 bytes": b"\x82\xff" + b"\x7f" + b"\xff" * 7 + bytes(4),
            "fragmented": frame(whole, 0x02) + frame(b"", 0x80),
            "empty": frame(b""),
            "text": frame(whole, 0x81),
            "not masked": bytes((0x82, len(whole))) + whole,
            "compressed": frame(whole, 0xC2),
        }
        for problem, data in wrong.items():
            peer = self.sign_in("mallory")
            peer.socket.sendall(data)
            with self.assertRaises(EOFError, msg=problem):
                peer.next_message()
        self.echo_seconds(alice, "alice")
        self.assertEqual(self.daemon.metric('meshrelay_relay_closes_total{reason="bad_message"}'), len(wrong))

    def test_endless_head(self) -> None:
        """A head that does not end is cut off, not kept."""
        stranger = socket.create_connection(self.daemon.address("relay"), timeout=ANSWER_SECONDS)
        self.running.callback(stranger.close)
        before = self.daemon.memory_bytes()
        with self.assertRaises(ConnectionError):
            for _ in range(1000):
                stranger.sendall(b"x" * 65536)
        self.assertLess(self.daemon.memory_bytes() - before, 8 * MIB)


class ProxyTests(RelayTests):
    """A relay behind a proxy."""

    def listening(self, directory: Path) -> str:
        """Where the relay listens."""
        return f"haproxy:{TCP}"

    def test_address(self) -> None:
        """With the PROXY protocol the log has the address of the peer, not of the proxy."""
        first = b"PROXY TCP4 192.0.2.77 192.0.2.1 4000 443\r\n"
        peer = Peer(self.daemon.address("relay"), first=first)
        self.running.callback(peer.socket.close)
        self.assertRaises(EOFError, peer.sign_in, "alice", b"")
        self.assertIn("192.0.2.77:4000", self.daemon.log)
