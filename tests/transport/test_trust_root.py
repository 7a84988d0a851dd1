"""Authorities of a file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from twisted.internet.ssl import optionsForClientTLS
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.cli.ca import init_authority
from meshrelay.transport.trust_root import read_trust_root


class TrustRootTests(SynchronousTestCase):
    """Files that are right and wrong."""

    def setUp(self) -> None:
        """An authority."""
        self.directory = Path(self.mktemp())
        init_authority(self.directory, datetime.now(UTC))

    def test_authorities(self) -> None:
        """Certificates, one or more, make something that a connection can be checked against."""
        one = (self.directory / "ca.pem").read_bytes()
        (self.directory / "two.pem").write_bytes(one + one)
        for name in ("ca.pem", "two.pem"):
            optionsForClientTLS("relay.example", trustRoot=read_trust_root(str(self.directory / name)))

    def test_wrong_files(self) -> None:
        """A file without a certificate, and one that is not there, are errors."""
        (self.directory / "none.pem").write_text("nothing\n")
        self.assertRaises(ValueError, read_trust_root, str(self.directory / "none.pem"))
        self.assertRaises(OSError, read_trust_root, str(self.directory / "absent.pem"))
