"""WebSockets of the overlay on real sockets: with each other, with Autobahn, and with peers that mean ill."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from autobahn.twisted.websocket import (
    WebSocketClientFactory,
    WebSocketClientProtocol,
    WebSocketServerFactory,
    WebSocketServerProtocol,
)
from autobahn.websocket.compress import PerMessageDeflateOffer
from OpenSSL.SSL import TLSv1_2_METHOD
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import DefaultOpenSSLContextFactory
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from meshrelay.background import Alarms
from meshrelay.cli.ca import init_authority, issue_certificate
from meshrelay.fanout.turn import Turn
from meshrelay.overlay.interfaces import IOverlayLink
from meshrelay.transport.overlay_dial import DialOptions, OverlayDialler
from meshrelay.transport.overlay_link import (
    CLOSE_SECONDS,
    MAX_FRAME_BYTES,
    STALLED_SECONDS,
    OverlaySocketCounters,
    OverlaySocketParts,
)
from meshrelay.transport.overlay_queue import CHUNK_BYTES, MAX_WAITING_BYTES
from meshrelay.transport.overlay_websocket import OverlayServerFactory, OverlayServerRules
from meshrelay.transport.trust_root import read_trust_root
from meshrelay.transport.websocket_accept import HANDSHAKE_SECONDS
from meshrelay.transport.websocket_mask import fastest_unmask
from tests.transport.overlay_kit import RecordingReceiver
from tests.transport.test_overlay_websocket import REQUEST
from tests.transport.test_websocket import BINARY, CLOSE, CONTINUATION, TEXT, masked

reactor: Any = _reactor

#: What others may feel of a peer that means ill, on a machine that does other things as well.
ANSWER_SECONDS = 30.0


class End:
    """One end of links: counters, and what came in."""

    def __init__(self, is_echo: bool = False) -> None:
        self.clock = Clock()
        self.counters = OverlaySocketCounters()
        #: Deadlines come when the test lets them.
        self.parts = OverlaySocketParts(Turn(reactor), Alarms(self.clock), self.counters, os.urandom, fastest_unmask())
        self.links: list[IOverlayLink] = []
        self.receivers: list[RecordingReceiver] = []
        self.failures: list[str] = []
        self.is_echo = is_echo

    def opened(self, link: IOverlayLink) -> RecordingReceiver:
        """See `LinkOpened`."""
        receiver = RecordingReceiver()
        if self.is_echo:
            receiver.answer = link.send
        self.links.append(link)
        self.receivers.append(receiver)
        return receiver

    @property
    def frames(self) -> list[bytes]:
        """What came by all links."""
        return [frame for receiver in self.receivers for frame in receiver.frames]


class RawPeer(Protocol):
    """A connection whose bytes are typed in by hand."""

    def __init__(self) -> None:
        self.heard = b""
        self.is_lost = False

    def dataReceived(self, data: bytes) -> None:
        """See `Protocol`."""
        self.heard += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See `Protocol`."""
        self.is_lost = True


