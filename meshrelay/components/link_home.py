"""Links of the rooms whose home is this node: starts them, and keeps their groups as members come, go and move.

::

    LINK_START, start_links --here or by link.start--> LinkHome --link.facts--> nodes with members
                                                          |
    members <-- LinkEdge of each such node <--LINK_PLAN---'-- again when a member is gone or elsewhere

A start asks all nodes at that moment: what they know changes with every heartbeat and every address, and is needed for
nothing else.
"""

from __future__ import annotations

from collections import Counter
from itertools import count, islice

from twisted.internet.defer import CancelledError, DeferredList
from twisted.logger import Logger

from meshrelay.background import start
from meshrelay.components.link_facts import LinkFacts
from meshrelay.components.link_groups import cut_into_groups, group_size, make_sync_bytes
from meshrelay.components.link_parts import LinkRules, LinkSurroundings, within
from meshrelay.components.link_plan import PlanGroup, RoomPlan
from meshrelay.components.node_post import NodePost
from meshrelay.errors import (
    MalformedFrame,
    MeshError,
    NotEnoughMembers,
    NotInRoom,
    RateLimited,
)
from meshrelay.machine.token_bucket import TokenBucket
from meshrelay.model import LinkPair, Room
from meshrelay.wire.addresses import usable_addresses
from meshrelay.wire.link_node import (
    LinkAsk,
    LinkFact,
    LinkPlan,
    LinkRelayed,
    LinkReported,
    PlanMember,
    decode_facts,
    encode_page,
    encode_plan,
)
from meshrelay.wire.node_kinds import NodeKind
from meshrelay.wire.sync_bytes import SECRET_BYTES

__all__ = ["FACTS_SECONDS", "MAX_PAIRS_TOLD", "MAX_REPORTS", "STARTS_AT_ONCE", "LinkHome"]

#: A node that has not said within this time what it knows of its members: they are relayed.
FACTS_SECONDS = 1.0

#: Pages of facts that one node may send.
MAX_PAGES = 256

#: Starts in one room: so many at once, and then so many a second. Each is work for all nodes with members.
STARTS_AT_ONCE = 10
STARTS_PER_SECOND = 2.0

#: Pairs of all rooms of this node of which it is kept how they reach each other.
MAX_REPORTS = 1_000_000

#: Of one room, and of the node.
MAX_PAIRS_TOLD = 1000
MAX_ROOMS_TOLD = 1000


