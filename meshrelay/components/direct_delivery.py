"""At the node of the peer: what the application says to a direct message, and the push.

Without callbacks a message is pushed at once. With them the messages of one pair wait for each other, so that a slow
callback changes no order; what waits is bounded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from meshrelay.background import in_time, result_of
from meshrelay.errors import MessageTooLarge
from meshrelay.interfaces import ISession, MessageCallback, ReceiveCallback
from meshrelay.wire.buffer import encode_str8
from meshrelay.wire.commands import BUILT_IN_VER
from meshrelay.wire.direct_node import Direct, Outcome
from meshrelay.wire.frame import encode_push
from meshrelay.wire.prepared import Batch

__all__ = ["MAX_WAITING", "DirectDelivery", "check_message_size", "push_direct"]

#: Messages that wait behind a slow callback, of all pairs together.
MAX_WAITING = 10_000

#: ``done(outcome)``.
Done = Callable[[Outcome], object]

T = TypeVar("T")


def push_direct(session: ISession, direct: Direct, message: bytes) -> None:
    """Push a message to the peer, reliably."""
    if direct.has_envelope:
        frame = encode_push(BUILT_IN_VER, direct.cmd, encode_str8(direct.sender_id) + message)
    else:
        frame = encode_push(direct.ver, direct.cmd, message)
    session.deliver(Batch([frame]))


def check_message_size(message: bytes, limit: int) -> None:
    """Refuse what is too long.

    :raises MessageTooLarge: `message` has more than `limit` bytes.
    """
    if len(message) > limit:
        raise MessageTooLarge(f"message of {len(message)} bytes, in a direct message {limit} fit")


class _Declined(Exception):
    """A callback said no; leaves this module never."""


class DirectDelivery:
    """See the module.

    :param seconds: what the callbacks of one message may take together.
    :ivar has_callbacks: the application wants to see messages before they are delivered.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._receive: list[ReceiveCallback] = []
        self._change: list[MessageCallback] = []
        #: (sender, peer) -> what waits behind the message that a callback has.
        self._queues: dict[tuple[str, str], deque[tuple[Direct, ISession, Done, Callable[[], bool]]]] = {}
        self._waiting = 0
        self.has_callbacks = False
        self.delivered = 0
        self.declined = 0
        self.failed = 0

    @property
    def waiting_count(self) -> int:
        """Messages that wait behind callbacks, at most `MAX_WAITING`."""
        return self._waiting

    def on_receive(self, callback: ReceiveCallback) -> None:
        """See `IDirectMessages`."""
        self._receive.append(callback)
        self.has_callbacks = True

    def on_message(self, callback: MessageCallback) -> None:
        """See `IDirectMessages`."""
        self._change.append(callback)
        self.has_callbacks = True

    def deliver(
        self, direct: Direct, session: ISession, done: Done, is_refused: Callable[[], bool] = lambda: False
    ) -> None:
        """Bring a message to its peer.

        :param session: of the peer.
        :param done: called once, perhaps before this returns.
        :param is_refused: asked when its turn comes: one before it was refused, so this one must be.
        """
        if not self.has_callbacks:
            self.delivered += 1
            push_direct(session, direct, direct.message)
            done(Outcome.TAKEN)
            return
        pair = (direct.sender_id, direct.peer_id)
        queue = self._queues.get(pair)
        if queue is None:
            self._queues[pair] = deque()
            if self._pass(pair, direct, session, done):
                self._go_on(pair)
        elif self._waiting >= MAX_WAITING:
            done(Outcome.TIMED_OUT)
        else:
            self._waiting += 1
            queue.append((direct, session, done, is_refused))

    def _pass(self, pair: tuple[str, str], direct: Direct, session: ISession, done: Done) -> bool:
        """Ask the callbacks. False: one takes its time, and what is behind waits for it."""
        passed = Deferred.fromCoroutine(self._ask(direct, session))
        is_done = bool(passed.called)
        if not is_done:
            passed = in_time(passed, self._seconds, self._clock)
        # Behind the deadline: what was given up is not pushed later, out of its order.
        outcome = passed.addCallback(self._push, direct, session).addErrback(self._failed, direct).addCallback(done)
        if not is_done:
            outcome.addCallback(lambda _: self._go_on(pair))
        return is_done

    def _failed(self, failure: Failure, direct: Direct) -> Outcome:
        if failure.check(_Declined):
            self.declined += 1
            return Outcome.DECLINED
        self.failed += 1
        if failure.check(TimeoutError):
            self._log.error("a callback for a direct message took over {seconds} s", seconds=self._seconds)
            return Outcome.TIMED_OUT
        self._log.failure("a callback for a direct message of {sender} failed", failure, sender=direct.sender_id)
        return Outcome.FAILED

    def _go_on(self, pair: tuple[str, str]) -> None:
        # The queue stays in the table meanwhile: what is sent because one is done comes behind the rest.
        queue = self._queues[pair]
        while queue:
            direct, session, done, is_refused = queue.popleft()
            self._waiting -= 1
            if is_refused():
                done(Outcome.NOT_HERE)
            elif not self._pass(pair, direct, session, done):
                return
        del self._queues[pair]

    async def _ask(self, direct: Direct, session: ISession) -> bytes:
        """Return what the peer is to get; empty: nothing."""
        message = direct.message
        ver, cmd, sender = direct.ver, direct.cmd, direct.sender_id
        for ask in self._receive:
            if await result_of(ask(ver, cmd, message, sender, session.user)) is False:
                raise _Declined
        for change in self._change:
            changed = await result_of(change(ver, cmd, message, sender, session.user))
            if changed is not None:
                if not isinstance(changed, bytes):
                    raise TypeError(f"a callback returned {type(changed).__name__}, not bytes or None")
                message = changed
        return message

    def _push(self, message: bytes, direct: Direct, session: ISession) -> Outcome:
        if session.is_over:
            return Outcome.NOT_HERE
        if message:
            self.delivered += 1
            push_direct(session, direct, message)
        return Outcome.TAKEN
