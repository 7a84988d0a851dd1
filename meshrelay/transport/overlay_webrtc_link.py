"""A WebRTC link of the overlay once it is open, and what it stands on.

::

    Peer --frames--> WrtcLink --text--> Stack (ICE, DTLS and SCTP) --> UDP
    Peer <--frames-- WrtcLink <-bytes-- Stack                      <-- UDP

A frame is a text message. What SCTP has not begun to send is what waits; it is bounded. That the other end has died is
found by the checks of consent (RFC 7675): after six without an answer, 24 to 39 seconds, the stack is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, Protocol

from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from meshrelay.background import Alarm, Alarms
from meshrelay.overlay.interfaces import ILinkReceiver, IOverlayLink, LinkOpened
from meshrelay.transport.overlay_signal import Description
from meshrelay.wire.overlay import MAX_WRTC_BYTES

__all__ = [
    "CLOSE_SECONDS",
    "MAX_WAITING_BYTES",
    "NotConnected",
    "Stack",
    "StackOwner",
    "Tasks",
    "WrtcCounters",
    "WrtcLink",
    "WrtcOptions",
]

#: Of a link; what does not fit is not sent.
MAX_WAITING_BYTES = 1024 * 1024

#: Then a link that is to be closed goes, sent or not.
CLOSE_SECONDS = 3.0


class NotConnected(Exception):
    """The other end was not reached; the text says why."""


class WrtcOptions(NamedTuple):
    """What may be chosen for WebRTC links. Times are in seconds."""

    #: ``stun:host:port`` of servers that tell this end its public address; the first that is usable is asked.
    stun: tuple[str, ...] = ()
    #: Local IP addresses to use; none: all that the machine has but loopback ones.
    addresses: tuple[str, ...] = ()
    #: Whether an IP address may be that of the other end.
    allows: Callable[[str], bool] = lambda _: True
    #: From the first signal to an open channel.
    attempt_seconds: float = 15.0
    #: A link is closed that takes nothing of what waits for so long.
    stall_seconds: float = 30.0


class WrtcCounters:
    """Plain integers of all WebRTC links of a peer."""

    __slots__ = (
        "attempts",
        "attempts_failed",
        "candidates_refused",
        "datagrams_dropped",
        "faults",
        "links_opened",
        "signals_ignored",
    )

    def __init__(self) -> None:
        self.attempts = 0
        self.attempts_failed = 0
        self.links_opened = 0
        #: Signals that make no sense, or none where they came.
        self.signals_ignored = 0
        #: Addresses that are not allowed, are none, or are too many.
        self.candidates_refused = 0
        #: Came faster than they were read, or empty.
        self.datagrams_dropped = 0
        #: Links that ended because the other end broke SCTP or its bounds.
        self.faults = 0


class StackOwner(Protocol):
    """What is told of a stack."""

    def stack_opened(self) -> None:
        """The channel is open. Called once."""

    def message_received(self, data: bytes) -> None:
        """A whole message came, text or binary."""

    def stack_lost(self, why: str) -> None:
        """Nothing more can come; `Stack.stop` is still to be called. Perhaps called more than once."""


class Stack(Protocol):
    """One connection with one channel; see `meshrelay.transport.overlay_webrtc_stack.AiortcStack`."""

    owner: StackOwner

    @property
    def max_message_bytes(self) -> int:
        """What the other end takes; 0: any."""

    @property
    def waiting_bytes(self) -> int:
        """What was sent and is still here."""

    @property
    def remote_address(self) -> str:
        """Where the other end is, or ""."""

    def take(self, description: Description) -> bool:
        """Take the other end's description, once; False: it makes no sense, or none now."""

    def add_candidate(self, text: str) -> bool:
        """Take one more address of the other end, whenever it comes; False: it makes no sense, or is one too many."""

    async def describe(self) -> Description:
        """Return what the other end has to know; as the answerer after `take`."""

    async def connect(self) -> None:
        """Reach the other end; after `take` and `describe`.

        :raises NotConnected: it cannot be reached.
        """

    def send(self, text: str) -> bool:
        """Send a message; False: the channel is not open."""

    def close_channel(self) -> None:
        """Close behind all that was sent; `StackOwner.stack_lost` follows if the other end answers."""

    async def stop(self) -> None:
        """End everything, in whatever state; called once."""


class Tasks:
    """Tasks of asyncio that nobody waits for: kept, and logged when they fail."""

    _log = Logger()

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, coroutine: Coroutine[Any, Any, object], what: str) -> asyncio.Task[Any]:
        """Run a coroutine; its failure is logged as "what failed"."""
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._ended(task, what))
        return task

    def _ended(self, task: asyncio.Task[Any], what: str) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.failure("{what} failed", failure=Failure(error), what=what)

    async def when_ended(self) -> None:
        """Return when there are none left."""
        while self._tasks:
            await asyncio.wait(self._tasks)


