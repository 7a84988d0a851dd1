"""Contents sealed for one peer: relays see who writes to whom, and how much; they cannot read, change or forge it.

The data of an envelope of type SEALED is a JSON string, base64 of:

======  =====  =======  ==============================================================
offset  bytes  field    meaning
======  =====  =======  ==============================================================
0       1      version  1
1       16     run      random, one for each process of the sender
17      8      counter  from 1, +1 for each box of this run, never reused
25      ...    box      ChaCha20-Poly1305; nonce = u32 0 + counter
======  =====  =======  ==============================================================

key = HKDF-SHA256(X25519 of both static keys, salt = run, info = ``meshrelay overlay box``, a zero byte, sender,
receiver): each direction and each run has its own key. Associated data: sender, receiver and bytes 0 to 24. A string is
what JavaScript relays never change, so nothing here needs a canonical form.

Neither end proves more than its static key: who steals the key file of either end reads what was recorded before. And
a box can be opened as often as it comes; `meshrelay.overlay.replay` tells what came before.
"""

from __future__ import annotations

from base64 import b64encode
from binascii import a2b_base64
from collections import OrderedDict
from enum import Enum, unique
from struct import Struct
from typing import NamedTuple, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from meshrelay.overlay.identity import Identity
from meshrelay.overlay.signing import RUN_BYTES

__all__ = ["MAX_KEYS", "SEAL_BYTES", "BadSeal", "Opened", "SealFault", "Sealer"]

#: Derived keys remembered for each direction; another peer costs another derivation of 40 us.
MAX_KEYS = 10_000

_Name = TypeVar("_Name")

_VERSION = 1
_HEADER = Struct(f"!B{RUN_BYTES}sQ")
_NONCE = Struct("!IQ")
_TAG_BYTES = 16
_KEY_BYTES = 32
_DOMAIN = b"meshrelay overlay box\0"

#: What sealing adds, before base64.
SEAL_BYTES = _HEADER.size + _TAG_BYTES


@unique
class SealFault(Enum):
    """Why a box was refused; the value is a metric label."""

    #: No JSON string of base64, or too short.
    MALFORMED = "malformed"
    VERSION = "version"
    #: Changed on the way, made for somebody else, or by somebody else.
    SEAL = "seal"
    #: The sender's public key cannot be used.
    KEY = "key"


class BadSeal(ValueError):
    """A box that does not open."""

    def __init__(self, fault: SealFault) -> None:
        self.fault = fault
        super().__init__(fault.value)


class Opened(NamedTuple):
    """What was in a box."""

    #: The sender's process.
    run: bytes
    content: bytes


class Sealer:
    """Seals for others and opens what others sealed.

    :param run: `RUN_BYTES` at random; with the same identity never used twice.
    :param max_keys: see `MAX_KEYS`.
    """

    def __init__(self, identity: Identity, run: bytes, max_keys: int = MAX_KEYS) -> None:
        self.run = run
        self._identity = identity
        self._max_keys = max_keys
        self._counter = 0
        self._sending: OrderedDict[bytes, ChaCha20Poly1305] = OrderedDict()
        self._opening: OrderedDict[tuple[bytes, bytes], ChaCha20Poly1305] = OrderedDict()

    @property
    def key_count(self) -> int:
        """Derived keys in memory."""
        return len(self._sending) + len(self._opening)

    def seal(self, receiver: bytes, public: bytes, content: bytes) -> bytes:
        """Seal for one peer.

        :param receiver: its ID.
        :param public: its public key.
        :returns: raw JSON for the data of an envelope.
        :raises BadSeal: the key cannot be used.
        """
        key = self._sending_key(receiver, public)
        self._counter += 1
        header = _HEADER.pack(_VERSION, self.run, self._counter)
        box = key.encrypt(_NONCE.pack(0, self._counter), content, self._identity.peer_id + receiver + header)
        return b'"' + b64encode(header + box) + b'"'

    def prepare(self, receiver: bytes, public: bytes) -> bool:
        """Derive the key for a peer beforehand. False: its public key cannot be used, and no honest peer has it."""
        try:
            self._sending_key(receiver, public)
        except BadSeal:
            return False
        return True

    def open(self, sender: bytes, public: bytes, data: bytes | None) -> Opened:
        """Open what a peer sealed for this one.

        :param public: the sender's public key, which hashes to its ID.
        :param data: raw JSON of the data of its envelope.
        :raises BadSeal: what came is not that.
        """
        sealed = _unquoted(data)
        version, run, counter = _HEADER.unpack_from(sealed)
        if version != _VERSION:
            raise BadSeal(SealFault.VERSION)
        key = self._opening.get((sender, run))
        is_new = key is None
        if key is None:
            key = self._derive(public, run, sender, self._identity.peer_id)
        header = sealed[: _HEADER.size]
        try:
            content = key.decrypt(
                _NONCE.pack(0, counter), sealed[_HEADER.size :], sender + self._identity.peer_id + header
            )
        except InvalidTag:
            raise BadSeal(SealFault.SEAL) from None
        # Not before it has opened: a stranger's invented runs push no key out.
        if is_new:
            self._remember(self._opening, (sender, run), key)
        else:
            self._opening.move_to_end((sender, run))
        return Opened(run, content)

    def _sending_key(self, receiver: bytes, public: bytes) -> ChaCha20Poly1305:
        key = self._sending.get(receiver)
        if key is None:
            key = self._derive(public, self.run, self._identity.peer_id, receiver)
            self._remember(self._sending, receiver, key)
        else:
            self._sending.move_to_end(receiver)
        return key

    def _derive(self, public: bytes, run: bytes, sender: bytes, receiver: bytes) -> ChaCha20Poly1305:
        try:
            secret = self._identity.shared_secret(public)
        except ValueError:
            raise BadSeal(SealFault.KEY) from None
        return ChaCha20Poly1305(HKDF(SHA256(), _KEY_BYTES, run, _DOMAIN + sender + receiver).derive(secret))

    def _remember(self, keys: OrderedDict[_Name, ChaCha20Poly1305], name: _Name, key: ChaCha20Poly1305) -> None:
        if len(keys) >= self._max_keys:
            keys.popitem(last=False)
        keys[name] = key


def _unquoted(data: bytes | None) -> bytes:
    # Base64 needs no escapes: a string with any is not one of ours.
    if data is None or len(data) < 2 or data[:1] != b'"' or data[-1:] != b'"':
        raise BadSeal(SealFault.MALFORMED)
    try:
        sealed = a2b_base64(data[1:-1], strict_mode=True)
    except ValueError:
        raise BadSeal(SealFault.MALFORMED) from None
    if len(sealed) < SEAL_BYTES:
        raise BadSeal(SealFault.MALFORMED)
    return sealed
