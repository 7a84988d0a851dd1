"""What a peer says to others beside the messages of its user: made, signed where a lie would cost something. Pure.

Source: npm peer-relay 0.0.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

from meshrelay.overlay.identity import Identity
from meshrelay.overlay.signing import Verified, sign, verify, verify_seconds
from meshrelay.wire.overlay import (
    EXTRA_KEY,
    Answer,
    DataType,
    Envelope,
    encode_answer,
    encode_id,
    encode_ids,
    new_envelope,
)

__all__ = ["MAX_VERIFY_SECONDS", "ControlMessages", "new_nonce"]

#: What is signed here is short; what costs more to verify is not believed, whoever signed it.
MAX_VERIFY_SECONDS = 0.001

#: As npm's package: a string of a whole number below 10 ** 15.
_NONCES = 10**15


def new_nonce(rng: Random) -> str:
    """Return the nonce of a new envelope."""
    return str(rng.randrange(_NONCES))


class ControlMessages:
    """Makes envelopes of one peer, and tells whose those of others are.

    :param is_own: whether a peer is known to be of our kind, which signs its offers and answers.
    :param key_learned: called with a peer and its public key when it has signed something.
    """

    def __init__(
        self,
        identity: Identity,
        rng: Random,
        is_own: Callable[[bytes], bool],
        key_learned: Callable[[bytes, bytes], object],
    ) -> None:
        self._identity = identity
        self._rng = rng
        self.is_own = is_own
        self._key_learned = key_learned

    def _new(self, to: bytes, kind: DataType, data: bytes | None = None) -> Envelope:
        return new_envelope(to, self._identity.peer_id, new_nonce(self._rng), kind, data)

    def find_peers(self, to: bytes, near: bytes) -> Envelope:
        """Ask for peers near an ID."""
        return self._new(to, DataType.FIND_PEERS, encode_id(near))

    def found_peers(self, to: bytes, peer_ids: Iterable[bytes]) -> Envelope:
        """The answer."""
        return self._new(to, DataType.FOUND_PEERS, encode_ids(peer_ids))

    def offer(self, to: bytes) -> Envelope:
        """Offer a link."""
        return sign(self._new(to, DataType.OFFER), self._identity)

    def answer(self, to: bytes, answer: Answer) -> Envelope:
        """The answer to an offer: how this peer can be reached."""
        return sign(self._new(to, DataType.ANSWER, encode_answer(answer)), self._identity)

    def signal(self, to: bytes, data: bytes) -> Envelope:
        """A signal of a WebRTC connection that is being made."""
        return self._new(to, DataType.SIGNAL, data)

    def own_link(self, to: bytes, data: bytes, *, is_signed: bool = False) -> Envelope:
        """What linked meshrelay peers say to each other."""
        envelope = self._new(to, DataType.HOLDINGS, data)
        return sign(envelope, self._identity) if is_signed else envelope

    def is_proved(self, envelope: Envelope) -> bool:
        """Whether the sender of an envelope, and nobody else, has made it."""
        if verify_seconds(envelope) > MAX_VERIFY_SECONDS:
            return False
        found = verify(envelope)
        if isinstance(found, Verified):
            self._key_learned(envelope.sender, found.public)
        return isinstance(found, Verified)

    def is_believable(self, envelope: Envelope) -> bool:
        """Whether an envelope may be from its sender: JavaScript peers sign nothing, and what is signed must hold."""
        if EXTRA_KEY in envelope.extras:
            return self.is_proved(envelope)
        return not self.is_own(envelope.sender)