class AutobahnPeer(WebSocketClientProtocol):
    """Autobahn as the peer that dials."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[bytes, bool]] = []
        self.closed: list[tuple[bool, int | None]] = []
        self.is_ready = False

    def onOpen(self) -> None:
        """See Autobahn."""
        self.is_ready = True

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """See Autobahn."""
        self.heard.append((payload, isBinary))

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """See Autobahn."""
        self.closed.append((wasClean, code))


class AutobahnEcho(WebSocketServerProtocol):
    """Autobahn as the peer that is dialled."""

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """See Autobahn."""
        self.sendMessage(payload, isBinary)


class OverlaySocketTestCase(TestCase):
    """A server that sends back what comes."""

    timeout = 180

    def setUp(self) -> None:
        """Listen."""
        self.server = End(is_echo=True)
        self.rules = OverlayServerRules(max_links=1000)
        self.client = End()
        self.serve()

    def serve(self, **tls: Any) -> None:
        """Open a port."""
        self.factory = OverlayServerFactory(self.server.opened, self.server.parts, self.rules, reactor)
        self.port = self.listen(self.factory, **tls)

    def listen(self, factory: Factory, **tls: Any) -> int:
        """Open any port, and return its number."""
        listen = reactor.listenSSL if tls else reactor.listenTCP
        port = listen(0, factory, interface="127.0.0.1", **tls)
        self.addCleanup(self.stop, port)
        return int(port.getHost().port)

    async def stop_async(self, port: Any) -> None:
        """Close all links and the port."""
        await port.stopListening()
        for link in [*self.server.links, *self.client.links]:
            link.abort()
        await self.until(lambda: not self.server.counters.connections and not self.client.counters.connections)

    def stop(self, port: Any) -> Deferred[None]:
        """See `stop_async`."""
        return Deferred.fromCoroutine(self.stop_async(port))

    async def until(self, is_so: Callable[[], object], seconds: float = ANSWER_SECONDS) -> None:
        """Wait for something to be so."""
        end = reactor.seconds() + seconds
        while not is_so():
            if reactor.seconds() > end:
                self.fail("it did not come to be so in time")
            await deferLater(reactor, 0.005)

    def dial(self, url: str = "", **more: Any) -> Callable[[], None]:
        """Dial the server, or `url`."""
        allows = more.pop("allows", lambda host: True)
        dialler = OverlayDialler(reactor, self.client.parts, allows, DialOptions(**more))
        return dialler.dial(
            url or f"ws://localhost:{self.port}", self.client.opened, self.client.failures.append, is_checked=True
        )

    async def link(self) -> IOverlayLink:
        """Dial the server, and return the link when it is open."""
        count = len(self.client.links)
        self.dial()
        await self.until(lambda: len(self.client.links) > count)
        return self.client.links[-1]

    async def raw(self, says: bytes = REQUEST + b"\r\n") -> RawPeer:
        """Connect a peer whose bytes are typed in by hand."""
        peer: RawPeer = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", self.port), RawPeer())
        self.addCleanup(peer.transport.abortConnection)  # type: ignore[union-attr]
        self.say(peer, says)
        if says.startswith(b"GET"):
            await self.until(lambda: b"\r\n\r\n" in peer.heard)
            peer.heard = peer.heard.partition(b"\r\n\r\n")[2]
        return peer

    def say(self, peer: RawPeer, data: bytes) -> None:
        """Send bytes."""
        peer.transport.write(data)  # type: ignore[union-attr]


class LinkTests(OverlaySocketTestCase):
    """Links between two of our kind."""

    async def test_echo(self) -> None:
        """Frames of every length come back as they were, in order, and both ends know whom they have before them."""
        link = await self.link()
        frames = [b"x" * size for size in (0, 1, 125, 126, 200, 65535, 65536, MAX_FRAME_BYTES)]
        for frame in frames:
            self.assertTrue(link.send(frame))
        await self.until(lambda: len(self.client.frames) == len(frames))
        self.assertEqual(self.client.frames, frames)
        self.assertEqual([link.is_own, self.server.links[0].is_own], [True, True])
        self.assertEqual(link.remote_address, f"127.0.0.1:{self.port}")

    async def test_one_write(self) -> None:
        """A thousand frames of one turn leave in one write, and so do the answers to what one read brought."""
        link = await self.link()
        for _ in range(1000):
            link.send(b"x" * 30)
        before = self.client.counters.direct_writes
        await self.until(lambda: len(self.client.frames) == 1000)
        self.assertEqual(self.client.counters.direct_writes - before, 1)
        self.assertLess(self.server.counters.direct_writes + self.server.counters.transport_writes, 20)

    async def test_close(self) -> None:
        """Either end may close; what it had sent before arrives."""
        for is_server in (False, True):
            await self.close_link(is_server)

    async def close_link(self, is_server: bool) -> None:
        """Let one end of a new link close it."""
        await self.link()
        await self.until(lambda: len(self.server.links) == len(self.client.links))
        ends = (self.server, self.client) if is_server else (self.client, self.server)
        closing, other = ends[0].links[-1], ends[1].receivers[-1]
        closing.send(b"last")
        closing.close()
        await self.until(lambda: other.lost and ends[0].receivers[-1].lost)
        self.assertEqual((other.frames, other.lost), ([b"last"], ["closed by the other end"]))

    async def test_addresses(self) -> None:
        """Where the policy forbids loopback, localhost is not dialled, nor is 127.1."""
        for host in ("localhost", "127.0.0.1", "127.1", "0x7f.1"):
            self.client.failures.clear()
            self.dial(
                f"ws://{host}:{self.port}", allows=lambda address: not address.startswith("127.") and address != "::1"
            )
            await self.until(lambda: self.client.failures)
            self.assertIn("is not to be dialled", self.client.failures[0])
        self.assertEqual(self.server.counters.connections_total, 0)

    async def test_nobody(self) -> None:
        """A port where nobody listens, and a name that is none, are failures in words."""
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            self.dial(f"ws://127.0.0.1:{unused.getsockname()[1]}")
            await self.until(lambda: self.client.failures)
            self.assertIn("refused", self.client.failures[0])

    async def test_full(self) -> None:
        """A server that is full says so, and those inside do not feel it."""
        self.rules = OverlayServerRules(max_links=1)
        self.serve()
        link = await self.link()
        self.dial()
        await self.until(lambda: self.client.failures)
        self.assertIn("503", self.client.failures[0])
        link.send(b"1")
        await self.until(lambda: self.client.frames)


class TlsTests(OverlaySocketTestCase):
    """Links inside TLS."""

    def setUp(self) -> None:
        """Two authorities; a certificate of one."""
        super().setUp()
        self.directory = Path(self.mktemp())
        self.other = Path(self.mktemp())
        init_authority(self.directory, datetime.now(UTC))
        init_authority(self.other, datetime.now(UTC))
        issue_certificate(self.directory, "node", ("localhost", "127.0.0.1"), datetime.now(UTC))
        contexts = DefaultOpenSSLContextFactory(
            str(self.directory / "node.key"), str(self.directory / "node.pem"), sslmethod=TLSv1_2_METHOD
        )
        self.serve(contextFactory=contexts)

    async def test_echo(self) -> None:
        """With the right authority everything is as without TLS, by name and by address."""
        root = read_trust_root(str(self.directory / "ca.pem"))
        for host in ("localhost", "127.0.0.1"):
            self.client = End()
            self.dial(f"wss://{host}:{self.port}/", trust_root=root)
            await self.until(lambda: self.client.links or self.client.failures)
            self.assertEqual(self.client.failures, [])
            for size in (1, 300, MAX_FRAME_BYTES):
                self.client.links[0].send(b"x" * size)
            await self.until(lambda: len(self.client.frames) == 3)
            self.client.links[0].close()
            await self.until(lambda: self.client.receivers[0].lost)

    async def test_wrong_authority(self) -> None:
        """Without it there is no link."""
        self.dial(f"wss://localhost:{self.port}/", trust_root=read_trust_root(str(self.other / "ca.pem")))
        await self.until(lambda: self.client.failures)
        self.assertEqual((self.client.links, self.server.links), ([], []))

    async def test_does_not_read(self) -> None:
        """Inside TLS, too, a peer that does not read makes no more wait than there may, and is dropped."""
        root = read_trust_root(str(self.directory / "ca.pem"))
        self.dial(f"wss://localhost:{self.port}/", trust_root=root)
        await self.until(lambda: self.client.links and self.server.links)
        transport: Any = self.server.links[0]
        transport._transport.pauseProducing()
        link = self.client.links[0]
        count = 0
        while link.waiting_bytes < MAX_WAITING_BYTES - 70_000:
            link.send(b"x" * 60_000)
            count += 1
            await deferLater(reactor, 0)
            self.assertLess(count, 1000)
        while link.send(b"x" * 60_000):
            pass
        for _ in range(int(STALLED_SECONDS) + 30):
            self.client.clock.advance(1.0)
        await self.until(lambda: self.client.receivers[0].lost)
        self.assertEqual(self.client.counters.closes, {"stalled": 1})


class AutobahnTests(OverlaySocketTestCase):
    """Links to what is not of our kind."""

    async def test_dials(self) -> None:
        """Autobahn dials, offers compression, and sends text, binary and messages in pieces."""
        factory = WebSocketClientFactory(f"ws://127.0.0.1:{self.port}/", reactor=reactor)
        factory.setProtocolOptions(
            perMessageCompressionOffers=[PerMessageDeflateOffer()], autoFragmentSize=1000, openHandshakeTimeout=0
        )
        peer = AutobahnPeer()
        factory.protocol = lambda: peer  # type: ignore[assignment]
        reactor.connectTCP("127.0.0.1", self.port, factory)
        await self.until(lambda: peer.is_ready)
        self.assertEqual((peer.websocket_extensions_in_use, self.server.links[0].is_own), ([], False))
        messages = ["é".encode() * 3000, b"1", b"x" * MAX_FRAME_BYTES]
        for message in messages:
            peer.sendMessage(message, isBinary=False)
            peer.sendPing(b"are you there")
            peer.sendMessage(message, isBinary=True)
        await self.until(lambda: len(peer.heard) == 6)
        self.assertEqual(peer.heard, [(message, False) for message in messages for _ in range(2)])
        self.server.links[0].close()
        await self.until(lambda: peer.closed)
        self.assertEqual(peer.closed, [(True, 1000)])

    async def test_dialled(self) -> None:
        """Autobahn is dialled, and answers."""
        factory = WebSocketServerFactory(reactor=reactor)
        factory.protocol = AutobahnEcho
        factory.setProtocolOptions(openHandshakeTimeout=0, closeHandshakeTimeout=0, autoFragmentSize=1000)
        self.dial(f"ws://127.0.0.1:{self.listen(factory)}/")
        await self.until(lambda: self.client.links)
        link = self.client.links[0]
        self.assertFalse(link.is_own)
        frames = ["é".encode() * 3000, b"1", b"x" * MAX_FRAME_BYTES]
        for frame in frames:
            link.send(frame)
        await self.until(lambda: len(self.client.frames) == 3)
        self.assertEqual(self.client.frames, frames)
        link.close()
        await self.until(lambda: self.client.receivers[0].lost)


class HostileTests(OverlaySocketTestCase):
    """Peers that mean ill; a good one is asked afterwards."""

    async def others_are_well(self) -> None:
        """A new link works."""
        link = await self.link()
        receiver = self.client.receivers[-1]
        link.send(b"well")
        await self.until(lambda: receiver.frames == [b"well"])

    async def test_does_not_read(self) -> None:
        """A peer that makes us answer and does not read has a bounded part of our memory, and is dropped."""
        peer = await self.raw()
        transport: Any = peer.transport
        transport.pauseProducing()
        frame = masked(b"x" * 60_000, TEXT)
        link = self.server.links[0]
        while not self.server.counters.dropped_frames:
            self.say(peer, frame)
            await deferLater(reactor, 0.001)
            self.assertLess(link.waiting_bytes, MAX_WAITING_BYTES + 2 * CHUNK_BYTES)
        self.assertGreater(link.waiting_bytes, MAX_WAITING_BYTES - 60_100)
        await self.others_are_well()
        for _ in range(int(STALLED_SECONDS) + 30):
            self.say(peer, masked(b"still here", TEXT))
            await deferLater(reactor, 0.005)
            self.server.clock.advance(1.0)
        await self.until(lambda: self.server.receivers[0].lost)
        self.assertEqual(self.server.receivers[0].lost, ["nothing was taken for 30 s"])

    async def too_much(self, *says: bytes) -> None:
        """Say what is too much: it is told so with 1009, and dropped though it goes on."""
        peer = await self.raw()
        for data in says:
            self.say(peer, data)
        await self.until(lambda: peer.heard)
        self.assertEqual(peer.heard[:4], b"\x88" + bytes((len(peer.heard) - 2,)) + b"\x03\xf1")
        for _ in range(20):
            self.say(peer, b"x" * 60_000)
            await deferLater(reactor, 0)
        self.server.clock.advance(CLOSE_SECONDS + 1.0)
        await self.until(lambda: peer.is_lost)

    async def test_giant(self) -> None:
        """A frame of gigabytes is refused when it is announced; so is one that grows piece by piece."""
        await self.too_much(b"\x81\xff" + (1 << 40).to_bytes(8, "big") + bytes(4))
        await self.too_much(
            *(masked(b"x" * 60_000, CONTINUATION if number else TEXT, is_last=False) for number in range(6))
        )
        self.assertEqual((self.server.frames, self.server.counters.closes), ([], {"oversized": 2}))
        await self.others_are_well()

    async def test_slow_head(self) -> None:
        """Requests that come drop by drop end after five seconds, and keep nobody out."""
        peers = [await self.raw(b"") for _ in range(50)]
        for octet in (b"G", b"E", b"T", b" ", b"/"):
            for peer in peers:
                self.say(peer, octet)
            await deferLater(reactor, 0.01)
            self.server.clock.advance(HANDSHAKE_SECONDS / 5)
        await self.others_are_well()
        self.server.clock.advance(0.1)
        await self.until(lambda: all(peer.is_lost for peer in peers))
        self.assertEqual((self.server.counters.refused, self.factory.handshake_count), ({"handshake_timeout": 50}, 0))

    async def test_garbage(self) -> None:
        """Random bytes, before and after the handshake, cost the connection that they came by."""
        random = Random(7)
        peers = [await self.raw(random.randbytes(2000) + b"\r\n\r\n") for _ in range(20)]
        for _ in range(20):
            peers.append(await self.raw())
            self.say(peers[-1], random.randbytes(2000))
        await deferLater(reactor, 0.05)
        self.server.clock.advance(HANDSHAKE_SECONDS + 1.0)
        self.server.clock.advance(5.0)
        await self.until(lambda: sum(peer.is_lost for peer in peers) >= 30)
        await self.others_are_well()

    async def test_vanishes(self) -> None:
        """Peers that reset the connection at any place leave nothing behind."""
        opening = REQUEST + b"\r\n" + masked(b'"hello"', TEXT) + masked(b"x" * 300, BINARY) + masked(b"", CLOSE)
        for end in range(0, len(opening), 7):
            peer = await self.raw(b"")
            self.say(peer, opening[:end])
            await deferLater(reactor, 0.001)
            peer.transport.abortConnection()  # type: ignore[union-attr]
        await self.until(lambda: not self.server.counters.connections and not self.factory.handshake_count)
        self.assertEqual(self.factory.link_count, 0)
        await self.others_are_well()
