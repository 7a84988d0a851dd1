"""One sign-in of one user: what the rest of the house holds on to.

A session outlives its connection. While it has none ("away"), reliable pushes wait in its replay buffer. A session
whose client acknowledges keeps every push until it is acknowledged, so that nothing is lost with a connection.
"""

from __future__ import annotations

from dataclasses import replace

from zope.interface import implementer

from meshrelay.interfaces import IConnection, IDownlink, ISession
from meshrelay.model import User
from meshrelay.session.replay import ReplayBuffer
from meshrelay.wire.frame import encode_frame, encode_push, split_frames
from meshrelay.wire.prepared import Batch
from meshrelay.wire.session_node import Handover

__all__ = ["Session"]


@implementer(ISession)
class Session:
    """See `ISession`. Invariant: `connection` and `link` are None exactly while the session is away or over.

    :param acks: the client acknowledges pushes.
    """

    __slots__ = (
        "_base",
        "_has_gap",
        "_has_lapse",
        "_is_exact",
        "_left_at",
        "_replay",
        "_replay_limit_bytes",
        "connection",
        "has_acks",
        "is_over",
        "latency_seconds",
        "link",
        "since",
        "user",
    )

    def __init__(self, user: User, replay_limit_bytes: int, acks: bool) -> None:
        self.user = user
        self.connection: IConnection | None = None
        self.link: IDownlink | None = None
        self.latency_seconds: float | None = None
        #: When the session began on this node, in seconds of its clock; set by the registry.
        self.since = 0.0
        self.has_acks = acks
        self.is_over = False
        self._replay_limit_bytes = replay_limit_bytes
        self._replay = ReplayBuffer(replay_limit_bytes) if acks else None
        #: What was kept begins exactly where the client's count may be: the link or the client acknowledges.
        self._is_exact = acks
        #: Number of the first push that came while nobody was there.
        self._left_at = 0
        #: Pushes before those that the present link counts.
        self._base = 0
        #: A push was dropped on its way to the present link, and is in no count.
        self._has_gap = False
        #: The session was between two nodes, when what its groups published could not reach it.
        self._has_lapse = False

    @classmethod
    def adopted(cls, user: User, replay_limit_bytes: int, handover: Handover) -> Session:
        """Return a session that comes from another node and is away."""
        session = cls(user, replay_limit_bytes, False)
        replay = session._replay = ReplayBuffer(replay_limit_bytes, handover.first, handover.is_whole)
        for frame in split_frames(handover.frames):
            replay.append((frame, 1))
        session._is_exact = handover.is_exact
        session._left_at = handover.left_at
        # Nobody published to it from when it left its groups there until it enters them here.
        session._has_lapse = handover.has_lapse or bool(handover.groups)
        return session

    def __repr__(self) -> str:
        return f"<Session of {self.user.user_id!r}>"

    @property
    def is_attached(self) -> bool:
        """See `ISession`."""
        return self.link is not None

    @property
    def queued_bytes(self) -> int:
        """See `ISession`."""
        return self.link.queued_bytes if self.link is not None else 0

    @property
    def udp_address(self) -> tuple[str, int] | None:
        """See `ISession`."""
        return self.link.udp_address if self.link is not None else None

    def measure_latency(self) -> None:
        """See `ISession`."""
        if self.connection is not None:
            self.connection.measure_latency()

    @property
    def replay_bytes(self) -> int:
        """See `ISession`."""
        return self._replay.size_bytes if self._replay is not None else 0

    def attach(self, connection: IConnection) -> None:
        """Serve the session by `connection`."""
        self.connection = connection
        self.link = connection.link
        self.user = replace(self.user, transport=connection.link.transport_name)

    def let_go(self) -> None:
        """No connection serves the session any more; from now on reliable pushes are kept for a resume."""
        link, self.link, self.connection = self.link, None, None
        left = link.undelivered() if link is not None else None
        if left is not None:
            accepted, frames = left
            self._replay = ReplayBuffer(self._replay_limit_bytes, self._base + accepted - len(frames))
            self._is_exact = True
            for frame in frames:
                self._replay.append((frame, 1))
            self._left_at = self._replay.last
            if self._has_gap:
                self._replay.break_off()
        elif self._replay is None:
            self._replay = ReplayBuffer(self._replay_limit_bytes)
            self._is_exact = False
            self._left_at = 0
        elif link is not None:
            self._left_at = self._replay.last

    def hand_over(self) -> Handover:
        """Return what another node needs to go on with this session, after `let_go`."""
        replay = self._replay
        if replay is None or not replay.is_counted:
            # No count of the client is one of ours.
            return Handover(is_found=True, is_whole=False, has_lapse=self._has_lapse)
        return Handover(
            is_found=True,
            first=replay.first,
            left_at=self._left_at,
            is_exact=self._is_exact,
            is_whole=replay.is_whole,
            has_lapse=self._has_lapse,
            frames=b"".join(replay.frames()),
        )

    def resume(self, connection: IConnection, acks: bool, received: int | None) -> tuple[bool, list[bytes]]:
        """Go on with `connection`, after `let_go`.

        :param acks: the client acknowledges from now on.
        :param received: pushes it has received in this session, mod 2^32; None = it does not say.
        :returns: whether nothing is missing, and the frames to send before anything else.
        """
        replay = self._replay if self._replay is not None else ReplayBuffer(self._replay_limit_bytes)
        knows_its_count = connection.link.transport_name == "udp" or acks
        recovered = False
        if self._is_exact and knows_its_count:
            # A UDP client that does not say is sent all that it has not acknowledged, if all of it was kept.
            is_counted = received is not None or acks
            count = received or 0 if is_counted else replay.first
            is_there = replay.acknowledge(count) and (is_counted or replay.is_whole)
            recovered = is_there and not self._has_lapse
        else:
            # Only what came while nobody was there is known to be missing.
            is_there = replay.acknowledge(self._left_at) and replay.is_whole
        frames = replay.frames() if is_there else []
        self._base = replay.first if is_there else received or 0
        self.has_acks = self._is_exact = acks
        self._has_gap = self._has_lapse = False
        self._replay = None
        if acks:
            first = self._base if recovered else received or 0
            self._replay = ReplayBuffer(self._replay_limit_bytes, first)
            for frame in frames:
                self._replay.append((frame, 1))
        self.attach(connection)
        return recovered, frames

    def acknowledge(self, received: int) -> None:
        """Take an ACK; one that makes no sense, or that nobody asked for, is passed over."""
        if self._replay is not None and self.has_acks:
            self._replay.acknowledge(received)

    def pushes_dropped(self, count: int) -> None:
        """`count` frames were dropped on the way to this client."""
        if self._replay is not None:
            self._replay.break_off()
        else:
            self._has_gap = True

    def deliver(self, batch: Batch) -> None:
        """See `ISubscriber`."""
        link = self.link
        if self._replay is None:
            if link is not None:
                link.send_batch(batch)
        elif link is not None:
            self._replay.append(batch.entry)
            link.send_batch(batch)
        elif batch.reliable is not None:
            self._replay.append(batch.reliable.entry)

    def push(self, ver: int, cmd: int, payload: bytes, reliable: bool) -> None:
        """See `ISession`."""
        self.deliver(Batch([encode_push(ver, cmd, payload)], [reliable]))

    def reply(self, request_id: int, status: int, ver: int, cmd: int, payload: bytes) -> None:
        """See `ISession`."""
        if self.link is not None and request_id:
            self.link.send_frame(encode_frame(ver, status, cmd, request_id, payload))

    def reply_empty(self, request_ids: list[int], status: int, ver: int, cmd: int) -> None:
        """Answer many requests with an empty payload each; those of ID 0 are not answered."""
        link = self.link
        if link is None:
            return
        answers = [encode_frame(ver, status, cmd, request_id, b"") for request_id in request_ids if request_id]
        if link.transport_name == "udp":
            # A datagram holds only so much; its link packs what it is given.
            for answer in answers:
                link.send_frame(answer)
        elif answers:
            link.send_frame(b"".join(answers), len(answers))
