"""Payloads of the room commands."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import MalformedPayload
from meshrelay.testing.contracts import check_codec
from meshrelay.wire.buffer import encode_str8
from meshrelay.wire.room_commands import (
    NewRoom,
    PushedOwner,
    RoomList,
    decode_new_room,
    decode_owner,
    decode_pushed_owner,
    decode_room_id,
    decode_room_list,
    encode_new_room,
    encode_pushed_owner,
    encode_room_list,
)

GID = "r" * 52


class CodecTests(SynchronousTestCase):
    """There and back; what is wrong is the sender's fault."""

    def test_new_room(self) -> None:
        """ROOM_CREATE as the protocol has it, byte by byte."""
        vectors = {
            b"\x00\x08\x02\x00\x00\x00\x3c\x00\xc8": NewRoom(8, False, True, 60, 200),
            b"\xff\xff\x01\xff\xff\xff\xff\x00\x00": NewRoom(65535, True, False, 0xFFFFFFFF, 0),
            b"\x00\x00\x03\x00\x00\x00\x0b\x00\x01": NewRoom(0, True, True, 11, 1),
        }
        check_codec(encode_new_room, decode_new_room, vectors, MalformedPayload)

    def test_unknown_flag(self) -> None:
        """A flag that nobody knows is refused."""
        self.assertRaises(MalformedPayload, decode_new_room, b"\x00\x08\x04\x00\x00\x00\x3c\x00\xc8")

    def test_owner(self) -> None:
        """The answer to ROOM_JOIN."""
        check_codec(encode_str8, decode_owner, {b"\x03ann": "ann", b"\x02\xc3\xa4": "ä"}, MalformedPayload)

    def test_room_id(self) -> None:
        """A room ID and nothing else."""
        check_codec(lambda room_id: room_id.encode("ascii"), decode_room_id, {GID.encode(): GID}, MalformedPayload)

    def test_room_list(self) -> None:
        """The answer to ROOM_MEMBERS, with the owner in front of all members."""
        wanted = {b"\x03ann\x03ann\x03bob": RoomList("ann", ["ann", "bob"])}
        check_codec(lambda each: encode_room_list(*each), decode_room_list, wanted, MalformedPayload)

    def test_pushed_owner(self) -> None:
        """The push ROOM_OWNER."""
        vectors = {GID.encode() + b"\x03bob": PushedOwner(GID, "bob")}
        check_codec(lambda each: encode_pushed_owner(*each), decode_pushed_owner, vectors, MalformedPayload)
