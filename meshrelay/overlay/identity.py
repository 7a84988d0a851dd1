"""The key of a peer, and the ID that follows from it.

::

    seed (32 bytes, in a file) --HKDF--> Ed25519 key: signs envelopes
                               --HKDF--> X25519 key:  seals messages
    public (64 bytes) = Ed25519 public key, X25519 public key
    peer ID (20 bytes) = SHA-256("meshrelay overlay" 0 public), cut

An ID is the hash of its key, so whoever shows a public key that hashes to an ID, and uses it, owns the ID: there is
nobody to ask, and no other key can take its place. Peers of npm's package have 20 random bytes, and prove nothing.

The file is one line of text, ``meshrelay-overlay-key-1`` and the seed in base64url, readable by its owner alone.

Source: RFC 5869 (HKDF), RFC 8032 (Ed25519), RFC 7748 (X25519).
"""

from __future__ import annotations

import os
import stat
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256, Hash
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from meshrelay.errors import ConfigError, ConfigProblem

__all__ = ["PUBLIC_BYTES", "SEED_BYTES", "Identity", "peer_id_of", "unpadded", "unpadded_bytes"]

SEED_BYTES = 32
PUBLIC_BYTES = 64
_KEY_BYTES = 32
_ID_BYTES = 20

_ID_DOMAIN = b"meshrelay overlay\0"
_SIGNING_DOMAIN = b"meshrelay overlay signing key"
_SEALING_DOMAIN = b"meshrelay overlay sealing key"

_FILE_MARK = "meshrelay-overlay-key-1"
#: A line of the file is shorter than this.
_MAX_FILE_BYTES = 256


def unpadded(content: bytes) -> str:
    """Encode bytes in base64url without padding, as JSON web keys do."""
    return urlsafe_b64encode(content).rstrip(b"=").decode("ascii")


def unpadded_bytes(text: str) -> bytes:
    """Decode what `unpadded` made, and nothing else: each value has one spelling.

    :raises ValueError: any other text.
    """
    content = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    if unpadded(content) != text:
        raise ValueError("not in base64url without padding")
    return content


def peer_id_of(public: bytes) -> bytes:
    """Return the peer ID that a public key of `PUBLIC_BYTES` has."""
    digest = Hash(SHA256())
    digest.update(_ID_DOMAIN + public)
    return digest.finalize()[:_ID_BYTES]


def _derived(seed: bytes, domain: bytes) -> bytes:
    return HKDF(SHA256(), _KEY_BYTES, None, domain).derive(seed)


class Identity:
    """The secret key of one peer. Its ID and public key never change.

    :param seed: `SEED_BYTES` that nobody else knows.
    """

    __slots__ = ("_sealing", "_seed", "_signing", "peer_id", "public")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a seed has {SEED_BYTES} bytes, not {len(seed)}")
        self._seed = seed
        self._signing = Ed25519PrivateKey.from_private_bytes(_derived(seed, _SIGNING_DOMAIN))
        self._sealing = X25519PrivateKey.from_private_bytes(_derived(seed, _SEALING_DOMAIN))
        self.public = self._signing.public_key().public_bytes_raw() + self._sealing.public_key().public_bytes_raw()
        self.peer_id = peer_id_of(self.public)

    def __repr__(self) -> str:
        # Never the seed: this is what logs show.
        return f"<Identity {self.peer_id.hex()}>"

    @classmethod
    def new(cls, random_bytes: Callable[[int], bytes]) -> Identity:
        """Make a new one.

        :param random_bytes: that many bytes nobody can guess (`os.urandom`).
        """
        return cls(random_bytes(SEED_BYTES))

    @classmethod
    def load_or_create(
        cls, path: str | Path, random_bytes: Callable[[int], bytes], key: str = "overlay.key_file"
    ) -> Identity:
        """Read the identity in a file, which is made if there is none.

        Of several processes that make the same file at the same time one wins, and all have its identity.

        :param key: name of the configuration key, for errors.
        :raises ConfigError: the file cannot be read or made, holds something else, or others may read it.
        """
        path = Path(path)
        try:
            with suppress(FileNotFoundError):
                return cls(_read_seed(path))
            with suppress(FileExistsError):
                _write_seed(path, random_bytes(SEED_BYTES))
            return cls(_read_seed(path))
        except OSError as error:
            problem = f"{path}: {error.strerror or error}"
        except ValueError as error:
            problem = f"{path} {error}"
        raise ConfigError([ConfigProblem(key, problem)])

    def sign(self, text: bytes) -> bytes:
        """Return the Ed25519 signature, 64 bytes. The text says in its first bytes what it is for."""
        return self._signing.sign(text)

    def shared_secret(self, public: bytes) -> bytes:
        """Return the 32 bytes that this peer and the owner of a public key alone can know.

        :raises ValueError: no honest peer has such a key.
        """
        return self._sealing.exchange(X25519PublicKey.from_public_bytes(public[_KEY_BYTES:]))


def _read_seed(path: Path) -> bytes:
    with open(path, "rb") as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is not a file")
        if status.st_mode & 0o077:
            raise ValueError("can be read or changed by others than its owner: chmod 600 it")
        content = stream.read(_MAX_FILE_BYTES)
    try:
        mark, text = content.decode("ascii").split()
        seed = unpadded_bytes(text)
    except ValueError:
        mark, seed = "", b""
    if mark != _FILE_MARK or len(seed) != SEED_BYTES:
        raise ValueError(f"does not hold a key: one line, {_FILE_MARK} and {SEED_BYTES} bytes in base64url")
    return seed


def _write_seed(path: Path, seed: bytes) -> None:
    # Written beside it and linked: nobody ever sees half a file, and nobody's file is written over.
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), 0o600)
            stream.write(f"{_FILE_MARK} {unpadded(seed)}\n".encode("ascii"))
            stream.flush()
            os.fsync(stream.fileno())
        os.link(unfinished, path)
    finally:
        os.unlink(unfinished)
