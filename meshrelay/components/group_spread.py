"""One group beyond this node: which other nodes hold it, what goes to them, and what came from each.

::

    publish, joined, left, ... --once a turn--> one cast, numbered --tree--> the other holders
    a cast of another holder --its Incoming: once, in order--> entries for `meshrelay.components.group_nodes`

Everything that one node says in one group has a number of its own series, members that come and go included, so that
all holders see the same in the same order. A series is named by its hold: a node that leaves the group and enters it
again begins another one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from meshrelay.fanout.turn import Turn
from meshrelay.machine.sequence import Incoming
from meshrelay.wire.group_node import EntryType, encode_entry, encode_member

__all__ = ["MAX_CAST_BYTES", "Holder", "RemoteMember", "Spread", "SpreadWriter"]

#: What waits for the end of the turn is cast at once when it is this much; with one more frame it fits a message.
MAX_CAST_BYTES = 192 * 1024

#: Nodes whose casts came before they said that they hold the group; what is over that is asked for when they have.
MAX_EARLY = 64

#: What is kept of one of them.
MAX_EARLY_CASTS = 1_000
MAX_EARLY_BYTES = 256 * 1024


class RemoteMember(NamedTuple):
    """A member whose node is another one."""

    sid: str
    #: Its connection was lost; its node has told the group.
    is_away: bool = False
    #: Its node was lost and this one has told so: the other nodes whose members know it, to be told when it is back.
    lost_to: tuple[str, ...] | None = None


class Holder:
    """Another node that holds the group."""

    __slots__ = ("incoming", "is_asking", "lost_count", "members", "node_id")

    def __init__(self, node_id: str, incoming: Incoming) -> None:
        self.node_id = node_id
        self.incoming = incoming
        self.members: dict[str, RemoteMember] = {}
        #: What is missing of it has been, or is about to be, asked for.
        self.is_asking = False
        #: Casts of it that are lost, as far as they were counted.
        self.lost_count = 0


class SpreadWriter(Protocol):
    """Takes what a group has for the other nodes."""

    def cast(self, spread: Spread, content: bytes, is_last: bool) -> None:
        """Send `content` to all other holders.

        :param is_last: this node does not hold the group any more.
        """


class Spread:
    """See the module. Made for a group when another node holds it, or may.

    :param hold: names this series; greater than that of every earlier hold of this node.
    :ivar next_number: of the next cast.
    :ivar holders: by node ID.
    :ivar early: node ID -> what came of a node that has not said yet that it holds the group.
    :ivar asked: nodes that were asked whether they hold the group and have not answered.
    :ivar ask_later: nodes that are about to be asked.
    """

    __slots__ = (
        "_entries",
        "_frames",
        "_is_run_reliable",
        "_is_scheduled",
        "_pending_bytes",
        "_turn",
        "_writer",
        "ask_later",
        "asked",
        "early",
        "group_id",
        "hold",
        "holders",
        "next_number",
        "wire_id",
    )

    def __init__(self, group_id: str, hold: int, turn: Turn, writer: SpreadWriter) -> None:
        self.group_id = group_id
        self.wire_id = group_id.encode("ascii")
        self.hold = hold
        self.next_number = 1
        self.holders: dict[str, Holder] = {}
        self.early: dict[str, Incoming] = {}
        self.asked: set[str] = set()
        self.ask_later: set[str] = set()
        self._turn = turn
        self._writer = writer
        self._entries: list[bytes] = []
        #: Frames of the same kind that are not an entry yet.
        self._frames: list[bytes] = []
        self._is_run_reliable = True
        self._pending_bytes = 0
        self._is_scheduled = False

    def publish(self, frame: bytes, reliable: bool) -> None:
        """Put a frame, or several joined ones, in line for the other holders."""
        if not self.holders:
            return
        if reliable is not self._is_run_reliable:
            self._end_run()
            self._is_run_reliable = reliable
        self._frames.append(frame)
        self._added(len(frame))

    def say(self, entry_type: EntryType, user_id: str, sid: str) -> None:
        """Put what happened to a member of this node in line."""
        if not self.holders:
            return
        self._end_run()
        entry = encode_entry(entry_type, encode_member(user_id, sid))
        self._entries.append(entry)
        self._added(len(entry))

    def log(self, run: bytes) -> None:
        """Put messages with their offsets in line, see `meshrelay.wire.group_log`."""
        if not self.holders:
            return
        self._end_run()
        self._entries.append(encode_entry(EntryType.LOGGED, run))
        self._added(len(run))

    def exit(self) -> None:
        """Cast what waits, and that it was the last: this node does not hold the group any more."""
        if self.holders:
            self._end_run()
            self._entries.append(encode_entry(EntryType.EXIT, b""))
            self._cast(True)

    def _added(self, size: int) -> None:
        self._pending_bytes += size
        if self._pending_bytes >= MAX_CAST_BYTES:
            self.flush()
        elif not self._is_scheduled:
            self._is_scheduled = True
            self._turn.join(self)

    def _end_run(self) -> None:
        if self._frames:
            entry_type = EntryType.FRAMES if self._is_run_reliable else EntryType.UNRELIABLE
            self._entries.append(encode_entry(entry_type, b"".join(self._frames)))
            self._frames = []

    def flush(self) -> None:
        """Cast what waits. Called at the end of the turn, and before anything that must come behind it."""
        self._is_scheduled = False
        self._end_run()
        if self._entries:
            self._cast(False)

    def _cast(self, is_last: bool) -> None:
        content = b"".join(self._entries)
        self._entries = []
        self._pending_bytes = 0
        self._writer.cast(self, content, is_last)

    def receive(
        self, node_id: str, hold: int, number: int, content: bytes, is_unknown: Callable[[str], object]
    ) -> list[bytes]:
        """Take a cast of another node.

        :param is_unknown: called with the node ID when that node has not said that it holds the group.
        :returns: the contents that are in order now; they may be of earlier casts.
        """
        holder = self.holders.get(node_id)
        if holder is not None and holder.incoming.hold >= hold:
            # Of an older hold: what it says was over before the present one began.
            return holder.incoming.receive(number, content) if holder.incoming.hold == hold else []
        incoming = self.early.get(node_id)
        if incoming is None or incoming.hold < hold:
            if incoming is None and len(self.early) >= MAX_EARLY:
                return []
            incoming = self.early[node_id] = Incoming(hold, MAX_EARLY_CASTS, MAX_EARLY_BYTES)
            is_unknown(node_id)
        if incoming.hold == hold:
            incoming.receive(number, content)
        return []

    def begin(self, node_id: str, hold: int, next_number: int) -> list[bytes]:
        """A node said that it holds the group, and where its series stands.

        :returns: the contents that are in order now.
        """
        holder = self.holders.get(node_id)
        if holder is not None and holder.incoming.hold >= hold:
            if holder.incoming.hold == hold:
                holder.incoming.head(next_number)
            return []
        incoming = self.early.pop(node_id, None)
        if incoming is None or incoming.hold != hold:
            incoming = Incoming(hold)
        incoming.widen()
        # What its members of an older hold were is said again by itself.
        self.holders[node_id] = Holder(node_id, incoming)
        return incoming.start(next_number)
