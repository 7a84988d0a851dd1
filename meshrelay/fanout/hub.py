"""Channels: subscribers, and the frames that wait for them.

A frame waits until the end of the turn, or for the channel's merging interval. Then all that waits is joined once and
each subscriber is handed the same `Batch`. Who published meanwhile is handed a batch without its own frames: k
publishers make k more joins, not one for each member.

Order: a subscriber gets the frames of a channel in the order in which they were published. A channel is flushed before
its subscribers change, so nobody gets what was published before it came, and everybody gets what was published before
it left.
"""

from __future__ import annotations

from collections.abc import Iterator

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from meshrelay.counters import NodeCounters
from meshrelay.fanout.turn import TOGETHER, Turn
from meshrelay.interfaces import IFanout, ISubscriber
from meshrelay.wire.prepared import Batch

__all__ = ["MAX_PENDING_BYTES", "Channel", "Hub"]

#: A channel that has this much waiting is flushed at once.
MAX_PENDING_BYTES = 256 * 1024

#: Senders whose frames are joined together.
MAX_SENDERS = 32


class Channel:
    """One set of subscribers. Made by `Hub.open_channel`."""

    _log = Logger()

    __slots__ = (
        "_clock",
        "_counters",
        "_counts",
        "_frames",
        "_interval_seconds",
        "_is_flushing",
        "_is_scheduled",
        "_pending_bytes",
        "_reliables",
        "_senders",
        "_subscribers",
        "_timer",
        "_turn",
    )

    def __init__(self, turn: Turn, clock: IReactorTime, counters: NodeCounters, interval_seconds: float) -> None:
        self._turn = turn
        self._clock = clock
        self._counters = counters
        self._interval_seconds = interval_seconds
        #: Insertion order is join order.
        self._subscribers: dict[ISubscriber, None] = {}
        self._frames: list[bytes] = []
        self._counts: list[int] = []
        self._senders: list[ISubscriber | None] = []
        self._reliables: list[bool] = []
        self._pending_bytes = 0
        self._is_scheduled = False
        self._is_flushing = False
        self._timer: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._subscribers)

    def __contains__(self, subscriber: ISubscriber) -> bool:
        return subscriber in self._subscribers

    def __iter__(self) -> Iterator[ISubscriber]:
        return iter(self._subscribers)

    @property
    def interval_seconds(self) -> float:
        """The merging interval; 0 = the end of the turn."""
        return self._interval_seconds

    @property
    def pending_bytes(self) -> int:
        """What waits for the end of the turn or of the interval; at most `MAX_PENDING_BYTES` and a frame."""
        return self._pending_bytes

    def subscribe(self, subscriber: ISubscriber) -> None:
        """Add `subscriber`, after everything published so far was delivered to the others."""
        self.flush()
        self._subscribers[subscriber] = None

    def unsubscribe(self, subscriber: ISubscriber) -> None:
        """Remove `subscriber`, after everything published so far was delivered to it as well."""
        self.flush()
        self._subscribers.pop(subscriber, None)

    def publish(self, frame: bytes, sender: ISubscriber | None, reliable: bool, count: int = 1) -> None:
        """Put `frame` in line for all subscribers but `sender`.

        :param frame: one encoded push, see `meshrelay.wire.frame.encode_push`, or `count` of them joined.
        :param reliable: False: it may be lost on the way to a UDP client.
        """
        if not self._subscribers:
            return
        self._frames.append(frame)
        self._counts.append(count)
        self._senders.append(sender)
        self._reliables.append(reliable)
        self._pending_bytes += len(frame)
        if self._pending_bytes >= MAX_PENDING_BYTES:
            self.flush()
        elif not self._is_scheduled:
            self._is_scheduled = True
            if self._interval_seconds:
                self._timer = self._clock.callLater(self._interval_seconds, self._interval_over)
            else:
                self._turn.join(self)

    def _interval_over(self) -> None:
        self._timer = None
        self.flush()

    def flush(self) -> None:
        """Hand everything that waits to the subscribers now."""
        if self._is_flushing:
            # A subscriber that leaves from inside the loop below: the rest must first get what they are being handed.
            self._turn.join(self)
            return
        self._is_scheduled = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._frames:
            self._is_flushing = True
            try:
                self._deliver()
            finally:
                self._is_flushing = False

    def _deliver(self) -> None:
        frames, self._frames = self._frames, []
        counts, self._counts = self._counts, []
        senders, self._senders = self._senders, []
        reliables, self._reliables = self._reliables, []
        self._pending_bytes = 0
        start = 0
        cuts = _cuts(senders)
        # Who gets several batches gets them in one write.
        is_all = len(cuts) == 1
        for end in cuts:
            section = slice(start, end)
            self._deliver_section(frames[section], counts[section], senders[section], reliables[section], is_all)
            start = end
        self._counters.batches += 1

    def _deliver_section(
        self,
        frames: list[bytes],
        counts: list[int],
        senders: list[ISubscriber | None],
        reliables: list[bool],
        is_all: bool,
    ) -> None:
        own_batches = self._batches_of_senders(frames, counts, senders, reliables)
        # A copy: a subscriber that is closed for being slow leaves the channel from inside the loop.
        others = self._subscribers.copy()
        for sender, batch in own_batches.items():
            del others[sender]
            if batch is not None:
                self._hand_out(batch, [sender])
        everything = Batch(frames, reliables, counts)
        receivers = list(others)
        for start in range(0, len(receivers), TOGETHER):
            if is_all:
                self._turn.give_once()
            self._hand_out(everything, receivers[start : start + TOGETHER])
            if is_all:
                self._turn.send_some()

    def _hand_out(self, batch: Batch, receivers: list[ISubscriber]) -> None:
        failures = 0
        for receiver in receivers:
            try:
                receiver.deliver(batch)
            except Exception:  # one receiver's error must never reach another
                self._log.failure("delivery to {subscriber} failed", subscriber=receiver)
                failures += 1
        self._counters.delivery_failures += failures
        self._counters.deliveries += batch.count * (len(receivers) - failures)

    def _batches_of_senders(
        self, frames: list[bytes], counts: list[int], senders: list[ISubscriber | None], reliables: list[bool]
    ) -> dict[ISubscriber, Batch | None]:
        places: dict[ISubscriber, list[int]] = {}
        for place, sender in enumerate(senders):
            if sender is not None and sender in self._subscribers:
                places.setdefault(sender, []).append(place)
        batches: dict[ISubscriber, Batch | None] = {}
        for sender, own in places.items():
            # Backwards, so that the places before stay right; copying a list costs far less than a loop over it.
            other_frames, other_counts, other_reliables = frames[:], counts[:], reliables[:]
            for place in reversed(own):
                del other_frames[place], other_counts[place], other_reliables[place]
            batches[sender] = Batch(other_frames, other_reliables, other_counts) if other_frames else None
        return batches


