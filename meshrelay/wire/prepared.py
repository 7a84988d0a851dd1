"""Frames that go to many receivers, encoded once and joined once for each way of writing them.

A `Batch` is what one turn (or one merging interval) has for one set of receivers. Each form is made when the first
receiver asks for it and then shared: a thousand TCP members cost one join.

==============  =================================================================================
form            for
==============  =================================================================================
stream          TCP: the frames back to back
websocket       WebSocket: whole messages, each with one or more frames
datagrams       UDP: contents of DATA packets, each with one or more frames
==============  =================================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

from meshrelay.wire.frame import HEADER_BYTES
from meshrelay.wire.websocket import encode_message

__all__ = ["MAX_DATAGRAM_CONTENT", "Batch", "pack_frames"]

#: What fits a datagram of 1,400 bytes behind the packet header (26) and before the AEAD tag (16).
MAX_DATAGRAM_CONTENT = 1400 - 26 - 16

#: A WebSocket message with more than one frame is at most as long as the longest single frame of the default
#: configuration, so that a client may limit its messages to that.
MAX_MERGED_MESSAGE = 65536 + HEADER_BYTES


def pack_frames(frames: Iterable[bytes], limit_bytes: int) -> list[tuple[bytes, int]]:
    """Join neighbours as long as they fit.

    :returns: (bytes, count of frames) in order. A single frame over the limit stands alone.
    """
    packed: list[tuple[bytes, int]] = []
    waiting: list[bytes] = []
    size = 0
    for frame in frames:
        if waiting and size + len(frame) > limit_bytes:
            packed.append((b"".join(waiting), len(waiting)))
            waiting = []
            size = 0
        waiting.append(frame)
        size += len(frame)
    if waiting:
        packed.append((b"".join(waiting), len(waiting)))
    return packed


class Batch:
    """Frames for the same receivers, in order.

    :param frames: at least one, each as `meshrelay.wire.frame.encode_push` made it.
    :param reliables: for each frame whether it must arrive. None: all must.
    """

    def __init__(self, frames: Sequence[bytes], reliables: Sequence[bool] | None = None) -> None:
        self.frames = frames
        self.count = len(frames)
        self._reliables = reliables

    @cached_property
    def stream(self) -> bytes:
        """All frames back to back."""
        return b"".join(self.frames) if self.count > 1 else self.frames[0]

    @cached_property
    def websocket(self) -> list[tuple[bytes, int]]:
        """Whole WebSocket messages and the count of frames in each."""
        if len(self.stream) <= MAX_MERGED_MESSAGE or self.count == 1:
            return [(encode_message(self.stream), self.count)]
        return [(encode_message(data), count) for data, count in pack_frames(self.frames, MAX_MERGED_MESSAGE)]

    @cached_property
    def datagrams(self) -> list[tuple[bytes, int]]:
        """Contents of datagrams and the count of frames in each. A frame that no datagram holds stands alone."""
        return pack_frames(self.frames, MAX_DATAGRAM_CONTENT)

    @cached_property
    def reliable(self) -> Batch | None:
        """The frames that must arrive; None when there are none."""
        if self._reliables is None or all(self._reliables):
            return self
        frames = [frame for frame, reliable in zip(self.frames, self._reliables, strict=True) if reliable]
        return Batch(frames) if frames else None

    @cached_property
    def unreliable(self) -> Batch | None:
        """The frames that may be lost; None when there are none."""
        if self._reliables is None or all(self._reliables):
            return None
        frames = [frame for frame, reliable in zip(self.frames, self._reliables, strict=True) if not reliable]
        return Batch(frames, [False] * len(frames))
