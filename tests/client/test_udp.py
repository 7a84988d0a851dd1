"""Tests of `meshrelay.client.udp`."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.client.address import parse_url
from meshrelay.client.endpoint import decode_endpoint
from meshrelay.client.errors import ConnectFailed
from meshrelay.client.links import Credentials
from meshrelay.client.options import ClientOptions
from meshrelay.client.udp import UdpLink, open_udp_link
from meshrelay.wire.commands import encode_goodbye
from meshrelay.wire.datagram import TO_CLIENT, PacketCodec, PacketKind, session_key
from tests.client.test_endpoint import answer
from tests.client.test_links import RecordingReceiver

ENDPOINT = decode_endpoint(answer())


class _MemoryPort:
    """Stands where a UDP port stands."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []
        self.peer: tuple[str, int] | None = None
        self.is_open = True
        self.failure: OSError | None = None

    def connect(self, host: str, port: int) -> None:
        self.peer = (host, port)

    def write(self, packet: bytes) -> None:
        if self.failure is not None:
            raise self.failure
        self.packets.append(packet)

    def stopListening(self) -> Deferred[None]:
        self.is_open = False
        return succeed(None)


class UdpLinkTests(SynchronousTestCase):
    """Frames in packets."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.receiver = RecordingReceiver()
        self.link = UdpLink(self.clock, self.receiver, ENDPOINT, "127.0.0.1")
        self.port = _MemoryPort()
        port: Any = self.port
        self.link.transport = port
        self.link.startProtocol()
        self.node = PacketCodec(ENDPOINT.sid_bytes, session_key(*ENDPOINT.secrets), TO_CLIENT)

    def test_connected(self) -> None:
        """The socket talks to the node alone."""
        self.assertEqual(self.port.peer, ("127.0.0.1", 7100))

    def test_write(self) -> None:
        """What is written in one turn shares packets, in order, and the node can open them."""
        self.link.write([bytes(500), bytes(500)])
        self.link.write([bytes(500), b"last"])
        self.assertEqual(self.port.packets, [])
        self.clock.advance(0)
        contents = [self.node.open(packet).content for packet in self.port.packets]
        self.assertEqual(contents, [bytes(1000), bytes(500) + b"last"])
        self.assertTrue(all(len(packet) <= 1400 for packet in self.port.packets))

    def test_receive(self) -> None:
        """A DATA packet of the node is handed on; the same packet again is not."""
        packet = self.node.seal(PacketKind.DATA, b"frames")
        self.link.datagramReceived(packet, ("127.0.0.1", 7100))
        self.link.datagramReceived(packet, ("127.0.0.1", 7100))
        self.assertEqual(self.receiver.told, [b"frames"])
        self.assertEqual(self.link.dropped["replayed"], 1)

    def test_forged(self) -> None:
        """What does not open is dropped without an answer, and counted."""
        packet = bytearray(self.node.seal(PacketKind.DATA, b"frames"))
        packet[-1] ^= 1
        for datagram in (bytes(packet), b"", b"short", bytes(1500)):
            self.link.datagramReceived(datagram, ("127.0.0.1", 7100))
        self.clock.advance(1)
        self.assertEqual((self.receiver.told, self.port.packets), ([], []))
        self.assertEqual(sum(self.link.dropped.values()), 4)

    def test_reset(self) -> None:
        """RST ends the connection with the node's reason."""
        self.link.datagramReceived(self.node.seal(PacketKind.RST, encode_goodbye(4500, "replaced")), None)
        self.assertEqual(self.receiver.told, [(4500, "replaced")])
        self.assertFalse(self.port.is_open)

    def test_reset_without_a_reason(self) -> None:
        """Even an RST that cannot be read ends it."""
        self.link.datagramReceived(self.node.seal(PacketKind.RST, b""), None)
        self.assertEqual(self.receiver.told[0][0], None)

    def test_refusals(self) -> None:
        """One "port unreachable" proves nothing; several without a word of the node do."""
        self.link.connectionRefused()
        self.link.connectionRefused()
        self.link.datagramReceived(self.node.seal(PacketKind.DATA, b"alive"), None)
        self.link.connectionRefused()
        self.link.connectionRefused()
        self.assertEqual(self.receiver.told, [b"alive"])
        self.link.connectionRefused()
        self.assertEqual(self.receiver.told[1:], [(None, "connection refused")])

    def test_full_socket(self) -> None:
        """A packet that the socket does not take is lost, as packets are, and counted."""
        self.port.failure = BlockingIOError()
        self.link.write([b"x"])
        self.clock.advance(0)
        self.assertEqual(self.link.dropped["unsent"], 1)

    def test_close(self) -> None:
        """close sends what was written, then nothing more comes or goes."""
        self.link.write([b"goodbye"])
        self.successResultOf(self.link.close())
        self.assertEqual([self.node.open(packet).content for packet in self.port.packets], [b"goodbye"])
        self.link.write([b"late"])
        self.link.datagramReceived(self.node.seal(PacketKind.DATA, b"late"), None)
        self.clock.advance(1)
        self.assertEqual((len(self.port.packets), self.receiver.told, self.port.is_open), (1, [], False))

    def test_abort(self) -> None:
        """abort sends nothing more."""
        self.link.write([b"x"])
        self.link.abort()
        self.clock.advance(0)
        self.assertEqual((self.port.packets, self.port.is_open), ([], False))


class OpenUdpLinkTests(SynchronousTestCase):
    """Opening."""

    def test_needs_a_user(self) -> None:
        """The endpoint call names the user, so one has to be given."""
        address = parse_url("udp+http://127.0.0.1:7000")
        opened = open_udp_link(Clock(), address, RecordingReceiver(), Credentials(None, "jwt", ""), ClientOptions())
        self.failureResultOf(opened, ConnectFailed)
