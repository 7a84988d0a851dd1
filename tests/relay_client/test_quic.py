"""Tests of `meshrelay.relay_client.quic`: a client and aioquic's own server side, with a network in memory."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from errno import ENETUNREACH, EPERM
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import DNSLookupError
from twisted.internet.task import Clock
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from meshrelay.cli.ca import init_authority, issue_certificate
from meshrelay.relay.addresses import HostAndPort
from meshrelay.relay_client.dial import is_quic_installed
from tests.relay_client.test_websocket import Recorder

CLIENT, SERVER = ("192.0.2.1", 4000), ("198.51.100.1", 443)


class MemorySocket:
    """A UDP port in memory."""

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol
        self.sent: list[bytes] = []
        self.is_closed = False
        #: Why no packet can be sent.
        self.trouble: OSError | None = None
        self.connected_to: tuple[str, int] | None = None

    def connect(self, host: str, port: int) -> None:
        """See `IUDPTransport`."""
        self.connected_to = (host, port)

    def write(self, packet: bytes) -> None:
        """See `IUDPTransport`."""
        assert not self.is_closed
        if self.trouble is not None:
            raise self.trouble
        self.sent.append(packet)

    def getHost(self) -> IPv4Address:
        """See `IUDPTransport`."""
        return IPv4Address("UDP", *CLIENT)

    def stopListening(self) -> Deferred[None]:
        """See `IUDPTransport`."""
        self.is_closed = True
        self.protocol.doStop()
        return succeed(None)


class MemoryReactor(Clock):
    """Time and UDP ports."""

    def __init__(self) -> None:
        super().__init__()
        self.sockets: list[MemorySocket] = []
        self.addresses: dict[str, str] = {}

    def listenUDP(self, port: int, protocol: Any, interface: str = "") -> MemorySocket:
        """See `IReactorUDP`."""
        socket = MemorySocket(protocol)
        self.sockets.append(socket)
        protocol.makeConnection(socket)
        return socket

    def resolve(self, name: str) -> Deferred[str]:
        """See `IReactorCore`."""
        return succeed(self.addresses[name]) if name in self.addresses else fail(DNSLookupError(name))


def _refuse(socket: MemorySocket, packet: bytes) -> None:
    raise OSError(EPERM, "not permitted")


class RelayQuicTests(SynchronousTestCase):
    """Messages of a relay over QUIC."""

    def setUp(self) -> None:
        if not is_quic_installed():
            raise SkipTest("missing: aioquic")
        directory = Path(self.mktemp())
        directory.mkdir(parents=True)
        init_authority(directory, datetime.now(UTC))
        issue_certificate(directory, "relay", ("relay.example", SERVER[0]), datetime.now(UTC))
        self.directory = directory
        self.reactor = MemoryReactor()
        self.receiver = Recorder()
        self.server: Any = None
        self.received: list[bytes] = []

    def dial(self, place: tuple[str, int] = SERVER, name: str = "relay.example") -> Deferred[Any]:
        """Begin to connect."""
        from meshrelay.relay_client.quic import open_relay_quic

        return open_relay_quic(self.reactor, HostAndPort(*place), name, str(self.directory / "ca.pem"))

    def exchange(self) -> None:
        """Carry packets until nobody has any."""
        from aioquic.quic.events import DatagramFrameReceived

        socket = self.reactor.sockets[-1]
        while socket.sent:
            packets, socket.sent = socket.sent, []
            for packet in packets:
                self.to_server(packet)
            while (event := self.server.next_event()) is not None:
                if isinstance(event, DatagramFrameReceived):
                    self.received.append(event.data)
            self.from_server()
            self.reactor.advance(0.001)

    def to_server(self, packet: bytes) -> None:
        """Carry one packet; the first one makes the server."""
        from aioquic._buffer import Buffer
        from aioquic.quic.configuration import QuicConfiguration
        from aioquic.quic.connection import QuicConnection
        from aioquic.quic.packet import pull_quic_header

        if self.server is None:
            configuration = QuicConfiguration(
                is_client=False, alpn_protocols=["nb-quic"], max_datagram_frame_size=16383
            )
            configuration.load_cert_chain(self.directory / "relay.pem", self.directory / "relay.key")
            header = pull_quic_header(Buffer(data=packet), host_cid_length=8)
            self.server = QuicConnection(
                configuration=configuration, original_destination_connection_id=header.destination_cid
            )
        self.server.receive_datagram(packet, CLIENT, now=self.reactor.seconds())

    def from_server(self) -> None:
        """Carry what the server has to say."""
        socket = self.reactor.sockets[-1]
        for packet, _ in self.server.datagrams_to_send(now=self.reactor.seconds()):
            if not socket.is_closed:
                socket.protocol.datagramReceived(packet, SERVER)

    def open(self) -> Any:
        """A link that is open."""
        opened = self.dial()
        self.exchange()
        link = self.successResultOf(opened)
        link.start(self.receiver)
        return link

    def test_messages(self) -> None:
        """Each message is one datagram, both ways, up to the longest that fits."""
        link = self.open()
        messages = [b"one", bytes(link.max_message_bytes), b"three"]
        for message in messages:
            link.send(message)
        self.reactor.advance(0)
        self.exchange()
        self.assertEqual(self.received, messages)
        self.server.send_datagram_frame(b"back")
        self.from_server()
        self.assertEqual(self.receiver.told, [b"back"])
        self.assertEqual((link.transport_name, link.peer_ip, link.host.host), ("quic", SERVER[0], CLIENT[0]))

    def test_name(self) -> None:
        """A name is looked up; one without an address is an error."""
        self.reactor.addresses["relay.example"] = SERVER[0]
        opened = self.dial(("relay.example", 443))
        self.assertEqual(self.reactor.sockets[0].connected_to, SERVER)
        self.exchange()
        self.successResultOf(opened)
        self.failureResultOf(self.dial(("gone.example", 443)), DNSLookupError)

    def test_wrong_certificate(self) -> None:
        """A certificate of somebody else is refused."""
        from meshrelay.relay_client.quic import QuicRefused

        opened = self.dial(name="other.example")
        self.exchange()
        self.reactor.advance(2.0)
        self.failureResultOf(opened, QuicRefused)
        self.assertTrue(self.reactor.sockets[0].is_closed)

    def test_nobody_listens(self) -> None:
        """When an ICMP message says that nobody listens, by either way of the reactor, the attempt ends at once."""
        from meshrelay.relay_client.quic import QuicRefused

        for how in ("connectionRefused", "doStop"):
            opened = self.dial()
            getattr(self.reactor.sockets[-1].protocol, how)()
            self.failureResultOf(opened, QuicRefused)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_cancel(self) -> None:
        """Cancelling closes the socket, and no timer is left."""
        opened = self.dial()
        opened.cancel()
        self.failureResultOf(opened, CancelledError)
        self.assertTrue(self.reactor.sockets[0].is_closed)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_close(self) -> None:
        """Closing sends what waits and says so; twice is once."""
        link = self.open()
        link.send(b"last")
        self.successResultOf(link.close())
        self.successResultOf(link.close())
        link.abort()
        link.send(b"too late")
        packets = self.reactor.sockets[0].sent
        for packet in packets:
            self.to_server(packet)
        # aioquic tells of an end when the time for what is still on the way is over.
        self.server.handle_timer(now=self.server.get_timer())
        events = []
        while (event := self.server.next_event()) is not None:
            events.append(type(event).__name__)
        self.assertEqual(events, ["DatagramFrameReceived", "ConnectionTerminated"])
        self.assertEqual((self.receiver.told, self.reactor.getDelayedCalls()), ([], []))

    def test_server_closes(self) -> None:
        """When the server closes the owner hears why."""
        self.open()
        self.server.close(error_code=0, reason_phrase="normal closure")
        self.from_server()
        self.reactor.advance(1.0)
        self.assertEqual(self.receiver.told, ["lost: normal closure"])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_silent_server(self) -> None:
        """A server that is silent for longer than the idle timeout is gone; pings keep it up until then."""
        self.open()
        for _ in range(400):
            self.reactor.advance(1.0)
        [told] = self.receiver.told
        self.assertIn("lost", str(told))

    def test_no_network(self) -> None:
        """Where the kernel takes no packets the link ends as with a server that is silent, and can be closed."""
        self.open()
        self.reactor.sockets[0].trouble = OSError(ENETUNREACH, "unreachable")
        for _ in range(400):
            self.reactor.advance(1.0)
        [told] = self.receiver.told
        self.assertIn("lost", str(told))
        self.server = None
        link = self.open()
        self.reactor.sockets[-1].trouble = OSError(EPERM, "not permitted")
        link.send(b"x")
        self.successResultOf(link.close())
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_no_network_at_once(self) -> None:
        """An attempt that cannot send a packet can be given up, and leaves nothing."""
        listen = self.reactor.listenUDP

        def listen_without(port: int, protocol: Any, interface: str = "") -> MemorySocket:
            self.patch(MemorySocket, "write", _refuse)
            return listen(port, protocol, interface)

        self.patch(self.reactor, "listenUDP", listen_without)
        opened = self.dial()
        self.reactor.advance(20.0)
        opened.cancel()
        self.failureResultOf(opened, CancelledError)
        self.assertTrue(self.reactor.sockets[0].is_closed)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_flow(self) -> None:
        """While the congestion window holds messages back the owner is asked to pause, and then to go on."""
        link = self.open()
        for _ in range(200):
            link.send(bytes(1000))
        # In the same turn: who writes until it has to wait gives the reactor no other.
        self.assertEqual(self.receiver.told, ["paused"])
        self.reactor.advance(0)
        self.assertEqual(self.receiver.told, ["paused"])
        for _ in range(100):
            self.exchange()
            self.reactor.advance(0.05)
        self.assertEqual(self.receiver.told, ["paused", "resumed"])
        self.assertEqual(len(self.received), 200)

    def test_system_authorities(self) -> None:
        """Without a file the authorities of the system are trusted."""
        from meshrelay.relay_client.quic import open_relay_quic

        opened = open_relay_quic(self.reactor, HostAndPort(*SERVER), "relay.example", None)
        configuration = self.reactor.sockets[0].protocol._quic.configuration
        self.assertEqual(configuration.cafile, ssl.get_default_verify_paths().cafile)
        opened.cancel()
        self.failureResultOf(opened, CancelledError)
