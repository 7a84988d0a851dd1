"""What nodes tell each other about direct messages."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import MalformedFrame
from meshrelay.testing.contracts import check_codec
from meshrelay.wire.direct_node import (
    Clear,
    Direct,
    Gone,
    Outcome,
    Parcel,
    decode_clear,
    decode_gone,
    decode_results,
    decode_send,
    encode_clear,
    encode_gone,
    encode_results,
    encode_send,
)
from tests.vectors import load_vectors

VECTORS = load_vectors("direct-node")


def recorded(name: str) -> list[tuple[bytes, dict[str, Any]]]:
    """All vectors of one kind: (payload, its fields)."""
    vectors = []
    for vector in VECTORS[name]:
        fields = dict(vector)
        payload = bytes.fromhex(fields.pop("bytes"))
        if "message" in fields:
            fields["message"] = bytes.fromhex(fields["message"])
        vectors.append((payload, fields))
    return vectors


class VectorTests(SynchronousTestCase):
    """Recorded payloads of version 1 are read and written as they were; no garbled one brings a node down."""

    def test_send(self) -> None:
        """Messages on their way."""
        vectors = {}
        for payload, fields in recorded("send"):
            number, generation = fields.pop("number"), fields.pop("generation")
            vectors[payload] = Parcel(number, generation, Direct(**fields))
        check_codec(encode_send, decode_send, vectors, MalformedFrame)

    def test_results(self) -> None:
        """What became of them."""
        vectors = {
            payload: [(number, Outcome(outcome)) for number, outcome in fields["results"]]
            for payload, fields in recorded("results")
        }
        check_codec(encode_results, decode_results, vectors, MalformedFrame)

    def test_clear(self) -> None:
        """Ends of channels."""
        check_codec(
            encode_clear, decode_clear, {data: Clear(**fields) for data, fields in recorded("clear")}, MalformedFrame
        )

    def test_gone(self) -> None:
        """Ends of users."""
        check_codec(
            encode_gone, decode_gone, {data: Gone(**fields) for data, fields in recorded("gone")}, MalformedFrame
        )


class FutureTests(SynchronousTestCase):
    """What a later version may add."""

    def test_unknown_outcome(self) -> None:
        """An outcome of a later version is a failure, and those beside it are what they are."""
        data = (1).to_bytes(8, "big") + b"\xc8" + encode_results([(2, Outcome.TAKEN)])
        self.assertEqual(decode_results(data), [(1, Outcome.FAILED), (2, Outcome.TAKEN)])

    def test_unknown_flags(self) -> None:
        """Flags of a later version are passed over."""
        sent = encode_send(Parcel(1, 1, Direct("ann", "s", "bob", 1, 120, True, b"hi")))
        flagged = sent[:12] + b"\xff" + sent[13:]
        self.assertEqual(decode_send(flagged), decode_send(sent))
