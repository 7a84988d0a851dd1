"""Frames that go to many receivers, encoded once and joined once for each way of writing them.

A `Batch` is what one turn (or one merging interval) has for one set of receivers. Each form is made when the first
receiver asks for it and then shared: a thousand TCP members cost one join.

==============  =================================================================================
form            for
==============  =================================================================================
stream          TCP: the frames back to back
websocket       WebSocket: whole messages back to back, each with one or more frames
datagrams       UDP: contents of DATA packets, each with one or more frames
==============  =================================================================================
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import compress, repeat
from typing import TYPE_CHECKING, Generic, TypeVar

from meshrelay.wire.frame import HEADER_BYTES, frame_ends
from meshrelay.wire.websocket import encode_message

__all__ = ["MAX_DATAGRAM_CONTENT", "Batch", "pack_frames"]

#: What fits a datagram of 1,400 bytes behind the packet header (26) and before the AEAD tag (16).
MAX_DATAGRAM_CONTENT = 1400 - 26 - 16

#: A WebSocket message with more than one frame is at most as long as the longest single frame of the default
#: configuration, so that a client may limit its messages to that.
MAX_MERGED_MESSAGE = 65536 + HEADER_BYTES


def pack_frames(
    frames: Iterable[bytes], limit_bytes: int, counts: Iterable[int] | None = None
) -> list[tuple[bytes, int]]:
    """Join neighbours as long as they fit.

    :param counts: of the frames that each of `frames` is; what does not fit is taken apart.
    :returns: (bytes, count of frames) in order. A single frame over the limit stands alone.
    """
    packed: list[tuple[bytes, int]] = []
    waiting: list[bytes] = []
    size = 0
    waiting_count = 0
    for data, count in _fitting(frames, limit_bytes, counts):
        if waiting and size + len(data) > limit_bytes:
            packed.append((b"".join(waiting), waiting_count))
            waiting = []
            size = waiting_count = 0
        waiting.append(data)
        size += len(data)
        waiting_count += count
    if waiting:
        packed.append((b"".join(waiting), waiting_count))
    return packed


def _fitting(frames: Iterable[bytes], limit_bytes: int, counts: Iterable[int] | None) -> Iterator[tuple[bytes, int]]:
    for data, count in zip(frames, repeat(1) if counts is None else counts, strict=False):
        if count > 1 and len(data) > limit_bytes:
            yield from _cut(data, limit_bytes)
        else:
            yield data, count


def _cut(data: bytes, limit_bytes: int) -> Iterator[tuple[bytes, int]]:
    """Take joined frames apart into pieces that fit, each with as many as it can hold."""
    ends = frame_ends(data)
    start = first = 0
    while first < len(ends):
        stop = max(first + 1, bisect_right(ends, start + limit_bytes, first))
        yield data[start : ends[stop - 1]], stop - first
        start, first = ends[stop - 1], stop


T = TypeVar("T")


class _MadeOnce(Generic[T]):
    """A form of a batch: made when it is first asked for; from then on the attribute is the form itself.

    Not cached_property: it takes a lock, and a batch of one message is made for each direct message.
    """

    def __init__(self, make: Callable[[Batch], T]) -> None:
        self._make = make

    def __set_name__(self, owner: type[Batch], name: str) -> None:
        self._name = name

    def __get__(self, batch: Batch, owner: type[Batch]) -> T:
        form = self._make(batch)
        setattr(batch, self._name, form)
        return form

    if TYPE_CHECKING:

        def __set__(self, batch: Batch, form: T) -> None: ...


class Batch:
    """Frames for the same receivers, in order.

    :param frames: at least one, each as `meshrelay.wire.frame.encode_push` made it, or several such joined.
    :param reliables: for each of `frames` whether it must arrive. None: all must.
    :param counts: of the frames that each of `frames` is. None: one each.
    :ivar count: of frames, one by one.
    """

    #: The reliable ones and the others.
    _parts: tuple[Batch | None, Batch | None] | None = None

    def __init__(
        self, frames: Sequence[bytes], reliables: Sequence[bool] | None = None, counts: Sequence[int] | None = None
    ) -> None:
        self.frames = frames
        self.count = len(frames) if counts is None else sum(counts)
        self._reliables = reliables
        self._counts = counts
        if len(frames) == 1:
            self.stream = frames[0]

    @_MadeOnce
    def stream(self) -> bytes:
        """All frames back to back."""
        return b"".join(self.frames)

    @_MadeOnce
    def entry(self) -> tuple[bytes, int]:
        """The stream and the count of frames in it."""
        return self.stream, self.count

    @_MadeOnce
    def websocket(self) -> bytes:
        """Whole WebSocket messages back to back."""
        stream = self.stream
        if len(stream) <= MAX_MERGED_MESSAGE or self.count == 1:
            return encode_message(stream)
        packed = pack_frames(self.frames, MAX_MERGED_MESSAGE, self._counts)
        return b"".join([encode_message(data) for data, _ in packed])

    @_MadeOnce
    def datagrams(self) -> list[tuple[bytes, int]]:
        """Contents of datagrams and the count of frames in each. A frame that no datagram holds stands alone."""
        return pack_frames(self.frames, MAX_DATAGRAM_CONTENT, self._counts)

    @property
    def reliable(self) -> Batch | None:
        """The frames that must arrive; None when there are none."""
        return self._split()[0]

    @property
    def unreliable(self) -> Batch | None:
        """The frames that may be lost; None when there are none."""
        return self._split()[1]

    def _split(self) -> tuple[Batch | None, Batch | None]:
        if self._parts is None:
            reliables = self._reliables
            if reliables is None or all(reliables):
                # Said once and not kept as a part: a batch that holds itself would wait for the garbage collector.
                self._reliables = None
                return self, None
            self._parts = self._those(reliables, None), self._those([not each for each in reliables], False)
        return self._parts

    def _those(self, wanted: Sequence[bool], reliable: bool | None) -> Batch | None:
        frames = list(compress(self.frames, wanted))
        if not frames:
            return None
        reliables = None if reliable is None else [reliable] * len(frames)
        return Batch(frames, reliables, None if self._counts is None else list(compress(self._counts, wanted)))
