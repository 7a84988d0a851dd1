"""What is known of each peer that messages are exchanged with: its key, what it has not acknowledged, what it is owed.

`Conversations` holds one `Conversation` for each peer, at most `MAX_PEERS`; the one used longest ago in which nothing
waits goes first. The numbers of a peer that was forgotten and comes back go on above all that were forgotten: a number
never names two messages of one run.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from enum import Enum, unique

from meshrelay.machine.rtt import RoundTrip
from meshrelay.wire.overlay import Envelope

__all__ = ["FIRST_TIMEOUT_SECONDS", "MAX_PEERS", "Conversation", "Conversations", "Outcome", "Outgoing"]

#: Peers remembered.
MAX_PEERS = 10_000

#: Peers that are asked whether they can go when there are too many.
_TRIES = 16

#: How long an acknowledgement may take.
FIRST_TIMEOUT_SECONDS = 1.0
_SHORTEST_TIMEOUT_SECONDS = 0.25
#: The other end waits 50 ms for more to acknowledge; its timers and ours are late now and then.
_PATIENCE_SECONDS = 0.1

#: Numbers acknowledged before that are acknowledged again: the first time may have been lost.
_REPEATED = 32


@unique
class Outcome(Enum):
    """How it ended for a message."""

    #: The other peer, and nobody else, said that it has it.
    DELIVERED = "delivered"
    #: It was sent, to a peer that acknowledges nothing: one of npm's package.
    UNCONFIRMED = "unconfirmed"
    #: No acknowledgement came in time, or no link was there to send it on. It may have arrived all the same.
    NOT_DELIVERED = "not_delivered"


class Outgoing:
    """One message that is on its way."""

    __slots__ = (
        "done",
        "due",
        "first_at",
        "hops",
        "is_over",
        "last_hops",
        "number",
        "plain",
        "raw",
        "sent_at",
        "to",
        "tries",
    )

    def __init__(
        self, to: bytes, number: int, raw: bytes | None, now: float, done: Callable[[Outcome], None] | None
    ) -> None:
        self.to = to
        self.number = number
        #: Raw JSON; None: no value.
        self.raw = raw
        self.done = done
        self.first_at = self.sent_at = now
        #: When to look at it again.
        self.due = now
        #: How often it really left.
        self.tries = 0
        #: The first hops of all tries, and of the last.
        self.hops: frozenset[bytes] = frozenset()
        self.last_hops: tuple[bytes, ...] = ()
        #: The signed envelope, made once: JavaScript peers know a resend by its nonce.
        self.plain: Envelope | None = None
        self.is_over = False

    @property
    def size(self) -> int:
        """Bytes of the value."""
        return len(self.raw or b"")


class Conversation:
    """One peer. Its key is b"" until it has signed something."""

    __slots__ = (
        "knows_us",
        "next_number",
        "outgoing",
        "owed",
        "peer_id",
        "plain_until",
        "public",
        "repeated",
        "round_trip",
        "run",
        "waiting_bytes",
    )

    def __init__(self, peer_id: bytes, next_number: int) -> None:
        self.peer_id = peer_id
        self.public = b""
        #: It has sealed something for us.
        self.knows_us = False
        #: Until then it is taken for a peer of npm's package; 0: nothing was tried.
        self.plain_until = 0.0
        self.next_number = next_number
        #: Number -> message, oldest first.
        self.outgoing: OrderedDict[int, Outgoing] = OrderedDict()
        self.waiting_bytes = 0
        self.round_trip = RoundTrip(_SHORTEST_TIMEOUT_SECONDS, FIRST_TIMEOUT_SECONDS)
        #: Its process of which a message came last, and the numbers of it that are to be acknowledged.
        self.run = b""
        self.owed: list[int] = []
        self.repeated: deque[int] = deque(maxlen=_REPEATED)

    @property
    def timeout_seconds(self) -> float:
        """How long the acknowledgement of the first try may take."""
        smoothed = self.round_trip.smoothed
        if smoothed is None:
            return FIRST_TIMEOUT_SECONDS
        return max(_SHORTEST_TIMEOUT_SECONDS, 2 * smoothed + _PATIENCE_SECONDS)

    def arrived(self, run: bytes, number: int, *, is_new: bool) -> bool:
        """Note that a message came, which is to be acknowledged.

        :returns: True: nothing was owed before.
        """
        if run != self.run:
            # A replay of an old run must not make us forget what the new one is owed.
            if not is_new:
                return False
            self.run = run
            self.owed.clear()
            self.repeated.clear()
        self.owed.append(number)
        return len(self.owed) == 1

    def take_owed(self) -> list[int]:
        """Return the numbers to acknowledge now, and some that were acknowledged before."""
        owed, self.owed = self.owed, []
        numbers = [*owed, *self.repeated]
        self.repeated.extend(owed)
        return numbers


class Conversations:
    """All of them.

    :param max_peers: how many there are at most.
    """

    def __init__(self, max_peers: int = MAX_PEERS) -> None:
        self._conversations: OrderedDict[bytes, Conversation] = OrderedDict()
        self._max_peers = max_peers
        self._first_number = 1
        #: Peers that were forgotten to make room.
        self.forgotten = 0

    def __len__(self) -> int:
        return len(self._conversations)

    def find(self, peer_id: bytes) -> Conversation | None:
        """Return what is known of a peer, if anything is."""
        conversation = self._conversations.get(peer_id)
        if conversation is not None:
            self._conversations.move_to_end(peer_id)
        return conversation

    def open(self, peer_id: bytes) -> Conversation | None:
        """Return what is known of a peer, from now on.

        :returns: None: there is no room, messages wait for all peers that were looked at.
        """
        conversation = self.find(peer_id)
        if conversation is None and self._has_room():
            conversation = self._conversations[peer_id] = Conversation(peer_id, self._first_number)
        return conversation

    def _has_room(self) -> bool:
        if len(self._conversations) < self._max_peers:
            return True
        for _ in range(_TRIES):
            peer_id, oldest = next(iter(self._conversations.items()))
            if not oldest.outgoing:
                del self._conversations[peer_id]
                self._first_number = max(self._first_number, oldest.next_number)
                self.forgotten += 1
                return True
            self._conversations.move_to_end(peer_id)
        return False
