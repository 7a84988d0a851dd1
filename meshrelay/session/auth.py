"""Is this user who they say they are: a JWT (RFC 7519) by PyJWT, or their word in mode "open".

`algorithms` comes from the configuration alone and never from the token (RFC 8725, section 3.1).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jwt

from meshrelay.errors import AuthenticationError, MalformedPayload
from meshrelay.model import check_user_id

__all__ = [
    "Authenticator",
    "Identity",
    "OpenAuthenticator",
    "ReservingAuthenticator",
    "TokenAuthenticator",
    "TokenRules",
]

#: Clocks of two machines may differ by this much.
LEEWAY_SECONDS = 10.0

#: Longest token taken; the cost of refusing one must not grow with its length.
MAX_TOKEN_CHARACTERS = 8192


class Identity(NamedTuple):
    """A user who is who they say."""

    user_id: str
    claims: dict[str, Any]


class Authenticator:
    """Decides who may sign in. Abstract."""

    def authenticate(self, user_id: str | None, token: str | None) -> Identity:
        """Return who this is.

        :param user_id: what the client calls itself, 1 to 128 bytes; None = the token says it.
        :raises AuthenticationError: no; its detail is for the log alone.
        :raises MalformedPayload: nobody may have this ID; the text is fit for the client's eyes.
        """
        raise NotImplementedError


class OpenAuthenticator(Authenticator):
    """Everybody is who they say."""

    def authenticate(self, user_id: str | None, token: str | None) -> Identity:
        """See `Authenticator`."""
        if user_id is None:
            raise AuthenticationError("no user ID")
        return Identity(user_id, {})


class TokenRules(NamedTuple):
    """What a token must satisfy.

    :ivar key: the secret of HS*, or the PEM of the public key.
    :ivar audience: "" = not checked.
    :ivar issuer: "" = not checked.
    """

    key: bytes
    algorithms: tuple[str, ...]
    audience: str
    issuer: str


class TokenAuthenticator(Authenticator):
    """The user is the ``sub`` of a valid token."""

    def __init__(self, rules: TokenRules) -> None:
        self._rules = rules

    def authenticate(self, user_id: str | None, token: str | None) -> Identity:
        """See `Authenticator`."""
        if not token:
            raise AuthenticationError("no token")
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise AuthenticationError("token too long")
        rules = self._rules
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                rules.key,
                algorithms=list(rules.algorithms),
                audience=rules.audience or None,
                issuer=rules.issuer or None,
                leeway=LEEWAY_SECONDS,
                options={"require": ["sub"], "verify_aud": bool(rules.audience)},
            )
            subject = check_user_id(claims["sub"])
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise AuthenticationError(f"{type(error).__name__}: {error}") from error
        if user_id is not None and user_id != subject:
            raise AuthenticationError("the token is for another user")
        return Identity(subject, claims)


class ReservingAuthenticator(Authenticator):
    """Another one decides, but no user gets an ID that begins with `prefix`: those are taken.

    :param owners: whose they are, for the text that the client is told.
    """

    def __init__(self, others: Authenticator, prefix: str, owners: str) -> None:
        self._others = others
        self._prefix = prefix
        self._owners = owners

    def authenticate(self, user_id: str | None, token: str | None) -> Identity:
        """See `Authenticator`."""
        identity = self._others.authenticate(user_id, token)
        if identity.user_id.startswith(self._prefix):
            raise MalformedPayload(f"user: IDs that begin with {self._prefix} belong to {self._owners}")
        return identity
