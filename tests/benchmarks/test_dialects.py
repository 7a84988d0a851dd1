"""Tests for benchmarks.dialects."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.dialects import MESSAGE, dialect_named
from benchmarks.load_job import DIGITS
from benchmarks.scenarios import SCENARIOS

SECRET = "s" * 32

_MASK_BYTES = 4


def _unmasked(written: bytes) -> bytes:
    at = {126: 4, 127: 10}.get(written[1] & 127, 2)
    mask, body = written[at : at + _MASK_BYTES], written[at + _MASK_BYTES :]
    return bytes(byte ^ mask[index % _MASK_BYTES] for index, byte in enumerate(body))


class DirectTests(SynchronousTestCase):
    """Messages to one user."""

    def test_written(self) -> None:
        """A message to a user has the message and the name in it."""
        for name in SCENARIOS["pairs100"].servers:
            dialect = dialect_named(name, SECRET)
            written, _, _ = dialect.directed("r000007")
            inner = _unmasked(written) if dialect.is_websocket else written
            self.assertIn(MESSAGE, inner, name)
            self.assertIn(b"r000007", inner, name)

    def test_digits(self) -> None:
        """The number stands where it is said to, under the mask that it is said to have."""
        for name in SCENARIOS["pairs100"].servers:
            written, at, mask = dialect_named(name, SECRET).directed("r000007")
            digits = bytes(a ^ b for a, b in zip(written[at : at + DIGITS], mask, strict=True))
            self.assertEqual(digits, MESSAGE[:DIGITS], name)

    def test_names(self) -> None:
        """Each end says who it is: no two say the same, all say as much."""
        users = ["r000000", "r000001"]
        for name in SCENARIOS["pairs100"].servers:
            steps = dialect_named(name, SECRET).receiving(users)
            said = [b"".join(step[number % len(step)] for step in steps) for number in range(2)]
            self.assertNotEqual(said[0], said[1], name)
            self.assertEqual(len(said[0]), len(said[1]), name)
