"""The UDP port of a node: which sealed datagram belongs to which session (client protocol, section 5).

A client asks the endpoint API for a sid and secrets (`UdpListener.reserve`); its first packet that opens makes the
session live and takes over from an older connection of the user, so that asking alone disturbs nobody. Until then, and
for everything that does not open, not a single byte is sent.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from socket import SO_RCVBUF, SO_SNDBUF, SOL_SOCKET
from typing import Any, NamedTuple

from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from meshrelay.errors import PacketRejected
from meshrelay.session.auth import Identity
from meshrelay.session.reception import Reception
from meshrelay.session.registry import Resume
from meshrelay.transport.udp_batch import read_in_batches
from meshrelay.transport.udp_link import Address, UdpLink, UdpParts
from meshrelay.transport.udp_sender import UdpSender
from meshrelay.wire.datagram import TO_CLIENT, OpenedPacket, PacketCodec, PacketKind, packet_sid, session_key

__all__ = ["MAX_RESERVATIONS", "UdpCredentials", "UdpListener"]

#: Reservations kept at the same time; beyond, the oldest is forgotten.
MAX_RESERVATIONS = 16384

#: Asked of the kernel for each direction: bursts of thousands of datagrams come between two turns.
SOCKET_BUFFER_BYTES = 4 * 1024 * 1024

#: How long the end of a session is remembered, to tell a client that has not heard of it.
REMEMBER_SECONDS = 10.0


class UdpCredentials(NamedTuple):
    """What the endpoint API tells a client; 16 bytes each."""

    sid: bytes
    key: bytes
    iv: bytes
    mac_key: bytes


class _Reservation(NamedTuple):
    identity: Identity
    codec: PacketCodec
    resume: Resume


class UdpListener(DatagramProtocol):
    """All UDP sessions of a node, and those that were only reserved."""

    noisy = False
    _log = Logger()

    def __init__(self, reception: Reception, parts: UdpParts) -> None:
        self._reception = reception
        self._parts = parts
        self._links: dict[bytes, UdpLink] = {}
        self._reservations: OrderedDict[bytes, _Reservation] = OrderedDict()
        self._reserved_by: dict[str, bytes] = {}
        #: Links that took a packet of the batch that is being read; a dict for its order.
        self._heard: dict[UdpLink, None] = {}
        self._sender = UdpSender(parts.turn, parts.counters)
        #: What the kernel granted, in bytes.
        self.receive_buffer_bytes = 0
        self.send_buffer_bytes = 0

    @property
    def reservation_count(self) -> int:
        """Endpoint calls whose first packet has not come; at most `MAX_RESERVATIONS`."""
        return len(self._reservations)

    def startProtocol(self) -> None:
        """See `DatagramProtocol`."""
        transport: Any = self.transport
        self._sender.open(transport.socket)
        self._ask_for_buffers(transport.socket)
        read_in_batches(transport, self.datagrams_received)

    def stopProtocol(self) -> None:
        """See `DatagramProtocol`."""
        self._sender.close()

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

    def set_reservation_seconds(self, seconds: float) -> None:
        """How long a first packet may take from now on; for a configuration that was reloaded."""
        self._parts = self._parts._replace(reservation_seconds=seconds)

    def reserve(self, identity: Identity, resume: str, received: int | None = None) -> UdpCredentials:
        """Make secrets for a client that was authenticated; its first packet makes the session live.

        :param resume: sid of an earlier session; "" = none. One that is not the user's here may be at another node: it
            is looked for when a SYN comes, and if it is found the packets have another sid than the session.
        :param received: reliable pushes that the client has received in that session, mod 2^32; None = it does not say.
        """
        registry = self._reception.registry
        is_here = bool(resume) and registry.can_resume(identity.user_id, resume)
        # A sid that only the client says stands on no packet: it may be that of somebody else.
        sid = bytes.fromhex(resume if is_here else registry.make_sid())
        secrets = UdpCredentials(sid, *(self._parts.random_bytes(16) for _ in range(3)))
        codec = PacketCodec(sid, session_key(secrets.key, secrets.iv, secrets.mac_key), TO_CLIENT)
        self._drop_reservation(self._reserved_by.get(identity.user_id))
        if len(self._reservations) >= MAX_RESERVATIONS:
            self._drop_reservation(next(iter(self._reservations)))
            self._parts.counters.refused["reservations"] += 1
        reservation = _Reservation(identity, codec, Resume(resume, received=received))
        self._reservations[sid] = reservation
        self._reserved_by[identity.user_id] = sid
        self._parts.alarms.call_later(self._parts.reservation_seconds, lambda: self._reservation_late(sid, reservation))
        return secrets

    def _reservation_late(self, sid: bytes, reservation: _Reservation) -> None:
        if self._reservations.get(sid) is reservation:
            self._drop_reservation(sid)

    def _drop_reservation(self, sid: bytes | None) -> None:
        reservation = self._reservations.pop(sid, None) if sid is not None else None
        if reservation is not None:
            self._reserved_by.pop(reservation.identity.user_id, None)

    def datagramReceived(self, datagram: bytes, addr: Address) -> None:
        """See `DatagramProtocol`."""
        self.datagrams_received(((datagram, addr),))

    def datagrams_received(self, datagrams: Iterable[tuple[bytes, Address]]) -> None:
        """Take what was read together: (datagram, where from). Never raises."""
        for datagram, address in datagrams:
            try:
                self._packet_received(datagram, address)
            except PacketRejected as rejected:
                self._parts.counters.packets_rejected[rejected.reason] += 1
            except Exception:  # an unexpected error costs this packet, not the port
                self._log.failure("handling a packet failed")
        heard, self._heard = self._heard, {}
        for link in heard:
            try:
                link.read_ended()
            except Exception:  # likewise
                self._log.failure("handling the packets of {peer} failed", peer=link.peer)

    def _packet_received(self, datagram: bytes, address: Address) -> None:
        sid = packet_sid(datagram)
        self._parts.counters.transports["udp"].bytes_received += len(datagram)
        link = self._links.get(sid)
        if link is not None:
            try:
                packet = link.codec.open(datagram)
            except PacketRejected:
                if sid not in self._reservations:
                    raise
            else:
                self._heard[link] = None
                link.packet_received(packet, len(datagram), address)
                return
        reservation = self._reservations.get(sid)
        if reservation is None:
            raise PacketRejected("sid")
        packet = reservation.codec.open(datagram)
        self._drop_reservation(sid)
        if not self._reception.is_draining:
            self._first_packet(sid, reservation, packet, len(datagram), address)

    def _first_packet(
        self, sid: bytes, reservation: _Reservation, packet: OpenedPacket, size_bytes: int, address: Address
    ) -> None:
        link = UdpLink(self._parts, sid, reservation.codec, address, self._sender, self._link_ended)
        connection = self._reception.accept(link)
        if connection is None:
            return
        link.connection = connection
        is_syn = packet.kind is PacketKind.SYN
        if is_syn:
            # So that what the user missed goes the reliable way, behind the HELLO.
            link.expect_machine()
        resume = reservation.resume
        if not is_syn and resume.sid != sid.hex():
            # A client that is never greeted knows by the sid of its packets alone which session it has.
            resume = Resume()
        # Before this link is known by the sid: a resume of a UDP session closes the older link of the same sid.
        connection.open_signed_in(reservation.identity, resume, sid.hex(), greets=is_syn)
        self._links[sid] = link
        self._heard[link] = None
        link.packet_received(packet, size_bytes, address)

    def _link_ended(self, link: UdpLink) -> None:
        # Kept for a while, in place of nothing, to tell a client that goes on sending that it is over.
        self._parts.alarms.call_later(REMEMBER_SECONDS, lambda: self._forget(link))

    def _forget(self, link: UdpLink) -> None:
        if self._links.get(link.sid) is link:
            del self._links[link.sid]
