"""Who talks to whom, and where the peer is: the cache of direct messages. Bounded; the longest unused go first.

A channel belongs to a user of this node. It is made when the user sends a message, and when one comes; so an answer
needs no look-up, and each end knows whom to tell when its user is gone.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import NamedTuple

from meshrelay.errors import CommandError
from meshrelay.wire.direct_node import Direct

__all__ = ["MAX_EVICTIONS", "TOUCH_SECONDS", "Channel", "ChannelTable", "Item", "Place"]

#: A channel that was used is put behind the others at most this often: moving it at each message costs too much.
TOUCH_SECONDS = 1.0

#: So many are looked at when there is one too many: busy ones must not make each new channel cost more.
MAX_EVICTIONS = 8


class Place(NamedTuple):
    """Where a peer is."""

    node_id: str
    sid: str


class Item:
    """One message that is to be delivered.

    :ivar direct: None = none: only what is to be done behind those before it.
    :ivar done: called once: with None when the peer's node has taken it.
    :ivar gives_up_at: until then it must be done.
    """

    __slots__ = ("direct", "done", "gives_up_at", "is_done")

    def __init__(
        self, direct: Direct | None, done: Callable[[CommandError | None], object], gives_up_at: float
    ) -> None:
        self.direct = direct
        self.done = done
        self.gives_up_at = gives_up_at
        self.is_done = False

    def finish(self, error: CommandError | None) -> None:
        """Tell what became of it; only the first time counts."""
        if not self.is_done:
            self.is_done = True
            self.done(error)


class Channel:
    """From one user of this node to one peer."""

    __slots__ = (
        "backed_at",
        "flight",
        "flight_node",
        "generation",
        "is_resolving",
        "peer_id",
        "place",
        "refused",
        "touched_at",
        "tries",
        "user_id",
        "waiting",
    )

    def __init__(self, user_id: str, peer_id: str, now: float) -> None:
        self.user_id = user_id
        self.peer_id = peer_id
        #: None: to be looked up.
        self.place: Place | None = None
        self.touched_at = now
        #: When the channel of the other direction was last seen to be there, of a peer on this node.
        self.backed_at = float("-inf")
        #: Of the last look-up; 0 = nothing was sent yet. See `meshrelay.wire.direct_node.Parcel`.
        self.generation = 0
        #: On their way to the peer's node, by number; in order.
        self.flight: dict[int, Item] = {}
        #: The node that they are on their way to: all to the same one.
        self.flight_node = ""
        #: Came back because the peer was not there; in order.
        self.refused: list[Item] = []
        #: Wait until it is known where the peer is.
        self.waiting: deque[Item] = deque()
        self.is_resolving = False
        #: Look-ups since a message was last taken.
        self.tries = 0

    @property
    def is_idle(self) -> bool:
        """Nothing is on its way or waits."""
        return not (self.flight or self.waiting or self.refused or self.is_resolving)


class ChannelTable:
    """All channels of the users of this node.

    :param limit: channels; an idle one goes when there is one more.
    :param keep_seconds: an idle one that was not used for so long goes. 0 = at once.
    :param opened: called when there is one more.
    :ivar evicted: how many went because there were too many.
    """

    def __init__(self, limit: int, keep_seconds: float, opened: Callable[[], object] | None = None) -> None:
        self._limit = limit
        self._keep_seconds = keep_seconds
        self._opened = opened
        #: Longest unused first, about.
        self._channels: OrderedDict[tuple[str, str], Channel] = OrderedDict()
        self._peers_of: dict[str, dict[str, Channel]] = {}
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._channels)

    def find(self, user_id: str, peer_id: str) -> Channel | None:
        """The channel of this pair."""
        peers = self._peers_of.get(user_id)
        return peers.get(peer_id) if peers is not None else None

    def open(self, user_id: str, peer_id: str, now: float) -> Channel:
        """Return the channel of this pair, which is used now."""
        channel = self._channels.get((user_id, peer_id))
        if channel is None:
            channel = Channel(user_id, peer_id, now)
            self._channels[user_id, peer_id] = channel
            self._peers_of.setdefault(user_id, {})[peer_id] = channel
            if len(self._channels) > self._limit:
                self._evict(channel)
            if self._opened is not None:
                self._opened()
        elif now - channel.touched_at > TOUCH_SECONDS:
            channel.touched_at = now
            self._channels.move_to_end((user_id, peer_id))
        return channel

    def _evict(self, newest: Channel) -> None:
        for _ in range(MAX_EVICTIONS):
            if len(self._channels) <= self._limit:
                return
            key, oldest = next(iter(self._channels.items()))
            if oldest.is_idle and oldest is not newest:
                self.evicted += 1
                self.close(oldest)
            else:
                # It carries messages, of which there are only so many.
                self._channels.move_to_end(key)

    def close(self, channel: Channel) -> None:
        """Forget a channel, unless messages are on their way: those behind them must find it, to stay in order."""
        key = (channel.user_id, channel.peer_id)
        if not channel.is_idle or self._channels.get(key) is not channel:
            return
        del self._channels[key]
        peers = self._peers_of[channel.user_id]
        del peers[channel.peer_id]
        if not peers:
            del self._peers_of[channel.user_id]

    def peers_of(self, user_id: str) -> list[Channel]:
        """All channels of a user."""
        return list(self._peers_of.get(user_id, {}).values())

    def through(self, node_id: str) -> list[Channel]:
        """All channels to peers of a node. It looks at all there are: for the death of a node."""
        return [each for each in self._channels.values() if each.place is not None and each.place.node_id == node_id]

    def expire(self, now: float) -> None:
        """Forget the idle ones that were not used for too long."""
        old = []
        for channel in self._channels.values():
            if now - channel.touched_at < self._keep_seconds:
                break
            if channel.is_idle:
                old.append(channel)
        for channel in old:
            self.close(channel)
