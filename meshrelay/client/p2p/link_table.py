"""All links of a client by room, and what the node and peers send for them.

::

    LINK_START push --RoomFinder--> LinkGroup, in the place of the one before of the room
    LINK_FORWARD push, datagrams of sockets --> whichever group they open in
    LINK_RELAY push --> told, and passed on in our group of the room

What comes before the room of a start is known waits for it: packets in `EarlyPackets`, relays in their order. Where
several rooms are possible, a packet that comes by the relay decides (`_Undecided`).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from hashlib import sha256

from twisted.internet.interfaces import IDelayedCall

from meshrelay.client.errors import NotConnected
from meshrelay.client.p2p.early_packets import EarlyPackets
from meshrelay.client.p2p.events import LinkRelayReceived, LinksStarted
from meshrelay.client.p2p.link_driver import LinkDriver
from meshrelay.client.p2p.link_group import LinkGroup, LinkParts
from meshrelay.client.p2p.room_finder import RoomFinder
from meshrelay.errors import MalformedPayload, PacketRejected
from meshrelay.machine.peer_path import Path
from meshrelay.wire.commands import Command, decode_pushed_message
from meshrelay.wire.link_commands import decode_forward
from meshrelay.wire.peer_packet import PeerCodec
from meshrelay.wire.sync_bytes import SyncBytes, decode_sync_bytes

__all__ = ["MAX_EARLY_RELAYS", "MAX_GROUPS", "LinkTable"]

#: Rooms with links at a time; more starts are passed over. As many groups may be ending.
MAX_GROUPS = 64

#: Starts whose keys are remembered, so that none is used twice.
_MAX_STARTS_KNOWN = 1024

#: Starts whose rooms are looked for, and relays that wait for one of them.
_MAX_FINDING = 16
_UNDECIDED_SECONDS = 0.5
MAX_EARLY_RELAYS = 256


class _Undecided:
    """A start of which it is not known yet for which of several rooms it is."""

    def __init__(self, sync: SyncBytes, own_id: str, rooms: list[str]) -> None:
        self.sync = sync
        self.rooms = rooms
        #: Of the decision that is taken when nothing tells.
        self.timer: IDelayedCall | None = None
        members = {own_id, *(user.user_id for user in sync.users)}
        self._codecs = {peer: PeerCodec(own_id, peer, sync.secret, members) for peer in members - {own_id}}

    def cancel(self) -> None:
        """Wait no longer."""
        if self.timer is not None and self.timer.active():
            self.timer.cancel()

    def is_of(self, room_id: str, user_id: str, packet: bytes) -> bool:
        """Whether a packet that came for this room was sealed with the keys of this start."""
        codec = self._codecs.get(user_id)
        if codec is None or room_id not in self.rooms:
            return False
        try:
            # Opened once more by the link later, whose codec has not seen it.
            codec.open(packet)
        except PacketRejected:
            return False
        return True


class LinkTable:
    """See the module.

    :param own_id: gives our user ID.
    :param prepare: called before the links of a start are made, for their sockets.
    """

    def __init__(
        self, parts: LinkParts, finder: RoomFinder, own_id: Callable[[], str], prepare: Callable[[], None]
    ) -> None:
        self._parts = parts
        self._finder = finder
        self._own_id = own_id
        self._prepare = prepare
        #: Room ID -> its group, the one that was started last at the end.
        self._groups: dict[str, LinkGroup] = {}
        self._ending: list[LinkGroup] = []
        self._starts: OrderedDict[bytes, None] = OrderedDict()
        #: Secrets of the starts whose rooms are looked for.
        self._finding: set[bytes] = set()
        self._undecided: list[_Undecided] = []
        self._early = EarlyPackets()
        self._early_relays: deque[tuple[str, str, bytes]] = deque()

    def __iter__(self) -> Iterator[LinkGroup]:
        """The groups that are in use."""
        return iter(list(self._groups.values()))

    def all_groups(self) -> list[LinkGroup]:
        """The groups that are in use or ending, the newest first."""
        return [*reversed(self._groups.values()), *reversed(self._ending)]

    def group(self, room_id: str) -> LinkGroup:
        """The group of a room, or with "" the one that was started last.

        :raises NotConnected: there is none.
        """
        group = self._groups.get(room_id) if room_id else next(reversed(self._groups.values()), None)
        if group is None:
            raise NotConnected("no links were started")
        return group

    def driver(self, user_id: str, room_id: str) -> LinkDriver:
        """The link to a user, of a room or with "" of whichever was started last.

        :raises NotConnected: there is none.
        """
        for group in reversed(self._groups.values()):
            driver = group.driver(user_id)
            if driver is not None and room_id in ("", group.room_id):
                return driver
        raise NotConnected(f"no link to {user_id}")

    def pushed(self, cmd: int, payload: bytes) -> None:
        """Take a push of the node for links."""
        try:
            if cmd == Command.LINK_START:
                self._start_pushed(decode_sync_bytes(payload))
            elif cmd == Command.LINK_FORWARD:
                self._forwarded(*decode_forward(payload))
            else:
                self._relay_pushed(*decode_pushed_message(payload))
        except MalformedPayload:
            self._parts.counts["pushes_malformed"] += 1

    def datagram_received(self, datagram: bytes, path: Path) -> None:
        """Take what came by a socket, from anybody."""
        if not self._opened(datagram, path, None):
            self._parts.counts["datagrams_rejected"] += 1

    def sockets_needed(self) -> frozenset[int]:
        """Return which sockets some link needs."""
        now = self._parts.reactor.seconds()
        drivers = (driver for group in self.all_groups() for driver in group.drivers)
        return frozenset(number for driver in drivers for number in driver.link.sockets_needed(now))

    def moved(self) -> None:
        """Our address is another one."""
        for group in self.all_groups():
            group.moved()

    def member_gone(self, room_id: str, user_id: str, farewell: str) -> None:
        """Somebody is in a room no more; perhaps we."""
        if user_id == self._own_id():
            self.leave(room_id, farewell)
            return
        group = self._groups.get(room_id)
        if group is not None:
            group.leave(user_id, farewell)

    def leave(self, room_id: str, farewell: str) -> None:
        """End the links of a room, or with "" of all, when what is on its way is here."""
        for group in self:
            if room_id in ("", group.room_id):
                group.leave(None, farewell)
                if group.is_done:
                    self._over(group)

    def abort(self) -> None:
        """End everything at once."""
        groups = self.all_groups()
        self._groups.clear()
        self._ending.clear()
        self._early_relays.clear()
        for undecided in self._undecided:
            undecided.cancel()
        self._undecided.clear()
        self._finding.clear()
        for group in groups:
            group.abort()

    def statistics(self) -> dict[str, int]:
        """Return counters and current values."""
        return {
            "groups": len(self._groups),
            "groups_ending": len(self._ending),
            "early_packets": len(self._early),
            "early_packets_dropped": self._early.dropped,
        }

    def _opened(self, datagram: bytes, path: Path | None, user_id: str | None) -> bool:
        return any(group.receive(datagram, path, user_id) for group in self.all_groups())

    def _forwarded(self, room_id: str, user_id: str, packet: bytes) -> None:
        if self._opened(packet, None, user_id):
            return
        self._early.keep(room_id, user_id, packet, self._parts.reactor.seconds())
        for undecided in list(self._undecided):
            if undecided.is_of(room_id, user_id, packet):
                self._decide(undecided, room_id)

    def _start_pushed(self, sync: SyncBytes) -> None:
        digest = sha256(sync.secret).digest()
        # A push that is replayed after a resume; the same keys would use the same nonces again.
        if digest in self._starts or len(self._finding) >= _MAX_FINDING:
            self._parts.counts["starts_refused"] += 1
            return
        self._starts[digest] = None
        if len(self._starts) > _MAX_STARTS_KNOWN:
            self._starts.popitem(last=False)
        self._finding.add(sync.secret)
        self._finder.find(user.user_id for user in sync.users).addCallback(self._rooms_found, sync)

    def _rooms_found(self, rooms: list[str], sync: SyncBytes) -> None:
        if sync.secret not in self._finding:
            # Everything has come to its end meanwhile.
            return
        if len(rooms) <= 1:
            self._room_found(rooms[0] if rooms else "", sync)
            return
        undecided = _Undecided(sync, self._own_id(), rooms)
        self._undecided.append(undecided)
        for room_id, user_id, packet in self._early.waiting():
            if undecided.is_of(room_id, user_id, packet):
                self._decide(undecided, room_id)
                return
        undecided.timer = self._parts.reactor.callLater(_UNDECIDED_SECONDS, self._decide, undecided, rooms[0])

    def _decide(self, undecided: _Undecided, room_id: str) -> None:
        self._undecided.remove(undecided)
        undecided.cancel()
        self._room_found(room_id, undecided.sync)

    def _room_found(self, room_id: str, sync: SyncBytes) -> None:
        self._finding.discard(sync.secret)
        self._finder.starting.discard(room_id)
        replaced = self._groups.get(room_id)
        if not room_id or (replaced is None and len(self._groups) >= MAX_GROUPS):
            self._parts.counts["starts_refused"] += 1
        else:
            self._prepare()
            self._begin(LinkGroup(self._parts, room_id, self._own_id(), sync, self._over), replaced)
        while self._early_relays and not self._finding:
            self._relay_pushed(*self._early_relays.popleft())

    def _begin(self, group: LinkGroup, replaced: LinkGroup | None) -> None:
        if replaced is not None:
            del self._groups[group.room_id]
            self._ending.append(replaced)
        self._groups[group.room_id] = group
        self._parts.tell(LinksStarted(group.room_id, tuple(group.user_ids)))
        group.start(replaced)
        if replaced is not None and replaced.is_done:
            self._over(replaced)
        if len(self._ending) > MAX_GROUPS:
            self._ending.pop(0).abort()
        now = self._parts.reactor.seconds()
        for room_id, user_id, packet in self._early.take(now):
            if not self._opened(packet, None, user_id) and self._finding:
                self._early.keep(room_id, user_id, packet, now)

    def _over(self, group: LinkGroup) -> None:
        if group in self._ending:
            self._ending.remove(group)
        elif self._groups.get(group.room_id) is group:
            del self._groups[group.room_id]

    def _relay_pushed(self, room_id: str, user_id: str, message: bytes) -> None:
        counts = self._parts.counts
        if self._finding:
            self._early_relays.append((room_id, user_id, message))
            if len(self._early_relays) > MAX_EARLY_RELAYS:
                self._early_relays.popleft()
                counts["relay_dropped"] += 1
            return
        group = self._groups.get(room_id)
        # Who relays sends it to its own group by itself: what comes from there would be a double.
        if user_id == self._own_id() or (group is not None and user_id in group.member_ids):
            counts["relay_doubles"] += 1
            return
        self._parts.tell(LinkRelayReceived(room_id, user_id, message))
        if group is not None:
            group.pass_on(user_id, message)
