"""Frames: the unit that clients and nodes exchange (client protocol, section 1).

======  =====  ==========  ==========================================================
offset  bytes  field       meaning
======  =====  ==========  ==========================================================
0       1      ver         0 core, 1 built-in commands, 2 to 255 the application's
1       1      status      see `meshrelay.model.Status`
2       2      cmd         command
4       4      request_id  echoed in the one response; 0 = no response, and all pushes
8       4      length      bytes of payload
12      ...    payload
======  =====  ==========  ==========================================================

All integers are big-endian. `FrameDecoder` takes a byte stream cut anywhere: TCP reads, or the data of WebSocket
messages. The slices that come out are copies of the payload alone: at the sizes that relays carry a memoryview
costs more than the copy (see docs/decisions).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct
from typing import NamedTuple

from meshrelay.errors import FrameTooLarge, MalformedFrame
from meshrelay.model import Status

__all__ = [
    "HEADER_BYTES",
    "Frame",
    "FrameDecoder",
    "FrameRun",
    "count_frames",
    "encode_frame",
    "encode_push",
    "encode_push_head",
    "frame_ends",
    "run_of_one",
    "split_frames",
    "whole_frames",
]

_HEADER = Struct("!BBHII")

#: The same with ver, status and cmd as one number: the kind of the frame.
_KIND_HEADER = Struct("!III")

HEADER_BYTES = 12

_PUSH = Status.PUSH.value

_new_tuple = tuple.__new__


class Frame(NamedTuple):
    """One frame. `payload` is its own bytes object."""

    ver: int
    status: int
    cmd: int
    request_id: int
    payload: bytes


def encode_frame(ver: int, status: int, cmd: int, request_id: int, payload: bytes) -> bytes:
    """Return the frame as bytes.

    :raises struct.error: a number is out of its range; the caller's bug.
    """
    return _HEADER.pack(ver, status, cmd, request_id, len(payload)) + payload


def encode_push(ver: int, cmd: int, payload: bytes) -> bytes:
    """Return a frame that answers nothing: status PUSH, request ID 0."""
    return _HEADER.pack(ver, _PUSH, cmd, 0, len(payload)) + payload


def encode_push_head(ver: int, cmd: int, payload_bytes: int) -> bytes:
    """Return what stands before the payload of a push."""
    return _HEADER.pack(ver, _PUSH, cmd, 0, payload_bytes)


class FrameRun(NamedTuple):
    """Neighbours of one kind: frames that differ in request ID and payload alone.

    Most of what a busy client sends is of one kind; taking it as a run costs a fraction of taking it frame by frame.

    :ivar request_ids: of each frame.
    :ivar payloads: of each frame, its own bytes object.
    """

    ver: int
    status: int
    cmd: int
    request_ids: list[int]
    payloads: list[bytes]

    @property
    def is_reliable(self) -> bool:
        """What these commands of a client cause must arrive."""
        return bool(self.status & 1)

    def frames(self) -> list[Frame]:
        """Each frame by itself."""
        ver, status, cmd, request_ids, payloads = self
        return [
            Frame(ver, status, cmd, request_id, payload)
            for request_id, payload in zip(request_ids, payloads, strict=True)
        ]

    def split(self, count: int) -> tuple[FrameRun, FrameRun]:
        """The first `count` frames, and the rest."""
        ver, status, cmd, request_ids, payloads = self
        first = FrameRun(ver, status, cmd, request_ids[:count], payloads[:count])
        return first, FrameRun(ver, status, cmd, request_ids[count:], payloads[count:])


def run_of_one(frame: Frame) -> FrameRun:
    """Return a run with nothing but `frame`."""
    return FrameRun(frame.ver, frame.status, frame.cmd, [frame.request_id], [frame.payload])


def _run_of(kind: int, request_ids: list[int], payloads: list[bytes]) -> FrameRun:
    # A call of the class costs twice as much, and one is made for each read.
    return _new_tuple(FrameRun, (kind >> 24, kind >> 16 & 0xFF, kind & 0xFFFF, request_ids, payloads))


class FrameDecoder:
    """Cuts a byte stream into frames.

    Holds at most one unfinished frame: `max_payload_bytes` and a header. A frame that announces more is refused
    as soon as its header is there, after all frames before it came out.

    :param max_payload_bytes: largest payload taken, in bytes.
    """

    __slots__ = ("_max_payload_bytes", "_partial")

    def __init__(self, max_payload_bytes: int) -> None:
        self._max_payload_bytes = max_payload_bytes
        self._partial = bytearray()

    @property
    def buffered_bytes(self) -> int:
        """Bytes of the unfinished frame at the end of what was received."""
        return len(self._partial)

    def frames(self, data: bytes) -> Iterator[Frame]:
        """Take `data` and yield each frame that is now whole; see `runs`."""
        for run in self.runs(data):
            yield from run.frames()

    def runs(self, data: bytes) -> Iterable[FrameRun]:
        """Take `data` and give the frames that are now whole, neighbours of one kind together.

        Take all of them, or close the connection: what an abandoned iterator did not yield is lost.

        :raises FrameTooLarge: the peer's fault; nothing can be decoded after it.
        """
        run = self._only_frame(data) if not self._partial else None
        return self._runs(data) if run is None else (run,)

    def _only_frame(self, data: bytes) -> FrameRun | None:
        """Read what clients send that are not in a hurry: nothing but one frame. None: it is not that simple."""
        if len(data) >= HEADER_BYTES:
            kind, request_id, length = _KIND_HEADER.unpack_from(data)
            if length == len(data) - HEADER_BYTES and length <= self._max_payload_bytes:
                # As `_run_of`, whose call is a tenth of what this costs.
                ver, status, cmd = kind >> 24, kind >> 16 & 0xFF, kind & 0xFFFF
                return _new_tuple(FrameRun, (ver, status, cmd, [request_id], [data[HEADER_BYTES:]]))
        return None

    def _runs(self, data: bytes) -> Iterator[FrameRun]:
        if self._partial:
            self._partial += data
            if self._is_unfinished():
                return
            data = bytes(self._partial)
            self._partial.clear()
        unpack = _KIND_HEADER.unpack_from
        limit = self._max_payload_bytes
        run_kind = -1
        request_ids: list[int] = []
        payloads: list[bytes] = []
        start = 0
        end = len(data)
        while end - start >= HEADER_BYTES:
            kind, request_id, length = unpack(data, start)
            if length > limit:
                if payloads:
                    yield _run_of(run_kind, request_ids, payloads)
                raise FrameTooLarge(length, limit)
            body = start + HEADER_BYTES
            stop = body + length
            if stop > end:
                break
            if kind != run_kind:
                if payloads:
                    yield _run_of(run_kind, request_ids, payloads)
                run_kind, request_ids, payloads = kind, [], []
            request_ids.append(request_id)
            payloads.append(data[body:stop])
            start = stop
        if start < end:
            self._partial += data[start:] if start else data
        if payloads:
            yield _run_of(run_kind, request_ids, payloads)

    def message_runs(self, messages: list[bytes]) -> Iterable[FrameRun]:
        """Take messages, each of which ends with a frame, and yield their frames; see `runs`.

        :param messages: the first one may be the end of a message that `runs` took the beginning of.
        :raises FrameTooLarge: the peer's fault.
        :raises MalformedFrame: a message ends inside a frame; the peer's fault. Comes after what is good.
        """
        if len(messages) == 1 and not self._partial:
            run = self._only_frame(messages[0])
            if run is not None:
                return (run,)
        return self._message_runs(messages)

    def _message_runs(self, messages: list[bytes]) -> Iterator[FrameRun]:
        unpack, limit = _KIND_HEADER.unpack_from, self._max_payload_bytes
        run_kind = -1
        request_ids: list[int] = []
        payloads: list[bytes] = []
        for message in messages:
            size = len(message) - HEADER_BYTES
            if size >= 0 and not self._partial:
                kind, request_id, length = unpack(message)
                if length == size <= limit:
                    # One frame: what almost every message is.
                    if kind != run_kind:
                        if payloads:
                            yield _run_of(run_kind, request_ids, payloads)
                        run_kind, request_ids, payloads = kind, [], []
                    request_ids.append(request_id)
                    payloads.append(message[HEADER_BYTES:])
                    continue
            if payloads:
                yield _run_of(run_kind, request_ids, payloads)
            run_kind, request_ids, payloads = -1, [], []
            yield from self.runs(message)
            if self._partial:
                raise MalformedFrame("a message ends inside a frame")
        if payloads:
            yield _run_of(run_kind, request_ids, payloads)

    def _is_unfinished(self) -> bool:
        """Whether not even the first frame is whole; one with a payload over the limit counts as whole."""
        partial = self._partial
        if len(partial) < HEADER_BYTES:
            return True
        length: int = _KIND_HEADER.unpack_from(partial)[2]
        return length <= self._max_payload_bytes and len(partial) < HEADER_BYTES + length


def split_frames(data: bytes) -> list[bytes]:
    """Return the frames that `data`, made by `encode_frame` and joined, consists of; each still encoded.

    :raises MalformedFrame: the last one is cut off.
    """
    ends = frame_ends(data)
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def count_frames(data: bytes) -> int:
    """Return how many frames `data`, made by `encode_frame` and joined, consists of.

    :raises MalformedFrame: the last one is cut off.
    """
    return len(frame_ends(data))


def frame_ends(data: bytes) -> list[int]:
    """Return where each frame of `data` ends, which `encode_frame` made and which were joined.

    :raises MalformedFrame: the last one is cut off.
    """
    unpack = _KIND_HEADER.unpack_from
    end, size = 0, len(data)
    if size >= HEADER_BYTES:
        first = HEADER_BYTES + unpack(data)[2]
        if _are_all_of(first, data):
            return list(range(first, size + 1, first))
    ends = []
    while end < size:
        if end + HEADER_BYTES > size:
            raise MalformedFrame("joined frames: the last header is cut off")
        end += HEADER_BYTES + unpack(data, end)[2]
        ends.append(end)
    if end > size:
        raise MalformedFrame("joined frames: the last one is cut off")
    return ends


def _are_all_of(size: int, data: bytes) -> bool:
    """Whether each frame is as long as the first one: a fraction of the cost of walking from one to the next.

    The second begins where the first ends. If its length is the same there, the third begins as far behind, and so on.
    """
    count, rest = divmod(len(data), size)
    return not rest and all(data[at::size] == data[at : at + 1] * count for at in range(8, HEADER_BYTES))


def whole_frames(data: bytes, max_payload_bytes: int) -> list[Frame]:
    """Return the frames of `data`, which must end with one: the content of a datagram.

    :raises MalformedFrame: the last frame is cut off; the peer's fault.
    :raises FrameTooLarge: the peer's fault.
    """
    decoder = FrameDecoder(max_payload_bytes)
    frames = list(decoder.frames(data))
    if decoder.buffered_bytes:
        raise MalformedFrame(f"the last {decoder.buffered_bytes} bytes of a datagram are not a whole frame")
    return frames
