"""One P2P link at one end: messages and datagrams in, datagrams with their way, messages and changes out.

::

    send(frames) ------------+                                 +--> next_event(): PeerMessage, LinkChanged, LinkEnded
    receive_datagram(path) --+--> reliable machine, HolePunch -+--> packets_to_send(): datagram and path, None = relay
    deadline_passed() -------+                                 +--> next_deadline()

The reliable machine (`machine.reliability`) stands above the paths: all that is not acknowledged is sent again, so
nothing is lost when the path changes. Packets go by the relay from the first moment; by the direct path as soon as one
of full length went there and back (`machine.hole_punch`); by both while that path does not answer; and by the relay
alone when it is given up. Twice is once: the replay window drops the second copy of a packet.

Who opens the reliable stream is settled by the user IDs: the first one sends the SYN. Frames inside are whole; which
versions mean what is for the owner to decide.
"""

from __future__ import annotations

from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from meshrelay.errors import LocalProtocolError, PacketRejected, RemoteProtocolError, SessionClosed
from meshrelay.machine.hole_punch import HolePunch, RelayReason
from meshrelay.machine.peer_path import Path
from meshrelay.machine.reliability import (
    Closed,
    Finished,
    MessageReceived,
    PeerFinished,
    ReliabilityMachine,
    ReliabilityOptions,
    State,
)
from meshrelay.machine.unordered import EarlyMessages
from meshrelay.model import CloseReason
from meshrelay.wire.datagram import PacketKind
from meshrelay.wire.frame import HEADER_BYTES, Frame, whole_frames
from meshrelay.wire.link_commands import LinkState
from meshrelay.wire.peer_packet import PeerCodec, is_first, peer_sid
from meshrelay.wire.prepared import MAX_DATAGRAM_CONTENT, pack_frames
from meshrelay.wire.sync_bytes import SyncBytes

__all__ = [
    "MAX_UNFETCHED",
    "MAX_UNSENT",
    "LinkChanged",
    "LinkEnded",
    "PeerEvent",
    "PeerLink",
    "PeerLinkOptions",
    "PeerMessage",
    "PeerPacket",
]

#: Unreliable messages that wait to be sent; more are dropped.
MAX_UNSENT = 256

#: Unreliable messages that wait to be fetched; more are dropped.
MAX_UNFETCHED = 1024

#: Of the first SYN: the peer may get its sync bytes a moment later than we do.
_INITIAL_RTO_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class PeerLinkOptions:
    """Limits and choices of one end."""

    #: False: reliable messages are given out as they come, whole and once.
    is_ordered: bool = True
    #: Longest payload of a frame either way, in bytes.
    max_payload_bytes: int = 65536
    #: Of the reliable stream; None: as above.
    reliability: ReliabilityOptions | None = field(default=None)


class PeerPacket(NamedTuple):
    """A sealed packet and its way; `path` None: by the relay, in a LINK_FORWARD."""

    datagram: bytes
    path: Path | None


class PeerMessage(NamedTuple):
    """Whole frames of the peer."""

    frames: tuple[Frame, ...]
    is_reliable: bool


class LinkChanged(NamedTuple):
    """How the peer is reached from now on. DIRECT has a `path`, RELAYED a `reason`."""

    state: LinkState
    reason: RelayReason | None
    path: Path | None


class LinkEnded(NamedTuple):
    """The link is over: code 0 when both ends have finished, else a close code (the peer's or ours, 4001: silence)."""

    code: int
    text: str


PeerEvent = PeerMessage | LinkChanged | LinkEnded


