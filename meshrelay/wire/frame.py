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

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

from meshrelay.errors import FrameTooLarge, MalformedFrame
from meshrelay.model import Status

__all__ = ["HEADER_BYTES", "Frame", "FrameDecoder", "encode_frame", "encode_push", "split_frames", "whole_frames"]

_HEADER = Struct("!BBHII")

HEADER_BYTES = 12

_PUSH = Status.PUSH.value


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
        """Take `data` and yield each frame that is now whole.

        Take all of them, or close the connection: what an abandoned iterator did not yield is lost.

        :raises FrameTooLarge: the peer's fault; nothing can be decoded after it.
        """
        unpack = _HEADER.unpack_from
        limit = self._max_payload_bytes
        partial = self._partial
        source: bytes | bytearray = data
        if partial:
            partial += data
            source = partial
        start = 0
        end = len(source)
        while end - start >= HEADER_BYTES:
            ver, status, cmd, request_id, length = unpack(source, start)
            if length > limit:
                raise FrameTooLarge(length, limit)
            body = start + HEADER_BYTES
            if end - body < length:
                break
            start = body + length
            yield Frame(ver, status, cmd, request_id, bytes(source[body:start]))
        if source is partial:
            del partial[:start]
        elif start < end:
            partial += data[start:] if start else data


def split_frames(data: bytes) -> list[bytes]:
    """Return the frames that `data`, made by `encode_frame` and joined, consists of; each still encoded.

    :raises MalformedFrame: the last one is cut off.
    """
    frames = []
    start, size = 0, len(data)
    while start < size:
        if start + HEADER_BYTES > size:
            raise MalformedFrame("joined frames: the last header is cut off")
        end = start + HEADER_BYTES + _HEADER.unpack_from(data, start)[4]
        frames.append(data[start:end])
        start = end
    if start > size:
        raise MalformedFrame("joined frames: the last one is cut off")
    return frames


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
