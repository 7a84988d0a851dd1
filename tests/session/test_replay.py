"""What is kept for a resume."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.session.replay import ReplayBuffer
from meshrelay.wire.frame import encode_push


def push(number: int) -> bytes:
    """Return a push of 16 bytes that carries `number`."""
    return encode_push(1, 113, number.to_bytes(4, "big"))


def fill(replay: ReplayBuffer, *counts: int, first: int = 0) -> None:
    """Append one join for each count."""
    number = first
    for count in counts:
        replay.append((b"".join(push(number + index) for index in range(count)), count))
        number += count


class AcknowledgeTests(SynchronousTestCase):
    """An ACK says how many pushes the client has."""

    def test_rest(self) -> None:
        """What was not acknowledged is kept, in order."""
        replay = ReplayBuffer(1000)
        fill(replay, 1, 1, 1)
        self.assertTrue(replay.acknowledge(1))
        self.assertEqual(replay.frames(), [push(1), push(2)])
        self.assertEqual(replay.size_bytes, 32)

    def test_all_and_none(self) -> None:
        """Everything, or nothing, may be acknowledged; the same count twice is no mistake."""
        replay = ReplayBuffer(1000)
        fill(replay, 2)
        self.assertTrue(replay.acknowledge(0))
        self.assertEqual(len(replay.frames()), 2)
        self.assertTrue(replay.acknowledge(2))
        self.assertTrue(replay.acknowledge(2))
        self.assertEqual((replay.frames(), replay.size_bytes), ([], 0))

    def test_inside_a_join(self) -> None:
        """A count that ends inside a joined batch gives back only that batch's rest."""
        replay = ReplayBuffer(1000)
        fill(replay, 2, 3, 2)
        self.assertTrue(replay.acknowledge(4))
        self.assertEqual(replay.frames(), [push(4), push(5), push(6)])
        self.assertEqual(replay.size_bytes, 48)
        self.assertTrue(replay.acknowledge(5))
        self.assertEqual(replay.frames(), [push(5), push(6)])

    def test_nonsense(self) -> None:
        """A count of what was never sent, or was acknowledged before, changes nothing."""
        replay = ReplayBuffer(1000)
        fill(replay, 1, 1, 1)
        replay.acknowledge(1)
        for count in (4, 0, 1 << 31, (1 << 32) - 1):
            self.assertFalse(replay.acknowledge(count), count)
        self.assertEqual(replay.frames(), [push(1), push(2)])

    def test_wrap(self) -> None:
        """Counts go on from 2^32 - 1 to 0."""
        replay = ReplayBuffer(1000, first=(1 << 32) - 2)
        fill(replay, 1, 3, first=0)
        self.assertTrue(replay.acknowledge((1 << 32) - 1))
        self.assertEqual(replay.frames(), [push(1), push(2), push(3)])
        self.assertTrue(replay.acknowledge(1))
        self.assertEqual(replay.frames(), [push(3)])
        self.assertFalse(replay.acknowledge((1 << 32) - 1))
        self.assertTrue(replay.acknowledge(2))
        fill(replay, 1, first=9)
        self.assertTrue(replay.acknowledge(3))
        self.assertEqual(replay.frames(), [])

    @settings(derandomize=True, max_examples=60, deadline=None)
    @given(st.lists(st.integers(1, 4), max_size=8), st.lists(st.integers(0, 40), max_size=8), st.integers(0, 1 << 33))
    def test_exactly_the_rest(self, counts: list[int], acks: list[int], first: int) -> None:
        """After any ACKs the buffer has exactly the pushes behind the last good one."""
        replay = ReplayBuffer(10_000, first)
        fill(replay, *counts)
        total, have = sum(counts), 0
        for ack in acks:
            good = have <= ack <= total
            self.assertEqual(replay.acknowledge((first + ack) % (1 << 32)), good)
            have = ack if good else have
            self.assertEqual(replay.frames(), [push(number) for number in range(have, total)])
            self.assertEqual(replay.size_bytes, 16 * (total - have))


class BoundTests(SynchronousTestCase):
    """replay_bytes is what is kept at most."""

    def test_at_the_bound(self) -> None:
        """What fills the bound to the byte is kept; one push more and the oldest is given up."""
        replay = ReplayBuffer(48)
        fill(replay, 1, 1, 1)
        self.assertTrue(replay.is_whole)
        self.assertEqual(replay.size_bytes, 48)
        fill(replay, 1, first=3)
        self.assertFalse(replay.is_whole)
        self.assertEqual(replay.frames(), [push(1), push(2), push(3)])

    def test_given_up_is_known(self) -> None:
        """A client that lacks a push that was given up is not told that it has everything."""
        replay = ReplayBuffer(48)
        fill(replay, 1, 1, 1, 1)
        self.assertFalse(replay.acknowledge(0))
        self.assertTrue(replay.acknowledge(1))

    def test_larger_than_the_bound(self) -> None:
        """A push that alone is over the bound is not kept, and those behind it are."""
        replay = ReplayBuffer(20)
        replay.append((push(0) + push(1), 2))
        self.assertEqual((replay.frames(), replay.size_bytes), ([], 0))
        fill(replay, 1, first=2)
        self.assertTrue(replay.acknowledge(2))
        self.assertEqual(replay.frames(), [push(2)])

    def test_nothing_is_kept(self) -> None:
        """With a bound of 0 every push is given up."""
        replay = ReplayBuffer(0)
        fill(replay, 1)
        self.assertEqual((replay.frames(), replay.is_whole), ([], False))
        self.assertTrue(replay.acknowledge(1))

    def test_broken_off(self) -> None:
        """After a push was dropped on its way no count means anything any more, and nothing is kept."""
        replay = ReplayBuffer(1000)
        fill(replay, 2)
        replay.break_off()
        fill(replay, 2)
        self.assertEqual((replay.frames(), replay.size_bytes, replay.is_whole), ([], 0, False))
        for count in range(5):
            self.assertFalse(replay.acknowledge(count))

    def test_not_whole_from_the_start(self) -> None:
        """What comes from elsewhere may lack something already; counts are right all the same."""
        replay = ReplayBuffer(100, 5, is_whole=False)
        replay.append((push(5), 1))
        self.assertEqual((replay.is_whole, replay.is_counted, replay.acknowledge(6)), (False, True, True))
