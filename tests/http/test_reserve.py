"""The call that makes a UDP session on another node."""

from __future__ import annotations

from random import Random

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import LocalProtocolError, MalformedFrame, NodeDraining
from meshrelay.http.chooser import Question
from meshrelay.http.placement import Place
from meshrelay.http.reserve import (
    answer_reserve,
    decode_request,
    decode_reserved,
    encode_request,
    encode_reserved,
)
from meshrelay.session.auth import Identity
from tests.http.exchange import CREDENTIALS, FakeEndpoints

SID = "ab" * 16


def _question(user_id: str = "alice", claims: dict[str, object] | None = None, resume: str = SID) -> Question:
    return Question("UDP", Identity(user_id, claims or {}), resume, 7, "192.0.2.1")


class CodecTests(SynchronousTestCase):
    """Payloads."""

    def test_request(self) -> None:
        """All that the other node needs arrives there: user, claims, the earlier session."""
        claims: dict[str, object] = {"sub": "alice", "exp": 1.5, "roles": ["a", None], "deep": {"x": True}}
        request = decode_request(encode_request(_question("älice", claims)))
        self.assertEqual((request.user_id, request.claims), ("älice", claims))
        self.assertEqual((request.resume, request.received), (SID, 7))

    def test_reserved(self) -> None:
        """Place and secrets come back as they were made."""
        place = Place("UDP", "relay.example", 7100)
        self.assertEqual(decode_reserved(encode_reserved(place, CREDENTIALS)), (place, CREDENTIALS))

    def test_later_version(self) -> None:
        """What a later version says in addition is passed over."""
        raw = msgspec.msgpack.decode(encode_request(_question()))
        self.assertEqual(decode_request(msgspec.msgpack.encode({**raw, "new": 1})).user_id, "alice")

    def test_claims_that_cannot_be_sent(self) -> None:
        """Claims that msgpack does not know are this node's problem alone."""
        claims: list[dict[str, object]] = [{"n": 1 << 70}, {"text": "\ud800"}]
        for one in claims:
            self.assertRaises(LocalProtocolError, encode_request, _question(claims=one))

    def test_malformed(self) -> None:
        """What is out of its range is the other node's fault."""
        request = msgspec.msgpack.decode(encode_request(_question()))
        changes: list[dict[str, object]] = [
            {"user_id": ""},
            {"user_id": "x" * 129},
            {"claims": []},
            {"resume": SID.upper()},
            {"resume": SID + "\n"},
            {"resume": "ab"},
            {"received": -1},
            {"received": 1 << 32},
        ]
        for change in changes:
            payload = msgspec.msgpack.encode({**request, **change})
            self.assertRaises(MalformedFrame, decode_request, payload)
        reserved = msgspec.msgpack.decode(encode_reserved(Place("UDP", "h", 1), CREDENTIALS))
        changes = [{"port": 0}, {"port": 65536}, {"sid": b"1" * 15}, {"key": b"1" * 17}, {"host": "h" * 254}]
        for change in changes:
            self.assertRaises(MalformedFrame, decode_reserved, msgspec.msgpack.encode({**reserved, **change}))

    def test_garbage(self) -> None:
        """Garbage of any kind is refused cleanly."""
        random = Random(4)
        good = encode_request(_question())
        payloads = [random.randbytes(random.randrange(60)) for _ in range(300)]
        payloads += [good[:cut] for cut in range(len(good))]
        payloads.append(b"\x91" * 100_000)
        for payload in payloads:
            for decode in (decode_request, decode_reserved):
                self.assertRaises(MalformedFrame, decode, payload)


class AnswerTests(SynchronousTestCase):
    """The node that is asked."""

    def setUp(self) -> None:
        """Make a node that listens."""
        self.endpoints = FakeEndpoints()
        self.is_ready = True
        self.answer = answer_reserve(self.endpoints, lambda: self.is_ready)

    def test_reserves(self) -> None:
        """A session waits for its first packet on the node that was asked, for the user that was authenticated."""
        place, secrets = decode_reserved(self.answer("other", encode_request(_question())))
        self.assertEqual((place, secrets), (Place("UDP", "", 7100), CREDENTIALS))
        self.assertEqual((self.endpoints.reserved, self.endpoints.received), ([("alice", SID)], 7))

    def test_refuses(self) -> None:
        """A node that drains, or does not listen on UDP, makes none."""
        self.is_ready = False
        self.assertRaises(NodeDraining, self.answer, "other", encode_request(_question()))
        self.is_ready = True
        del self.endpoints.places["UDP"]
        self.assertRaises(NodeDraining, self.answer, "other", encode_request(_question()))
        self.assertEqual(self.endpoints.reserved, [])
