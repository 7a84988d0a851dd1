"""Tokens of the NetBird-compatible relay."""

from __future__ import annotations

from base64 import b64encode
from hmac import digest

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import AuthenticationError
from meshrelay.relay.auth import (
    HEALTH_PROBE_ID,
    REFUSALS,
    AnyToken,
    HmacTokens,
    RelayToken,
    TokenCheck,
    TokenRefused,
    health_probe,
    hmac_key,
    make_token,
    token_of_parts,
)
from tests.vectors import load_vectors

VECTORS = load_vectors("netbird_relay")
KEY = bytes.fromhex(VECTORS["key"])
TOKEN = bytes.fromhex(VECTORS["token"])
EXPIRES_AT = VECTORS["expires_at"]


def signed(payload: bytes, algorithm: int = 1) -> bytes:
    """Return a token with a good signature over any payload, made without our own code."""
    return bytes((algorithm,)) + digest(KEY, payload, "sha256") + payload


class VectorTests(SynchronousTestCase):
    """The token of the specification."""

    def test_key(self) -> None:
        """The key is the hash of the operator's secret."""
        self.assertEqual(hmac_key(VECTORS["secret"].encode()), KEY)

    def test_token(self) -> None:
        """A token is the time at which it expires, signed; management sends it as two texts."""
        token = make_token(KEY, EXPIRES_AT)
        self.assertEqual(token, RelayToken(str(EXPIRES_AT), VECTORS["signature"]))
        self.assertEqual(token.wire(), TOKEN)
        self.assertEqual(token_of_parts(str(EXPIRES_AT), VECTORS["signature"]), TOKEN)

    def test_probe(self) -> None:
        """A relay that looks after itself is known by its ID."""
        probe = VECTORS["auth"][-1]
        self.assertEqual((health_probe().hex(), HEALTH_PROBE_ID.hex()), (probe["hex"], probe["peer_id"]))


class PartsTests(SynchronousTestCase):
    """The two texts of management."""

    def test_refused(self) -> None:
        """What is no token is refused with a word on what is wrong with it."""
        good = VECTORS["signature"]
        for payload, signature in (
            ("1893456000", "not base64!"),
            ("1893456000", good[:-1]),
            ("1893456000", b64encode(b"short").decode()),
            ("1893456000", "ü"),
            ("ü", good),
            ("1" * 138, good),
        ):
            self.assertRaises(ValueError, token_of_parts, payload, signature)
        self.assertEqual(len(token_of_parts("1" * 137, good)), 170)


class HmacTokensTests(SynchronousTestCase):
    """Each step of the check, in its order."""

    def setUp(self) -> None:
        """A server with the secret of the specification."""
        self.tokens = HmacTokens(KEY)

    def refused(self, token: bytes, now: float = 0.0) -> str:
        """Return why a token is refused."""
        error = self.assertRaises(TokenRefused, self.tokens.check, token, now)
        self.assertIsInstance(error, AuthenticationError)
        self.assertIn(error.reason, REFUSALS)
        reason: str = error.reason
        return reason

    def test_good(self) -> None:
        """A fresh token lets its owner in, also with more than ten digits, zeros in front, or a sign."""
        self.tokens.check(TOKEN, 0.0)
        for payload in (b"01893456000", b"+1893456000", b"9223372036854775807"):
            self.tokens.check(signed(payload), 1.8e9)

    def test_expiry(self) -> None:
        """The second in which a token expires is the last one in which it is good."""
        self.tokens.check(TOKEN, EXPIRES_AT + 0.999)
        self.assertEqual(self.refused(TOKEN, EXPIRES_AT + 1.0), "expired")
        self.assertEqual(self.refused(make_token(KEY, 1_700_000_000).wire(), 1_700_003_600.0), "expired")
        self.assertEqual(self.refused(signed(b"-1893456000")), "expired")

    def test_data(self) -> None:
        """No token, or one shorter than its signature, is none; a bogus signature of ten bytes as well."""
        for token in (b"", b"\x01", TOKEN[:32], b"\x01" + b"0123456789"):
            self.assertEqual(self.refused(token), "no_token")

    def test_short(self) -> None:
        """A payload has at least ten bytes, signed or not, whatever the algorithm."""
        for token in (TOKEN[:33], signed(b"123456789"), b"\x00", b"\x07123456789"):
            self.assertEqual(self.refused(token), "short_payload")
        self.assertEqual(self.refused(signed(b"1234567890"), 2e9), "expired")

    def test_algorithm(self) -> None:
        """There is one algorithm."""
        for algorithm in (0, 2, 255):
            self.assertEqual(self.refused(signed(b"1893456000", algorithm)), "algorithm")

    def test_signature(self) -> None:
        """No token is good that was changed in any bit, nor one of another secret."""
        for index in range(8, len(TOKEN) * 8):
            changed = bytearray(TOKEN)
            changed[index // 8] ^= 1 << index % 8
            self.assertEqual(self.refused(bytes(changed)), "signature")
        self.assertEqual(self.refused(make_token(hmac_key(b"other"), EXPIRES_AT).wire()), "signature")
        # The secret itself is not the key.
        self.assertEqual(self.refused(make_token(b"supersecret", EXPIRES_AT).wire()), "signature")

    def test_payload(self) -> None:
        """A payload is a decimal number of 64 bits and nothing around it, even if it is signed."""
        for payload in (
            b"not a number",
            b"1893456000 ",
            b" 1893456000",
            b"1893456000\n",
            b"1_893_456_000",
            b"0x1893456000",
            b"1893456000.0",
            "١٨٩٣٤٥٦٠٠٠".encode(),
            b"9223372036854775808",
            b"-9223372036854775809",
            b"9" * 137,
            b"\xff" * 10,
        ):
            self.assertEqual(self.refused(signed(payload)), "payload", payload)

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=170))
    def test_garbage(self, token: bytes) -> None:
        """Whatever comes is refused, and causes no other error."""
        self.refused(token)

    @settings(max_examples=100, deadline=None)
    @given(st.binary(min_size=10, max_size=137))
    def test_signed_garbage(self, payload: bytes) -> None:
        """Whatever a holder of the secret signs causes no other error."""
        try:
            self.tokens.check(signed(payload), 0.0)
        except TokenRefused as error:
            self.assertIn(error.reason, ("payload", "expired"))


class AnyTokenTests(SynchronousTestCase):
    """A server without a secret."""

    def test_all_good(self) -> None:
        """Everybody comes in, also without a token."""
        for token in (b"", b"x" * 170, TOKEN):
            AnyToken().check(token, 4e9)

    def test_abstract(self) -> None:
        """A check has to say how it checks."""
        self.assertRaises(NotImplementedError, TokenCheck().check, b"", 0.0)
