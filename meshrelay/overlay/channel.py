"""One link on its way to being a channel, and its limits: who speaks first, what is too much, what is wrong. Pure.

============  ===================================================================================
state         what it waits for
============  ===================================================================================
GREETING      the hello of the other end; a WebRTC link has none and is OPEN at once
OPEN          frames; each is an envelope
CLOSED        nothing
============  ===================================================================================

Whoever dials waits for the other's hello before it says its own: a second link to a peer can then be closed before the
other end knows of it, which with npm's package would cost both (it closes links by ID). As the one who was dialled we
wait as well, for all that npm's package does is speak at once; only to a dialler of our own kind do we speak first.
Who has waited for a second speaks anyway.

A link may bring so many frames and bytes in a second, and so many requests: envelopes that cost this peer an answer.

Source: npm peer-relay 0.0.2.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, unique
from typing import Protocol

from meshrelay.machine.token_bucket import TokenBucket
from meshrelay.overlay.counters import OverlayCounters
from meshrelay.overlay.interfaces import IOverlayLink
from meshrelay.overlay.options import PeerOptions
from meshrelay.wire.overlay import BadFrame, Envelope, decode_frame, decode_hello, encode_hello

__all__ = [
    "BAD_FRAMES",
    "HELLO_SECONDS",
    "PATIENCE_SECONDS",
    "REQUESTS_PER_SECOND",
    "REQUEST_BURST",
    "Channel",
    "ChannelOwner",
    "LinkEnd",
]

#: Bad frames of one link; the last of them ends it.
BAD_FRAMES = 16

#: The other end's hello must have come by then.
HELLO_SECONDS = 5.0

#: Then the own hello is said, whoever should have been first.
PATIENCE_SECONDS = 1.0

#: Offers, challenges and findPeers of one link, whoever sent them; a signature of ours is the dearest answer.
REQUESTS_PER_SECOND = 100.0
REQUEST_BURST = 500.0


@unique
class LinkEnd(Enum):
    """Why a link ended; the value is a metric label."""

    #: The peer itself, or whoever uses it.
    LEFT = "left"
    #: The transport went.
    LOST = "lost"
    HELLO_TIMEOUT = "hello_timeout"
    BAD_FRAMES = "bad_frames"
    #: The other end is linked already.
    DUPLICATE = "duplicate"
    #: It did not answer, while another link to the same peer did.
    DEAD = "dead"
    #: The other end has this peer's own ID.
    OWN_ID = "own_id"
    #: A peer of npm's package that has no room for us in its table, and will send nothing.
    DEAF = "deaf"
    #: It has proved itself, but what goes over it is not acknowledged: somebody is in between, or something is broken.
    SWALLOWS = "swallows"
    #: The other end did not prove its ID, where that is asked for.
    UNPROVED = "unproved"
    #: There are as many links as there may be.
    FULL = "full"


class ChannelOwner(Protocol):
    """What a channel tells; `meshrelay.overlay.switch.Switch` is one."""

    def greeted(self, channel: Channel, now: float) -> bool:
        """The other end said who it is. False: the channel was closed."""

    def opened(self, channel: Channel, now: float) -> None:
        """Both ends have said who they are, as far as they do; envelopes can be sent."""

    def envelope_received(self, channel: Channel, envelope: Envelope, now: float) -> None:
        """An envelope came on an open channel."""

    def channel_lost(self, channel: Channel, now: float) -> None:
        """The channel is closed, however; called once."""

    def link_gone(self, channel: Channel) -> None:
        """The transport of a channel is gone; called once, after `channel_lost`."""


class Channel:
    """See the module. Implements `meshrelay.overlay.interfaces.ILinkReceiver`.

    :param own_id: ID of this peer.
    :param peer_id: who is at the other end, where that is known without a hello.
    :param seconds: the clock.
    """

    __slots__ = (
        "_bad_frames",
        "_bytes",
        "_counters",
        "_frames",
        "_has_spoken",
        "_is_open",
        "_own_id",
        "_owner",
        "_requests",
        "_seconds",
        "challenge",
        "end",
        "expected_id",
        "failing_since",
        "frames_received",
        "frames_sent",
        "has_asked",
        "is_ours",
        "is_proved",
        "link",
        "peer_id",
        "probed_at",
        "received_bytes",
        "sent_bytes",
        "since",
        "url",
    )

    def __init__(
        self,
        link: IOverlayLink,
        own_id: bytes,
        owner: ChannelOwner,
        options: PeerOptions,
        counters: OverlayCounters,
        seconds: Callable[[], float],
        peer_id: bytes = b"",
    ) -> None:
        self.link = link
        self._own_id = own_id
        self._owner = owner
        self._counters = counters
        self._seconds = seconds
        now = self.since = seconds()
        #: b"" until the hello has come.
        self.peer_id = peer_id
        #: What was dialled, or "".
        self.url = ""
        #: Who should be there, or b"".
        self.expected_id = b""
        #: The other end is meshrelay, as it says or as is known of its ID: it can prove that the ID is its own, ...
        self.is_ours = bool(link.is_own)
        #: ... and has done so.
        self.is_proved = False
        #: What the other end was asked to sign; b"": nothing yet.
        self.challenge = b""
        #: When it was asked whether it is still there; None: it was not, or has answered.
        self.probed_at: float | None = None
        #: Since when messages for the other end itself are not acknowledged; None: they are.
        self.failing_since: float | None = None
        #: The other end sent findPeers: it has this peer in its table.
        self.has_asked = False
        #: None: not closed.
        self.end: LinkEnd | None = None
        self.frames_received = 0
        self.frames_sent = 0
        self.received_bytes = 0
        self.sent_bytes = 0
        self._has_spoken = False
        self._is_open = False
        self._bad_frames = 0
        self._frames = TokenBucket(options.link_frames_per_second, 2 * options.link_frames_per_second, now)
        self._bytes = TokenBucket(options.link_bytes_per_second, 2 * options.link_bytes_per_second, now)
        self._requests = TokenBucket(REQUESTS_PER_SECOND, REQUEST_BURST, now)

    @property
    def is_open(self) -> bool:
        """Hellos were exchanged, and it is not closed."""
        return self._is_open

    def begin(self) -> None:
        """WebRTC links are open at once; the dialler of our kind is told who this is."""
        if self.peer_id:
            self._greeted()
        elif self.link.is_own and not self.link.is_outgoing:
            self.speak()

    def speak(self) -> None:
        """Say the own hello, once."""
        if not self._has_spoken and self.end is None:
            self._has_spoken = True
            self._send(encode_hello(self._own_id))

    def frame_received(self, frame: bytes) -> None:
        """See `ILinkReceiver`."""
        if self.end is not None:
            return
        now = self._seconds()
        self.frames_received += 1
        self.received_bytes += len(frame)
        counters = self._counters
        counters.frames_received += 1
        counters.received_bytes += len(frame)
        if not self._frames.take_all(1, now) or not self._bytes.take_all(len(frame), now):
            counters.dropped["link_too_fast"] += 1
        elif not self.peer_id:
            self._hello_received(frame)
        else:
            self._envelope_received(frame, now)

    def _hello_received(self, frame: bytes) -> None:
        try:
            self.peer_id = decode_hello(frame)
        except BadFrame as error:
            self._bad_frame(error)
        else:
            self._greeted()

    def _envelope_received(self, frame: bytes, now: float) -> None:
        try:
            envelope = decode_frame(frame)
        except BadFrame as error:
            self._bad_frame(error)
            return
        if self._is_open:
            self._owner.envelope_received(self, envelope, now)
        else:
            self._counters.dropped["not_open"] += 1

    def takes_request(self, now: float) -> bool:
        """Count an envelope of this link that asks for an answer. False: it is one too many, to be dropped."""
        if self._requests.take_all(1, now):
            return True
        self._counters.dropped["too_many_requests"] += 1
        return False

    def _greeted(self) -> None:
        now = self._seconds()
        if self._owner.greeted(self, now):
            if self.link.transport_name == "ws":
                self.speak()
            if self.end is None:
                self._is_open = True
                self._owner.opened(self, now)

    def _bad_frame(self, error: BadFrame) -> None:
        self._counters.bad_frames[error.reason] += 1
        self._bad_frames += 1
        # Who cannot say its name is not worth a second try.
        if self._bad_frames >= BAD_FRAMES or not self.peer_id:
            self.close(LinkEnd.BAD_FRAMES)

    def send(self, frame: bytes) -> bool:
        """Send an envelope. False: dropped, and counted."""
        if not self._is_open:
            return False
        if len(frame) > self.link.max_frame_bytes:
            self._counters.dropped["too_large_for_link"] += 1
            return False
        return self._send(frame)

    def _send(self, frame: bytes) -> bool:
        if not self.link.send(frame):
            self._counters.dropped["link_too_slow"] += 1
            return False
        size = len(frame)
        self.frames_sent += 1
        self.sent_bytes += size
        counters = self._counters
        counters.frames_sent += 1
        counters.sent_bytes += size
        return True

    def check(self, now: float) -> None:
        """Look at the deadlines; called about once a second."""
        if self.end is not None:
            return
        age = now - self.since
        if not self.peer_id:
            if age >= HELLO_SECONDS:
                self.abort(LinkEnd.HELLO_TIMEOUT)
            elif age >= PATIENCE_SECONDS:
                self.speak()

    def close(self, end: LinkEnd) -> None:
        """Send what waits, and close."""
        if self._ended(end):
            self.link.close()

    def abort(self, end: LinkEnd) -> None:
        """Close at once."""
        if self._ended(end):
            self.link.abort()

    def link_lost(self, why: str) -> None:
        """See `ILinkReceiver`."""
        self._ended(LinkEnd.LOST)
        self._owner.link_gone(self)

    def _ended(self, end: LinkEnd) -> bool:
        if self.end is not None:
            return False
        self.end = end
        self._is_open = False
        self._counters.links_closed[end.value] += 1
        self._owner.channel_lost(self, self._seconds())
        return True
