"""Messages of users, end to end: each arrives once at a peer of ours, or its sender is told that it did not.

::

    send --> number --> key of the other known?  yes: sealed;  no: in the clear, signed --> post --> links
                            ^                                                                 |
                            |   no acknowledgement in time: again, over other links           v
    done <-- acknowledged <-'------------------------------------------- received <-- router <-- links
                                                                            |
                                            came before? drop, acknowledge  `--> deliver

Who the other peer is shows in what it sends. Until its key is known a message goes out in the clear, signed, as
JavaScript peers can read it, up to three times with the same nonce. A peer of ours answers with a sealed
acknowledgement, which shows its key: from then on messages are sealed, and resent with a new nonce until they are
acknowledged. A peer that acknowledges nothing is taken for one of npm's package for ten minutes; it gets one copy of
each message.

Acknowledgements ride on messages, or alone after 50 ms. Order is not promised. A message may come twice after a restart
of the receiver in between, for what was seen is in memory.

What is sent before the other's key is known, anybody on the way can read.

No clock and no socket in here: the caller says what time it is, and looks at `Deliveries.next_at`. What goes out is the
part of `meshrelay.overlay.outbox`; what comes in is told apart here. `post`, `deliver` and `done` may call
`Deliveries.send` and `Deliveries.received` again at once.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from enum import Enum, unique
from typing import NamedTuple

from meshrelay.errors import LocalProtocolError
from meshrelay.overlay.boxes import BadBox, Numbered, decode_box
from meshrelay.overlay.conversations import MAX_PEERS, Conversation, Conversations, Outcome
from meshrelay.overlay.envelopes import Envelopes, Post
from meshrelay.overlay.identity import Identity
from meshrelay.overlay.outbox import (
    MAX_MESSAGE_BYTES,
    MAX_WAITING,
    MAX_WAITING_BYTES,
    MAX_WAITING_BYTES_IN_ALL,
    HopReport,
    Outbox,
)
from meshrelay.overlay.replay import Arrival, ReplayWindows
from meshrelay.overlay.sealing import BadSeal, Sealer
from meshrelay.overlay.signing import RUN_BYTES, NotVerified, public_key_of, verify
from meshrelay.wire.overlay import BadFrame, DataType, Envelope, decode_value

__all__ = [
    "ACK_SECONDS",
    "MAX_MESSAGE_BYTES",
    "MAX_OWED",
    "MAX_WAITING",
    "MAX_WAITING_BYTES",
    "MAX_WAITING_BYTES_IN_ALL",
    "Deliveries",
    "Message",
    "Outcome",
    "Received",
]

#: An acknowledgement waits so long for company, and no longer than for so many.
ACK_SECONDS = 0.05
MAX_OWED = 128


class Message(NamedTuple):
    """A message for this peer."""

    sender: bytes
    #: Raw JSON; None: no value.
    raw: bytes | None
    #: The owner of the sender's ID made it. False: anybody may have.
    is_verified: bool


@unique
class Received(Enum):
    """What an envelope was."""

    #: From the owner of the sender's ID, and something new: who sent it is where it came from.
    VERIFIED = "verified"
    #: Also from the owner, but nothing new: a resend, or somebody else has kept it and sends it again.
    REPEATED = "repeated"
    #: From anybody; it was delivered.
    UNSIGNED = "unsigned"
    #: Dropped, and counted: forged, damaged, or what the policy does not take.
    REFUSED = "refused"


def _ignore(target: bytes, hop: bytes) -> None:
    """Nobody wants to know."""


class Deliveries:
    """All messages of one peer.

    :param post: sends an envelope on, over no link to one in the set, and returns the peers it went to; none: there is
        nobody to send it to.
    :param deliver: takes what came for this peer.
    :param random_bytes: that many bytes nobody can guess.
    :param accepts_unsigned: False: messages of JavaScript peers are refused.
    :param worked: called with a target and the first hop by which a message has reached it.
    :param failed: the same for a message that was not acknowledged in time.
    :param max_peers: peers that something is known of.
    """

    def __init__(
        self,
        identity: Identity,
        post: Post,
        deliver: Callable[[Message], None],
        random_bytes: Callable[[int], bytes],
        *,
        accepts_unsigned: bool = True,
        worked: HopReport = _ignore,
        failed: HopReport = _ignore,
        max_peers: int = MAX_PEERS,
    ) -> None:
        self.own_id = identity.peer_id
        self._deliver = deliver
        self._accepts_unsigned = accepts_unsigned
        #: What happened -> how often; a fixed set of labels.
        self.counters: Counter[str] = Counter()
        self._sealer = Sealer(identity, random_bytes(RUN_BYTES), max_peers)
        self._conversations = Conversations(max_peers)
        self._replays = ReplayWindows(2 * max_peers)
        self._envelopes = Envelopes(identity, self._sealer, post, random_bytes, self.counters)
        self._outbox = Outbox(self._conversations, self._envelopes, worked, failed, self.counters)
        #: Peers that are owed acknowledgements -> when; the delay is the same for all, so the first is due first.
        self._owing: OrderedDict[bytes, float] = OrderedDict()

    @property
    def waiting_count(self) -> int:
        """Messages that are not over."""
        return self._outbox.waiting_count

    @property
    def waiting_bytes(self) -> int:
        """What they count for, see `MAX_WAITING_BYTES_IN_ALL`."""
        return self._outbox.waiting_bytes

    @property
    def peer_count(self) -> int:
        """Peers that something is known of."""
        return len(self._conversations)

    @property
    def evicted_count(self) -> int:
        """Peers of which everything was forgotten, to make room for others."""
        return self._conversations.forgotten

    @property
    def evicted_window_count(self) -> int:
        """Peers of which it was forgotten what had come, to make room: what they sent may come a second time."""
        return self._replays.forgotten

    def public_key_of(self, peer_id: bytes) -> bytes:
        """Return a peer's public key, or b"" while it is not known."""
        conversation = self._conversations.find(peer_id)
        return conversation.public if conversation is not None else b""

    def learned(self, peer_id: bytes, public: bytes) -> None:
        """Take a key from a verified envelope of another type: from now on messages to its owner are sealed."""
        conversation = self._conversations.open(peer_id)
        if conversation is not None:
            self._learn(conversation, public)

    def seems_plain(self, peer_id: bytes, now: float) -> None:
        """Take a peer whose key is unknown for one of npm's package, as if it had not acknowledged.

        Called when its own link shows that it signs nothing. What it signs later counts more.
        """
        conversation = self._conversations.open(peer_id)
        if conversation is not None and not conversation.public:
            self._outbox.taken_for_plain(conversation, now)

    def send(self, to: bytes, raw: bytes | None, now: float, done: Callable[[Outcome], None] | None = None) -> None:
        """Send a message to another peer.

        :param raw: raw JSON, at most `MAX_MESSAGE_BYTES`; None: no value.
        :param done: called once, when it is known how it ended; perhaps before this returns.
        :raises TooMuchWaiting: too many messages wait for this peer, or for all of them.
        :raises UnusableData: the value is too large, or would not survive a JavaScript relay.
        """
        if to == self.own_id:
            raise LocalProtocolError("a message to this peer itself is no message of the overlay")
        self._outbox.send(to, raw, now, done)

    def links_changed(self, now: float) -> None:
        """Send what waits for a link. Called when one has opened."""
        self._outbox.links_changed(now)

    def received(self, envelope: Envelope, now: float) -> Received:
        """Take an envelope of type USER or SEALED that is for this peer."""
        if envelope.sender == self.own_id:
            return self._refuse("own_id")
        if envelope.type == DataType.SEALED.value:
            return self._received_sealed(envelope, now)
        return self._received_plain(envelope, now)

    def next_at(self) -> float | None:
        """Return when `expire` wants to be called next; None: not before something else is."""
        resend_at = self._outbox.next_at()
        if not self._owing:
            return resend_at
        ack_at = next(iter(self._owing.values()))
        return ack_at if resend_at is None else min(ack_at, resend_at)

    def expire(self, now: float) -> None:
        """Do what is due: acknowledge, resend, give up."""
        while self._owing:
            peer_id, at = next(iter(self._owing.items()))
            if at > now:
                break
            self._acknowledge(peer_id)
        self._outbox.expire(now)

    def settle(self) -> None:
        """Send all acknowledgements that are owed. Called before the links are closed: else they who wait for one go on
        sending to a peer that is no more."""
        for peer_id in tuple(self._owing):
            self._acknowledge(peer_id)

    def close(self) -> None:
        """Give everything up; each message that waits is not delivered."""
        self._owing.clear()
        self._outbox.close()

    def _refuse(self, why: str) -> Received:
        self.counters[f"refused_{why}"] += 1
        return Received.REFUSED

    def _learn(self, conversation: Conversation, public: bytes) -> bool:
        if not conversation.public:
            if not self._sealer.prepare(conversation.peer_id, public):
                return False
            conversation.public = public
        return True

    def _received_plain(self, envelope: Envelope, now: float) -> Received:
        verified = verify(envelope)
        if verified is NotVerified.BAD:
            return self._refuse("signature")
        if isinstance(verified, NotVerified):
            return self._received_unsigned(envelope)
        if not verified.number:
            return self._refuse("number")
        conversation = self._conversations.open(envelope.sender)
        if conversation is None:
            return self._refuse("no_room")
        if not self._learn(conversation, verified.public):
            return self._refuse("key")
        # It would have sealed this if it knew our key.
        conversation.knows_us = False
        is_first = conversation.run != verified.run
        is_new = self._arrived(conversation, verified.run, Numbered(verified.number, envelope.data), now)
        if is_first:
            # The sooner it has our key, the sooner it seals.
            self._acknowledge(envelope.sender)
        return Received.VERIFIED if is_new else Received.REPEATED

    def _received_unsigned(self, envelope: Envelope) -> Received:
        # An ID that is the hash of a key is of a peer that signs: this one is forged, or was stripped on its way.
        if self.public_key_of(envelope.sender):
            return self._refuse("stripped")
        if not self._accepts_unsigned:
            return self._refuse("unsigned")
        try:
            decode_value(b"null" if envelope.data is None else envelope.data)
        except BadFrame:
            # Relays pass on a number that is larger than all floats; nobody can be handed it.
            return self._refuse("value")
        self.counters["delivered_unsigned"] += 1
        self._deliver(Message(envelope.sender, envelope.data, is_verified=False))
        return Received.UNSIGNED

    def _received_sealed(self, envelope: Envelope, now: float) -> Received:
        public = self.public_key_of(envelope.sender) or public_key_of(envelope)
        if not public:
            return self._refuse("unknown_key")
        try:
            run, content = self._sealer.open(envelope.sender, public, envelope.data)
            parts = decode_box(content)
        except BadSeal as error:
            return self._refuse(f"seal_{error.fault.value}")
        except BadBox:
            return self._refuse("box")
        conversation = self._conversations.open(envelope.sender)
        if conversation is None:
            return self._refuse("no_room")
        if not self._learn(conversation, public):
            return self._refuse("key")
        conversation.knows_us = True
        is_new = False
        for part in parts:
            if isinstance(part, Numbered):
                is_new |= self._arrived(conversation, run, part, now)
            elif part.run == self._sealer.run:
                is_new |= self._outbox.acknowledged(conversation, part, now)
            else:
                self.counters["foreign_acknowledgements"] += 1
        return Received.VERIFIED if is_new else Received.REPEATED

    def _arrived(self, conversation: Conversation, run: bytes, message: Numbered, now: float) -> bool:
        arrival = self._replays.arrived(conversation.peer_id, run, message.number)
        if arrival is Arrival.OLD:
            self.counters["too_old"] += 1
            return False
        is_new = arrival is Arrival.NEW
        if conversation.arrived(run, message.number, is_new=is_new):
            # What went along with a message has left an entry here: the new one belongs at the end.
            self._owing.pop(conversation.peer_id, None)
            self._owing[conversation.peer_id] = now + ACK_SECONDS
        if is_new:
            self.counters["delivered_verified"] += 1
            # An answer that is sent now takes the acknowledgement along.
            self._deliver(Message(conversation.peer_id, message.raw, is_verified=True))
        else:
            self.counters["repeated"] += 1
        if len(conversation.owed) >= MAX_OWED:
            self._acknowledge(conversation.peer_id)
        return is_new

    def _acknowledge(self, peer_id: bytes) -> None:
        self._owing.pop(peer_id, None)
        conversation = self._conversations.find(peer_id)
        if conversation is not None:
            self._envelopes.post_ack(conversation)
