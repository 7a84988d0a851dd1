"""What nodes ask each other about sessions."""

from __future__ import annotations

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import MalformedFrame
from meshrelay.testing.builders import make_group_id, make_sid
from meshrelay.testing.contracts import check_codec
from meshrelay.wire.frame import encode_frame, encode_push, split_frames
from meshrelay.wire.node import MAX_CALL_BYTES
from meshrelay.wire.session_node import (
    MAX_GROUPS,
    EndRequest,
    Handover,
    Recalled,
    SessionName,
    decode_end,
    decode_handover,
    decode_name,
    decode_recalled,
    encode_end,
    encode_handover,
    encode_name,
    encode_recalled,
    fit_handover,
    is_sid,
    join_group_ids,
    split_group_ids,
)

SID = make_sid("ann")
NAME = SessionName(user_id="ann", sid=SID)
END = EndRequest(user_id="änn", sid=SID, stamp=1 << 50)
PUSHES = encode_push(1, 113, b"one") + encode_push(2, 7, b"")
HANDOVER = Handover(
    is_found=True, stamp=7, first=1 << 33, left_at=(1 << 33) + 1, is_exact=True, is_whole=False, frames=PUSHES
)
RECALLED = Recalled(is_live=True, groups=join_group_ids([make_group_id("g"), make_group_id("h")]))
QUESTION = SessionName(user_id="ann", sid=SID, age_ms=12, stamp=1 << 50)
CONTESTED_END = EndRequest(user_id="ann", sid=SID, stamp=7, by_sid=make_sid("bob"), by_stamp=8)
AWAY = Recalled(is_live=True, is_away=True)
STAYS = Handover(stamp=9)
WITH_ROOMS = Handover(is_found=True, groups=RECALLED.groups, rooms=join_group_ids([make_group_id("r")]), has_lapse=True)


class CodecTests(SynchronousTestCase):
    """There and back, and nothing that another node sends brings this one down."""

    def test_codecs(self) -> None:
        """Each payload is read as it was written; cut or garbled ones are the other node's fault."""
        check_codec(encode_name, decode_name, {encode_name(each): each for each in (NAME, QUESTION)}, MalformedFrame)
        ends = {encode_end(each): each for each in (END, CONTESTED_END)}
        check_codec(encode_end, decode_end, ends, MalformedFrame)
        check_codec(
            encode_handover,
            decode_handover,
            {encode_handover(each): each for each in (HANDOVER, WITH_ROOMS, STAYS)},
            MalformedFrame,
        )
        recalled = {encode_recalled(each): each for each in (RECALLED, AWAY)}
        check_codec(encode_recalled, decode_recalled, recalled, MalformedFrame)

    def test_recorded(self) -> None:
        """What a node of the first version sent is still understood."""
        name = b"\x82\xa7user_id\xa3ann\xa3sid\xd9\x20" + SID.encode()
        self.assertEqual(encode_name(NAME), name)
        self.assertEqual(decode_handover(b"\x80"), Handover())
        self.assertEqual(decode_recalled(b"\x81\xa7is_live\xc3"), Recalled(is_live=True))

    def test_newer_version(self) -> None:
        """What a newer node says beside what is known here is passed over."""
        newer = msgspec.msgpack.encode({"user_id": "ann", "sid": SID, "mood": [1, 2]})
        self.assertEqual(decode_name(newer), NAME)

    def test_out_of_range(self) -> None:
        """Names, numbers and group IDs that cannot be are refused."""
        for name in ({"user_id": "", "sid": SID}, {"user_id": "x" * 129, "sid": SID}, {"user_id": "ann", "sid": "x"}):
            self.assertRaises(MalformedFrame, decode_name, msgspec.msgpack.encode(name))
        self.assertRaises(MalformedFrame, decode_end, msgspec.msgpack.encode({"user_id": "a", "sid": SID, "stamp": -1}))
        for member, value in (("age_ms", -1), ("stamp", 1 << 63)):
            question = msgspec.msgpack.encode({"user_id": "a", "sid": SID, member: value})
            self.assertRaises(MalformedFrame, decode_name, question)
        for by in ({"by_sid": "x"}, {"by_stamp": -1}):
            end = msgspec.msgpack.encode({"user_id": "a", "sid": SID, "stamp": 1, **by})
            self.assertRaises(MalformedFrame, decode_end, end)
        too_many = bytes(52 * (MAX_GROUPS + 1))
        for groups in (b"x" * 51, b"\xff" * 52, too_many):
            for field in ("groups", "rooms"):
                payload = msgspec.msgpack.encode({"is_found": True, field: groups})
                self.assertRaises(MalformedFrame, decode_handover, payload)
                self.assertRaises(MalformedFrame, decode_recalled, payload)

    def test_not_pushes(self) -> None:
        """Only whole pushes of ver 1 and above are taken for a client."""
        for frames in (PUSHES[:-1], encode_frame(1, 1, 113, 9, b"answer"), encode_push(0, 4, b"goodbye")):
            payload = msgspec.msgpack.encode({"is_found": True, "frames": frames})
            self.assertRaises(MalformedFrame, decode_handover, payload)

    def test_sid(self) -> None:
        """A sid has 32 lower-case hex digits."""
        self.assertTrue(is_sid(SID))
        for text in ("", SID[:-1], SID.upper().replace("0", "A"), SID + "0", "é" * 32, SID[:-1] + "\n"):
            self.assertFalse(is_sid(text), text)


class SizeTests(SynchronousTestCase):
    """What a session takes along fits one call."""

    def test_group_ids(self) -> None:
        """Group IDs keep their order; there are at most `MAX_GROUPS`."""
        group_ids = [make_group_id(f"g{number}") for number in range(MAX_GROUPS + 1)]
        self.assertEqual(split_group_ids(join_group_ids(group_ids)), group_ids[:-1])
        self.assertRaises(ValueError, join_group_ids, ["short"])

    def test_fits(self) -> None:
        """What fits goes whole."""
        self.assertIs(fit_handover(HANDOVER), HANDOVER)

    def test_oldest_given_up(self) -> None:
        """Of more pushes than fit beside the most groups the newest go, and nobody claims that it is all."""
        push = encode_push(1, 113, bytes(1000))
        groups = join_group_ids(make_group_id(f"g{number}") for number in range(MAX_GROUPS))
        half = len(groups) // 2
        for each, rooms, kept in ((b"", b"", 517), (groups, b"", 3), (groups[:half], groups[half:], 3)):
            handover = Handover(
                is_found=True, stamp=(1 << 53), first=5, left_at=1 << 40, frames=push * 600, groups=each, rooms=rooms
            )
            fitted = fit_handover(handover)
            self.assertEqual(len(split_frames(fitted.frames)), kept)
            self.assertEqual((fitted.first, fitted.is_whole), (5 + 600 - kept, False))
            self.assertLessEqual(len(encode_handover(fitted)), MAX_CALL_BYTES)
