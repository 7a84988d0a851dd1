"""The UDP connection of a client: asks the HTTP port for an endpoint, then seals and opens packets.

Only DATA packets are used so far: frames may be lost or reordered. The kinds that make delivery reliable are handled
where `_packet_opened` decides by kind; the machine that they need is driven from there and from `_flush`.

Packets that do not open are dropped and counted. An ICMP "port unreachable" proves little, for anybody can send one, so
it takes several in a row with nothing heard between them to end the connection.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import DatagramProtocol

from meshrelay.client.address import NodeAddress
from meshrelay.client.endpoint import UdpEndpoint, fetch_udp_endpoint, http_agent
from meshrelay.client.errors import ConnectFailed
from meshrelay.client.identity import LinkTraits
from meshrelay.client.links import Credentials, Link, LinkReceiver
from meshrelay.client.options import ClientOptions
from meshrelay.errors import MalformedPayload, PacketRejected
from meshrelay.wire.commands import decode_goodbye
from meshrelay.wire.datagram import TO_NODE, OpenedPacket, PacketCodec, PacketKind, session_key
from meshrelay.wire.prepared import MAX_DATAGRAM_CONTENT, pack_frames

__all__ = ["UdpLink", "open_udp_link"]

#: Refusals in a row that end the connection; while signing in a probe goes out every 0.2 s.
_MAX_REFUSALS = 3


class UdpLink(DatagramProtocol):
    """Frames in sealed packets to one node."""

    noisy = False

    def __init__(self, reactor: Any, receiver: LinkReceiver, endpoint: UdpEndpoint, host: str) -> None:
        self._reactor = reactor
        self._receiver: LinkReceiver | None = receiver
        self._codec = PacketCodec(endpoint.sid_bytes, session_key(*endpoint.secrets), TO_NODE)
        self._peer = (host, endpoint.server_port)
        self._transport: Any = None
        self._gathered: list[bytes] = []
        self._refusals = 0
        #: Packets that did not open, by reason, and ``unsent``: the socket did not take a packet.
        self.dropped: Counter[str] = Counter()

    def write(self, frames: Sequence[bytes]) -> None:
        """Send whole frames, at the end of this turn, as many as fit in each packet."""
        if self._receiver is None:
            return
        if not self._gathered:
            self._reactor.callLater(0, self._flush)
        self._gathered.extend(frames)

    def close(self) -> Deferred[None]:
        """Send what was written, then close. Fires when it is closed."""
        self._flush()
        return self._stop()

    def abort(self) -> None:
        """Close now."""
        self._gathered.clear()
        self._stop()

    def _stop(self) -> Deferred[None]:
        self._receiver = None
        transport, self._transport = self._transport, None
        return (transport.stopListening() if transport is not None else None) or succeed(None)

    def startProtocol(self) -> None:
        self._transport = self.transport
        self._transport.connect(*self._peer)

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        try:
            self._packet_opened(self._codec.open(datagram))
        except PacketRejected as rejected:
            self.dropped[rejected.reason] += 1

    def connectionRefused(self) -> None:
        self._refusals += 1
        if self._refusals >= _MAX_REFUSALS:
            self._lost(None, "connection refused")

    def _packet_opened(self, packet: OpenedPacket) -> None:
        kind, content, _ = packet
        self._refusals = 0
        if self._receiver is None:
            return
        if kind is PacketKind.DATA:
            self._receiver.data_received(content)
        elif kind is PacketKind.RST:
            try:
                code, text = decode_goodbye(content)
            except MalformedPayload:
                self._lost(None, "the node ended the session without a reason")
            else:
                self._lost(code, text)
        else:
            self.dropped["unused_kind"] += 1

    def _flush(self) -> None:
        gathered, self._gathered = self._gathered, []
        if self._transport is None:
            return
        for content, _ in pack_frames(gathered, MAX_DATAGRAM_CONTENT):
            packet = self._codec.seal(PacketKind.DATA, content)
            try:
                self._transport.write(packet)
            except OSError:
                # A full socket buffer loses a packet as any router on the way may.
                self.dropped["unsent"] += 1

    def _lost(self, code: int | None, text: str) -> None:
        receiver = self._receiver
        self.abort()
        if receiver is not None:
            receiver.link_lost(code, text)


async def _open(
    reactor: Any, address: NodeAddress, receiver: LinkReceiver, credentials: Credentials, options: ClientOptions
) -> tuple[Link, LinkTraits]:
    if credentials.user is None:
        raise ConnectFailed(address.url, "UDP needs the name of the user")
    agent = http_agent(reactor, options)
    endpoint = await fetch_udp_endpoint(agent, address, credentials.user, credentials.token, credentials.resume_sid)
    host = endpoint.server_host
    if not (isIPAddress(host) or isIPv6Address(host)):
        host = await reactor.resolve(host)
    link = UdpLink(reactor, receiver, endpoint, host)
    reactor.listenUDP(0, link, interface="::" if isIPv6Address(host) else "", maxPacketSize=2048)
    return link, LinkTraits(
        is_datagram=True,
        max_frame_bytes=MAX_DATAGRAM_CONTENT,
        sid=endpoint.sid,
        sign_in_seconds=options.connect_timeout_seconds,
    )


def open_udp_link(
    reactor: Any, address: NodeAddress, receiver: LinkReceiver, credentials: Credentials, options: ClientOptions
) -> Deferred[tuple[Link, LinkTraits]]:
    """Ask for an endpoint and open a socket.

    :returns: fires with the link before anything was sent on it; fails with `ConnectFailed`, `SignInRefused` or what
        the HTTP client says.
    """
    return Deferred.fromCoroutine(_open(reactor, address, receiver, credentials, options))
