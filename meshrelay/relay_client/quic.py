"""QUIC connections of relay clients (ALPN ``nb-quic``): one message is one DATAGRAM frame (RFC 9221), without streams.

The protocol is aioquic's, without its asyncio part: packets, timers and events are carried between it and the reactor
here. Nothing but TRANSPORT may be lost, yet everything can be: the machine says again what has no answer. aioquic does
not look for the longest packet of a path, so messages stay within what gets through everywhere.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import Any

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, DatagramFrameReceived, HandshakeCompleted, QuicEvent
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import MessageLengthError
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import DatagramProtocol

from meshrelay.relay.addresses import HostAndPort
from meshrelay.relay_client.interfaces import RelayLinkReceiver

__all__ = ["ALPN", "MAX_DATAGRAM_BYTES", "RelayQuic", "QuicRefused", "open_relay_quic"]

ALPN = "nb-quic"

#: A packet that fits into the smallest MTU that IPv6 allows.
_PACKET_BYTES = 1232

#: What of it is left: without the longest header of a packet (25), the frame's own (3) and the tag (16).
MAX_DATAGRAM_BYTES = _PACKET_BYTES - 44

#: Longest frame that the server may send; NetBird's client says the same.
_MAX_FRAME_BYTES = 16383

_IDLE_SECONDS = 240.0
_PING_SECONDS = 15.0

#: Frames that wait in aioquic for the congestion window: writers are asked to pause, and to go on.
_PAUSE_FRAMES = 32
_RESUME_FRAMES = 8


class QuicRefused(Exception):
    """The handshake did not work; the text says why."""


class RelayQuic(DatagramProtocol):
    """See `meshrelay.relay_client.interfaces.RelayLink`.

    :param opened: fires with this link after the handshake.
    """

    transport_name = "quic"
    max_message_bytes = MAX_DATAGRAM_BYTES
    # Twisted asks whether to write an event to its log.
    noisy = False

    def __init__(self, reactor: Any, quic: QuicConnection, place: HostAndPort, opened: Deferred[RelayQuic]) -> None:
        self._reactor = reactor
        self._quic = quic
        self._place = place
        self._opened: Deferred[RelayQuic] | None = opened
        self._receiver: RelayLinkReceiver | None = None
        self._timer: IDelayedCall | None = None
        self._ping: IDelayedCall | None = None
        self._flushing: IDelayedCall | None = None
        self._is_paused = False
        self._gone: Deferred[None] | None = None
        self._socket: Any = None
        self._is_stopped = False

    @property
    def host(self) -> Any:
        """See `RelayLink`."""
        return self._socket.getHost()

    @property
    def peer_ip(self) -> str:
        """See `RelayLink`."""
        return self._place.host

    def start(self, receiver: RelayLinkReceiver) -> None:
        """See `RelayLink`."""
        self._receiver = receiver

    def send(self, message: bytes) -> None:
        """See `RelayLink`."""
        if self._receiver is None:
            return
        self._quic.send_datagram_frame(message)
        if self._flushing is None:
            self._flushing = self._reactor.callLater(0, self._flush)
        # Now and not when it is flushed: who writes until it has to wait would never let that happen.
        self._tell_flow()

    def close(self) -> Deferred[None]:
        """See `RelayLink`."""
        if self._gone is not None:
            return self._gone
        self._receiver = None
        self._flush()
        self._quic.close(error_code=0, reason_phrase="normal closure")
        self._flush()
        return self._drop()

    def abort(self) -> None:
        """See `RelayLink`."""
        self.close()

    def startProtocol(self) -> None:
        self._socket = self.transport
        self._socket.connect(*self._place)
        self._quic.connect(self._place, now=self._reactor.seconds())
        self._ping = self._reactor.callLater(_PING_SECONDS, self._keep_alive)
        self._flush()

    def datagramReceived(self, data: bytes, addr: Any) -> None:
        if self._gone is None:
            self._quic.receive_datagram(data, self._place, now=self._reactor.seconds())
            self._take_events()

    def connectionRefused(self) -> None:
        self._end("nobody listens there")

    def stopProtocol(self) -> None:
        # The reactor closes the socket by itself when an ICMP message says that nobody listens.
        self._is_stopped = True
        self._end("nobody listens there")

    def _take_events(self) -> None:
        event = self._quic.next_event()
        while event is not None and self._gone is None:
            self._take(event)
            event = self._quic.next_event()
        if self._gone is None:
            self._flush()

    def _take(self, event: QuicEvent) -> None:
        if isinstance(event, DatagramFrameReceived):
            if self._receiver is not None:
                self._receiver.message_received(event.data)
        elif isinstance(event, HandshakeCompleted):
            opened, self._opened = self._opened, None
            if opened is not None and not opened.called:
                opened.callback(self)
        elif isinstance(event, ConnectionTerminated):
            self._end(event.reason_phrase or f"closed with {event.error_code}")

    def _flush(self) -> None:
        flushing, self._flushing = self._flushing, None
        if flushing is not None and flushing.active():
            flushing.cancel()
        if self._gone is not None or self._socket is None:
            return
        for packet, _ in self._quic.datagrams_to_send(now=self._reactor.seconds()):
            # What the kernel does not take is lost, as it may be on the way. The timers must go on: they find out.
            with suppress(OSError, MessageLengthError):
                self._socket.write(packet)
            if self._gone is not None:
                # Writing may show that nobody listens.
                return
        self._tell_flow()
        self._set_timer()

    def _tell_flow(self) -> None:
        # There is no public way to learn what the congestion window holds back.
        waiting = len(self._quic._datagrams_pending)
        receiver = self._receiver
        if receiver is None or not (waiting >= _PAUSE_FRAMES if not self._is_paused else waiting <= _RESUME_FRAMES):
            return
        self._is_paused = not self._is_paused
        if self._is_paused:
            receiver.writing_paused()
        else:
            receiver.writing_resumed()

    def _set_timer(self) -> None:
        at = self._quic.get_timer()
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        if at is not None and self._gone is None:
            self._timer = self._reactor.callLater(max(0.0, at - self._reactor.seconds()), self._deadline_passed)

    def _deadline_passed(self) -> None:
        self._timer = None
        self._quic.handle_timer(now=self._reactor.seconds())
        self._take_events()

    def _keep_alive(self) -> None:
        self._ping = self._reactor.callLater(_PING_SECONDS, self._keep_alive)
        self._quic.send_ping(0)
        self._flush()

    def _end(self, text: str) -> None:
        if self._gone is not None:
            return
        receiver, self._receiver = self._receiver, None
        opened, self._opened = self._opened, None
        self._drop()
        if opened is not None and not opened.called:
            opened.errback(QuicRefused(text))
        elif receiver is not None:
            receiver.link_lost(text)

    def _drop(self) -> Deferred[None]:
        for timer in (self._timer, self._ping, self._flushing):
            if timer is not None and timer.active():
                timer.cancel()
        if self._gone is None:
            self._gone = gone = Deferred[None]()
            stopped = succeed(None) if self._is_stopped else maybeDeferred(self._socket.stopListening)
            stopped.addBoth(lambda _: gone.callback(None))
        return self._gone


def _resolve(reactor: Any, place: HostAndPort) -> Deferred[str]:
    if isIPAddress(place.host) or isIPv6Address(place.host):
        return succeed(place.host)
    # Gives IPv4 addresses only; a server with none is reached by WebSocket.
    found: Deferred[str] = reactor.resolve(place.host)
    return found


def _configuration(server_name: str, ca_file: str | None) -> QuicConfiguration:
    return QuicConfiguration(
        alpn_protocols=[ALPN],
        is_client=True,
        server_name=server_name,
        cafile=ca_file or ssl.get_default_verify_paths().cafile,
        idle_timeout=_IDLE_SECONDS,
        max_datagram_size=_PACKET_BYTES,
        max_datagram_frame_size=_MAX_FRAME_BYTES,
    )


def open_relay_quic(reactor: Any, place: HostAndPort, server_name: str, ca_file: str | None) -> Deferred[RelayQuic]:
    """Look the host up, and shake hands.

    :param server_name: who must be on the certificate, a name or an IP address.
    :param ca_file: PEM file of the authorities that are trusted; None = those of the system.
    :returns: fires with the link, or fails with `QuicRefused` or what the look-up says. Cancelling it leaves nothing
        behind.
    """
    links: list[RelayQuic] = []

    async def run() -> RelayQuic:
        address = await _resolve(reactor, place)
        opened: Deferred[RelayQuic] = Deferred(lambda _: links[0].abort())
        connection = QuicConnection(configuration=_configuration(server_name, ca_file))
        links.append(RelayQuic(reactor, connection, HostAndPort(address, place.port), opened))
        reactor.listenUDP(0, links[0], interface="::" if isIPv6Address(address) else "")
        return await opened

    return Deferred.fromCoroutine(run())
