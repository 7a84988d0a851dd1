"""Signals of WebRTC links as JSON."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.transport.overlay_signal import (
    MAX_CANDIDATE_CHARS,
    MAX_SIGNAL_BYTES,
    BadSignal,
    Description,
    RemoteCandidate,
    decode_signal,
    encode_description,
)


class SignalTests(SynchronousTestCase):
    """Both directions."""

    def test_descriptions(self) -> None:
        """An offer and an answer are read as simple-peer writes them, and written so that it reads them."""
        self.assertEqual(decode_signal(b'{"type":"offer","sdp":"v=0\\r\\n"}'), Description(True, "v=0\r\n"))
        self.assertEqual(decode_signal(b'{"sdp":"v=0","type":"answer"}'), Description(False, "v=0"))
        self.assertEqual(encode_description(Description(True, "v=0\r\n")), b'{"type":"offer","sdp":"v=0\\r\\n"}')
        self.assertEqual(encode_description(Description(False, "")), b'{"type":"answer","sdp":""}')

    def test_candidates(self) -> None:
        """A candidate is read with what browsers put before it, and whatever keys it has."""
        raw = b'{"candidate":{"candidate":"candidate:1 1 udp 7 127.0.0.1 9 typ host","sdpMLineIndex":0,"sdpMid":"0"}}'
        self.assertEqual(decode_signal(raw), RemoteCandidate("1 1 udp 7 127.0.0.1 9 typ host"))
        raw = b'{"type":"candidate","candidate":{"candidate":"a=candidate:1 1","usernameFragment":null}}'
        self.assertEqual(decode_signal(raw), RemoteCandidate("1 1"))

    def test_end_of_candidates(self) -> None:
        """The empty candidate that some browsers end with is no mistake."""
        self.assertEqual(decode_signal(b'{"candidate":{"candidate":""}}'), RemoteCandidate(""))

    def test_bad_signals(self) -> None:
        """What is no signal is refused, never an error of another kind."""
        for raw in (
            b"",
            b"nothing",
            b"null",
            b"[]",
            b"{}",
            b'"offer"',
            b'{"type":"offer"}',
            b'{"type":"rollback","sdp":""}',
            b'{"sdp":"v=0"}',
            b'{"type":"offer","sdp":7}',
            b'{"candidate":null}',
            b'{"candidate":"candidate:1"}',
            b'{"candidate":{"candidate":7}}',
            b'{"renegotiate":true}',
            b'{"type":"offer","sdp":"\xff"}',
            b'{"a":' * 3000 + b"}" * 3000,
        ):
            self.assertRaises(BadSignal, decode_signal, raw)

    def test_bounds(self) -> None:
        """A signal and a candidate have a longest length; one byte more is refused."""
        frame = b'{"type":"offer","sdp":""}'
        longest = frame[:-2] + b"x" * (MAX_SIGNAL_BYTES - len(frame)) + frame[-2:]
        self.assertIsInstance(decode_signal(longest), Description)
        self.assertRaises(BadSignal, decode_signal, longest[:-2] + b'x"}')
        candidate = b'{"candidate":{"candidate":"%s"}}'
        self.assertIsInstance(decode_signal(candidate % (b"x" * MAX_CANDIDATE_CHARS)), RemoteCandidate)
        self.assertRaises(BadSignal, decode_signal, candidate % (b"x" * (MAX_CANDIDATE_CHARS + 1)))

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=200))
    def test_any_bytes(self, raw: bytes) -> None:
        """Any bytes at all are a signal or refused."""
        try:
            decode_signal(raw)
        except BadSignal:
            pass
