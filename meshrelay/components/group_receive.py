"""What other nodes say in a group: casts in their order, to the members here and to what is known of those elsewhere.

::

    GROUP_CAST --pass on--> the rest of its part of the tree
       |
       `--> Spread (once, in order) --> frames --> members of this node
                                    `-> joined, left, away, back, exit --> RemoteMembers
"""

from __future__ import annotations

from typing import Protocol

from twisted.logger import Logger

from meshrelay.background import Alarms
from meshrelay.components.group_cast import GroupCaster
from meshrelay.components.group_entry import GroupEntries
from meshrelay.components.group_log_push import plain_frame
from meshrelay.components.group_members import RemoteMembers
from meshrelay.components.group_spread import Holder, Spread
from meshrelay.components.group_table import GroupTable, LiveGroup
from meshrelay.errors import MalformedFrame
from meshrelay.machine.sequence import Incoming
from meshrelay.wire.frame import count_frames
from meshrelay.wire.group_log import decode_entry, decode_run
from meshrelay.wire.group_node import (
    EntryType,
    decode_cast,
    decode_content,
    decode_forward,
    decode_head,
    decode_member,
    decode_skip,
)

__all__ = ["EARLY_SECONDS", "GroupReceiver", "HolderBook"]

#: What came of a node that never said that it holds the group is forgotten after this.
EARLY_SECONDS = 10.0


class HolderBook(Protocol):
    """Who holds which group. Given by `meshrelay.components.group_nodes`."""

    def spread_of(self, group: LiveGroup) -> Spread:
        """What is known of the group beyond this node."""

    def introduce(self, group: LiveGroup, node_id: str) -> None:
        """A node seems to hold the group: ask it."""

    def ask_later(self, group: LiveGroup, node_id: str) -> None:
        """Ask a node in a moment, and once, whether it holds the group and who its members are."""

    def drop_holder(self, group: LiveGroup, spread: Spread, node_id: str) -> None:
        """A node does not hold the group any more."""

    def say_exit(self, node_id: str, group_id: str) -> None:
        """Tell a node that this one does not hold the group."""


