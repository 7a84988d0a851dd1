"""Tests of `meshrelay.relay_client.token_store`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.relay.auth import HmacTokens, RelayToken, TokenRefused, make_token
from meshrelay.relay_client.token_store import SecretTokens, TokenStore


class TokenStoreTests(SynchronousTestCase):
    """The newest token."""

    def test_update(self) -> None:
        """The last token is kept, whatever form it came in; None changes nothing."""
        store = TokenStore()
        self.assertEqual(store.token(), b"")
        token = make_token(b"key", 1893456000)
        store.update(token)
        self.assertEqual(store.token(), token.wire())
        store.update(None)
        self.assertEqual(store.token(), token.wire())
        store.update(b"other")
        self.assertEqual(store.token(), b"other")

    def test_bad(self) -> None:
        """What is no token is refused, and the old one stays."""
        store = TokenStore(b"old")
        for bad in (RelayToken("1893456000", "no base64"), RelayToken("1893456000", "YWJj"), bytes(171)):
            self.assertRaises(ValueError, store.update, bad)
        self.assertEqual(store.token(), b"old")


class SecretTokensTests(SynchronousTestCase):
    """Tokens for who has the secret."""

    def test_fresh(self) -> None:
        """Each token is good for ten minutes from the time at which it is taken."""
        now = [1893456000.0]
        tokens = SecretTokens(b"key", lambda: now[0])
        check = HmacTokens(b"key")
        first = tokens.token()
        now[0] += 601
        self.assertRaises(TokenRefused, check.check, first, now[0])
        check.check(tokens.token(), now[0])
