"""What nodes ask each other about sessions: the payloads of the calls ``session.*``, as msgpack.

===============  ================  ============  =======================================================
call             request           answer        meaning
===============  ================  ============  =======================================================
session.end      `EndRequest`      empty         a newer sign-in is elsewhere: end this one
session.release  `SessionName`     `Handover`    the client is with me now: give me what you have of it
session.recall   `SessionName`     `Recalled`    what do you know of this session, its node may be gone
===============  ================  ============  =======================================================

A sid is the secret of a client; who does not know it is told that nothing was found. Maps are used, and members that
are not known are passed over, so that a newer node may say more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeVar

import msgspec

from meshrelay.errors import MalformedFrame, RemoteProtocolError
from meshrelay.model import Status, check_user_id
from meshrelay.wire.buffer import GROUP_ID_BYTES
from meshrelay.wire.commands import CORE_VER
from meshrelay.wire.frame import split_frames, whole_frames
from meshrelay.wire.node import MAX_CALL_BYTES

__all__ = [
    "MAX_GROUPS",
    "EndRequest",
    "Handover",
    "Recalled",
    "SessionName",
    "decode_end",
    "decode_handover",
    "decode_name",
    "decode_recalled",
    "encode_end",
    "encode_handover",
    "encode_name",
    "encode_recalled",
    "is_sid",
    "join_group_ids",
    "fit_handover",
    "split_group_ids",
]

#: Groups of one session that go with it, its rooms included.
MAX_GROUPS = 10_000

#: What a `Handover` needs beside frames and group IDs: names of members and numbers.
_OVERHEAD_BYTES = 256

_MAX_NUMBER = (1 << 63) - 1

_SID = re.compile(r"[0-9a-f]{32}")

T = TypeVar("T")


def is_sid(text: str) -> bool:
    """Whether a node could have made this sid: 32 lower-case hex digits."""
    return _SID.fullmatch(text) is not None


def _check_name(user_id: str, sid: str) -> None:
    check_user_id(user_id)
    if not is_sid(sid):
        raise ValueError("sid is not 32 hex digits")


def _check_groups(groups: bytes) -> None:
    if len(groups) % GROUP_ID_BYTES or len(groups) > MAX_GROUPS * GROUP_ID_BYTES or not groups.isascii():
        raise ValueError(f"{len(groups)} bytes of group IDs")


def join_group_ids(group_ids: Iterable[str]) -> bytes:
    """Return group IDs as they travel: one after the other, the first `MAX_GROUPS` of them.

    :raises ValueError: one is not of 52 ASCII characters; the caller's bug.
    """
    groups = "".join(list(group_ids)[:MAX_GROUPS]).encode("ascii")
    _check_groups(groups)
    return groups


def split_group_ids(groups: bytes) -> list[str]:
    """The reverse of `join_group_ids`."""
    text = groups.decode("ascii")
    return [text[start : start + GROUP_ID_BYTES] for start in range(0, len(text), GROUP_ID_BYTES)]


class SessionName(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which session is meant."""

    user_id: str
    sid: str
    #: In session.release: how long ago the client said HELLO to the node that asks. None: that node does not say.
    age_ms: int | None = None
    #: Of that HELLO, likewise.
    stamp: int = 0

    def __post_init__(self) -> None:
        _check_name(self.user_id, self.sid)
        _check_number(self.age_ms or 0)
        _check_number(self.stamp)


class EndRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which session is over, unless its node has said since that its user is there."""

    user_id: str
    sid: str
    #: Of the sign-in that was displaced in the directory.
    stamp: int
    #: The session that displaced it, at the node that asks, and its stamp; "" = it is not there any more, or not said.
    by_sid: str = ""
    by_stamp: int = 0

    def __post_init__(self) -> None:
        _check_name(self.user_id, self.sid)
        _check_number(self.stamp)
        if self.by_sid:
            _check_name(self.user_id, self.by_sid)
        _check_number(self.by_stamp)


class Handover(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a session takes along. Pushes are counted over the whole session, not mod 2^32."""

    #: False: there is no such session, or it stays where it is, and all but the stamp means nothing.
    is_found: bool = False
    #: Of the last sign-in that its node told the directory; 0 = none. When it stays: of that newer sign-in.
    stamp: int = 0
    #: Pushes before the first one kept.
    first: int = 0
    #: Pushes before those that came while nobody was connected.
    left_at: int = 0
    #: The client's count and this one are about the same pushes.
    is_exact: bool = False
    #: Nothing was given up of what has to be kept.
    is_whole: bool = True
    #: The session was between two nodes before, and its client has not been told since.
    has_lapse: bool = False
    #: The pushes that were kept, joined, oldest first.
    frames: bytes = b""
    #: See `join_group_ids`; in the order in which they were joined.
    groups: bytes = b""
    #: The same of rooms.
    rooms: bytes = b""

    def __post_init__(self) -> None:
        for number in (self.stamp, self.first, self.left_at):
            _check_number(number)
        _check_groups(self.groups)
        _check_groups(self.rooms)


