"""P2P links: members of rooms are introduced to each other, and spoken to for each other where that fails (seed 000).

::

    LINK_ADDRESSES --> LinkFacts
    LINK_START     --> LinkHome, at the home of the room: groups, keys --LINK_PLAN--> LinkEdge --> sync bytes to members
    LINK_FORWARD   --> LinkForward (limits) --> LinkEdge --> LinkEdge of the peer --> push
    LINK_RELAY, LINK_STATE --> LinkEdge (introduced?) --> LinkHome

This module puts the parts together, speaks with other nodes, and holds what the application may do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from zope.interface import implementer

from meshrelay.components.hooks import Command
from meshrelay.components.link_asks import LinkAsks
from meshrelay.components.link_commands import LinkCommands
from meshrelay.components.link_edge import FORWARD_DROPS, LinkEdge
from meshrelay.components.link_facts import LinkFacts
from meshrelay.components.link_forward import LinkForward
from meshrelay.components.link_groups import cut_into_groups, group_size, make_sync_bytes
from meshrelay.components.link_home import LinkHome
from meshrelay.components.link_parts import LinkRules, LinkSurroundings
from meshrelay.components.node_post import NodePost
from meshrelay.errors import MessageTooLarge, NotInRoom, NotSignedIn
from meshrelay.interfaces import Hook, IComponent, INodeObserver, IPeerLinks, ISession
from meshrelay.model import CloseReason, LinkPair, User
from meshrelay.wire.commands import BUILT_IN_VER
from meshrelay.wire.commands import Command as CommandNumber
from meshrelay.wire.link_commands import LinkReport, LinkStart, decode_link_start
from meshrelay.wire.link_node import LinkAsk, LinkRelayed, LinkReported, encode_relay, encode_reported
from meshrelay.wire.node_kinds import NodeKind
from meshrelay.wire.sync_bytes import SECRET_BYTES

__all__ = ["PeerLinks"]


@implementer(IPeerLinks, IComponent, INodeObserver)
class PeerLinks:
    """See `IPeerLinks` and `IComponent`."""

    name = "link"

    def __init__(self, around: LinkSurroundings, rules: LinkRules) -> None:
        self._around = around
        self._nodes = around.nodes
        self._rooms = around.rooms
        self._rules = rules
        self._post = NodePost(around.nodes, around.alarms)
        self._facts = LinkFacts(around.nodes.node_id, around.rooms, rules)
        self._home = LinkHome(around, rules, self._facts, self._post)
        self._edge = LinkEdge(around, rules)
        self._home.tell_here = self._edge.plan_received
        self._asks = LinkAsks(around, self._home, self._facts)
        self._forward = LinkForward(self._edge, around.alarms, rules)
        self._commands = LinkCommands(
            self._facts, self._begin, self._relay, self._report, self._forward.command, rules.max_payload_bytes
        )
        self._is_exposed = False
        for kind, handler in (
            (NodeKind.LINK_PLAN, self._edge.plan_received),
            (NodeKind.LINK_PACKETS, self._edge.packets_received),
            (NodeKind.LINK_RELAY, self._asks.relay_received),
            (NodeKind.LINK_REPORT, self._asks.report_received),
        ):
            around.nodes.handle(kind, handler)
        around.nodes.add_observer(self)

    # What IComponent asks for.

    def command_table(self) -> Mapping[tuple[int, int], Command]:
        """See `IComponent`; empty unless `expose_commands` was called."""
        return self._commands.table() if self._is_exposed else {}

    def session_opened(self, session: ISession) -> None:
        """See `ISessionObserver`."""

    def session_away(self, session: ISession) -> None:
        """See `ISessionObserver`: packets for it are lost, as they would be on the way."""

    def session_back(self, session: ISession) -> None:
        """See `ISessionObserver`."""

    def session_closed(self, session: ISession, reason: CloseReason | None) -> None:
        """See `ISessionObserver`."""
        self._forget(session)

    def session_moved(self, session: ISession) -> None:
        """See `ISessionObserver`: its client tells the other node where it is."""
        self._forget(session)

    def session_adopted(self, session: ISession, group_ids: list[str]) -> None:
        """See `ISessionObserver`."""

    def _forget(self, session: ISession) -> None:
        self._facts.forget(session)
        self._forward.forget(session)

    def statistics(self) -> Mapping[str, int]:
        """See `IComponent`."""
        counts = self._home.counts
        return {
            "peer_link_rooms": len(self._home),
            "peer_link_rooms_seated": len(self._edge),
            "peer_link_starts": self._home.starts,
            "peer_link_pairs_direct": counts["direct"],
            "peer_link_pairs_relayed": counts["relayed"],
            "peer_link_pairs_lost": counts["lost"],
            "peer_link_pairs_no_udp": counts["no_udp"],
            "peer_link_pairs_no_hole": counts["no_hole"],
            "peer_link_reports_ignored": self._home.reports_ignored,
            "peer_link_sessions_with_addresses": len(self._facts),
            "peer_link_packets_forwarded": self._edge.forwarded,
            **{f"peer_link_packets_dropped_{why}": self._edge.dropped[why] for why in FORWARD_DROPS},
            "peer_link_messages_kept": self._post.kept_count,
            "peer_link_messages_dropped": self._post.dropped,
        }

    def stop(self) -> None:
        """See `IComponent`."""

    def started_rooms(self) -> tuple[int, list[tuple[str, int, int]]]:
        """How many rooms of this node have links, and room ID, link groups and members of the first 1,000."""
        return self._home.started_rooms()

    # What INodeObserver asks for.

    def node_met(self, node_id: str) -> None:
        """See `INodeObserver`."""

    def node_lost(self, node_id: str) -> None:
        """See `INodeObserver`: its rooms, and the members there, may be back."""

    def node_back(self, node_id: str) -> None:
        """See `INodeObserver`."""

    def node_gone(self, node_id: str) -> None:
        """See `INodeObserver`."""
        self._post.node_gone(node_id)
        self._edge.home_gone(node_id)

    # What clients may do.

    async def _begin(self, session: ISession, wanted: LinkStart) -> None:
        await self._start(session.user, wanted, BUILT_IN_VER, CommandNumber.LINK_START)

    async def _start(self, user: User, wanted: LinkStart, ver: int, cmd: int) -> None:
        group_size(wanted.max_link_members, self._rules.max_link_members)
        await self._asks.start(LinkAsk(wanted.group_id, user.user_id, user.sid, wanted.max_link_members, ver, cmd))

    async def _relay(self, session: ISession, relayed: LinkRelayed) -> bool:
        await self._check_seat(relayed.room_id, session)
        return self._relay_now(session, relayed)

    def _relay_now(self, session: ISession, relayed: LinkRelayed) -> bool:
        if self._rooms.home_of(relayed.room_id) == self._nodes.node_id:
            return self._home.relay(relayed)
        own = self._edge.links_of(relayed.room_id, session)
        if own is None or own[0].group_count == 1:
            return False
        return self._post.send(own[0].home, NodeKind.LINK_RELAY, encode_relay(relayed))

    async def _report(self, session: ISession, report: LinkReport) -> None:
        await self._check_seat(report.group_id, session)
        home = self._rooms.home_of(report.group_id)
        reported = LinkReported(report.group_id, session.user.user_id, session.user.sid, report.states)
        if home == self._nodes.node_id:
            self._home.report(reported)
        elif home is not None and self._edge.links_of(report.group_id, session) is not None:
            self._post.send(home, NodeKind.LINK_REPORT, encode_reported(reported))

    async def _check_seat(self, room_id: str, session: ISession) -> None:
        """Whether a session is in a room.

        :raises RoomLeaveError: NotInRoom, RoomNotFound, RoomTimeout.
        """
        if not self._rooms.has_seat(room_id, session):
            await self._rooms.get_room(room_id)
            raise NotInRoom

    # What the application may do.

    async def create_link_groups(self, room_id: str, max_link_members: int) -> tuple[list[list[User]], list[list[str]]]:
        """See `IPeerLinks`."""
        size = group_size(max_link_members, self._rules.max_link_members)
        groups = cut_into_groups(await self._asks.members(room_id), size)
        users = [[User(fact.user_id, fact.sid, fact.transport) for fact in group] for group in groups]
        return users, [[user.user_id for user in group] for group in users]

    async def create_sync_bytes(self, room_id: str, users: Iterable[User]) -> bytes:
        """See `IPeerLinks`."""
        facts = {(fact.user_id, fact.sid): fact for fact in await self._asks.members(room_id)}
        try:
            chosen = [facts[user.user_id, user.sid] for user in users]
        except KeyError:
            raise NotInRoom from None
        secret = self._around.random_bytes(SECRET_BYTES)
        return make_sync_bytes(secret, chosen, self._rules.max_payload_bytes)

    async def start_links(self, ver: int, cmd: int, payload: bytes, user: User) -> None:
        """See `IPeerLinks`."""
        _check_ver(ver)
        wanted = decode_link_start(payload)
        if self._around.sessions.find_session(user.sid) is None:
            raise NotSignedIn(f"user {user.user_id!r} is not signed in on this node")
        await self._start(user, wanted, ver, cmd)

    def relay_link_message(self, room_id: str, ver: int, cmd: int, message: bytes, user: User, reliable: bool) -> bool:
        """See `IPeerLinks`."""
        _check_ver(ver)
        limit = self._rules.max_payload_bytes
        if len(message) > limit:
            raise MessageTooLarge(f"message of {len(message)} bytes, max_payload_bytes is {limit}")
        session = self._around.sessions.find_session(user.sid)
        if session is None or not self._rooms.has_seat(room_id, session):
            return False
        return self._relay_now(session, LinkRelayed(room_id, user.user_id, user.sid, reliable, ver, cmd, message))

    async def link_pairs(self, room_id: str) -> tuple[int, list[LinkPair]]:
        """See `IPeerLinks`."""
        return await self._asks.pairs(room_id)

    # Registration.

    def expose_commands(self) -> None:
        """See `IPeerLinks`."""
        if self._is_exposed:
            raise RuntimeError("the link commands are exposed already")
        self._is_exposed = True
        for command in self.command_table().values():
            command.seal()

    def before_start(self, hook: Hook) -> None:
        """See `IPeerLinks`."""
        self._commands.start.add_before(hook)

    def after_start(self, hook: Hook) -> None:
        """See `IPeerLinks`."""
        self._commands.start.add_after(hook)


def _check_ver(ver: int) -> None:
    if ver < BUILT_IN_VER:
        raise ValueError("ver 0 is the node's own, pushes have 1 to 255")