def _cuts(senders: list[ISubscriber | None]) -> list[int]:
    """Where to cut what waits, so that no section has more than `MAX_SENDERS` senders.

    Each of them needs a join of its own; in one section a thousand senders would make a thousand copies of everything.
    """
    seen: set[ISubscriber | None] = set()
    cuts = []
    for place, sender in enumerate(senders):
        if sender not in seen:
            if len(seen) == MAX_SENDERS:
                cuts.append(place)
                seen.clear()
            seen.add(sender)
    cuts.append(len(senders))
    return cuts


@implementer(IFanout)
class Hub:
    """Makes channels that share one turn."""

    def __init__(self, turn: Turn, clock: IReactorTime, counters: NodeCounters) -> None:
        self._turn = turn
        self._clock = clock
        self._counters = counters
        #: Channels with a merging interval, the only ones that may hold something between turns.
        self._merging: dict[Channel, None] = {}

    def open_channel(self, interval_seconds: float = 0.0) -> Channel:
        """See `IFanout.open_channel`."""
        channel = Channel(self._turn, self._clock, self._counters, interval_seconds)
        if interval_seconds:
            self._merging[channel] = None
        return channel

    def close_channel(self, channel: Channel) -> None:
        """Deliver what waits and forget the channel."""
        channel.flush()
        self._merging.pop(channel, None)

    def flush(self) -> None:
        """See `IFanout.flush`."""
        for channel in list(self._merging):
            channel.flush()
        self._turn.end()
