"""Fixed workloads in memory for `guard.py`: real protocols on streams without sockets, a node on a clock without time.

Each workload is a function that builds what it needs and returns another, which does the same work at each call and
returns how many messages it delivered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from random import Random
from types import MappingProxyType
from typing import Any, NamedTuple

from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransport

from meshrelay.background import Alarms
from meshrelay.config.schema import Config, GroupConfig
from meshrelay.fanout.outbox import OutboxLimits
from meshrelay.machine.reliability import ReliabilityOptions
from meshrelay.session.auth import Identity
from meshrelay.testing.memory_groups import GroupCluster
from meshrelay.testing.node import MemoryNode, make_node
from meshrelay.transport.stream_link import StreamParts
from meshrelay.transport.tcp import TcpFactory
from meshrelay.transport.udp import UdpListener
from meshrelay.transport.udp_link import UdpParts
from meshrelay.transport.websocket import NodeWebSocketFactory, WebSocketRules
from meshrelay.wire.commands import (
    BUILT_IN_VER,
    CORE_VER,
    Command,
    CoreCommand,
    encode_direct,
    encode_gid_message,
)
from meshrelay.wire.datagram import TO_NODE, PacketCodec, PacketKind, session_key
from meshrelay.wire.frame import HEADER_BYTES, encode_frame
from meshrelay.wire.hello import Hello, encode_hello

__all__ = ["WORKLOADS", "Workload"]

Workload = Callable[[], Callable[[], int]]

PAYLOAD = bytes(128)

#: Messages that come in one read.
BURST = 10

READS = 10

TCP_MEMBERS = 100
WEBSOCKET_MEMBERS = 100
UDP_MEMBERS = 10

_CLIENT_PLACE = ("192.0.2.1", 7)

_UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: relay.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class _Stream(StringTransport):
    """A stream that takes everything and keeps nothing."""

    def __init__(self) -> None:
        place = IPv4Address("TCP", *_CLIENT_PLACE)
        super().__init__(peerAddress=place, lenient=True)  # type: ignore[no-untyped-call]

    def write(self, data: bytes) -> None:
        """See `ITransport`."""


class _DatagramSocket:
    """A socket that takes everything and keeps nothing."""

    def sendto(self, packet: bytes, address: object) -> int:
        """As `socket.socket.sendto`."""
        return len(packet)

    def sendmsg(self, buffers: list[bytes], ancillary: object, flags: int, address: object) -> int:
        """As `socket.socket.sendmsg`."""
        return sum(map(len, buffers))

    def setsockopt(self, level: int, option: int, value: int) -> None:
        """As `socket.socket.setsockopt`."""

    def getsockopt(self, level: int, option: int) -> int:
        """As `socket.socket.getsockopt`."""
        return 0


class _DatagramPort(NamedTuple):
    """What a datagram protocol has for a transport."""

    socket: _DatagramSocket


class _Node:
    """A node in memory with all transports of the daemon.

    :ivar group_id: of the only group.
    """

    def __init__(self) -> None:
        config = Config(group=GroupConfig(send_interval_ms=0))
        self.memory: MemoryNode = make_node(config)
        session = config.session
        node = self.memory
        parts = StreamParts(
            node.turn,
            node.alarms,
            OutboxLimits(session.outbox_bytes, session.slow_consumer),
            node.counters,
            session.max_payload_bytes,
        )
        accept = node.reception.accept
        reactor: Any = node.clock
        self._tcp = TcpFactory(accept, parts)
        self._websocket = NodeWebSocketFactory(accept, parts, WebSocketRules((), 5.0), reactor)
        self.udp = UdpListener(node.reception, _udp_parts(node, config))
        port: Any = _DatagramPort(_DatagramSocket())
        self.udp.transport = port
        self.udp.startProtocol()
        # A client in memory makes the group and leaves: its link decodes all that it is sent.
        maker = node.sign_in("maker")
        self.group_id = maker.create_group(allow_empty=True, join=False)
        maker.lose()

    def _sign_in(
        self, factory: Any, user_id: str, opening: bytes, wrap: Callable[[bytes], bytes]
    ) -> Callable[[bytes], None]:
        protocol = factory.buildProtocol(None)
        protocol.makeConnection(_Stream())
        protocol.dataReceived(opening)
        hello = encode_frame(CORE_VER, 0, CoreCommand.HELLO, 1, encode_hello(Hello(protocol=1, user=user_id)))
        protocol.dataReceived(wrap(hello))
        self.memory.settle()
        protocol.dataReceived(wrap(self.join_frame()))
        self.memory.settle()
        take: Callable[[bytes], None] = protocol.dataReceived
        return take

    def join_frame(self) -> bytes:
        """GROUP_JOIN."""
        return encode_frame(BUILT_IN_VER, 0, Command.GROUP_JOIN, 2, encode_gid_message(self.group_id, b""))

    def tcp(self, user_id: str) -> Callable[[bytes], None]:
        """Sign a member in over TCP; return what takes its bytes."""
        return self._sign_in(self._tcp, user_id, b"", bytes)

    def websocket(self, user_id: str) -> Callable[[bytes], None]:
        """The same over WebSocket; what it takes are masked frames, see `masked`."""
        return self._sign_in(self._websocket, user_id, _UPGRADE, masked)

    def udp_client(self, user_id: str, number: int) -> PacketCodec:
        """The same over UDP; return what seals its packets."""
        secrets = self.udp.reserve(Identity(user_id, {}), "")
        codec = PacketCodec(secrets.sid, session_key(secrets.key, secrets.iv, secrets.mac_key), TO_NODE)
        self.udp.datagramReceived(codec.seal(PacketKind.DATA, self.join_frame()), (_CLIENT_PLACE[0], number))
        self.memory.settle()
        return codec

    def broadcast_frame(self) -> bytes:
        """GROUP_BROADCAST that wants no answer and need not arrive."""
        return encode_frame(BUILT_IN_VER, 0, Command.GROUP_BROADCAST, 0, encode_gid_message(self.group_id, PAYLOAD))

    def sent(self) -> int:
        """Frames that went to clients."""
        return sum(each.messages_sent for each in self.memory.counters.transports.values())

    def work(self, read: Callable[[], object], deliveries: int) -> Callable[[], int]:
        """Return what reads `READS` times, a turn for each.

        :raises AssertionError: not so many deliveries, so that what was counted means nothing.
        """

        def run() -> int:
            before = self.sent()
            for _ in range(READS):
                read()
                self.memory.clock.advance(0)
            if self.sent() - before != deliveries:
                raise AssertionError(f"{self.sent() - before} deliveries instead of {deliveries}")
            return deliveries

        return run


def _udp_parts(node: MemoryNode, config: Config) -> UdpParts:
    session = config.session
    return UdpParts(
        node.turn,
        node.alarms,
        Alarms(node.clock, 0.002),
        node.counters,
        Random(1).randbytes,
        session.max_payload_bytes,
        session.hello_timeout_seconds,
        ReliabilityOptions(
            max_message_bytes=session.max_payload_bytes + HEADER_BYTES,
            send_buffer_bytes=session.outbox_bytes,
            receive_window_packets=session.receive_window_packets,
        ),
        session.slow_consumer,
    )


def masked(frame: bytes) -> bytes:
    """A client's WebSocket message of at most 65,535 bytes (RFC 6455, section 5.2)."""
    mask = b"\x01\x02\x03\x04"
    size = len(frame)
    head = bytes((0x82, 0x80 | size)) if size < 126 else bytes((0x82, 0xFE)) + size.to_bytes(2, "big")
    return head + mask + bytes(byte ^ mask[index & 3] for index, byte in enumerate(frame))


