"""What envelopes of the overlay carry."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.wire.overlay_data import (
    MAX_DEPTH,
    MAX_FOUND,
    MAX_URL_CHARS,
    Answer,
    BadFrame,
    DataType,
    Fault,
    buffer_bytes,
    check_data,
    decode_answer,
    decode_id,
    decode_ids,
    decode_value,
    encode_answer,
    encode_id,
    encode_ids,
    encode_value,
    is_socket_url,
    parse_id,
)

ANN = b"\x0a" * 20
IDS = st.binary(min_size=20, max_size=20)


class ValueTests(SynchronousTestCase):
    """What applications send."""

    def test_json(self) -> None:
        """Plain values become compact JSON."""
        cases: list[tuple[object, bytes]] = [
            (None, b"null"),
            ({"a": [1, 2.5, True], "ż": "😀"}, '{"a":[1,2.5,true],"ż":"😀"}'.encode()),
            ((1, "x"), b'[1,"x"]'),
            (10**30, b"1" + b"0" * 30),
        ]
        for value, raw in cases:
            self.assertEqual(encode_value(value), raw)

    @given(st.binary(max_size=50))
    def test_bytes(self, sent: bytes) -> None:
        """Bytes arrive as what Node takes for a buffer, however deep they lie, and can be read back."""
        for value in (sent, bytearray(sent), memoryview(sent)):
            self.assertEqual(buffer_bytes(decode_value(encode_value({"a": [value]}))["a"][0]), sent)

    def test_no_buffer(self) -> None:
        """What only looks like a buffer is none."""
        cases: list[Any] = [None, "Buffer", [], {}, {"type": "Buffer"}, {"type": "Buffer", "data": "ab"}]
        cases += [{"type": "Buffer", "data": [each]} for each in (-1, 256, 0.5, True, None, "1", 10**30)]
        for value in [*cases, {"type": "buffer", "data": [1]}, {"data": [1]}]:
            self.assertIsNone(buffer_bytes(value), value)

    def test_not_json(self) -> None:
        """A value that has no JSON is the application's error, and says so."""
        circle: list[object] = []
        circle.append(circle)
        for wrong in (float("nan"), float("inf"), "\ud800", circle):
            self.assertRaises(ValueError, encode_value, wrong)
        for kind in (object(), {1, 2}, 1j, {(1,): 2}):
            self.assertRaises(TypeError, encode_value, kind)

    def test_depth(self) -> None:
        """A value nests as deep as fits into an envelope, and no deeper."""

        def nested(levels: int) -> object:
            value: object = 1
            for _ in range(levels):
                value = [value]
            return value

        self.assertEqual(encode_value(nested(MAX_DEPTH - 2)).count(b"["), MAX_DEPTH - 2)
        self.assertRaises(ValueError, encode_value, nested(MAX_DEPTH - 1))
        error = self.assertRaises(ValueError, encode_value, nested(100_000))
        self.assertIn(str(MAX_DEPTH - 2), str(error))

    def test_unreadable(self) -> None:
        """A number beyond all floats, and what is no JSON, is the sender's fault."""
        for raw in (b"1e999", b"", b"[", b"\xff", b'"\xff"', b"[" * 5000 + b"]" * 5000, b"1" * 5000):
            error = self.assertRaises(BadFrame, decode_value, raw)
            self.assertEqual(error.reason, Fault.VALUE)
            self.assertTrue(str(error).startswith("value: "))


