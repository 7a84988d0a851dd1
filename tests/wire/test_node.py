"""What nodes say to each other."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import LocalProtocolError, MalformedFrame
from meshrelay.testing.contracts import check_codec
from meshrelay.wire.node import (
    MAX_BATCH_BYTES,
    MAX_BATCH_MESSAGES,
    MAX_CALL_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_TEXT_BYTES,
    Batch,
    CallStatus,
    Hello,
    Proof,
    Refusal,
    Resume,
    decode_ack,
    decode_answer,
    decode_batch,
    decode_call,
    decode_call_answer,
    decode_hello,
    decode_proof,
    decode_refusal,
    encode_ack,
    encode_batch,
    encode_call,
    encode_call_answer,
    encode_hello,
    encode_proof,
    encode_refusal,
    encode_welcome,
)
from tests.vectors import load_vectors

VECTORS = load_vectors("node")
ALL_KINDS = range(256)


def raw(text: str) -> bytes:
    """Bytes of hex digits."""
    return bytes.fromhex(text)


def hello_of(each: dict[str, Any]) -> Hello:
    """The Hello of a vector."""
    protocol, min_protocol, node_id = each["protocol"], each["min_protocol"], each["node_id"]
    return Hello(protocol, min_protocol, node_id, raw(each["incarnation"]), each["features"], raw(each["nonce"]))


class VectorTests(SynchronousTestCase):
    """Recorded frames of protocol 1 are read and written as they were; no cut or garbled one brings a node down."""

    def test_hello(self) -> None:
        """Hello."""
        vectors = {raw(each["bytes"]): hello_of(each) for each in VECTORS["hello"]}
        check_codec(encode_hello, decode_hello, vectors, MalformedFrame)

    def test_proof(self) -> None:
        """Proof with Resume."""
        vectors = {
            raw(each["bytes"]): Proof(b"\xab" * 32, Resume(each["epoch"], each["peer_epoch"], each["received"]))
            for each in VECTORS["proof"]
        }
        check_codec(encode_proof, decode_proof, vectors, MalformedFrame)

    def test_refusal(self) -> None:
        """Refusals."""
        for each in VECTORS["refusal"]:
            code, text = Refusal(each["code"]), each["text"]
            self.assertEqual(decode_refusal(raw(each["bytes"])), (code, text))
            self.assertEqual(encode_refusal(code, text), raw(each["bytes"]))

    def test_batch(self) -> None:
        """Batches."""
        vectors = {
            raw(each["bytes"]): Batch(each["number"], [(kind, raw(payload)) for kind, payload in each["messages"]])
            for each in VECTORS["batch"]
        }
        check_codec(
            lambda batch: encode_batch(batch.number, batch.messages),
            lambda data: decode_batch(data, ALL_KINDS),
            vectors,
            MalformedFrame,
        )

    def test_ack(self) -> None:
        """Acknowledgements."""
        vectors = {raw(each["bytes"]): each["number"] for each in VECTORS["ack"]}
        check_codec(encode_ack, decode_ack, vectors, MalformedFrame)

    def test_call(self) -> None:
        """Calls and their answers."""
        for each in VECTORS["call"]:
            self.assertEqual(decode_call(raw(each["bytes"])), (each["name"], raw(each["payload"])))
            self.assertEqual(encode_call(each["name"], raw(each["payload"])), raw(each["bytes"]))
        for each in VECTORS["call_answer"]:
            status, payload = CallStatus(each["status"]), raw(each["payload"])
            self.assertEqual(decode_call_answer(raw(each["bytes"])), (status, payload))
            self.assertEqual(encode_call_answer(status, payload), raw(each["bytes"]))

    def test_wrong(self) -> None:
        """What is no Hello and no batch is refused."""
        for text in VECTORS["wrong_hello"]:
            self.assertRaises(MalformedFrame, decode_hello, raw(text))
        for text in VECTORS["wrong_batch"]:
            self.assertRaises(MalformedFrame, decode_batch, raw(text), ALL_KINDS)


class LaterVersionTests(SynchronousTestCase):
    """A node of the next version can be talked to."""

    def test_longer_hello(self) -> None:
        """What a later version appends to Hello and Proof is passed over."""
        each = VECTORS["hello"][0]
        self.assertEqual(decode_hello(raw(each["bytes"]) + b"more"), hello_of(each))
        data = raw(VECTORS["proof"][0]["bytes"])
        self.assertEqual(decode_proof(data + b"more"), decode_proof(data))

    def test_unknown_kinds(self) -> None:
        """Messages of a kind unknown here are skipped and counted, the others are taken."""
        data = encode_batch(9, [(1, b"a"), (200, b"later"), (1, b"b"), (201, b"")])
        self.assertEqual(decode_batch(data, {1}), Batch(9, [(1, b"a"), (1, b"b")], 2))

    def test_unknown_codes(self) -> None:
        """An unknown refusal keeps its text, an unknown status of a call is a failure."""
        self.assertEqual(decode_refusal(b"\x63why"), (Refusal.OTHER, "why"))
        self.assertEqual(decode_call_answer(b"\x63why"), (CallStatus.FAILED, b"why"))


class BoundTests(SynchronousTestCase):
    """Sizes."""

    def test_batch_bytes(self) -> None:
        """A batch has at most 128 KiB, or one message of at most 512 KiB alone."""
        half = b"x" * ((MAX_BATCH_BYTES - 18) // 2)
        data = encode_batch(1, [(1, half), (1, half)])
        self.assertEqual(len(data), MAX_BATCH_BYTES)
        self.assertEqual(len(decode_batch(data, ALL_KINDS).messages), 2)
        self.assertRaises(LocalProtocolError, encode_batch, 1, [(1, half), (1, half + b"x")])
        over = data[: -len(half) - 4] + (len(half) + 1).to_bytes(4, "big") + half + b"x"
        self.assertRaises(MalformedFrame, decode_batch, over, ALL_KINDS)
        large = encode_batch(1, [(1, b"x" * MAX_MESSAGE_BYTES)])
        self.assertEqual(len(decode_batch(large, ALL_KINDS).messages[0][1]), MAX_MESSAGE_BYTES)
        self.assertRaises(LocalProtocolError, encode_batch, 1, [(1, b"x" * (MAX_MESSAGE_BYTES + 1))])
        over = large[:9] + (MAX_MESSAGE_BYTES + 1).to_bytes(4, "big") + large[13:] + b"x"
        self.assertRaises(MalformedFrame, decode_batch, over, ALL_KINDS)

    def test_batch_messages(self) -> None:
        """A batch has 1 to 400 messages, known or not."""
        full = encode_batch(1, [(1, b"")] * MAX_BATCH_MESSAGES)
        self.assertEqual(len(decode_batch(full, ALL_KINDS).messages), MAX_BATCH_MESSAGES)
        self.assertRaises(MalformedFrame, decode_batch, full + b"\x01\0\0\0\0", ())
        for count in (0, MAX_BATCH_MESSAGES + 1):
            self.assertRaises(LocalProtocolError, encode_batch, 1, [(1, b"")] * count)
        for number in (0, 1 << 64):
            self.assertRaises(LocalProtocolError, encode_batch, number, [(1, b"")])
        self.assertRaises(LocalProtocolError, encode_batch, 1, [(256, b"")])

    def test_calls(self) -> None:
        """Calls and answers have at most 512 KiB, names 1 to 255 bytes."""
        self.assertEqual(len(decode_call(encode_call("n" * 255, b"x" * MAX_CALL_BYTES))[1]), MAX_CALL_BYTES)
        for name, payload in (("", b""), ("n" * 256, b""), ("n", b"x" * (MAX_CALL_BYTES + 1))):
            self.assertRaises(LocalProtocolError, encode_call, name, payload)
        for data in (b"", b"\0x", b"\x05abcd", b"\x02\xff\xffx"):
            self.assertRaises(MalformedFrame, decode_call, data)
        self.assertRaises(LocalProtocolError, encode_call_answer, CallStatus.OK, b"x" * (MAX_CALL_BYTES + 1))
        self.assertRaises(MalformedFrame, decode_call_answer, b"")

    def test_texts(self) -> None:
        """Long texts are cut between characters, whoever wrote them."""
        self.assertEqual(decode_refusal(encode_refusal(Refusal.OTHER, "ß" * 1000))[1], "ß" * (MAX_TEXT_BYTES // 2))
        self.assertEqual(len(decode_refusal(b"\x01" + b"x" * 5000)[1]), MAX_TEXT_BYTES)
        self.assertEqual(encode_call_answer(CallStatus.FAILED, "x" * 5000), b"\x01" + b"x" * MAX_TEXT_BYTES)

    def test_own_fields(self) -> None:
        """Our own mistakes raise and nothing is sent."""
        good = hello_of(VECTORS["hello"][0])
        for bad in (
            Hello(256, 1, "n1", good.incarnation, 0, good.nonce),
            Hello(1, 1, "ä", good.incarnation, 0, good.nonce),
            Hello(1, 1, "", good.incarnation, 0, good.nonce),
            Hello(1, 1, "n1", good.incarnation, 1 << 64, good.nonce),
        ):
            self.assertRaises(LocalProtocolError, encode_hello, bad)
        self.assertRaises(LocalProtocolError, encode_proof, Proof(b"", Resume(1, 0, -1)))


class AnswerTests(SynchronousTestCase):
    """Answers to Hello and Proof."""

    def test_both(self) -> None:
        """An answer is a welcome or a refusal; an empty one is neither."""
        self.assertEqual(decode_answer(encode_welcome(b"content")), b"content")
        self.assertEqual(decode_answer(encode_refusal(Refusal.SECRET, "no")), (Refusal.SECRET, "no"))
        self.assertRaises(MalformedFrame, decode_answer, b"")

    @settings(derandomize=True, max_examples=100, deadline=None)
    @given(st.binary(max_size=200))
    def test_anything(self, data: bytes) -> None:
        """Whatever a peer sends is read or refused."""
        for decode in (decode_answer, decode_call, decode_call_answer, decode_refusal, decode_hello, decode_proof):
            try:
                decode(data)
            except MalformedFrame:
                continue
