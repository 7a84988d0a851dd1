"""``meshrelay token --user ID``: a JWT (RFC 7519) to try a node of auth mode "token" with.

In production tokens are signed by the program that knows the users, with the same secret or private key.
"""

from __future__ import annotations

import os
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import jwt

from meshrelay.config.files import minimum_secret_bytes, read_secret
from meshrelay.errors import ConfigError
from meshrelay.model import check_user_id

__all__ = ["command", "make_token", "write_secret"]

#: Bytes of randomness of a new secret; written as twice as many hex digits, which is enough for HS512.
NEW_SECRET_BYTES = 32

_HOW_TO = (
    "a token is signed with the node's secret: --secret-file FILE (make one with --new-secret FILE and name it "
    "in [auth] secret_file), or --private-key-file FILE and --algorithm"
)


def make_token(claims: dict[str, object], key: bytes, algorithm: str, issued_at: datetime, ttl_seconds: float) -> str:
    """Sign a token.

    :param claims: ``sub`` and whatever else; ``iat`` and ``exp`` are added.
    :param key: secret of HS*, else the PEM of a private key.
    :raises ValueError: the key does not fit the algorithm.
    """
    times = {"iat": issued_at, "exp": issued_at + timedelta(seconds=ttl_seconds)}
    try:
        return jwt.encode({**claims, **times}, key, algorithm=algorithm)
    except (jwt.PyJWTError, NotImplementedError, TypeError, AttributeError) as error:
        raise ValueError(f"the key does not fit {algorithm}: {error}") from error


def write_secret(path: str | Path) -> None:
    """Write a new random secret that only its owner can read.

    :raises OSError: the file exists or cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="ascii") as stream:
        stream.write(secrets.token_hex(NEW_SECRET_BYTES) + "\n")


@click.command(name="token")
@click.option("--user", required=True, help="User ID: the sub of the token, 1 to 128 bytes.")
@click.option("--secret-file", type=click.Path(), help="Secret of HS256, HS384 and HS512.")
@click.option("--private-key-file", type=click.Path(), help="PEM private key of the other algorithms.")
@click.option("--new-secret", type=click.Path(), help="Make this secret file first, readable by you alone.")
@click.option("--algorithm", help="[default: HS256 with a secret, or what fits the private key]")
@click.option(
    "--ttl-seconds", type=click.FloatRange(min=1), default=3600, show_default=True, help="Time it is good for."
)
@click.option("--audience", default="", help="aud, when the node asks for one.")
@click.option("--issuer", default="", help="iss, when the node asks for one.")
def command(
    user: str,
    secret_file: str | None,
    private_key_file: str | None,
    new_secret: str | None,
    algorithm: str | None,
    ttl_seconds: float,
    audience: str,
    issuer: str,
) -> None:
    """Print a token that signs --user in on a node of auth mode "token"."""
    claims = {"sub": user, "aud": audience, "iss": issuer}
    try:
        check_user_id(user)
        key, algorithm = _read_key(_made(new_secret) or secret_file, private_key_file, algorithm)
        signed = {name: value for name, value in claims.items() if value}
        token = make_token(dict(signed), key, algorithm, datetime.now(UTC), ttl_seconds)
    except (ValueError, OSError, OverflowError, ConfigError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(token)


def _made(new_secret: str | None) -> str | None:
    if new_secret is not None:
        write_secret(new_secret)
    return new_secret


def _read_key(secret_file: str | None, private_key_file: str | None, algorithm: str | None) -> tuple[bytes, str]:
    """Return the key and the algorithm that fits it.

    :raises ValueError: no key, two, or one that does not fit; the text says what to do.
    :raises ConfigError: the file cannot be read.
    """
    if (secret_file is None) == (private_key_file is None):
        raise ValueError(_HOW_TO)
    if secret_file is None:
        assert private_key_file is not None
        pem = read_secret(private_key_file)
        return pem, algorithm or _algorithm_of(pem)
    secret, algorithm = read_secret(secret_file), algorithm or "HS256"
    if algorithm not in ("HS256", "HS384", "HS512"):
        raise ValueError(f"{algorithm} needs --private-key-file")
    if len(secret) < minimum_secret_bytes(algorithm):
        raise ValueError(
            f"{secret_file} holds {len(secret)} bytes, {algorithm} needs {minimum_secret_bytes(algorithm)}"
        )
    return secret, algorithm


def _algorithm_of(pem: bytes) -> str:
    for name in ("RS256", "ES256", "ES384", "ES512", "EdDSA"):
        try:
            jwt.get_algorithm_by_name(name).prepare_key(pem)
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
        return name
    raise ValueError("the file holds no private key that can be used")
