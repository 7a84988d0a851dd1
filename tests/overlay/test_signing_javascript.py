"""Signatures behind JavaScript relays: the real ``JSON.parse`` and ``JSON.stringify`` of Node."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from meshrelay.overlay.identity import Identity
from meshrelay.overlay.sealing import Sealer
from meshrelay.overlay.signing import Unsignable, Verified, sign, verify
from meshrelay.wire.overlay import DataType, Envelope, decode_frame, encode_frame, encode_value, new_envelope

ANNA, BEN = (Identity(bytes([number]) * 32) for number in (1, 2))
RUN = b"r" * 16

NUMBERS = (
    st.integers()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([1e21, 1e-7, -0.0, 5e-324, 1.7976931348623157e308, 2**53, 2**53 + 1, 1e16, 123456789012345680.0])
)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(
    [
        "__proto__",
        "constructor",
        "toString",
        "10",
        "9",
        "-1",
        "01",
        "4294967295",
        "\u2028",
        "\x7f",
        "</script>",
        "\U0001f600",
        "\ufb33",
    ]
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda children: st.lists(children, max_size=5) | st.dictionaries(TEXTS, children, max_size=5),
    max_leaves=20,
)


class JavaScriptTests(SynchronousTestCase):
    """One relay for each test."""

    def setUp(self) -> None:
        node = shutil.which("node")
        if node is None:
            raise SkipTest("missing: node")
        self.relay = subprocess.Popen(
            [node, str(Path(__file__).with_name("javascript_relay.js"))], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.addCleanup(self.stop)

    def stop(self) -> None:
        for stream in (self.relay.stdin, self.relay.stdout):
            assert stream is not None
            stream.close()
        self.relay.wait(10)

    def relayed(self, envelope: Envelope) -> Envelope:
        """What comes out of the relay."""
        assert self.relay.stdin is not None
        assert self.relay.stdout is not None
        self.relay.stdin.write(encode_frame(envelope, envelope.sender) + b"\n")
        self.relay.stdin.flush()
        return decode_frame(self.relay.stdout.readline().rstrip(b"\n"))

    @settings(derandomize=True, max_examples=120, deadline=None, database=None)
    @given(VALUES)
    def test_signed(self, value: Any) -> None:
        """Whatever JSON a peer signs, its signature is good behind a JavaScript relay."""
        envelope = new_envelope(BEN.peer_id, ANNA.peer_id, "123456", DataType.USER, encode_value(value))
        try:
            signed = sign(envelope, ANNA, 7, RUN)
        except Unsignable:
            return
        self.assertEqual(verify(self.relayed(signed)), Verified(ANNA.public, 7, RUN))

    @settings(derandomize=True, max_examples=100, deadline=None, database=None)
    @given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(1 << 70), 1 << 70))
    def test_numbers(self, value: float) -> None:
        """Every number survives, if need be as the nearest double."""
        envelope = new_envelope(BEN.peer_id, ANNA.peer_id, "1", DataType.USER, encode_value(value))
        self.assertEqual(verify(self.relayed(sign(envelope, ANNA))), Verified(ANNA.public, 0, b""))

    def test_sealed(self) -> None:
        """A sealed message opens behind a JavaScript relay."""
        data = Sealer(ANNA, RUN).seal(BEN.peer_id, BEN.public, bytes(range(256)) * 20)
        envelope = new_envelope(BEN.peer_id, ANNA.peer_id, "1", DataType.SEALED, data)
        opened = Sealer(BEN, RUN).open(ANNA.peer_id, ANNA.public, self.relayed(envelope).data)
        self.assertEqual(opened.content, bytes(range(256)) * 20)