class LinkHome:
    """See the module.

    :ivar counts: pairs by state and by reason, see `RoomPlan`.
    :ivar starts: links started in rooms.
    :ivar reports_ignored: of pairs that were not introduced, or beyond `MAX_REPORTS`.
    """

    _log = Logger()

    def __init__(self, around: LinkSurroundings, rules: LinkRules, facts: LinkFacts, post: NodePost) -> None:
        self._around = around
        self._nodes = around.nodes
        self._rooms = around.rooms
        self._rules = rules
        self._facts = facts
        self._post = post
        self._numbers = count(1)
        self._plans: dict[str, RoomPlan] = {}
        #: Of rooms in which somebody wanted to start links.
        self._rates: dict[str, TokenBucket] = {}
        #: Groups that have lost members this turn.
        self._changed: dict[PlanGroup, RoomPlan] = {}
        self.counts: Counter[str] = Counter()
        self.starts = 0
        self.reports_ignored = 0
        self.tell_here = _nobody
        around.rooms.watch(self)

    def __len__(self) -> int:
        return len(self._plans)

    @property
    def report_count(self) -> int:
        """Pairs of which it is known how they reach each other, at most `MAX_REPORTS`."""
        return self.counts["direct"] + self.counts["relayed"] + self.counts["lost"]

    # What is known of the members.

    async def members(self, room_id: str) -> list[LinkFact]:
        """Facts of all members, in join order.

        :raises RoomNotFound: it is no room of this node.
        """
        nodes = {member.node_id for member in (await self._rooms.get_room(room_id)).members}
        found = {PlanMember(*fact[:3]): fact for fact in self._facts.in_room(room_id)}
        asked = [
            start(self._ask_facts(node_id, room_id, found), self._log, "asking a node for links")
            for node_id in sorted(nodes - {self._nodes.node_id})
        ]
        if asked:
            await DeferredList(asked)
        # Who came or went meanwhile.
        room = await self._rooms.get_room(room_id)
        return [found.get(member, LinkFact(*member, "", None, ())) for member in _members_of(room)]

    async def _ask_facts(self, node_id: str, room_id: str, found: dict[PlanMember, LinkFact]) -> None:
        offset, gives_up_at = 0, self._around.alarms.now() + FACTS_SECONDS
        for _ in range(MAX_PAGES):
            left = max(0.0, gives_up_at - self._around.alarms.now())
            asked = self._nodes.call(node_id, "link.facts", encode_page(room_id, offset))
            try:
                offset, facts = decode_facts(await within(self._around.alarms, asked, left))
            except (MeshError, CancelledError):
                return
            except MalformedFrame as error:
                self._log.warn("node {node_id} told facts that cannot be read: {error}", node_id=node_id, error=error)
                return
            for fact in facts:
                if fact.node_id == node_id:
                    found[PlanMember(*fact[:3])] = self._checked(fact)
            if not offset:
                return

    def _checked(self, fact: LinkFact) -> LinkFact:
        """Leave out addresses that this node, unlike that of the member, may not hand on."""
        rules = self._rules
        usable = usable_addresses(fact.addresses, rules.allow_private, rules.allow_loopback)
        return fact._replace(addresses=tuple(usable) if usable[:1] == list(fact.addresses[:1]) else ())

    # Starts.

    async def start(self, ask: LinkAsk) -> None:
        """Start links in a room of this node, for a member.

        :raises CommandError: as `IPeerLinks.start_links` says.
        """
        size = group_size(ask.max_link_members, self._rules.max_link_members)
        room_id = ask.room_id
        _check_member(ask, _members_of(await self._rooms.get_room(room_id)))
        self._check_rate(room_id)
        facts = await self.members(room_id)
        _check_member(ask, [PlanMember(*fact[:3]) for fact in facts])
        if sum(bool(fact.addresses) for fact in facts) < 2:
            raise NotEnoughMembers
        groups = cut_into_groups(facts, size)
        limit = self._rules.max_payload_bytes
        synced = [make_sync_bytes(self._around.random_bytes(SECRET_BYTES), group, limit) for group in groups]
        self._forget(room_id)
        plan = RoomPlan(room_id, next(self._numbers), groups, self.counts, ask.ver, ask.cmd)
        self._plans[room_id] = plan
        self.starts += 1
        for group, sync_bytes in zip(plan.groups, synced, strict=True):
            self._tell_group(plan, group, sync_bytes)

    def _check_rate(self, room_id: str) -> None:
        now = self._around.alarms.now()
        rate = self._rates.get(room_id)
        if rate is None:
            rate = self._rates[room_id] = TokenBucket(STARTS_PER_SECOND, STARTS_AT_ONCE, now)
        wait_seconds = rate.take(now)
        if wait_seconds:
            raise RateLimited(wait_seconds)

    def _forget(self, room_id: str) -> None:
        plan = self._plans.pop(room_id, None)
        if plan is not None:
            plan.clear()

    def _tell_group(self, plan: RoomPlan, group: PlanGroup, sync_bytes: bytes) -> None:
        """Tell all nodes that have members, or had some when they were told last."""
        node_ids = group.node_ids
        members = tuple(group.members.values())
        told = LinkPlan(
            plan.room_id, plan.number, len(plan.groups), group.index, plan.ver, plan.cmd, sync_bytes, members
        )
        payload = encode_plan(told)
        for node_id in sorted(node_ids | group.told):
            if node_id == self._nodes.node_id:
                self.tell_here(node_id, payload)
            else:
                self._post.tell(node_id, NodeKind.LINK_PLAN, payload)
        group.told = node_ids

    # Members and rooms that go; see `meshrelay.components.room_table.RoomWatcher`.

    def member_gone(self, room_id: str, user_id: str, sid: str) -> None:
        """See `RoomWatcher`: its peers are told so at the end of the turn."""
        plan = self._plans.get(room_id)
        group = plan.remove(user_id, sid) if plan is not None else None
        if plan is not None and group is not None:
            if not self._changed:
                self._around.turn.join(self)
            self._changed[group] = plan

    def member_moved(self, room_id: str, user_id: str, node_id: str) -> None:
        """See `RoomWatcher`: its peers' nodes, and its new one, are told at once."""
        plan = self._plans.get(room_id)
        group = plan.move(user_id, node_id) if plan is not None else None
        if plan is not None and group is not None:
            self._tell_group(plan, group, b"")

    def room_gone(self, room_id: str) -> None:
        """See `RoomWatcher`: its members are gone by now."""
        self._forget(room_id)
        self._rates.pop(room_id, None)

    def flush(self) -> None:
        """Tell nodes about groups that have lost members; where a later start is known this means nothing."""
        changed, self._changed = self._changed, {}
        for group, plan in changed.items():
            self._tell_group(plan, group, b"")

    # What members say.

    def relay(self, relayed: LinkRelayed) -> bool:
        """Send a message to one member of each group but the sender's. False: to nobody."""
        plan = self._plans.get(relayed.room_id)
        own = plan.group_of(relayed.user_id, relayed.sid) if plan is not None else None
        if plan is None or own is None:
            return False
        chosen = [self._choose(members).user_id for members in plan.nearest(own)]
        if chosen:
            _, _, _, reliable, ver, cmd, message = relayed
            self._rooms.send_to(relayed.room_id, chosen, ver, cmd, message, reliable)
        return bool(chosen)

    def _choose(self, members: list[PlanMember]) -> PlanMember:
        return next((member for member in members if not self._nodes.is_lost(member.node_id)), members[0])

    def report(self, reported: LinkReported) -> None:
        """Keep how a member reaches others."""
        plan = self._plans.get(reported.room_id)
        group = plan.group_of(reported.user_id, reported.sid) if plan is not None else None
        for peer_id, state in reported.states:
            has_room = self.report_count < MAX_REPORTS
            if plan is None or group is None:
                self.reports_ignored += 1
            elif not plan.report(group, reported.user_id, peer_id, state, has_room):
                self.reports_ignored += 1

    def started_rooms(self) -> tuple[int, list[tuple[str, int, int]]]:
        """How many rooms have links, and room ID, link groups and members of the first `MAX_ROOMS_TOLD`."""
        first = islice(self._plans.values(), MAX_ROOMS_TOLD)
        return len(self._plans), [(plan.room_id, len(plan.groups), plan.member_count) for plan in first]

    async def pairs(self, room_id: str) -> tuple[int, list[LinkPair]]:
        """How many pairs there are in a room of this node, and the first `MAX_PAIRS_TOLD`.

        :raises RoomNotFound: it is no room of this node.
        """
        await self._rooms.get_room(room_id)
        plan = self._plans.get(room_id)
        return (plan.pair_count, list(islice(plan.pairs(), MAX_PAIRS_TOLD))) if plan is not None else (0, [])


def _nobody(node_id: str, payload: bytes) -> object:
    raise RuntimeError("LinkHome.tell_here was not set")


def _members_of(room: Room) -> list[PlanMember]:
    return [PlanMember(member.user_id, member.sid, member.node_id) for member in room.members]


def _check_member(ask: LinkAsk, members: list[PlanMember]) -> None:
    if not any((member.user_id, member.sid) == (ask.user_id, ask.sid) for member in members):
        raise NotInRoom