class Recalled(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a node knows of a session."""

    #: It is a session of this very node.
    is_live: bool = False
    #: And nobody is connected to it.
    is_away: bool = False
    #: Groups that have it as a member, there or on a node that was lost; see `join_group_ids`.
    groups: bytes = b""
    #: Rooms of that node that have it as a member; likewise.
    rooms: bytes = b""

    def __post_init__(self) -> None:
        _check_groups(self.groups)
        _check_groups(self.rooms)


def _check_number(number: int) -> None:
    if not 0 <= number <= _MAX_NUMBER:
        raise ValueError(f"{number} is not between 0 and {_MAX_NUMBER}")


def fit_handover(handover: Handover) -> Handover:
    """Return `handover` so that it fits a call: the oldest frames are given up when it is too large."""
    room = MAX_CALL_BYTES - _OVERHEAD_BYTES - len(handover.groups) - len(handover.rooms)
    if len(handover.frames) <= room:
        return handover
    frames = split_frames(handover.frames)
    size = len(handover.frames)
    dropped = 0
    while dropped < len(frames) and size > room:
        size -= len(frames[dropped])
        dropped += 1
    return msgspec.structs.replace(
        handover, frames=b"".join(frames[dropped:]), first=handover.first + dropped, is_whole=False
    )


_ENCODER = msgspec.msgpack.Encoder()
_NAME = msgspec.msgpack.Decoder(SessionName)
_END = msgspec.msgpack.Decoder(EndRequest)
_HANDOVER = msgspec.msgpack.Decoder(Handover)
_RECALLED = msgspec.msgpack.Decoder(Recalled)


def _decode(decoder: msgspec.msgpack.Decoder[T], payload: bytes) -> T:
    try:
        return decoder.decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MalformedFrame(f"{decoder.type.__name__}: {error}") from None


def encode_name(name: SessionName) -> bytes:
    """Return the payload of session.release and session.recall."""
    return _ENCODER.encode(name)


def decode_name(payload: bytes) -> SessionName:
    """The reverse of `encode_name`.

    :raises MalformedFrame: the other node's fault.
    """
    return _decode(_NAME, payload)


def encode_end(request: EndRequest) -> bytes:
    """Return the payload of session.end."""
    return _ENCODER.encode(request)


def decode_end(payload: bytes) -> EndRequest:
    """The reverse of `encode_end`.

    :raises MalformedFrame: the other node's fault.
    """
    return _decode(_END, payload)


def encode_handover(handover: Handover) -> bytes:
    """Return the answer to session.release."""
    return _ENCODER.encode(handover)


def decode_handover(payload: bytes) -> Handover:
    """The reverse of `encode_handover`.

    :raises MalformedFrame: the other node's fault; also when what was kept are not whole pushes.
    """
    handover = _decode(_HANDOVER, payload)
    try:
        frames = whole_frames(handover.frames, MAX_CALL_BYTES)
    except RemoteProtocolError as error:
        raise MalformedFrame(f"Handover: {error}") from None
    if any(frame.status != Status.PUSH or frame.ver == CORE_VER for frame in frames):
        raise MalformedFrame("Handover: a frame is not a push")
    return handover


def encode_recalled(recalled: Recalled) -> bytes:
    """Return the answer to session.recall."""
    return _ENCODER.encode(recalled)


def decode_recalled(payload: bytes) -> Recalled:
    """The reverse of `encode_recalled`.

    :raises MalformedFrame: the other node's fault.
    """
    return _decode(_RECALLED, payload)
