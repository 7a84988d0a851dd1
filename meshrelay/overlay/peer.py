"""One peer of the overlay, all of it together and without its sockets.

::

    links --> Switch --> Neighbourhood     who is linked, and how it comes to be
                 |  `--> OwnLinks          what linked meshrelay peers tell each other
                 `-----> Deliveries        messages of the user, there and back

Source: npm peer-relay 0.0.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger

from meshrelay.background import Alarm
from meshrelay.overlay.channel import Channel, LinkEnd
from meshrelay.overlay.control import ControlMessages
from meshrelay.overlay.conversations import Outcome
from meshrelay.overlay.counters import OverlayCounters
from meshrelay.overlay.deliveries import Deliveries, Message, Received
from meshrelay.overlay.errors import NotDelivered, NotLinked, OverlayError, PeerDestroyed, UnusableData
from meshrelay.overlay.identity import Identity
from meshrelay.overlay.interfaces import ILinkReceiver, IOverlayLink
from meshrelay.overlay.links import LinkTable
from meshrelay.overlay.neighbourhood import Neighbourhood
from meshrelay.overlay.offers import Surroundings
from meshrelay.overlay.options import PeerOptions
from meshrelay.overlay.own_links import OwnLinks
from meshrelay.overlay.router import Router
from meshrelay.overlay.switch import Switch
from meshrelay.overlay.table import RoutingTable
from meshrelay.overlay.traces import Trace, Traces
from meshrelay.wire.overlay import ID_BYTES, DataType, Envelope, decode_value, encode_value

__all__ = [
    "CHECK_SECONDS",
    "CONNECT_SECONDS",
    "HOLDINGS_SECONDS",
    "SWALLOW_SECONDS",
    "OverlayPeer",
    "PeerMessage",
]

#: A link that was asked for must be there by then.
CONNECT_SECONDS = 30.0

#: Whom a peer is linked with it tells its neighbours no more often: while an overlay comes to be, that changes all the
#: time for everybody.
HOLDINGS_SECONDS = 0.2

#: Deadlines are looked at this often.
CHECK_SECONDS = 1.0


#: A proved link over which its peer acknowledges nothing for so long, while messages go there, is closed.
SWALLOW_SECONDS = 10.0


class PeerMessage(NamedTuple):
    """A message of another peer's user."""

    sender: bytes
    #: What JSON has: None, bool, int, float, str, list, dict.
    data: Any
    #: The sender has proved that the ID is its own. False: it says so, as JavaScript peers do.
    is_verified: bool


