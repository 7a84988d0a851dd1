"""Users of meshrelay <-> peers of the overlay, on a node that is one of those peers.

::

    user --DM_SEND--> DirectRoutes --> BridgeNodes --> Bridge --> overlay --> peer
    user <--push-- DirectMessages <------------------- Bridge <-- overlay <-- peer

A peer writes to a user by writing to the node, in the form of `meshrelay.wire.overlay_bridge`. Data of any other form
is counted and never answered: whoever sends it may die of data that it does not know.

What peers send is bounded three times: messages of one peer in a second, messages that are on their way to users, and
the size of each, which is that of any direct message.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any, NamedTuple, Protocol

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from meshrelay.background import start
from meshrelay.errors import CommandError, UserNotFound
from meshrelay.machine.token_bucket import TokenBucket
from meshrelay.overlay.errors import OverlayError, PeerDestroyed, TooMuchWaiting, UnusableData
from meshrelay.wire.direct_node import Direct
from meshrelay.wire.overlay_bridge import (
    MAX_BRIDGED_BYTES,
    BridgeOutcome,
    Incoming,
    bridged_size,
    data_for_peer,
    error_for_peer,
    is_peer_user,
    read_incoming,
    user_of_peer,
)

__all__ = ["MAX_PENDING", "MAX_SENDERS", "Bridge", "BridgeLimits", "BridgedMessage", "BridgedPeer", "BridgedUsers"]

#: Messages to peers that are not handed over yet; as many to users.
MAX_PENDING = 10_000

#: Peers of which it is remembered how much they sent; the longest silent one goes when there is one more.
MAX_SENDERS = 10_000


class BridgedMessage(Protocol):
    """A message for this node."""

    @property
    def sender(self) -> bytes:
        """Its peer ID."""

    @property
    def data(self) -> Any:
        """Decoded JSON."""


class BridgedPeer(Protocol):
    """The node as a peer of the overlay; `meshrelay.overlay.peer.OverlayPeer` is one."""

    @property
    def peer_id(self) -> bytes:
        """Its ID."""

    @property
    def channels(self) -> Collection[bytes]:
        """IDs of the peers that it is linked with."""

    def send(self, to: bytes, data: Any) -> Deferred[None]:
        """Send to another peer.

        :returns: fires when the message was handed over, or fails with an `OverlayError`.
        """

    def on_message(self, callback: Callable[[BridgedMessage], object]) -> object:
        """Call back with each message from now on."""


class BridgedUsers(Protocol):
    """All users of the cluster; `meshrelay.components.direct.DirectMessages` is one."""

    def send_from_outside(self, sender_id: str, peer_id: str, message: bytes) -> Coroutine[Any, Any, None]:
        """Bring a message to a user.

        :raises CommandError: it did not reach the user.
        """


class BridgeLimits(NamedTuple):
    """How much goes through a bridge."""

    #: To users, of one peer; twice as many at once. 0 = no limit.
    messages_per_second: float = 100.0
    max_pending: int = MAX_PENDING
    max_senders: int = MAX_SENDERS


class Bridge:
    """See the module.

    :param seconds: a clock.
    """

    _log = Logger()

    def __init__(
        self, peer: BridgedPeer, users: BridgedUsers, seconds: Callable[[], float], limits: BridgeLimits
    ) -> None:
        self.peer_id = peer.peer_id
        self._peer = peer
        self._users = users
        self._seconds = seconds
        self._limits = limits
        self._to_peers = 0
        self._to_users = 0
        #: Peer ID -> what it may still send, the longest silent first.
        self._buckets: OrderedDict[bytes, TokenBucket] = OrderedDict()
        self.sent = 0
        self.not_sent = 0
        self.delivered = 0
        self.refused = 0
        self.limited = 0
        self.ignored = 0
        peer.on_message(self._message_came)

    def statistics(self) -> Mapping[str, int]:
        """Counts for the metrics page; the same keys at each call."""
        return {
            "to_peers_pending": self._to_peers,
            "to_peers": self.sent,
            "to_peers_failed": self.not_sent,
            "to_users_pending": self._to_users,
            "to_users": self.delivered,
            "to_users_refused": self.refused,
            "to_users_limited": self.limited,
            "ignored": self.ignored,
        }

    def send(self, peer_id: bytes, direct: Direct, done: Callable[[BridgeOutcome], object]) -> None:
        """Bring a message to a peer.

        :param done: called once, perhaps before this returns.
        """
        data = data_for_peer(direct)
        if peer_id == self.peer_id or not self._peer.channels:
            # Nobody reads at this node what users write to it; and without a link there is no way to anybody.
            self._sent(BridgeOutcome.NOT_FOUND, done)
        elif bridged_size(data) > MAX_BRIDGED_BYTES:
            self._sent(BridgeOutcome.TOO_LARGE, done)
        elif self._to_peers >= self._limits.max_pending:
            self._sent(BridgeOutcome.TOO_MANY, done)
        else:
            self._hand_to(peer_id, data).addCallback(self._sent, done)

    def _sent(self, outcome: BridgeOutcome, done: Callable[[BridgeOutcome], object]) -> None:
        if outcome is BridgeOutcome.TAKEN:
            self.sent += 1
        else:
            self.not_sent += 1
        done(outcome)

    def _hand_to(self, peer_id: bytes, data: dict[str, object]) -> Deferred[BridgeOutcome]:
        self._to_peers += 1
        handed: Deferred[None] = maybeDeferred(self._peer.send, peer_id, data)
        return handed.addCallbacks(lambda _: BridgeOutcome.TAKEN, self._outcome_of).addCallback(self._handed)

    def _handed(self, outcome: BridgeOutcome) -> BridgeOutcome:
        self._to_peers -= 1
        return outcome

    def _outcome_of(self, failure: Failure) -> BridgeOutcome:
        if failure.check(UnusableData):
            return BridgeOutcome.TOO_LARGE
        if failure.check(TooMuchWaiting):
            return BridgeOutcome.TOO_MANY
        if failure.check(PeerDestroyed):
            return BridgeOutcome.NO_OVERLAY
        if failure.check(OverlayError):
            return BridgeOutcome.NOT_FOUND
        self._log.failure("a message to a peer of the overlay failed", failure)
        return BridgeOutcome.FAILED

    def _message_came(self, message: BridgedMessage) -> None:
        data = message.data
        try:
            incoming = read_incoming(data)
        except ValueError as error:
            if self._may_send(message.sender):
                self._refuse(message.sender, data["to"], str(error))
            return
        if incoming is None:
            self.ignored += 1
        elif self._may_send(message.sender):
            self._to_user(message.sender, incoming)

    def _may_send(self, sender: bytes) -> bool:
        rate = self._limits.messages_per_second
        if not rate:
            return True
        now = self._seconds()
        bucket = self._buckets.pop(sender, None)
        if bucket is None:
            bucket = TokenBucket(rate, max(1.0, 2 * rate), now)
            if len(self._buckets) >= self._limits.max_senders:
                self._buckets.popitem(last=False)
        self._buckets[sender] = bucket
        if bucket.take(now):
            # An answer to each would double the flood.
            self.limited += 1
            return False
        return True

    def _to_user(self, sender: bytes, incoming: Incoming) -> None:
        if is_peer_user(incoming.user_id):
            # Peers reach each other without us; through us they would hide behind this node.
            self._refuse(sender, incoming.user_id, "user not found")
        elif self._to_users >= self._limits.max_pending:
            self._refuse(sender, incoming.user_id, f"{self._limits.max_pending} messages to users wait")
        else:
            start(self._hand_to_user(sender, incoming), self._log, "a message of a peer of the overlay")

    async def _hand_to_user(self, sender: bytes, incoming: Incoming) -> None:
        self._to_users += 1
        try:
            await self._users.send_from_outside(user_of_peer(sender), *incoming)
        except UserNotFound:
            self._refuse(sender, incoming.user_id, "user not found")
        except CommandError as error:
            self._refuse(sender, incoming.user_id, error.text)
        else:
            self.delivered += 1
        finally:
            self._to_users -= 1

    def _refuse(self, sender: bytes, user_id: str, text: str) -> None:
        self.refused += 1
        if self._to_peers < self._limits.max_pending:
            self._hand_to(sender, error_for_peer(text, user_id))
