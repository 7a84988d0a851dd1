"""Groups that span nodes: what other nodes say about groups, and what becomes of groups when nodes come and go.

::

    other nodes --GROUP_HOLD, GROUP_MEMBERS, GROUP_EXIT, ...--> holders of a group (`Spread`)
    other nodes --GROUP_CAST--> in order --> frames to the members here, members there to `RemoteMembers`
    node met, lost, back, gone --> who holds what; GROUP_LOST and GROUP_BACK

How groups span nodes and why: docs/decisions/0015.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import NamedTuple, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from meshrelay.background import Alarms, start
from meshrelay.components.group_callbacks import GroupCallbacks
from meshrelay.components.group_cast import GroupCaster
from meshrelay.components.group_entry import Entry, GroupEntries
from meshrelay.components.group_members import RemoteMembers
from meshrelay.components.group_receive import GroupReceiver
from meshrelay.components.group_spread import RemoteMember, Spread
from meshrelay.components.group_table import GroupTable, LiveGroup, NewGroupSettings
from meshrelay.components.place_ids import node_key
from meshrelay.config.schema import Config
from meshrelay.directory.interfaces import IDirectory
from meshrelay.errors import MeshError, TooManyGroups
from meshrelay.fanout.turn import Turn
from meshrelay.interfaces import INodeObserver, INodes
from meshrelay.machine.sequence import History
from meshrelay.wire.group_node import (
    EntryType,
    Hold,
    HoldSettings,
    MemberEntry,
    decode_exit,
    decode_hold,
    decode_members,
    decode_not_held,
    decode_repair,
    encode_entry,
    encode_exit,
    encode_forward,
    encode_hold,
    encode_members,
    encode_not_held,
)
from meshrelay.wire.node_kinds import NodeKind

__all__ = ["ASK_LATER_SECONDS", "GroupNodes", "GroupRegister", "GroupSpreadRules", "GroupSurroundings"]

#: Groups of one node whose members came, but not yet the GROUP_HOLD behind them.
MAX_MEMBER_LISTS = 64

#: From a question or answer that a full queue refused, or the loss of casts, to the next question.
ASK_LATER_SECONDS = 1.0

#: Members of one such list.
MAX_LISTED_MEMBERS = 1_000_000

#: Groups that are remembered to be asked for when a node is met (again).
MAX_FORMER_GROUPS = 100_000

#: Nodes for which such groups are remembered.
MAX_FORMER_NODES = 256

_PICK_CALL = "group.pick"


class GroupSpreadRules(NamedTuple):
    """What must be known of the configuration."""

    #: Links that one cast is written to at once.
    relay_limit: int
    #: Nodes beside the home that are asked for a group.
    remote_join_tries: int
    #: How long the memberships of a node that is gone are remembered.
    orphan_seconds: float

    @classmethod
    def of(cls, config: Config) -> GroupSpreadRules:
        """Return what the configuration says."""
        return cls(config.group.relay_limit, config.group.remote_join_tries, config.session.resume_seconds)


class GroupRegister(Protocol):
    """Says in the directory which groups this node holds."""

    def join_group(self, group_id: str, settings: bytes) -> object:
        """This node holds the group."""

    def leave_group(self, group_id: str) -> object:
        """This node does not hold it any more."""


class GroupSurroundings(NamedTuple):
    """What groups that span nodes stand on."""

    nodes: INodes
    #: Asked for the holders of a group that this node does not hold.
    directory: IDirectory
    #: None = this node is alone, there is nothing to say.
    register: GroupRegister | None
    turn: Turn
    clock: IReactorTime
    alarms: Alarms


@implementer(INodeObserver)
class GroupNodes:
    """See the module."""

    _log = Logger()

    def __init__(
        self, around: GroupSurroundings, table: GroupTable, callbacks: GroupCallbacks, rules: GroupSpreadRules
    ) -> None:
        nodes, alarms = around.nodes, around.alarms
        self._nodes = nodes
        self._alarms = alarms
        self._table = table
        self._directory = around.directory
        self._register = around.register
        self._turn = around.turn
        self._rules = rules
        self._members = RemoteMembers(nodes, alarms, callbacks, rules.orphan_seconds)
        self._caster = GroupCaster(nodes, alarms, rules.relay_limit, History())
        self._holds = count(1)
        self._nodes_by_key: dict[bytes, str] = {}
        #: (node ID, group ID) -> members that it said, in front of its GROUP_HOLD.
        self._member_lists: dict[str, dict[str, list[MemberEntry]]] = {}
        #: Node ID -> groups that it may hold, to be asked for when it is met.
        self._former: dict[str, dict[str, None]] = {}
        self._entries = GroupEntries(
            nodes,
            table,
            around.directory,
            around.clock,
            rules.remote_join_tries,
            self._nodes_by_key.get,
            lambda: next(self._holds),
        )
        self._receiver = GroupReceiver(self, table, self._members, self._caster, self._entries, alarms)
        table.when_made(self._made)
        table.when_discarded(self._discarded)
        for kind, handler in self._handlers().items():
            nodes.handle(kind, handler)
        nodes.answer(_PICK_CALL, self._pick)
        nodes.add_observer(self)

    def _handlers(self) -> Mapping[NodeKind, Callable[[str, bytes], None]]:
        return {
            NodeKind.GROUP_CAST: self._receiver.cast_received,
            NodeKind.GROUP_HOLD: self._hold,
            NodeKind.GROUP_MEMBERS: self._member_list,
            NodeKind.GROUP_NOT_HELD: self._not_held,
            NodeKind.GROUP_EXIT: self._exit,
            NodeKind.GROUP_HEAD: self._receiver.head_received,
            NodeKind.GROUP_REPAIR: lambda node_id, data: self._caster.answer_repair(node_id, decode_repair(data)),
            NodeKind.GROUP_SKIP: self._receiver.skip_received,
            NodeKind.GROUP_TELL: self._receiver.tell_received,
            NodeKind.GROUP_FORWARD: self._receiver.forward_received,
        }

    # What the group component asks for.

    @property
    def is_alone(self) -> bool:
        """There are no other nodes and never will be."""
        return self._register is None

    def enter(self, group_id: str) -> Deferred[LiveGroup]:
        """See `meshrelay.components.group_entry.GroupEntries.enter`."""
        return Deferred.fromCoroutine(self._entries.enter(group_id))

    def unpin_later(self, group: LiveGroup) -> None:
        """See `meshrelay.components.group_entry.GroupEntries.unpin_later`."""
        self._entries.unpin_later(group)

    def recall(self, user_id: str, sid: str) -> list[str]:
        """See `meshrelay.components.group_members.RemoteMembers.recall`."""
        return self._members.recall(user_id, sid)

    def came_here(self, group: LiveGroup, user_id: str) -> None:
        """A user joined the group on this node."""
        if group.spread is not None:
            self._members.came_here(group, user_id)

    async def pick_elsewhere(self, user_id: str) -> str | None:
        """A group of another node that the user may join at random; None when none of those asked has one."""
        nodes = [node_id for node_id in self._nodes.known() if self._nodes.is_up(node_id)]
        for node_id in nodes[: self._rules.remote_join_tries]:
            try:
                answer = await self._nodes.call(node_id, _PICK_CALL, user_id.encode("utf-8"))
            except MeshError:
                continue
            if answer:
                return answer.decode("ascii", "replace")
        return None

    def _pick(self, node_id: str, payload: bytes) -> bytes:
        group = self._table.pick_joinable(payload.decode("utf-8", "replace"))
        return group.wire_id if group is not None else b""

    def forward(self, group_id: str, frame: bytes, reliable: bool) -> None:
        """Publish in a group that this node does not hold. Nothing happens when nobody holds it."""
        if not self.is_alone:
            start(self._send_forward(group_id, frame, reliable), self._log, "a publication in a group elsewhere")

    async def _send_forward(self, group_id: str, frame: bytes, reliable: bool) -> None:
        try:
            record = await self._directory.find_group(group_id)
        except (MeshError, ValueError) as error:
            self._log.info("group {group_id} cannot be looked up: {error}", group_id=group_id, error=error)
            return
        holders = [node_id for node_id in record.nodes if node_id != self._nodes.node_id] if record is not None else []
        content = encode_entry(EntryType.FRAMES if reliable else EntryType.UNRELIABLE, frame)
        payload = encode_forward(group_id.encode("ascii"), content)
        for node_id in sorted(holders, key=lambda holder: not self._nodes.is_up(holder)):
            if self._nodes.send(node_id, NodeKind.GROUP_FORWARD, payload):
                return

    # Groups of this node come and go.

    def _made(self, group: LiveGroup) -> None:
        if self._register is not None and not group.settings.is_static:
            self._register.join_group(group.id, b"")
        if group.settings.is_static:
            for node_id in self._nodes.known():
                self._ask(group, node_id)

    def _discarded(self, group: LiveGroup) -> None:
        if self._register is not None:
            self._register.leave_group(group.id)
        spread = group.spread
        if spread is not None:
            spread.exit()
            self._caster.forget(spread)
            for holder in spread.holders.values():
                self._members.holder_went(group, holder)
            # Nothing that is missing of them is asked for any more.
            spread.holders.clear()

    def spread_of(self, group: LiveGroup) -> Spread:
        """See `HolderBook`."""
        if group.spread is None:
            group.spread = Spread(group.id, next(self._holds), self._turn, self._caster)
        return group.spread

    # Who holds what.

    def _ask(self, group: LiveGroup, node_id: str) -> None:
        """Tell a node that this one holds the group, and ask whether it does."""
        spread = self.spread_of(group)
        if node_id in spread.asked:
            return
        spread.asked.add(node_id)
        if not self._say_hold(group, spread, node_id, True, 0):
            # The queue is full: until the two know of each other neither gets what the other says.
            self.ask_later(group, node_id)

    def ask_later(self, group: LiveGroup, node_id: str) -> None:
        """See `HolderBook`."""
        spread = self.spread_of(group)
        if node_id in spread.ask_later:
            return
        spread.ask_later.add(node_id)

        def ask() -> None:
            is_there = self._table.find(group.id) is group and group.spread is spread
            if is_there and node_id in spread.ask_later:
                spread.ask_later.discard(node_id)
                if node_id in self._nodes.known():
                    spread.asked.discard(node_id)
                    self._ask(group, node_id)

        self._alarms.call_later(ASK_LATER_SECONDS, ask)

    def _say_hold(self, group: LiveGroup, spread: Spread, node_id: str, asks: bool, of_hold: int) -> bool:
        """False: not all of it was taken."""
        spread.flush()
        is_taken = True
        members = [(user_id, session.user.sid, not session.is_attached) for user_id, session in group.members.items()]
        for payload in encode_members(group.wire_id, spread.hold, members):
            is_taken = self._nodes.send(node_id, NodeKind.GROUP_MEMBERS, payload) and is_taken
        settings = group.settings
        age_seconds = max(0, int(self._table.age_of(group)))
        told = HoldSettings(
            settings.allow_empty, settings.is_static, settings.ttl_seconds, settings.interval_ms, age_seconds
        )
        holders = (self._nodes.node_id, *spread.holders)
        hold = encode_hold(group.wire_id, spread.hold, spread.next_number, asks, of_hold, told, holders)
        return self._nodes.send(node_id, NodeKind.GROUP_HOLD, hold) and is_taken

    def _member_list(self, node_id: str, data: bytes) -> None:
        group_id, _, members = decode_members(data)
        lists = self._member_lists.setdefault(node_id, {})
        if group_id in lists or len(lists) < MAX_MEMBER_LISTS:
            listed = lists.setdefault(group_id, [])
            if len(listed) < MAX_LISTED_MEMBERS:
                listed.extend(members)

    def _hold(self, node_id: str, data: bytes) -> None:
        hold = decode_hold(data)
        members = self._member_lists.get(node_id, {}).pop(hold.group_id, [])
        entry = self._entries.find(hold.group_id)
        group = self._table.find(hold.group_id)
        if group is None and entry is not None and hold.of_hold == entry.hold:
            group = self._make_replica(hold, entry)
        if group is None:
            # A question is answered; an answer that came too late must not leave the node believing in this one.
            if hold.asks:
                answer = encode_not_held(hold.group_id.encode("ascii"), hold.hold)
                self._nodes.send(node_id, NodeKind.GROUP_NOT_HELD, answer)
            elif entry is None or entry.hold == hold.of_hold:
                # Otherwise it is being asked anew, and the answer to that will say.
                self.say_exit(node_id, hold.group_id)
            return
        self._holder_came(group, node_id, hold, members)
        if entry is not None:
            for early_node, cast in entry.early:
                self._receiver.take_cast(group, early_node, cast.hold, cast.number, cast.content)
            entry.early.clear()
            entry.answered(node_id, True)
            if group.spread is not None and not group.spread.asked:
                entry.others_told()

    def _make_replica(self, hold: Hold, entry: Entry) -> LiveGroup | None:
        settings = hold.settings
        try:
            self._table.check_room(None)
        except TooManyGroups as error:
            entry.refused(error)
            return None
        group = self._table.create(
            hold.group_id,
            NewGroupSettings(settings.allow_empty, False, settings.ttl_seconds, settings.interval_ms),
            not self._table.is_home(hold.group_id),
            settings.age_seconds,
        )
        # Until the user who wants to join it is in.
        group.pins += 1
        if group.log is not None:
            # Also at its home, if that began anew.
            group.log.is_synced = False
        group.spread = Spread(group.id, entry.hold, self._turn, self._caster)
        return group

    def _holder_came(self, group: LiveGroup, node_id: str, hold: Hold, members: list[MemberEntry]) -> None:
        spread = self.spread_of(group)
        # Who comes now gets nothing that was said before.
        spread.flush()
        spread.asked.discard(node_id)
        before = spread.holders.get(node_id)
        contents = spread.begin(node_id, hold.hold, hold.next_number)
        holder = spread.holders[node_id]
        if before is not None and before is not holder:
            # It left and came back, and its word that it left is still missing.
            self._members.holder_went(group, before)
        if holder.incoming.hold == hold.hold:
            listed = ((user_id, RemoteMember(sid, is_away)) for user_id, sid, is_away in members)
            self._members.holder_came(group, holder, listed)
            for user_id, _, _ in members:
                self._table.forget_moved(group, user_id)
        if hold.asks and not self._say_hold(group, spread, node_id, False, hold.hold):
            self.ask_later(group, node_id)
        self._receiver.take_contents(group, holder, contents)
        for other in hold.holders:
            if other != self._nodes.node_id and other not in spread.holders:
                self.introduce(group, other)

    def introduce(self, group: LiveGroup, node_id: str) -> None:
        """Another node holds the group as well, as a third one says."""
        if node_id in self._nodes.known():
            self._ask(group, node_id)
        else:
            self._remember(node_id, [group.id])

    def _remember(self, node_id: str, group_ids: Iterable[str]) -> None:
        if node_id not in self._former and len(self._former) >= MAX_FORMER_NODES:
            del self._former[next(iter(self._former))]
        former = self._former.setdefault(node_id, {})
        for group_id in group_ids:
            if len(former) < MAX_FORMER_GROUPS:
                former[group_id] = None

    def _not_held(self, node_id: str, data: bytes) -> None:
        answer = decode_not_held(data)
        entry = self._entries.find(answer.group_id)
        if entry is not None and answer.of_hold == entry.hold:
            entry.answered(node_id, False)
        group = self._table.find(answer.group_id)
        if group is not None and group.spread is not None and group.spread.hold == answer.of_hold:
            self.drop_holder(group, group.spread, node_id)
            if entry is not None and not group.spread.asked:
                entry.others_told()

    def say_exit(self, node_id: str, group_id: str) -> None:
        """See `HolderBook`."""
        self._nodes.send(node_id, NodeKind.GROUP_EXIT, encode_exit(group_id.encode("ascii")))

    def _exit(self, node_id: str, data: bytes) -> None:
        group = self._table.find(decode_exit(data).group_id)
        if group is not None and group.spread is not None:
            self.drop_holder(group, group.spread, node_id)

    def drop_holder(self, group: LiveGroup, spread: Spread, node_id: str) -> None:
        """See `HolderBook`."""
        spread.asked.discard(node_id)
        spread.ask_later.discard(node_id)
        spread.early.pop(node_id, None)
        holder = spread.holders.pop(node_id, None)
        if holder is not None:
            self._members.holder_went(group, holder)
            if group.log is not None:
                group.log.check()
            self._table.settle(group)

    # Nodes come and go.

    def node_met(self, node_id: str) -> None:
        """See `INodeObserver`: nodes that hold the same groups find each other again."""
        self._nodes_by_key[node_key(node_id)] = node_id
        former = self._former.pop(node_id, {})
        for group in self._table.static_groups():
            self._ask(group, node_id)
        for group_id in former:
            held = self._table.find(group_id)
            if held is not None and not held.settings.is_static:
                self._ask(held, node_id)

    def node_lost(self, node_id: str) -> None:
        """See `INodeObserver`."""
        self._members.node_lost(node_id)

    def node_back(self, node_id: str) -> None:
        """See `INodeObserver`."""
        self._members.node_back(node_id)

    def node_gone(self, node_id: str) -> None:
        """See `INodeObserver`: it holds nothing any more; if it is the same node that comes back, it is asked."""
        self._nodes_by_key.pop(node_key(node_id), None)
        self._member_lists.pop(node_id, None)
        groups = self._members.shared_with(node_id)
        self._remember(node_id, [group.id for group in groups])
        for group in groups:
            spread = group.spread
            holder = spread.holders.get(node_id) if spread is not None else None
            if spread is not None and holder is not None:
                self._members.holder_died(group, holder)
                self.drop_holder(group, spread, node_id)
        for group in self._table:
            # Who was asked and died will not answer, and another life of it numbers its casts anew.
            if group.spread is not None:
                group.spread.asked.discard(node_id)
                group.spread.early.pop(node_id, None)

    def stop(self) -> None:
        """The node is going down."""
        self._caster.stop()

    def statistics(self) -> Mapping[str, int]:
        """Counts for the metrics page; the same keys at each call."""
        return {
            **self._caster.statistics(),
            "group_remote_members": len(self._members),
            "group_orphans": self._members.orphan_count,
            "group_entries": len(self._entries),
            "group_entry_timeouts": self._entries.timeouts,
            "group_casts_lost": self._receiver.lost_casts,
        }
