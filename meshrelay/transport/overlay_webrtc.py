"""WebRTC links of the overlay: a data channel to a browser, to a Node process or to another meshrelay.

::

    Peer --attempt--> WrtcMaker --> Attempt --signals--> overlay --signals--> the other end's
                                       |
                                       `-- channel open --> WrtcLink <--text messages--> the other end's

What does ICE, DTLS and SCTP is a `Stack`; `meshrelay.transport.overlay_webrtc_stack` has the one of aiortc, which needs
the extra ``webrtc`` and an asyncio loop: ``twistd --reactor=asyncio``, or a reactor of
`meshrelay.transport.asyncio_reactor`. This module needs neither.

There is no hello: signals say who is at the other end. Candidates are all in the description that this end sends; those
of the other end may come one by one, even before its description, and the same number of them at most.

Source: npm simple-peer 6.4.4 and peer-relay 0.0.2.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from meshrelay.background import Alarm, Alarms
from meshrelay.overlay.interfaces import IWrtcMaker, LinkOpened
from meshrelay.transport.overlay_signal import BadSignal, Description, decode_signal, encode_description
from meshrelay.transport.overlay_webrtc_link import (
    NotConnected,
    Stack,
    StackOwner,
    Tasks,
    WrtcCounters,
    WrtcLink,
    WrtcOptions,
)

__all__ = ["MAX_ATTEMPTS", "StackMaker", "WrtcMaker", "webrtc_missing", "wrtc_maker"]

#: On their way at once; each has a socket for each local address.
MAX_ATTEMPTS = 32

#: Random bytes of a channel's label, which is written in hex.
_LABEL_BYTES = 20


class StackMaker(Protocol):
    """Makes a `Stack`; `meshrelay.transport.overlay_webrtc_stack.AiortcStack` is one."""

    def __call__(
        self, owner: StackOwner, label: str, options: WrtcOptions, counters: WrtcCounters, tasks: Tasks
    ) -> Stack:
        """Make one.

        :param label: of the channel that is made, or "": the other end makes it.
        """


class _Attempt:
    """A link on its way. Implements `WrtcAttempt` and `StackOwner`."""

    _log = Logger()

    def __init__(
        self,
        maker: WrtcMaker,
        is_initiator: bool,
        send_signal: Callable[[bytes], None],
        opened: LinkOpened,
        failed: Callable[[str], None],
    ) -> None:
        self._maker = maker
        self._is_initiator = is_initiator
        self._send_signal = send_signal
        self._opened = opened
        self._failed = failed
        self._is_over = False
        self._stack: Stack | None = None
        self._deadline: Alarm | None = None
        self._work: asyncio.Task[object] | None = None
        self._has_description = asyncio.Event()

    def begin(self) -> None:
        """Make the stack and set out."""
        maker = self._maker
        seconds = maker.options.attempt_seconds
        self._deadline = maker.alarms.call_later(seconds, lambda: self.fail(f"no link within {seconds:g} seconds"))
        self._stack = maker.make_stack(self, self._is_initiator)
        self._work = maker.tasks.start(self._connect(self._stack), "an attempt at a WebRTC link")

    async def _connect(self, stack: Stack) -> None:
        try:
            if self._is_initiator:
                self._say(await stack.describe())
                await self._has_description.wait()
            else:
                await self._has_description.wait()
                self._say(await stack.describe())
            await stack.connect()
        except NotConnected as error:
            self.fail(str(error))
        except Exception:  # an unexpected error costs this attempt, and not its whole time
            self._log.failure("an attempt at a WebRTC link failed")
            self.fail("an error of this end")

    def _say(self, description: Description) -> None:
        if not self._is_over:
            self._send_signal(encode_description(description))

    def signal(self, data: bytes) -> None:
        """See `WrtcAttempt`."""
        # Candidates that come behind the link are usual, and no use.
        if self._is_over or self._stack is None:
            return
        try:
            signal = decode_signal(data)
        except BadSignal as error:
            self._log.debug("a signal was ignored: {error}", error=error)
            self._maker.counters.signals_ignored += 1
            return
        if isinstance(signal, Description):
            if self._stack.take(signal):
                self._has_description.set()
            else:
                self._maker.counters.signals_ignored += 1
        elif not self._stack.add_candidate(signal.text):
            self._maker.counters.signals_ignored += 1

    def cancel(self) -> None:
        """See `WrtcAttempt`."""
        if self._end():
            self._maker.tasks.start(self._finish(None), "ending an attempt at a WebRTC link")

    def fail(self, why: str) -> None:
        """It came to nothing."""
        if self._end():
            self._maker.counters.attempts_failed += 1
            self._maker.tasks.start(self._finish(why), "ending an attempt at a WebRTC link")

    def _end(self) -> bool:
        if self._is_over:
            return False
        self._is_over = True
        self._maker.attempt_ended(self)
        if self._deadline is not None:
            self._deadline.cancel()
        return True

    async def _finish(self, why: str | None) -> None:
        try:
            if self._work is not None:
                self._work.cancel()
            if self._stack is not None:
                await self._stack.stop()
        finally:
            if why is not None:
                self._failed(why)

    def stack_opened(self) -> None:
        """See `StackOwner`."""
        stack = self._stack
        if stack is not None and self._end():
            self._maker.link_of(stack, self._is_initiator).open(self._opened)

    def message_received(self, data: bytes) -> None:
        """See `StackOwner`; nothing comes before the channel is open."""

    def stack_lost(self, why: str) -> None:
        """See `StackOwner`."""
        self.fail(why)


@implementer(IWrtcMaker)
class WrtcMaker:
    """All WebRTC links of a peer.

    :param loop: runs when the methods are called.
    :param random_bytes: as `os.urandom`.
    """

    def __init__(
        self,
        clock: IReactorTime,
        loop: asyncio.AbstractEventLoop,
        stack_maker: StackMaker,
        options: WrtcOptions,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self.alarms = Alarms(clock)
        self.tasks = Tasks(loop)
        self.options = options
        self.counters = WrtcCounters()
        self._stack_maker = stack_maker
        self._random_bytes = random_bytes
        self._attempts: set[_Attempt] = set()
        self._links: set[WrtcLink] = set()

    @property
    def attempt_count(self) -> int:
        """Links on their way."""
        return len(self._attempts)

    @property
    def link_count(self) -> int:
        """Open links."""
        return len(self._links)

    def attempt(
        self,
        is_initiator: bool,
        send_signal: Callable[[bytes], None],
        opened: LinkOpened,
        failed: Callable[[str], None],
    ) -> _Attempt:
        """See `IWrtcMaker`. With `MAX_ATTEMPTS` on their way it fails."""
        attempt = _Attempt(self, is_initiator, send_signal, opened, failed)
        self.counters.attempts += 1
        if len(self._attempts) < MAX_ATTEMPTS:
            self._attempts.add(attempt)
            attempt.begin()
        else:
            attempt.fail(f"{MAX_ATTEMPTS} attempts are on their way")
        return attempt

    def make_stack(self, owner: StackOwner, is_initiator: bool) -> Stack:
        """Called by an attempt that begins."""
        label = self._random_bytes(_LABEL_BYTES).hex() if is_initiator else ""
        return self._stack_maker(owner, label, self.options, self.counters, self.tasks)

    def attempt_ended(self, attempt: _Attempt) -> None:
        """Called by an attempt that is over."""
        self._attempts.discard(attempt)

    def link_of(self, stack: Stack, is_initiator: bool) -> WrtcLink:
        """Called by an attempt that succeeded."""
        link = WrtcLink(stack, is_initiator, self.options.stall_seconds, self.tasks, self.alarms, self._links.discard)
        stack.owner = link
        self._links.add(link)
        self.counters.links_opened += 1
        return link

    def stop(self) -> Deferred[None]:
        """Abort all links and cancel all attempts; fires when nothing of them is left in the loop."""
        for attempt in list(self._attempts):
            attempt.cancel()
        for link in list(self._links):
            link.abort()
        return Deferred.fromFuture(asyncio.ensure_future(self._stop()))

    async def _stop(self) -> None:
        await self.tasks.when_ended()
        self.alarms.stop()


def webrtc_missing(reactor: object) -> str | None:
    """Return what stands against WebRTC links in this process, for people, or None."""
    if not isinstance(reactor, AsyncioSelectorReactor):
        return "WebRTC needs the asyncio reactor: twistd --reactor=asyncio"
    try:
        import aiortc  # noqa: F401
    except ImportError as error:
        return f"WebRTC needs the extra webrtc: {error}"
    return None


def wrtc_maker(reactor: object, options: WrtcOptions, random_bytes: Callable[[int], bytes]) -> WrtcMaker | None:
    """Return what makes WebRTC links, or None; `webrtc_missing` says why."""
    if webrtc_missing(reactor) is not None:
        return None
    assert isinstance(reactor, AsyncioSelectorReactor)
    # Only with the extra.
    from meshrelay.transport.overlay_webrtc_stack import AiortcStack

    return WrtcMaker(reactor, reactor._asyncioEventloop, AiortcStack, options, random_bytes)