class GroupReceiver:
    """See the module.

    :ivar lost_casts: casts that were given up because nobody has them any more.
    """

    _log = Logger()

    def __init__(
        self,
        book: HolderBook,
        table: GroupTable,
        members: RemoteMembers,
        caster: GroupCaster,
        entries: GroupEntries,
        alarms: Alarms,
    ) -> None:
        self._book = book
        self._table = table
        self._members = members
        self._caster = caster
        self._entries = entries
        self._alarms = alarms
        self.lost_casts = 0

    def cast_received(self, node_id: str, data: bytes) -> None:
        """GROUP_CAST: pass it on, then take what is in order now."""
        cast = decode_cast(data)
        if cast.rest:
            self._caster.pass_on(cast)
        group = self._table.find(cast.group_id)
        if group is not None:
            self.take_cast(group, cast.origin, cast.hold, cast.number, cast.content)
            return
        entry = self._entries.find(cast.group_id)
        if entry is not None:
            entry.cast_came(cast)
        else:
            self._book.say_exit(cast.origin, cast.group_id)

    def take_cast(self, group: LiveGroup, origin: str, hold: int, number: int, content: bytes) -> None:
        """Take one cast of a group that is held here."""
        spread = self._book.spread_of(group)
        contents = spread.receive(
            origin, hold, number, content, lambda node_id: self._unknown_holder(group, spread, node_id)
        )
        holder = spread.holders.get(origin)
        if holder is not None:
            self.take_contents(group, holder, contents)

    def _unknown_holder(self, group: LiveGroup, spread: Spread, node_id: str) -> None:
        """A node casts to us that has not said that it holds the group: it may be about to, or we have missed it."""
        self._book.introduce(group, node_id)
        early = spread.early.get(node_id)
        self._alarms.call_later(EARLY_SECONDS, lambda: self._forget_early(spread, node_id, early))

    def _forget_early(self, spread: Spread, node_id: str, early: Incoming | None) -> None:
        if spread.early.get(node_id) is early:
            spread.early.pop(node_id, None)

    def take_contents(self, group: LiveGroup, holder: Holder, contents: list[bytes]) -> None:
        """Do what a holder said.

        :raises MalformedFrame: behind all that can be read.
        """
        malformed: MalformedFrame | None = None
        for content in contents:
            try:
                for entry_type, data in decode_content(content):
                    self._take_entry(group, holder, entry_type, data)
            except MalformedFrame as error:
                malformed = error
        # A member who moved away may have been the last one here.
        self._table.settle(group)
        lost = holder.incoming.lost_count - holder.lost_count
        if lost:
            holder.lost_count += lost
            self.lost_casts += lost
            self._log.warn("{count} casts of {node} in a group are lost", count=lost, node=holder.node_id)
            if group.log is not None:
                group.log.check()
            # Members of it may have come or gone by what is lost, and more may be lost in a moment.
            self._book.ask_later(group, holder.node_id)
        if group.spread is not None and group.spread.holders.get(holder.node_id) is holder:
            self._caster.ask_if_missing(group.spread, holder)
        if malformed is not None:
            raise malformed

    def _take_entry(self, group: LiveGroup, holder: Holder, entry_type: int, data: bytes) -> None:
        if entry_type in (EntryType.FRAMES, EntryType.UNRELIABLE):
            reliable = entry_type == EntryType.FRAMES
            if data:
                group.channel.publish(data, None, reliable, count_frames(data))
        elif entry_type == EntryType.LOGGED:
            self._take_logged(group, data)
        elif entry_type == EntryType.EXIT:
            if group.spread is not None and group.spread.holders.get(holder.node_id) is holder:
                self._book.drop_holder(group, group.spread, holder.node_id)
        elif EntryType.JOINED <= entry_type <= EntryType.BACK:
            user_id, sid = decode_member(data)
            if entry_type == EntryType.JOINED:
                self._members.joined(group, holder, user_id, sid)
                self._table.forget_moved(group, user_id)
            elif entry_type == EntryType.LEFT:
                self._members.left(group, holder, user_id)
            else:
                self._members.went_away(holder, user_id, entry_type == EntryType.AWAY)
                group.touch(user_id)
        # Anything else is of a later version, which knows that we pass it over.

    def _take_logged(self, group: LiveGroup, data: bytes) -> None:
        run = decode_run(data)
        if group.log is not None:
            group.log.take(run)
            return
        # By the configuration of the other node it has a history: nobody must miss anything because of that.
        for entry in map(decode_entry, run.entries):
            group.channel.publish(plain_frame(group.wire_id, entry), None, entry.is_reliable)

    def head_received(self, node_id: str, data: bytes) -> None:
        """GROUP_HEAD: something may be missing that nothing behind it shows."""
        head = decode_head(data)
        group = self._table.find(head.group_id)
        if group is None:
            self._book.say_exit(node_id, head.group_id)
            return
        spread = self._book.spread_of(group)
        holder = spread.holders.get(node_id)
        if holder is None:
            self._unknown_holder(group, spread, node_id)
        elif holder.incoming.hold == head.hold:
            holder.incoming.head(head.next_number)
            self.take_contents(group, holder, [])

    def skip_received(self, node_id: str, data: bytes) -> None:
        """GROUP_SKIP: nobody has what is missing."""
        skip = decode_skip(data)
        group = self._table.find(skip.group_id)
        holder = group.holders.get(node_id) if group is not None else None
        if group is not None and holder is not None and holder.incoming.hold == skip.hold:
            self.take_contents(group, holder, holder.incoming.skip_to(skip.next_number))

    def tell_received(self, node_id: str, data: bytes) -> None:
        """Push to the members of this node only."""
        forward = decode_forward(data)
        group = self._table.find(forward.group_id)
        if group is not None:
            for entry_type, frames in decode_content(forward.content):
                if frames and entry_type == EntryType.FRAMES:
                    group.channel.publish(frames, None, True, count_frames(frames))

    def forward_received(self, node_id: str, data: bytes) -> None:
        """GROUP_FORWARD: publish for a node that does not hold the group."""
        forward = decode_forward(data)
        group = self._table.find(forward.group_id)
        if group is None:
            return
        for entry_type, frames in decode_content(forward.content):
            if frames and entry_type in (EntryType.FRAMES, EntryType.UNRELIABLE):
                group.publish(frames, None, entry_type == EntryType.FRAMES, count_frames(frames))
