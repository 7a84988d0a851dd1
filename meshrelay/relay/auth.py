"""Tokens of the NetBird-compatible relay: a shared secret and the time -> may this client in.

======  =====  ===========================================================================
offset  bytes  field
======  =====  ===========================================================================
0       1      algorithm: 1 = HMAC-SHA256
1       32     signature of the rest
33      ...    when the token expires: Unix seconds in decimal ASCII, ten digits or more
======  =====  ===========================================================================

The key of the HMAC is not the operator's secret but its SHA-256. The token says nothing about who uses it: whoever has
a valid one may call itself any peer ID, and so take the place of the peer that had it. That is how NetBird is, and
its clients could not talk to a server that asked for more. A token is looked at once, when a connection begins;
nobody is cut off when it expires.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from hashlib import sha256
from hmac import compare_digest
from hmac import digest as hmac_digest
from typing import NamedTuple

from meshrelay.errors import AuthenticationError
from meshrelay.wire.relay import MAX_TOKEN_BYTES, encode_auth, peer_id_of

__all__ = [
    "HEALTH_PROBE_ID",
    "REFUSALS",
    "AnyToken",
    "HmacTokens",
    "RelayToken",
    "TokenCheck",
    "TokenRefused",
    "health_probe",
    "hmac_key",
    "make_token",
    "token_of_parts",
]

HMAC_SHA256 = 1
SIGNATURE_BYTES = 32

#: Ten digits last from 2001 to 2286; whatever is shorter is no time that could be meant.
MIN_PAYLOAD_BYTES = 10

#: Why a token is refused, in the order of the checks.
REFUSALS = ("no_token", "short_payload", "algorithm", "signature", "payload", "expired")

#: By this ID a NetBird relay looks whether it reaches itself; its failing sign-ins are no news.
HEALTH_PROBE_ID = peer_id_of("healthcheck-agent")

_DECIMAL = re.compile(rb"[+-]?[0-9]+")
_INT64 = range(-(1 << 63), 1 << 63)


class TokenRefused(AuthenticationError):
    """A token that is not good. The client is not told why, nor that.

    :param reason: one of `REFUSALS`; it becomes a metric label.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"relay token: {reason}")


class RelayToken(NamedTuple):
    """A token as NetBird's management hands it to a client: two texts."""

    #: Unix seconds at which it expires, in decimal.
    payload: str
    #: In base64.
    signature: str

    def wire(self) -> bytes:
        """Return the token as it stands in AUTH.

        :raises ValueError: it is none; the text says what is wrong with it.
        """
        return token_of_parts(self.payload, self.signature)


def hmac_key(secret: bytes) -> bytes:
    """Return the key of the HMAC: what both sides make of the operator's secret."""
    return sha256(secret).digest()


def make_token(key: bytes, expires_at: int) -> RelayToken:
    """Sign a token.

    :param key: see `hmac_key`.
    :param expires_at: Unix time in whole seconds; the token is good until this second is over.
    """
    payload = str(expires_at)
    signature = hmac_digest(key, payload.encode("ascii"), "sha256")
    return RelayToken(payload, b64encode(signature).decode("ascii"))


def token_of_parts(payload: str, signature: str) -> bytes:
    """Return the token of AUTH, made of the two texts that management sends.

    :raises ValueError: the signature is not the base64 of 32 bytes, or the payload no ASCII text that fits.
    """
    raw = b64decode(signature, validate=True)
    if len(raw) != SIGNATURE_BYTES:
        raise ValueError(f"the signature has {len(raw)} bytes, a relay token has {SIGNATURE_BYTES}")
    token = bytes((HMAC_SHA256,)) + raw + payload.encode("ascii")
    if len(token) > MAX_TOKEN_BYTES:
        raise ValueError(f"the relay token has {len(token)} bytes, {MAX_TOKEN_BYTES} fit")
    return token


def health_probe() -> bytes:
    """Return the AUTH by which a relay looks whether it reaches itself; nobody answers it."""
    return encode_auth(HEALTH_PROBE_ID, bytes((HMAC_SHA256,)) + bytes(SIGNATURE_BYTES) + b"healthcheck")


class TokenCheck:
    """Decides which tokens are good. Abstract."""

    def check(self, token: bytes, unix_now: float) -> None:
        """Return if the token is good.

        :param token: as it stands in AUTH, 0 to 170 bytes.
        :param unix_now: the time of day in Unix seconds, not a monotonic clock.
        :raises TokenRefused: it is not; the client's fault, or an old token.
        """
        raise NotImplementedError


class AnyToken(TokenCheck):
    """Every token is good, and none as well: for a server that only its own machine reaches."""

    def check(self, token: bytes, unix_now: float) -> None:
        """See `TokenCheck`."""


class HmacTokens(TokenCheck):
    """Tokens signed with the secret of this relay.

    :param key: see `hmac_key`.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def check(self, token: bytes, unix_now: float) -> None:
        """See `TokenCheck`; the checks and their order are NetBird's."""
        is_known = token[:1] == bytes((HMAC_SHA256,))
        start = 1 + SIGNATURE_BYTES if is_known else 1
        if len(token) < start:
            raise TokenRefused("no_token")
        payload = token[start:]
        if len(payload) < MIN_PAYLOAD_BYTES:
            raise TokenRefused("short_payload")
        if not is_known:
            raise TokenRefused("algorithm")
        if not compare_digest(hmac_digest(self._key, payload, "sha256"), token[1:start]):
            raise TokenRefused("signature")
        if _DECIMAL.fullmatch(payload) is None or int(payload) not in _INT64:
            raise TokenRefused("payload")
        # Whole seconds: the second in which the token expires still counts.
        if int(unix_now) > int(payload):
            raise TokenRefused("expired")
