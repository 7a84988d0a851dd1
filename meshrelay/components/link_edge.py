"""Links as the node of a member sees them: who may speak to whom, and where that one is.

The home of a room says which link groups have members here (LINK_PLAN), with the sync bytes for these. From then on
packets go straight from node to node::

    LINK_FORWARD --> LinkEdge of the sender --here or by LINK_PACKETS--> LinkEdge of the peer --> session

Each node answers for its own: the sender's looks whether the two were introduced, and each whether its one is in the
room.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from meshrelay.components.link_parts import LinkRules, LinkSurroundings
from meshrelay.errors import NotInRoom, UserNotFound
from meshrelay.interfaces import ISession
from meshrelay.wire.frame import count_frames
from meshrelay.wire.link_node import LinkPackets, LinkPlan, PlanMember, decode_packets, decode_plan, encode_packets
from meshrelay.wire.node_kinds import NodeKind
from meshrelay.wire.prepared import Batch

__all__ = ["FORWARD_DROPS", "LinkEdge", "RoomLinks"]

#: Why a packet was not handed on: the sender's limit; more waits for the peer than [link] allows; the peer is not there
#: any more; its node cannot be reached, or too much waits for that.
FORWARD_DROPS = ("limit", "slow", "gone", "node")


class RoomLinks:
    """The link groups of one room that have members here."""

    __slots__ = ("_group_of", "_groups", "_node_id", "group_count", "home", "number")

    def __init__(self, node_id: str, home: str, number: int, group_count: int) -> None:
        self._node_id = node_id
        self.home = home
        self.number = number
        #: Of the whole room.
        self.group_count = group_count
        #: Index -> user ID -> member.
        self._groups: dict[int, dict[str, PlanMember]] = {}
        #: The same by the user ID of each member here.
        self._group_of: dict[str, dict[str, PlanMember]] = {}

    def set_group(self, index: int, members: Iterable[PlanMember]) -> None:
        """A group is new, or has changed."""
        for user_id in self._groups.pop(index, ()):
            self._group_of.pop(user_id, None)
        group = {member.user_id: member for member in members}
        own = [member.user_id for member in group.values() if member.node_id == self._node_id]
        if own:
            self._groups[index] = group
            self._group_of.update(dict.fromkeys(own, group))

    def __len__(self) -> int:
        return len(self._groups)

    def group_of(self, session: ISession) -> dict[str, PlanMember] | None:
        """The members of the link group that this session is in."""
        user = session.user
        group = self._group_of.get(user.user_id)
        return group if group is not None and group[user.user_id].sid == user.sid else None


class LinkEdge:
    """See the module.

    :ivar forwarded: packets that were handed on, to a session or to another node.
    :ivar dropped: packets that were not, by one of `FORWARD_DROPS`.
    """

    def __init__(self, around: LinkSurroundings, rules: LinkRules) -> None:
        self._nodes = around.nodes
        self._sessions = around.sessions
        self._rooms = around.rooms
        self._send_lossy = around.send_lossy
        self._queue_bytes = rules.forward_queue_bytes
        self._links: dict[str, RoomLinks] = {}
        self.forwarded = 0
        self.dropped: Counter[str] = Counter(dict.fromkeys(FORWARD_DROPS, 0))

    def __len__(self) -> int:
        return len(self._links)

    # What homes say.

    def plan_received(self, node_id: str, payload: bytes) -> None:
        """LINK_PLAN: a link group is new, or has changed."""
        plan = decode_plan(payload)
        if self._rooms.home_of(plan.room_id) != node_id:
            return
        links = self._links.get(plan.room_id)
        if links is not None and links.number > plan.number:
            return
        if links is None or links.number < plan.number:
            links = RoomLinks(self._nodes.node_id, node_id, plan.number, plan.group_count)
            self._links[plan.room_id] = links
        links.set_group(plan.group_index, plan.members)
        if not len(links):
            del self._links[plan.room_id]
        if plan.sync_bytes:
            self._push(plan)

    def _push(self, plan: LinkPlan) -> None:
        for member in plan.members:
            session = self._seated(plan.room_id, member.user_id, member.sid)
            if session is not None:
                session.push(plan.ver, plan.cmd, plan.sync_bytes, True)

    def _seated(self, room_id: str, user_id: str, sid: str) -> ISession | None:
        """The session of this node that is in the room, if it is exactly this one."""
        session = self._sessions.find_user(user_id)
        if session is None or session.user.sid != sid or not self._rooms.has_seat(room_id, session):
            return None
        return session

    def home_gone(self, node_id: str) -> None:
        """The rooms of a node are no more."""
        for room_id in [room_id for room_id, links in self._links.items() if links.home == node_id]:
            del self._links[room_id]

    # What sessions of this node may do.

    def links_of(self, room_id: str, session: ISession) -> tuple[RoomLinks, dict[str, PlanMember]] | None:
        """The links of a room, and the group of this session in it; None: it has none, or is not in the room."""
        links = self._links.get(room_id)
        if links is None or not self._rooms.has_seat(room_id, session):
            return None
        group = links.group_of(session)
        return (links, group) if group is not None else None

    def peer(self, room_id: str, session: ISession, peer_id: str) -> PlanMember:
        """Where a peer is whom a session was introduced to.

        :raises NotInRoom: the session is in no room of this ID.
        :raises UserNotFound: the two were not introduced there, or the peer has left.
        """
        if not self._rooms.has_seat(room_id, session):
            raise NotInRoom
        own = self.links_of(room_id, session)
        member = own[1].get(peer_id) if own is not None else None
        if member is None or peer_id == session.user.user_id:
            raise UserNotFound("no links were started with that user")
        return member

    # Packets.

    def forward(self, room_id: str, sender_id: str, peer: PlanMember, frames: bytes, count: int) -> None:
        """Hand `count` joined pushes to a peer. They may be lost, and are rather lost than late."""
        packets = LinkPackets(room_id, sender_id, peer.user_id, peer.sid, frames)
        if peer.node_id == self._nodes.node_id:
            self._deliver(packets, count)
        elif self._nodes.is_up(peer.node_id) and self._send_lossy(
            peer.node_id, NodeKind.LINK_PACKETS, encode_packets(packets)
        ):
            self.forwarded += count
        else:
            self.dropped["node"] += count

    def packets_received(self, node_id: str, payload: bytes) -> None:
        """LINK_PACKETS: for a session here, of one that was introduced to it, which the node that sends them knows."""
        packets = decode_packets(payload)
        count = count_frames(packets.frames)
        if count:
            self._deliver(packets, count)

    def _deliver(self, packets: LinkPackets, count: int) -> None:
        session = self._seated(packets.room_id, packets.peer_id, packets.peer_sid)
        if session is None:
            self.dropped["gone"] += count
        elif session.queued_bytes > self._queue_bytes:
            self.dropped["slow"] += count
        else:
            self.forwarded += count
            session.deliver(Batch([packets.frames], [False], [count]))
