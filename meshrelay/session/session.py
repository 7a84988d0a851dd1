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
from meshrelay.wire.frame import encode_frame, encode_push
from meshrelay.wire.prepared import Batch

__all__ = ["Session"]


@implementer(ISession)
class Session:
    """See `ISession`. Invariant: `connection` and `link` are None exactly while the session is away or over.

    :param acks: the client acknowledges pushes.
    """

    __slots__ = ("_replay", "_replay_limit_bytes", "connection", "has_acks", "latency_seconds", "link", "user")

    def __init__(self, user: User, replay_limit_bytes: int, acks: bool) -> None:
        self.user = user
        self.connection: IConnection | None = None
        self.link: IDownlink | None = None
        self.latency_seconds: float | None = None
        self.has_acks = acks
        self._replay_limit_bytes = replay_limit_bytes
        self._replay = ReplayBuffer(replay_limit_bytes) if acks else None

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
    def replay_bytes(self) -> int:
        """See `ISession`."""
        return self._replay.size_bytes if self._replay is not None else 0

    def attach(self, connection: IConnection) -> None:
        """Serve the session by `connection`."""
        self.connection = connection
        self.link = connection.link
        self.user = replace(self.user, transport=connection.link.transport_name)

    def let_go(self) -> None:
        """No connection serves the session any more."""
        self.connection = None
        self.link = None

    def detach(self) -> None:
        """The connection is gone, the session stays for a resume."""
        self.let_go()
        if self._replay is None:
            self._replay = ReplayBuffer(self._replay_limit_bytes)

    def resume(self, connection: IConnection, acks: bool, received: int) -> tuple[bool, list[bytes]]:
        """Go on with `connection`.

        :param acks: the client acknowledges from now on.
        :param received: pushes it has received in this session, mod 2^32.
        :returns: whether nothing is missing, and the frames to send before anything else.
        """
        replay = self._replay
        recovered = False
        frames: list[bytes] = []
        if acks and self.has_acks and replay is not None:
            recovered = replay.acknowledge(received)
            if recovered:
                frames = replay.frames()
            else:
                self._replay = ReplayBuffer(self._replay_limit_bytes, received)
        else:
            # Without counts on both sides of the break, only what came while nobody was there is known to be missing.
            if replay is not None and not self.has_acks and replay.is_whole:
                frames = replay.frames()
            self._replay = ReplayBuffer(self._replay_limit_bytes, received) if acks else None
            if self._replay is not None:
                for frame in frames:
                    self._replay.append(frame, 1)
        self.has_acks = acks
        self.attach(connection)
        return recovered, frames

    def acknowledge(self, received: int) -> None:
        """Take an ACK; one that makes no sense, or that nobody asked for, is passed over."""
        if self._replay is not None and self.has_acks:
            self._replay.acknowledge(received)

    def pushes_dropped(self, count: int) -> None:
        """A policy dropped `count` frames on the way to this client."""
        if self._replay is not None:
            self._replay.break_off()

    def deliver(self, batch: Batch) -> None:
        """See `ISubscriber`."""
        link = self.link
        if self._replay is None:
            if link is not None:
                link.send_batch(batch)
        elif link is not None:
            self._replay.append(batch.stream, batch.count)
            link.send_batch(batch)
        elif batch.reliable is not None:
            self._replay.append(batch.reliable.stream, batch.reliable.count)

    def push(self, ver: int, cmd: int, payload: bytes, reliable: bool) -> None:
        """See `ISession`."""
        self.deliver(Batch([encode_push(ver, cmd, payload)], [reliable]))

    def reply(self, request_id: int, status: int, ver: int, cmd: int, payload: bytes) -> None:
        """See `ISession`."""
        if self.link is not None and request_id:
            self.link.send_frame(encode_frame(ver, status, cmd, request_id, payload))
