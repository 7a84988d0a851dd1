"""UDP in memory: a reactor whose ports only remember, and a node's end with its half of the reliability machine."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from meshrelay.client.endpoint import decode_endpoint
from meshrelay.machine.reliability import Event, MessageReceived, ReliabilityMachine, ReliabilityOptions
from meshrelay.wire.datagram import TO_CLIENT, PacketCodec, PacketKind, session_key
from tests.client.test_endpoint import answer

__all__ = ["ENDPOINT", "MemoryUdpPort", "MemoryUdpReactor", "UdpNodeEnd"]

ENDPOINT = decode_endpoint(answer())


class MemoryUdpPort:
    """Stands where a UDP port and its socket stand.

    :ivar places: where each packet went; None: to the node that it is connected to.
    :ivar failure: what sending fails with; None = it works.
    :ivar closing: what fires when it is closed; None = it is closed at once.
    """

    def __init__(self, protocol: Any, interface: str, connect_failure: OSError | None, number: int) -> None:
        self.protocol = protocol
        self.interface = interface
        self.packets: list[bytes] = []
        self.places: list[tuple[str, int] | None] = []
        self.number = number
        self.peer: tuple[str, int] | None = None
        self.is_open = True
        self.failure: Exception | None = None
        self.closing: Deferred[None] | None = None
        self.options: list[tuple[int, int, int]] = []
        self.socket = self
        self._connect_failure = connect_failure

    def connect(self, host: str, port: int) -> None:
        if self._connect_failure is not None:
            raise self._connect_failure
        self.peer = (host, port)

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self.options.append((level, option, value))

    def write(self, packet: bytes, addr: tuple[str, int] | None = None) -> None:
        # As a real one: connected or with an address.
        assert (self.peer is None) is (addr is not None)
        if self.failure is not None:
            raise self.failure
        self.packets.append(packet)
        self.places.append(addr)

    def getHost(self) -> IPv4Address:
        return IPv4Address("UDP", "0.0.0.0", self.number)

    def stopListening(self) -> Deferred[None]:
        self.is_open = False
        self.protocol.stopProtocol()
        return self.closing or succeed(None)


class MemoryUdpReactor(Clock):
    """A clock with ports.

    :ivar ports: all that were opened, in order.
    :ivar connect_failure: what the next port fails with when it is connected.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ports: list[MemoryUdpPort] = []
        self.connect_failure: OSError | None = None

    @property
    def port(self) -> MemoryUdpPort:
        """The newest one."""
        return self.ports[-1]

    def listenUDP(self, port: int, protocol: Any, interface: str = "", maxPacketSize: int = 0) -> MemoryUdpPort:
        """See `IReactorUDP`."""
        self.ports.append(MemoryUdpPort(protocol, interface, self.connect_failure, 40000 + len(self.ports)))
        return self.ports[-1]


class UdpNodeEnd:
    """The node's end of one session: opens what the client sent from its newest port, and answers there.

    :ivar data: contents of DATA packets, in order.
    :ivar kinds: kinds of all packets, in order.
    :ivar events: what the machine said.
    :ivar is_deaf: True: packets of the client are lost.
    """

    def __init__(self, reactor: MemoryUdpReactor, options: ReliabilityOptions | None = None) -> None:
        self.reactor = reactor
        self.codec = PacketCodec(ENDPOINT.sid_bytes, session_key(*ENDPOINT.secrets), TO_CLIENT)
        self.machine = ReliabilityMachine(False, (1 << 32) - 2, options)
        self.data: list[bytes] = []
        self.kinds: list[PacketKind] = []
        self.events: list[Event] = []
        self.is_deaf = False

    @property
    def messages(self) -> bytes:
        """All that came reliably."""
        return b"".join(event.data for event in self.events if isinstance(event, MessageReceived))

    def send(self, kind: PacketKind, content: bytes) -> None:
        """Send one packet to the client."""
        self.reactor.port.protocol.datagramReceived(self.codec.seal(kind, content), ("127.0.0.1", 7100))

    def take(self) -> None:
        """Take what the client has sent."""
        port = self.reactor.port
        packets, port.packets = port.packets, []
        for datagram in packets if not self.is_deaf else []:
            packet = self.codec.open(datagram)
            self.kinds.append(packet.kind)
            if packet.kind is PacketKind.DATA:
                self.data.append(packet.content)
            elif packet.kind is not PacketKind.RST:
                self.machine.receive_packet(packet.kind, packet.content, self.reactor.seconds())
        while (event := self.machine.next_event()) is not None:
            self.events.append(event)

    def exchange(self, seconds: float = 0.1, step: float = 0.005) -> None:
        """Let both ends talk for so long."""
        end = self.reactor.seconds() + seconds
        while self.reactor.seconds() < end:
            self.reactor.advance(0)
            self.take()
            now = self.reactor.seconds()
            self.machine.deadline_passed(now)
            for kind, content in self.machine.packets_to_send(now):
                self.send(kind, content)
            self.reactor.advance(step)
