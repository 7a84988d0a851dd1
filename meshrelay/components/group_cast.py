"""Casts on their way between nodes: down a tree, asked for again where one was lost with a node that passed it on.

::

    cast --> at most relay_limit holders --each passes it on to its part of the rest--> all holders
    (quiet for a second) --GROUP_HEAD--> holders that miss something --GROUP_REPAIR--> the same casts again, directly

What goes from one node straight to another cannot get lost between two living nodes, so only what was given to a node
to pass on is kept for repairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from meshrelay.background import Alarm, Alarms
from meshrelay.components.group_spread import Holder, Spread
from meshrelay.interfaces import INodes
from meshrelay.machine.sequence import History
from meshrelay.machine.tree import split
from meshrelay.wire.group_node import (
    Cast,
    Repair,
    encode_cast,
    encode_head,
    encode_repair,
    encode_skip,
)
from meshrelay.wire.node_kinds import NodeKind

__all__ = ["HEAD_SECONDS", "REPAIR_SECONDS", "GroupCaster"]

#: A series that was quiet for this long tells its number, so that a lost last cast is noticed.
HEAD_SECONDS = 1.0

#: Casts that take different ways may overtake each other; only what is missing for this long is asked for.
REPAIR_SECONDS = 0.25

#: What is asked for and does not come is asked for again.
REPAIR_AGAIN_SECONDS = 1.0

#: What was cast long ago is given back this often.
HISTORY_CHECK_SECONDS = 10.0

#: Bytes of one answer to a GROUP_REPAIR; the rest is asked for again.
MAX_REPAIR_BYTES = 1024 * 1024


class GroupCaster:
    """Sends, passes on and repairs.

    :param relay_limit: links that one cast is written to at once, by each node on its way.
    """

    def __init__(self, nodes: INodes, alarms: Alarms, relay_limit: int, history: History) -> None:
        self._nodes = nodes
        self._alarms = alarms
        self._relay_limit = relay_limit
        self._history = history
        #: Series with casts that were given to others to pass on -> when the last one was.
        self._unsaid: dict[Spread, float] = {}
        self._head_alarm: Alarm | None = None
        self._history_alarm: Alarm | None = None
        self._casts = 0
        self._passed_on = 0
        self._repairs_asked = 0
        self._repairs_answered = 0

    def cast(self, spread: Spread, content: bytes, is_last: bool) -> None:
        """See `meshrelay.components.group_spread.SpreadWriter`."""
        number = spread.next_number
        spread.next_number += 1
        self._casts += 1
        own_id = self._nodes.node_id
        targets = list(spread.holders)
        if is_last or len(targets) <= self._relay_limit:
            # The last one goes straight to everybody: nobody will be here to say which number it had.
            payload = encode_cast(spread.wire_id, spread.hold, number, own_id, (), content)
            for node_id in targets:
                self._nodes.send(node_id, NodeKind.GROUP_CAST, payload)
            return
        now = self._alarms.now()
        self._history.add((spread.group_id, spread.hold), number, content, now)
        for part in self._parts(targets):
            payload = encode_cast(spread.wire_id, spread.hold, number, own_id, part[1:], content)
            self._nodes.send(part[0], NodeKind.GROUP_CAST, payload)
        self._unsaid[spread] = now
        self._wait_to_say()
        if self._history_alarm is None:
            self._history_alarm = self._alarms.call_later(HISTORY_CHECK_SECONDS, self._drop_old)

    def _drop_old(self) -> None:
        self._history_alarm = None
        self._history.drop_old(self._alarms.now())
        if self._history.bytes:
            self._history_alarm = self._alarms.call_later(HISTORY_CHECK_SECONDS, self._drop_old)

    def _parts(self, targets: Sequence[str]) -> list[list[str]]:
        # Only who can be reached should pass something on; the others wait for their link as leaves.
        is_up = self._nodes.is_up
        up = [node_id for node_id in targets if is_up(node_id)]
        if len(up) == len(targets):
            return split(targets, self._relay_limit)
        down = [node_id for node_id in targets if not is_up(node_id)]
        if not up:
            return [[node_id] for node_id in down]
        parts = split(up, self._relay_limit)
        for index, node_id in enumerate(down):
            parts[index % len(parts)].append(node_id)
        return parts

    def pass_on(self, cast: Cast) -> None:
        """Send a cast of another node to the rest of its part of the tree."""
        for part in self._parts(cast.rest):
            wire_id = cast.group_id.encode("ascii")
            payload = encode_cast(wire_id, cast.hold, cast.number, cast.origin, part[1:], cast.content)
            self._passed_on += 1
            if not self._nodes.send(part[0], NodeKind.GROUP_CAST, payload):
                # Not a node that this one knows: the others must not miss it for that.
                for node_id in part[1:]:
                    payload = encode_cast(wire_id, cast.hold, cast.number, cast.origin, (), cast.content)
                    self._nodes.send(node_id, NodeKind.GROUP_CAST, payload)

    def _wait_to_say(self) -> None:
        if self._head_alarm is None and self._unsaid:
            self._head_alarm = self._alarms.call_later(HEAD_SECONDS, self._say_heads)

    def _say_heads(self) -> None:
        self._head_alarm = None
        quiet_since = self._alarms.now() - HEAD_SECONDS
        for spread in [spread for spread, at in self._unsaid.items() if at <= quiet_since]:
            del self._unsaid[spread]
            payload = encode_head(spread.wire_id, spread.hold, spread.next_number)
            for node_id in spread.holders:
                self._nodes.send(node_id, NodeKind.GROUP_HEAD, payload)
        self._wait_to_say()

    def forget(self, spread: Spread) -> None:
        """The group is not held any more. What it cast can still be asked for."""
        self._unsaid.pop(spread, None)

    def ask_if_missing(self, spread: Spread, holder: Holder) -> None:
        """Ask a holder for what is missing of it, unless it comes by itself in a moment."""
        if not holder.is_asking and holder.incoming.missing is not None:
            holder.is_asking = True
            self._alarms.call_later(REPAIR_SECONDS, lambda: self._ask(spread, holder))

    def _ask(self, spread: Spread, holder: Holder) -> None:
        missing = holder.incoming.missing
        if missing is None or spread.holders.get(holder.node_id) is not holder:
            holder.is_asking = False
            return
        self._repairs_asked += 1
        payload = encode_repair(spread.wire_id, holder.incoming.hold, *missing)
        self._nodes.send(holder.node_id, NodeKind.GROUP_REPAIR, payload)
        self._alarms.call_later(REPAIR_AGAIN_SECONDS, lambda: self._ask(spread, holder))

    def answer_repair(self, node_id: str, repair: Repair) -> None:
        """Send again what a node misses. Behind it goes the number from which it need not miss anything older."""
        self._repairs_answered += 1
        key = (repair.group_id, repair.hold)
        _, kept = self._history.get(key, repair.first, repair.end)
        wire_id = repair.group_id.encode("ascii")
        size = 0
        next_number = repair.end
        for number, content in kept:
            size += len(content)
            if size > MAX_REPAIR_BYTES and number > kept[0][0]:
                next_number = number
                break
            payload = encode_cast(wire_id, repair.hold, number, self._nodes.node_id, (), content)
            self._nodes.send(node_id, NodeKind.GROUP_CAST, payload)
        # All that went there directly has come before this; what else is missing is not here any more.
        skip = encode_skip(wire_id, repair.hold, next_number)
        self._nodes.send(node_id, NodeKind.GROUP_SKIP, skip)

    def stop(self) -> None:
        """Say nothing any more."""
        self._unsaid.clear()
        for alarm in (self._head_alarm, self._history_alarm):
            if alarm is not None:
                alarm.cancel()

    def statistics(self) -> Mapping[str, int]:
        """Counts for the metrics page; the same keys at each call."""
        return {
            "group_casts": self._casts,
            "group_casts_passed_on": self._passed_on,
            "group_repairs_asked": self._repairs_asked,
            "group_repairs_answered": self._repairs_answered,
            "group_history_bytes": self._history.bytes,
        }
