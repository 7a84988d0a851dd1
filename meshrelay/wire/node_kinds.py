"""The one table of what nodes send each other inside batches: number -> meaning. Numbers are only ever added.

An older node skips and counts what it does not know, so a new kind must be one that may be missed.
"""

from __future__ import annotations

from enum import IntEnum, unique

__all__ = ["NodeKind"]


@unique
class NodeKind(IntEnum):
    """Kinds of messages, 0 to 127; payloads are in `wire.group_node`, `direct_node`, `room_node`, `link_node`,
    `relay_node` and `overlay_bridge`."""

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
    #: A node wants something of a room of the receiving node.
    ROOM_ASK = 24
    #: What became of it.
    ROOM_ANSWER = 25
    #: What was sent in a room, for the members on the receiving node.
    ROOM_CAST = 26
    #: A member on the receiving node, or all of them, are in the room no more.
    ROOM_OUT = 27
    #: A link group with members on the receiving node, as it is now; perhaps with their sync bytes.
    LINK_PLAN = 32
    #: Packets for a user of the receiving node, whom a hole could not be punched to.
    LINK_PACKETS = 33
    #: Give this to one member of each link group of a room of the receiving node.
    LINK_RELAY = 34
    #: How a member of a room of the receiving node reaches others.
    LINK_REPORT = 35
    #: Relay peers of the sending node, or none: "I am a relay as well".
    RELAY_HERE = 40
    #: Relay peers that are not on the sending node any more.
    RELAY_GONE = 41
    #: A message for a relay peer of the receiving node.
    RELAY_SEND = 42
    #: "I am a peer of the overlay, and hand over messages to others."
    OVERLAY_HERE = 48
    #: "I am none any more."
    OVERLAY_GONE = 49
    #: A direct message for a peer of the overlay, to be handed over by the receiving node.
    OVERLAY_SEND = 50
    #: What became of it.
    OVERLAY_RESULT = 51