class PeerLink:
    """See the module.

    :param sync: keys and members of the link group. A link must not be made twice from the same ones: packet numbers
        would be used again.
    :param first_sequence: random, 0 to 2^32 - 1.
    """

    def __init__(
        self,
        own_id: str,
        peer_id: str,
        sync: SyncBytes,
        punch: HolePunch,
        first_sequence: int,
        options: PeerLinkOptions | None = None,
    ) -> None:
        self.peer_id = peer_id
        #: Bytes 2 to 17 of the peer's packets: whose they are.
        self.peer_sid = peer_sid(peer_id)
        self._options = options = options or PeerLinkOptions()
        self._opens = is_first(own_id, peer_id)
        members = {own_id, peer_id, *(user.user_id for user in sync.users)}
        self._codec = PeerCodec(own_id, peer_id, sync.secret, members)
        self._punch = punch
        reliability = options.reliability or ReliabilityOptions(
            max_message_bytes=options.max_payload_bytes + HEADER_BYTES, initial_rto_seconds=_INITIAL_RTO_SECONDS
        )
        self._machine = ReliabilityMachine(self._opens, first_sequence, reliability)
        self._early = None if options.is_ordered else EarlyMessages()
        self._unsent: list[bytes] = []
        self._unreliable_waiting = 0
        # Reliable ones among them are bounded by the machine's window: its messages are fetched when this is empty.
        self._events: deque[PeerEvent] = deque()
        self._path: Path | None = None
        self._reason: RelayReason | None = None
        self._is_over = self._is_doubtful = False
        self._counts: Counter[str] = Counter()

    def start(self, now: float) -> None:
        """Begin; once.

        :raises LocalProtocolError: it has begun.
        """
        if self._opens:
            self._machine.connect(now)
        self._note_change()

    def send(self, frames: bytes, is_reliable: bool, now: float) -> None:
        """Send whole frames. Unreliable ones that no datagram holds go reliably; unreliable ones may be dropped.

        :raises LocalProtocolError: too long, or nothing.
        :raises SlowReceiver: the reliable stream has no room; the caller waits.
        :raises SessionClosed: the link is over, or was finished.
        """
        if self._is_over:
            raise SessionClosed("the link is over")
        if is_reliable or len(frames) > MAX_DATAGRAM_CONTENT:
            self._machine.send_message(frames)
        elif not frames:
            raise LocalProtocolError("a message without a frame")
        elif len(self._unsent) >= MAX_UNSENT:
            self._counts["unsent_dropped"] += 1
        else:
            self._unsent.append(frames)
        self._punch.data_moved(now)

    def finish(self) -> None:
        """Send no more after what is queued; `LinkEnded` with code 0 comes when the peer has finished, too."""
        self._machine.finish()

    def abort(self, reason: CloseReason) -> None:
        """End the link at once; the peer is told by an RST."""
        self._machine.abort(reason)

    def receive_datagram(self, datagram: bytes, path: Path | None, now: float) -> None:
        """Take what came for this link.

        :param path: where from, and by which socket; None: by the relay.
        :raises PacketRejected: it is dropped without an answer; counted by its reason.
        """
        try:
            kind, content, _ = self._codec.open(datagram)
            if kind is PacketKind.PROBE:
                self._punch.receive(content, path, now)
            elif kind is PacketKind.DATA:
                self._data_received(content)
                self._punch.data_moved(now)
            else:
                self._machine.receive_packet(kind, content, now)
                if kind is PacketKind.DAT:
                    self._dat_received(content)
                    self._punch.data_moved(now)
        except PacketRejected as error:
            self._counts[f"rejected_{error.reason}"] += 1
            raise
        self._counts["received_relayed" if path is None else "received_direct"] += 1

    def packets_to_send(self, now: float) -> list[PeerPacket]:
        """Return what is to be sent now, in this order."""
        seal = self._codec.seal
        probes = [] if self._is_over else self._punch.probes_to_send(now)
        packets = [PeerPacket(seal(PacketKind.PROBE, content), path) for path, content in probes]
        self._note_change()
        is_doubtful = self._punch.is_suspect(now)
        if is_doubtful and not self._is_doubtful:
            # What is on its way is likely lost: now it goes by the relay as well.
            self._machine.path_changed()
        self._is_doubtful = is_doubtful
        contents = self._machine.packets_to_send(now)
        contents += [(PacketKind.DATA, data) for data, _ in pack_frames(self._unsent, MAX_DATAGRAM_CONTENT)]
        self._unsent.clear()
        if any(kind is PacketKind.DAT for kind, _ in contents):
            self._punch.data_moved(now)
        path = self._path
        for kind, content in contents:
            datagram = seal(kind, content)
            packets.append(PeerPacket(datagram, path))
            if is_doubtful:
                packets.append(PeerPacket(datagram, None))
        self._count_sent(packets)
        return packets

    def next_deadline(self) -> float | None:
        """Return when `deadline_passed` is to be called; valid after `packets_to_send`."""
        times = [self._machine.next_deadline(), None if self._is_over else self._punch.deadline()]
        return min((time for time in times if time is not None), default=None)

    def deadline_passed(self, now: float) -> None:
        """Do what is due; `packets_to_send` comes next."""
        self._machine.deadline_passed(now)

    def next_event(self) -> PeerEvent | None:
        """Return the next event; None: there is none. Reliable messages that are not fetched slow the peer down."""
        while not self._events:
            event = self._machine.next_event()
            if event is None:
                return None
            if isinstance(event, MessageReceived):
                if self._early is None:
                    self._deliver(event.data)
            elif isinstance(event, PeerFinished):
                self._machine.finish()
            elif isinstance(event, Closed):
                self._end(event.code, event.text)
            elif isinstance(event, Finished):
                self._end(0, "both ends have finished")
        first = self._events.popleft()
        if isinstance(first, PeerMessage) and not first.is_reliable:
            self._unreliable_waiting -= 1
        return first

    @property
    def state(self) -> LinkState:
        """How the peer is reached."""
        if self._is_over:
            return LinkState.LOST
        return LinkState.RELAYED if self._path is None else LinkState.DIRECT

    @property
    def path(self) -> Path | None:
        """The direct path in use; None: the relay."""
        return self._path

    @property
    def reason(self) -> RelayReason | None:
        """Why the relay is in use; None: it is not."""
        return self._reason

    @property
    def round_trip_seconds(self) -> float | None:
        """Of the way in use; None: not known yet."""
        if self._path is not None:
            return self._punch.round_trip_seconds
        return self._machine.statistics()["srtt"] or None

    @property
    def is_connected(self) -> bool:
        """Whether the peer has answered by any way, and the link is not over."""
        return self._machine.state is State.OPEN

    @property
    def buffered_bytes(self) -> int:
        """Bytes of reliable messages that the peer has not acknowledged."""
        return self._machine.buffered_bytes

    def sockets_needed(self, now: float) -> frozenset[int]:
        """Return which sockets must stay open; 0 is the one that the node knows."""
        return frozenset((0,)) if self._is_over else self._punch.sockets_needed(now)

    def statistics(self) -> dict[str, float]:
        """Return counters and current values of the link, the reliable stream and the punch."""
        return {**self._machine.statistics(), **self._punch.statistics(), **self._counts}

    def _count_sent(self, packets: list[PeerPacket]) -> None:
        relayed = sum(path is None for _, path in packets)
        self._counts["sent_relayed"] += relayed
        self._counts["sent_direct"] += len(packets) - relayed

    def _note_change(self) -> None:
        if self._is_over:
            return
        path, reason = self._punch.path, self._punch.reason
        if (path, reason) == (self._path, self._reason):
            return
        self._path, self._reason = path, reason
        self._events.append(LinkChanged(self.state, reason, path))

    def _end(self, code: int, text: str) -> None:
        self._is_over = True
        self._unsent.clear()
        self._events.append(LinkEnded(code, text))

    def _data_received(self, content: bytes) -> None:
        try:
            frames = tuple(whole_frames(content, self._options.max_payload_bytes))
        except RemoteProtocolError:
            raise PacketRejected("bad_frames") from None
        if self._unreliable_waiting >= MAX_UNFETCHED:
            self._counts["unfetched_dropped"] += 1
        elif frames:
            self._unreliable_waiting += 1
            self._events.append(PeerMessage(frames, False))

    def _dat_received(self, content: bytes) -> None:
        if self._early is None:
            return
        with suppress(PacketRejected):
            data = self._early.receive(content)
            if data is not None:
                self._deliver(data)

    def _deliver(self, data: bytes) -> None:
        try:
            frames = tuple(whole_frames(data, self._options.max_payload_bytes))
        except RemoteProtocolError as error:
            self._machine.abort(error.close_reason)
            return
        self._events.append(PeerMessage(frames, True))
