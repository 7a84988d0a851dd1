"""The token by which relay clients sign in, kept in one place: all clients of a manager use the newest one.

``TokenStore``     what management handed out last
``SecretTokens``   a fresh token for each connection, for who has the secret of the relay itself
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from meshrelay.relay.auth import RelayToken, make_token
from meshrelay.wire.relay import MAX_TOKEN_BYTES

__all__ = ["SecretTokens", "TokenSource", "TokenStore"]


class TokenSource(Protocol):
    """Where a client takes its token from when it connects; a live connection is not touched by a new one."""

    def token(self) -> bytes:
        """Return the token of the next connection; b"" for a server that takes every token."""


class TokenStore:
    """Keeps the token that it was given last.

    :param token: see `update`.
    """

    def __init__(self, token: RelayToken | bytes | None = None) -> None:
        self._token = b""
        self.update(token)

    def update(self, token: RelayToken | bytes | None) -> None:
        """Use another token from the next connection on.

        :param token: the two texts of management, or the token as it goes over the wire; None changes nothing.
        :raises ValueError: it is none; the old one stays.
        """
        if token is None:
            return
        wire = token.wire() if isinstance(token, RelayToken) else token
        if len(wire) > MAX_TOKEN_BYTES:
            raise ValueError(f"the relay token has {len(wire)} bytes, {MAX_TOKEN_BYTES} fit")
        self._token = wire

    def token(self) -> bytes:
        """See `TokenSource`."""
        return self._token


class SecretTokens:
    """Signs a token for each connection.

    :param key: see `meshrelay.relay.auth.hmac_key`.
    :param unix_clock: the time of day in seconds.
    :param ttl_seconds: how long a token is good; it is used at once, this is for clocks that differ.
    """

    def __init__(self, key: bytes, unix_clock: Callable[[], float], ttl_seconds: int = 600) -> None:
        self._key = key
        self._unix_clock = unix_clock
        self._ttl_seconds = ttl_seconds

    def token(self) -> bytes:
        """See `TokenSource`."""
        return make_token(self._key, int(self._unix_clock()) + self._ttl_seconds).wire()
