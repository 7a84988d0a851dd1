"""Calls to the home of a room about links."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed

from meshrelay.components.link_asks import ANSWER_SECONDS
from meshrelay.errors import (
    CommandError,
    InternalError,
    LinkGroupSizeInvalid,
    MalformedFrame,
    MessageTooLarge,
    NotEnoughMembers,
    NotInRoom,
    RateLimited,
    RoomNotFound,
    RoomTimeout,
)
from meshrelay.mesh.errors import LinkLost
from meshrelay.wire.link_node import LinkAsk, LinkFact, encode_error_answer, encode_facts
from tests.components.link_kit import LinkTestCase


class AsksTests(LinkTestCase):
    """Node b asks node a, which made the room."""

    node_ids = ("a", "b")

    def setUp(self) -> None:
        """Ann's room, with bob."""
        super().setUp()
        self.ann, self.bob = self.client("ann"), self.client("bob", "b")
        self.den = self.room_of(self.ann, self.bob)
        self.asks: Any = self.links("b")._asks

    def answer(self, *answers: Deferred[bytes]) -> list[bytes]:
        """Let node a answer this; returns what it is asked."""
        asked: list[bytes] = []
        coming = iter(answers)

        def call(node_id: str, name: str, payload: bytes) -> Deferred[bytes]:
            asked.append(payload)
            return next(coming)

        self.patch(self.asks._nodes, "call", call)
        return asked

    def test_refusals(self) -> None:
        """What the home refuses is the same error here."""
        ask = LinkAsk(self.den, "bob", self.bob.sid, 0, 1, 131)
        kinds: tuple[type[CommandError], ...] = (
            RateLimited,
            MessageTooLarge,
            NotInRoom,
            RoomNotFound,
            NotEnoughMembers,
            LinkGroupSizeInvalid,
            InternalError,
        )
        for kind in kinds:
            self.answer(succeed(encode_error_answer(kind.code, "the text")))
            error = self.error(self.asks.start(ask))
            self.assertEqual((type(error), error.text), (kind, "the text"))
        self.answer(succeed(encode_error_answer(9999, "new")))
        self.assertIsInstance(self.error(self.asks.start(ask)), InternalError)

    def test_no_answer(self) -> None:
        """A home that is lost, or silent, is a timeout; one that answers nonsense is an error of ours."""
        self.answer(fail(LinkLost("a", "lost")))
        self.assertIsInstance(self.error(self.asks.pairs(self.den)), RoomTimeout)
        self.answer(Deferred())
        done = Deferred.fromCoroutine(self.asks.pairs(self.den))
        self.cluster.run(ANSWER_SECONDS - 0.1)
        self.assertNoResult(done)
        self.cluster.run(0.2)
        self.failureResultOf(done, RoomTimeout)
        for nonsense in (b"", b"\0", b"\0\0", b"\0\0\0\0\0\1\x09"):
            self.answer(succeed(nonsense))
            self.assertIsInstance(self.error(self.asks.pairs(self.den)), InternalError)

    def test_pages(self) -> None:
        """Members that do not fit one answer come in several; each counts once."""
        ok = encode_error_answer(0, "")
        facts = [LinkFact(name, "s", "a", "udp", None, ()) for name in ("ann", "bob", "bob", "cat")]
        pages = [ok + (2).to_bytes(4, "big") + encode_facts(facts[:2], 0)[4:], ok + encode_facts(facts[2:], 0)]
        asked = self.answer(*map(succeed, pages))
        self.assertEqual([fact.user_id for fact in self.result(self.asks.members(self.den))], ["ann", "bob", "cat"])
        self.assertEqual([payload[52:] for payload in asked], [b"\0\0\0\0", b"\0\0\0\2"])

    def test_bad_calls(self) -> None:
        """A call that cannot be read is the fault of the node that made it."""
        asks: Any = self.links()._asks
        for call in (asks._answer_facts, asks._answer_members, asks._answer_start, asks._answer_pairs):
            with self.assertRaises(MalformedFrame):
                call("b", b"x")
        for tell in (asks.relay_received, asks.report_received):
            with self.assertRaises(MalformedFrame):
                tell("b", b"x")