class IdTests(SynchronousTestCase):
    """IDs inside of data."""

    @given(st.lists(IDS, max_size=MAX_FOUND))
    def test_ids(self, ids: list[bytes]) -> None:
        """A list of IDs arrives as it was."""
        self.assertEqual(decode_ids(encode_ids(iter(ids))), ids)

    @given(IDS)
    def test_id(self, peer_id: bytes) -> None:
        """One ID arrives as it was, in any case."""
        self.assertEqual(decode_id(encode_id(peer_id)), peer_id)
        self.assertEqual(decode_id(encode_id(peer_id).upper()), peer_id)
        self.assertEqual(parse_id(peer_id.hex()), peer_id)
        self.assertEqual(parse_id(decode_value(encode_value(peer_id))), peer_id)

    def test_limit(self) -> None:
        """More than the limit is refused."""
        self.assertEqual(len(decode_ids(encode_ids([ANN] * MAX_FOUND))), MAX_FOUND)
        self.assertRaises(BadFrame, decode_ids, encode_ids([ANN] * (MAX_FOUND + 1)))
        self.assertEqual(len(decode_ids(encode_ids([ANN] * 30), 30)), 30)

    @given(st.text(max_size=50))
    def test_no_id(self, text: str) -> None:
        """Text that is not 40 hex digits is no ID."""
        digits = set("0123456789abcdefABCDEF")
        self.assertEqual(parse_id(text) is not None, len(text) == 40 and set(text) <= digits)


class AnswerTests(SynchronousTestCase):
    """Answers to an offer."""

    def test_forms(self) -> None:
        """An answer arrives as it was."""
        for answer in (None, Answer(None, False), Answer("ws://a:1/", True), Answer(None, True)):
            self.assertEqual(decode_answer(encode_answer(answer)), answer)
        self.assertEqual(
            encode_answer(Answer("ws://localhost:8101", False)), b'{"ws":"ws://localhost:8101","wrtc":false}'
        )

    def test_lenient(self) -> None:
        """What is not said is no, and what we do not know is passed over."""
        self.assertEqual(decode_answer(b"{}"), Answer(None, False))
        self.assertEqual(decode_answer(b'{"wrtc":true,"quic":1}'), Answer(None, True))

    def test_urls(self) -> None:
        """A URL that every WebSocket constructor takes is taken."""
        for url in (
            *(
                "ws://localhost:8101",
                "wss://a.example",
                "WS://A.EXAMPLE/",
                "ws://1.2.3.4:65535/a/b?c=d&e=%20",
                "ws://a?b",
            ),
            *(
                "ws://[::1]:1/",
                "wss://xn--bcher-kva.example/",
                "ws://a_b.example./",
                "ws://a/" + "x" * (MAX_URL_CHARS - 7),
            ),
        ):
            self.assertTrue(is_socket_url(url), url)

    def test_no_urls(self) -> None:
        """A URL that makes one of them throw, or hides where it leads, is not."""
        for url in (
            *(
                "",
                "ws:",
                "ws:a",
                "ws:/a",
                "ws:///",
                "//a",
                "http://a",
                "ws://a#",
                "ws://a@b",
                "ws://a:",
                "ws://a:0",
                "ws://a:99999",
            ),
            *(
                "ws://a b",
                "ws://a/\n",
                "ws://a\n",
                " ws://a",
                "ws://1.2.3",
                "ws://0x7f.0.0.1",
                "ws://2130706433",
                "ws://017700000001",
            ),
            *(
                "ws://[::1%lo]",
                "ws://[1]",
                "ws://bücher",
                "ws://xn--0",
                "ws://-",
                "ws://%61",
                "ws://a/é",
                "ws://a\\b",
                "ws://\uff11.2.3.4",
            ),
            "ws://a/" + "x" * (MAX_URL_CHARS - 6),
        ):
            self.assertFalse(is_socket_url(url), url)


class CheckTests(SynchronousTestCase):
    """What a JavaScript peer can be given."""

    def test_signals(self) -> None:
        """Signals of the simple-peer form pass, in each of their forms."""
        for signal in (
            {"type": "offer", "sdp": "v=0"},
            {"type": "answer", "sdp": "v=0", "more": 1},
            {"candidate": {"candidate": "", "sdpMid": "0"}},
            {
                "candidate": {
                    "candidate": "candidate:1 1 udp",
                    "sdpMLineIndex": 0,
                    "sdpMid": None,
                    "usernameFragment": "x",
                }
            },
        ):
            check_data("signal", encode_value(signal))

    def test_free(self) -> None:
        """Types that no peer looks into carry anything, or nothing."""
        for kind in (DataType.OFFER, DataType.USER, DataType.SEALED, DataType.HOLDINGS, "weather"):
            for data in (None, b"null", b"7", b'{"a":[]}'):
                check_data(kind, data)
