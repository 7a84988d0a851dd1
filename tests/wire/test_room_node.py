"""What nodes tell each other about rooms."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import MalformedFrame
from meshrelay.model import Room, RoomMember
from meshrelay.testing.contracts import check_codec
from meshrelay.wire.room_node import (
    RoomAnswer,
    RoomAsk,
    RoomCastEntry,
    RoomOp,
    RoomOut,
    RoomReceivers,
    decode_room_answer,
    decode_room_ask,
    decode_room_cast,
    decode_room_out,
    decode_room_receivers,
    decode_snapshot,
    encode_room_answer,
    encode_room_ask,
    encode_room_cast,
    encode_room_cast_entry,
    encode_room_out,
    encode_room_receivers,
    encode_snapshot,
)
from tests.vectors import load_vectors

VECTORS = load_vectors("room-node")


def recorded(name: str) -> list[tuple[bytes, dict[str, Any]]]:
    """All vectors of one kind: (payload, its fields)."""
    vectors = []
    for vector in VECTORS[name]:
        fields = dict(vector)
        payload = bytes.fromhex(fields.pop("bytes"))
        for field in ("data", "frames"):
            if field in fields:
                fields[field] = bytes.fromhex(fields[field])
        vectors.append((payload, fields))
    return vectors


class VectorTests(SynchronousTestCase):
    """Recorded payloads of version 1 are read and written as they were; no garbled one brings a node down."""

    def test_ask(self) -> None:
        """What is wanted of a room."""
        vectors = {data: RoomAsk(**fields) for data, fields in recorded("ask")}
        check_codec(encode_room_ask, decode_room_ask, vectors, MalformedFrame)

    def test_answer(self) -> None:
        """What became of it."""
        vectors = {data: RoomAnswer(**fields) for data, fields in recorded("answer")}
        check_codec(encode_room_answer, decode_room_answer, vectors, MalformedFrame)

    def test_receivers(self) -> None:
        """Who is to get something."""
        vectors = {
            data: RoomReceivers(tuple(fields["user_ids"]), fields["frames"]) for data, fields in recorded("receivers")
        }
        check_codec(encode_room_receivers, decode_room_receivers, vectors, MalformedFrame)

    def test_cast(self) -> None:
        """What was sent in a room."""
        vectors = {
            data: (
                fields["room_id"],
                [
                    RoomCastEntry(
                        entry["reliable"],
                        entry["sender_id"],
                        tuple(entry["receivers"]),
                        bytes.fromhex(entry["frames"]),
                    )
                    for entry in fields["entries"]
                ],
            )
            for data, fields in recorded("cast")
        }
        check_codec(
            lambda cast: encode_room_cast(cast[0], map(encode_room_cast_entry, cast[1])),
            decode_room_cast,
            vectors,
            MalformedFrame,
        )

    def test_out(self) -> None:
        """Who is out."""
        vectors = {data: RoomOut(**fields) for data, fields in recorded("out")}
        check_codec(encode_room_out, decode_room_out, vectors, MalformedFrame)

    def test_snapshot(self) -> None:
        """All there is to know."""
        room_id = VECTORS["cast"][0]["room_id"]
        vectors = {}
        for data, fields in recorded("snapshot"):
            members = tuple(
                RoomMember(member["user_id"], member["sid"], member["node_id"], bytes.fromhex(member["facts"]))
                for member in fields.pop("members")
            )
            vectors[data] = Room(id=room_id, members=members, **fields)
        check_codec(encode_snapshot, lambda data: decode_snapshot(room_id, data), vectors, MalformedFrame)


class FutureTests(SynchronousTestCase):
    """What a later version may add."""

    def test_numbers(self) -> None:
        """What is asked stays under its number."""
        self.assertEqual([op.value for op in RoomOp], list(range(1, 12)))

    def test_unknown(self) -> None:
        """Ops and flags of a later version are read; what they mean is for others to say."""
        ask = RoomAsk(1, 200, True, "r" * 52, "ann", "s", b"")
        data = encode_room_ask(ask)
        self.assertEqual(decode_room_ask(data[:9] + b"\xff" + data[10:]), ask)
