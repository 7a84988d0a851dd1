"""Sealed datagrams, one session each (client protocol, section 5).

A client asks the endpoint API for a sid and secrets (`UdpListener.reserve`); its first packet that opens makes the session
live and takes over from an older connection of the user, so that asking alone disturbs nobody. Until then, and for
everything that does not open, not a single byte is sent.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from socket import SO_RCVBUF, SO_SNDBUF, SOL_SOCKET
from typing import Any, NamedTuple

from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger
from zope.interface import implementer

from meshrelay.background import Alarms
from meshrelay.counters import NodeCounters
from meshrelay.errors import ErrorCode, PacketRejected, RemoteProtocolError
from meshrelay.fanout.turn import Turn
from meshrelay.interfaces import IDownlink
from meshrelay.model import CloseReason, Status
from meshrelay.session.auth import Identity
from meshrelay.session.connection import Connection, Reception
from meshrelay.session.registry import Resume
from meshrelay.transport.stream_link import goodbye_frame
from meshrelay.wire.commands import encode_error
from meshrelay.wire.datagram import TO_CLIENT, OpenedPacket, PacketCodec, PacketKind, packet_sid, session_key
from meshrelay.wire.frame import encode_frame, whole_frames
from meshrelay.wire.prepared import MAX_DATAGRAM_CONTENT, Batch

__all__ = ["MAX_RESERVATIONS", "Address", "UdpCredentials", "UdpLink", "UdpListener", "UdpParts"]

#: Reservations kept at the same time; beyond, the oldest is forgotten.
MAX_RESERVATIONS = 16384

#: Asked of the kernel for each direction: bursts of thousands of datagrams come between two turns.
SOCKET_BUFFER_BYTES = 4 * 1024 * 1024

#: More than this is not left waiting for the end of a turn.
MAX_PENDING_BYTES = 64 * 1024

Address = tuple[Any, ...]


class UdpCredentials(NamedTuple):
    """What the endpoint API tells a client; 16 bytes each."""

    sid: bytes
    key: bytes
    iv: bytes
    mac_key: bytes


class UdpParts(NamedTuple):
    """What the listener and its links share."""

    turn: Turn
    alarms: Alarms
    counters: NodeCounters
    #: ``random_bytes(n)`` -> n bytes that nobody can guess.
    random_bytes: Callable[[int], bytes]
    max_payload_bytes: int
    #: How long the first packet may take.
    reservation_seconds: float


class _Reservation(NamedTuple):
    identity: Identity
    codec: PacketCodec
    resume: str


@implementer(IDownlink)
class UdpLink:
    """`IDownlink` of one UDP session.

    :ivar address: where the client was heard last.
    """

    transport_name = "udp"

    __slots__ = (
        "_listener",
        "_parts",
        "_pending",
        "_pending_bytes",
        "address",
        "codec",
        "connection",
        "is_over",
        "sid",
    )

    def __init__(
        self, listener: UdpListener, parts: UdpParts, sid: bytes, codec: PacketCodec, address: Address
    ) -> None:
        self._listener = listener
        self._parts = parts
        self._pending: list[tuple[bytes, int]] = []
        self._pending_bytes = 0
        self.sid = sid
        self.codec = codec
        self.address = address
        self.connection: Connection | None = None
        self.is_over = False

    @property
    def peer(self) -> str:
        """See `IDownlink`."""
        return f"{self.address[0]}:{self.address[1]}"

    @property
    def queued_bytes(self) -> int:
        """See `IDownlink`."""
        return self._pending_bytes

    def send_batch(self, batch: Batch) -> None:
        """See `IDownlink`."""
        for content, count in batch.datagrams:
            self._add(content, count)

    def send_frame(self, frame: bytes) -> None:
        """See `IDownlink`. An answer that no datagram holds becomes code 5, so that nobody waits for it."""
        self._add(frame if len(frame) <= MAX_DATAGRAM_CONTENT else _too_large(frame), 1)

    def _add(self, content: bytes, count: int) -> None:
        if self.is_over:
            return
        if not self._pending:
            self._parts.turn.write(self)
        self._pending.append((content, count))
        self._pending_bytes += len(content)
        if self._pending_bytes > MAX_PENDING_BYTES:
            self.flush()

    def flush(self) -> None:
        """Seal and send what waits, neighbours together as long as they fit."""
        pending, self._pending = self._pending, []
        self._pending_bytes = 0
        joined: list[bytes] = []
        size = frames = 0
        for content, count in pending:
            if joined and size + len(content) > MAX_DATAGRAM_CONTENT:
                self._send_data(b"".join(joined), frames)
                joined, size, frames = [], 0, 0
            joined.append(content)
            size += len(content)
            frames += count
        if joined:
            self._send_data(b"".join(joined), frames)

    def _send_data(self, content: bytes, frames: int) -> None:
        if len(content) > MAX_DATAGRAM_CONTENT:
            self._parts.counters.packets_dropped["too_large"] += 1
            return
        self._parts.counters.transports["udp"].messages_sent += frames
        self._listener.send_packet(self.codec.seal(PacketKind.DATA, content), self.address)

    def pause_reading(self) -> None:
        """See `IDownlink`."""

    def resume_reading(self) -> None:
        """See `IDownlink`."""

    def close(self, reason: CloseReason | None, text: str) -> None:
        """See `IDownlink`."""
        if self.is_over:
            return
        if reason is not None:
            self.send_frame(goodbye_frame(reason, text))
        self.flush()
        if reason is not None:
            content = reason.code.to_bytes(2, "big") + text.encode("utf-8")[:256]
            self._listener.send_packet(self.codec.seal(PacketKind.RST, content), self.address)
        self._end()

    def abort(self) -> None:
        """See `IDownlink`."""
        self._end()

    def _end(self) -> None:
        self.is_over = True
        self._pending = []
        self._pending_bytes = 0
        self._listener.forget(self)
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.connection_lost("")

    def packet_received(self, packet: OpenedPacket, address: Address) -> None:
        """Take what the client sealed; the address of the newest packet is where the client is."""
        connection = self.connection
        if connection is None:
            return
        if packet.is_newest:
            self.address = address
        connection.heard()
        if packet.kind is PacketKind.DATA:
            try:
                for frame in whole_frames(packet.content, self._parts.max_payload_bytes):
                    connection.frame_received(frame)
            except RemoteProtocolError as error:
                connection.protocol_broken(error)
        elif packet.kind is PacketKind.RST:
            self._end()


def _too_large(frame: bytes) -> bytes:
    ver, _, cmd, request_id, payload = whole_frames(frame, len(frame))[0]
    text = f"the answer of {len(payload)} bytes fits no datagram"
    return encode_frame(ver, Status.BAD, cmd, request_id, encode_error(ErrorCode.MESSAGE_TOO_LARGE, text))


class UdpListener(DatagramProtocol):
    """The UDP port of a node: all its sessions, and those that were only reserved."""

    noisy = False
    _log = Logger()

    def __init__(self, reception: Reception, parts: UdpParts) -> None:
        self._reception = reception
        self._parts = parts
        self._links: dict[bytes, UdpLink] = {}
        self._reservations: OrderedDict[bytes, _Reservation] = OrderedDict()
        self._reserved_by: dict[str, bytes] = {}
        #: What the kernel granted, in bytes.
        self.receive_buffer_bytes = 0
        self.send_buffer_bytes = 0

    @property
    def reservation_count(self) -> int:
        """Endpoint calls whose first packet has not come; at most `MAX_RESERVATIONS`."""
        return len(self._reservations)

    def startProtocol(self) -> None:
        """See `DatagramProtocol`."""
        self._ask_for_buffers(self.transport.socket)

    def _ask_for_buffers(self, socket: Any) -> None:
        for option in (SO_RCVBUF, SO_SNDBUF):
            socket.setsockopt(SOL_SOCKET, option, SOCKET_BUFFER_BYTES)
        self.receive_buffer_bytes = socket.getsockopt(SOL_SOCKET, SO_RCVBUF)
        self.send_buffer_bytes = socket.getsockopt(SOL_SOCKET, SO_SNDBUF)
        self._log.info(
            "UDP socket buffers: asked {asked}, granted {receive} and {send} bytes",
            asked=SOCKET_BUFFER_BYTES,
            receive=self.receive_buffer_bytes,
            send=self.send_buffer_bytes,
        )

    def reserve(self, identity: Identity, resume: str) -> UdpCredentials:
        """Make secrets for a client that was authenticated; its first packet makes the session live.

        :param resume: sid of an earlier session; "" = none. One that is not the user's is passed over.
        """
        if resume and not self._reception.registry.can_resume(identity.user_id, resume):
            resume = ""
        sid = bytes.fromhex(resume) if resume else bytes.fromhex(self._reception.registry.make_sid())
        secrets = UdpCredentials(sid, *(self._parts.random_bytes(16) for _ in range(3)))
        codec = PacketCodec(sid, session_key(secrets.key, secrets.iv, secrets.mac_key), TO_CLIENT)
        self._drop_reservation(self._reserved_by.get(identity.user_id))
        if len(self._reservations) >= MAX_RESERVATIONS:
            self._drop_reservation(next(iter(self._reservations)))
            self._parts.counters.refused["reservations"] += 1
        reservation = _Reservation(identity, codec, resume)
        self._reservations[sid] = reservation
        self._reserved_by[identity.user_id] = sid
        self._parts.alarms.call_later(self._parts.reservation_seconds, lambda: self._reservation_late(sid, reservation))
        return secrets

    def _reservation_late(self, sid: bytes, reservation: _Reservation) -> None:
        if self._reservations.get(sid) is reservation:
            self._drop_reservation(sid)

    def _drop_reservation(self, sid: bytes | None) -> _Reservation | None:
        reservation = self._reservations.pop(sid, None) if sid is not None else None
        if reservation is not None:
            self._reserved_by.pop(reservation.identity.user_id, None)
        return reservation

    def datagramReceived(self, datagram: bytes, addr: Address) -> None:
        """See `DatagramProtocol`."""
        try:
            self._packet_received(datagram, addr)
        except PacketRejected as rejected:
            self._parts.counters.packets_rejected[rejected.reason] += 1
        except Exception:  # an unexpected error costs this packet, not the port
            self._log.failure("handling a packet failed")

    def _packet_received(self, datagram: bytes, address: Address) -> None:
        sid = packet_sid(datagram)
        self._parts.counters.transports["udp"].bytes_received += len(datagram)
        link = self._links.get(sid)
        reservation = self._reservations.get(sid)
        if link is not None:
            try:
                packet = link.codec.open(datagram)
            except PacketRejected:
                if reservation is None:
                    raise
            else:
                link.packet_received(packet, address)
                return
        if reservation is None:
            raise PacketRejected("sid")
        packet = reservation.codec.open(datagram)
        self._first_packet(sid, reservation, packet, address)

    def _first_packet(self, sid: bytes, reservation: _Reservation, packet: OpenedPacket, address: Address) -> None:
        self._drop_reservation(sid)
        if self._reception.is_draining:
            return
        link = UdpLink(self, self._parts, sid, reservation.codec, address)
        connection = self._reception.accept(link)
        if connection is None:
            return
        link.connection = connection
        # Before this link is known by the sid: a resume of a UDP session closes the older link of the same sid.
        connection.open_signed_in(reservation.identity, Resume(reservation.resume), sid.hex())
        self._links[sid] = link
        link.packet_received(packet, address)

    def forget(self, link: UdpLink) -> None:
        """The session of `link` is no longer served here."""
        if self._links.get(link.sid) is link:
            del self._links[link.sid]

    def send_packet(self, packet: bytes, address: Address) -> None:
        """Send one sealed packet; what the kernel does not take is dropped and counted."""
        counters = self._parts.counters
        if self.transport is None:
            return
        try:
            self.transport.socket.sendto(packet, address)
        except BlockingIOError:
            counters.packets_dropped["socket_full"] += 1
        except OSError:
            counters.packets_dropped["unreachable"] += 1
        else:
            counters.transports["udp"].bytes_sent += len(packet)
