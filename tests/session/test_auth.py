"""Sign-in by token, and by word alone."""

from __future__ import annotations

from typing import Any, ClassVar

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import AuthenticationError, MalformedPayload
from meshrelay.session.auth import (
    MAX_TOKEN_CHARACTERS,
    Authenticator,
    Identity,
    OpenAuthenticator,
    ReservingAuthenticator,
    TokenAuthenticator,
    TokenRules,
)

SECRET = b"a secret of at least 32 bytes, as HS256 wants it"
LONG_AGO = 1_000_000_000
FAR_AWAY = 32_000_000_000


def token_of(key: Any = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    """Return a signed token."""
    token: str = jwt.encode(claims, key, algorithm=algorithm)
    return token


def authenticator_of(
    key: bytes = SECRET, algorithms: tuple[str, ...] = ("HS256",), audience: str = "", issuer: str = ""
) -> TokenAuthenticator:
    """Return an authenticator with these rules."""
    return TokenAuthenticator(TokenRules(key, algorithms, audience, issuer))


class OpenTests(SynchronousTestCase):
    """Mode "open"."""

    def test_word(self) -> None:
        """Everybody is who they say, with no claims."""
        self.assertEqual(OpenAuthenticator().authenticate("ann", "whatever"), Identity("ann", {}))

    def test_nobody(self) -> None:
        """Somebody they must be."""
        self.assertRaises(AuthenticationError, OpenAuthenticator().authenticate, None, None)

    def test_abstract(self) -> None:
        """An authenticator decides something."""
        self.assertRaises(NotImplementedError, Authenticator().authenticate, "ann", None)


class TokenTests(SynchronousTestCase):
    """Mode "token"."""

    def refused(self, token: str | None, user_id: str | None = None, **rules: Any) -> str:
        """Return why a token is refused, as the log has it."""
        authenticator = authenticator_of(**rules)
        detail: str = self.assertRaises(AuthenticationError, authenticator.authenticate, user_id, token).detail
        return detail

    def test_subject(self) -> None:
        """The user is the subject of the token, and its claims are the application's to read."""
        identity = authenticator_of().authenticate(None, token_of(sub="ann", team="red"))
        self.assertEqual(identity, Identity("ann", {"sub": "ann", "team": "red"}))

    def test_same_user(self) -> None:
        """A client may name itself, if it names the subject."""
        self.assertEqual(authenticator_of().authenticate("ann", token_of(sub="ann")).user_id, "ann")
        self.assertIn("another user", self.refused(token_of(sub="ann"), "bob"))

    def test_missing(self) -> None:
        """Without a token nobody comes in, whatever they call themselves."""
        self.assertEqual(self.refused(None, "ann"), "no token")
        self.assertEqual(self.refused("", "ann"), "no token")

    def test_wrong_key(self) -> None:
        """A token that another secret signed is refused."""
        self.refused(token_of(b"another secret of at least 32 bytes......", sub="ann"))

    def test_algorithm_is_ours(self) -> None:
        """The configuration says which algorithms are taken, never the token."""
        self.refused(token_of(sub="ann"), algorithms=("HS512",))
        self.refused(token_of(None, "none", sub="ann"))

    def test_times(self) -> None:
        """A token is good from its nbf to its exp."""
        self.refused(token_of(sub="ann", exp=LONG_AGO))
        self.refused(token_of(sub="ann", nbf=FAR_AWAY))
        self.assertEqual(authenticator_of().authenticate(None, token_of(sub="ann", exp=FAR_AWAY)).user_id, "ann")

    def test_audience(self) -> None:
        """Where the configuration names an audience, the token must name it; where not, it may name any."""
        self.assertEqual(
            authenticator_of(audience="game").authenticate(None, token_of(sub="ann", aud="game")).user_id, "ann"
        )
        self.refused(token_of(sub="ann", aud="shop"), audience="game")
        self.refused(token_of(sub="ann"), audience="game")
        self.assertEqual(authenticator_of().authenticate(None, token_of(sub="ann", aud="shop")).user_id, "ann")

    def test_issuer(self) -> None:
        """Where the configuration names an issuer, the token must be from it."""
        token = token_of(sub="ann", iss="login")
        self.assertEqual(authenticator_of(issuer="login").authenticate(None, token).user_id, "ann")
        self.refused(token, issuer="other")
        self.refused(token_of(sub="ann"), issuer="login")

    def test_subject_is_a_user_id(self) -> None:
        """A subject that cannot be a user ID is refused, like a token without one."""
        for subject in ("", "u" * 129):
            self.refused(token_of(sub=subject))
        self.refused(token_of(name="ann"))

    def test_garbage(self) -> None:
        """What is no token is refused, however odd."""
        for token in ("a", "a.b.c", "..", "\ud800", "é.é.é", "{}" * 4000, "a" * (MAX_TOKEN_CHARACTERS + 1)):
            self.refused(token)

    def test_bound(self) -> None:
        """A token over 8,192 characters is not even looked at."""
        self.assertEqual(self.refused("a" * (MAX_TOKEN_CHARACTERS + 1)), "token too long")
        self.assertNotEqual(self.refused("a" * MAX_TOKEN_CHARACTERS), "token too long")


class AlgorithmTests(SynchronousTestCase):
    """The signatures that a node can check by a public key."""

    keys: ClassVar[dict[str, Any]] = {
        "RS256": lambda: rsa.generate_private_key(65537, 2048),
        "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate,
    }

    def test_public_keys(self) -> None:
        """RS256, ES256 and EdDSA tokens are taken, and no token signed with the public key as if it were a secret."""
        for algorithm, make in self.keys.items():
            private = make()
            public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            secret = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            authenticator = authenticator_of(public, (algorithm,))
            token = token_of(secret, algorithm, sub="ann")
            self.assertEqual(authenticator.authenticate(None, token).user_id, "ann", algorithm)
            self.assertRaises(AuthenticationError, authenticator.authenticate, None, token_of(sub="ann"))


class ReservingTests(SynchronousTestCase):
    """User IDs that no user may have."""

    def test_prefix(self) -> None:
        """An ID with the prefix is refused with a text for its client; all others are decided by the other one."""
        authenticator = ReservingAuthenticator(OpenAuthenticator(), "peer:", "somebody else")
        for user_id in ("peer:", "peer:x"):
            refused = self.assertRaises(MalformedPayload, authenticator.authenticate, user_id, None)
            self.assertEqual(refused.text, "user: IDs that begin with peer: belong to somebody else")
        for user_id in ("peer", "Peer:x", "a peer:x"):
            self.assertEqual(authenticator.authenticate(user_id, None), Identity(user_id, {}))
        self.assertRaises(AuthenticationError, authenticator.authenticate, None, None)

    def test_token(self) -> None:
        """A token does not help, whoever has signed it; and who has no good one does not hear what is reserved."""
        authenticator = ReservingAuthenticator(authenticator_of(), "peer:", "somebody else")
        self.assertRaises(MalformedPayload, authenticator.authenticate, None, token_of(sub="peer:x"))
        self.assertRaises(AuthenticationError, authenticator.authenticate, "peer:x", None)
