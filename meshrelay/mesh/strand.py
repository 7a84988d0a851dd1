"""One connection between two nodes, from its first byte to its end: greeting, heartbeat, calls with deadlines.

::

    GREETING --greeted--> UP --lost, closed, silent, refused--> OVER
       `-------refused, lost, too slow--------------------------^

A link (`mesh.links`) outlives its strands. Silence is counted in our own ticks, never in seconds of the clock: the
reactor runs on the wall clock, and a clock that is set, or a process that was stopped and goes on, must not make
every other node look dead at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique
from functools import partial
from typing import Protocol

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from meshrelay.errors import RemoteProtocolError
from meshrelay.machine.rtt import RoundTrip
from meshrelay.mesh.errors import CallFailed, LinkLost, LinkRefused, TooManyCalls
from meshrelay.mesh.greeting import AcceptorGreeting, DialerGreeting
from meshrelay.mesh.interfaces import IConnectionUser, INodeConnection
from meshrelay.wire.node import (
    CallStatus,
    Hello,
    Refusal,
    Resume,
    decode_ack,
    decode_call,
    decode_call_answer,
    decode_refusal,
    encode_call,
    encode_call_answer,
    encode_refusal,
)

__all__ = ["Strand", "StrandOptions", "StrandOwner", "StrandState"]

#: Silence is looked at this often in each heartbeat, so that a dead peer is known within dead_seconds.
_TICKS_PER_HEARTBEAT = 4

#: A ping may be late by this many times dead_seconds as long as anything else is heard.
_PING_PATIENCE = 4


@unique
class StrandState(Enum):
    """Where a strand stands; it only ever moves down this list."""

    GREETING = "greeting"
    UP = "up"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class StrandOptions:
    """Times and bounds of one connection."""

    #: Time between two pings.
    heartbeat_seconds: float = 1.0
    #: A peer that says nothing for this long is dead.
    dead_seconds: float = 5.0
    #: From the connection to the end of the greeting.
    greeting_seconds: float = 5.0
    #: How long answering a call may take. The caller waits for dead_seconds more, then closes the link.
    call_seconds: float = 5.0
    #: Calls of each direction that may wait for their answer.
    max_calls: int = 256


class StrandOwner(Protocol):
    """What a strand asks of those who keep it. Implemented by `mesh.links.Links`."""

    def greeted(self, strand: Strand, peer: Hello) -> Resume:
        """The peer said hello, and we like it. Return where our batches stand.

        :raises LinkRefused: it is not wanted after all.
        """

    def proven(self, strand: Strand, resume: Resume) -> None:
        """The peer knows the secret, and its batches stand at `resume`; the strand is up when this returns.

        :raises LinkRefused: it is not wanted after all.
        :raises RemoteProtocolError: `resume` cannot be.
        """

    def ready(self, strand: Strand) -> None:
        """The strand is up: it may be written to."""

    def batch_received(self, strand: Strand, data: bytes) -> bytes:
        """Take a batch and return its acknowledgement.

        :raises RemoteProtocolError: the peer's fault.
        """

    def acknowledged(self, strand: Strand, number: int) -> None:
        """The peer has all batches up to `number`.

        :raises RemoteProtocolError: the peer's fault.
        """

    def call_received(self, strand: Strand, name: str, payload: bytes) -> Deferred[bytes]:
        """Answer a call."""

    def strand_over(self, strand: Strand, reason: str, refused: LinkRefused | None) -> None:
        """The strand carries nothing any more. Called once."""

    def strand_gone(self, strand: Strand) -> None:
        """Its connection is closed. Called once, last."""


@implementer(IConnectionUser)
class Strand:
    """One connection.

    :param greeting: tells which end we are.
    :param expected_node_id: who was dialled; None = whoever is there.
    :param order: counts the strands of this node as they begin.
    :ivar peer: the other end, None until its Hello was accepted.
    """

    _log = Logger()

    def __init__(
        self,
        connection: INodeConnection,
        owner: StrandOwner,
        greeting: DialerGreeting | AcceptorGreeting,
        clock: IReactorTime,
        options: StrandOptions,
        expected_node_id: str | None,
        order: int,
    ) -> None:
        self._connection = connection
        self._owner = owner
        self._greeting = greeting
        self._clock = clock
        self._options = options
        self._expected_node_id = expected_node_id
        self.order = order
        #: The `order` that a strand begun after this one came up at least has; 0 = not up.
        self.up_order = 0
        self.state = StrandState.GREETING
        self.peer: Hello | None = None
        self.rtt = RoundTrip(0.001, options.heartbeat_seconds)
        #: Ticks in a row in which nothing was heard.
        self.silent_ticks = 0
        self._heard = False
        self._tick_seconds = options.heartbeat_seconds / _TICKS_PER_HEARTBEAT
        # One less, as a peer may fall silent right behind a tick, and one for ticks that come late.
        self._max_silent_ticks = max(2, round(options.dead_seconds / self._tick_seconds) - 2)
        self._ticks = 0
        self._timer: IDelayedCall | None = None
        #: The tick at which it is too late; None = nothing is waited for.
        self._ping_deadline: int | None = None
        self._batch_deadline: int | None = None
        self._unanswered_batches = 0
        #: Our calls that wait -> the tick at which it is too late.
        self._calls: dict[Deferred[bytes], int] = {}
        self._incoming_calls = 0
        self._refused: LinkRefused | None = None

    @property
    def is_dialer(self) -> bool:
        """True: this node opened the connection."""
        return isinstance(self._greeting, DialerGreeting)

    @property
    def is_silent(self) -> bool:
        """True: two heartbeats passed without a word, so it may well be half-dead."""
        return self.silent_ticks >= 2 * _TICKS_PER_HEARTBEAT

    @property
    def node_id(self) -> str:
        """Who is there; "" as long as nobody is accepted."""
        return self.peer.node_id if self.peer is not None else ""

    @property
    def address(self) -> str:
        """Where it is."""
        peer: str = self._connection.peer
        return peer

    def start(self) -> None:
        """Take over the connection; the dialer says hello."""
        self._connection.attach(self)
        self._timer = self._clock.callLater(self._options.greeting_seconds, self._greeting_too_slow)
        if isinstance(self._greeting, DialerGreeting):
            said = self._connection.call("hello", self._greeting.hello())
            said.addCallback(self._hello_answered, self._greeting)
            said.addErrback(self._greeting_failed)

    def _hello_answered(self, answer: bytes, greeting: DialerGreeting) -> Deferred[None] | None:
        if self.state is not StrandState.GREETING:
            return None
        self.peer = greeting.hello_answered(answer, self._expected_node_id)
        resume = self._owner.greeted(self, self.peer)
        proven = self._connection.call("hello", greeting.proof(resume))
        return proven.addCallback(self._proof_answered, greeting)

    def _proof_answered(self, answer: bytes, greeting: DialerGreeting) -> None:
        if self.state is not StrandState.GREETING:
            return
        self._go_up(greeting.proof_answered(answer))
        self._welcomed()

    def _go_up(self, resume: Resume) -> None:
        self._owner.proven(self, resume)
        self.state = StrandState.UP
        self._stop_timer()
        self._timer = self._clock.callLater(self._tick_seconds, self._tick)

    def _greeting_failed(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, LinkRefused):
            self.refuse(error)
        elif isinstance(error, RemoteProtocolError):
            self.refuse(LinkRefused(Refusal.PROTOCOL, str(error)))
        elif not failure.check(LinkLost):
            self._log.failure("greeting {peer} failed", failure=failure, peer=self.address)
            self._connection.abort("internal error")

    def _greeting_too_slow(self) -> None:
        self._timer = None
        self._connection.abort(f"no greeting within {self._options.greeting_seconds:g} seconds")

    def heard(self) -> None:
        """See `IConnectionUser`."""
        self._heard = True

    def received(self, method: str, data: bytes) -> bytes | Deferred[bytes]:
        """See `IConnectionUser`."""
        if self.state is StrandState.OVER:
            return b""
        try:
            return self._dispatch(method, data)
        except LinkRefused as refused:
            # A Hello is answered with the refusal; anything else gets it as bye.
            if method != "hello":
                self.refuse(refused)
                return b""
            self._end_refused(refused)
            return encode_refusal(refused.code, refused.text)
        except RemoteProtocolError as error:
            self.refuse(LinkRefused(Refusal.PROTOCOL, str(error)))
            return b""

    def _dispatch(self, method: str, data: bytes) -> bytes | Deferred[bytes]:
        if method == "bye":
            code, text = decode_refusal(data)
            self._refused = LinkRefused(code, text, is_peers=True)
            self._connection.abort(str(self._refused))
            return b""
        if method == "hello":
            return self._hello_received(data)
        if self.state is not StrandState.UP:
            raise RemoteProtocolError(f"{method} before the greeting was done")
        if method == "batch":
            return self._owner.batch_received(self, data)
        if method == "call":
            return self._call_received(data)
        return b""

    def _hello_received(self, data: bytes) -> bytes:
        greeting = self._greeting
        if not isinstance(greeting, AcceptorGreeting) or self.state is not StrandState.GREETING:
            raise RemoteProtocolError("hello out of turn")
        if greeting.peer is None:
            answer = greeting.hello_received(data)
            self.peer = greeting.peer
            return answer
        peers = greeting.proof_received(data)
        assert self.peer is not None
        ours = self._owner.greeted(self, self.peer)
        self._go_up(peers)
        # What the owner writes now must stand behind the welcome.
        self._clock.callLater(0, self._welcomed)
        return greeting.welcome(ours)

    def _welcomed(self) -> None:
        if self.state is StrandState.UP:
            self._ping()
            self._owner.ready(self)

    def _call_received(self, data: bytes) -> bytes | Deferred[bytes]:
        name, payload = decode_call(data)
        if self._incoming_calls >= self._options.max_calls:
            return encode_call_answer(CallStatus.BUSY, f"{self._options.max_calls} calls are being answered")
        self._incoming_calls += 1
        answer = self._owner.call_received(self, name, payload)
        answer.addTimeout(self._options.call_seconds, self._clock, onTimeoutCancel=_timed_out)
        answer.addCallback(partial(encode_call_answer, CallStatus.OK))
        answer.addErrback(self._call_failed, name)
        return answer.addBoth(self._call_answered)

    def _call_failed(self, failure: Failure, name: str) -> bytes:
        error = failure.value
        if isinstance(error, CallFailed):
            return encode_call_answer(error.status, error.text)
        self._log.failure("call {name} of {node} failed", failure=failure, name=name, node=self.node_id)
        return encode_call_answer(CallStatus.FAILED, "the log of the other node has it")

    def _call_answered(self, answer: bytes) -> bytes:
        self._incoming_calls -= 1
        return answer

    def send_batch(self, data: bytes) -> None:
        """Send one batch; the owner is told of its acknowledgement."""
        self._unanswered_batches += 1
        if self._batch_deadline is None:
            self._batch_deadline = self._deadline(self._options.dead_seconds)
        sent = self._connection.call("batch", data)
        sent.addCallback(self._batch_answered)
        sent.addErrback(self._answer_broken)

    def _batch_answered(self, answer: bytes) -> None:
        self._unanswered_batches -= 1
        # A slow line may take long for a whole window: what counts is that it goes on.
        self._batch_deadline = self._deadline(self._options.dead_seconds) if self._unanswered_batches else None
        if self.state is StrandState.UP:
            self._owner.acknowledged(self, decode_ack(answer))

    def call(self, name: str, payload: bytes) -> Deferred[bytes]:
        """Ask the other node.

        :returns: fires with the answer; fails with LinkLost, TooManyCalls or CallFailed.
        :raises LocalProtocolError: name or payload is too long.
        """
        data = encode_call(name, payload)
        if self.state is not StrandState.UP:
            return fail(LinkLost(self.node_id, "not linked"))
        if len(self._calls) >= self._options.max_calls:
            return fail(TooManyCalls(self.node_id, self._options.max_calls))
        result: Deferred[bytes] = Deferred()
        self._calls[result] = self._deadline(self._options.call_seconds + self._options.dead_seconds)
        answered = self._connection.call("call", data)
        answered.addCallback(self._read_call_answer)
        answered.addCallbacks(partial(self._call_over, result), partial(self._call_lost, result))
        return result

    def _read_call_answer(self, answer: bytes) -> bytes:
        status, content = decode_call_answer(answer)
        if status is not CallStatus.OK:
            raise CallFailed(status, content.decode("utf-8", "replace"))
        return content

    def _call_over(self, result: Deferred[bytes], answer: bytes) -> None:
        if self._calls.pop(result, None) is not None:
            result.callback(answer)

    def _call_lost(self, result: Deferred[bytes], failure: Failure) -> None:
        if self._calls.pop(result, None) is None:
            return
        if failure.check(CallFailed, LinkLost):
            result.errback(failure)
            return
        result.errback(LinkLost(self.node_id, "the answer could not be read"))
        self._answer_broken(failure)

    def _answer_broken(self, failure: Failure) -> None:
        """Something is wrong with the answer to what we sent: the connection is of no more use."""
        if failure.check(RemoteProtocolError):
            self.refuse(LinkRefused(Refusal.PROTOCOL, str(failure.value)))
        elif not failure.check(LinkLost):
            self._log.failure("an answer of {node} failed", failure=failure, node=self.node_id)
            self._connection.abort("internal error")

    def _deadline(self, seconds: float) -> int:
        return self._ticks + round(seconds / self._tick_seconds)

    def _tick(self) -> None:
        self._ticks += 1
        self.silent_ticks = 0 if self._heard else self.silent_ticks + 1
        self._heard = False
        self._timer = None
        if self.silent_ticks >= self._max_silent_ticks:
            self._connection.abort(f"nothing was heard for {self._options.dead_seconds:g} seconds")
            return
        deadlines = [*self._calls.values(), self._ping_deadline, self._batch_deadline]
        if any(deadline is not None and deadline <= self._ticks for deadline in deadlines):
            self._connection.abort("an answer did not come in time")
            return
        self._timer = self._clock.callLater(self._tick_seconds, self._tick)
        if self._ticks % _TICKS_PER_HEARTBEAT == 0:
            self._ping()

    def _ping(self) -> None:
        # One ping at a time: a peer that answers none must not pile them up.
        if self._ping_deadline is not None:
            return
        # Pings wait behind whole windows of batches, and those have deadlines of their own.
        self._ping_deadline = self._deadline(_PING_PATIENCE * self._options.dead_seconds)
        sent_at = self._clock.seconds()
        self._connection.call("ping", b"").addCallbacks(self._pong, self._answer_broken, callbackArgs=(sent_at,))

    def _pong(self, _: bytes, sent_at: float) -> None:
        self._ping_deadline = None
        # A clock that was set back in between must not give a negative round trip.
        self.rtt.add_sample(max(0.0, self._clock.seconds() - sent_at))

    def abort(self, reason: str) -> None:
        """Cut the connection without a word; the link will be dialled again."""
        self._connection.abort(reason)

    def close(self, code: Refusal, text: str) -> None:
        """Say goodbye and close."""
        self.refuse(LinkRefused(code, text))

    def refuse(self, refused: LinkRefused) -> None:
        """End it because of `refused`; the other end is told unless it was the one that refused."""
        if self.state is StrandState.OVER:
            return
        if not refused.is_peers:
            # Nobody waits for the answer.
            self._connection.call("bye", encode_refusal(refused.code, refused.text)).addErrback(_ignore)
        self._end_refused(refused)

    def _end_refused(self, refused: LinkRefused) -> None:
        if self.state is StrandState.OVER:
            return
        self._refused = refused
        self._end(str(refused))
        # Behind the answer that tells why. A peer that does not read it is cut off.
        self._clock.callLater(0, self._connection.finish)
        self._timer = self._clock.callLater(self._options.dead_seconds, self._connection.abort, "it did not close")

    def connection_lost(self, reason: str) -> None:
        """See `IConnectionUser`."""
        self._end(str(self._refused) if self._refused is not None else reason)
        self._stop_timer()
        self._owner.strand_gone(self)

    def _end(self, reason: str) -> None:
        if self.state is StrandState.OVER:
            return
        self.state = StrandState.OVER
        self._stop_timer()
        calls, self._calls = list(self._calls), {}
        self._owner.strand_over(self, reason, self._refused)
        for result in calls:
            result.errback(LinkLost(self.node_id, reason))

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None


def _ignore(_: Failure) -> None:
    return None


def _timed_out(result: object, seconds: float) -> object:
    """Say of a call that it was cancelled by its deadline, unless it gave an answer nevertheless."""
    if isinstance(result, Failure):
        raise CallFailed(CallStatus.TIMED_OUT, f"no answer within {seconds:g} seconds")
    return result
