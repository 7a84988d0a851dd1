"""The link commands: payloads that are wrong, on a node with no room at all."""

from __future__ import annotations

from meshrelay.errors import ErrorCode
from meshrelay.wire.commands import Command
from tests.components.link_kit import LinkTestCase

NOWHERE = b"x" * 52


class PayloadTests(LinkTestCase):
    """One node."""

    node_ids = ("a",)

    def test_malformed(self) -> None:
        """What cannot be read is refused with code 1, before anything is looked up."""
        ann = self.client("ann")
        for cmd, payloads in (
            (Command.LINK_START, (b"", NOWHERE, NOWHERE + b"\0\0", b"\xff" * 53)),
            (Command.LINK_RELAY, (b"", b"x" * 51, b"\xff" * 60)),
            (Command.LINK_STATE, (b"", NOWHERE + b"\1a", NOWHERE + b"\1a\3", NOWHERE + b"\0\1", NOWHERE + b"\1\xff\1")),
            (Command.LINK_FORWARD, (b"", NOWHERE, NOWHERE + b"\1a", NOWHERE + b"\0x")),
        ):
            for payload in payloads:
                self.assertEqual(ann.refusal(cmd, payload)[1], ErrorCode.MALFORMED_PAYLOAD, (cmd, payload))

    def test_no_room(self) -> None:
        """Of a room that nobody knows code 25 is told; packets, which are many, are only not for its members."""
        ann = self.client("ann")
        for cmd, payload, code in (
            (Command.LINK_START, NOWHERE + b"\0", 25),
            (Command.LINK_RELAY, NOWHERE + b"hi", 25),
            (Command.LINK_STATE, NOWHERE, 25),
            (Command.LINK_FORWARD, NOWHERE + b"\3bobx", 24),
        ):
            self.assertEqual(ann.refusal(cmd, payload)[1], code, cmd)
