"""Relay peers by QUIC: ALPN ``nb-quic``, and one DATAGRAM frame (RFC 9221) is one message of the relay.

::

    UDP port --> RelayQuicListener --> RelayQuicConnection (aioquic) --messages--> RelayPeer
    UDP port <-- flush, once a turn <-- RelayQuicConnection <-- RelayServer

No stream is ever opened. Nothing is sent again: what the network loses is lost, as it is with NetBird's server. aioquic
does the protocol and knows neither sockets nor time; both are handed to it here.

How long a message may be is how long a packet may be. A connection begins with the 1,232 bytes that NetBird's begins
with, and goes up to what came in from its peer: NetBird's client finds out what the path carries, and what it carries
one way it carries the other way, but for very odd paths.

Of aioquic's insides four are read or set: ``_max_datagram_size``, ``_datagrams_pending``, ``_peer_cid`` and
``_remote_max_datagram_frame_size``; tests/transport/test_relay_quic.py pins them. Needs the extra ``quic``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic import events
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE, QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicPacketType, encode_quic_version_negotiation, pull_quic_header
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger
from zope.interface import implementer

from meshrelay.background import Alarms
from meshrelay.counters import TransportCounters
from meshrelay.fanout.turn import Turn
from meshrelay.relay.interfaces import IRelayLink
from meshrelay.relay.server import RelayPeer
from meshrelay.transport.relay_alarm import watch_deadlines
from meshrelay.transport.stream_link import shown_address

__all__ = ["ALPN", "MAX_HANDSHAKES", "MAX_WAITING_DATAGRAMS", "RelayQuicListener", "quic_configuration"]

ALPN = "nb-quic"

#: TRANSPORT messages that may wait for one peer; what comes then is dropped.
MAX_WAITING_DATAGRAMS = 256

#: What the server itself says may wait as far as this: the states of 100,000 peers fit.
MAX_OWN_DATAGRAMS = 4096

#: Connections that have not shaken hands yet. The next one is not answered, and its client tries again.
MAX_HANDSHAKES = 512

#: NetBird's first packets have that many bytes, and its longest ones.
FIRST_PACKET_BYTES = 1232
LONGEST_PACKET_BYTES = 1452

IDLE_SECONDS = 30.0

#: Flags, packet number and seal of a packet; type and length of a DATAGRAM frame.
_OVERHEAD_BYTES = 1 + 2 + 16 + 1 + 2

#: All that a stream may bring, which nobody reads.
_STREAM_BYTES = 1024


def quic_configuration(certificate_file: str, key_file: str) -> QuicConfiguration:
    """Return what all connections of a server share.

    :raises OSError: a file cannot be read.
    :raises ValueError: a file does not hold what it should, or the key is of another certificate.
    """
    configuration = QuicConfiguration(
        alpn_protocols=[ALPN],
        idle_timeout=IDLE_SECONDS,
        is_client=False,
        max_data=_STREAM_BYTES,
        max_datagram_frame_size=16383,
        max_datagram_size=FIRST_PACKET_BYTES,
        max_stream_data=_STREAM_BYTES,
    )
    configuration.load_cert_chain(certificate_file, key_file)
    certificate, key = configuration.certificate, configuration.private_key
    if certificate is None or key is None or certificate.public_key() != key.public_key():
        # aioquic would find out when the first client has come.
        raise ValueError(f"the key in {key_file} is not the one of the certificate in {certificate_file}")
    # aioquic writes a line for each stranger's mistake, past our log.
    logging.getLogger("quic").setLevel(logging.CRITICAL)
    return configuration


@implementer(IRelayLink)
class RelayQuicConnection:
    """One connection; made by `RelayQuicListener`. As `IRelayLink` from the end of the handshake on."""

    transport_name = "quic"

    _log = Logger()

    def __init__(self, listener: RelayQuicListener, quic: QuicConnection, address: tuple[str, int]) -> None:
        self._listener = listener
        self._quic: Any = quic
        self.remote_address = shown_address(*address)
        #: None: the handshake is not over.
        self._peer: RelayPeer | None = None
        self._is_scheduled = False
        self._is_closing = False
        self._timer: IDelayedCall | None = None
        self._timer_at: float | None = None

    @property
    def max_message_bytes(self) -> int:
        """See `IRelayLink`."""
        return int(self._quic._max_datagram_size) - _OVERHEAD_BYTES - len(self._quic._peer_cid.cid)

    def offer(self, message: bytes) -> bool:
        """See `IRelayLink`."""
        if len(self._quic._datagrams_pending) >= MAX_WAITING_DATAGRAMS or self._is_closing:
            return False
        self._quic.send_datagram_frame(message)
        self._flush_later()
        return True

    def send(self, message: bytes) -> None:
        """See `IRelayLink`."""
        if self._is_closing:
            return
        self._quic.send_datagram_frame(message)
        self._flush_later()
        if len(self._quic._datagrams_pending) > MAX_OWN_DATAGRAMS:
            self.abort()

    def close(self) -> None:
        """See `IRelayLink`."""
        if not self._is_closing:
            self._transmit()
            self._end()

    def abort(self) -> None:
        """See `IRelayLink`."""
        self._end()

    def _end(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            # As an application's: NetBird's ends take error 0 for a clean close.
            self._quic.close(error_code=0, reason_phrase="normal closure")
            self._flush_later()

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        """Take one UDP datagram."""
        quic = self._quic
        size = len(data)
        if size > quic._max_datagram_size:
            quic._max_datagram_size = min(size, LONGEST_PACKET_BYTES)
        quic.receive_datagram(data, address, now=self._listener.now())
        self._take_events()
        self._flush_later()

    def _take_events(self) -> None:
        while (event := self._quic.next_event()) is not None:
            if type(event) is events.DatagramFrameReceived:
                if self._peer is not None:
                    self._peer.message_received(event.data)
            else:
                self._take_event(event)

    def _take_event(self, event: events.QuicEvent) -> None:
        if isinstance(event, events.HandshakeCompleted):
            self._listener.shaken_hands(self)
            # Without datagrams nothing could be told to it. Whoever does not speak our ALPN never comes this far.
            if self._quic._remote_max_datagram_frame_size:
                self._peer = self._listener.accept(self)
                watch_deadlines(self._peer, self._listener.alarms)
            else:
                self._end()
        elif isinstance(event, events.ConnectionIdIssued):
            self._listener.id_issued(event.connection_id, self)
        elif isinstance(event, events.ConnectionIdRetired):
            self._listener.id_retired(event.connection_id, self)
        elif isinstance(event, events.ConnectionTerminated):
            self._terminated(event)

    def _terminated(self, event: events.ConnectionTerminated) -> None:
        self._is_closing = True
        self._cancel_timer()
        self._listener.forget(self)
        if self._peer is not None:
            self._peer.connection_lost(event.reason_phrase or f"QUIC error {event.error_code}")

    def _flush_later(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._listener.turn.write(self)

    def flush(self) -> None:
        """See `meshrelay.fanout.turn.Flushable`: send what there is, and wait for what is due."""
        self._is_scheduled = False
        self._transmit()
        timer_at = self._quic.get_timer()
        if timer_at == self._timer_at:
            return
        self._cancel_timer()
        if timer_at is not None:
            self._timer_at = timer_at
            self._timer = self._listener.call_at(timer_at, self._timer_due)

    def _transmit(self) -> None:
        for data, address in self._quic.datagrams_to_send(now=self._listener.now()):
            self._listener.send(data, address)
        # Connection IDs count as issued when they are written, and a client uses a new one at once.
        self._take_events()

    def _timer_due(self) -> None:
        # Floating point may wake it a hair early, which aioquic would not take for its time.
        now = max(self._timer_at or 0.0, self._listener.now())
        self._timer = self._timer_at = None
        self._quic.handle_timer(now=now)
        self._take_events()
        self._flush_later()

    def _cancel_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = self._timer_at = None


class RelayQuicListener(DatagramProtocol):
    """The UDP port: datagrams to connections, by the connection ID that they carry.

    :param accept: see `meshrelay.relay.server.RelayServer.accept`.
    :param clock: its ``seconds`` and ``callLater`` are used.
    """

    noisy = False
    _log = Logger()

    def __init__(
        self,
        accept: Callable[[IRelayLink], RelayPeer],
        configuration: QuicConfiguration,
        turn: Turn,
        alarms: Alarms,
        counters: TransportCounters,
        clock: Any,
    ) -> None:
        self.accept = accept
        self.turn = turn
        self.alarms = alarms
        self._configuration = configuration
        self._counters = counters
        self._clock = clock
        self._connections: dict[bytes, RelayQuicConnection] = {}
        #: Connection -> its IDs.
        self._ids: dict[RelayQuicConnection, set[bytes]] = {}
        #: Those that have not shaken hands; at most `MAX_HANDSHAKES`.
        self._handshakes: set[RelayQuicConnection] = set()
        #: First packets that were not answered, for want of room.
        self.refused_handshakes = 0

    @property
    def connection_count(self) -> int:
        """Connections, shaking hands or not."""
        return len(self._ids)

    def use(self, configuration: QuicConfiguration) -> None:
        """Begin new connections with another certificate; those that are there go on with theirs.

        :param configuration: see `quic_configuration`.
        """
        self._configuration = configuration

    def now(self) -> float:
        """Seconds of the clock."""
        return float(self._clock.seconds())

    def call_at(self, seconds: float, callback: Callable[[], object]) -> IDelayedCall:
        """Call back at a time of the clock."""
        call: IDelayedCall = self._clock.callLater(max(0.0, seconds - self.now()), callback)
        return call

    def send(self, data: bytes, address: tuple[str, int]) -> None:
        """Send one UDP datagram; what the kernel does not take is lost, as it would be on the way."""
        if self.transport is not None:
            self._counters.bytes_sent += len(data)
            try:
                self.transport.write(data, address)
            except OSError:
                self._log.debug("a QUIC packet could not be sent")

    def datagramReceived(self, data: bytes, addr: Any) -> None:
        """See `DatagramProtocol`."""
        self._counters.bytes_received += len(data)
        # IPv6 addresses come with two numbers more.
        self._received(data, addr[:2])

    def _received(self, data: bytes, address: tuple[str, int]) -> None:
        try:
            header = pull_quic_header(Buffer(data=data), host_cid_length=self._configuration.connection_id_length)
        except ValueError:
            return
        connection = self._connections.get(header.destination_cid)
        if connection is None:
            if header.version is not None and header.version not in self._configuration.supported_versions:
                self._negotiate_version(header, data, address)
                return
            if header.packet_type != QuicPacketType.INITIAL or len(data) < SMALLEST_MAX_DATAGRAM_SIZE:
                return
            connection = self._begin(header.destination_cid, address)
            if connection is None:
                return
        try:
            connection.datagram_received(data, address)
        except Exception:  # an unexpected error costs this connection, not the listener
            self._log.failure("handling a QUIC packet of {address} failed", address=connection.remote_address)
            connection.abort()

    def _negotiate_version(self, header: Any, data: bytes, address: tuple[str, int]) -> None:
        # Never to what is an answer itself, nor to less than would be answered with.
        if header.packet_type == QuicPacketType.VERSION_NEGOTIATION or len(data) < SMALLEST_MAX_DATAGRAM_SIZE:
            return
        answer = encode_quic_version_negotiation(
            source_cid=header.destination_cid,
            destination_cid=header.source_cid,
            supported_versions=self._configuration.supported_versions,
        )
        self.send(answer, address)

    def _begin(self, connection_id: bytes, address: tuple[str, int]) -> RelayQuicConnection | None:
        if len(self._handshakes) >= MAX_HANDSHAKES:
            self.refused_handshakes += 1
            return None
        quic = QuicConnection(configuration=self._configuration, original_destination_connection_id=connection_id)
        connection = RelayQuicConnection(self, quic, address)
        self._ids[connection] = set()
        self._handshakes.add(connection)
        self.id_issued(connection_id, connection)
        self.id_issued(quic.host_cid, connection)
        return connection

    def shaken_hands(self, connection: RelayQuicConnection) -> None:
        """The QUIC handshake of a connection is over."""
        self._handshakes.discard(connection)

    def id_issued(self, connection_id: bytes, connection: RelayQuicConnection) -> None:
        """A connection may be called so from now on."""
        self._connections[connection_id] = connection
        self._ids[connection].add(connection_id)

    def id_retired(self, connection_id: bytes, connection: RelayQuicConnection) -> None:
        """A connection is not called so any more."""
        self._connections.pop(connection_id, None)
        self._ids[connection].discard(connection_id)

    def forget(self, connection: RelayQuicConnection) -> None:
        """A connection is over."""
        self._handshakes.discard(connection)
        for connection_id in self._ids.pop(connection, ()):
            self._connections.pop(connection_id, None)