class OverlayPeer:
    """See the module.

    :param random_bytes: like `secrets.token_bytes`.
    """

    _log = Logger()

    def __init__(
        self,
        identity: Identity,
        options: PeerOptions,
        surroundings: Surroundings,
        rng: Random,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self.peer_id = identity.peer_id
        self.options = options
        self.counters = OverlayCounters()
        self._alarms = alarms = surroundings.alarms
        self._links = LinkTable()
        self._router = Router(self.peer_id, self._links, rng)
        self._table = RoutingTable(self.peer_id)
        self._switch = Switch(self.peer_id, self._router, self._links, options, self.counters, rng, alarms.now)
        self._switch.receiver = self
        control = ControlMessages(identity, rng, self._has_key, self._key_learned)
        self._neighbourhood = Neighbourhood(
            self.peer_id, self._switch, self._table, control, surroundings, options, rng.uniform, self.counters
        )
        self.counters.handshakes = self._neighbourhood.handshakes.counts
        self._deliveries = Deliveries(
            identity,
            self._switch.post,
            self._deliver,
            random_bytes,
            accepts_unsigned=options.accepts_unsigned,
            worked=self._router.worked,
            failed=self._way_failed,
        )
        self.counters.deliveries = self._deliveries.counters
        self._own_links = OwnLinks(
            self._switch,
            self._links,
            control,
            random_bytes,
            self._plan_flush,
            self._neighbourhood.kin_named,
            self.counters,
        )
        self._traces = Traces(self.peer_id, control, self._switch.post, alarms)
        self._message_callbacks: list[Callable[[PeerMessage], object]] = []
        self._peer_callbacks: list[Callable[[bytes], object]] = []
        #: Who waits for a link, and until when.
        self._waiting: dict[bytes, list[tuple[Deferred[None], Alarm]]] = {}
        self._check_alarm: Alarm | None = None
        self._flush_alarm: Alarm | None = None
        self._deliveries_alarm: Alarm | None = None
        self._deliveries_at = 0.0
        self._is_over = False

    # What users of a peer do.

    def start(self) -> None:
        """Dial the bootstraps, and look after links from now on."""
        self._check()

    def accept(self, link: IOverlayLink) -> ILinkReceiver | None:
        """Take a link that another peer opened; see `meshrelay.overlay.interfaces.LinkOpened`."""
        return self._neighbourhood.accept(link)

    def on_message(self, callback: Callable[[PeerMessage], object]) -> Callable[[], None]:
        """Call `callback` with each message for this peer. What it raises is logged.

        :returns: ends it.
        """
        self._message_callbacks.append(callback)
        return lambda: _remove(self._message_callbacks, callback)

    def on_peer(self, callback: Callable[[bytes], object]) -> Callable[[], None]:
        """Call `callback` with the ID of each peer that is linked from now on.

        :returns: ends it.
        """
        self._peer_callbacks.append(callback)
        return lambda: _remove(self._peer_callbacks, callback)

    def send(self, to: bytes, data: Any) -> Deferred[None]:
        """Send a message to any peer of the overlay; one to this peer itself comes back at once.

        :param data: what JSON has; bytes become the form of a serialised Node buffer.
        :returns: fires when the other peer has acknowledged the message, if it is of our kind; else, as JavaScript
            peers acknowledge nothing, when it was handed to a neighbour. Fails with an `OverlayError`.
        """
        if self._is_over:
            return fail(PeerDestroyed())
        try:
            _check_id(to)
            raw = encode_value(data)
        except (TypeError, ValueError) as error:
            return fail(UnusableData(str(error)))
        self.counters.messages_sent += 1
        if to == self.peer_id:
            self._deliver(Message(self.peer_id, raw, True))
            return succeed(None)
        sent: Deferred[None] = Deferred()
        now = self._alarms.now()
        if self._links.is_plain(to):
            self._deliveries.seems_plain(to, now)
        try:
            self._deliveries.send(to, raw, now, lambda outcome: self._sent(sent, to, outcome))
        except OverlayError as error:
            return fail(error)
        self._plan_deliveries()
        return sent

    def _sent(self, sent: Deferred[None], to: bytes, outcome: Outcome) -> None:
        if outcome is not Outcome.NOT_DELIVERED:
            sent.callback(None)
        elif self._is_over:
            sent.errback(PeerDestroyed())
        else:
            sent.errback(NotDelivered(f"{to.hex()} did not acknowledge the message, or no way to it was found"))

    def connect(self, peer_id: bytes) -> Deferred[None]:
        """Link with a peer of which only the ID is known.

        :returns: fires when there is a link. Fails with `NotLinked` after `CONNECT_SECONDS`.
        """
        if self._is_over:
            return fail(PeerDestroyed())
        try:
            _check_id(peer_id)
        except (TypeError, ValueError) as error:
            return fail(UnusableData(str(error)))
        if peer_id == self.peer_id or peer_id in self._switch.channels:
            return succeed(None)
        linked: Deferred[None] = Deferred()
        alarm = self._alarms.call_later(CONNECT_SECONDS, lambda: self._give_up(peer_id, linked))
        self._waiting.setdefault(peer_id, []).append((linked, alarm))
        self._neighbourhood.connect(peer_id, by_user=True)
        return linked

    def trace(self, peer_id: bytes) -> Deferred[Trace]:
        """Find out which way messages of another peer come; see `meshrelay.overlay.traces.Traces.trace`."""
        if self._is_over:
            return fail(PeerDestroyed())
        try:
            _check_id(peer_id)
        except ValueError as error:
            return fail(UnusableData(str(error)))
        return succeed(Trace((), 0.0)) if peer_id == self.peer_id else self._traces.trace(peer_id)

    def known_peers(self, count: int = 1000) -> list[bytes]:
        """Return peers that were heard of, linked or not, nearest to this one first; some may be gone."""
        return self._table.closest(self.peer_id, count, self._alarms.now())

    def disconnect(self, peer_id: bytes) -> bool:
        """Close the link to a peer; this end does not open it again until `connect` is called.

        :returns: False: there is none.
        """
        return self._switch.leave(peer_id)

    def stop(self) -> Deferred[None]:
        """Close all links, give up all tries; what was not acknowledged fails. To be called once.

        :returns: fires when the transports of all links are gone.
        """
        self._is_over = True
        for alarm in (self._check_alarm, self._deliveries_alarm, self._flush_alarm):
            if alarm is not None:
                alarm.cancel()
        self._neighbourhood.stop()
        self._traces.stop()
        self._deliveries.settle()
        gone = self._switch.close()
        self._deliveries.close()
        for peer_id in tuple(self._waiting):
            self._end_waiting(peer_id, lambda linked: linked.errback(PeerDestroyed()))
        return gone

    def _end_waiting(self, peer_id: bytes, tell: Callable[[Deferred[None]], object]) -> None:
        for linked, alarm in self._waiting.pop(peer_id, ()):
            alarm.cancel()
            tell(linked)

    @property
    def channels(self) -> Mapping[bytes, Channel]:
        """Open links, by the ID of the other end."""
        return self._switch.channels

    @property
    def neighbourhood(self) -> Neighbourhood:
        """Bootstraps and handshakes, to look at."""
        return self._neighbourhood

    def statistics(self) -> Mapping[str, int]:
        """Sizes of all that can grow, and counts; the same keys at each call."""
        deliveries = self._deliveries
        return {
            **self.counters.totals(),
            **self._switch.statistics(),
            **self._neighbourhood.statistics(),
            "links_proved": len(self._own_links),
            "holdings": self._links.holding_count,
            "holdings_refused": self._links.holdings_refused,
            "wrtc_peers": self._links.wrtc_count,
            "plain_peers": self._links.plain_count,
            "nonces": len(self._router.seen),
            "nonces_evicted": self._router.seen.evicted,
            "paths": len(self._router.paths),
            "paths_evicted": self._router.paths.evicted,
            "doubts": self._router.paths.doubt_count,
            "messages_waiting": deliveries.waiting_count,
            "messages_waiting_bytes": deliveries.waiting_bytes,
            "correspondents": deliveries.peer_count,
            "correspondents_evicted": deliveries.evicted_count,
            "replay_windows_evicted": deliveries.evicted_window_count,
            "connects_waiting": len(self._waiting),
            "traces": len(self._traces),
        }

    def _has_key(self, peer_id: bytes) -> bool:
        return bool(self._deliveries.public_key_of(peer_id))

    def _key_learned(self, peer_id: bytes, public: bytes) -> None:
        self._deliveries.learned(peer_id, public)

    # What the switch tells; see `SwitchReceiver`.

    def channel_opened(self, channel: Channel, now: float) -> None:
        """See `SwitchReceiver`."""
        self._own_links.opened(channel)

    def peer_linked(self, channel: Channel, now: float) -> None:
        """See `SwitchReceiver`."""
        if not channel.is_ours and channel.link.transport_name == "ws":
            self._deliveries.seems_plain(channel.peer_id, now)
        # What waits goes first, as with npm's package.
        self._deliveries.links_changed(now)
        self._plan_deliveries()
        self._neighbourhood.linked(channel, now)
        self._end_waiting(channel.peer_id, lambda linked: linked.callback(None))
        for callback in tuple(self._peer_callbacks):
            self._call(callback, channel.peer_id)

    def peer_moved(self, channel: Channel, now: float) -> None:
        """See `SwitchReceiver`."""
        self._neighbourhood.linked(channel, now)

    def peer_doubted(self, channel: Channel, now: float) -> None:
        """See `SwitchReceiver`."""
        self._own_links.challenge(channel)

    def channel_closed(self, channel: Channel, now: float, *, is_peer_lost: bool) -> None:
        """See `SwitchReceiver`."""
        self._own_links.closed(channel)
        self._neighbourhood.closed(channel, now, is_peer_lost=is_peer_lost)

    def channel_asked(self, channel: Channel, now: float) -> None:
        """See `SwitchReceiver`."""
        self._own_links.announce(channel.peer_id)

    def own_link_message_came(self, channel: Channel, envelope: Envelope, now: float) -> None:
        """See `SwitchReceiver`."""
        self._own_links.received(channel, envelope, now)

    def envelope_came(self, channel: Channel, envelope: Envelope, now: float) -> None:
        """See `SwitchReceiver`."""
        if envelope.type in (DataType.USER, DataType.SEALED):
            if self._deliveries.received(envelope, now) is Received.VERIFIED:
                self._router.verified(envelope.sender, channel.peer_id, now)
                if envelope.sender == channel.peer_id:
                    channel.failing_since = None
            self._plan_deliveries()
        elif envelope.type == DataType.FOUND_PEERS and self._traces.answered(envelope, now):
            return
        else:
            self._neighbourhood.envelope_came(channel, envelope, now)

    # Messages.

    def _way_failed(self, target: bytes, hop: bytes) -> None:
        """A message for `target` that left by `hop` was not acknowledged in time."""
        now = self._alarms.now()
        self._router.failed(target, hop, now)
        channel = self._switch.channels.get(target) if target == hop else None
        if channel is None or not channel.is_proved:
            return
        # The router takes no other way while there is this one, so who passes on proofs, and nothing else, would
        # keep all messages to itself.
        if channel.failing_since is None:
            channel.failing_since = now
        elif now - channel.failing_since >= SWALLOW_SECONDS:
            channel.close(LinkEnd.SWALLOWS)

    def _deliver(self, message: Message) -> None:
        self.counters.messages_delivered += 1
        # That it can be read was seen before it was acknowledged.
        data = None if message.raw is None else decode_value(message.raw)
        told = PeerMessage(message.sender, data, message.is_verified)
        for callback in tuple(self._message_callbacks):
            self._call(callback, told)

    def _call(self, callback: Callable[[Any], object], argument: object) -> None:
        try:
            callback(argument)
        except Exception:  # the program's bug must not end the link that the message came by
            self._log.failure("a callback of a peer failed")

    # Time.

    def _give_up(self, peer_id: bytes, linked: Deferred[None]) -> None:
        left = [entry for entry in self._waiting.pop(peer_id) if entry[0] is not linked]
        if left:
            self._waiting[peer_id] = left
        linked.errback(NotLinked(f"no link to {peer_id.hex()} within {CONNECT_SECONDS:.0f} seconds"))

    def _check(self) -> None:
        # Set first: whatever fails below is logged, and the next look comes all the same.
        self._check_alarm = self._alarms.call_later(CHECK_SECONDS, self._check)
        now = self._alarms.now()
        self._switch.check(now)
        self._router.expire(now)
        self._neighbourhood.check(now)
        for peer_id in tuple(self._waiting):
            self._neighbourhood.connect(peer_id, by_user=False)

    def _plan_flush(self) -> None:
        if not self._is_over:
            self._flush_alarm = self._alarms.call_later(HOLDINGS_SECONDS, self._own_links.flush)

    def _plan_deliveries(self) -> None:
        due_at = self._deliveries.next_at()
        alarm = self._deliveries_alarm
        if due_at is None or self._is_over:
            return
        if alarm is not None and alarm.is_set:
            if self._deliveries_at <= due_at:
                return
            alarm.cancel()
        self._deliveries_at = due_at
        self._deliveries_alarm = self._alarms.call_later(max(0.0, due_at - self._alarms.now()), self._deliveries_due)

    def _deliveries_due(self) -> None:
        self._deliveries.expire(self._alarms.now())
        self._plan_deliveries()


def _check_id(peer_id: bytes) -> None:
    if not isinstance(peer_id, bytes) or len(peer_id) != ID_BYTES:
        raise ValueError(f"a peer ID is {ID_BYTES} bytes")


def _remove(callbacks: list[Any], callback: object) -> None:
    if callback in callbacks:
        callbacks.remove(callback)
