"""The links of one start: one to each other member of the link group, and what they tell in the program's terms.

A group that is replaced by a newer start of its room is retired: its links deliver what is on its way, those of the
newer one are held until then, and nothing is told of its states any more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from meshrelay.client.events import Event
from meshrelay.client.p2p.events import LinkLost, LinkMessageReceived, LinkRelayReceived, LinkStateChanged
from meshrelay.client.p2p.link_driver import LinkDriver
from meshrelay.client.p2p.options import P2POptions
from meshrelay.client.p2p.sockets import PeerSockets
from meshrelay.errors import DeliveryError, LocalProtocolError, MalformedPayload, PacketRejected
from meshrelay.machine.hole_punch import HolePunch, PunchOptions
from meshrelay.machine.nat_kind import MappingObserver
from meshrelay.machine.peer_link import LinkChanged, LinkEnded, PeerEvent, PeerLink, PeerLinkOptions, PeerPacket
from meshrelay.machine.peer_path import Path
from meshrelay.wire.addresses import UdpAddress
from meshrelay.wire.commands import BUILT_IN_VER, Command, decode_pushed_message, encode_pushed_message
from meshrelay.wire.frame import Frame, encode_push
from meshrelay.wire.link_commands import LinkState
from meshrelay.wire.sync_bytes import SyncBytes, SyncUser

__all__ = ["LinkGroup", "LinkParts"]

#: What LINK_RELAY puts in front of a message.
_RELAY_OVERHEAD_BYTES = 53 + 128

_MAX_SEQUENCE = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class LinkParts:
    """What all groups of a client share.

    `forward` takes room ID, user ID and a packet for the relay; `report` room ID, user ID and state for the node.
    """

    reactor: Any
    options: P2POptions
    sockets: PeerSockets
    observer: MappingObserver
    forward: Callable[[str, str, bytes], None]
    report: Callable[[str, str, LinkState], None]
    tell: Callable[[Event], None]
    counts: Counter[str]


class LinkGroup:
    """See the module.

    :param over: called when the last link is done, which in a group without other members never happens.
    """

    def __init__(
        self, parts: LinkParts, room_id: str, own_id: str, sync: SyncBytes, over: Callable[[LinkGroup], None]
    ) -> None:
        self.room_id = room_id
        self.is_retired = False
        #: All of the link group, ourselves as well.
        self.member_ids = frozenset((own_id, *(user.user_id for user in sync.users)))
        self._parts = parts
        self._over = over
        #: User ID -> link; only links that are not over.
        self._drivers: dict[str, LinkDriver] = {}
        #: As they name themselves in packets -> link; until it is done.
        self._by_sid: dict[bytes, LinkDriver] = {}
        #: User ID -> what waits for the end of our link to that user.
        self._waiting: dict[str, LinkDriver] = {}
        for user in sync.users:
            if user.user_id != own_id:
                self._add(own_id, user, sync)

    def _add(self, own_id: str, user: SyncUser, sync: SyncBytes) -> None:
        parts, options = self._parts, self._parts.options
        has_socket = parts.sockets.has_first
        is_v6 = parts.sockets.is_v6
        candidates = [address for address in user.addresses if (":" in address.host) is is_v6]
        punch_options = PunchOptions(has_socket, options.allow_private, options.allow_loopback, options.allow_search)
        punch = HolePunch(candidates, parts.observer, options.random, parts.reactor.seconds(), punch_options)
        link_options = PeerLinkOptions(options.is_ordered, options.max_payload_bytes + _RELAY_OVERHEAD_BYTES)
        link = PeerLink(own_id, user.user_id, sync, punch, options.random.randint(0, _MAX_SEQUENCE), link_options)
        driver = LinkDriver(parts.reactor, link, punch, self)
        self._drivers[user.user_id] = self._by_sid[link.peer_sid] = driver

    @property
    def user_ids(self) -> list[str]:
        """Members whose links are not over, without ourselves."""
        return list(self._drivers)

    @property
    def drivers(self) -> Collection[LinkDriver]:
        """The links that are not over."""
        return self._drivers.values()

    def driver(self, user_id: str) -> LinkDriver | None:
        """The link to a member that can be sent to."""
        driver = self._drivers.get(user_id)
        return driver if driver is not None and not driver.is_retired else None

    def start(self, replaced: LinkGroup | None) -> None:
        """Begin.

        :param replaced: the group of the same room before this one; it is retired.
        """
        if replaced is not None:
            replaced._make_way(self._drivers)
        for driver in list(self._drivers.values()):
            driver.start()

    def receive(self, datagram: bytes, path: Path | None, user_id: str | None = None) -> bool:
        """Take a datagram.

        :param path: None: the node forwarded it, for `user_id`.
        :returns: whether it was genuine and for us.
        """
        driver = self._by_sid.get(datagram[2:18])
        if driver is None or user_id not in (None, driver.user_id):
            return False
        try:
            driver.receive(datagram, path)
        except PacketRejected:
            return False
        return True

    def pass_on(self, user_id: str, message: bytes) -> None:
        """Send what somebody relays by link groups to all members of this one but him."""
        payload = encode_pushed_message(self.room_id, user_id, message)
        frame = encode_push(BUILT_IN_VER, Command.LINK_RELAY, payload)
        for driver in list(self._drivers.values()):
            if driver.user_id == user_id or driver.is_retired:
                continue
            try:
                driver.send(frame, True)
            except (DeliveryError, LocalProtocolError):
                # LocalProtocolError: somebody relays what is longer than our peers take.
                self._parts.counts["relay_dropped"] += 1
            else:
                self._parts.counts["relay_passed_on"] += 1

    def moved(self) -> None:
        """Our address is another one."""
        for driver in list(self._drivers.values()):
            driver.restart()

    def _make_way(self, drivers: Mapping[str, LinkDriver]) -> None:
        for user_id, driver in self._drivers.items():
            # Who left and came back has no end of the old link any more.
            if user_id in drivers and not driver.is_retired:
                drivers[user_id].hold()
                self._waiting[user_id] = drivers[user_id]
        self.is_retired = True
        for driver in list(self._drivers.values()):
            driver.retire(self._parts.options.linger_seconds)

    def leave(self, user_id: str | None, farewell: str) -> None:
        """A member has gone: end the link to it when what is on its way is here; None: all links."""
        for driver in list(self._drivers.values()):
            if user_id in (None, driver.user_id):
                driver.retire(self._parts.options.linger_seconds, farewell)

    def abort(self) -> None:
        """End at once, and tell the program nothing."""
        for driver in list(self._by_sid.values()):
            driver.abort()
            self._forget(driver)
        self._by_sid.clear()

    @property
    def is_done(self) -> bool:
        """Whether there is nothing left of it."""
        return not self._by_sid

    def packet_ready(self, driver: LinkDriver, packet: PeerPacket) -> None:
        """See `LinkOwner`."""
        if packet.path is not None:
            self._parts.sockets.send(packet.datagram, packet.path)
        else:
            self._parts.forward(self.room_id, driver.user_id, packet.datagram)

    def event_came(self, driver: LinkDriver, event: PeerEvent) -> None:
        """See `LinkOwner`."""
        if isinstance(event, LinkChanged):
            if not self.is_retired and not driver.is_retired:
                address = event.path.address if event.path is not None else None
                self._tell_state(driver, event, address)
        elif not isinstance(event, LinkEnded):
            for frame in event.frames:
                self._frame_came(driver, frame, event.is_reliable)

    def _tell_state(self, driver: LinkDriver, event: LinkChanged, address: UdpAddress | None) -> None:
        self._parts.report(self.room_id, driver.user_id, event.state)
        changed = LinkStateChanged(self.room_id, driver.user_id, event.state, event.reason, address)
        self._parts.tell(changed)

    def _frame_came(self, driver: LinkDriver, frame: Frame, is_reliable: bool) -> None:
        tell = self._parts.tell
        if frame.ver > BUILT_IN_VER:
            received = (frame.ver, frame.cmd, frame.payload, is_reliable)
            tell(LinkMessageReceived(self.room_id, driver.user_id, *received))
        elif (frame.ver, frame.cmd) == (BUILT_IN_VER, Command.LINK_RELAY):
            try:
                _, sender, message = decode_pushed_message(frame.payload)
            except MalformedPayload:
                self._parts.counts["frames_malformed"] += 1
            else:
                tell(LinkRelayReceived(self.room_id, sender, message))
        else:
            self._parts.counts["frames_unknown"] += 1

    def link_over(self, driver: LinkDriver, ended: LinkEnded) -> None:
        """See `LinkOwner`."""
        self._forget(driver)
        if not self.is_retired:
            self._parts.report(self.room_id, driver.user_id, LinkState.LOST)
            code, text = (ended.code, ended.text) if driver.farewell is None else (0, driver.farewell)
            self._parts.tell(LinkLost(self.room_id, driver.user_id, code, text))

    def link_done(self, driver: LinkDriver) -> None:
        """See `LinkOwner`."""
        self._by_sid.pop(driver.link.peer_sid, None)
        if not self._by_sid:
            self._over(self)

    def _forget(self, driver: LinkDriver) -> None:
        self._drivers.pop(driver.user_id, None)
        waiting = self._waiting.pop(driver.user_id, None)
        if waiting is not None:
            waiting.release()
