"""QUIC in memory: a certificate, and a client whose datagrams go to a listener and back without a network."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from twisted.internet.task import Clock

from meshrelay.transport.relay_quic import ALPN, RelayQuicListener

__all__ = ["MemoryUdp", "QuicPeer", "write_certificate"]

#: When the certificate of `write_certificate` ends.
CERTIFICATE_END = datetime(2100, 1, 1, tzinfo=UTC)


def write_certificate(directory: Path, end: datetime = CERTIFICATE_END) -> tuple[str, str]:
    """Write a certificate for localhost and its key, both new; returns where they are."""
    directory.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(CERTIFICATE_END - timedelta(days=36500))
        .not_valid_after(end)
        .sign(key, SHA256())
    )
    certificate_path, key_path = directory / "relay.pem", directory / "relay.key"
    certificate_path.write_bytes(certificate.public_bytes(Encoding.PEM))
    key_path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return str(certificate_path), str(key_path)


class MemoryUdp:
    """The transport of a listener: keeps what is sent, by address."""

    def __init__(self) -> None:
        self.sent: dict[Any, list[bytes]] = {}
        self.is_full = False

    def write(self, data: bytes, address: Any) -> None:
        """See `IUDPTransport`."""
        if self.is_full:
            raise BlockingIOError
        self.sent.setdefault(address, []).append(data)

    def take(self, address: Any) -> list[bytes]:
        """Return what went to an address since the last time."""
        return self.sent.pop(address, [])


class QuicPeer:
    """One client.

    :param alpn: what it says it speaks; None = it does not say.
    :ivar end: how its connection ended.
    """

    def __init__(
        self,
        listener: RelayQuicListener,
        network: MemoryUdp,
        clock: Clock,
        port: int = 5000,
        alpn: Sequence[str] | None = (ALPN,),
        rounds: int = 8,
        **options: Any,
    ) -> None:
        options.setdefault("max_datagram_frame_size", 16383)
        configuration = QuicConfiguration(
            alpn_protocols=None if alpn is None else list(alpn), verify_mode=ssl.CERT_NONE, **options
        )
        self.address = ("192.0.2.1", port)
        self.quic: Any = QuicConnection(configuration=configuration)
        self._listener = listener
        self._network = network
        self._clock = clock
        self.messages: list[bytes] = []
        self.end: events.ConnectionTerminated | None = None
        self.quic.connect(("192.0.2.9", 33080), now=clock.seconds())
        self.exchange(rounds)

    def exchange(self, rounds: int = 8) -> None:
        """Let datagrams go both ways."""
        for _ in range(rounds):
            timer_at = self.quic.get_timer()
            if timer_at is not None and timer_at <= self._clock.seconds():
                self.quic.handle_timer(now=self._clock.seconds())
            for data, _ in self.quic.datagrams_to_send(now=self._clock.seconds()):
                self._listener.datagramReceived(data, self.address)
            self._clock.advance(0.002)
            for data in self._network.take(self.address):
                self.quic.receive_datagram(data, ("192.0.2.9", 33080), now=self._clock.seconds())
            while (event := self.quic.next_event()) is not None:
                if isinstance(event, events.DatagramFrameReceived):
                    self.messages.append(event.data)
                elif isinstance(event, events.ConnectionTerminated):
                    self.end = event

    def wait_for_end(self, seconds: float = 5.0) -> events.ConnectionTerminated:
        """Let time pass until the connection is over.

        :raises AssertionError: it is not.
        """
        for _ in range(round(seconds / 0.1)):
            self.exchange(1)
            if self.end is not None:
                return self.end
            self._clock.advance(0.1)
        raise AssertionError("the connection goes on")

    @property
    def shown(self) -> bytes:
        """The certificate that it was shown."""
        shown: bytes = self.quic.tls._peer_certificate.public_bytes(Encoding.PEM)
        return shown

    def say(self, *messages: bytes) -> None:
        """Send messages, and let what comes of them happen."""
        for message in messages:
            self.quic.send_datagram_frame(message)
        self.exchange()

    def heard(self) -> list[bytes]:
        """Return the messages that came since the last time."""
        self.exchange()
        messages, self.messages = self.messages, []
        return messages
