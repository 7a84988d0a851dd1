"""Certificates of nodes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.ssl import CertificateOptions
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.cli.ca import init_authority, issue_certificate
from meshrelay.errors import ConfigError
from meshrelay.mesh.tls import NodeCertificates, is_private_way, node_ids_of, node_uri


class CertificateTests(SynchronousTestCase):
    """The three files of section [mesh]."""

    def setUp(self) -> None:
        """An authority and two nodes."""
        self.directory = Path(self.mktemp())
        init_authority(self.directory, datetime.now(UTC))
        for node_id in ("n1", "n2"):
            issue_certificate(self.directory, node_id, (), datetime.now(UTC))

    def read(self, name: str) -> bytes:
        """A file."""
        return (self.directory / name).read_bytes()

    def refused(self, *files: bytes) -> str:
        """Return the key of the configuration that is told to be wrong."""
        error = self.assertRaises(ConfigError, NodeCertificates.from_pem, *files)
        self.assertNotIn("PRIVATE", str(error))
        return str(error.problems[0].path)

    def test_good(self) -> None:
        """A node knows who it may say it is, and both ends can be made."""
        certificates = NodeCertificates.from_pem(self.read("ca.pem"), self.read("n1.pem"), self.read("n1.key"))
        self.assertEqual(certificates.node_ids, ("n1",))
        self.assertNotIn("key", repr(certificates))
        for options in (certificates.for_server(), certificates.for_client()):
            self.assertIsInstance(options, CertificateOptions)
            self.assertTrue(options.verify and options.requireCertificate)
        self.assertIsNotNone(certificates.for_client("n1.example.com"))

    def test_wrong_files(self) -> None:
        """Each file that cannot be used is named by its key."""
        ca, pem, key = self.read("ca.pem"), self.read("n1.pem"), self.read("n1.key")
        self.assertEqual(self.refused(b"rubbish", pem, key), "mesh.ca_file")
        self.assertEqual(self.refused(ca, b"", key), "mesh.certificate_file")
        self.assertEqual(self.refused(ca, pem, b"rubbish"), "mesh.key_file")
        self.assertEqual(self.refused(ca, pem, self.read("n2.key")), "mesh.key_file")
        self.assertEqual(self.refused(pem, pem, key), "mesh.certificate_file")

    def test_node_ids(self) -> None:
        """A certificate names its nodes letter by letter; one of something else names none."""
        self.assertEqual(node_ids_of(x509.load_pem_x509_certificate(self.read("ca.pem"))), ())
        for node_id in ("a:b", "10.0.0.1", "A_b-c.D"):
            issue_certificate(self.directory, node_id, (), datetime.now(UTC))
            self.assertEqual(node_ids_of(x509.load_pem_x509_certificate(self.read(f"{node_id}.pem"))), (node_id,))
        self.assertEqual(node_uri("a:b"), "meshrelay:node/a%3Ab")


class PlainTests(SynchronousTestCase):
    """Links without TLS."""

    def test_ways(self) -> None:
        """Unix sockets may, loopback may if it was said, what leaves the machine may not."""
        cases = {
            (UNIXAddress(b"/run/n1"), False): True,
            (IPv4Address("TCP", "127.0.0.1", 1), False): False,
            (IPv4Address("TCP", "127.0.0.1", 1), True): True,
            (IPv6Address("TCP", "::1", 1), True): True,
            (IPv4Address("TCP", "192.0.2.1", 1), True): False,
        }
        for (address, insecure), expected in cases.items():
            self.assertEqual(is_private_way(address, insecure), expected, (address, insecure))
