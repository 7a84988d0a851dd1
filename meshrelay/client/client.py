"""The client for Twisted programs: methods for the commands of a node, events for what it pushes.

Every method that returns a Deferred can be awaited. What the node refuses comes as the classes of `meshrelay.errors`,
what happens on the way as those of `meshrelay.client.errors`. A request whose connection breaks fails with
`ConnectionLost` and is not sent again: the node may have acted upon it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from struct import error as struct_error
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred, fail

from meshrelay.client.address import parse_url
from meshrelay.client.connector import Connector, ConnectorState, LinkOpener, TokenSource
from meshrelay.client.events import Connected, Disconnected, Event
from meshrelay.client.identity import Identity
from meshrelay.client.joined_rooms import JoinedRooms
from meshrelay.client.links import open_link
from meshrelay.client.listeners import EventStream, Listeners, WhenFull
from meshrelay.client.options import ClientOptions
from meshrelay.client.recovery import GroupRecovery
from meshrelay.client.requests import read_answer
from meshrelay.errors import MalformedPayload, RemoteProtocolError
from meshrelay.model import HistoryPage, Presence, check_user_id
from meshrelay.wire.buffer import PayloadReader
from meshrelay.wire.commands import (
    BUILT_IN_VER,
    CORE_VER,
    Command,
    CoreCommand,
    JoinRandom,
    NewGroup,
    decode_created,
    decode_gid_list,
    encode_direct,
    encode_gid_message,
    encode_join_random,
    encode_new_group,
)
from meshrelay.wire.history_commands import (
    PRESENCE_OFF,
    PRESENCE_ON,
    AskHistory,
    AskPresence,
    decode_history_page,
    decode_presence,
    encode_ask_history,
    encode_ask_presence,
)
from meshrelay.wire.room_commands import NewRoom, RoomList, decode_owner, decode_room_list, encode_new_room

if TYPE_CHECKING:
    from meshrelay.client.p2p.links import P2PLinks

__all__ = ["Client"]

E = TypeVar("E", bound=Event)
R = TypeVar("R")

#: Random bytes of a PING, so that an answer cannot be taken for that of another.
_PING_BYTES = 8


def _decode_gid(payload: bytes) -> str:
    reader = PayloadReader(payload)
    group_id = reader.gid("group ID")
    reader.end("group ID")
    return group_id


class Client:
    """One user at a node.

    :param url: where the node is: ``tcp://host:port``, ``tls://``, ``ws://host:port/``, ``wss://``, or
        ``udp+http://host:port`` and ``udp+https://`` (host and port of the node's HTTP).
    :param user: 1 to 128 bytes of UTF-8; None when a token names the user (not on UDP).
    :param token: a JWT, or a function that gives a fresh one at each connect: a string, a coroutine or a Deferred.
    :param acks: tell the node what was received, so that a resume can recover what was lost with a connection.
    :param resume: after a break go on with the same session.
    :param opener: what opens connections; another one is for tests and for transports of one's own.
    :raises ValueError: the URL or the user is none; the text is fit for the user's eyes.
    """

    def __init__(
        self,
        reactor: Any,
        url: str,
        user: str | None = None,
        *,
        token: TokenSource = None,
        acks: bool = True,
        resume: bool = True,
        options: ClientOptions | None = None,
        opener: LinkOpener = open_link,
    ) -> None:
        options = options or ClientOptions()
        if user is not None:
            check_user_id(user)
        self._reactor = reactor
        self._options = options
        self._listeners = Listeners()
        self._rooms = JoinedRooms()
        self._recovery = GroupRecovery(reactor, self._ask_raw, self._listeners.tell)
        self._links: P2PLinks | None = None
        #: Those that are not over.
        self._streams: dict[EventStream, None] = {}
        self._connected: Connected | None = None
        identity = Identity(user, options.client_name, acks, resume, options.reconnect)
        self._connector = Connector(reactor, parse_url(url), identity, token, options, self._tell, opener)

    @property
    def is_connected(self) -> bool:
        """True: signed in at this moment."""
        return self._connector.state is ConnectorState.ONLINE

    def connect(self) -> Deferred[Connected]:
        """Sign in.

        :returns: fires when signed in. Fails with `ConnectFailed` when the node cannot be reached (with ``retry_first``
            it is tried again instead), with `SignInRefused` when it does not take the user. Cancelling it ends the try.
        """
        return self._connector.connect()

    def close(self) -> Deferred[None]:
        """Say GOODBYE; the session is over and nothing is kept for a resume. The client may connect again.

        P2P links end at once; to have delivered what is on its way by them, wait for `P2PLinks.close` first.

        :returns: fires when the connection is closed, two seconds later at most; never fails.
        """
        if self._links is not None:
            self._links.stop()
        streams = list(self._streams)
        closed = self._connector.close()
        if self._connected is None:
            # Where there never was a connection nothing has told them.
            for stream in streams:
                stream.end()
                self._streams.pop(stream, None)
        return closed

    @property
    def links(self) -> P2PLinks:
        """P2P links to the members of rooms. A program that never asks for them has none: then the pushes of the node
        for links come as `PushReceived`."""
        if self._links is None:
            # Here, because most programs do without.
            from meshrelay.client.p2p.links import P2PLinks

            self._links = P2PLinks(
                self._reactor,
                self._connector,
                self._rooms,
                self.room_members,
                self._listeners.tell,
                self._options.p2p,
            )
            if self._connected is not None:
                self._links.connected(self._connected)
        return self._links

    def ping(self, timeout_seconds: float | None = None) -> Deferred[float]:
        """Fire with the seconds that a round trip to the node took."""
        payload = os.urandom(_PING_BYTES)
        started = self._reactor.seconds()

        def elapsed(answer: bytes) -> float:
            if answer != payload:
                raise RemoteProtocolError("the answer to PING does not carry its bytes")
            seconds: float = self._reactor.seconds() - started
            return seconds

        answer = self._connector.request(CORE_VER, CoreCommand.PING, payload, False, timeout_seconds)
        return answer.addCallback(elapsed)

    def create_group(
        self, *, allow_empty: bool = False, join: bool = True, ttl_seconds: int = 3600, interval_ms: int = 0
    ) -> Deferred[str]:
        """Make a group; fires with its ID.

        :param allow_empty: the group stays when its last member leaves.
        :param join: this user is its first member.
        :param ttl_seconds: its lifetime, more than 10.
        :param interval_ms: what is sent within the interval goes out together; below 100 it is 0, which is off.
        :returns: fails with a `GroupNewError`.
        """
        payload = encode_new_group(NewGroup(allow_empty, join, ttl_seconds, interval_ms))
        return self._ask(Command.GROUP_CREATE, payload, _decode_gid)

    def join_group(
        self, group_id: str, message: bytes = b"", *, recover: bool | tuple[int, int] = False
    ) -> Deferred[None]:
        """Become a member; the others are told when the message is not empty. Fails with a `GroupJoinError`.

        :param recover: True: after each break be given back what was missed, if the group has a history;
            `GroupRecovered` says how that went. A position that `group_position` told another time: begin behind it.
            Without one, a group that was joined so before is gone on with from where the client is.
        """
        if recover is not False:
            return self._recovery.join(group_id, message, (0, 0) if recover is True else recover)
        return self._tell_group(Command.GROUP_JOIN, group_id, message, True)

    def leave_group(self, group_id: str, message: bytes = b"") -> Deferred[None]:
        """Be no member any more; the others are told when the message is not empty. Fails with a `GroupLeaveError`."""
        left = self._tell_group(Command.GROUP_LEAVE, group_id, message, True)
        return self._recovery.leaving(group_id, left)

    def group_position(self, group_id: str) -> tuple[int, int]:
        """Epoch and offset of the last message told of a group that was joined with ``recover``; 0 and 0: none."""
        return self._recovery.positions.of(group_id)

    def history(self, group_id: str, after: int = 0, limit: int = 100) -> Deferred[HistoryPage]:
        """Fire with messages that are kept of a group of this user: those behind the offset `after`, the oldest first.

        :param limit: at most so many; fewer come when they are long. 0 = only where the history is.
        :returns: fails with `NotMember`, `GroupNotFound`, or with `TimedOut`: where it is kept is away.
        """
        try:
            payload = encode_ask_history(AskHistory(group_id, after, limit))
        except (ValueError, struct_error) as error:
            return fail(MalformedPayload(str(error)))
        return self._ask(Command.GROUP_HISTORY, payload, decode_history_page)

    def presence(
        self, group_id: str, after: str = "", limit: int = 1000, *, watch: bool | None = None
    ) -> Deferred[Presence]:
        """Fire with who is in a group of this user, in the whole cluster, by user ID.

        :param after: user ID; those behind it are named.
        :param limit: at most so many.
        :param watch: True: tell what changes from now on by `GroupPresenceChanged`, also after a break; False: no more.
        :returns: fails with `NotMember` or `GroupNotFound`.
        """
        flags = 0 if watch is None else PRESENCE_ON if watch else PRESENCE_OFF
        try:
            payload = encode_ask_presence(AskPresence(group_id, flags, limit, after))
        except (ValueError, struct_error) as error:
            return fail(MalformedPayload(str(error)))

        def note(presence: Presence) -> Presence:
            if watch:
                self._recovery.watch(group_id, True)
            return presence

        if watch is False:
            # Also when the node cannot be told.
            self._recovery.watch(group_id, False)
        return self._ask(Command.GROUP_PRESENCE, payload, decode_presence).addCallback(note)

    def join_random_group(
        self, *, ttl_seconds: int = 3600, allow_empty: bool = False, interval_ms: int = 0, message: bytes = b""
    ) -> Deferred[tuple[bool, str]]:
        """Join some group that others made in this way, or make one; the settings are for a group that is made.

        :returns: fires with (was it created, its ID).
        """
        payload = encode_join_random(JoinRandom(ttl_seconds, allow_empty, interval_ms, message))
        return self._ask(Command.GROUP_JOIN_RANDOM, payload, decode_created)

    def list_groups(self) -> Deferred[list[str]]:
        """Fire with the IDs of this user's groups, newest last."""
        return self._ask(Command.GROUP_LIST, b"", decode_gid_list)

    def broadcast(self, group_id: str, message: bytes, *, reliable: bool = True) -> Deferred[None]:
        """Send to the other members; fires when the node has taken it.

        :param reliable: False: members on UDP may miss it.
        """
        return self._tell_group(Command.GROUP_BROADCAST, group_id, message, reliable)

    def broadcast_nowait(self, group_id: str, message: bytes, *, reliable: bool = True) -> None:
        """Send to the other members without an answer: the fastest way, and errors of the node are not told.

        :raises DeliveryError: nothing was sent: `NotConnected`, or `UnsentFull` (then wait for `when_drained`).
        :raises MessageTooLarge: nothing was sent.
        """
        payload = encode_gid_message(group_id, message)
        self._connector.send(BUILT_IN_VER, Command.GROUP_BROADCAST, payload, reliable)

    def create_room(
        self,
        *,
        max_members: int = 0,
        allow_empty: bool = False,
        join: bool = True,
        ttl_seconds: int = 3600,
        interval_ms: int = 0,
    ) -> Deferred[str]:
        """Make a room on the node of this client; fires with its ID.

        :param max_members: 0 = as many as the node allows; more than that fails with `MalformedPayload`.
        :returns: fails with a `RoomNewError`. The other settings are as with `create_group`.
        """
        payload = encode_new_room(NewRoom(max_members, allow_empty, join, ttl_seconds, interval_ms))
        made = self._ask(Command.ROOM_CREATE, payload, _decode_gid)
        return made.addCallback(self._room_joined) if join else made

    def join_room(self, room_id: str, message: bytes = b"") -> Deferred[str]:
        """Become a member, on whatever node the room is; the others are told, and who is its owner is what it fires
        with. Fails with a `RoomJoinError`."""
        joined = self._ask_place(Command.ROOM_JOIN, room_id, message, True)

        def note(answer: bytes) -> bytes:
            self._room_joined(room_id)
            return answer

        return joined.addCallback(note).addCallback(read_answer, decode_owner)

    def leave_room(self, room_id: str, message: bytes = b"") -> Deferred[None]:
        """Be no member any more; the others are told. Fails with a `RoomLeaveError`."""

        def note(_: None) -> None:
            self._rooms.remove(room_id)
            if self._links is not None:
                self._links.room_left(room_id)

        return self._tell_group(Command.ROOM_LEAVE, room_id, message, True).addCallback(note)

    def broadcast_room(self, room_id: str, message: bytes, *, reliable: bool = True) -> Deferred[None]:
        """Send to the other members; fires when the room's node has put it in line, the same for all members.

        Calls need not wait for each other: what arrives, arrives in their order.

        :param reliable: False: members on UDP may miss it.
        """
        return self._tell_group(Command.ROOM_BROADCAST, room_id, message, reliable)

    def room_members(self, room_id: str) -> Deferred[RoomList]:
        """Fire with (owner, members in join order) of a room that this user is in."""
        return self._ask_place(Command.ROOM_MEMBERS, room_id, b"", True).addCallback(read_answer, decode_room_list)

    def send_direct(self, peer: str, message: bytes, *, reliable: bool = True) -> Deferred[None]:
        """Send to one user, wherever in the cluster; fires when the peer's node has taken it.

        Calls need not wait for each other, up to `ClientOptions.max_pending_requests` of them: what arrives at a peer
        arrives in the order of the calls, and each call has a result of its own.

        :param peer: user ID, 1 to 128 bytes of UTF-8; one's own too.
        :param message: not empty.
        :param reliable: False: on UDP it may be lost, or overtake others.
        :returns: fails with a `DirectMessageError` (`UserNotFound`, `MessageIsEmpty`, `NodesNotFound`,
            `UserDeclined`), with `TimedOut` (the peer may have it all the same), or as `request` does.
        """
        return self._tell_peer(Command.DM_SEND, peer, message, reliable)

    def clear_direct(self, peer: str, message: bytes = b"") -> Deferred[None]:
        """End the exchange of direct messages with a user: both nodes forget the way. The next message finds it again.

        :param message: the last one to the peer; empty = the peer is told nothing.
        :returns: fires also when there was nothing to end.
        """
        return self._tell_peer(Command.DM_CLEAR, peer, message, True)

    def request(
        self, ver: int, cmd: int, payload: bytes = b"", *, reliable: bool = True, timeout_seconds: float | None = None
    ) -> Deferred[bytes]:
        """Run a command of the application; fires with the payload of its answer.

        :param ver: 2 to 255 for the application's commands.
        :param reliable: whether pushes that the command causes must arrive.
        :param timeout_seconds: longest wait; None = the option's.
        :returns: fails with `Refused`, `UnknownCommand`, `TimedOut`, ..., or a `DeliveryError`. Cancelling it only
            stops the waiting.
        """
        return self._connector.request(ver, cmd, payload, reliable, timeout_seconds)

    def send(self, ver: int, cmd: int, payload: bytes = b"", *, reliable: bool = True) -> None:
        """As `request`, without an answer. Raises as `broadcast_nowait` does."""
        self._connector.send(ver, cmd, payload, reliable)

    def when_drained(self) -> Deferred[None]:
        """Fire when little waits to be sent: at once, or when the node has read on. Fails with `NotConnected`."""
        return self._connector.when_drained()

    def rebind(self) -> bool:
        """Go on from a new local socket; for UDP, when the host has moved to another network. Nothing is lost.

        A link whose socket fails does so by itself. A packet that vanishes is no failure that a socket can see, so a
        program that hears of the move first saves time by saying so.

        :returns: False: not done, because the client is not connected, or not by UDP, or there is no way to the node.
        """
        is_moved = self._connector.rebind()
        if is_moved and self._links is not None:
            self._links.moved()
        return is_moved

    def on(self, event_class: type[E], callback: Callable[[E], object]) -> Callable[[], None]:
        """Call `callback` with each event of that class; with `Event` for all. It may be a coroutine function.

        Callbacks must not block. What one raises is logged.

        :returns: a function that ends it.
        """
        return self._listeners.add(event_class, callback)

    def events(self, max_events: int = 1024, when_full: WhenFull = WhenFull.DROP_OLDEST) -> EventStream:
        """Return the events from now on, for ``async for``. It ends when the client is closed or gives up.

        :param max_events: what waits at most while the program does not read.
        :param when_full: what happens to one more; `EventStream.dropped` counts.
        """
        stream = EventStream(max_events, when_full)

        def put(event: Event) -> None:
            stream.put(event)
            if isinstance(event, Disconnected) and not event.will_retry:
                stream.end()
            if stream.is_over:
                self._streams.pop(stream, None)
                remove()

        self._streams[stream] = None
        remove = self._listeners.add(Event, put)
        return stream

    def _tell(self, event: Event) -> None:
        """Called by the connector."""
        if isinstance(event, Connected):
            self._connected = event
        elif isinstance(event, Disconnected):
            self._connected = None if not event.will_retry else self._connected
        own_id = self._connected.user_id if self._connected is not None else ""
        self._rooms.heard(event, own_id)
        if self._recovery.heard(event):
            return
        if self._links is None:
            self._listeners.tell(event)
        elif not self._links.take_push(event):
            self._listeners.tell(event)
            self._links.heard(event)
        self._recovery.told(event)

    def _ask_raw(self, cmd: Command, payload: bytes) -> Deferred[bytes]:
        return self._connector.request(BUILT_IN_VER, cmd, payload, True, None)

    def _room_joined(self, room_id: str) -> str:
        self._rooms.add(room_id)
        return room_id

    def _tell_group(self, cmd: Command, group_id: str, message: bytes, reliable: bool) -> Deferred[None]:
        return self._ask_place(cmd, group_id, message, reliable).addCallback(lambda _: None)

    def _ask_place(self, cmd: Command, place_id: str, message: bytes, reliable: bool) -> Deferred[bytes]:
        """Run a command about one group or room."""
        try:
            payload = encode_gid_message(place_id, message)
        except ValueError as error:
            return fail(MalformedPayload(str(error)))
        return self._connector.request(BUILT_IN_VER, cmd, payload, reliable, None)

    def _tell_peer(self, cmd: Command, peer: str, message: bytes, reliable: bool) -> Deferred[None]:
        try:
            payload = encode_direct(check_user_id(peer), message)
        except ValueError as error:
            return fail(MalformedPayload(f"peer: {error}"))
        answer = self._connector.request(BUILT_IN_VER, cmd, payload, reliable, None)
        return answer.addCallback(lambda _: None)

    def _ask(self, cmd: Command, payload: bytes, decode: Callable[[bytes], R]) -> Deferred[R]:
        return self._connector.request(BUILT_IN_VER, cmd, payload, True, None).addCallback(read_answer, decode)
