"""Reliable UDP of a real daemon behind a bad network, and under attack.

Honest clients are the reliability machine on a socket of their own, behind the proxy of `meshrelay.testing`; attackers
are built from the published protocol alone. ``MESHRELAY_MESSAGES`` says how many messages the longest test sends.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import LoopingCall, deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from meshrelay.errors import PacketRejected
from meshrelay.machine.reliability import Closed, MessageReceived, ReliabilityMachine
from meshrelay.testing.impairment import Impairment, LossyPath
from meshrelay.testing.udp_proxy import UdpProxy
from meshrelay.wire.datagram import TO_NODE, PacketCodec, PacketKind, session_key
from tests.integration.cluster import wait_until
from tests.integration.daemon import ROOT, Daemon
from tests.integration.wire_clients import ANSWER_SECONDS, HEADER, PUSH, UdpClient, pack

MESSAGES = int(os.environ.get("MESHRELAY_MESSAGES", "20000"))

DELAY_SECONDS, JITTER_SECONDS = 0.05, 0.02
ROUND_TRIP_SECONDS = 2 * DELAY_SECONDS
#: How long a move may be felt: half a second and a round trip where the machine does nothing else. Without a word of
#: the one who has moved it would be felt until the end.
SILENCE_SECONDS = 2.0

#: So many datagrams of strangers fit into the least that a kernel keeps for a socket.
BURST = 250

NEW_GROUP = struct.pack("!BIH", 2, 60, 0)
IDLE = 4001

SYN, DAT, ACK, RST, EACK, FIN = 2, 3, 4, 5, 6, 7


def bad_network(loss: float = 0.05) -> Impairment:
    """What the acceptance figures are said for."""
    return Impairment(
        delay_seconds=DELAY_SECONDS, jitter_seconds=JITTER_SECONDS, loss=loss, duplication=0.01, reordering=0.01
    )


class MachineClient(DatagramProtocol):
    """The reliability machine on a socket: a client as the package would make it.

    :param place: where it sends to: the proxy.
    """

    noisy = False

    def __init__(self, reactor: Any, daemon: Daemon, user: str, place: tuple[str, int]) -> None:
        endpoint = daemon.get(f"/endpoint/type/UDP/user/{user}")[1]
        secrets = (bytes.fromhex(endpoint[name]) for name in ("encryptionKey", "encryptionIV", "encryptionMacKey"))
        self.codec = PacketCodec(bytes.fromhex(endpoint["sid"]), session_key(*secrets), TO_NODE)
        self.machine = ReliabilityMachine(True, random.Random(user).getrandbits(32))
        self._reactor = reactor
        self._place = place
        self._wake: Any = None
        self._port: Any = None
        self._is_scheduled = False
        self._last_id = 0
        self._answers: dict[int, Deferred[bytes]] = {}
        #: Called with the payload of each push of ver >= 1.
        self.on_push: Callable[[bytes], None] = lambda _: None
        self.closed: Closed | None = None
        self._open()
        self.machine.connect(reactor.seconds())
        self.flush()

    def _open(self) -> None:
        self._port = self._reactor.listenUDP(0, self, interface="127.0.0.1", maxPacketSize=2048)
        self._port.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)

    def send(self, ver: int, cmd: int, payload: bytes, request_id: int = 0) -> None:
        """Send a reliable request, by default one that is not answered."""
        self.machine.send_message(pack(ver, 1, cmd, request_id, payload))
        self._schedule()

    def ask(self, ver: int, cmd: int, payload: bytes) -> Deferred[bytes]:
        """Send a request; fires with the payload of the OK answer."""
        self._last_id += 1
        self._answers[self._last_id] = Deferred()
        self.send(ver, cmd, payload, self._last_id)
        return self._answers[self._last_id]

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._reactor.callLater(0, self.flush)

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """See `DatagramProtocol`."""
        self._packet(datagram)
        self._schedule()

    def _packet(self, datagram: bytes) -> None:
        try:
            packet = self.codec.open(datagram)
        except PacketRejected:
            return
        if packet.kind is PacketKind.DATA:
            self._frames(packet.content)
            return
        try:
            self.machine.receive_packet(packet.kind, packet.content, self._reactor.seconds())
        except PacketRejected:
            return
        while (event := self.machine.next_event()) is not None:
            if isinstance(event, MessageReceived):
                self._frames(event.data)
            elif isinstance(event, Closed):
                self.closed = event

    def _frames(self, data: bytes) -> None:
        start = 0
        while start < len(data):
            ver, status, cmd, request_id, size = HEADER.unpack_from(data, start)
            payload = data[start + HEADER.size : start + HEADER.size + size]
            start += HEADER.size + size
            if (ver, status, cmd) == (0, PUSH, 2):
                self.send_data(pack(0, 0, 3, 0, payload))
            elif status == PUSH and ver:
                self.on_push(payload)
            elif request_id in self._answers:
                assert status == 1, (status, payload)
                self._answers.pop(request_id).callback(payload)

    def send_data(self, frame: bytes) -> None:
        """Send a frame that may be lost."""
        self._write(self.codec.seal(PacketKind.DATA, frame))

    def _write(self, datagram: bytes) -> None:
        transport: Any = self.transport
        if self._port is not None:
            transport.write(datagram, self._place)

    def flush(self) -> None:
        """Send what the machine has to send."""
        self._is_scheduled = False
        now = self._reactor.seconds()
        for kind, content in self.machine.packets_to_send(now):
            self._write(self.codec.seal(kind, content))
        if self._wake is not None and self._wake.active():
            self._wake.cancel()
        deadline = self.machine.next_deadline()
        if deadline is not None and self._port is not None:
            self._wake = self._reactor.callLater(max(0.001, deadline - now), self._due)

    def _due(self) -> None:
        self.machine.deadline_passed(self._reactor.seconds())
        self.flush()

    async def move(self) -> None:
        """Take another socket, as when the network is another one, and say so at once."""
        port, self._port = self._port, None
        await port.stopListening()
        self._open()
        self.machine.path_changed()
        self.say_where()
        self.flush()

    def say_where(self) -> None:
        """Let the node hear something, even if a packet is lost."""
        for _ in range(3):
            self.send_data(pack(0, 0, 2, 0, b"here"))

    async def leave(self) -> None:
        """End the session, several times over, since this may be lost as well."""
        for _ in range(5):
            self._write(self.codec.seal(PacketKind.RST, struct.pack("!H", IDLE)))
        if self._wake is not None and self._wake.active():
            self._wake.cancel()
        port, self._port = self._port, None
        await port.stopListening()


class BadNetworkTests(TestCase):
    """Ann sends to bob; both are behind a bad network."""

    timeout = 180

    async def start(self, how: Impairment, config: dict[str, Any] | None = None) -> None:
        """Bring everybody up, in one group, with `received` for what bob hears."""
        session = {"commands_per_second": 100000, "pending_commands": 4096, **(config or {})}
        self.reactor: Any = installed_reactor
        self.daemon = Daemon({"session": session, "node": {"drain_seconds": 1}}).__enter__()
        self.addCleanup(self.daemon.__exit__, None, None, None)
        self.proxy = UdpProxy(self.reactor, self.daemon.address("udp"), LossyPath(how, 1), LossyPath(how, 2))
        self.addCleanup(self.proxy.close)
        place = self.proxy.listen()
        self.ann = MachineClient(self.reactor, self.daemon, "ann", place)
        self.bob = MachineClient(self.reactor, self.daemon, "bob", place)
        self.addCleanup(lambda: self.pause(0.3))
        for client in (self.ann, self.bob):
            self.addCleanup(self._leave, client)
        self.addCleanup(self.proxy.set_black_hole, False)
        self.group = await self.ann.ask(1, 110, NEW_GROUP)
        await self.bob.ask(1, 111, self.group)
        self.received: list[int] = []
        #: When each came, and when it was sent.
        self.arrived_at: list[float] = []
        self.sent_at: list[float] = []
        self.bob.on_push = self._pushed

    def _leave(self, client: MachineClient) -> Deferred[None]:
        return Deferred.fromCoroutine(client.leave())

    def _pushed(self, payload: bytes) -> None:
        self.received.append(int(payload[52 + 1 + 3 :]))
        self.arrived_at.append(self.reactor.seconds())

    def pause(self, seconds: float) -> Deferred[None]:
        """Let time pass."""
        return deferLater(self.reactor, seconds)

    def stream(self, number: int, per_second: float) -> Deferred[Any]:
        """Broadcast 0, 1, 2, ...; fires when all were given to the machine."""
        started_at = self.reactor.seconds()

        def some() -> None:
            now = self.reactor.seconds()
            while len(self.sent_at) < number and len(self.sent_at) < (now - started_at) * per_second:
                self.ann.send(1, 113, self.group + b"%d" % len(self.sent_at))
                self.sent_at.append(now)
            if len(self.sent_at) == number:
                loop.stop()

        loop = LoopingCall(some)
        return loop.start(0.01)

    async def all_received(self, number: int, seconds: float = 60.0) -> None:
        """Wait until bob has so many, and see that they are each one, once, in order."""
        deadline = self.reactor.seconds() + seconds
        while len(self.received) < number and self.reactor.seconds() < deadline:
            await self.pause(0.05)
        await self.pause(0.2)
        self.assertEqual(len(self.received), number)
        self.assertEqual(self.received, list(range(number)))

    def longest_silence(self, begin: float, end: float) -> float:
        """The longest time between two messages that came between `begin` and `end`."""
        times = [begin, *(time for time in self.arrived_at if begin < time < end), end]
        return max(later - sooner for sooner, later in pairwise(times))

    async def test_five_per_cent_loss(self) -> None:
        """Thousands of messages arrive once and in order at 5 % loss, jitter, doubles and reordering."""
        await self.start(bad_network())
        await self.stream(MESSAGES, 4000)
        await self.all_received(MESSAGES)
        self.assertGreater(self.proxy.there.counters["lost"], 10)
        self.assertGreater(self.proxy.back.counters["duplicated"], 0)

    async def test_latency(self) -> None:
        """At 5 % loss 99 of 100 messages pass both legs within four round trips of each leg."""
        await self.start(bad_network())
        await self.stream(400, 200)
        await self.all_received(400)
        taken = sorted(arrived - sent for arrived, sent in zip(self.arrived_at, self.sent_at, strict=True))
        self.assertLess(taken[int(0.99 * len(taken))], 2 * 4 * ROUND_TRIP_SECONDS)

    async def test_twenty_per_cent_loss(self) -> None:
        """Every fifth packet may be lost, and everything still arrives."""
        await self.start(bad_network(0.2))
        await self.stream(2000, 2000)
        await self.all_received(2000)

    async def test_black_out(self) -> None:
        """Two seconds without any network cost two seconds, and nothing else."""
        await self.start(bad_network())
        sending = self.stream(1500, 500)
        await self.pause(0.5)
        self.proxy.set_black_hole(True)
        await self.pause(2.0)
        self.proxy.set_black_hole(False)
        await sending
        await self.all_received(1500)
        self.assertIsNone(self.bob.closed)
        self.assertEqual(self.daemon.metric('meshrelay_connections_total{transport="udp"}'), 2)

    async def test_dead_peer(self) -> None:
        """A client that is gone without a word is known to be gone within udp_ttl_seconds."""
        await self.start(bad_network(), {"udp_ttl_seconds": 2.0, "heartbeat_seconds": 0.5})
        self.assertEqual(self.daemon.metric('meshrelay_connections{transport="udp"}'), 2)
        self.proxy.set_black_hole(True)
        gone_by = self.reactor.seconds() + 2.0 + 5.0
        while self.daemon.metric('meshrelay_connections{transport="udp"}'):
            self.assertLess(self.reactor.seconds(), gone_by)
            await self.pause(0.1)
        self.assertEqual(self.daemon.metric('meshrelay_closes_total{reason="idle",transport="udp"}'), 2)

    async def _move(self, how_to_move: Callable[[], Any], changes: int) -> None:
        await self.start(bad_network())
        sending = self.stream(2000, 500)
        await self.pause(0.7)
        moved_at = self.reactor.seconds()
        await Deferred.fromCoroutine(how_to_move())
        await sending
        await self.all_received(2000)
        self.assertLess(self.longest_silence(moved_at, moved_at + 3.2), SILENCE_SECONDS)
        self.assertEqual(self.daemon.metric("meshrelay_address_changes_total"), changes)
        self.assertEqual(self.daemon.metric('meshrelay_connections_total{transport="udp"}'), 2)

    async def test_receiver_moves(self) -> None:
        """A client that changes its network while it receives loses nothing and waits half a second at most."""
        await self._move(self.bob_moves, 1)

    async def bob_moves(self) -> None:
        """Bob has another socket."""
        await self.bob.move()

    async def test_sender_moves(self) -> None:
        """The same for a client that sends."""
        await self._move(self.ann_moves, 1)

    async def ann_moves(self) -> None:
        """Ann has another socket."""
        await self.ann.move()

    async def test_nat_forgets(self) -> None:
        """A NAT that gives everybody new ports is not even noticed by the clients."""
        await self._move(self.nat_forgets, 2)

    async def nat_forgets(self) -> None:
        """New ports for all; bob says something soon, as a client does that hears nothing."""
        self.proxy.rebind()
        self.reactor.callLater(0.2, self.bob.say_where)


def rejected(daemon: Daemon) -> dict[str, int]:
    """Packets that the node has refused, by reason."""
    counts = {}
    for line in daemon.get("/metrics")[1].splitlines():
        if line.startswith("meshrelay_packets_rejected_total{"):
            counts[line.split('"')[1]] = int(float(line.rsplit(" ", 1)[1]))
    return {reason: number for reason, number in counts.items() if number}


class AttackTests(SynchronousTestCase):
    """What strangers and liars send."""

    def start(self, **session: Any) -> Daemon:
        """A daemon that ends with the test, and soon."""
        config = {"session": {"commands_per_second": 100000, **session}, "node": {"drain_seconds": 0.5}}
        daemon = Daemon(config).__enter__()
        self.addCleanup(daemon.__exit__, None, None, None)
        return daemon

    def connect(self, daemon: Daemon, user: str) -> UdpClient:
        """A client with a live session that ends with the test."""
        client = UdpClient(daemon, user)
        self.addCleanup(client.close)
        # Not by its socket, which a test may have closed: a node waits some time for a client that says nothing.
        self.addCleanup(
            lambda: self.make_socket().sendto(client.seal(RST, struct.pack("!H", IDLE)), daemon.address("udp"))
        )
        client.ask(0, 2, b"here")
        return client

    def make_socket(self, address: str = "127.0.0.1") -> socket.socket:
        """A socket that ends with the test."""
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(made.close)
        made.bind((address, 0))
        made.setblocking(False)
        return made

    def wait_for(self, daemon: Daemon, expected: dict[str, int]) -> None:
        """Wait until that many packets were refused, by reason."""
        deadline = time.monotonic() + 30
        while rejected(daemon) != expected and time.monotonic() < deadline:
            time.sleep(0.02)
        self.assertEqual(rejected(daemon), expected)

    def assert_silent(self, sockets: list[socket.socket]) -> None:
        """Nothing was sent to any of them."""
        for one in sockets:
            with self.assertRaises(BlockingIOError):
                one.recv(2048)

    def test_forged_moves(self) -> None:
        """10,000 packets that were recorded or altered, sent from elsewhere, move no session and are not answered."""
        daemon = self.start()
        ann = self.connect(daemon, "ann")
        genuine = [ann.seal(1, pack(0, 0, 2, 0, b"x")) for _ in range(100)]
        for packet in genuine:
            ann.socket.send(packet)
        ann.ask(0, 2, b"done")
        draw = random.Random(1)
        forgers = [self.make_socket(f"127.0.0.{number}") for number in range(2, 12)]
        for number in range(10000):
            forged = bytearray(genuine[number % 100])
            if number % 2:
                # A number that was never seen, so that only the seal can tell.
                struct.pack_into("!Q", forged, 18, 1000 + draw.randrange(1 << 20))
                forged[draw.randrange(26, len(forged))] ^= 1 << draw.randrange(8)
            forgers[number % 10].sendto(forged, daemon.address("udp"))
            if not number % BURST:
                ann.ask(0, 2, b"read")
        self.wait_for(daemon, {"replayed": 5000, "seal": 5000})
        self.assertEqual(daemon.metric("meshrelay_address_changes_total"), 0)
        self.assert_silent(forgers)
        self.assertEqual(ann.ask(0, 2, b"still"), b"still")

    def test_withheld_packets(self) -> None:
        """A genuine packet that somebody held back and sends later from elsewhere is taken, but moves nothing."""
        daemon = self.start()
        ann = self.connect(daemon, "ann")
        withheld = [ann.seal(1, pack(0, 0, 2, 0, b"x")) for _ in range(100)]
        ann.ask(0, 2, b"newer")
        forger = self.make_socket()
        for packet in withheld:
            forger.sendto(packet, daemon.address("udp"))
        self.assertEqual(ann.ask(0, 2, b"still"), b"still")
        self.assertEqual(daemon.metric("meshrelay_address_changes_total"), 0)
        self.assertEqual(rejected(daemon), {})
        self.assert_silent([forger])

    def test_an_unproved_address(self) -> None:
        """Three times what came from a new address goes there, no more; all of it again once it has answered."""
        daemon = self.start()
        ann, bob = self.connect(daemon, "ann"), self.connect(daemon, "bob")
        group = ann.ask(1, 110, NEW_GROUP)
        bob.ask(1, 111, group)
        bob.socket.setblocking(True)
        old, bob.socket = bob.socket, self.make_socket()
        bob.socket.connect(daemon.address("udp"))
        old.close()
        hello = bob.seal(1, pack(0, 0, 3, 0, b"not the answer" * 4))
        bob.socket.send(hello)
        for _ in range(100):
            ann.send_bytes(pack(1, 0, 113, 0, group + b"x" * 1000))
        ann.ask(0, 2, b"done")
        unproved = 'meshrelay_packets_dropped_total{reason="unproved"}'
        wait_until(lambda: daemon.metric(unproved) > 50, what="packets that may not be sent")
        packets = []
        while True:
            try:
                packets.append(bob.socket.recv(2048))
            except BlockingIOError:
                break
        self.assertGreater(len(packets), 0)
        self.assertLessEqual(sum(map(len, packets)), 3 * len(hello))
        number = struct.unpack_from("!Q", packets[0], 18)[0]
        ping = bob.aead.decrypt(struct.pack("!IQ", 1, number), packets[0][26:], packets[0][:26])
        self.assertEqual(HEADER.unpack_from(ping)[:3], (0, PUSH, 2))
        bob.socket.settimeout(ANSWER_SECONDS)
        bob.send_bytes(pack(0, 0, 3, 0, ping[HEADER.size :]))
        bob.ask(0, 2, b"proved")
        for _ in range(20):
            ann.send_bytes(pack(1, 0, 113, 0, group + b"y" * 1000))
        for _ in range(20):
            self.assertEqual(bob.push().payload[-1:], b"y")

    def test_spoofed_syns(self) -> None:
        """100,000 SYNs of nobody are not answered, are counted, and leave no trace in the node's memory."""
        daemon = self.start()
        ann = self.connect(daemon, "ann")
        draw = random.Random(2)
        forgers = [self.make_socket(f"127.0.0.{number}") for number in range(2, 12)]
        place = daemon.address("udp")
        rejected(daemon)
        memory = daemon.memory_bytes()
        content = struct.pack("!IH", 7, 64)
        for burst in range(100_000 // BURST):
            for number in range(BURST):
                # One of ten names a session that there is.
                sid = ann.sid if number % 10 == 9 else draw.randbytes(16)
                packet = struct.pack("!BB16sQ", SYN, 1, sid, 1000 + number) + content + draw.randbytes(16)
                forgers[number % 10].sendto(packet, place)
            # It is answered when all that came before it was read.
            ann.ask(0, 2, b"read")
            if not burst % 10:
                rejected(daemon)
        self.wait_for(daemon, {"sid": 90000, "seal": 10000})
        self.assertLessEqual(daemon.memory_bytes() - memory, 5 * 1024 * 1024)
        self.assert_silent(forgers)
        self.assertEqual(ann.ask(0, 2, b"still"), b"still")

    def test_liars(self) -> None:
        """A client that contradicts itself costs its packets, counted by reason; the node and others live on."""
        daemon = self.start(receive_window_packets=64)
        ann, bob = self.connect(daemon, "ann"), self.connect(daemon, "bob")
        memory = daemon.memory_bytes()

        def tell(kind: int, content: bytes) -> None:
            ann.socket.send(ann.seal(kind, content))

        first, unsent = 1000, 5000
        tell(SYN, struct.pack("!IH", first, 64))
        while not any(kind == SYN for kind, _ in ann.others):
            ann.ask(0, 2, b"syn?")
        node_first = struct.unpack_from("!I", next(content for kind, content in ann.others if kind == SYN))[0]
        lies = {
            "unexpected_syn": (SYN, struct.pack("!IH", first + 1, 64)),
            "bad_length": (DAT, b"short"),
            "bad_fragment": (DAT, struct.pack("!IHH", first, 3, 2) + b"x"),
            "outside_window": (DAT, struct.pack("!IHH", first + 0x7FFFFFFF, 0, 1) + b"x"),
            "ack_of_unsent": (ACK, struct.pack("!IH", (node_first + unsent) % 2**32, 64)),
            "bad_range": (EACK, struct.pack("!IHBII", node_first, 64, 1, (node_first + 9) % 2**32, node_first)),
            "bad_fin": (FIN, struct.pack("!I", (first + 100000) % 2**32)),
            "bad_kind": (8, b"probe"),
        }
        for kind, content in lies.values():
            for _ in range(100):
                tell(kind, content)
            ann.ask(0, 2, b"alive")
        self.wait_for(daemon, dict.fromkeys(lies, 100))
        # Beginnings of long messages whose ends never come, over and over.
        for _ in range(20):
            for index in range(1, 64):
                tell(DAT, struct.pack("!IHH", first + index, index, 64) + b"x" * 1300)
            ann.ask(0, 2, b"alive")
        self.assertLessEqual(daemon.memory_bytes() - memory, 5 * 1024 * 1024)
        self.assertEqual(bob.ask(0, 2, b"still"), b"still")


class CommandTests(SynchronousTestCase):
    """The proxy as a program."""

    def start(self, *arguments: str) -> tuple[subprocess.Popen[str], tuple[str, int]]:
        """A proxy that ends with the test, and where it listens."""
        program = "from meshrelay.cli import main; main(['impair', *__import__('sys').argv[1:]])"
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", program, *arguments], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        self.addCleanup(process.wait, ANSWER_SECONDS)
        self.addCleanup(process.kill)
        assert process.stdout is not None
        self.addCleanup(process.stdout.close)
        host, port = process.stdout.readline().split()[2].rsplit(":", 1)
        return process, (host, int(port))

    def stop(self, process: subprocess.Popen[str]) -> str:
        """Press Ctrl-C and return what it prints."""
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=ANSWER_SECONDS)
        self.assertEqual(process.returncode, 0, output)
        return output

    def test_udp(self) -> None:
        """Datagrams go through late and twice, and are counted at the end."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as target:
            target.bind(("127.0.0.1", 0))
            target.settimeout(ANSWER_SECONDS)
            to = f"127.0.0.1:{target.getsockname()[1]}"
            process, place = self.start("--listen", "udp:0", "--to", to, "--delay", "100", "--duplicate", "100")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                started_at = time.monotonic()
                client.sendto(b"x", place)
                self.assertEqual((target.recv(10), target.recv(10)), (b"x", b"x"))
            self.assertGreaterEqual(time.monotonic() - started_at, 0.1)
            self.assertIn("there: 1 duplicated, 1 sent\n", self.stop(process))

    def test_tcp(self) -> None:
        """Streams go through late and unchanged."""
        with socket.create_server(("127.0.0.1", 0)) as target:
            to = f"127.0.0.1:{target.getsockname()[1]}"
            process, place = self.start("--listen", "tcp:0", "--to", to, "--delay", "100", "--loss", "20")
            with socket.create_connection(place) as client:
                accepted, _ = target.accept()
                with accepted:
                    started_at = time.monotonic()
                    client.sendall(b"x" * 10000)
                    self.assertEqual(accepted.recv(10000, socket.MSG_WAITALL), b"x" * 10000)
            self.assertGreaterEqual(time.monotonic() - started_at, 0.1)
            self.assertIn("proxy: 1 connections\n", self.stop(process))
