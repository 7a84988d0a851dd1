"""Tests of `meshrelay.wire.history_commands`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import MalformedPayload
from meshrelay.model import HistoryMessage, HistoryPage, Presence
from meshrelay.testing.builders import make_group_id
from meshrelay.wire.history_commands import (
    LOGGED_EXTRA_BYTES,
    PRESENCE_ON,
    AskHistory,
    AskPresence,
    AskRecover,
    LoggedPush,
    PresenceChange,
    PresencePush,
    Recovered,
    decode_ask_history,
    decode_ask_presence,
    decode_ask_recover,
    decode_history_page,
    decode_logged_push,
    decode_presence,
    decode_presence_push,
    decode_recovered,
    encode_ask_history,
    encode_ask_presence,
    encode_ask_recover,
    encode_history_page,
    encode_logged_push,
    encode_presence,
    encode_presence_push,
    encode_recovered,
)
from tests.vectors import load_vectors

LOBBY = make_group_id("lobby")
WIRE_ID = LOBBY.encode()
U64 = (1 << 64) - 1

VECTORS = load_vectors("history")


def _page(epoch: str, head: int, messages: list[list[Any]]) -> HistoryPage:
    kept = (
        HistoryMessage(offset, sender, ver, cmd, bytes.fromhex(message))
        for offset, sender, ver, cmd, message in messages
    )
    return HistoryPage(int(epoch), head, tuple(kept))


def _encode_logged(push: LoggedPush) -> bytes:
    message = (push.sender, push.ver, push.cmd, push.message)
    return encode_logged_push(push.group_id.encode(), push.epoch, push.offset, message)


class HistoryCommandTests(SynchronousTestCase):
    """What goes in comes out, byte for byte as published."""

    def test_requests(self) -> None:
        """Requests and answers come back as they were."""
        pairs: list[tuple[Any, Callable[..., bytes], Callable[[bytes], Any]]] = [
            (AskRecover(LOBBY, U64, 7, b"hello"), encode_ask_recover, decode_ask_recover),
            (Recovered(True, 3, U64), encode_recovered, decode_recovered),
            (AskHistory(LOBBY, U64, 65535), encode_ask_history, decode_ask_history),
            (AskPresence(LOBBY, PRESENCE_ON, 9, "ann"), encode_ask_presence, decode_ask_presence),
            (AskPresence(LOBBY, 0, 0, ""), encode_ask_presence, decode_ask_presence),
        ]
        for value, encode, decode in pairs:
            self.assertEqual(decode(encode(value)), value)

    def test_bytes(self) -> None:
        """These are the bytes that clients in other languages send and read."""
        self.assertEqual(
            encode_ask_recover(AskRecover(LOBBY, 1, 2, b"x")).hex(),
            WIRE_ID.hex() + "0000000000000001000000000000000278",
        )
        self.assertEqual(encode_recovered(Recovered(True, 1, 2)).hex(), "0100000000000000010000000000000002")
        self.assertEqual(
            encode_logged_push(WIRE_ID, 1, 2, ("ann", 1, 113, b"hi")).hex(),
            WIRE_ID.hex() + "0000000000000001000000000000000203616e6e0100716869",
        )
        self.assertEqual(encode_ask_history(AskHistory(LOBBY, 2, 9)).hex(), WIRE_ID.hex() + "00000000000000020009")
        page = HistoryPage(1, 2, (HistoryMessage(2, "", 2, 5, b"hi"),))
        self.assertEqual(
            encode_history_page(page).hex(),
            "00000000000000010000000000000002000000000000000200000006000200056869",
        )
        self.assertEqual(encode_presence(2, [("ann", True)]).hex(), "000000020203616e6e")
        self.assertEqual(encode_presence_push(WIRE_ID, 2, [(3, "ann")]).hex(), WIRE_ID.hex() + "000000020303616e6e")

    def test_push(self) -> None:
        """A push says place, sender and command, and is a known number of bytes longer than a plain one."""
        data = encode_logged_push(WIRE_ID, 1, 2, ("ann", 1, 113, b"hi"))
        self.assertEqual(decode_logged_push(data), LoggedPush(LOBBY, 1, 2, "ann", 1, 113, b"hi"))
        self.assertEqual(len(data), 52 + 1 + 3 + len(b"hi") + LOGGED_EXTRA_BYTES)
        announced = decode_logged_push(encode_logged_push(WIRE_ID, 1, 3, ("", 2, 1, b"")))
        self.assertEqual((announced.sender, announced.message), ("", b""))

    def test_page(self) -> None:
        """A page has its messages with their offsets; an empty one says where the history is."""
        messages = tuple(HistoryMessage(number, "ann", 1, 113, b"%d" % number) for number in range(4, 9))
        page = HistoryPage(7, 20, messages)
        self.assertEqual(decode_history_page(encode_history_page(page)), page)
        empty = HistoryPage(7, 20, ())
        self.assertEqual(decode_history_page(encode_history_page(empty)), empty)

    def test_presence(self) -> None:
        """Lists and changes of members come back as they were."""
        self.assertEqual(
            decode_presence(encode_presence(3, [("ann", False), ("bob", True)])),
            Presence(3, (("ann", False), ("bob", True))),
        )
        changes = [(PresenceChange.THERE, "ann"), (PresenceChange.GONE, "bob")]
        self.assertEqual(
            decode_presence_push(encode_presence_push(WIRE_ID, 3, changes)), PresencePush(LOBBY, 3, tuple(changes))
        )

    def test_strict(self) -> None:
        """What is cut off, too long or has unknown bits is refused with the name of the field."""
        ask = encode_ask_history(AskHistory(LOBBY, 2, 9))
        for wrong, field in (
            (lambda: decode_ask_history(ask[:-1]), "limit"),
            (lambda: decode_ask_history(ask + b"x"), "limit"),
            (lambda: decode_ask_recover(ask[:53]), "epoch"),
            (lambda: decode_ask_presence(WIRE_ID + b"\3\0\1"), "flags"),
            (lambda: decode_ask_presence(WIRE_ID + b"\4\0\1"), "flags"),
            (lambda: decode_ask_presence(WIRE_ID + b"\0\0\1\xff"), "after"),
        ):
            error = self.assertRaises(MalformedPayload, wrong)
            self.assertIn(field, str(error))

    @given(st.binary(max_size=200))
    def test_garbage(self, data: bytes) -> None:
        """Whatever comes, it is read or refused."""
        for decode in (
            decode_ask_recover,
            decode_recovered,
            decode_ask_history,
            decode_history_page,
            decode_logged_push,
            decode_ask_presence,
            decode_presence,
            decode_presence_push,
        ):
            for payload in (data, WIRE_ID + data):
                try:
                    decode(payload)
                except MalformedPayload:
                    continue


class VectorTests(SynchronousTestCase):
    """Byte for byte, both ways."""

    def check(
        self, name: str, make: Callable[..., Any], encode: Callable[[Any], bytes], decode: Callable[[bytes], Any]
    ) -> None:
        """Write and read each of the vectors."""
        self.assertGreater(len(VECTORS[name]), 1)
        for each in VECTORS[name]:
            value = make(*each["value"])
            self.assertEqual(encode(value).hex(), each["hex"])
            self.assertEqual(decode(bytes.fromhex(each["hex"])), value)

    def test_recovery(self) -> None:
        """What was missed is asked for, answered and pushed in these bytes."""

        def ask(group_id: str, epoch: str, offset: int, message: str) -> AskRecover:
            return AskRecover(group_id, int(epoch), offset, bytes.fromhex(message))

        def logged(group_id: str, epoch: str, offset: int, *rest: Any) -> LoggedPush:
            sender, ver, cmd, message = rest
            return LoggedPush(group_id, int(epoch), offset, sender, ver, cmd, bytes.fromhex(message))

        self.check("ask_recover", ask, encode_ask_recover, decode_ask_recover)
        self.check(
            "recovered", lambda *each: Recovered(each[0], int(each[1]), each[2]), encode_recovered, decode_recovered
        )
        self.check("logged_push", logged, _encode_logged, decode_logged_push)

    def test_history(self) -> None:
        """A history is asked for and told in these bytes."""
        self.check("ask_history", AskHistory, encode_ask_history, decode_ask_history)
        self.check("history_page", _page, encode_history_page, decode_history_page)

    def test_presence(self) -> None:
        """Who is there, and what changes, is asked for and told in these bytes."""

        def presence(count: int, members: list[list[Any]]) -> Presence:
            return Presence(count, tuple((user_id, is_away) for user_id, is_away in members))

        def push(group_id: str, count: int, changes: list[list[Any]]) -> PresencePush:
            return PresencePush(group_id, count, tuple((change, user_id) for change, user_id in changes))

        self.check("ask_presence", AskPresence, encode_ask_presence, decode_ask_presence)
        self.check("presence", presence, lambda each: encode_presence(each.count, each.members), decode_presence)
        self.check(
            "presence_push",
            push,
            lambda each: encode_presence_push(each.group_id.encode(), each.members, each.changes),
            decode_presence_push,
        )
