"""Runs of pushes."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.components.push_runs import MAX_RUN_BYTES, join_pushes
from meshrelay.wire.commands import encode_pushed_message
from meshrelay.wire.frame import encode_push

ONE, OTHER = "o" * 52, "p" * 52


def payload(message: bytes, place: str = ONE) -> bytes:
    """What a client sends."""
    return place.encode() + message


def push(message: bytes) -> bytes:
    """What comes of it."""
    return encode_push(1, 103, encode_pushed_message(ONE, "ann", message))


class JoinTests(SynchronousTestCase):
    """Neighbours to the same place."""

    def join(self, *payloads: bytes, start: int = 0, limit: int = 1000) -> tuple[bytes, int]:
        """Join what ann sends."""
        return join_pushes(103, payloads, start, b"\x03ann", limit)

    def test_run(self) -> None:
        """Each becomes the push that it would be alone, of whatever length, in order."""
        messages = [b"1", b"22", b"", b"22"]
        expected = (b"".join(map(push, messages)), 4)
        self.assertEqual(self.join(*map(payload, messages)), expected)

    def test_start(self) -> None:
        """A run begins where it is told to."""
        self.assertEqual(self.join(payload(b"1"), payload(b"2"), start=1), (push(b"2"), 1))

    def test_another_place(self) -> None:
        """A run ends where another place is meant, or none."""
        self.assertEqual(self.join(payload(b"1"), payload(b"2", OTHER)), (push(b"1"), 1))
        self.assertEqual(self.join(payload(b"1"), b"short"), (push(b"1"), 1))

    def test_wrong(self) -> None:
        """What has no ID, or is longer than a push may be, is no run; the longest that fits is."""
        self.assertEqual(self.join(b"short"), (b"", 0))
        longest = 1000 - 52 - 4
        self.assertEqual(self.join(payload(bytes(longest)))[1], 1)
        self.assertEqual(self.join(payload(bytes(longest + 1))), (b"", 0))
        self.assertEqual(self.join(payload(b"1"), payload(bytes(longest + 1))), (push(b"1"), 1))

    def test_bound(self) -> None:
        """A run has so many bytes at most, but never less than one push."""
        frames, count = self.join(*[payload(bytes(1000))] * 100, limit=2000)
        self.assertLessEqual(len(frames), MAX_RUN_BYTES)
        self.assertEqual(count, MAX_RUN_BYTES // len(push(bytes(1000))))
        self.assertEqual(self.join(*[payload(bytes(60000))] * 2, limit=65536)[1], 1)
