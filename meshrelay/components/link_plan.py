"""At the home of a room: its link groups since the last start, and how their members reach each other. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from meshrelay.model import LinkPair
from meshrelay.wire.link_commands import LinkState
from meshrelay.wire.link_node import LinkFact, PlanMember

__all__ = ["PlanGroup", "RoomPlan"]


class PlanGroup:
    """One link group.

    :ivar told: nodes that know of it.
    """

    __slots__ = ("index", "members", "told", "without_udp")

    def __init__(self, index: int, facts: Sequence[LinkFact]) -> None:
        self.index = index
        #: The one of lowest latency first.
        self.members = {fact.user_id: PlanMember(fact.user_id, fact.sid, fact.node_id) for fact in facts}
        self.without_udp = {fact.user_id for fact in facts if not fact.addresses}
        self.told: set[str] = set()

    @property
    def node_ids(self) -> set[str]:
        """Nodes with members."""
        return {member.node_id for member in self.members.values()}

    @property
    def pair_count(self) -> int:
        """Two for each two members: each says how it reaches the other one."""
        return len(self.members) * (len(self.members) - 1)


class RoomPlan:
    """What was started in one room.

    :param number: greater for each start.
    :param counts: pairs of all rooms, by `LinkPair.state`, and those that are not direct by `LinkPair.reason`.
    """

    def __init__(
        self, room_id: str, number: int, groups: Iterable[Sequence[LinkFact]], counts: Counter[str], ver: int, cmd: int
    ) -> None:
        self.room_id = room_id
        self.number = number
        self.ver = ver
        self.cmd = cmd
        self.groups = [PlanGroup(index, facts) for index, facts in enumerate(groups)]
        self._group_of = {user_id: group for group in self.groups for user_id in group.members}
        self._counts = counts
        #: User -> peer -> what the user has said.
        self._states: dict[str, dict[str, LinkState]] = {}

    def group_of(self, user_id: str, sid: str) -> PlanGroup | None:
        """The link group of exactly this session."""
        group = self._group_of.get(user_id)
        return group if group is not None and group.members[user_id].sid == sid else None

    def remove(self, user_id: str, sid: str) -> PlanGroup | None:
        """Somebody has left the room.

        :returns: the group that it was in.
        """
        group = self.group_of(user_id, sid)
        if group is not None:
            self._forget_states(group, user_id)
            del self._group_of[user_id]
            del group.members[user_id]
        return group

    def move(self, user_id: str, node_id: str) -> PlanGroup | None:
        """Somebody is at another node now.

        :returns: the group that it is in.
        """
        group = self._group_of.get(user_id)
        if group is not None:
            group.members[user_id] = group.members[user_id]._replace(node_id=node_id)
        return group

    def nearest(self, but: PlanGroup) -> list[list[PlanMember]]:
        """The members of each group but one, the nearest to their nodes first."""
        return [list(group.members.values()) for group in self.groups if group is not but and group.members]

    def clear(self) -> None:
        """The plan is over; its pairs count no more."""
        for group in self.groups:
            for user_id in list(self._states):
                if user_id in group.members:
                    self._forget_states(group, user_id)

    # How members reach each other.

    def report(self, group: PlanGroup, user_id: str, peer_id: str, state: LinkState, has_room: bool) -> bool:
        """A member has said how it reaches a peer.

        :param has_room: whether one more pair may be kept.
        :returns: False: it was not kept, as the peer is not in the group, or for want of room.
        """
        if peer_id not in group.members or peer_id == user_id:
            return False
        states = self._states.setdefault(user_id, {})
        if peer_id not in states and not has_room:
            return False
        self._count(group, user_id, peer_id, -1)
        states[peer_id] = state
        self._count(group, user_id, peer_id, 1)
        return True

    def _forget_states(self, group: PlanGroup, user_id: str) -> None:
        for peer_id in group.members:
            for one, other in ((user_id, peer_id), (peer_id, user_id)):
                self._count(group, one, other, -1)
                self._states.get(one, {}).pop(other, None)
        self._states.pop(user_id, None)

    def _count(self, group: PlanGroup, user_id: str, peer_id: str, by: int) -> None:
        state = self._states.get(user_id, {}).get(peer_id)
        if state is not None:
            self._counts[state.name.lower()] += by
            reason = self._reason(group, user_id, peer_id, state)
            if reason:
                self._counts[reason] += by

    def _reason(self, group: PlanGroup, user_id: str, peer_id: str, state: LinkState | None) -> str:
        if state is None or state is LinkState.DIRECT:
            return ""
        return "no_hole" if group.without_udp.isdisjoint((user_id, peer_id)) else "no_udp"

    @property
    def member_count(self) -> int:
        """Of all groups."""
        return len(self._group_of)

    @property
    def pair_count(self) -> int:
        """Of all groups."""
        return sum(group.pair_count for group in self.groups)

    def pairs(self) -> Iterator[LinkPair]:
        """All pairs, each both ways."""
        for group in self.groups:
            for user_id in group.members:
                states = self._states.get(user_id, {})
                for peer_id in group.members:
                    if peer_id != user_id:
                        state = states.get(peer_id)
                        name = state.name.lower() if state is not None else "unknown"
                        yield LinkPair(user_id, peer_id, name, self._reason(group, user_id, peer_id, state))
