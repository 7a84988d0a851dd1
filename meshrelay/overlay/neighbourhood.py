"""All that leads to links: bootstraps, who is heard of, offers, answers, dials. Pure: it dials through others.

::

    bootstraps ---------------------------------------------> dial --> channel
    findPeers --> foundPeers --> table --> offer --> answer --^  `--> WebRTC --^
                                             |
                   offer of another <--------'--> answer of ours, and the other dials

Whoever is linked is asked once whom it knows, and now and then again while there are too few links. Npm's package looks
around once and never again; this peer goes on: it dials its bootstraps again, forgets offers that nobody answers, and
looks for others when links are lost.

Source: npm peer-relay 0.0.2.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from meshrelay.background import Alarm
from meshrelay.overlay.bootstraps import Bootstraps
from meshrelay.overlay.channel import Channel, LinkEnd
from meshrelay.overlay.control import ControlMessages
from meshrelay.overlay.counters import OverlayCounters
from meshrelay.overlay.dial_policy import DialPolicy
from meshrelay.overlay.handshakes import Handshakes
from meshrelay.overlay.interfaces import ILinkReceiver, IOverlayLink
from meshrelay.overlay.kin import Kin
from meshrelay.overlay.offers import Offers, Surroundings
from meshrelay.overlay.options import PeerOptions
from meshrelay.overlay.switch import Switch
from meshrelay.overlay.table import MAX_CONTACTS, RoutingTable
from meshrelay.wire.overlay import MAX_FOUND, BadFrame, DataType, Envelope, decode_id, decode_ids

__all__ = ["ANSWER_SECONDS", "ASK_SECONDS", "DEAF_SECONDS", "MAX_ASKED", "Neighbourhood"]

#: A peer of npm's package that has not asked for peers by then has no room for us.
DEAF_SECONDS = 3.0

#: While there are too few links a neighbour is asked for more this often.
ASK_SECONDS = 15.0

#: An answer to findPeers is taken for so long.
ANSWER_SECONDS = 30.0

#: Peers that were asked and have not answered.
MAX_ASKED = 1000

#: Others of our kind are named all the time while an overlay comes to be; links are looked for this much later.
_KIN_SECONDS = 0.2


class Neighbourhood:
    """See the module.

    :param uniform: `random.uniform` of the random source.
    """

    def __init__(
        self,
        own_id: bytes,
        switch: Switch,
        table: RoutingTable,
        control: ControlMessages,
        surroundings: Surroundings,
        options: PeerOptions,
        uniform: Callable[[float, float], float],
        counters: OverlayCounters,
    ) -> None:
        self.bootstraps = Bootstraps(options.bootstrap, uniform)
        self.handshakes = Handshakes(own_id, uniform, is_reachable=False)
        self._own_id = own_id
        self._switch = switch
        self._table = table
        self._control = control
        self._alarms = surroundings.alarms
        self._dialler = surroundings.dialler
        policy = self._policy = surroundings.policy or DialPolicy(own_places=options.bootstrap)
        self._offers = Offers(self, self.handshakes, switch, control, surroundings, policy, counters)
        self._options = options
        self._counters = counters
        self._bootstrap_dials: dict[str, Callable[[], object]] = {}
        #: Whom findPeers was sent to, and when.
        self._asked: OrderedDict[bytes, float] = OrderedDict()
        self._asks_at = 0.0
        self._kin = Kin()
        self._kin_alarm: Alarm | None = None
        self._is_over = False

    def statistics(self) -> dict[str, int]:
        """Return the sizes of all that others can make grow, and what became of candidates."""
        handshakes = self.handshakes
        return {
            "candidates": len(self._table),
            "candidates_dead": self._table.dead_count,
            "candidates_expired": self._table.expired_count,
            "candidates_refused": self._table.refused_count,
            "candidates_replaced": self._table.replaced_count,
            "kin": len(self._kin),
            "peers_asked": len(self._asked),
            "handshakes_pending": handshakes.pending_count,
            "handshakes_resting": handshakes.resting_count,
            "handshakes_answered": handshakes.answered_count,
            "tries": self._offers.try_count,
        }

    # Links begin and end.

    def accept(self, link: IOverlayLink) -> ILinkReceiver | None:
        """Take a link that another peer opened; see `LinkOpened`."""
        return self._begin(link)

    def _begin(self, link: IOverlayLink, peer_id: bytes = b"", url: str = "") -> ILinkReceiver | None:
        if self._is_over:
            return None
        if self._switch.is_full:
            self._counters.links_closed[LinkEnd.FULL.value] += 1
            return None
        known_id = peer_id if link.transport_name == "wrtc" else b""
        channel = Channel(link, self._own_id, self._switch, self._options, self._counters, self._alarms.now, known_id)
        channel.url = url
        channel.expected_id = peer_id
        channel.is_ours = channel.is_ours or (bool(known_id) and self._control.is_own(known_id))
        return channel if self._switch.begin(channel) else None

    def link_opened(self, link: IOverlayLink, peer_id: bytes) -> ILinkReceiver | None:
        """See `OffersOwner`."""
        receiver = self._begin(link, peer_id)
        if receiver is None and not self._is_over:
            self._try_missed(peer_id, self._alarms.now())
        return receiver

    def try_ended(self, peer_id: bytes, now: float) -> None:
        """See `OffersOwner`."""
        self._table.failed(peer_id, now)
        self._kin.failed(peer_id)

    def _try_missed(self, peer_id: bytes, now: float) -> None:
        """What was dialled did not become a link to the peer that was looked for."""
        if peer_id not in self._switch.channels:
            self._offers.try_failed(peer_id, now)

    def connect(self, peer_id: bytes, *, by_user: bool) -> None:
        """Look for a link to a peer; nothing happens if a try is under way.

        :param by_user: somebody asks just now, and does not wait because it failed before.
        """
        self._offers.offer(peer_id, self._alarms.now(), by_user=by_user)

    def linked(self, channel: Channel, now: float) -> None:
        """There is a channel to a peer that there was none to, or another one than before."""
        peer_id = channel.peer_id
        self.handshakes.opened(peer_id)
        self._offers.stop_try(peer_id)
        self._kin.discard(peer_id)
        if channel.expected_id and channel.expected_id != peer_id:
            self._try_missed(channel.expected_id, now)
        if channel.url in self.bootstraps.urls:
            self.bootstraps.opened(channel.url, now, peer_id)
        self.bootstraps.peer_linked(peer_id, now)
        self._table.add_contact(peer_id, None, now, is_live=True)
        self._ask(channel, now)

    def closed(self, channel: Channel, now: float, *, is_peer_lost: bool) -> None:
        """A channel is no more.

        :param is_peer_lost: it was the last one to its peer.
        """
        peer_id = channel.peer_id
        by_user = channel.end is LinkEnd.LEFT
        if is_peer_lost:
            self._asked.pop(peer_id, None)
            self.handshakes.closed(peer_id, now, by_user=by_user)
            if not by_user:
                self.bootstraps.peer_lost(peer_id, now)
        elif channel.expected_id:
            self._try_missed(channel.expected_id, now)
        if channel.url in self.bootstraps.urls:
            self._bootstrap_closed(channel, now, is_peer_lost=is_peer_lost)

    def _bootstrap_closed(self, channel: Channel, now: float, *, is_peer_lost: bool) -> None:
        """Say what became of a bootstrap that was dialled by this channel."""
        if channel.end is LinkEnd.OWN_ID:
            self.bootstraps.reached_self(channel.url)
        elif channel.peer_id in self._switch.channels:
            # It is linked all the same, by another channel.
            self.bootstraps.opened(channel.url, now, channel.peer_id)
        elif not is_peer_lost:
            self.bootstraps.failed(channel.url, now)
        elif channel.end is not LinkEnd.LEFT:
            self.bootstraps.lost(channel.url, now)

    # What peers say.

    def envelope_came(self, channel: Channel, envelope: Envelope, now: float) -> None:
        """An envelope for this peer that is not a message of its user."""
        kind = envelope.type
        try:
            if kind == DataType.FIND_PEERS:
                if channel.takes_request(now):
                    self._peers_asked(envelope, now)
            elif kind == DataType.FOUND_PEERS:
                self._peers_found(channel, envelope, now)
            elif kind == DataType.OFFER:
                if channel.takes_request(now):
                    self._offers.offered(envelope, now)
            elif kind == DataType.ANSWER:
                self._offers.answered(envelope, now)
            elif kind == DataType.SIGNAL:
                self._offers.signalled(envelope, now)
            else:
                self._counters.dropped["unknown_type"] += 1
        except BadFrame as error:
            self._counters.bad_frames[error.reason] += 1

    def _ask(self, channel: Channel, now: float) -> None:
        self._remember_asked(channel.peer_id, now)
        self._switch.tell(channel, self._control.find_peers(channel.peer_id, self._own_id))

    def _remember_asked(self, peer_id: bytes, now: float) -> None:
        self._asked[peer_id] = now
        self._asked.move_to_end(peer_id)
        if len(self._asked) > MAX_ASKED:
            self._asked.popitem(last=False)

    def _peers_asked(self, envelope: Envelope, now: float) -> None:
        asked_id = decode_id(envelope.data or b"null")
        found = self._table.closest_live(asked_id, MAX_FOUND + 1, now)
        others = [peer_id for peer_id in found if peer_id != envelope.sender][:MAX_FOUND]
        self._switch.post(self._control.found_peers(envelope.sender, others))

    def _peers_found(self, channel: Channel, envelope: Envelope, now: float) -> None:
        # Only neighbours are asked, and of those nobody else can answer on their links.
        is_direct = envelope.sender == channel.peer_id
        asked_at = self._asked.pop(envelope.sender, None) if is_direct else None
        if asked_at is None or now - asked_at > ANSWER_SECONDS:
            self._counters.dropped["unasked_peers"] += 1
            return
        for peer_id in decode_ids(envelope.data or b"[]")[:MAX_FOUND]:
            self._table.add_contact(peer_id, envelope.sender, now)
        self.populate(now)

    def kin_named(self, neighbour: bytes, peer_ids: list[bytes], now: float) -> None:
        """A neighbour of our kind is linked to others of our kind."""
        channels = self._switch.channels
        self._kin.add(neighbour, (name for name in peer_ids if name != self._own_id and name not in channels))
        if len(self._kin) and (self._kin_alarm is None or not self._kin_alarm.is_set):
            self._kin_alarm = self._alarms.call_later(_KIN_SECONDS, lambda: self.populate(self._alarms.now()))

    def populate(self, now: float) -> None:
        """Offer links while there are too few."""
        channels = self._switch.channels
        wanted = self._options.wanted_links - len(channels) - self.handshakes.pending_count
        # First a choice that is fair to all sources; then, as some of those cannot be linked with, all.
        for count in (self._options.wanted_links, MAX_CONTACTS):
            if wanted > 0:
                wanted -= self._offer(self._table.candidates(now, count, channels), wanted, now)
        wanted_kin = self._options.wanted_own_links - self._switch.proved_count
        if wanted_kin > 0:
            self._offer(self._kin.candidates(), wanted_kin - sum(map(self.handshakes.is_pending, self._kin)), now)

    def _offer(self, peer_ids: list[bytes], wanted: int, now: float) -> int:
        """Offer links, at most so many; returns how many."""
        offered = 0
        for peer_id in peer_ids:
            if offered >= wanted:
                break
            offered += self._offers.offer(peer_id, now)
        return offered

    # Time.

    def check(self, now: float) -> None:
        """Look at everything that has a time; called about once a second."""
        self._offers.update_reachable()
        self._offers.expire(now)
        self._dial_bootstraps(now)
        self._table.expire(now)
        self._close_deaf(now)
        self.populate(now)
        channel = self._switch.any_channel() if self._is_lonely and now >= self._asks_at else None
        if channel is not None:
            self._asks_at = now + ASK_SECONDS
            self._ask(channel, now)

    @property
    def _is_lonely(self) -> bool:
        return len(self._switch.channels) < self._options.wanted_links

    def _dial_bootstraps(self, now: float) -> None:
        dialler = self._dialler
        if dialler is None:
            return
        for url in self.bootstraps.due(now, has_few_links=self._is_lonely):
            self.bootstraps.dialling(url)
            self._counters.dials += 1
            self._bootstrap_dials[url] = dialler.dial(
                url, self._bootstrap_opened(url), self._bootstrap_failed(url), is_checked=False
            )

    def _bootstrap_opened(self, url: str) -> Callable[[IOverlayLink], ILinkReceiver | None]:
        def opened(link: IOverlayLink) -> ILinkReceiver | None:
            self._bootstrap_dials.pop(url, None)
            receiver = self._begin(link, url=url)
            if receiver is None and not self._is_over:
                self.bootstraps.failed(url, self._alarms.now())
            return receiver

        return opened

    def _bootstrap_failed(self, url: str) -> Callable[[str], None]:
        def failed(why: str) -> None:
            self._bootstrap_dials.pop(url, None)
            self._counters.dials_failed += 1
            self.bootstraps.failed(url, self._alarms.now())

        return failed

    def _close_deaf(self, now: float) -> None:
        for channel in self._switch.deaf_channels(now - DEAF_SECONDS):
            # Half a link is better than none.
            if len(self._switch.channels) > 1:
                channel.close(LinkEnd.DEAF)

    def stop(self) -> None:
        """Give up all tries; nothing begins any more."""
        self._is_over = True
        if self._kin_alarm is not None:
            self._kin_alarm.cancel()
        self._offers.stop()
        for give_up in self._bootstrap_dials.values():
            give_up()
        self._bootstrap_dials.clear()
