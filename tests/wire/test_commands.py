"""Payloads of the core commands, groups and direct messages."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import MalformedPayload
from meshrelay.testing.contracts import check_codec
from meshrelay.wire.commands import (
    Command,
    CoreCommand,
    DirectMessage,
    GroupMessage,
    JoinRandom,
    NewGroup,
    PushedDirect,
    PushedMessage,
    decode_created,
    decode_direct,
    decode_error,
    decode_gid_list,
    decode_gid_message,
    decode_goodbye,
    decode_join_random,
    decode_new_group,
    decode_pushed_direct,
    decode_pushed_message,
    encode_created,
    encode_direct,
    encode_error,
    encode_gid_message,
    encode_goodbye,
    encode_join_random,
    encode_new_group,
    encode_pushed_message,
    pushed_message_overhead,
)
from tests.vectors import load_vectors


def vectors_of(name: str, make: Callable[..., Any]) -> dict[bytes, Any]:
    """Return payload -> value of each vector."""
    return {bytes.fromhex(each["hex"]): make(*each["value"]) for each in load_vectors("commands")[name]}


class VectorTests(SynchronousTestCase):
    """Payloads as the specification draws them: both ways, every cut, and garbage."""

    def test_new_group(self) -> None:
        """GROUP_CREATE is flags, lifetime and interval, and nothing else."""
        check_codec(encode_new_group, decode_new_group, vectors_of("new_group", NewGroup), MalformedPayload)

    def test_join_random(self) -> None:
        """GROUP_JOIN_RANDOM is lifetime, allow_empty, interval and a message."""
        vectors = vectors_of(
            "join_random",
            lambda ttl, empty, interval, message: JoinRandom(ttl, empty, interval, bytes.fromhex(message)),
        )
        check_codec(encode_join_random, decode_join_random, vectors, MalformedPayload)

    def test_gid_message(self) -> None:
        """Join, leave and broadcast are a group ID and a message, which may be empty."""
        vectors = vectors_of("gid_message", lambda gid, message: GroupMessage(gid, bytes.fromhex(message)))
        check_codec(lambda value: encode_gid_message(*value), decode_gid_message, vectors, MalformedPayload)

    def test_pushed_message(self) -> None:
        """The other members get group, sender and message."""
        vectors = vectors_of(
            "pushed_message", lambda gid, user, message: PushedMessage(gid, user, bytes.fromhex(message))
        )
        check_codec(lambda value: encode_pushed_message(*value), decode_pushed_message, vectors, MalformedPayload)

    def test_created(self) -> None:
        """The answer to a random join says whether a group was made, and which."""
        vectors = vectors_of("created", lambda created, gid: (created, gid))
        check_codec(lambda value: encode_created(*value), decode_created, vectors, MalformedPayload)

    def test_direct(self) -> None:
        """A direct message is its peer and the bytes, which may be none."""
        vectors = vectors_of("direct", lambda user, message: DirectMessage(user, bytes.fromhex(message)))
        check_codec(lambda value: encode_direct(*value), decode_direct, vectors, MalformedPayload)

    def test_pushed_direct(self) -> None:
        """The peer gets the sender and the bytes; a sender without a name is the node's application."""
        vectors = vectors_of("pushed_direct", lambda user, message: PushedDirect(user, bytes.fromhex(message)))
        check_codec(lambda value: encode_direct(*value), decode_pushed_direct, vectors, MalformedPayload)

    def test_gid_list(self) -> None:
        """A list of groups is their IDs back to back."""
        vectors = vectors_of("gid_list", lambda *gids: list(gids))
        check_codec(None, decode_gid_list, vectors, MalformedPayload)

    def test_error(self) -> None:
        """A refusal is a code and a text."""
        vectors = vectors_of("error", lambda code, text: (code, text))
        check_codec(lambda value: encode_error(*value), decode_error, vectors, MalformedPayload)

    def test_goodbye(self) -> None:
        """GOODBYE is a close code and a text."""
        vectors = vectors_of("goodbye", lambda code, text: (code, text))
        check_codec(lambda value: encode_goodbye(*value), decode_goodbye, vectors, MalformedPayload)


