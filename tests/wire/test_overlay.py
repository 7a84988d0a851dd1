"""Frames of the peer overlay."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.wire.overlay import (
    MAX_DATA_BYTES,
    MAX_DEPTH,
    MAX_ENVELOPE_BYTES,
    MAX_ESCAPES,
    MAX_EXTRAS,
    MAX_FOUND,
    MAX_HOPS,
    MAX_NONCE_CHARS,
    MAX_PATH,
    MAX_TYPE_CHARS,
    MAX_WRTC_BYTES,
    BadFrame,
    DataType,
    Envelope,
    Fault,
    decode_frame,
    decode_hello,
    decode_ids,
    decode_value,
    encode_frame,
    encode_hello,
    encode_ids,
    encode_value,
    new_envelope,
)
from tests.vectors import load_vectors

VECTORS = load_vectors("overlay")
VIA = bytes.fromhex(VECTORS["via"])
ANN, BOB = b"\x0a" * 20, b"\xb0" * 20

IDS = st.binary(min_size=20, max_size=20)
# Half surrogate pairs have no UTF-8.
TEXT = st.text(st.characters(codec="utf-8"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)
FREE_TYPES = st.sampled_from(["user", "meshrelay", "handshake-offer", "weather"]) | TEXT.filter(
    lambda text: 1 <= len(text) <= MAX_TYPE_CHARS and text not in list(DataType)
)
EXTRA_KEYS = TEXT.filter(lambda text: text not in ("to", "from", "path", "nonce", "data"))


def fields(envelope: Envelope) -> dict[str, Any]:
    """An envelope as the vectors have it."""
    return {
        "to": envelope.to.hex(),
        "from": envelope.sender.hex(),
        "path": [peer_id.hex() for peer_id in envelope.path],
        "nonce": envelope.nonce,
        "type": envelope.type,
        "data": None if envelope.data is None else envelope.data.decode(),
        "extras": {key: raw.decode() for key, raw in envelope.extras.items()},
        "cut": envelope.cut,
    }


def frame_of(type: str = "user", data: object = 1, **members: Any) -> bytes:
    """A frame with some members as given."""
    usual = {
        "to": BOB.hex(),
        "from": ANN.hex(),
        "path": [ANN.hex()],
        "nonce": "1",
        "data": {"type": type, "data": data},
    }
    return encode_value({**usual, **members})


def fault_of(frame: bytes) -> str:
    """Why a frame is refused; "": it is not."""
    try:
        decode_frame(frame)
    except BadFrame as error:
        return error.reason.value
    return ""


class VectorTests(SynchronousTestCase):
    """Golden frames."""

    def test_good(self) -> None:
        """A frame is read as what it says, and passed on with hex IDs and nothing else changed."""
        for vector in VECTORS["envelopes"]:
            envelope = decode_frame(vector["frame"].encode())
            self.assertEqual(fields(envelope), {key: vector[key] for key in fields(envelope)}, vector["name"])
            self.assertEqual(encode_frame(envelope, VIA).decode(), vector["relayed"], vector["name"])

    def test_read_again(self) -> None:
        """The next hop reads what we read, with us at the end of the path."""
        for vector in VECTORS["envelopes"]:
            envelope = decode_frame(vector["frame"].encode())
            again = decode_frame(encode_frame(envelope, VIA))
            self.assertEqual(again, envelope._replace(path=(*envelope.path, VIA), cut=0), vector["name"])

    def test_bad(self) -> None:
        """Each malformed frame is refused, and counted as what is wrong with it."""
        for vector in VECTORS["bad"]:
            self.assertEqual(fault_of(vector["frame"].encode()), vector["fault"], vector["name"])

    def test_cut(self) -> None:
        """No frame that was cut anywhere passes."""
        for vector in VECTORS["envelopes"]:
            frame = vector["frame"].encode()
            self.assertNotIn("", {fault_of(frame[:size]) for size in range(len(frame))}, vector["name"])

    def test_spoiled(self) -> None:
        """No byte that is no UTF-8 passes, wherever it stands."""
        for vector in VECTORS["envelopes"]:
            frame = vector["frame"].encode()
            for at in range(0, len(frame), 7):
                self.assertEqual(fault_of(frame[:at] + b"\xff" + frame[at:]), "text", vector["name"])

    def test_hello(self) -> None:
        """A hello is read in both forms, and ours is the one that JavaScript sends."""
        for vector in VECTORS["hellos"]:
            frame, peer_id = vector["frame"].encode(), bytes.fromhex(vector["peer_id"])
            self.assertEqual(decode_hello(frame), peer_id)
            if vector["is_ours"]:
                self.assertEqual(encode_hello(peer_id), frame)
            for size in range(len(frame)):
                self.assertRaises(BadFrame, decode_hello, frame[:size])

    def test_bad_hello(self) -> None:
        """What is no ID of 20 bytes is no hello."""
        for frame in VECTORS["bad_hellos"]:
            error = self.assertRaises(BadFrame, decode_hello, frame.encode())
            self.assertEqual(error.reason, Fault.HELLO, frame)
        self.assertRaises(BadFrame, decode_hello, b'"\xff"')


class BoundTests(SynchronousTestCase):
    """What a peer may make us hold, and pass on."""

    def test_size(self) -> None:
        """An envelope of the largest size passes, one byte more does not."""
        frame = frame_of(data="")
        largest = frame_of(data="x" * (MAX_ENVELOPE_BYTES - len(frame)))
        self.assertEqual((len(largest), fault_of(largest)), (MAX_ENVELOPE_BYTES, ""))
        self.assertEqual(fault_of(largest + b" "), "size")

    def test_depth(self) -> None:
        """As many levels as allowed pass, one more does not; brackets inside of text do not count."""
        inside = MAX_DEPTH - 2

        def nest(levels: int, where: bytes) -> bytes:
            return frame_of(data="@").replace(b'"@"', b"[" * levels + where + b"]" * levels)

        self.assertEqual(fault_of(nest(inside, b"")), "")
        self.assertEqual(fault_of(nest(inside + 1, b"")), "depth")
        self.assertEqual(fault_of(nest(inside - 1, b'{"a":1}')), "")
        self.assertEqual(fault_of(nest(inside, b'{"a":1}')), "depth")
        self.assertEqual(fault_of(nest(100_000, b"")), "depth")
        self.assertEqual(fault_of(nest(inside, b'"[[[[{{{{\\"[[[["')), "")
        self.assertEqual(fault_of(nest(inside, b'"\\\\",[]')), "depth")
        self.assertEqual(fault_of(frame_of(data=[[1]] * 10_000)), "")
        self.assertEqual(fault_of(nest(0, b'"' + b"[" * 1000 + b'"')), "")
        deep_extra = frame_of(more="@").replace(b'"@"', b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
        self.assertEqual(fault_of(deep_extra), "depth")

    def test_no_end(self) -> None:
        """Brackets and quotes that never end are refused in no time."""
        for garbage in (b"[", b"{", b'"\\"[', b'"[', b'\\"', b'{"a":', b'"\\', b"[[[[]"):
            frame = (garbage * MAX_ENVELOPE_BYTES)[:MAX_ENVELOPE_BYTES]
            self.assertIn(fault_of(frame), ("depth", "json", "envelope"), garbage)

    def test_path(self) -> None:
        """A path of the longest length is read, the originator may be in it twice."""
        self.assertEqual(len(decode_frame(frame_of(path=[ANN.hex()] * MAX_PATH)).path), MAX_PATH)
        self.assertEqual(fault_of(frame_of(path=[ANN.hex()] * (MAX_PATH + 1))), "path")

    def test_names(self) -> None:
        """Nonce and type have a longest length."""
        self.assertEqual(fault_of(frame_of(nonce="n" * MAX_NONCE_CHARS, type="t" * MAX_TYPE_CHARS)), "")
        self.assertEqual(fault_of(frame_of(nonce="n" * (MAX_NONCE_CHARS + 1))), "nonce")
        self.assertEqual(fault_of(frame_of(type="t" * (MAX_TYPE_CHARS + 1))), "type")

    def test_extras(self) -> None:
        """Members that we do not know are kept up to a number."""
        extras: dict[str, Any] = {f"member {number}": number for number in range(MAX_EXTRAS)}
        self.assertEqual(len(decode_frame(frame_of(**extras)).extras), MAX_EXTRAS)
        self.assertEqual(fault_of(frame_of(more=1, **extras)), "extras")

    def test_found(self) -> None:
        """A foundPeers that names too many is cut, the rest of it is kept."""
        ids = [number.to_bytes(20) for number in range(1000)]
        body = {"type": "foundPeers", "hint": 5, "data": [peer_id.hex() for peer_id in ids]}
        frame = frame_of().replace(b'{"type":"user","data":1}', encode_value(body))
        envelope = decode_frame(frame)
        self.assertEqual(decode_ids(envelope.data or b""), ids[:MAX_FOUND])
        self.assertEqual(envelope.cut, 1000 - MAX_FOUND)
        self.assertEqual(decode_value(envelope.body), {**body, "data": [peer_id.hex() for peer_id in ids[:MAX_FOUND]]})
        self.assertEqual(decode_frame(frame_of("foundPeers", [ANN.hex()] * MAX_FOUND)).cut, 0)
        self.assertEqual(decode_frame(frame_of("foundPeers", [ANN.hex()] * (MAX_FOUND + 1))).cut, 1)
        self.assertEqual(fault_of(frame_of("foundPeers", data=[ANN.hex()] * 30 + ["x"])), "found-peers")

    def test_halves(self) -> None:
        """Half surrogate pairs are replaced in a text with as many escapes as allowed, with more it is refused."""
        halves = b"\\udc00" * MAX_ESCAPES
        self.assertEqual(
            decode_frame(frame_of(data="@").replace(b"@", halves)).data, b'"%b"' % (b"\\ufffd" * MAX_ESCAPES)
        )
        self.assertEqual(fault_of(frame_of(data="@").replace(b"@", halves + b"\\n")), "json")

    def test_fits(self) -> None:
        """Our largest envelope, signed and after the longest way, fits through a data channel."""
        extras = {"meshrelay": b'"' + b"x" * 1000 + b'"'}
        envelope = new_envelope(BOB, ANN, "9" * 64, "t" * 64, b"1" * MAX_DATA_BYTES, extras)
        frame = encode_frame(envelope._replace(path=(ANN,) * MAX_HOPS), VIA)
        self.assertLessEqual(len(frame), MAX_WRTC_BYTES)
        self.assertRaises(ValueError, new_envelope, BOB, ANN, "1", "user", b"1" * (MAX_DATA_BYTES + 1))


class TotalTests(SynchronousTestCase):
    """Any bytes give a value or a fault."""

    @given(st.binary(max_size=300))
    def test_garbage(self, frame: bytes) -> None:
        """Bytes of any kind are refused as a bad frame, and nothing else happens."""
        self.assertIsInstance(fault_of(frame), str)
        try:
            decode_hello(frame)
        except BadFrame:
            pass

    @given(JSON)
    def test_json(self, value: object) -> None:
        """JSON of any kind is refused as a bad frame, and nothing else happens."""
        frame = encode_value(value)
        self.assertNotEqual(fault_of(frame), "")
        try:
            decode_hello(frame)
        except BadFrame:
            pass

    @settings(max_examples=300)
    @given(
        st.sampled_from(["to", "from", "path", "nonce", "data"]),
        st.sampled_from([*DataType, "weather"]),
        JSON,
        st.booleans(),
    )
    def test_members(self, member: str, type: str, value: object, is_data: bool) -> None:
        """Any value in any place is refused, or passed on as something that passes again."""
        frame = frame_of(type, value)
        if not is_data:
            frame = encode_value({**decode_value(frame), member: value})
        try:
            envelope = decode_frame(frame)
        except BadFrame as error:
            self.assertIn(error.reason, Fault)
        else:
            again = decode_frame(encode_frame(envelope, VIA))
            self.assertEqual(again._replace(path=envelope.path), envelope._replace(cut=0))

    @given(
        *(IDS, IDS, st.lists(IDS, max_size=MAX_PATH - 1), TEXT.filter(lambda text: 1 <= len(text) <= MAX_NONCE_CHARS)),
        *(
            FREE_TYPES,
            st.none() | JSON.map(encode_value),
            st.dictionaries(EXTRA_KEYS, JSON.map(encode_value), max_size=3),
        ),
    )
    def test_there_and_back(
        self,
        to: bytes,
        sender: bytes,
        path: list[bytes],
        nonce: str,
        type: str,
        data: bytes | None,
        extras: dict[str, bytes],
    ) -> None:
        """What is sent is what comes."""
        envelope = new_envelope(to, sender, nonce, type, data, extras)._replace(path=tuple(path))
        decoded = decode_frame(encode_frame(envelope, VIA))
        self.assertEqual(decoded, envelope._replace(path=(*path, VIA)))

    def test_new(self) -> None:
        """A new envelope has been nowhere, and says its type as JavaScript expects it."""
        envelope = new_envelope(BOB, ANN, "1", DataType.FOUND_PEERS, encode_ids([ANN]))
        self.assertEqual(envelope.path, ())
        self.assertEqual(type(envelope.type), str)
        self.assertEqual(envelope.body, b'{"type":"foundPeers","data":["%b"]}' % ANN.hex().encode())
        self.assertEqual(new_envelope(BOB, ANN, "1", DataType.OFFER).body, b'{"type":"handshake-offer"}')
