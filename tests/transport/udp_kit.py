"""A UDP port in memory, and clients that seal and open their packets themselves."""

from __future__ import annotations

import sys
from contextlib import suppress
from random import Random
from typing import Any

from meshrelay.background import Alarms
from meshrelay.config.schema import Config
from meshrelay.errors import PacketRejected
from meshrelay.machine.reliability import Event, ReliabilityMachine, ReliabilityOptions
from meshrelay.session.auth import Identity
from meshrelay.testing.node import MemoryNode, make_node
from meshrelay.transport.udp import UdpCredentials, UdpListener
from meshrelay.transport.udp_link import UdpParts
from meshrelay.transport.udp_sender import UdpSender
from meshrelay.wire.datagram import TO_NODE, OpenedPacket, PacketCodec, PacketKind, session_key
from meshrelay.wire.frame import HEADER_BYTES, Frame, encode_frame, whole_frames

__all__ = ["HOME", "FakeSocket", "UdpClient", "UdpKit", "UdpPort"]

Address = tuple[str, int]

#: Where a client is unless a test says otherwise.
HOME: Address = ("192.0.2.1", 7)


class FakeSocket:
    """Keeps what is sent.

    :ivar calls: how often it was called to send.
    :ivar error: raised by `sendto` instead; None = none.
    :ivar segment_error: raised by `sendmsg` instead.
    :ivar granted: buffer sizes, whatever was asked for.
    """

    def __init__(self) -> None:
        self.packets: list[tuple[bytes, Address]] = []
        self.calls = 0
        self.error: OSError | None = None
        self.segment_error: OSError | None = None
        self.granted = 425_984
        self.asked: list[int] = []

    def sendto(self, packet: bytes, address: Address) -> int:
        """As `socket.socket.sendto`."""
        self.calls += 1
        if self.error is not None:
            raise self.error
        self.packets.append((packet, address))
        return len(packet)

    def sendmsg(
        self, buffers: list[bytes], ancillary: list[tuple[int, int, bytes]], flags: int, address: Address
    ) -> int:
        """As `socket.socket.sendmsg` with UDP_SEGMENT: the network sees single packets."""
        self.calls += 1
        if self.segment_error is not None:
            raise self.segment_error
        (data,) = buffers
        ((_, _, size),) = ancillary
        step = int.from_bytes(size, sys.byteorder)
        self.packets += [(data[start : start + step], address) for start in range(0, len(data), step)]
        return len(data)

    def setsockopt(self, level: int, option: int, value: int) -> None:
        """As `socket.socket.setsockopt`."""
        self.asked.append(value)

    def getsockopt(self, level: int, option: int) -> int:
        """As `socket.socket.getsockopt`."""
        return self.granted


class UdpPort:
    """What Twisted gives a datagram protocol."""

    def __init__(self) -> None:
        self.socket = FakeSocket()


class UdpKit:
    """A node with a UDP port and nothing else."""

    def __init__(self, config: Config | None = None, policy: str = "disconnect", set_up: Any = None) -> None:
        config = config or Config()
        session = config.session
        self.node: MemoryNode = make_node(config, set_up)
        self.clock = self.node.clock
        self.counters = self.node.counters
        self.parts = UdpParts(
            self.node.turn,
            self.node.alarms,
            Alarms(self.clock, 0.002),
            self.counters,
            Random(7).randbytes,
            session.max_payload_bytes,
            session.hello_timeout_seconds,
            ReliabilityOptions(
                max_message_bytes=session.max_payload_bytes + HEADER_BYTES,
                send_buffer_bytes=session.outbox_bytes,
                receive_window_packets=session.receive_window_packets,
            ),
            policy,
        )
        self.listener = UdpListener(self.node.reception, self.parts)
        port: Any = UdpPort()
        self.socket: FakeSocket = port.socket
        self.listener.transport = port
        self.listener.startProtocol()
        #: For links that are made without the listener.
        self.sender = UdpSender(self.node.turn, self.counters)
        self.sender.open(self.socket)

    @property
    def bytes_out(self) -> int:
        """What has left the port."""
        return sum(len(packet) for packet, _ in self.socket.packets)

    def reserve(self, user_id: str = "ann", resume: str = "", received: int | None = None) -> UdpCredentials:
        """As the endpoint page does."""
        return self.listener.reserve(Identity(user_id, {}), resume, received)

    def client(self, user_id: str = "ann", resume: str = "", received: int | None = None) -> UdpClient:
        """Return a client that has its secrets and has sent nothing yet."""
        return UdpClient(self, self.reserve(user_id, resume, received))

    def settle(self) -> None:
        """Let turns end until nothing moves."""
        self.node.settle()


class UdpClient:
    """One client; its packets are made by the rules of the wire and nothing of the node.

    :ivar address: where it sends from.
    :ivar machine: its end of the reliable stream; None until `connect`.
    :ivar events: what came out of the machine.
    """

    def __init__(self, kit: UdpKit, secrets: UdpCredentials) -> None:
        self.kit = kit
        self.sid = secrets.sid
        self.codec = PacketCodec(secrets.sid, session_key(secrets.key, secrets.iv, secrets.mac_key), TO_NODE)
        self.address = HOME
        self.machine: ReliabilityMachine | None = None
        self.events: list[Event] = []
        self._read = len(kit.socket.packets)

    def send_packet(self, packet: bytes) -> None:
        """Send a datagram as it is."""
        self.kit.listener.datagramReceived(packet, self.address)

    def send(self, kind: PacketKind, content: bytes) -> None:
        """Send one sealed packet."""
        self.send_packet(self.codec.seal(kind, content))

    def send_data(self, cmd: int = 2, payload: bytes = b"", ver: int = 0, request_id: int = 1) -> None:
        """Send one frame in a DATA packet; PING unless told otherwise."""
        self.send(PacketKind.DATA, encode_frame(ver, 0, cmd, request_id, payload))

    def packets(self, address: Address | None = None) -> list[OpenedPacket]:
        """Open what came since the last call, to any address or to one; other secrets' packets are left out."""
        self.kit.settle()
        new = self.kit.socket.packets[self._read :]
        self._read += len(new)
        opened = []
        for datagram, to in new:
            if datagram[2:18] == self.sid and address in (None, to):
                with suppress(PacketRejected):
                    opened.append(self.codec.open(datagram))
        return opened

    def frames(self) -> list[Frame]:
        """Frames of the DATA packets that came since the last call."""
        data = [packet.content for packet in self.packets() if packet.kind is PacketKind.DATA]
        return [frame for content in data for frame in whole_frames(content, 1 << 24)]

    def connect(self, options: ReliabilityOptions | None = None) -> ReliabilityMachine:
        """Open the reliable stream and return its machine."""
        self.machine = ReliabilityMachine(True, 4_000_000_000, options)
        self.machine.connect(self.kit.clock.seconds())
        self.exchange()
        return self.machine

    def exchange(self, rounds: int = 8) -> None:
        """Let packets go both ways until nothing moves; DATA packets are passed over."""
        machine = self.machine
        assert machine is not None
        for _ in range(rounds):
            now = self.kit.clock.seconds()
            for kind, content in machine.packets_to_send(now):
                self.send(kind, content)
            for packet in self.packets():
                if packet.kind is not PacketKind.DATA:
                    machine.receive_packet(packet.kind, packet.content, now)
            while (event := machine.next_event()) is not None:
                self.events.append(event)
            self.kit.clock.advance(0.03)
            machine.deadline_passed(self.kit.clock.seconds())
