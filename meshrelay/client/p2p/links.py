"""P2P links as the program sees them: `Client.links`.

::

    program --> P2PLinks --> LinkTable --> LinkGroup (a room) --> LinkDriver (a peer) --> PeerSockets, LINK_FORWARD
                   |             ^
                Whereabouts      +-- pushes, datagrams
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredList, fail, succeed
from twisted.python.failure import Failure

from meshrelay.client.errors import NotConnected
from meshrelay.client.events import Connected, Disconnected, Event, PushReceived, RoomMemberLeft, RoomMemberLost
from meshrelay.client.links import PeerSocket
from meshrelay.client.p2p.link_driver import LinkDriver
from meshrelay.client.p2p.link_group import LinkGroup, LinkParts
from meshrelay.client.p2p.link_table import LinkTable
from meshrelay.client.p2p.options import P2POptions
from meshrelay.client.p2p.room_finder import RoomFinder
from meshrelay.client.p2p.sockets import PeerSockets
from meshrelay.client.p2p.state_reports import StateReports
from meshrelay.client.p2p.whereabouts import NetworkView, Whereabouts
from meshrelay.errors import CommandError, DeliveryError, MalformedPayload, MessageTooLarge, RemoteProtocolError
from meshrelay.machine.hole_punch import RelayReason
from meshrelay.machine.peer_path import Path
from meshrelay.wire.addresses import UdpAddress
from meshrelay.wire.commands import BUILT_IN_VER, Command, encode_gid_message
from meshrelay.wire.frame import encode_push
from meshrelay.wire.link_commands import (
    Forwarded,
    LinkStart,
    LinkState,
    decode_relayed,
    encode_forward,
    encode_link_start,
)
from meshrelay.wire.room_commands import RoomList

__all__ = ["NodeAccess", "P2PLinks", "PeerView"]

_PUSHES = frozenset((Command.LINK_START, Command.LINK_RELAY, Command.LINK_FORWARD))


class NodeAccess(Protocol):
    """What links need of the connection."""

    def request(
        self, ver: int, cmd: int, payload: bytes, reliable: bool, timeout_seconds: float | None
    ) -> Deferred[bytes]:
        """See `Connector.request`."""

    def send(self, ver: int, cmd: int, payload: bytes, reliable: bool) -> None:
        """See `Connector.send`."""

    def peer_socket(self) -> PeerSocket | None:
        """See `Connector.peer_socket`."""


@dataclass(frozen=True, slots=True)
class PeerView:
    """How one peer is reached at this moment."""

    room_id: str
    user_id: str
    state: LinkState
    #: Why by the relay; None: it is DIRECT.
    reason: RelayReason | None
    #: Where the peer is; None: it is RELAYED.
    address: UdpAddress | None
    #: Whether the peer has answered, by any way.
    is_connected: bool
    #: None: not known yet.
    round_trip_seconds: float | None
    #: Reliable messages that the peer has not acknowledged.
    buffered_bytes: int


def _view(room_id: str, driver: LinkDriver) -> PeerView:
    link = driver.link
    address = link.path.address if link.path is not None else None
    way = (link.state, link.reason, address)
    return PeerView(room_id, driver.user_id, *way, link.is_connected, link.round_trip_seconds, link.buffered_bytes)


def _frame(ver: int, cmd: int, payload: bytes, max_payload_bytes: int) -> bytes:
    if not (BUILT_IN_VER < ver < 1 << 8 and 0 <= cmd < 1 << 16):
        raise ValueError(f"({ver}, {cmd}) cannot be sent to peers: ver is 2 to 255 and cmd 0 to 65535")
    if len(payload) > max_payload_bytes:
        raise MessageTooLarge(f"payload of {len(payload)} bytes, peers take {max_payload_bytes}")
    return encode_push(ver, cmd, payload)


class P2PLinks:
    """Links to the members of rooms, made by `Client.links`. From then on the pushes for links come here.

    What happens is told as the events of `meshrelay.client.p2p.events`.

    :param access: the client's connection.
    :param rooms: IDs of the rooms that the client is in, the newest last.
    :param members: asks the node for the members of a room.
    :param tell: called with each event.
    """

    def __init__(
        self,
        reactor: Any,
        access: NodeAccess,
        rooms: Collection[str],
        members: Callable[[str], Deferred[RoomList]],
        tell: Callable[[Event], None],
        options: P2POptions | None = None,
    ) -> None:
        self._access = access
        self._options = options = options or P2POptions()
        self._counts: Counter[str] = Counter()
        self._sockets = PeerSockets(reactor, self._datagram_received)
        self._reports = StateReports(reactor, lambda payload: self._tell_node(Command.LINK_STATE, payload, True))
        self._where = Whereabouts(
            reactor,
            options,
            self._sockets,
            socket=access.peer_socket,
            ask=lambda payload: self._ask_node(Command.LINK_ADDRESSES, payload),
            needed=self._sockets_needed,
            moved=self._socket_moved,
        )
        parts = LinkParts(
            reactor,
            options,
            self._sockets,
            self._where.observer,
            self._forward,
            self._reports.note,
            tell,
            self._counts,
        )
        self._finder = RoomFinder(rooms, members)
        self._own_id = ""
        self._table = LinkTable(parts, self._finder, lambda: self._own_id, self._prepare)

    def addresses(self) -> Deferred[UdpAddress | None]:
        """Tell the node where this client is, and learn where it sees it. Peers are told at the next start.

        It is done again by itself after a reconnect, and when the local socket is another one.

        :returns: fires with the public address; None: the client does not speak UDP to the node, and is relayed.
            Fails with a `CommandError`, or a `DeliveryError`.
        """
        return self._where.announce()

    def start(self, room_id: str, max_link_members: int = 0) -> Deferred[None]:
        """Start links in a room: its members are cut into groups, by their distance from their nodes.

        All members are told; `LinksStarted` comes here, too. Links that there are in the room are replaced, and nothing
        that is on its way by them is lost.

        :param max_link_members: of one group, 2 to 255; 0 = the node's default.
        :returns: fires when the members are told; fails with a `CommandError`, or a `DeliveryError`.
        """
        try:
            payload = encode_link_start(LinkStart(room_id, max_link_members))
        except ValueError as error:
            return fail(MalformedPayload(str(error)))
        announced = succeed(None) if self._where.is_announced else self.addresses()
        # Until its sync bytes are here, which may come before or after the answer.
        self._finder.starting.add(room_id)

        def failed(failure: Failure) -> Failure:
            self._finder.starting.discard(room_id)
            return failure

        started: Deferred[Any] = announced.addCallback(lambda _: self._ask_node(Command.LINK_START, payload))
        return started.addCallbacks(lambda _: None, failed)

    def send(
        self, user_id: str, ver: int, cmd: int, payload: bytes = b"", *, reliable: bool = True, room_id: str = ""
    ) -> None:
        """Send one frame to a peer, by the best way that there is.

        :param ver: 2 to 255, the application's.
        :param reliable: False: it may be lost; it is not sent again.
        :param room_id: of which room; empty: the room that was started last and has a link to this user.
        :raises NotConnected: there is no link to this user.
        :raises SlowReceiver: too much waits for the peer, see `when_drained`. Nothing was sent.
        :raises MessageTooLarge: nothing was sent.
        :raises ValueError: no such numbers; the caller's bug.
        """
        frame = _frame(ver, cmd, payload, self._options.max_payload_bytes)
        self._table.driver(user_id, room_id).send(frame, reliable)

    def send_all(
        self, ver: int, cmd: int, payload: bytes = b"", *, reliable: bool = True, room_id: str = ""
    ) -> dict[str, DeliveryError]:
        """Send one frame to all members of our link group; otherwise like `send`.

        :param room_id: of which room; empty: the one that was started last.
        :returns: to whom it was not sent, and why.
        """
        frame = _frame(ver, cmd, payload, self._options.max_payload_bytes)
        failed: dict[str, DeliveryError] = {}
        for driver in list(self._table.group(room_id).drivers):
            if driver.is_retired:
                continue
            try:
                driver.send(frame, reliable)
            except DeliveryError as error:
                failed[driver.user_id] = error
        return failed

    def relay(self, room_id: str, message: bytes) -> Deferred[bool]:
        """Send to all link groups of a room: the node gives it to one member of each, who passes it on in its group.

        All but us hear it as `LinkRelayReceived`. In our own group it goes by our own links.

        :returns: fires with whether the node has sent it; fails as a request does.
        """
        try:
            payload = encode_gid_message(room_id, message)
        except ValueError as error:
            return fail(MalformedPayload(str(error)))
        if len(message) > self._options.max_payload_bytes:
            return fail(MessageTooLarge(f"message of {len(message)} bytes"))
        asked = self._ask_node(Command.LINK_RELAY, payload)
        group = self._group_or_none(room_id)
        if group is not None and not asked.called:
            group.pass_on(self._own_id, message)
        return asked.addCallback(_read_relayed)

    def when_drained(self, user_id: str, room_id: str = "") -> Deferred[None]:
        """Fire when a peer has acknowledged nearly all that was sent to it, or its link is over.

        Fails with `NotConnected` when there is no link to this user.
        """
        try:
            return self._table.driver(user_id, room_id).when_drained()
        except NotConnected as error:
            return fail(error)

    def peers(self, room_id: str = "") -> list[PeerView]:
        """How each peer is reached, of one room or of all."""
        groups = [group for group in self._table if room_id in ("", group.room_id)]
        return [_view(group.room_id, driver) for group in groups for driver in group.drivers if not driver.is_retired]

    @property
    def network(self) -> NetworkView:
        """Where this client is."""
        return self._where.view()

    def close(self, room_id: str = "") -> Deferred[None]:
        """End the links of a room, or all: what is on its way is delivered, for `linger_seconds` at most.

        :returns: fires when they are over; never fails.
        """
        self._table.leave(room_id, "closed by this program")
        groups = [group for group in self._table.all_groups() if room_id in ("", group.room_id)]
        ends = [driver.when_over() for group in groups for driver in group.drivers]
        return DeferredList(ends).addCallback(lambda _: None)

    def statistics(self) -> dict[str, float]:
        """Return counters and current values; those of the links are added up."""
        total: dict[str, float] = {**self._counts, **self._table.statistics()}
        for group in self._table.all_groups():
            for driver in group.drivers:
                for name, value in driver.link.statistics().items():
                    total[f"link_{name}"] = total.get(f"link_{name}", 0) + value
        total.update({f"dropped_{name}": count for name, count in self._sockets.dropped.items()})
        total["search_sockets"] = self._sockets.open_count
        return total

    # What the client tells.

    def take_push(self, event: Event) -> bool:
        """Called by the client. True: the event was a push for links."""
        if not isinstance(event, PushReceived) or event.ver != BUILT_IN_VER or event.cmd not in _PUSHES:
            return False
        self._table.pushed(event.cmd, event.payload)
        return True

    def heard(self, event: Event) -> None:
        """Called by the client with whatever else happens, when the program has been told."""
        if isinstance(event, Connected):
            self.connected(event)
        elif isinstance(event, (RoomMemberLeft, RoomMemberLost)):
            text = "left the room" if isinstance(event, RoomMemberLeft) else "was lost"
            self._table.member_gone(event.room_id, event.user_id, text)
        elif isinstance(event, Disconnected) and not event.will_retry:
            self._table.leave("", "the client is not connected any more")

    def connected(self, event: Connected) -> None:
        """Called by the client when it is signed in."""
        self._own_id = event.user_id
        if not event.resumed:
            self._table.leave("", "the session is a new one, which is in no room")
        self._where.announce_again()

    def room_left(self, room_id: str) -> None:
        """Called by the client when it has left a room."""
        self._table.leave(room_id, "this client left the room")

    def moved(self) -> None:
        """Called by the client when it has another local socket."""
        self._where.announce_again()

    def stop(self) -> None:
        """Called by the client at its end: close everything at once."""
        self._table.abort()
        self._reports.stop()
        self._where.stop()

    def _prepare(self) -> None:
        if not self._where.is_announced:
            self._where.announce().addErrback(
                lambda failure: failure.trap(CommandError, DeliveryError, RemoteProtocolError)
            )

    def _datagram_received(self, datagram: bytes, path: Path) -> None:
        self._table.datagram_received(datagram, path)

    def _sockets_needed(self) -> frozenset[int]:
        return self._table.sockets_needed()

    def _socket_moved(self) -> None:
        self._table.moved()

    def _group_or_none(self, room_id: str) -> LinkGroup | None:
        return next((group for group in self._table if group.room_id == room_id), None)

    def _ask_node(self, cmd: Command, payload: bytes) -> Deferred[bytes]:
        return self._access.request(BUILT_IN_VER, cmd, payload, True, None)

    def _tell_node(self, cmd: Command, payload: bytes, reliable: bool) -> None:
        try:
            self._access.send(BUILT_IN_VER, cmd, payload, reliable)
        except (CommandError, DeliveryError):
            # Packets are repeated by the links; a state that could not be reported is old after the reconnect.
            self._counts["unsent_to_node"] += 1

    def _forward(self, room_id: str, user_id: str, packet: bytes) -> None:
        self._tell_node(Command.LINK_FORWARD, encode_forward(Forwarded(room_id, user_id, packet)), False)


def _read_relayed(answer: bytes) -> bool:
    try:
        return decode_relayed(answer)
    except MalformedPayload as error:
        raise RemoteProtocolError(f"the answer cannot be read: {error}") from None
