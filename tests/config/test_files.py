"""Files that a configuration names."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.config.files import MAX_FILE_BYTES, check_files, minimum_secret_bytes, read_secret, short_secret_warning
from meshrelay.config.schema import AuthConfig, Config, HttpConfig, ListenConfig, OverlayConfig
from meshrelay.errors import ConfigError

EcKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def public_pem(key: EcKey) -> bytes:
    """Return the public half."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def private_pem(key: EcKey) -> bytes:
    """Return the private half."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


#: Not even root can look whether it is there, as nobody else can in a directory of somebody else: the name is too long.
HIDDEN = "x" * 300


class FileTestCase(SynchronousTestCase):
    """Makes files."""

    def write(self, content: bytes) -> str:
        """Return the path of a new file."""
        path = Path(self.mktemp())
        path.write_bytes(content)
        return str(path)

    def problems_of(self, config: Config) -> list[str]:
        """Return what is wrong, as the operator reads it."""
        return [str(problem) for problem in check_files(config)]

    def problem_of(self, config: Config) -> str:
        """Return the one thing that is wrong."""
        (problem,) = self.problems_of(config)
        return problem


class SecretTests(FileTestCase):
    """Reading a secret."""

    def test_line_end(self) -> None:
        """The line end that an editor or openssl adds is no part of the secret."""
        for ending in (b"", b"\n", b"\r\n"):
            self.assertEqual(read_secret(self.write(b"s" * 32 + ending)), b"s" * 32)

    def test_binary(self) -> None:
        """Random bytes are taken as they are, whatever they end with."""
        secret = bytes(range(0x80, 0x9F)) + b"\n"
        self.assertEqual(read_secret(self.write(secret)), secret)

    def test_unusable(self) -> None:
        """A file that is missing, empty, a directory or far too long says so, with its name."""
        expected = {
            self.mktemp(): "No such file",
            self.write(b" \n"): "is empty",
            os.getcwd(): "is not a file",
            self.write(b"s" * (MAX_FILE_BYTES + 1)): "more than 65536 bytes",
        }
        for path, text in expected.items():
            error = self.assertRaises(ConfigError, read_secret, path)
            self.assertIn(text, str(error))
            self.assertIn(path, str(error))

    def test_longest(self) -> None:
        """A file of exactly the bound is read."""
        self.assertEqual(len(read_secret(self.write(b"s" * MAX_FILE_BYTES))), MAX_FILE_BYTES)

    def test_minimum(self) -> None:
        """A secret is as long as the hash."""
        self.assertEqual([minimum_secret_bytes(name) for name in ("HS256", "HS384", "HS512")], [32, 48, 64])


class NamedFileTests(FileTestCase):
    """Files that are named must be there."""

    def test_missing(self) -> None:
        """Each missing file is told with its key."""
        config = Config(
            auth=AuthConfig(mode="token", secret_file="gone.secret"), http=HttpConfig(admin_key_file="gone.key")
        )
        self.assertEqual(
            self.problems_of(config),
            [
                "auth.secret_file: cannot read gone.secret: No such file or directory",
                "http.admin_key_file: cannot read gone.key: No such file or directory",
            ],
        )

    def test_overlay_key(self) -> None:
        """The key of an overlay peer may be missing, as the node makes it, but not the directory that it goes to."""
        folder = Path(self.mktemp())
        folder.mkdir()
        cases = {
            "": "",
            str(folder / "new.key"): "",
            "new.key": "",
            self.write(b"key"): "",
            str(folder / "gone" / "new.key"): "no directory",
            str(folder): "is not a file",
            self.write(b""): "is empty",
        }
        for path, expected in cases.items():
            problems = self.problems_of(Config(overlay=OverlayConfig(key_file=path)))
            self.assertEqual((path, len(problems)), (path, 1 if expected else 0))
            self.assertIn(expected, "".join(problems))
            self.assertTrue(all(problem.startswith("overlay.key_file: ") for problem in problems))

    def test_made_file_elsewhere(self) -> None:
        """A file that the node is to make where it may not write, or cannot even look, is told at once."""
        self.assertIn("cannot look for", self.problem_of(Config(overlay=OverlayConfig(key_file=HIDDEN + "/a"))))
        self.patch(os, "access", lambda path, mode: False)
        problem = self.problem_of(Config(overlay=OverlayConfig(key_file=self.mktemp())))
        self.assertIn("may not be written to", problem)

    def test_known_problem(self) -> None:
        """A key that is known to be wrong is not looked at again."""
        config = Config(http=HttpConfig(admin_key_file="gone.key"))
        self.assertEqual(check_files(config, frozenset({"http.admin_key_file"})), [])


class AuthKeyTests(FileTestCase):
    """The key must fit the algorithms."""

    def test_short_secret(self) -> None:
        """A secret that is shorter than the hash is warned about and taken."""
        auth = AuthConfig(mode="token", secret_file=self.write(b"s" * 31 + b"\n"))
        self.assertIn("holds 31 bytes and can be guessed, 32 are safe", short_secret_warning(auth))
        self.assertEqual(self.problems_of(Config(auth=auth)), [])
        enough = AuthConfig(mode="token", secret_file=self.write(b"s" * 32 + b"\n"))
        self.assertEqual(short_secret_warning(enough), "")

    def test_longest_hash_counts(self) -> None:
        """With several algorithms the secret should do for each."""
        auth = AuthConfig(mode="token", algorithms=("HS256", "HS512"), secret_file=self.write(b"s" * 63))
        self.assertIn("64 are safe", short_secret_warning(auth))

    def test_no_secret(self) -> None:
        """Without a secret there is nothing to warn about."""
        self.assertEqual(short_secret_warning(AuthConfig()), "")
        self.assertEqual(short_secret_warning(AuthConfig(mode="token", algorithms=("ES256",))), "")

    def test_public_key(self) -> None:
        """A public key is taken by its own algorithm and refused by another."""
        path = self.write(public_pem(ec.generate_private_key(ec.SECP256R1())))
        self.assertEqual(self.problems_of(self.config(path, "ES256")), [])
        for algorithm in ("RS256", "EdDSA"):
            self.assertIn(f"no public key for {algorithm}", self.problem_of(self.config(path, algorithm)))

    def test_private_key(self) -> None:
        """A private key has no place on the node."""
        path = self.write(private_pem(ed25519.Ed25519PrivateKey.generate()))
        self.assertIn("holds a private key", self.problem_of(self.config(path, "EdDSA")))

    def test_garbage(self) -> None:
        """What is no key at all is refused."""
        self.assertIn("no public key for RS256", self.problem_of(self.config(self.write(b"key"), "RS256")))

    def config(self, path: str, algorithm: str) -> Config:
        """Return a configuration with this public key."""
        auth = AuthConfig(mode="token", algorithms=(algorithm,), public_key_file=path)  # type: ignore[arg-type]
        return Config(auth=auth)


class EndpointTests(FileTestCase):
    """Stream endpoints, which Twisted itself looks at."""

    def problem_at(self, text: str) -> list[str]:
        """Return what is wrong with this endpoint."""
        return self.problems_of(Config(listen=ListenConfig(tcp=text)))

    def test_taken(self) -> None:
        """Every kind of endpoint is taken; systemd's, whose sockets only the service gets, without a look."""
        for text in (
            "tcp:0",
            "unix:/run/meshrelay:mode=660",
            "haproxy:tcp:0:interface=127.0.0.1",
            "systemd:domain=INET:name=tcp",
        ):
            self.assertEqual(self.problem_at(text), [], text)

    def test_refused(self) -> None:
        """An endpoint that Twisted cannot make is told with its key."""
        for text in (
            "tcp:0:colour=red",
            "telepathy:7200",
            "unix:/run/meshrelay:mode=rw",
            "ssl:443:privateKey=gone.pem",
        ):
            (problem,) = self.problem_at(text)
            self.assertIn("listen.tcp: ", problem)
            self.assertIn("is not an endpoint that can listen", problem)

    def test_unreadable_certificate(self) -> None:
        """A certificate that is none is told, not raised."""
        path = self.write(b"certificate")
        (problem,) = self.problem_at(f"ssl:443:privateKey={path}")
        self.assertIn("is not an endpoint that can listen", problem)

    def test_hidden_directory(self) -> None:
        """A directory of certificates that cannot be looked at is told, not raised."""
        (problem,) = self.problem_at(f"tls:{HIDDEN}:443")
        self.assertIn("cannot read", problem)

    def test_certificate_directory(self) -> None:
        """tls: needs a directory with certificates."""
        directory = Path(self.mktemp())
        directory.mkdir()
        self.assertIn("no directory with .pem files", self.problem_at(f"tls:{directory}:443")[0])
        (directory / "example.com.pem").write_bytes(b"")
        self.assertEqual(self.problem_at(f"tls:{directory}:443"), [])
