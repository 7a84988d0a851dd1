"""Certificates that change while a place listens."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any, ClassVar

from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from twisted.internet.address import IPv4Address
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase
from twisted.trial.util import suppress as suppression

from meshrelay.errors import ConfigError
from meshrelay.transport.listen import ListeningPlaces
from meshrelay.transport.place_certificate import take_certificate
from tests.transport.port_reactor import PortReactor
from tests.transport.self_signed import self_signed_pem


def shown_name(factory: Any) -> str:
    """Shake hands with what a listening factory makes, in memory; return the organisation of its certificate."""
    client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None)
    client.set_tlsext_host_name(b"relay.example")
    client.set_connect_state()
    server = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
    transport = StringTransport()
    server.makeConnection(transport)
    for _ in range(3):
        with contextlib.suppress(SSL.WantReadError):
            client.do_handshake()
        with contextlib.suppress(SSL.WantReadError):
            server.dataReceived(client.bio_read(65536))
        if transport.value():
            client.bio_write(transport.value())
            transport.clear()
    certificate = client.get_peer_certificate(as_cryptography=True)
    assert certificate is not None
    (organisation,) = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return str(organisation.value)


class PlaceCertificateTests(SynchronousTestCase):
    """The same promises for ``tls:`` and ``ssl:``, alone and behind ``haproxy:``."""

    # Twisted's own calls of pyOpenSSL.
    suppress: ClassVar[list[Any]] = [suppression(category=DeprecationWarning)]

    def setUp(self) -> None:
        """A folder with a certificate."""
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.pem = self.folder / "relay.example.pem"
        self.write("first")
        self.reactor = PortReactor()
        self.reactor.listenSSL = self.listen_ssl  # type: ignore[method-assign]
        self.places = ListeningPlaces(self.reactor)

    def listen_ssl(self, port: int, factory: Any, contextFactory: Any, backlog: int = 50, interface: str = "") -> Any:
        """As the reactor does it."""
        return self.reactor.listenTCP(port, TLSMemoryBIOFactory(contextFactory, False, factory), backlog, interface)

    def write(self, organisation: str) -> None:
        """Renew the certificate, and its key."""
        self.pem.write_bytes(self_signed_pem("relay.example", organisation))

    def place(self, kind: str) -> str:
        """An endpoint string."""
        if kind.endswith("tls"):
            return f"{kind}:{self.folder}:0:interface=127.0.0.1"
        return f"{kind}:0:privateKey={self.pem}:certKey={self.pem}:interface=127.0.0.1"

    def listen(self, kind: str) -> Any:
        """Open a place; returns the factory with TLS."""
        self.places.listen_stream("tcp", self.place(kind), Factory.forProtocol(Protocol))
        return self.reactor.factories[-1]

    def check_kind(self, kind: str) -> None:
        """What is read again is shown to new connections only when it is used."""
        factory = self.listen(kind)
        self.assertEqual(shown_name(factory), "first")
        self.write("second")
        fresh = self.places.read_certificates()
        self.assertEqual(shown_name(factory), "first")
        self.places.use_certificates(fresh)
        self.assertEqual(shown_name(factory), "second")

    def test_tls(self) -> None:
        """A directory of PEM files."""
        self.check_kind("tls")

    def test_ssl(self) -> None:
        """One pair of files."""
        self.check_kind("ssl")

    def test_haproxy(self) -> None:
        """A place whose clients come through a proxy."""
        self.check_kind("haproxy:tls")

    def check_bad(self, text: bytes | None) -> None:
        """Something that is no certificate is refused, and the old one stays."""
        factory = self.listen("tls")
        if text is None:
            shutil.rmtree(self.folder)
        else:
            self.pem.write_bytes(text)
        refused = self.assertRaises(ConfigError, self.places.read_certificates)
        self.assertEqual([problem.path for problem in refused.problems], ["listen.tcp"])
        self.assertIn(str(self.folder), str(refused))
        self.assertEqual(shown_name(factory), "first")

    def test_other_section(self) -> None:
        """What is wrong with the port of a relay is told under the key that the file has."""
        self.places.listen_stream("relay", self.place("tls"), Factory.forProtocol(Protocol))
        self.pem.write_bytes(b"nothing")
        refused = self.assertRaises(ConfigError, self.places.read_certificates)
        self.assertEqual([problem.path for problem in refused.problems], ["relay.listen"])

    def test_no_pem(self) -> None:
        """A file that holds something else."""
        self.check_bad(b"-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----\n")

    def test_no_key(self) -> None:
        """A certificate without its key."""
        pem = self_signed_pem("relay.example", "second")
        self.check_bad(pem[pem.index(b"-----BEGIN CERTIFICATE") :])

    def test_gone(self) -> None:
        """A directory that is not there any more."""
        self.check_bad(None)

    def test_without_tls(self) -> None:
        """A place without TLS has no certificate, and nothing is read for it."""
        self.assertIsNone(take_certificate(serverFromString(self.reactor, "tcp:0"), "tcp:0"))
        self.places.listen_stream("tcp", "tcp:0:interface=127.0.0.1", Factory.forProtocol(Protocol))
        self.assertEqual(self.places.read_certificates(), {})
