"""The frame header and the decoder of byte streams."""

from __future__ import annotations

import struct
from itertools import accumulate

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import FrameTooLarge, MalformedFrame
from meshrelay.model import CloseReason
from meshrelay.testing.contracts import check_stream_decoder
from meshrelay.wire.frame import (
    HEADER_BYTES,
    Frame,
    FrameDecoder,
    FrameRun,
    count_frames,
    encode_frame,
    encode_push,
    encode_push_head,
    frame_ends,
    run_of_one,
    split_frames,
    whole_frames,
)
from tests.vectors import load_vectors

VECTORS = [
    (
        vector["name"],
        bytes.fromhex(vector["hex"]),
        Frame(vector["ver"], vector["status"], vector["cmd"], vector["request_id"], bytes.fromhex(vector["payload"])),
    )
    for vector in load_vectors("frame")["frames"]
]


class VectorTests(SynchronousTestCase):
    """Frames as the specification draws them."""

    def test_decoded(self) -> None:
        """Each frame of the specification is read field by field."""
        for name, data, frame in VECTORS:
            self.assertEqual(list(FrameDecoder(65536).frames(data)), [frame], name)

    def test_encoded(self) -> None:
        """Each frame is written byte for byte as the specification says."""
        for name, data, frame in VECTORS:
            self.assertEqual(encode_frame(*frame), data, name)

    def test_pushes(self) -> None:
        """A push has status 255 and no request ID."""
        pushes = [(data, frame) for _, data, frame in VECTORS if frame.status == 255]
        self.assertEqual(len(pushes), 2)
        for data, frame in pushes:
            self.assertEqual(encode_push(frame.ver, frame.cmd, frame.payload), data)

    def test_out_of_range(self) -> None:
        """A number that its field cannot hold is never cut to fit."""
        for numbers in ((256, 0, 0, 0), (0, 256, 0, 0), (0, 0, 65536, 0), (0, 0, 0, 1 << 32), (0, 0, 0, -1)):
            self.assertRaises(struct.error, encode_frame, *numbers, b"")


class RunTests(SynchronousTestCase):
    """Neighbours of one kind come out together."""

    def test_kinds(self) -> None:
        """A run ends where ver, status or cmd changes; request IDs and payloads may differ."""
        kinds = [(1, 0, 5), (1, 0, 5), (2, 0, 5), (2, 1, 5), (2, 1, 6), (2, 1, 6), (1, 0, 5)]
        frames = [Frame(*kind, number, bytes(number)) for number, kind in enumerate(kinds)]
        runs = list(FrameDecoder(100).runs(b"".join(encode_frame(*frame) for frame in frames)))
        self.assertEqual([run.request_ids for run in runs], [[0, 1], [2], [3], [4, 5], [6]])
        self.assertEqual([frame for run in runs for frame in run.frames()], frames)
        self.assertEqual([run.is_reliable for run in runs], [False, False, True, True, False])

    def test_before_too_large(self) -> None:
        """What came before a frame that is too large is taken first."""
        runs = iter(FrameDecoder(3).runs(encode_frame(1, 0, 5, 1, b"one") + encode_frame(1, 0, 5, 2, b"four")))
        self.assertEqual(next(runs), FrameRun(1, 0, 5, [1], [b"one"]))
        self.assertRaises(FrameTooLarge, next, runs)

    def test_too_large_in_pieces(self) -> None:
        """A frame that is too large is refused with the last byte of its header, however that came."""
        decoder = FrameDecoder(3)
        data = encode_frame(1, 0, 5, 2, b"four")[:HEADER_BYTES]
        for place in range(HEADER_BYTES - 1):
            self.assertEqual(list(decoder.runs(data[place : place + 1])), [])
        self.assertRaises(FrameTooLarge, list, decoder.runs(data[-1:]))

    def test_split(self) -> None:
        """A run can be cut anywhere."""
        run = FrameRun(1, 0, 5, [1, 2, 3], [b"a", b"b", b"c"])
        self.assertEqual(run.split(1), (FrameRun(1, 0, 5, [1], [b"a"]), FrameRun(1, 0, 5, [2, 3], [b"b", b"c"])))
        self.assertEqual(run.split(3)[1].payloads, [])

    def test_of_one(self) -> None:
        """A single frame is a run as well."""
        frame = Frame(1, 1, 5, 9, b"x")
        self.assertEqual(run_of_one(frame).frames(), [frame])

    def test_push_head(self) -> None:
        """Head and payload make a push."""
        self.assertEqual(encode_push_head(1, 113, 5) + b"12345", encode_push(1, 113, b"12345"))

    def test_count(self) -> None:
        """Joined frames are counted; one that is cut off is not passed over."""
        data = encode_push(1, 113, b"") + encode_push(1, 113, b"abc")
        self.assertEqual((count_frames(b""), count_frames(data)), (0, 2))
        for cut in range(1, 15):
            self.assertRaises(MalformedFrame, count_frames, data[:-cut])


