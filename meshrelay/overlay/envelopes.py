"""The envelopes that messages go out in, and how they go out.

A message in the clear is signed and numbered; a sealed one carries the acknowledgements that its receiver is owed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from meshrelay.overlay.boxes import Numbered, encode_ack, encode_message
from meshrelay.overlay.conversations import Conversation, Outgoing
from meshrelay.overlay.errors import UnusableData
from meshrelay.overlay.identity import Identity
from meshrelay.overlay.sealing import Sealer
from meshrelay.overlay.signing import Unsignable, shown_key, sign
from meshrelay.wire.overlay import DataType, Envelope, new_envelope

__all__ = ["Envelopes", "Post"]

#: Sends an envelope on, over no link to one in the set, and returns the peers it went to; none: there is nobody to send
#: it to.
Post = Callable[[Envelope, frozenset[bytes]], tuple[bytes, ...]]


class Envelopes:
    """Makes envelopes and posts them.

    :param random_bytes: that many bytes nobody can guess.
    :param counters: what happened -> how often.
    """

    def __init__(
        self,
        identity: Identity,
        sealer: Sealer,
        post: Post,
        random_bytes: Callable[[int], bytes],
        counters: Counter[str],
    ) -> None:
        self._identity = identity
        self._sealer = sealer
        self._post = post
        self._random_bytes = random_bytes
        self._counters = counters

    def sign_plain(self, outgoing: Outgoing) -> Envelope:
        """Return a message in the clear.

        :raises UnusableData: the value would not survive a JavaScript relay.
        """
        envelope = new_envelope(outgoing.to, self._identity.peer_id, self._nonce(), DataType.USER, outgoing.raw)
        try:
            return sign(envelope, self._identity, outgoing.number, self._sealer.run)
        except Unsignable as error:
            raise UnusableData(f"no message for JavaScript peers: {error}") from None

    def post_message(self, conversation: Conversation, outgoing: Outgoing) -> tuple[bytes, ...]:
        """Send a message: sealed once the other's key is known, by other first hops than before if there are any.

        :returns: the first hops.
        """
        envelope = self._envelope_of(conversation, outgoing)
        if not outgoing.hops:
            return self._post(envelope, outgoing.hops)
        self._counters["resent"] += 1
        return self._post(envelope, outgoing.hops) or self._post(envelope, frozenset())

    def post_ack(self, conversation: Conversation) -> None:
        """Send what a peer is owed. Lost, or nobody there to send it to: the peer sends again, and gets another."""
        if conversation.owed:
            self._counters["acknowledgements"] += 1
            content = encode_ack(conversation.run, conversation.take_owed())
            self._post(self._seal(conversation, content, shows_key=not conversation.knows_us), frozenset())

    def _envelope_of(self, conversation: Conversation, outgoing: Outgoing) -> Envelope:
        if not conversation.public:
            # Made once: JavaScript peers know a resend by its nonce.
            outgoing.plain = outgoing.plain or self.sign_plain(outgoing)
            return outgoing.plain
        content = encode_message(Numbered(outgoing.number, outgoing.raw))
        if conversation.owed:
            content += encode_ack(conversation.run, conversation.take_owed())
        # A resend shows the key: the other may have restarted, and forgotten it.
        return self._seal(conversation, content, shows_key=outgoing.tries > 1 or not conversation.knows_us)

    def _seal(self, conversation: Conversation, content: bytes, *, shows_key: bool) -> Envelope:
        data = self._sealer.seal(conversation.peer_id, conversation.public, content)
        envelope = new_envelope(conversation.peer_id, self._identity.peer_id, self._nonce(), DataType.SEALED, data)
        return shown_key(envelope, self._identity) if shows_key else envelope

    def _nonce(self) -> str:
        # As JavaScript peers make them: below 10^15, in digits.
        return str(int.from_bytes(self._random_bytes(8), "big") % 10**15)
