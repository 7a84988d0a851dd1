"""Second channels to peers that are linked already: who waits to take the place of the first one. Pure.

Both ends may dial at once; a peer may come back while its old link is half dead; and anybody may come in the name of
somebody else. Which channel stays is decided in `meshrelay.overlay.switch`; here is who waits, and what has come from
those that have not proved who they are: it is kept, as they may do so in a moment.
"""

from __future__ import annotations

from collections.abc import Iterator

from meshrelay.overlay.channel import Channel
from meshrelay.wire.overlay import Envelope

__all__ = ["MAX_HELD", "MAX_HELD_BYTES", "MAX_RIVALS", "MAX_RIVALS_OF_PEER", "Rivals"]

#: Of one peer. When there is one more the oldest goes: who only keeps places cannot keep them from the peer itself,
#: that proves itself within one round trip.
MAX_RIVALS_OF_PEER = 4

#: Of all peers, likewise.
MAX_RIVALS = 100

#: Envelopes of one channel that wait for its proof, and bytes of them.
MAX_HELD = 64
MAX_HELD_BYTES = 256 * 1024


class _Held:
    """What one channel has brought."""

    __slots__ = ("envelopes", "size")

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self.size = 0


class Rivals:
    """See the module."""

    def __init__(self) -> None:
        #: In the order in which they came.
        self._held: dict[Channel, _Held] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Channel]:
        return iter(tuple(self._held))

    def __contains__(self, channel: Channel) -> bool:
        return channel in self._held

    @property
    def held_count(self) -> int:
        """Envelopes that wait for a proof."""
        return sum(len(held.envelopes) for held in self._held.values())

    def of(self, peer_id: bytes) -> list[Channel]:
        """Return those of one peer, the oldest first."""
        return [channel for channel in self._held if channel.peer_id == peer_id]

    def best(self, peer_id: bytes) -> Channel | None:
        """Return who follows when the first channel is lost: the newest that is proved, else the newest."""
        return max(reversed(self.of(peer_id)), key=lambda channel: channel.is_proved, default=None)

    def add(self, channel: Channel) -> Channel | None:
        """Let a channel wait.

        :returns: one that is to be closed for it.
        """
        same = self.of(channel.peer_id)
        oldest = None
        if len(same) >= MAX_RIVALS_OF_PEER:
            # One that is proved may be the one that the other end has chosen.
            oldest = min(same, key=lambda other: other.is_proved)
        elif len(self._held) >= MAX_RIVALS:
            oldest = next(iter(self._held))
        self._held[channel] = _Held()
        return oldest

    def remove(self, channel: Channel) -> list[Envelope]:
        """Let a channel wait no more, if it did.

        :returns: what it has brought.
        """
        held = self._held.pop(channel, None)
        return [] if held is None else held.envelopes

    def hold(self, channel: Channel, envelope: Envelope) -> bool:
        """Keep an envelope of a channel that waits. False: there is no room for it."""
        held = self._held[channel]
        size = len(envelope.body) + sum(map(len, envelope.extras.values()))
        if len(held.envelopes) >= MAX_HELD or held.size + size > MAX_HELD_BYTES:
            return False
        held.envelopes.append(envelope)
        held.size += size
        return True

    def take_held(self, channel: Channel) -> list[Envelope]:
        """Return what a channel that goes on waiting has brought, and keep it no more."""
        held = self._held[channel]
        self._held[channel] = _Held()
        return held.envelopes
