"""Tests of `meshrelay.client.push_count`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.client.push_count import PushCount


class PushCountTests(SynchronousTestCase):
    """Counting pushes and telling the node."""

    def test_soon(self) -> None:
        """An ACK is due within 5 seconds of the first push that was not acknowledged, whatever comes later."""
        count = PushCount()
        self.assertIsNone(count.due_at)
        count.add(100, 10.0)
        count.add(100, 10.9)
        due_at = count.due_at
        assert due_at is not None
        self.assertTrue(10.0 < due_at <= 15.0)
        self.assertEqual(count.acknowledge(), b"\0\0\0\2")
        self.assertIsNone(count.due_at)

    def test_at_once_after_many_bytes(self) -> None:
        """Much data is acknowledged at once, so that the node's buffer stays short."""
        count = PushCount()
        self.assertFalse(count.add(65535, 0.0))
        self.assertTrue(count.add(1, 0.0))
        count.acknowledge()
        self.assertFalse(count.add(1, 0.0))

    def test_wraps(self) -> None:
        """The count goes on at 0 after 2^32 pushes."""
        count = PushCount()
        count.total = (1 << 32) - 1
        count.add(1, 0.0)
        self.assertEqual(count.acknowledge(), b"\0\0\0\0")

    def test_restart(self) -> None:
        """A new session counts from 0."""
        count = PushCount()
        count.add(1, 0.0)
        count.restart()
        self.assertEqual((count.total, count.due_at), (0, None))

    def test_count_only(self) -> None:
        """On a connection that acknowledges by itself pushes are counted, and nothing has to be told."""
        count = PushCount()
        count.count()
        count.count()
        self.assertEqual((count.total, count.due_at), (2, None))
