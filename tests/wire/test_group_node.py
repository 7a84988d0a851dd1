"""What nodes tell each other about groups."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import LocalProtocolError, MalformedFrame
from meshrelay.testing.contracts import check_codec
from meshrelay.wire import group_node
from meshrelay.wire.group_node import (
    MAX_MEMBERS_BYTES,
    MAX_NODE_NAMES,
    Cast,
    EntryType,
    Exit,
    Forward,
    Head,
    Hold,
    HoldSettings,
    MemberEntry,
    Members,
    NotHeld,
    Repair,
    Skip,
    decode_cast,
    decode_content,
    decode_exit,
    decode_forward,
    decode_head,
    decode_hold,
    decode_member,
    decode_members,
    decode_not_held,
    decode_repair,
    decode_skip,
    encode_cast,
    encode_entry,
    encode_exit,
    encode_forward,
    encode_head,
    encode_hold,
    encode_member,
    encode_members,
    encode_not_held,
    encode_repair,
    encode_skip,
)
from tests.vectors import load_vectors

VECTORS = load_vectors("group-node")
GID = b"abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrst"
SETTINGS = HoldSettings(True, False, 60, 300, 5)
TOO_LARGE = 1 << 64


def raw(text: str) -> bytes:
    """Bytes of hex digits."""
    return bytes.fromhex(text)


def again(encode: Callable[..., bytes]) -> Callable[[Any], bytes]:
    """Make `encode` take what its decoder returns."""
    return lambda value: encode(value.group_id.encode("ascii"), *value[1:])


class VectorTests(SynchronousTestCase):
    """Recorded payloads of version 1 are read and written as they were; no cut or garbled one brings a node down."""

    def test_cast(self) -> None:
        """Casts."""
        vectors = {
            raw(each["bytes"]): Cast(
                each["group_id"],
                each["hold"],
                each["number"],
                each["origin"],
                tuple(each["rest"]),
                raw(each["content"]),
            )
            for each in VECTORS["cast"]
        }
        check_codec(again(encode_cast), decode_cast, vectors, MalformedFrame)

    def test_content(self) -> None:
        """Contents, with entries of a type that nobody knows yet."""
        vectors = {
            raw(each["bytes"]): [(entry_type, raw(data)) for entry_type, data in each["entries"]]
            for each in VECTORS["content"]
        }
        check_codec(
            lambda entries: b"".join(encode_entry(*entry) for entry in entries), decode_content, vectors, MalformedFrame
        )

    def test_member(self) -> None:
        """Members who come and go."""
        vectors = {raw(each["bytes"]): (each["user_id"], each["sid"]) for each in VECTORS["member"]}
        check_codec(lambda member: encode_member(*member), decode_member, vectors, MalformedFrame)

    def test_hold(self) -> None:
        """Who holds a group, and how it was made."""
        vectors = {
            raw(each["bytes"]): Hold(
                each["group_id"],
                each["hold"],
                each["next_number"],
                each["asks"],
                each["of_hold"],
                HoldSettings(*each["settings"]),
                tuple(each["holders"]),
            )
            for each in VECTORS["hold"]
        }
        check_codec(again(encode_hold), decode_hold, vectors, MalformedFrame)

    def test_members(self) -> None:
        """Lists of members."""
        vectors = {
            raw(each["bytes"]): Members(
                each["group_id"], each["hold"], tuple(MemberEntry(*member) for member in each["members"])
            )
            for each in VECTORS["members"]
        }

        def encode(value: Members) -> bytes:
            payloads = encode_members(value.group_id.encode("ascii"), value.hold, value.members)
            return payloads[0] if payloads else value.group_id.encode("ascii") + value.hold.to_bytes(8, "big")

        check_codec(encode, decode_members, vectors, MalformedFrame)

    def test_numbers(self) -> None:
        """Everything that is a group ID and numbers."""
        codecs: list[tuple[str, Callable[..., Any], Callable[..., bytes], Callable[[bytes], Any]]] = [
            ("not_held", NotHeld, encode_not_held, decode_not_held),
            ("exit", Exit, encode_exit, decode_exit),
            ("head", Head, encode_head, decode_head),
            ("repair", Repair, encode_repair, decode_repair),
            ("skip", Skip, encode_skip, decode_skip),
        ]
        for name, make, encode, decode in codecs:
            vectors = {raw(each["bytes"]): make(each["group_id"], *each["numbers"]) for each in VECTORS[name]}
            check_codec(again(encode), decode, vectors, MalformedFrame)

    def test_forward(self) -> None:
        """Casts for somebody else."""
        vectors = {raw(each["bytes"]): Forward(each["group_id"], raw(each["content"])) for each in VECTORS["forward"]}
        check_codec(again(encode_forward), decode_forward, vectors, MalformedFrame)

    def test_wrong(self) -> None:
        """What contradicts itself is refused, and it is the other node's fault."""
        for name, payloads in VECTORS["wrong"].items():
            for text in payloads:
                with self.assertRaises(MalformedFrame, msg=f"{name} {text}"):
                    getattr(group_node, f"decode_{name}")(raw(text))


