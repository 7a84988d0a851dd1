"""The one table of what nodes send each other inside batches: number -> meaning. Numbers are only ever added.

An older node skips and counts what it does not know, so a new kind must be one that may be missed.
"""

from __future__ import annotations

from enum import IntEnum, unique

__all__ = ["NodeKind"]


@unique
class NodeKind(IntEnum):
    """Kinds of messages, 0 to 127; their payloads are in `wire.group_node` and `wire.direct_node`."""

    #: What one node published in a group, to be passed on along a tree.
    GROUP_CAST = 1
    #: "I hold this group": where my numbers stand, and whether you do, too, I would like to know.
    GROUP_HOLD = 2
    #: Members of a group on the sending node; comes before the GROUP_HOLD that it belongs to.
    GROUP_MEMBERS = 3
    #: The answer to a GROUP_HOLD that asked: no such group here.
    GROUP_NOT_HELD = 4
    #: "I do not hold this group any more."
    GROUP_EXIT = 5
    #: The number of what will be cast next, said when it was quiet for a while.
    GROUP_HEAD = 6
    #: "I miss these numbers of yours."
    GROUP_REPAIR = 7
    #: The answer to a GROUP_REPAIR for what is no longer there: go on from this number.
    GROUP_SKIP = 8
    #: Publish this in the group for me, who does not hold it.
    GROUP_FORWARD = 9
    #: Push this to your members of the group, and to nobody else; its payload is that of a GROUP_FORWARD.
    GROUP_TELL = 10
    #: A direct message for a user of the receiving node.
    DIRECT_SEND = 16
    #: What became of direct messages, many in one.
    DIRECT_RESULTS = 17
    #: A user does not want to be known by a peer any more, perhaps with a last message.
    DIRECT_CLEAR = 18
    #: A user is gone; what its peer is told.
    DIRECT_GONE = 19
