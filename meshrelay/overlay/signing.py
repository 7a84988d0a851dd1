"""Envelopes signed by whoever sent them, so that a relay can neither forge nor change one.

A signed envelope carries one key more than npm's package knows; JavaScript peers relay it and ignore it::

    "meshrelay": {"v": 1, "key": public key, "sig": signature, "id": 7, "run": "..."}

``key`` and ``sig`` are base64url without padding. ``id`` and ``run`` number the messages of users (see
`meshrelay.overlay.deliveries`) and are absent elsewhere; ``sig`` is absent where a seal proves the sender. What is
signed is ``meshrelay overlay envelope 1``, a zero byte, and the canonical JSON (RFC 8785) of::

    {"data", "from", "id", "nonce", "run", "to", "type"}       absent ones left out, IDs in hex

It must be canonical because a JavaScript relay parses each envelope and writes it anew: 1.0 becomes 1, escapes are
spelled otherwise, keys that look like numbers change places. For the same reason numbers count as what JavaScript makes
of them, the nearest double: a whole number beyond 2^53 may come out rounded, whether it was signed or not, and both
spellings are signed alike. What JavaScript cannot hold at all, a number like 1e400 or half a surrogate pair, cannot be
signed. Neither path nor keys of the envelope that nobody knows are covered.

Cost of `verify` on one core: about 130 us for a small message, good or bad, and 0.5 us for each value in it, so that a
frame full of numbers can cost 60 ms; what is refused for its form or its key costs 5 us. Whoever lets strangers cause
it bounds it: `verify_seconds` says beforehand what one will cost.
"""

from __future__ import annotations

import json
from enum import Enum, unique
from typing import Any, NamedTuple, NoReturn

import msgspec
import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from meshrelay.overlay.identity import PUBLIC_BYTES, Identity, peer_id_of, unpadded, unpadded_bytes
from meshrelay.wire.overlay import EXTRA_KEY, Envelope

__all__ = [
    "BAD",
    "MAX_NUMBER",
    "NOT_SIGNED",
    "RUN_BYTES",
    "NotVerified",
    "Unsignable",
    "Verified",
    "public_key_of",
    "shown_key",
    "sign",
    "verify",
    "verify_seconds",
]

#: What names one process of a sender.
RUN_BYTES = 16

#: JavaScript counts no further.
MAX_NUMBER = (1 << 53) - 1

_VERSION = 1
_DOMAIN = b"meshrelay overlay envelope 1\0"
_KEY_BYTES = 32

#: Whole numbers of that many characters are the same in JavaScript; longer ones may be rounded.
_EXACT_CHARACTERS = 15


class Unsignable(ValueError):
    """A value that does not survive a JavaScript relay; the text says what."""


@unique
class NotVerified(Enum):
    """Why an envelope proves nothing."""

    #: It carries no signature, as those of JavaScript peers.
    NOT_SIGNED = "not_signed"
    #: It carries one that is malformed or wrong, or a key that is not the sender's: forged or damaged.
    BAD = "bad"


NOT_SIGNED = NotVerified.NOT_SIGNED
BAD = NotVerified.BAD


class Verified(NamedTuple):
    """The owner of the sender's ID made this envelope."""

    #: The sender's public key.
    public: bytes
    #: Number of a user message, from 1; 0: not numbered.
    number: int
    #: The sender's process that numbered it; b"": not numbered.
    run: bytes


class _Proof(msgspec.Struct, omit_defaults=True):
    v: int
    key: str
    sig: str = ""
    id: int = 0
    run: str = ""


def sign(envelope: Envelope, identity: Identity, number: int = 0, run: bytes = b"") -> Envelope:
    """Return the envelope with a signature.

    :param number: of a user message, up to `MAX_NUMBER`; 0: none.
    :param run: the `RUN_BYTES` that go with the number.
    :raises Unsignable: the data would not survive.
    """
    proof = _Proof(_VERSION, unpadded(identity.public), id=number, run=unpadded(run))
    proof.sig = unpadded(identity.sign(_signed_text(envelope, proof)))
    return _with_proof(envelope, proof)


def shown_key(envelope: Envelope, identity: Identity) -> Envelope:
    """Return the envelope with the public key and no signature."""
    return _with_proof(envelope, _Proof(_VERSION, unpadded(identity.public)))


def verify(envelope: Envelope) -> Verified | NotVerified:
    """Tell who made an envelope. Never raises."""
    proof = _proof_of(envelope)
    if not isinstance(proof, _Proof):
        return proof
    if not proof.sig:
        return NOT_SIGNED
    try:
        public = _public(proof, envelope.sender)
        run = unpadded_bytes(proof.run)
        if bool(proof.id) != bool(run) or not 0 <= proof.id <= MAX_NUMBER or len(run) not in (0, RUN_BYTES):
            return BAD
        key = Ed25519PublicKey.from_public_bytes(public[:_KEY_BYTES])
        key.verify(unpadded_bytes(proof.sig), _signed_text(envelope, proof))
    except (ValueError, InvalidSignature):
        return BAD
    return Verified(public, proof.id, run)


def public_key_of(envelope: Envelope) -> bytes | None:
    """Return the public key that an envelope shows, if it is the sender's. Says nothing of who made the envelope."""
    proof = _proof_of(envelope)
    if not isinstance(proof, _Proof):
        return None
    try:
        return _public(proof, envelope.sender)
    except ValueError:
        return None


def verify_seconds(envelope: Envelope) -> float:
    """Estimate what `verify` will cost at most, on one core of today."""
    if EXTRA_KEY not in envelope.extras:
        return 0.0
    data = envelope.data or b""
    return 130e-6 + 5e-9 * len(data) + 0.5e-6 * (data.count(b",") + data.count(b"[") + data.count(b"{"))


def _proof_of(envelope: Envelope) -> _Proof | NotVerified:
    raw = envelope.extras.get(EXTRA_KEY)
    if raw is None:
        return NOT_SIGNED
    try:
        proof = msgspec.json.decode(raw, type=_Proof)
    except (msgspec.DecodeError, RecursionError):
        return BAD
    return proof if proof.v == _VERSION else BAD


def _public(proof: _Proof, sender: bytes) -> bytes:
    public = unpadded_bytes(proof.key)
    if len(public) != PUBLIC_BYTES or peer_id_of(public) != sender:
        raise ValueError("not the key of the sender")
    return public


def _with_proof(envelope: Envelope, proof: _Proof) -> Envelope:
    return envelope._replace(extras={**envelope.extras, EXTRA_KEY: msgspec.json.encode(proof)})


def _signed_text(envelope: Envelope, proof: _Proof) -> bytes:
    signed: dict[str, Any] = {
        "from": envelope.sender.hex(),
        "nonce": envelope.nonce,
        "to": envelope.to.hex(),
        "type": str(envelope.type),
    }
    try:
        if envelope.data is not None:
            signed["data"] = json.loads(envelope.data, parse_int=_whole_number, parse_constant=_refuse)
        if proof.id:
            signed["id"] = proof.id
            signed["run"] = proof.run
        return _DOMAIN + rfc8785.dumps(signed)
    except RecursionError:
        raise Unsignable("nested too deeply") from None
    except ValueError as error:
        raise Unsignable(str(error)) from None


def _whole_number(text: str) -> int | float:
    return int(text) if len(text) <= _EXACT_CHARACTERS else float(text)


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")
