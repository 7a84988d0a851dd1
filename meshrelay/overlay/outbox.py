"""Messages on their way out: bounds, tries, and how it ended.

::

    send --> posted --acknowledged--> DELIVERED
               |  ^
               |  `-- not in time: again, over other links, up to `MAX_TRIES`, then NOT_DELIVERED
               `----- to a peer whose key is unknown: three tries in all, then UNCONFIRMED

No clock in here: the caller says what time it is, and looks at `Outbox.next_at`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush

from meshrelay.overlay.boxes import Acknowledged
from meshrelay.overlay.conversations import Conversation, Conversations, Outcome, Outgoing
from meshrelay.overlay.envelopes import Envelopes
from meshrelay.overlay.errors import TooMuchWaiting, UnusableData
from meshrelay.overlay.replay import WINDOW
from meshrelay.wire.overlay import BadFrame, decode_value

__all__ = [
    "LIFETIME_SECONDS",
    "MAX_EXPIRED",
    "MAX_MESSAGE_BYTES",
    "MAX_TRIES",
    "MAX_WAITING",
    "MAX_WAITING_BYTES",
    "MAX_WAITING_BYTES_IN_ALL",
    "MESSAGE_COST",
    "PLAIN_SECONDS",
    "HopReport",
    "Outbox",
]

#: Told a target and a first hop.
HopReport = Callable[[bytes, bytes], None]

#: Raw JSON of one message: sealed and in base64 it still fits one frame of every link.
MAX_MESSAGE_BYTES = 180_000

#: Messages, and bytes of them, that wait for one peer's acknowledgement.
MAX_WAITING = 1024
MAX_WAITING_BYTES = 4 * 1024 * 1024
#: The same for all peers; each message counts as `MESSAGE_COST` more than its value.
MAX_WAITING_BYTES_IN_ALL = 64 * 1024 * 1024
MESSAGE_COST = 512

#: A message is given up after that, ...
LIFETIME_SECONDS = 30.0
#: ... or when it was sent that often. At 30 % loss in each direction one of 50,000 is lost in all nine.
MAX_TRIES = 9
#: Each wait is that much longer than the one before, up to the longest.
_BACKOFF = 1.5
_LONGEST_WAIT_SECONDS = 4.0

#: Waits after each try to a peer whose key is unknown; then it is taken for a peer of npm's package.
_PLAIN_WAITS = (1.0, 2.0, 2.0)
PLAIN_SECONDS = 600.0

#: Nobody to send it to: look again after that, if `Outbox.links_changed` was not called before.
_NOBODY_SECONDS = 2.0

#: Messages looked at in one `Outbox.expire`; the others are due still, and next.
MAX_EXPIRED = 512

#: Entries of the heap that may be out of date.
_MAX_STALE = 1024


class Outbox:
    """All messages of one peer that are not over.

    :param worked: called with a target and the first hop by which a message has reached it.
    :param failed: the same for a message that was not acknowledged in time.
    :param counters: what happened -> how often.
    """

    def __init__(
        self,
        conversations: Conversations,
        envelopes: Envelopes,
        worked: HopReport,
        failed: HopReport,
        counters: Counter[str],
    ) -> None:
        self._conversations = conversations
        self._envelopes = envelopes
        self._worked = worked
        self._failed = failed
        self._counters = counters
        self._heap: list[tuple[float, int, Outgoing]] = []
        self._heap_number = 0
        #: Messages that wait for a link, oldest first.
        self._stranded: OrderedDict[Outgoing, None] = OrderedDict()
        self.waiting_count = 0
        self.waiting_bytes = 0

    def send(self, to: bytes, raw: bytes | None, now: float, done: Callable[[Outcome], None] | None) -> None:
        """See `meshrelay.overlay.deliveries.Deliveries.send`."""
        conversation = self._conversations.open(to)
        if conversation is None:
            raise TooMuchWaiting("messages wait for too many peers")
        outgoing = Outgoing(to, conversation.next_number, raw, now, done)
        self._check_bounds(conversation, outgoing)
        if conversation.public:
            _check_value(raw)
        else:
            outgoing.plain = self._envelopes.sign_plain(outgoing)
        conversation.next_number += 1
        conversation.outgoing[outgoing.number] = outgoing
        conversation.waiting_bytes += outgoing.size
        self.waiting_count += 1
        self.waiting_bytes += outgoing.size + MESSAGE_COST
        self._counters["sent"] += 1
        self._try(conversation, outgoing, now)

    def links_changed(self, now: float) -> None:
        """Send what waits for a link. Called when one has opened."""
        for outgoing in list(self._stranded):
            conversation = self._conversations.find(outgoing.to)
            if conversation is not None and not outgoing.is_over:
                self._try(conversation, outgoing, now)

    def next_at(self) -> float | None:
        """Return when `expire` has something to do."""
        while self._heap and self._is_stale(self._heap[0]):
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def expire(self, now: float) -> None:
        """Resend, or give up, what is due; at most `MAX_EXPIRED` of it."""
        for _ in range(MAX_EXPIRED):
            if not self._heap or self._heap[0][0] > now:
                break
            entry = heappop(self._heap)
            if not self._is_stale(entry):
                self._overdue(entry[2], now)

    def close(self) -> None:
        """Give everything up."""
        for _, _, outgoing in list(self._heap):
            self._finish(outgoing, Outcome.NOT_DELIVERED)
        self._heap.clear()

    def acknowledged(self, conversation: Conversation, part: Acknowledged, now: float) -> bool:
        """Take an acknowledgement of messages of this run.

        :returns: whether a message waited for it.
        """
        is_new = False
        for number in _numbers_within(conversation.outgoing, part.ranges):
            outgoing = conversation.outgoing.get(number)
            if outgoing is None or not outgoing.tries:
                continue
            if outgoing.tries == 1:
                # Of several tries, or several hops, nobody knows which one it was.
                conversation.round_trip.add_sample(now - outgoing.sent_at)
                if len(outgoing.last_hops) == 1:
                    self._worked(outgoing.to, outgoing.last_hops[0])
            self._finish(outgoing, Outcome.DELIVERED)
            is_new = True
        return is_new

    def taken_for_plain(self, conversation: Conversation, now: float) -> None:
        """Expect no acknowledgements of a peer for some time."""
        conversation.plain_until = now + PLAIN_SECONDS
        for outgoing in list(conversation.outgoing.values()):
            if outgoing.tries:
                self._finish(outgoing, Outcome.UNCONFIRMED)

    def _check_bounds(self, conversation: Conversation, outgoing: Outgoing) -> None:
        size = outgoing.size
        if size > MAX_MESSAGE_BYTES:
            raise UnusableData(f"{size} bytes of JSON, more than {MAX_MESSAGE_BYTES}")
        problem = ""
        if len(conversation.outgoing) >= MAX_WAITING:
            problem = f"{MAX_WAITING} messages wait for this peer"
        elif conversation.waiting_bytes + size > MAX_WAITING_BYTES:
            problem = f"{MAX_WAITING_BYTES} bytes wait for this peer"
        elif self.waiting_bytes + size + MESSAGE_COST > MAX_WAITING_BYTES_IN_ALL:
            problem = f"{MAX_WAITING_BYTES_IN_ALL} bytes wait for all peers"
        elif conversation.outgoing and outgoing.number - next(iter(conversation.outgoing)) >= WINDOW:
            # The other end would take the oldest one for a replay.
            problem = f"a message before the last {WINDOW} to this peer still waits"
        if problem:
            self._counters["too_much_waiting"] += 1
            raise TooMuchWaiting(problem)

    def _try(self, conversation: Conversation, outgoing: Outgoing, now: float) -> None:
        # Counted before it goes: the acknowledgement may be here before `post` returns.
        outgoing.tries += 1
        outgoing.sent_at = now
        hops = self._envelopes.post_message(conversation, outgoing)
        if outgoing.is_over:
            return
        if not hops:
            outgoing.tries -= 1
            outgoing.last_hops = ()
            # The lifetime is the only bound here: a peer that starts sends before it has its first link.
            self._stranded[outgoing] = None
            self._plan(outgoing, now + _NOBODY_SECONDS)
            return
        self._stranded.pop(outgoing, None)
        outgoing.last_hops = hops
        outgoing.hops |= frozenset(hops)
        if conversation.public:
            wait = min(_LONGEST_WAIT_SECONDS, conversation.timeout_seconds * _BACKOFF ** (outgoing.tries - 1))
        elif now < conversation.plain_until:
            self._finish(outgoing, Outcome.UNCONFIRMED)
            return
        else:
            wait = _PLAIN_WAITS[min(outgoing.tries, len(_PLAIN_WAITS)) - 1]
        self._plan(outgoing, now + wait)

    def _plan(self, outgoing: Outgoing, at: float) -> None:
        outgoing.due = at = min(at, outgoing.first_at + LIFETIME_SECONDS)
        self._heap_number += 1
        heappush(self._heap, (at, self._heap_number, outgoing))
        if len(self._heap) > 2 * self.waiting_count + _MAX_STALE:
            self._heap = [entry for entry in self._heap if not self._is_stale(entry)]
            heapify(self._heap)

    @staticmethod
    def _is_stale(entry: tuple[float, int, Outgoing]) -> bool:
        return entry[2].is_over or entry[2].due != entry[0]

    def _overdue(self, outgoing: Outgoing, now: float) -> None:
        conversation = self._conversations.find(outgoing.to)
        if conversation is None:
            return
        if conversation.public:
            # Of a peer that may be one of npm's package silence says nothing: no way to it is worse for that.
            for hop in outgoing.last_hops:
                self._failed(outgoing.to, hop)
        if now - outgoing.first_at >= LIFETIME_SECONDS or outgoing.tries >= MAX_TRIES:
            self._finish(outgoing, Outcome.NOT_DELIVERED)
        elif not conversation.public and outgoing.tries >= len(_PLAIN_WAITS):
            self.taken_for_plain(conversation, now)
        else:
            self._try(conversation, outgoing, now)

    def _finish(self, outgoing: Outgoing, outcome: Outcome) -> None:
        if outgoing.is_over:
            return
        outgoing.is_over = True
        conversation = self._conversations.find(outgoing.to)
        if conversation is not None:
            conversation.outgoing.pop(outgoing.number, None)
            conversation.waiting_bytes -= outgoing.size
        self._stranded.pop(outgoing, None)
        self.waiting_count -= 1
        self.waiting_bytes -= outgoing.size + MESSAGE_COST
        self._counters[outcome.value] += 1
        done, outgoing.done, outgoing.raw, outgoing.plain = outgoing.done, None, None, None
        if done is not None:
            done(outcome)


def _check_value(raw: bytes | None) -> None:
    try:
        decode_value(b"null" if raw is None else raw)
    except BadFrame as error:
        raise UnusableData(str(error)) from None


def _numbers_within(outgoing: Iterable[int], ranges: Iterable[tuple[int, int]]) -> list[int]:
    """Return the numbers in the ranges that wait: what a peer claims costs no more than what waits for it."""
    ordered = sorted(ranges)
    firsts = [first for first, _ in ordered]
    numbers: list[int] = []
    for number in outgoing:
        index = bisect_right(firsts, number)
        if index and number <= ordered[index - 1][1]:
            numbers.append(number)
    return numbers
