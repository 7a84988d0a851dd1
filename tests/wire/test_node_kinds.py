"""Tests of `meshrelay.wire.node_kinds`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.wire.node_kinds import NodeKind


class NodeKindTests(SynchronousTestCase):
    """The numbers on the wire."""

    def test_numbers(self) -> None:
        """The numbers stay what they are, or a cluster of two versions would not understand itself."""
        self.assertEqual(
            {kind.name: int(kind) for kind in NodeKind},
            {
                "GROUP_CAST": 1,
                "GROUP_HOLD": 2,
                "GROUP_MEMBERS": 3,
                "GROUP_NOT_HELD": 4,
                "GROUP_EXIT": 5,
                "GROUP_HEAD": 6,
                "GROUP_REPAIR": 7,
                "GROUP_SKIP": 8,
                "GROUP_FORWARD": 9,
                "GROUP_TELL": 10,
                "DIRECT_SEND": 16,
                "DIRECT_RESULTS": 17,
                "DIRECT_CLEAR": 18,
                "DIRECT_GONE": 19,
                "ROOM_ASK": 24,
                "ROOM_ANSWER": 25,
                "ROOM_CAST": 26,
                "ROOM_OUT": 27,
                "LINK_PLAN": 32,
                "LINK_PACKETS": 33,
                "LINK_RELAY": 34,
                "LINK_REPORT": 35,
                "RELAY_HERE": 40,
                "RELAY_GONE": 41,
                "RELAY_SEND": 42,
                "OVERLAY_HERE": 48,
                "OVERLAY_GONE": 49,
                "OVERLAY_SEND": 50,
                "OVERLAY_RESULT": 51,
            },
        )