class LaterVersionTests(SynchronousTestCase):
    """A node of the next version can be understood."""

    def test_more_fields(self) -> None:
        """What a later version puts behind the last field is passed over."""
        for name in ("hold", "not_held", "exit", "head", "repair", "skip", "member"):
            decode = getattr(group_node, f"decode_{name}")
            for each in VECTORS[name]:
                payload = raw(each["bytes"])
                self.assertEqual(decode(payload + b"more"), decode(payload), name)

    def test_more_bits(self) -> None:
        """Bits that mean nothing yet change nothing."""
        for asks in (False, True):
            payload = bytearray(encode_hold(GID, 1, 1, asks, 0, SETTINGS, ["n1"]))
            known = decode_hold(bytes(payload))
            payload[52 + 16] |= 0xFE
            payload[52 + 16 + 9] |= 0xFC
            self.assertEqual(decode_hold(bytes(payload)), known)

    def test_entry_types(self) -> None:
        """The numbers of entries stay what they are, or a cluster of two versions would not understand itself."""
        expected = {"FRAMES": 1, "UNRELIABLE": 2, "JOINED": 3, "LEFT": 4, "AWAY": 5, "BACK": 6, "EXIT": 7}
        expected["LOGGED"] = 8
        self.assertEqual({entry.name: int(entry) for entry in EntryType}, expected)


class BoundTests(SynchronousTestCase):
    """Nothing that goes out is larger than what is taken in."""

    def test_names(self) -> None:
        """A cast names a thousand nodes, and not one more; neither is more taken from another node."""
        names = [f"n{index}" for index in range(MAX_NODE_NAMES)]
        payload = encode_cast(GID, 1, 1, "n", names, b"content")
        self.assertEqual(decode_cast(payload).rest, tuple(names))
        self.assertRaises(LocalProtocolError, encode_cast, GID, 1, 1, "n", [*names, "n"], b"")
        self.assertRaises(LocalProtocolError, encode_hold, GID, 1, 1, False, 0, SETTINGS, [*names, "n"])
        one_more = GID + b"\0\0\0\0\0\0\0\1" * 2 + b"\1n" + (MAX_NODE_NAMES + 1).to_bytes(2, "big")
        self.assertRaises(MalformedFrame, decode_cast, one_more + b"\1n" * (MAX_NODE_NAMES + 1))

    def test_members_are_cut(self) -> None:
        """A long list of members goes out in parts that are each small, and together they are the list."""
        members = [MemberEntry("ü" * 60 + str(index), "s" * 32, index % 3 == 0) for index in range(2000)]
        payloads = encode_members(GID, 9, members)
        self.assertGreater(len(payloads), 4)
        self.assertLessEqual(max(map(len, payloads)), MAX_MEMBERS_BYTES)
        self.assertGreater(min(map(len, payloads[:-1])), MAX_MEMBERS_BYTES - 256)
        self.assertEqual([member for payload in payloads for member in decode_members(payload).members], members)
        self.assertEqual({decode_members(payload)[:2] for payload in payloads}, {(GID.decode(), 9)})

    def test_no_members(self) -> None:
        """A group without members on this node is nothing to tell."""
        self.assertEqual(encode_members(GID, 9, []), [])

    def test_largest_members(self) -> None:
        """The longest names that there may be fit."""
        payloads = encode_members(GID, 9, [("u" * 128, "s" * 255, True)] * 3)
        self.assertEqual(len(decode_members(payloads[0]).members), 3)


class OwnFaultTests(SynchronousTestCase):
    """What this node must not send is not sent."""

    def test_group_id(self) -> None:
        """A group ID that is cut or too long does not go out as another one."""
        for wrong in (GID[:-1], GID + b"a"):
            self.assertRaises(LocalProtocolError, encode_cast, wrong, 1, 1, "n", (), b"")
            self.assertRaises(LocalProtocolError, encode_hold, wrong, 1, 1, False, 0, SETTINGS, [])
            self.assertRaises(LocalProtocolError, encode_head, wrong, 1, 1)
            self.assertRaises(LocalProtocolError, encode_exit, wrong)
            self.assertRaises(LocalProtocolError, encode_members, wrong, 1, [])
            self.assertRaises(LocalProtocolError, encode_forward, wrong, b"")

    def test_numbers(self) -> None:
        """Numbers that the other end would refuse."""
        for wrong in (0, -1, TOO_LARGE):
            self.assertRaises(LocalProtocolError, encode_cast, GID, wrong, 1, "n", (), b"")
            self.assertRaises(LocalProtocolError, encode_cast, GID, 1, wrong, "n", (), b"")
            self.assertRaises(LocalProtocolError, encode_hold, GID, wrong, 1, False, 0, SETTINGS, [])
            self.assertRaises(LocalProtocolError, encode_hold, GID, 1, wrong, False, 0, SETTINGS, [])
            self.assertRaises(LocalProtocolError, encode_head, GID, 1, wrong)
            self.assertRaises(LocalProtocolError, encode_skip, GID, wrong, 1)
            self.assertRaises(LocalProtocolError, encode_not_held, GID, wrong)
            self.assertRaises(LocalProtocolError, encode_repair, GID, 1, wrong, wrong + 1)
        self.assertRaises(LocalProtocolError, encode_repair, GID, 1, 5, 5)
        self.assertRaises(LocalProtocolError, encode_hold, GID, 1, 1, False, 0, SETTINGS._replace(ttl_seconds=-1), [])
        self.assertRaises(LocalProtocolError, encode_entry, 256, b"")

    def test_names(self) -> None:
        """Names that the other end would refuse, or that do not fit."""
        for wrong in ("", "n" * 256, "\ud800"):
            self.assertRaises(LocalProtocolError, encode_cast, GID, 1, 1, wrong, (), b"")
            self.assertRaises(LocalProtocolError, encode_cast, GID, 1, 1, "n", (wrong,), b"")
            self.assertRaises(LocalProtocolError, encode_hold, GID, 1, 1, False, 0, SETTINGS, [wrong])
            self.assertRaises(LocalProtocolError, encode_member, wrong, "sid")
            self.assertRaises(LocalProtocolError, encode_member, "user", wrong)
        self.assertRaises(LocalProtocolError, encode_member, "u" * 129, "sid")
