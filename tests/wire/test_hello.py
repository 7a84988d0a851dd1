"""The JSON bodies of HELLO."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import MalformedPayload
from meshrelay.testing.contracts import check_codec
from meshrelay.wire.hello import (
    MAX_TOKEN_BYTES,
    Hello,
    Welcome,
    decode_hello,
    decode_welcome,
    encode_hello,
    encode_welcome,
)
from tests.vectors import load_vectors

VECTORS = load_vectors("hello")


class HelloTests(SynchronousTestCase):
    """What a client says first."""

    def test_vectors(self) -> None:
        """HELLO is read and written as the specification shows it; no cut or garbled one brings a node down."""
        vectors = {each["json"].encode(): Hello(**each["value"]) for each in VECTORS["hello"]}
        check_codec(encode_hello, decode_hello, vectors, MalformedPayload)

    def test_unknown_members(self) -> None:
        """A newer client may say more than this node understands."""
        self.assertEqual(decode_hello(b'{"protocol":1,"user":"ann","later":[1,{}]}'), Hello(protocol=1, user="ann"))

    def test_wrong(self) -> None:
        """Whatever else it is: it is refused, and told so."""
        for text in VECTORS["wrong_hello"]:
            error = self.assertRaises(MalformedPayload, decode_hello, text.encode())
            self.assertTrue(str(error).startswith("HELLO: "), text)

    def test_user_bounds(self) -> None:
        """A user ID has 1 to 128 bytes of UTF-8."""
        self.assertEqual(decode_hello(json.dumps({"protocol": 1, "user": "é" * 64}).encode()).user, "é" * 64)
        for user in ("", "é" * 64 + "x"):
            self.assertRaises(MalformedPayload, decode_hello, json.dumps({"protocol": 1, "user": user}).encode())

    def test_token_bound(self) -> None:
        """A token of 8,192 bytes is taken, a longer one is refused unread."""
        body = encode_hello(Hello(protocol=1, token="t" * MAX_TOKEN_BYTES))
        self.assertEqual(decode_hello(body).token, "t" * MAX_TOKEN_BYTES)
        body = encode_hello(Hello(protocol=1, token="t" * (MAX_TOKEN_BYTES + 1)))
        self.assertRaises(MalformedPayload, decode_hello, body)

    def test_deep_nesting(self) -> None:
        """A body of brackets costs an answer, not the node."""
        self.assertRaises(MalformedPayload, decode_hello, b'{"protocol":1,"x":' + b"[" * 60000)
        self.assertRaises(MalformedPayload, decode_hello, b"[" * 60000)

    def test_not_utf8(self) -> None:
        """Bytes that are no text are refused."""
        self.assertRaises(MalformedPayload, decode_hello, b'{"protocol":1,"user":"\xff"}')

    @settings(derandomize=True, max_examples=60, deadline=None)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=8),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
            max_leaves=8,
        )
    )
    def test_any_json(self, value: object) -> None:
        """Any JSON under any member gives a HELLO or a refusal."""
        for member in ("protocol", "user", "received", "acks", "token"):
            try:
                decode_hello(json.dumps({"protocol": 1, member: value}).encode())
            except MalformedPayload:
                continue


class WelcomeTests(SynchronousTestCase):
    """What the node answers."""

    def test_vectors(self) -> None:
        """The answer is read and written as the specification shows it."""
        vectors = {each["json"].encode(): Welcome(**each["value"]) for each in VECTORS["welcome"]}
        check_codec(encode_welcome, decode_welcome, vectors, MalformedPayload)

    def test_whole_heartbeat(self) -> None:
        """A node of another make may write a heartbeat without a fraction."""
        body = VECTORS["welcome"][0]["json"].replace("2.5", "25")
        self.assertEqual(decode_welcome(body.encode()).heartbeat_seconds, 25)