class EndsTests(SynchronousTestCase):
    """Where joined frames end."""

    @settings(derandomize=True, max_examples=200, deadline=None)
    @given(st.lists(st.sampled_from([0, 1, 12, 256, 300]), max_size=8), st.integers(0, 40))
    def test_ends(self, sizes: list[int], cut: int) -> None:
        """Whether all are of one length or not, the ends are those of the frames; a cut is seen."""
        # Payloads in which lengths could be read.
        frames = [encode_push(1, 113, bytes(range(256))[:size].ljust(size, b"\1")) for size in sizes]
        data = b"".join(frames)
        ends = list(accumulate(map(len, frames)))
        self.assertEqual(frame_ends(data), ends)
        if cut and cut < len(data) and len(data) - cut not in ends:
            self.assertRaises(MalformedFrame, frame_ends, data[:-cut])

    def test_same_length_only_in_sum(self) -> None:
        """Frames of different lengths that together are as long as equal ones are told apart."""
        frames = [encode_push(1, 113, bytes(size)) for size in (20, 10, 30)]
        self.assertEqual(frame_ends(b"".join(frames)), [32, 54, 96])


class MessageTests(SynchronousTestCase):
    """Messages that each end with a frame, as those of a WebSocket must."""

    def test_together(self) -> None:
        """Frames of one kind come out together, whether a message holds one, many or none of them."""
        one, two, three = (encode_frame(1, 0, 5, number, bytes(number)) for number in (1, 2, 3))
        other = encode_frame(1, 1, 5, 4, b"")
        runs = list(FrameDecoder(100).message_runs([one, two, b"", two + three, other, other, one]))
        self.assertEqual([run.request_ids for run in runs], [[1, 2], [2, 3], [4, 4], [1]])
        self.assertEqual([run.status for run in runs], [0, 0, 1, 0])

    def test_rest_of_a_message(self) -> None:
        """The first message may be the end of one whose beginning was taken before, whatever it looks like."""
        inner = encode_frame(1, 0, 6, 2, b"inner")
        data = encode_frame(1, 0, 5, 1, inner)
        for messages in ([inner], [inner, data]):
            decoder = FrameDecoder(100)
            self.assertEqual(list(decoder.runs(data[:HEADER_BYTES])), [])
            frames = [frame for run in decoder.message_runs(messages) for frame in run.frames()]
            self.assertEqual(frames, [Frame(1, 0, 5, 1, inner)] * len(messages))

    def test_cut_off(self) -> None:
        """A message that ends inside a frame is refused, alone or behind good ones, which come out before."""
        good = encode_frame(1, 0, 5, 1, b"one")
        for bad in (good[:5], good[:12], good[:-1], good + good[:-1]):
            self.assertRaises(MalformedFrame, list, FrameDecoder(100).message_runs([bad]))
            runs = iter(FrameDecoder(100).message_runs([good, good, bad, good]))
            self.assertEqual(next(runs).request_ids, [1, 1])
            self.assertRaises(MalformedFrame, list, runs)

    def test_too_large(self) -> None:
        """A frame that is too large is refused, alone or behind good ones, which come out before."""
        good, bad = encode_frame(1, 0, 5, 1, b"one"), encode_frame(1, 0, 5, 1, b"four")
        self.assertRaises(FrameTooLarge, list, FrameDecoder(3).message_runs([bad]))
        runs = iter(FrameDecoder(3).message_runs([good, bad, good]))
        self.assertEqual(next(runs).request_ids, [1])
        self.assertRaises(FrameTooLarge, list, runs)