def broadcast() -> Callable[[], int]:
    """One sender, many members on all transports."""
    node = _Node()
    send = node.tcp("sender")
    for number in range(TCP_MEMBERS):
        node.tcp(f"tcp-{number}")
    for number in range(WEBSOCKET_MEMBERS):
        node.websocket(f"websocket-{number}")
    for number in range(UDP_MEMBERS):
        node.udp_client(f"udp-{number}", number + 1)
    data = node.broadcast_frame() * BURST
    members = TCP_MEMBERS + WEBSOCKET_MEMBERS + UDP_MEMBERS
    return node.work(lambda: send(data), READS * BURST * members)


def direct() -> Callable[[], int]:
    """Direct messages in one read over TCP, each answered."""
    node = _Node()
    send = node.tcp("ann")
    node.tcp("bob")
    frames = [
        encode_frame(BUILT_IN_VER, 0, Command.DM_SEND, number, encode_direct("bob", PAYLOAD))
        for number in range(1, BURST * BURST + 1)
    ]
    data = b"".join(frames)
    # A push and an answer for each.
    run = node.work(lambda: send(data), 2 * READS * len(frames))
    return lambda: run() // 2


def one_direct(is_websocket: bool) -> Callable[[], int]:
    """Direct messages of which each comes in a read of its own and wants no answer: from many users, in one turn."""
    node = _Node()
    sign_in, wrap = (node.websocket, masked) if is_websocket else (node.tcp, bytes)
    pairs = []
    for number in range(BURST):
        sign_in(f"to-{number}")
        frame = encode_frame(BUILT_IN_VER, 1, Command.DM_SEND, 0, encode_direct(f"to-{number}", PAYLOAD))
        pairs.append((sign_in(f"from-{number}"), wrap(frame)))

    def read() -> None:
        for send, data in pairs:
            send(data)

    return node.work(read, READS * BURST)


def received_by_websocket() -> Callable[[], int]:
    """Messages of one frame each, in one read, to one other member."""
    node = _Node()
    send = node.websocket("ann")
    node.tcp("bob")
    data = masked(node.broadcast_frame()) * BURST * BURST
    return node.work(lambda: send(data), READS * BURST * BURST)


def received_by_udp() -> Callable[[], int]:
    """Packets of one frame each that are read together, to one other member."""
    node = _Node()
    codec = node.udp_client("ann", 1)
    node.tcp("bob")
    frame = node.broadcast_frame()
    seal = codec.seal

    def read() -> None:
        node.udp.datagrams_received([(seal(PacketKind.DATA, frame), ("192.0.2.1", 1)) for _ in range(BURST)])

    return node.work(read, READS * BURST)


def across_nodes() -> Callable[[], int]:
    """Messages to members who are at another node."""
    cluster = GroupCluster(["a", "b"])
    sender = cluster["a"].sign_in("ann")
    group_id = sender.create_group()
    members = [cluster["b"].sign_in(f"member-{number}") for number in range(BURST)]
    for member in members:
        cluster.join(member, group_id)
    cluster.run(1)

    def run() -> int:
        for member in members:
            member.frames()
        for _ in range(READS):
            for _ in range(BURST):
                sender.broadcast(group_id, PAYLOAD)
            cluster.run(0.02)
        cluster.run(0.1)
        delivered = sum(len(member.messages()) for member in members)
        if delivered != READS * BURST * len(members):
            raise AssertionError(f"{delivered} deliveries")
        return delivered

    return run


WORKLOADS: Mapping[str, Workload] = MappingProxyType(
    {
        "broadcast to 210": broadcast,
        "direct messages": direct,
        "direct messages one by one": partial(one_direct, False),
        "direct messages one by one, WebSocket": partial(one_direct, True),
        "received by WebSocket": received_by_websocket,
        "received by UDP": received_by_udp,
        "across nodes": across_nodes,
    }
)
