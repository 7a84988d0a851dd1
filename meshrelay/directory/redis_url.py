"""What the configuration says -> where Redis is and how to sign in there.

=======================================================  ===========================================
redis://[user:password@]host[:port][/db]                 one server
rediss://...                                             the same over TLS
redis+sentinel://[user:password@]host[:port],.../service[/db]  the master that Sentinel names for the service
rediss+sentinel://...                                    the same, Sentinel and Redis over TLS
=======================================================  ===========================================

User and password are those of the Redis servers and may be percent-encoded; Sentinels are asked without.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from meshrelay.errors import ConfigError, ConfigProblem

__all__ = ["MAX_SENTINELS", "RedisPlace", "is_redis_url", "parse_redis_url"]

MAX_SENTINELS = 16

_SCHEMES = ("redis", "rediss", "redis+sentinel", "rediss+sentinel")
_REDIS_PORT = 6379
_SENTINEL_PORT = 26379
_MAX_PORT = 65535
#: The key of the configuration that holds the URL.
_KEY = "mesh.directory"


@dataclass(frozen=True, slots=True)
class RedisPlace:
    """Where Redis is."""

    #: (host, port) of the server; of all Sentinels when `service` is set.
    addresses: tuple[tuple[str, int], ...]
    #: Name of the service at the Sentinels; empty = no Sentinel.
    service: str = ""
    db: int = 0
    user: str = ""
    password: str = field(default="", repr=False)
    is_tls: bool = False


def is_redis_url(text: str) -> bool:
    """Whether `text` names a Redis directory, well-formed or not."""
    scheme, separator, _ = text.partition("://")
    return bool(separator) and scheme in _SCHEMES


def parse_redis_url(text: str) -> RedisPlace:
    """Read an URL.

    :raises ConfigError: with one problem, which never shows the password.
    """
    try:
        return _parse(text)
    except ValueError as error:
        raise ConfigError([ConfigProblem(_KEY, str(error))]) from None


def _parse(text: str) -> RedisPlace:
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in _SCHEMES:
        raise ValueError(f"must begin with one of {', '.join(f'{name}://' for name in _SCHEMES)}")
    # urlsplit sees no difference between a list of hosts and one strange host: the parts are all that is taken from it.
    try:
        parts = urlsplit(f"//{rest}")
    except ValueError:
        # Its own words may show the password.
        raise ValueError("has hosts that cannot be read") from None
    if parts.query or parts.fragment:
        raise ValueError("has a query or a fragment, which mean nothing here")
    is_sentinel = scheme.endswith("+sentinel")
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    service, db = _path(parts, is_sentinel)
    default_port = _SENTINEL_PORT if is_sentinel else _REDIS_PORT
    names = hosts.split(",")
    if len(names) > 1 and not is_sentinel:
        raise ValueError("names several hosts, which needs redis+sentinel://")
    if len(names) > MAX_SENTINELS:
        raise ValueError(f"names {len(names)} Sentinels, allowed are {MAX_SENTINELS}")
    if user and not password:
        raise ValueError("has a user without a password")
    return RedisPlace(
        addresses=tuple(_address(name, default_port) for name in names),
        service=service,
        db=db,
        user=unquote(user),
        password=unquote(password),
        is_tls=scheme.startswith("rediss"),
    )


def _path(parts: SplitResult, is_sentinel: bool) -> tuple[str, int]:
    pieces = parts.path.strip("/").split("/") if parts.path.strip("/") else []
    service = ""
    if is_sentinel:
        if not pieces:
            raise ValueError("names no service: redis+sentinel://host:port,host:port/service/db")
        service = unquote(pieces.pop(0))
    if len(pieces) > 1:
        raise ValueError("has more in its path than the number of the database")
    text = pieces[0] if pieces else "0"
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"database {text!r} is not a number")
    return service, int(text)


def _address(text: str, default_port: int) -> tuple[str, int]:
    # An IPv6 address stands in brackets, as in every URL.
    if text.startswith("["):
        host, closing, port = text[1:].partition("]")
        if not closing or (port and not port.startswith(":")):
            raise ValueError(f"address {text!r} is not [address]:port")
        port = port[1:]
    else:
        host, _, port = text.partition(":")
    if not host:
        raise ValueError("names no host")
    if not port:
        return host, default_port
    if not (port.isascii() and port.isdigit()) or not 0 < int(port) <= _MAX_PORT:
        raise ValueError(f"port {port!r} of {host} is not 1 to {_MAX_PORT}")
    return host, int(port)