class CutTests(SynchronousTestCase):
    """A stream arrives in pieces of any size."""

    def test_every_cut(self) -> None:
        """Wherever a stream is cut, the same frames come out, each as soon as it is whole."""
        stream = b""
        ends = []
        for _, data, frame in VECTORS:
            stream += data
            ends.append((len(stream), frame))
        check_stream_decoder(lambda: FrameDecoder(65536).frames, stream, ends)

    @settings(derandomize=True, max_examples=60, deadline=None)
    @given(st.lists(st.binary(max_size=40), max_size=6), st.lists(st.integers(1, 60), min_size=1, max_size=8))
    def test_random_cuts(self, payloads: list[bytes], sizes: list[int]) -> None:
        """Reads of changing size give what one large read gives."""
        stream = b"".join(encode_push(1, index, payload) for index, payload in enumerate(payloads))
        decoder = FrameDecoder(64)
        frames: list[Frame] = []
        start = index = 0
        while start < len(stream):
            size = sizes[index % len(sizes)]
            frames += decoder.frames(stream[start : start + size])
            start += size
            index += 1
        self.assertEqual([frame.payload for frame in frames], payloads)
        self.assertEqual(decoder.buffered_bytes, 0)

    def test_empty_read(self) -> None:
        """A read of nothing changes nothing."""
        decoder = FrameDecoder(16)
        self.assertEqual(list(decoder.frames(b"")), [])
        self.assertEqual(list(decoder.frames(b"\x01")), [])
        self.assertEqual(list(decoder.frames(b"")), [])
        self.assertEqual(decoder.buffered_bytes, 1)

    def test_payload_is_bytes(self) -> None:
        """A payload never changes afterwards, even when it came in two pieces."""
        data = encode_push(1, 1, b"abc")
        decoder = FrameDecoder(16)
        list(decoder.frames(data[:13]))
        (frame,) = decoder.frames(data[13:])
        self.assertIs(type(frame.payload), bytes)


class BoundTests(SynchronousTestCase):
    """Nobody makes the node hold more than max_payload_bytes."""

    def test_at_the_limit(self) -> None:
        """A payload of exactly the limit is taken."""
        self.assertEqual([len(frame.payload) for frame in FrameDecoder(10).frames(encode_push(1, 1, b"x" * 10))], [10])

    def test_over_the_limit(self) -> None:
        """One byte more is refused as soon as the header is there, before any of the payload."""
        header = encode_push(1, 1, b"x" * 11)[:HEADER_BYTES]
        decoder = FrameDecoder(10)
        self.assertEqual(list(decoder.frames(header[:11])), [])
        error = self.assertRaises(FrameTooLarge, list, decoder.frames(header[11:]))
        self.assertEqual((error.size_bytes, error.limit_bytes), (11, 10))
        self.assertIs(error.close_reason, CloseReason.FRAME_TOO_LARGE)

    def test_good_frames_first(self) -> None:
        """What came before an oversized frame is still delivered."""
        stream = encode_push(1, 1, b"good") + encode_push(1, 2, b"x" * 11)
        frames = FrameDecoder(10).frames(stream)
        self.assertEqual(next(frames).payload, b"good")
        self.assertRaises(FrameTooLarge, next, frames)

    def test_buffer(self) -> None:
        """An unfinished frame is all that is ever held."""
        decoder = FrameDecoder(10)
        data = encode_push(1, 1, b"x" * 10)
        for _ in range(50):
            list(decoder.frames(data + data[:-1]))
            self.assertLess(decoder.buffered_bytes, HEADER_BYTES + 10)
            self.assertEqual(len(list(decoder.frames(data[-1:]))), 1)
        self.assertEqual(decoder.buffered_bytes, 0)

    @settings(derandomize=True, max_examples=100, deadline=None)
    @given(st.binary(max_size=200))
    def test_garbage(self, garbage: bytes) -> None:
        """Garbage gives frames or FrameTooLarge, and never leaves more behind than the limit."""
        decoder = FrameDecoder(50)
        try:
            list(decoder.frames(garbage))
        except FrameTooLarge:
            return
        self.assertLess(decoder.buffered_bytes, HEADER_BYTES + 50)


class SplitTests(SynchronousTestCase):
    """Frames that were joined come apart again."""

    def test_split(self) -> None:
        """Joined frames are cut where they were joined."""
        frames = [data for _, data, _ in VECTORS]
        self.assertEqual(split_frames(b"".join(frames)), frames)
        self.assertEqual(split_frames(b""), [])

    def test_whole(self) -> None:
        """A datagram is read to its end."""
        self.assertEqual(
            whole_frames(b"".join(data for _, data, _ in VECTORS), 100), [frame for _, _, frame in VECTORS]
        )

    def test_truncated(self) -> None:
        """A datagram whose last frame is cut off is refused as a whole."""
        for _, data, _ in VECTORS:
            for size in range(1, len(data)):
                self.assertRaises(MalformedFrame, whole_frames, data[:size], 100)

    def test_whole_too_large(self) -> None:
        """A datagram obeys max_payload_bytes as well."""
        self.assertRaises(FrameTooLarge, whole_frames, encode_push(1, 1, b"x" * 11), 10)
