"""The files that a configuration names -> problems, when one is missing or does not fit; and how a secret is read.

This is the part of checking that needs the disk. Stream endpoint strings are tried here as well, because Twisted
reads certificates when it is given one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import jwt
from OpenSSL import SSL, crypto
from twisted.internet.endpoints import serverFromString

from meshrelay.config.checks import STREAM_KEYS, value_of
from meshrelay.config.keys import keys_by_section
from meshrelay.config.listening import parse_stream_place
from meshrelay.config.schema import AuthConfig, Config
from meshrelay.errors import ConfigError, ConfigProblem

__all__ = ["MAX_FILE_BYTES", "check_files", "minimum_secret_bytes", "read_secret", "short_secret_warning"]

#: Larger files are no secret, key or certificate.
MAX_FILE_BYTES = 65_536


def read_secret(path: str | Path) -> bytes:
    """Read a secret: the line end of a text is not part of it, bytes that are no ASCII text are taken as they are.

    :raises ConfigError: the file cannot be read, is empty or has more than `MAX_FILE_BYTES`; the problem has no key.
    """
    try:
        content = _read_file(path)
    except ValueError as error:
        raise ConfigError([ConfigProblem("", str(error))]) from None
    return content.rstrip(b"\r\n") if content.isascii() else content


def minimum_secret_bytes(algorithm: str) -> int:
    """Return the fewest bytes that a secret of this HMAC needs: as many as its hash has (RFC 7518, section 3.2)."""
    return int(algorithm.removeprefix("HS")) // 8


def short_secret_warning(auth: AuthConfig) -> str:
    """Return what is to be said about a secret that is shorter than its hash; "" for a good one.

    Not an error: whoever makes the tokens may have used that secret for years.

    :raises ConfigError: the file cannot be read.
    """
    if auth.mode != "token" or not auth.algorithms[0].startswith("HS"):
        return ""
    size = len(read_secret(auth.secret_file))
    needed = max(minimum_secret_bytes(name) for name in auth.algorithms)
    if size >= needed:
        return ""
    return f"auth.secret_file: {auth.secret_file} holds {size} bytes and can be guessed, {needed} are safe"


def check_files(config: Config, wrong: frozenset[str] = frozenset()) -> list[ConfigProblem]:
    """Check every file that the configuration names.

    :param wrong: paths of the keys that have a problem already; they are left out.
    """
    problems = list(_check_readable(config, wrong))
    unreadable = wrong | {problem.path for problem in problems}
    if config.auth.mode == "token" and unreadable.isdisjoint(f"auth.{name}" for name in config.auth.__struct_fields__):
        problems += _check_auth_key(config.auth)
    for path in STREAM_KEYS:
        text = str(value_of(config, path))
        if text and path not in wrong:
            problems += _check_endpoint(path, text)
    return problems


def _check_readable(config: Config, wrong: frozenset[str]) -> Iterator[ConfigProblem]:
    for names in keys_by_section().values():
        for key in names.values():
            name = value_of(config, key.path)
            if not key.file or not name or key.path in wrong:
                continue
            try:
                if key.made and not Path(str(name)).exists():
                    _check_parent(str(name))
                else:
                    _read_file(str(name))
            except ValueError as error:
                yield ConfigProblem(key.path, str(error))
            except OSError as error:
                yield ConfigProblem(key.path, f"cannot look for {name}: {error.strerror or error}")


def _check_parent(path: str) -> None:
    """Find out whether the node could make a file, as far as that can be told without doing so.

    :raises ValueError: it could not.
    :raises OSError: it cannot even look there.
    """
    parent = Path(path).parent
    if not parent.is_dir():
        raise ValueError(f"cannot make {path}: {parent} is no directory")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise ValueError(f"cannot make {path}: {parent} may not be written to")


def _read_file(path: str | Path) -> bytes:
    """Return what a small file holds.

    :raises ValueError: it does not hold anything that can be used.
    """
    try:
        # A pipe or device would block or never end.
        if Path(path).exists() and not Path(path).is_file():
            raise ValueError(f"{path} is not a file")
        with Path(path).open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from None
    if not content.strip():
        raise ValueError(f"{path} is empty")
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"{path} has more than {MAX_FILE_BYTES} bytes")
    return content


def _check_auth_key(auth: AuthConfig) -> Iterator[ConfigProblem]:
    if auth.algorithms[0].startswith("HS"):
        return
    pem = _read_file(auth.public_key_file)
    if b"PRIVATE KEY" in pem:
        yield ConfigProblem("auth.public_key_file", f"{auth.public_key_file} holds a private key; give the public one")
        return
    for name in auth.algorithms:
        try:
            jwt.get_algorithm_by_name(name).prepare_key(pem)
        except (jwt.PyJWTError, ValueError, TypeError):
            yield ConfigProblem("auth.public_key_file", f"{auth.public_key_file} holds no public key for {name}")


def _check_endpoint(path: str, text: str) -> Iterator[ConfigProblem]:
    place = parse_stream_place(text)
    # systemd hands sockets over only to the service itself, not to whoever checks its file.
    if place.kind == "systemd":
        return
    # Twisted looks at this one when the first client comes.
    if place.kind == "tls":
        try:
            has_certificates = any(Path(place.certificate_directory).glob("*.pem"))
        except OSError as error:
            yield ConfigProblem(path, f"{text}: cannot read {place.certificate_directory}: {error.strerror or error}")
            return
        if not has_certificates:
            yield ConfigProblem(path, f"{text}: {place.certificate_directory} is no directory with .pem files")
            return
    try:
        # Nothing listens yet, so that any object will do for the reactor.
        serverFromString(object(), text)
    except (ValueError, TypeError, LookupError, OSError, SSL.Error, crypto.Error) as error:
        yield ConfigProblem(path, f"{text} is not an endpoint that can listen: {error or type(error).__name__}")