@implementer(IOverlayLink)
class WrtcLink:
    """An open channel; made by an attempt. Implements `StackOwner` as well.

    :param ended: called once, when the link is over.
    """

    transport_name = "wrtc"
    is_own = False
    has_origin = False

    _log = Logger()

    def __init__(
        self,
        stack: Stack,
        is_outgoing: bool,
        stall_seconds: float,
        tasks: Tasks,
        alarms: Alarms,
        ended: Callable[[WrtcLink], None],
    ) -> None:
        self._stack = stack
        self._tasks = tasks
        self._alarms = alarms
        self._ended = ended
        self._stall_seconds = stall_seconds
        self.is_outgoing = is_outgoing
        self.remote_address = stack.remote_address
        self.max_frame_bytes = min(MAX_WRTC_BYTES, stack.max_message_bytes or MAX_WRTC_BYTES)
        self._receiver: ILinkReceiver | None = None
        self._is_closing = False
        self._is_over = False
        self._sent_bytes = 0
        #: Of what was sent, what the other end had taken when somebody last looked.
        self._taken_bytes = 0
        self._stall_alarm: Alarm | None = None
        self._close_alarm: Alarm | None = None

    @property
    def waiting_bytes(self) -> int:
        """See `IOverlayLink`."""
        return 0 if self._is_over else self._stack.waiting_bytes

    def open(self, opened: LinkOpened) -> None:
        """Tell who waits for this link that it is open, and start it. Nothing comes in before this returns."""
        try:
            receiver = opened(self)
        except Exception:  # an unexpected error costs this link, not the stack below it
            self._log.failure("taking the link of {address} failed", address=self.remote_address)
            receiver = None
        if receiver is None:
            self.abort()
        else:
            self.start(receiver)

    def start(self, receiver: ILinkReceiver) -> None:
        """See `IOverlayLink`."""
        self._receiver = receiver

    def send(self, frame: bytes) -> bool:
        """See `IOverlayLink`."""
        if self._is_over or self._is_closing or len(frame) > self.max_frame_bytes:
            return False
        if self._stack.waiting_bytes + len(frame) > MAX_WAITING_BYTES:
            return False
        try:
            text = frame.decode()
        except UnicodeDecodeError:
            return False
        if not self._stack.send(text):
            return False
        self._sent_bytes += len(frame)
        if self._stall_alarm is None:
            self._watch()
        return True

    def _watch(self) -> None:
        self._taken_bytes = self._sent_bytes - self._stack.waiting_bytes
        self._stall_alarm = self._alarms.call_later(self._stall_seconds, self._check_progress)

    def _check_progress(self) -> None:
        self._stall_alarm = None
        waiting = self._stack.waiting_bytes
        if waiting and self._sent_bytes - waiting <= self._taken_bytes:
            self._end(f"it took nothing for {self._stall_seconds:g} seconds")
        elif waiting:
            self._watch()

    def close(self) -> None:
        """See `IOverlayLink`."""
        if not self._is_closing and not self._is_over:
            self._is_closing = True
            self._close_alarm = self._alarms.call_later(CLOSE_SECONDS, lambda: self._end("closed, unanswered"))
            self._stack.close_channel()

    def abort(self) -> None:
        """See `IOverlayLink`."""
        self._end("aborted")

    def stack_opened(self) -> None:
        """See `StackOwner`; it was open before."""

    def message_received(self, data: bytes) -> None:
        """See `StackOwner`."""
        if self._is_over or self._receiver is None:
            return
        # Others could not be told of it in one message.
        if len(data) > MAX_WRTC_BYTES:
            self._end(f"a message of {len(data)} bytes; the limit is {MAX_WRTC_BYTES}")
            return
        try:
            self._receiver.frame_received(data)
        except Exception:  # an unexpected error costs this link, not the stack below it
            self._log.failure("handling a frame of {address} failed", address=self.remote_address)
            self._end("an error of this end")

    def stack_lost(self, why: str) -> None:
        """See `StackOwner`."""
        self._end("closed" if self._is_closing else why)

    def _end(self, why: str) -> None:
        if self._is_over:
            return
        self._is_over = True
        for alarm in (self._stall_alarm, self._close_alarm):
            if alarm is not None:
                alarm.cancel()
        self._ended(self)
        self._tasks.start(self._finish(why), "ending a WebRTC link")

    async def _finish(self, why: str) -> None:
        try:
            await self._stack.stop()
        finally:
            if self._receiver is not None:
                self._receiver.link_lost(why)
