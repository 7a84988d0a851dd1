"""Frames joined once for all receivers."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.wire.frame import encode_push, split_frames
from meshrelay.wire.prepared import MAX_DATAGRAM_CONTENT, MAX_MERGED_MESSAGE, Batch, pack_frames
from meshrelay.wire.websocket_client import ServerFrameDecoder


def frames_of(*sizes: int) -> list[bytes]:
    """Return one push for each size of its payload."""
    return [encode_push(1, index, b"x" * size) for index, size in enumerate(sizes)]


def counts_of(messages: bytes) -> list[int]:
    """Return how many frames each WebSocket message has."""
    runs = ServerFrameDecoder(2 * MAX_MERGED_MESSAGE).runs(messages)
    return [len(split_frames(payload)) for _, payloads, is_end in runs if is_end for payload in payloads]


class PackTests(SynchronousTestCase):
    """Neighbours share what they fit into."""

    def test_exact_fit(self) -> None:
        """Frames that fill the limit to the byte stay together; one byte less and they do not."""
        self.assertEqual(pack_frames([b"aaa", b"bb", b"c"], 5), [(b"aaabb", 2), (b"c", 1)])
        self.assertEqual(pack_frames([b"aaa", b"bb", b"c"], 4), [(b"aaa", 1), (b"bbc", 2)])

    def test_over_the_limit(self) -> None:
        """A frame that is too long stands alone and drags nobody along."""
        self.assertEqual(pack_frames([b"a", b"bbbb", b"c", b"d"], 2), [(b"a", 1), (b"bbbb", 1), (b"cd", 2)])
        self.assertEqual(pack_frames([], 2), [])

    @settings(derandomize=True, max_examples=60, deadline=None)
    @given(st.lists(st.binary(min_size=1, max_size=12), max_size=20), st.integers(1, 30))
    def test_nothing_is_lost(self, frames: list[bytes], limit: int) -> None:
        """Whatever the sizes: all bytes in order, every frame counted, no needless excess."""
        packed = pack_frames(frames, limit)
        self.assertEqual(b"".join(data for data, _ in packed), b"".join(frames))
        self.assertEqual(sum(count for _, count in packed), len(frames))
        self.assertTrue(all(len(data) <= limit or count == 1 for data, count in packed))


class BatchTests(SynchronousTestCase):
    """One turn's frames, in the three ways of writing them."""

    def test_stream(self) -> None:
        """TCP gets the frames back to back; a single frame is not even copied."""
        frames = frames_of(3, 0, 5)
        self.assertEqual(Batch(frames).stream, b"".join(frames))
        self.assertIs(Batch(frames[:1]).stream, frames[0])

    def test_joined(self) -> None:
        """Frames that come joined are counted one by one, and taken apart only where they do not fit."""
        first, second = frames_of(700, 700), frames_of(10)
        batch = Batch([b"".join(first), *second], [True, False], [2, 1])
        self.assertEqual((batch.count, batch.stream), (3, b"".join(first + second)))
        self.assertEqual(counts_of(batch.websocket), [3])
        self.assertEqual(batch.datagrams, [(first[0], 1), (first[1] + second[0], 2)])
        assert batch.reliable is not None
        assert batch.unreliable is not None
        self.assertEqual((batch.reliable.count, batch.reliable.frames), (2, [b"".join(first)]))
        self.assertEqual((batch.unreliable.count, batch.unreliable.frames), (1, second))

    @settings(derandomize=True, max_examples=100, deadline=None)
    @given(st.lists(st.lists(st.sampled_from([10, 100, 600, 2000]), min_size=1, max_size=20), min_size=1, max_size=5))
    def test_joined_datagrams(self, runs: list[list[int]]) -> None:
        """However frames come joined, datagrams hold whole ones, in order, and none is too long that need not be."""
        frames = [frames_of(*sizes) for sizes in runs]
        batch = Batch([b"".join(each) for each in frames], None, [len(each) for each in frames])
        self.assertEqual(b"".join(data for data, _ in batch.datagrams), batch.stream)
        for data, count in batch.datagrams:
            self.assertEqual(len(split_frames(data)), count)
            self.assertTrue(len(data) <= MAX_DATAGRAM_CONTENT or count == 1)

    def test_joined_websocket_bound(self) -> None:
        """Joined frames that are too long for one WebSocket message become several."""
        frames = frames_of(*[MAX_MERGED_MESSAGE // 4] * 6)
        batch = Batch([b"".join(frames)], None, [6])
        self.assertEqual(counts_of(batch.websocket), [3, 3])

    def test_made_once(self) -> None:
        """A thousand members cost one join: every receiver is handed the same bytes."""
        batch = Batch(frames_of(3, 4))
        self.assertIs(batch.stream, batch.stream)
        self.assertIs(batch.websocket, batch.websocket)
        self.assertIs(batch.datagrams, batch.datagrams)

    def test_websocket(self) -> None:
        """A WebSocket message carries whole frames, as many as one message may."""
        batch = Batch(frames_of(3, 4))
        self.assertEqual(batch.websocket, b"\x82" + bytes([len(batch.stream)]) + batch.stream)

    def test_websocket_bound(self) -> None:
        """Merged frames never make a message longer than the longest single frame of the defaults."""
        exact = Batch(frames_of(MAX_MERGED_MESSAGE - 24 - 7, 7))
        self.assertEqual(counts_of(exact.websocket), [2])
        over = Batch(frames_of(MAX_MERGED_MESSAGE - 24 - 7, 8))
        self.assertEqual(counts_of(over.websocket), [1, 1])
        single = Batch(frames_of(MAX_MERGED_MESSAGE + 100))
        self.assertEqual(counts_of(single.websocket), [1])

    def test_datagrams(self) -> None:
        """A datagram holds what fits into 1,400 bytes behind the header and before the seal."""
        self.assertEqual(MAX_DATAGRAM_CONTENT, 1358)
        exact = Batch(frames_of(1358 - 24 - 8, 8, 1))
        self.assertEqual([(len(data), count) for data, count in exact.datagrams], [(1358, 2), (13, 1)])

    def test_reliables(self) -> None:
        """What must arrive and what may be lost come apart, each in order."""
        frames = frames_of(1, 2, 3, 4)
        batch = Batch(frames, [True, False, True, False])
        assert batch.reliable is not None
        assert batch.unreliable is not None
        self.assertEqual(split_frames(batch.reliable.stream), [frames[0], frames[2]])
        self.assertEqual(split_frames(batch.unreliable.stream), [frames[1], frames[3]])

    def test_one_kind(self) -> None:
        """A batch of one kind has nothing of the other, and is not taken apart."""
        frames = frames_of(1, 2)
        for reliables in (None, [True, True]):
            batch = Batch(frames, reliables)
            self.assertIs(batch.reliable, batch)
            self.assertIsNone(batch.unreliable)
        lossy = Batch(frames, [False, False])
        self.assertIsNone(lossy.reliable)
        assert lossy.unreliable is not None
        self.assertEqual(lossy.unreliable.stream, lossy.stream)
        self.assertIsNone(lossy.unreliable.reliable)
