"""meshrelay relay."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime
from pathlib import Path

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.cli.relay import command
from meshrelay.config.files import read_secret
from meshrelay.relay.auth import HmacTokens, RelayToken, TokenRefused, hmac_key


def run(*arguments: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(command, list(arguments))


class TokenTests(SynchronousTestCase):
    """Tokens to try a relay with."""

    def secret_file(self, content: bytes = b"supersecret\n") -> str:
        """Return the path of a new file."""
        path = Path(self.mktemp())
        path.write_bytes(content)
        return str(path)

    def test_token(self) -> None:
        """A relay with that secret takes the token, for as long as was asked for; the line end is not of the secret."""
        now = datetime.now(UTC).timestamp()
        for options, seconds in (((), 43200), (("--ttl-seconds", "60"), 60)):
            result = run("token", "--secret-file", self.secret_file(), *options)
            self.assertEqual(result.exit_code, 0, result.output)
            token = bytes.fromhex(result.stdout.strip())
            tokens = HmacTokens(hmac_key(b"supersecret"))
            tokens.check(token, now + seconds - 1)
            self.assertRaises(TokenRefused, tokens.check, token, now + seconds + 600)

    def test_json(self) -> None:
        """The two texts that NetBird's management hands out can be had as well."""
        result = run("token", "--secret-file", self.secret_file(), "--json")
        token = RelayToken(**json.loads(result.stdout))
        HmacTokens(hmac_key(b"supersecret")).check(token.wire(), datetime.now(UTC).timestamp())

    def test_new_secret(self) -> None:
        """A new secret is written for its owner alone, and used; an existing file stays as it is."""
        path = self.mktemp()
        result = run("token", "--new-secret", path)
        key = hmac_key(read_secret(path))
        HmacTokens(key).check(bytes.fromhex(result.stdout.strip()), datetime.now(UTC).timestamp())
        self.assertEqual(stat.S_IMODE(Path(path).stat().st_mode), 0o600)
        self.assertEqual(run("token", "--new-secret", path).exit_code, 1)
        self.assertEqual(hmac_key(read_secret(path)), key)

    def test_refused(self) -> None:
        """What cannot work is refused with a word on what to do, and no token comes out."""
        secret = self.secret_file()
        for options, status, text in (
            ((), 2, "--new-secret"),
            (("--secret-file", secret, "--new-secret", self.mktemp()), 2, "--secret-file"),
            (("--secret-file", "gone"), 1, "cannot read gone"),
            (("--secret-file", self.secret_file(b"\n")), 1, "is empty"),
            (("--secret-file", secret, "--ttl-seconds", "0"), 2, "--ttl-seconds"),
            (("--secret-file", secret, "--ttl-seconds", "1" + "0" * 140), 1, "170 fit"),
        ):
            result = run("token", *options)
            self.assertEqual((result.exit_code, result.stdout), (status, ""), options)
            self.assertIn(text, result.stderr, options)
