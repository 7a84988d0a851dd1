"""Direct messages between users, wherever in the cluster they are (seed 002; client protocol, section 3).

::

    DM_SEND, send_direct --> DirectRoutes (who has the peer) --> other node --> DirectDelivery (callbacks) --> push
                                        |
                                        `--> ChannelTable: where peers are, and whom to tell when a user is gone

This module holds what clients and the application may do, and what other nodes say.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from meshrelay.background import in_time, result_of, start
from meshrelay.components.direct_channels import Channel, ChannelTable, Place
from meshrelay.components.direct_commands import DirectCommands
from meshrelay.components.direct_delivery import DirectDelivery, check_message_size, push_direct
from meshrelay.components.direct_routes import DirectRoutes, Outside, RouteParts
from meshrelay.components.hooks import Command
from meshrelay.components.node_post import NodePost
from meshrelay.config.schema import Config
from meshrelay.errors import CommandError, MalformedPayload, MeshError, MessageIsEmpty
from meshrelay.fanout.turn import Turn
from meshrelay.interfaces import (
    IComponent,
    IDirectMessages,
    INodeObserver,
    ISession,
    MessageCallback,
    ReceiveCallback,
)
from meshrelay.model import CloseReason, User, check_user_id
from meshrelay.wire.buffer import encode_str8
from meshrelay.wire.commands import BUILT_IN_VER
from meshrelay.wire.commands import Command as CommandNumber
from meshrelay.wire.direct_node import (
    Clear,
    Direct,
    Gone,
    Outcome,
    decode_clear,
    decode_gone,
    decode_results,
    decode_send,
    encode_clear,
    encode_gone,
    encode_results,
)
from meshrelay.wire.node_kinds import NodeKind

__all__ = ["MAX_REFUSED", "DirectMessages", "DirectRules"]

#: How long it is remembered which messages were refused, so that none sent behind them is taken before them.
REFUSED_SECONDS = 10.0

#: Pairs of which that is remembered, twice; then the older half is forgotten early.
MAX_REFUSED = 50_000

#: Idle channels are looked at this often.
EXPIRE_SECONDS = 5.0

DisconnectCallback = Callable[[User, str], Awaitable[bytes | None] | bytes | None]


class DirectRules(NamedTuple):
    """What must be known of the configuration."""

    #: A push is never longer.
    max_payload_bytes: int
    cache_seconds: float
    max_channels: int
    lookup_timeout_seconds: float
    #: How long a user whose node was lost may take to come back on another one.
    resume_seconds: float

    @classmethod
    def of(cls, config: Config) -> DirectRules:
        """Return what the configuration says."""
        session, dm = config.session, config.dm
        return cls(
            session.max_payload_bytes,
            dm.cache_seconds,
            dm.max_channels,
            dm.lookup_timeout_seconds,
            session.resume_seconds,
        )


@implementer(IDirectMessages, IComponent, INodeObserver)
class DirectMessages:
    """See `IDirectMessages` and `IComponent`."""

    name = "dm"
    _log = Logger()

    def __init__(self, parts: RouteParts, turn: Turn, rules: DirectRules) -> None:
        self._nodes = parts.nodes
        self._directory = parts.directory
        self._sessions = parts.sessions
        self._clock = parts.clock
        self._alarms = parts.alarms
        self._turn = turn
        self._rules = rules
        self._table = ChannelTable(rules.max_channels, rules.cache_seconds, self._expire_later)
        self._delivery = DirectDelivery(parts.clock, rules.lookup_timeout_seconds)
        self._routes = DirectRoutes(parts, self._table, self._delivery.deliver, rules.lookup_timeout_seconds)
        self._commands = DirectCommands(self._routes, self._delivery, self._clear_channel, rules.max_payload_bytes)
        self._is_exposed = False
        self._clear_callbacks: list[Callable[[str, User], object]] = []
        self._disconnect_callbacks: list[DisconnectCallback] = []
        self._post = NodePost(parts.nodes, parts.alarms)
        #: Node ID -> (number, outcome) to be told at the end of the turn.
        self._results: dict[str, list[tuple[int, int]]] = {}
        #: (node, sender, peer) -> generation that was refused; what is older than REFUSED_SECONDS goes.
        self._refused: dict[tuple[str, str, str], int] = {}
        self._refused_before: dict[tuple[str, str, str], int] = {}
        self._is_forgetting = False
        self._is_expiring = False
        for kind, handler in (
            (NodeKind.DIRECT_SEND, self._parcel_came),
            (NodeKind.DIRECT_RESULTS, self._results_came),
            (NodeKind.DIRECT_CLEAR, self._clear_came),
            (NodeKind.DIRECT_GONE, self._gone_came),
        ):
            self._nodes.handle(kind, handler)
        self._nodes.add_observer(self)

    # What IComponent asks for.

    def command_table(self) -> Mapping[tuple[int, int], Command]:
        """See `IComponent`; empty unless `expose_commands` was called."""
        if not self._is_exposed:
            return {}
        return self._commands.table()

    def expose_commands(self) -> None:
        """See `IDirectMessages`."""
        if self._is_exposed:
            raise RuntimeError("the commands of direct messages are exposed already")
        self._is_exposed = True

    def session_opened(self, session: ISession) -> None:
        """See `ISessionObserver`."""

    def session_away(self, session: ISession) -> None:
        """See `ISessionObserver`: messages are kept for it."""

    def session_back(self, session: ISession) -> None:
        """See `ISessionObserver`."""

    def session_moved(self, session: ISession) -> None:
        """See `ISessionObserver`: its peers look it up when they write to it."""
        for channel in self._table.peers_of(session.user.user_id):
            self._table.close(channel)

    def session_adopted(self, session: ISession, group_ids: list[str]) -> None:
        """See `ISessionObserver`."""

    def session_closed(self, session: ISession, reason: CloseReason | None) -> None:
        """See `ISessionObserver`: all its peers are told, unless the user has only signed in anew, anywhere."""
        if reason in (CloseReason.REPLACED, CloseReason.MOVED):
            return
        user = session.user
        for channel in self._table.peers_of(user.user_id):
            self._table.close(channel)
            if channel.place is not None:
                start(self._tell_gone(user, channel.peer_id, channel.place), self._log, "the end of a user")

    def statistics(self) -> Mapping[str, int]:
        """See `IComponent`."""
        return {
            "direct_channels": len(self._table),
            "direct_channels_evicted": self._table.evicted,
            "direct_sent": self._routes.sent,
            "direct_delivered": self._delivery.delivered,
            "direct_declined": self._delivery.declined,
            "direct_failed": self._delivery.failed,
            "direct_waiting": self._delivery.waiting_count,
            "direct_in_flight": self._routes.flight_count,
            "direct_pending": self._routes.pending_count,
            "direct_lookups": self._routes.lookups,
            "direct_stale": self._routes.stale,
            "direct_timeouts": self._routes.timeouts,
            "direct_results_kept": self._post.kept_count,
            "direct_results_dropped": self._post.dropped,
            "direct_refused_kept": len(self._refused) + len(self._refused_before),
        }

    def stop(self) -> None:
        """See `IComponent`."""
        self._results.clear()

    # What the application may do.

    async def send_direct(self, user: User | None, peer_id: str, ver: int, cmd: int, message: bytes) -> None:
        """See `IDirectMessages`."""
        if ver < BUILT_IN_VER:
            raise ValueError("ver 0 is the node's own, pushes have 1 to 255")
        self._check_peer(peer_id)
        self._check_size(message, 0)
        sender_id, sid = (user.user_id, user.sid) if user is not None else ("", "")
        await self._wait_for(Direct(sender_id, sid, peer_id, ver, cmd, False, message))

    async def send_as_server(self, peer_id: str, message: bytes) -> None:
        """Send as clients see it: a DM_SEND push whose sender is "". Otherwise like `send_direct`."""
        self._check_peer(peer_id)
        self._check_size(message, 1)
        await self._wait_for(Direct("", "", peer_id, BUILT_IN_VER, CommandNumber.DM_SEND, True, message))

    def use_outside(self, outside: Outside) -> None:
        """From now on messages go there whose receivers are outside. Called before the first message."""
        self._routes.outside = outside

    async def send_from_outside(self, sender_id: str, peer_id: str, message: bytes) -> None:
        """Send a DM_SEND push whose sender is outside. Otherwise like `send_direct`."""
        self._check_peer(peer_id)
        self._check_size(message, len(encode_str8(sender_id)))
        await self._wait_for(Direct(sender_id, "", peer_id, BUILT_IN_VER, CommandNumber.DM_SEND, True, message))

    async def _wait_for(self, direct: Direct) -> None:
        if not direct.message:
            raise MessageIsEmpty
        done: Deferred[CommandError | None] = Deferred()
        self._routes.send(direct, done.callback)
        error = await done
        if error is not None:
            raise error

    def _check_peer(self, peer_id: str) -> None:
        try:
            check_user_id(peer_id)
        except ValueError as error:
            raise MalformedPayload(f"peer: {error}") from None

    def _check_size(self, message: bytes, overhead: int) -> None:
        check_message_size(message, self._rules.max_payload_bytes - overhead)

    async def clear_cache(self, user: User, peer_id: str, ver: int, cmd: int, message: bytes) -> None:
        """See `IDirectMessages`."""
        self._check_size(message, 0)
        self._clear_channel(Clear(user.user_id, peer_id, ver, cmd, False, message))

    def on_receive(self, callback: ReceiveCallback) -> None:
        """See `IDirectMessages`."""
        self._delivery.on_receive(callback)

    def on_message(self, callback: MessageCallback) -> None:
        """See `IDirectMessages`."""
        self._delivery.on_message(callback)

    def on_clear_cache(self, callback: Callable[[str, User], object]) -> None:
        """See `IDirectMessages`."""
        self._clear_callbacks.append(callback)

    def on_user_disconnect(self, callback: DisconnectCallback) -> None:
        """See `IDirectMessages`."""
        self._disconnect_callbacks.append(callback)

    # Both ends of a channel.

    def _expire_later(self) -> None:
        if not self._is_expiring:
            self._is_expiring = True
            self._alarms.call_later(EXPIRE_SECONDS, self._expire)

    def _expire(self) -> None:
        self._is_expiring = False
        self._table.expire(self._clock.seconds())
        if len(self._table):
            self._expire_later()

    def _clear_channel(self, clear: Clear) -> None:
        channel = self._table.find(clear.user_id, clear.peer_id)
        if channel is None:
            return

        def clear_it(error: CommandError | None) -> None:
            if error is None:
                self._close_both(channel, clear)

        if not self._routes.wait_behind(channel, clear_it):
            self._close_both(channel, clear)

    def _close_both(self, channel: Channel, clear: Clear) -> None:
        self._table.close(channel)
        place = channel.place
        if place is None:
            return
        if place.node_id == self._nodes.node_id:
            self._cleared(clear)
        else:
            self._nodes.send(place.node_id, NodeKind.DIRECT_CLEAR, encode_clear(clear))

    def _clear_came(self, node_id: str, data: bytes) -> None:
        self._cleared(decode_clear(data))

    def _cleared(self, clear: Clear) -> None:
        """The end that stays: forget the way back, and tell the client or the application."""
        channel = self._table.find(clear.peer_id, clear.user_id)
        if channel is not None:
            self._table.close(channel)
        session = self._sessions.find_user(clear.peer_id)
        if session is None:
            return
        if clear.message:
            direct = Direct(clear.user_id, "", clear.peer_id, clear.ver, clear.cmd, clear.has_envelope, clear.message)
            push_direct(session, direct, clear.message)
            return
        for callback in self._clear_callbacks:
            start(_call(callback, clear.user_id, session.user), self._log, "a callback for a cleared channel")

    # What other nodes say.

    def _parcel_came(self, node_id: str, data: bytes) -> None:
        parcel = decode_send(data)
        direct = parcel.direct
        key = (node_id, direct.sender_id, direct.peer_id)

        def done(outcome: Outcome) -> None:
            if outcome is Outcome.NOT_HERE:
                # What its node has sent behind it must not be taken before it.
                self._remember_refused(key, parcel.generation)
            self._tell(node_id, parcel.number, outcome)

        session = self._sessions.find_user(direct.peer_id)
        if session is None or self._is_refused(key, parcel.generation):
            done(Outcome.NOT_HERE)
            return
        if direct.sender_id and not self._routes.outside.has(direct.sender_id):
            back = self._table.open(direct.peer_id, direct.sender_id, self._clock.seconds())
            if back.is_idle or back.place is None:
                back.place = Place(node_id, direct.sender_sid)
        self._delivery.deliver(direct, session, done, lambda: self._is_refused(key, parcel.generation))

    def _is_refused(self, key: tuple[str, str, str], generation: int) -> bool:
        return generation <= max(self._refused.get(key, -1), self._refused_before.get(key, -1))

    def _remember_refused(self, key: tuple[str, str, str], generation: int) -> None:
        if not self._is_forgetting:
            self._is_forgetting = True
            self._alarms.call_later(REFUSED_SECONDS, self._forget_refused)
        if len(self._refused) >= MAX_REFUSED:
            self._refused_before, self._refused = self._refused, {}
        self._refused[key] = max(generation, self._refused.get(key, -1))

    def _forget_refused(self) -> None:
        """Forget the older half; the younger one is the older one now."""
        self._refused_before, self._refused = self._refused, {}
        self._is_forgetting = bool(self._refused_before)
        if self._is_forgetting:
            self._alarms.call_later(REFUSED_SECONDS, self._forget_refused)

    def _tell(self, node_id: str, number: int, outcome: Outcome) -> None:
        if not self._results:
            self._turn.join(self)
        self._results.setdefault(node_id, []).append((number, outcome))

    def flush(self) -> None:
        """Tell all nodes what became of their messages. Called at the end of the turn."""
        results, self._results = self._results, {}
        for node_id, outcomes in results.items():
            # Without it all that is sent behind it to a peer who moves would wait.
            self._post.tell(node_id, NodeKind.DIRECT_RESULTS, encode_results(outcomes))

    def _results_came(self, node_id: str, data: bytes) -> None:
        for number, outcome in decode_results(data):
            self._routes.outcome_came(number, outcome)

    # Users that are gone.

    async def _tell_gone(self, user: User, peer_id: str, place: Place) -> None:
        """Tell the peer of a user who is gone."""
        message = await self._disconnect_message(user, peer_id)
        if self._sessions.find_user(user.user_id) is not None:
            # The application took its time, and the user is back.
            return
        gone = Gone(user.user_id, user.sid, peer_id, message)
        if place.node_id == self._nodes.node_id:
            self._gone(gone, place.node_id)
        else:
            self._nodes.send(place.node_id, NodeKind.DIRECT_GONE, encode_gone(gone))

    async def _disconnect_message(self, user: User, peer_id: str) -> bytes:
        message = b""
        limit = self._rules.max_payload_bytes - 1 - len(user.user_id.encode("utf-8"))
        for callback in self._disconnect_callbacks:
            try:
                waiting = Deferred.fromCoroutine(result_of(callback(user, peer_id)))
                made = await in_time(waiting, self._rules.lookup_timeout_seconds, self._clock)
            except Exception:  # the application's bug must not keep the peer from being forgotten
                self._log.failure("a callback for a user who is gone failed")
                continue
            if isinstance(made, bytes) and len(made) <= limit:
                message = made
            elif made is not None:
                self._log.error("a callback for a user who is gone must return at most {limit} bytes", limit=limit)
        return message

    def _gone_came(self, node_id: str, data: bytes) -> None:
        self._gone(decode_gone(data), node_id)

    def _gone(self, gone: Gone, node_id: str) -> None:
        """:param node_id: on which the user was."""
        channel = self._table.find(gone.peer_id, gone.user_id)
        if channel is None:
            # The peer does not know the user any more, and so does not miss it.
            return
        place = channel.place
        if place is not None and place.sid not in ("", gone.sid) and place.node_id != node_id:
            # The user has signed in on another node meanwhile.
            return
        self._table.close(channel)
        session = self._sessions.find_user(gone.peer_id)
        if session is not None and gone.message:
            direct = Direct(
                gone.user_id, "", gone.peer_id, BUILT_IN_VER, CommandNumber.DM_PEER_GONE, True, gone.message
            )
            push_direct(session, direct, gone.message)

    # Nodes that are gone, with their users.

    def node_met(self, node_id: str) -> None:
        """See `INodeObserver`: another process may count its look-ups from the beginning."""
        for refused in (self._refused, self._refused_before):
            for key in [key for key in refused if key[0] == node_id]:
                del refused[key]

    def node_back(self, node_id: str) -> None:
        """See `INodeObserver`."""

    def node_lost(self, node_id: str) -> None:
        """See `INodeObserver`: its users may come back on other nodes; who has not is gone."""
        self._routes.node_lost(node_id)
        channels = self._table.through(node_id)
        if channels:
            self._alarms.call_later(
                self._rules.resume_seconds,
                lambda: start(self._check_users(node_id, channels), self._log, "users of a lost node"),
            )

    def node_gone(self, node_id: str) -> None:
        """See `INodeObserver`."""
        self.node_lost(node_id)
        self._post.node_gone(node_id)

    async def _check_users(self, node_id: str, channels: list[Channel]) -> None:
        for channel in channels:
            place = channel.place
            is_same = place is not None and place.node_id == node_id
            if not is_same or self._table.find(channel.user_id, channel.peer_id) is not channel or place is None:
                continue
            if not self._nodes.is_lost(node_id) and node_id in self._nodes.known():
                # It is back, and will say so itself when a user is gone.
                return
            if await self._is_elsewhere(channel.peer_id, node_id):
                channel.place = None
                continue
            user = User(channel.peer_id, place.sid)
            message = await self._disconnect_message(user, channel.user_id)
            self._gone(Gone(user.user_id, user.sid, channel.user_id, message), node_id)

    async def _is_elsewhere(self, user_id: str, lost_node: str) -> bool:
        if self._sessions.find_user(user_id) is not None:
            return True
        if self._directory is None:
            return False
        try:
            record = await self._directory.find_user(user_id)
        except MeshError:
            return False
        # It may not have forgotten the lost node yet.
        return record is not None and record.node_id != lost_node


async def _call(callback: Callable[[str, User], object], user_id: str, user: User) -> None:
    await result_of(callback(user_id, user))
