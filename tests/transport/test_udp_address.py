"""Addresses that clients have not shown to be their own."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.model import Status
from meshrelay.transport.udp_address import MAX_AMPLIFICATION, UnprovedAddress
from meshrelay.wire.commands import CORE_VER, CoreCommand
from meshrelay.wire.frame import Frame, whole_frames


class UnprovedAddressTests(SynchronousTestCase):
    """How much may go there, and what proves it."""

    def setUp(self) -> None:
        """An address from which nothing came yet."""
        self.address = UnprovedAddress(b"8 secret")

    def test_nothing(self) -> None:
        """Nothing goes where nothing came from."""
        self.assertFalse(self.address.spend(1))

    def test_budget(self) -> None:
        """At most three times what came goes there; what is too much takes nothing from what may still go."""
        self.assertEqual(MAX_AMPLIFICATION, 3)
        self.address.received(100)
        self.assertEqual([self.address.spend(size) for size in (200, 101, 100, 1)], [True, False, True, False])
        self.address.received(1)
        self.assertTrue(self.address.spend(3))

    def test_proof(self) -> None:
        """The PONG of the question proves the address; any other frame does not."""
        (question,) = whole_frames(self.address.question, 100)
        self.assertEqual((question.ver, question.status, question.cmd), (CORE_VER, Status.PUSH, CoreCommand.PING))
        answer = Frame(CORE_VER, 0, CoreCommand.PONG, 0, question.payload)
        self.assertTrue(self.address.is_answer(answer))
        for wrong in (
            answer._replace(payload=b"9 secret"),
            answer._replace(payload=b""),
            answer._replace(cmd=CoreCommand.PING),
            answer._replace(ver=1),
        ):
            self.assertFalse(self.address.is_answer(wrong), wrong)
