"""All channels of a peer: envelopes come in, go where the router says, and what is for this peer is handed over. Pure.

::

    Channel --> greeted: one channel for each peer --> opened
    Channel --> envelope --> Router --> the next channels
                                  `---> for this peer: SwitchReceiver

There is one channel to each peer, as npm's package closes links by ID. A second one is closed before it has heard our
hello. Meshrelay peers can prove who they are, and a second channel to one of them, a rival, is decided upon:

===================  =================================================================================================
the first channel    when a rival proves that it ends at the peer
===================  =================================================================================================
does not say that    it is closed, the rival takes its place
it is meshrelay
has proved nothing   they change places; it may still prove itself
has proved itself    it is asked again. If it answers, the end with the lower ID closes the rival, and that end alone:
                     so both agree when both have dialled. If it does not, it is dead, and the rival takes its place
===================  =================================================================================================

What has proved itself and is alive is thus displaced by nobody, not even by who passes on the proof of another. A proof
says that the peer is there and hears this one; it does not say that nobody in between carries what both say.

Source: npm peer-relay 0.0.2.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Protocol

from twisted.internet.defer import Deferred

from meshrelay.overlay.channel import Channel, LinkEnd
from meshrelay.overlay.counters import OverlayCounters
from meshrelay.overlay.links import LinkTable
from meshrelay.overlay.options import PeerOptions
from meshrelay.overlay.rivals import Rivals
from meshrelay.overlay.router import AGAIN_KEY, Router
from meshrelay.wire.overlay import DataType, Envelope, encode_frame

__all__ = ["PROBE_SECONDS", "PROOF_SECONDS", "SPARE_SECONDS", "Switch", "SwitchReceiver"]

#: Proof must have come by then from those that say they are meshrelay.
PROOF_SECONDS = 10.0

#: A first channel that does not answer for so long, while a rival has proved itself, is dead.
PROBE_SECONDS = 3.0

#: A rival that has proved itself and was not chosen by then is closed by either end; the one with the lower ID should
#: have done so long ago.
SPARE_SECONDS = 30.0


class SwitchReceiver(Protocol):
    """What a switch tells."""

    def channel_opened(self, channel: Channel, now: float) -> None:
        """A channel has heard both hellos; it may be a rival."""

    def peer_linked(self, channel: Channel, now: float) -> None:
        """There is a channel to a peer that there was none to."""

    def peer_moved(self, channel: Channel, now: float) -> None:
        """Another channel is the one to its peer now."""

    def peer_doubted(self, channel: Channel, now: float) -> None:
        """The channel is to be asked whether its other end is still there; `Switch.alive` is to follow."""

    def channel_asked(self, channel: Channel, now: float) -> None:
        """The other end has asked for peers: it has this peer in its table."""

    def channel_closed(self, channel: Channel, now: float, *, is_peer_lost: bool) -> None:
        """A channel is no more, or never came to be open; `channel.end` says why.

        :param is_peer_lost: it was the one to its peer, and there is no other.
        """

    def envelope_came(self, channel: Channel, envelope: Envelope, now: float) -> None:
        """An envelope for this peer."""

    def own_link_message_came(self, channel: Channel, envelope: Envelope, now: float) -> None:
        """What two linked meshrelay peers say to each other, from the other end of `channel`."""


class Switch:
    """See the module. Implements `meshrelay.overlay.channel.ChannelOwner`.

    :param seconds: the clock.
    """

    def __init__(
        self,
        own_id: bytes,
        router: Router,
        links: LinkTable,
        options: PeerOptions,
        counters: OverlayCounters,
        rng: Random,
        seconds: Callable[[], float],
    ) -> None:
        self.receiver: SwitchReceiver
        #: The channel to each peer, open or about to be.
        self.channels: dict[bytes, Channel] = {}
        self._rivals = Rivals()
        #: Channels whose other end has not said who it is.
        self._greeting: set[Channel] = set()
        #: Channels that are closed while their transports are not gone yet.
        self._leaving: set[Channel] = set()
        self._all_gone: Deferred[None] | None = None
        self._own_id = own_id
        self._router = router
        self._links = links
        self._options = options
        self._counters = counters
        self._rng = rng
        self._seconds = seconds

    @property
    def is_full(self) -> bool:
        """No more links are taken."""
        return len(self.channels) + len(self._greeting) + len(self._rivals) >= self._options.max_links

    def statistics(self) -> dict[str, int]:
        """Return the sizes of all that others can make grow."""
        return {
            "links": len(self.channels),
            "links_greeting": len(self._greeting),
            "links_rival": len(self._rivals),
            "links_leaving": len(self._leaving),
            "envelopes_held": self._rivals.held_count,
        }

    # Channels begin.

    def begin(self, channel: Channel) -> bool:
        """Take a new channel.

        :returns: False: it is closed already, and its link is to be aborted.
        """
        self._greeting.add(channel)
        channel.begin()
        if channel.end is not None:
            # Its link was never started, and so never tells that it is gone.
            self.link_gone(channel)
        return channel.end is None

    def greeted(self, channel: Channel, now: float) -> bool:
        """See `ChannelOwner`."""
        self._greeting.discard(channel)
        peer_id = channel.peer_id
        end: LinkEnd | None = None
        if peer_id == self._own_id:
            end = LinkEnd.OWN_ID
        elif not (channel.is_ours or self._options.accepts_unsigned):
            end = LinkEnd.UNPROVED
        elif peer_id in self.channels or not self._options.accepts_unsigned:
            if channel.is_ours:
                self._wait(channel)
            else:
                end = LinkEnd.DUPLICATE
        else:
            # Not before the channel has said its own hello, which it does when this returns.
            self.channels[peer_id] = channel
        if end is not None:
            channel.close(end)
        return end is None

    def _wait(self, channel: Channel) -> None:
        oldest = self._rivals.add(channel)
        if oldest is not None:
            oldest.close(LinkEnd.DUPLICATE)

    def opened(self, channel: Channel, now: float) -> None:
        """See `ChannelOwner`."""
        self.receiver.channel_opened(channel, now)
        if self.channels.get(channel.peer_id) is channel:
            self._settled(channel)
            self.receiver.peer_linked(channel, now)

    def _settled(self, channel: Channel) -> None:
        """Put the channel that is the one to its peer from now on into the tables."""
        peer_id = channel.peer_id
        # Whatever was known of the one that was there under this ID is not known of this one.
        self._links.remove(peer_id)
        self._router.link_lost(peer_id)
        self._links.add(peer_id, is_own=channel.is_ours, now=self._seconds())
        if channel.is_proved:
            self._links.mark_proved(peer_id)
        if channel.link.has_origin or channel.link.transport_name == "wrtc":
            self._links.mark_wrtc(peer_id)
        self._counters.links_opened += 1

    # Rivals.

    def proved(self, channel: Channel, now: float) -> None:
        """The other end of `channel` is the peer that it said, and of our kind. Called once for each channel."""
        channel.is_proved = True
        peer_id = channel.peer_id
        first = self.channels.get(peer_id)
        if first is channel:
            self._links.remove(peer_id)
            self._links.add(peer_id, is_own=True, now=now)
            self._links.mark_proved(peer_id)
        elif first is not None and first.is_proved:
            self._hand_over(channel, self._rivals.take_held(channel), now)
            if first.probed_at is None:
                first.probed_at = now
                self.receiver.peer_doubted(first, now)
        else:
            self._displace(first, channel, now)

    def _displace(self, first: Channel | None, channel: Channel, now: float) -> None:
        held = self._rivals.remove(channel)
        self.channels[channel.peer_id] = channel
        if first is not None and first.is_ours:
            self._wait(first)
        elif first is not None:
            first.close(LinkEnd.DUPLICATE)
        self._settled(channel)
        if first is None:
            self.receiver.peer_linked(channel, now)
        else:
            self.receiver.peer_moved(channel, now)
        self._hand_over(channel, held, now)

    def alive(self, channel: Channel) -> None:
        """A channel that had proved itself has answered once more."""
        channel.probed_at = None
        if self.channels.get(channel.peer_id) is channel and self._own_id < channel.peer_id:
            for rival in self._rivals.of(channel.peer_id):
                if rival.is_proved:
                    rival.close(LinkEnd.DUPLICATE)

    def _hand_over(self, channel: Channel, held: list[Envelope], now: float) -> None:
        for envelope in held:
            if channel.end is None:
                self.envelope_received(channel, envelope, now)

    def check(self, now: float) -> None:
        """Look at the deadlines of all channels."""
        for channel in tuple(self._greeting):
            channel.check(now)
        for channel in self._rivals:
            if channel.is_proved:
                if now - channel.since >= SPARE_SECONDS:
                    channel.close(LinkEnd.DUPLICATE)
            elif now - channel.since >= PROOF_SECONDS:
                channel.close(LinkEnd.UNPROVED)
        for channel in tuple(self.channels.values()):
            if channel.is_ours and not channel.is_proved and now - channel.since >= PROOF_SECONDS:
                channel.close(LinkEnd.UNPROVED)
            elif channel.probed_at is not None and now - channel.probed_at >= PROBE_SECONDS:
                self._not_alive(channel)

    def _not_alive(self, channel: Channel) -> None:
        if any(rival.is_proved for rival in self._rivals.of(channel.peer_id)):
            channel.abort(LinkEnd.DEAD)
        else:
            channel.probed_at = None

    # Channels end.

    def leave(self, peer_id: bytes) -> bool:
        """Close all channels to a peer. False: there is none."""
        channel = self.channels.get(peer_id)
        if channel is None:
            return False
        for rival in self._rivals.of(peer_id):
            rival.close(LinkEnd.LEFT)
        channel.close(LinkEnd.LEFT)
        return True

    def close(self) -> Deferred[None]:
        """Close all channels.

        :returns: fires when their transports are gone. Called once.
        """
        gone = self._all_gone = Deferred()
        for channel in (*self._greeting, *self._rivals, *self.channels.values()):
            channel.close(LinkEnd.LEFT)
        self._look_for_end()
        return gone

    def _look_for_end(self) -> None:
        if self._all_gone is not None and not self._leaving and not self._all_gone.called:
            self._all_gone.callback(None)

    def channel_lost(self, channel: Channel, now: float) -> None:
        """See `ChannelOwner`."""
        self._greeting.discard(channel)
        self._counters.dropped["not_proved"] += len(self._rivals.remove(channel))
        self._leaving.add(channel)
        peer_id = channel.peer_id
        if not peer_id or self.channels.get(peer_id) is not channel:
            self.receiver.channel_closed(channel, now, is_peer_lost=False)
            return
        next_one = self._rivals.best(peer_id)
        if next_one is None or not (next_one.is_proved or self._options.accepts_unsigned):
            del self.channels[peer_id]
            self._links.remove(peer_id)
            self._router.link_lost(peer_id)
            self.receiver.channel_closed(channel, now, is_peer_lost=True)
            return
        held = self._rivals.remove(next_one)
        self.channels[peer_id] = next_one
        if not (channel.is_proved and next_one.is_proved):
            # Else it is the same peer for sure, and what it has said holds.
            self._settled(next_one)
        self.receiver.channel_closed(channel, now, is_peer_lost=False)
        self.receiver.peer_moved(next_one, now)
        self._hand_over(next_one, held, now)

    def link_gone(self, channel: Channel) -> None:
        """See `ChannelOwner`."""
        self._leaving.discard(channel)
        self._look_for_end()

    # What is looked for.

    def any_channel(self) -> Channel | None:
        """Return an open channel, each as likely as the others; None: there is none."""
        peer_id = self._links.random_link(self._rng)
        return None if peer_id is None else self.channels[peer_id]

    @property
    def proved_count(self) -> int:
        """Peers that have proved who they are, of those that are linked."""
        return sum(channel.is_proved for channel in self.channels.values())

    def deaf_channels(self, before: float) -> list[Channel]:
        """Channels that this end dialled before then, to peers of npm's package that have not asked for peers."""
        return [
            channel
            for channel in self.channels.values()
            if channel.link.is_outgoing and channel.since <= before and not (channel.has_asked or channel.is_ours)
        ]

    # Envelopes.

    def envelope_received(self, channel: Channel, envelope: Envelope, now: float) -> None:
        """See `ChannelOwner`."""
        if envelope.type == DataType.HOLDINGS:
            if envelope.sender == channel.peer_id and envelope.to == self._own_id:
                self.receiver.own_link_message_came(channel, envelope, now)
            else:
                self._counters.dropped["not_from_neighbour"] += 1
            return
        if channel in self._rivals and not channel.is_proved:
            if not self._rivals.hold(channel, envelope):
                self._counters.dropped["not_proved"] += 1
            return
        if envelope.type == DataType.FIND_PEERS and envelope.sender == channel.peer_id and not channel.has_asked:
            channel.has_asked = True
            self.receiver.channel_asked(channel, now)
        verdict = self._router.received(envelope, channel.peer_id, now)
        if verdict.dropped is not None:
            self._counters.dropped[verdict.dropped.value] += 1
        if verdict.hops and self._send(envelope, verdict.hops):
            self._counters.messages_relayed += 1
        if verdict.is_for_us:
            self.receiver.envelope_came(channel, envelope, now)

    def post(self, envelope: Envelope, avoid: frozenset[bytes] = frozenset()) -> tuple[bytes, ...]:
        """Send an envelope of this peer on its way.

        :param avoid: peers that it should not go by, if there is another way.
        :returns: the neighbours that it went to; none: there is no way, or all of them take no more.
        """
        hops = self._router.originate(envelope.to, self._seconds(), avoid)
        # Of a peer that may be one of npm's package silence says nothing: no way to it is worse for that.
        if avoid and envelope.type == DataType.SEALED:
            envelope = envelope._replace(extras={**envelope.extras, AGAIN_KEY: b"true"})
        return self._send(envelope, hops) if hops else ()

    def tell(self, channel: Channel, envelope: Envelope) -> bool:
        """Send an envelope to the other end of `channel`, and nowhere else."""
        return channel.send(encode_frame(envelope, self._own_id))

    def _send(self, envelope: Envelope, hops: tuple[bytes, ...]) -> tuple[bytes, ...]:
        frame = encode_frame(envelope, self._own_id)
        channels = self.channels
        return tuple(hop for hop in hops if (channel := channels.get(hop)) is not None and channel.send(frame))
