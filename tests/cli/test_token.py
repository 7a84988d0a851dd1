"""meshrelay token."""

from __future__ import annotations

import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.cli.token import command, make_token, write_secret
from meshrelay.config.files import read_secret

SECRET = b"0123456789abcdef" * 4


def run(*arguments: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(command, list(arguments))


class TokenTests(SynchronousTestCase):
    """Tokens to try a node with."""

    def write(self, content: bytes) -> str:
        """Return the path of a new file."""
        path = Path(self.mktemp())
        path.write_bytes(content)
        return str(path)

    def claims(self, token: str, key: bytes, algorithm: str = "HS256", **options: Any) -> dict[str, Any]:
        """Check the token as a node does."""
        claims: dict[str, Any] = jwt.decode(token.strip(), key, algorithms=[algorithm], **options)
        return claims

    def test_secret(self) -> None:
        """A token of a secret names the user and is good for an hour."""
        result = run("--user", "alice", "--secret-file", self.write(SECRET + b"\n"))
        self.assertEqual(result.exit_code, 0, result.output)
        claims = self.claims(result.stdout, SECRET)
        self.assertEqual(claims["sub"], "alice")
        self.assertEqual(claims["exp"] - claims["iat"], 3600)
        self.assertEqual(set(claims), {"sub", "iat", "exp"})

    def test_claims(self) -> None:
        """Audience, issuer, algorithm and lifetime are what was asked for."""
        options = ["--audience", "game", "--issuer", "login", "--algorithm", "HS512", "--ttl-seconds", "60"]
        result = run("--user", "alice", "--secret-file", self.write(SECRET), *options)
        claims = self.claims(result.stdout, SECRET, "HS512", audience="game", issuer="login")
        self.assertEqual(claims["exp"] - claims["iat"], 60)

    def test_private_key(self) -> None:
        """The algorithm is found out from the private key."""
        for key, algorithm in (
            (ec.generate_private_key(ec.SECP256R1()), "ES256"),
            (ec.generate_private_key(ec.SECP384R1()), "ES384"),
            (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
        ):
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            result = run("--user", "alice", "--private-key-file", self.write(pem))
            self.assertEqual(result.exit_code, 0, result.output)
            self.assertEqual(self.claims(result.stdout, public, algorithm)["sub"], "alice")

    def test_new_secret(self) -> None:
        """A new secret is written for its owner alone, and used; an existing file stays as it is."""
        path = self.mktemp()
        result = run("--user", "alice", "--new-secret", path)
        self.assertEqual(self.claims(result.stdout, read_secret(path))["sub"], "alice")
        self.assertEqual(stat.S_IMODE(Path(path).stat().st_mode), 0o600)
        before = read_secret(path)
        again = run("--user", "alice", "--new-secret", path)
        self.assertEqual((again.exit_code, read_secret(path)), (1, before))

    def test_new_secrets_differ(self) -> None:
        """Every new secret is another one, long enough for every HMAC."""
        paths = [self.mktemp(), self.mktemp()]
        for path in paths:
            write_secret(path)
        first, second = (read_secret(path) for path in paths)
        self.assertNotEqual(first, second)
        self.assertEqual(len(first), 64)

    def test_refused(self) -> None:
        """What cannot work is refused with a word on what to do, and no token comes out."""
        secret, short = self.write(SECRET), self.write(b"short")
        key = ec.generate_private_key(ec.SECP256R1())
        pem = self.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        public = self.write(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        refused: list[tuple[list[str], str]] = [
            ([], "--new-secret"),
            (["--secret-file", secret, "--private-key-file", pem], "--secret-file"),
            (["--secret-file", short], "needs 32"),
            (["--secret-file", secret, "--algorithm", "RS256"], "--private-key-file"),
            (["--secret-file", secret, "--algorithm", "none"], "--private-key-file"),
            (["--secret-file", "gone"], "No such file"),
            (["--private-key-file", secret], "no private key"),
            (["--private-key-file", public], "does not fit"),
            (["--private-key-file", pem, "--algorithm", "RS256"], "does not fit RS256"),
            (["--private-key-file", pem, "--algorithm", "HS256"], "does not fit HS256"),
            (["--private-key-file", pem, "--algorithm", "XY"], "does not fit XY"),
            (["--secret-file", secret, "--ttl-seconds", "1e300"], "Error: "),
        ]
        for options, text in refused:
            result = run("--user", "alice", *options)
            self.assertEqual((result.exit_code, result.stdout), (1, ""), options)
            self.assertIn(text, result.stderr, options)

    def test_user(self) -> None:
        """A user ID that no node would take is refused."""
        result = run("--user", "x" * 129, "--secret-file", self.write(SECRET))
        self.assertEqual(result.exit_code, 1)
        self.assertIn("allowed are 1 to 128", result.stderr)

    def test_time_is_given(self) -> None:
        """The lifetime counts from the time that is given."""
        token = make_token({"sub": "alice"}, SECRET, "HS256", datetime.fromtimestamp(1000, UTC), 60)
        claims = self.claims(token, SECRET, options={"verify_exp": False})
        self.assertEqual((claims["iat"], claims["exp"]), (1000, 1060))
