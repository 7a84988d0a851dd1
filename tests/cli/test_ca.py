"""meshrelay ca."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path

from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.cli.ca import command
from meshrelay.mesh.tls import NodeCertificates, node_ids_of


def run(*arguments: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(command, list(arguments))


class CaTests(SynchronousTestCase):
    """Certificates for those who have none."""

    def setUp(self) -> None:
        """A directory that is not there yet."""
        self.directory = Path(self.mktemp())

    def ca(self, *arguments: str) -> Result:
        """Run a subcommand on the directory."""
        return run(*arguments, "--directory", str(self.directory))

    def certificate(self, name: str) -> x509.Certificate:
        """Read a certificate."""
        return x509.load_pem_x509_certificate((self.directory / f"{name}.pem").read_bytes())

    def test_init(self) -> None:
        """The authority signs nodes and nothing else, and its key is for its owner's eyes."""
        result = self.ca("init")
        self.assertEqual(result.exit_code, 0, result.output)
        authority = self.certificate("ca")
        constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints)
        self.assertEqual((constraints.critical, constraints.value.ca, constraints.value.path_length), (True, True, 0))
        self.assertEqual(stat.S_IMODE((self.directory / "ca.key").stat().st_mode), 0o600)
        key = authority.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        self.assertEqual(key.curve.name, "secp256r1")

    def test_issue(self) -> None:
        """A node's certificate names the node and its hosts, is signed by the authority, and fits its key."""
        self.ca("init")
        result = self.ca("issue", "eu.n_1:a", "--host", "n1.example.com", "--host", "192.0.2.7")
        self.assertEqual(result.exit_code, 0, result.output)
        certificate = self.certificate("eu.n_1:a")
        self.assertEqual(node_ids_of(certificate), ("eu.n_1:a",))
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(names.get_values_for_type(x509.DNSName), ["n1.example.com"])
        self.assertEqual([str(each) for each in names.get_values_for_type(x509.IPAddress)], ["192.0.2.7"])
        certificate.verify_directly_issued_by(self.certificate("ca"))
        self.assertEqual(stat.S_IMODE((self.directory / "eu.n_1:a.key").stat().st_mode), 0o600)
        mesh = tomllib.loads(result.output)["mesh"]
        files = [Path(mesh[key]).read_bytes() for key in ("ca_file", "certificate_file", "key_file")]
        self.assertEqual(NodeCertificates.from_pem(*files).node_ids, ("eu.n_1:a",))

    def test_no_overwriting(self) -> None:
        """A key that exists is never overwritten: neither the authority's nor a node's."""
        self.ca("init")
        self.ca("issue", "n1")
        before = {path.name: path.read_bytes() for path in self.directory.iterdir()}
        for arguments in (["init"], ["issue", "n1"]):
            result = self.ca(*arguments)
            self.assertEqual(result.exit_code, 1, arguments)
            self.assertIn("exists", result.output)
        self.assertEqual({path.name: path.read_bytes() for path in self.directory.iterdir()}, before)

    def test_half_a_pair(self) -> None:
        """Where only the certificate is left, no key is made for it."""
        self.ca("init")
        (self.directory / "n1.pem").write_text("precious")
        self.assertEqual(self.ca("issue", "n1").exit_code, 1)
        self.assertFalse((self.directory / "n1.key").exists())

    def test_without_authority(self) -> None:
        """Without an authority it is said what comes first."""
        result = self.ca("issue", "n1")
        self.assertEqual(result.exit_code, 1)
        self.assertIn("ca init", result.output)

    def test_wrong_names(self) -> None:
        """What cannot be a node ID or a host is refused, and no file appears."""
        self.ca("init")
        for arguments in (["../n1"], ["ca"], [""], ["n" * 65], ["n1", "--host", "ä.example"]):
            result = self.ca("issue", *arguments)
            self.assertEqual(result.exit_code, 1, (arguments, result.output))
        self.assertEqual(sorted(path.name for path in self.directory.iterdir()), ["ca.key", "ca.pem"])

    def test_broken_authority(self) -> None:
        """An authority that cannot be read is told, not a traceback."""
        self.ca("init")
        (self.directory / "ca.key").write_text("rubbish")
        result = self.ca("issue", "n1")
        self.assertEqual(result.exit_code, 1)
        self.assertIsInstance(result.exception, SystemExit)
