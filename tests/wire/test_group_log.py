"""Tests of `meshrelay.wire.group_log`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import LocalProtocolError, MalformedFrame
from meshrelay.testing.builders import make_group_id
from meshrelay.wire.group_log import (
    AppendCall,
    LogEntry,
    LogPage,
    LogRun,
    ReadCall,
    decode_append,
    decode_entry,
    decode_page,
    decode_placed,
    decode_read,
    decode_run,
    encode_append,
    encode_entry,
    encode_page,
    encode_placed,
    encode_read,
    encode_run,
    entry_id,
)

LOBBY = make_group_id("lobby")
ENTRIES = (b"", b"one", b"\0" * 300)


class GroupLogTests(SynchronousTestCase):
    """What goes in comes out, and nothing else is taken."""

    def test_entry(self) -> None:
        """An entry keeps all of its message."""
        for entry in (
            LogEntry(True, 7, "ann", 1, 113, b"hello"),
            LogEntry(False, (1 << 64) - 1, "", 255, 65535, b""),
        ):
            self.assertEqual(decode_entry(encode_entry(entry)), entry)
            self.assertEqual(entry_id(encode_entry(entry)), entry.id)

    def test_bytes(self) -> None:
        """The bytes of an entry and of a run are those of the page about nodes."""
        entry = encode_entry(LogEntry(True, 2, "ann", 1, 113, b"hi"))
        self.assertEqual(entry, b"\1" + b"\0" * 7 + b"\2\3ann\1\0\x71hi")
        run = encode_run(LogRun(5, 9, (entry,)))
        self.assertEqual(run, (5).to_bytes(8, "big") + (9).to_bytes(8, "big") + len(entry).to_bytes(4, "big") + entry)

    def test_all(self) -> None:
        """Runs, calls and answers come back as they were."""
        pairs: list[tuple[Any, Callable[..., bytes], Callable[[bytes], Any]]] = [
            (LogRun(1, 2, ENTRIES), encode_run, decode_run),
            (AppendCall(LOBBY, 3, 4, 5, ENTRIES), encode_append, decode_append),
            (ReadCall(LOBBY, 3, 4, 5, 6, 7), encode_read, decode_read),
            (LogPage(1, 2, 3, ENTRIES), encode_page, decode_page),
            (LogPage(1, 2, 3, ()), encode_page, decode_page),
        ]
        for value, encode, decode in pairs:
            self.assertEqual(decode(encode(value)), value)
        self.assertEqual(decode_placed(encode_placed(8, 9)), (8, 9))

    @given(st.binary(max_size=200))
    def test_garbage(self, data: bytes) -> None:
        """Whatever a node sends, it is read or refused as its fault."""
        for decode in (decode_entry, decode_run, decode_append, decode_read, decode_page, decode_placed):
            try:
                decode(data)
            except MalformedFrame:
                continue

    def test_cut(self) -> None:
        """A run that is cut off anywhere but between two entries is refused."""
        run = encode_run(LogRun(1, 2, (b"abc",)))
        for size in range(len(run)):
            if size != 16:
                self.assertRaises(MalformedFrame, decode_run, run[:size])

    def test_range(self) -> None:
        """What fits no field is our own fault, said at once."""
        self.assertRaises(LocalProtocolError, encode_entry, LogEntry(True, -1, "", 1, 1, b""))
        self.assertRaises(LocalProtocolError, encode_run, LogRun(-1, 0, ()))