class RefusalTests(SynchronousTestCase):
    """What is wrong in a payload is named."""

    def test_unknown_flags(self) -> None:
        """Bits that no version knows are refused, so that they can mean something later."""
        error = self.assertRaises(MalformedPayload, decode_new_group, bytes.fromhex("040000003c0000"))
        self.assertEqual(str(error), "flags: unknown bits in 0x04")
        self.assertRaises(MalformedPayload, decode_join_random, bytes.fromhex("0000003c020000"))
        self.assertRaises(MalformedPayload, decode_created, b"\x02" + b"a" * 52)

    def test_trailing_bytes(self) -> None:
        """A payload of fixed length has not one byte more."""
        for decode, payload in (
            (decode_new_group, bytes.fromhex("030000003c0000ff")),
            (decode_created, b"\x01" + b"a" * 53),
            (decode_gid_list, b"a" * 53),
        ):
            self.assertRaises(MalformedPayload, decode, payload)

    def test_group_id_length(self) -> None:
        """A group ID of the wrong length never leaves the client."""
        for group_id in ("", "a" * 51, "a" * 53):
            self.assertRaises(ValueError, encode_gid_message, group_id, b"")

    def test_peer(self) -> None:
        """A peer that is empty, too long, cut or not UTF-8 is refused, and the text says that it is the peer."""
        for payload in (b"", b"\0hi", b"\x81" + b"u" * 129, b"\x04bob", b"\x02\xff\xff"):
            error = self.assertRaises(MalformedPayload, decode_direct, payload)
            self.assertTrue(str(error).startswith("peer: "), (payload, str(error)))

    def test_pushed_user(self) -> None:
        """The user of a push may be empty, and everything else about it is held to the same limits."""
        for payload in (b"", b"\x81" + b"u" * 129, b"\x04bob", b"\x02\xff\xff"):
            error = self.assertRaises(MalformedPayload, decode_pushed_direct, payload)
            self.assertTrue(str(error).startswith("user: "), (payload, str(error)))

    def test_user_that_cannot_be_sent(self) -> None:
        """A user ID that no str8 holds never leaves the client."""
        for user_id in ("u" * 256, "\ud800"):
            self.assertRaises(ValueError, encode_direct, user_id, b"")

    def test_text_that_is_not_unicode(self) -> None:
        """A text that UTF-8 cannot say is sent with marks in place of it, and read so."""
        self.assertEqual(decode_error(encode_error(8, "a\ud800b")), (8, "a?b"))
        self.assertEqual(decode_error(b"\x00\x08\xff"), (8, "\ufffd"))


class NumberTests(SynchronousTestCase):
    """Numbers that clients of any language have in their source."""

    def test_core(self) -> None:
        """The core commands have their published numbers."""
        self.assertEqual(
            {command.name: command.value for command in CoreCommand},
            {"HELLO": 1, "PING": 2, "PONG": 3, "GOODBYE": 4, "ACK": 5},
        )

    def test_others(self) -> None:
        """The commands of rooms, direct messages and links have their published numbers."""
        for prefix, first, names in (
            ("ROOM", 100, ("CREATE", "JOIN", "LEAVE", "BROADCAST", "MEMBERS", "OWNER", "LOST")),
            ("DM", 120, ("SEND", "CLEAR", "PEER_GONE")),
            ("LINK", 130, ("ADDRESSES", "START", "RELAY", "STATE", "FORWARD")),
            ("CONSOLE", 150, ("WATCH",)),
        ):
            numbers = [Command[f"{prefix}_{name}"].value for name in names]
            self.assertEqual(numbers, list(range(first, first + len(names))), prefix)

    def test_groups(self) -> None:
        """The group commands have their published numbers."""
        names = ("CREATE", "JOIN", "LEAVE", "BROADCAST", "JOIN_RANDOM", "LIST", "LOST", "BACK")
        self.assertEqual([Command[f"GROUP_{name}"].value for name in names], list(range(110, 118)))

    def test_published(self) -> None:
        """Every command stands with its number in the tables of the page on the protocol."""
        page = (Path(__file__).resolve().parents[2] / "docs" / "wire" / "client.rst").read_text("utf-8")
        published = {(name, int(number)) for number, name in re.findall(r"^(\d{3})   ([A-Z]+_[A-Z_]+)  ", page, re.M)}
        self.assertEqual(published, {(command.name, command.value) for command in Command})

    def test_overhead(self) -> None:
        """What stands in front of a pushed message is counted exactly."""
        for user_id in ("a", "é", "u" * 128):
            self.assertEqual(len(encode_pushed_message("g" * 52, user_id, b"hi")), pushed_message_overhead(user_id) + 2)
