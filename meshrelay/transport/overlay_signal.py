"""Signals of WebRTC links, as npm's ``simple-peer`` writes them: raw JSON <-> values. Pure.

========================================================================  =========================
JSON                                                                      value
========================================================================  =========================
``{"type":"offer","sdp":"..."}``                                          `Description`
``{"type":"answer","sdp":"..."}``                                         `Description`
``{"candidate":{"candidate":"candidate:...","sdpMLineIndex":0,...}}``     `RemoteCandidate`
========================================================================  =========================

Unknown keys are ignored, and so is which media section a candidate belongs to: there is only the one of the data
channel. What later versions of simple-peer add (renegotiation, transceivers) is no signal of the overlay.

Source: npm simple-peer 6.4.4, ``signal()`` and ``_onIceCandidate()``.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec import DecodeError, Struct, ValidationError, json

__all__ = [
    "MAX_CANDIDATE_CHARS",
    "MAX_SIGNAL_BYTES",
    "BadSignal",
    "Description",
    "RemoteCandidate",
    "decode_signal",
    "encode_description",
]

#: Of the whole signal. A description of one data channel with 64 candidates has about 6 KiB.
MAX_SIGNAL_BYTES = 16 * 1024

#: Of the text of a candidate; an honest one has about 150.
MAX_CANDIDATE_CHARS = 1024


class BadSignal(ValueError):
    """A signal that makes no sense; the other end's fault."""


class Description(NamedTuple):
    """What one end can do, and where it can be reached."""

    is_offer: bool
    sdp: str


class RemoteCandidate(NamedTuple):
    """One more address of the other end."""

    #: As behind ``a=candidate:`` in a description; "": there are no more.
    text: str


class _Candidate(Struct):
    candidate: str = ""


class _Signal(Struct):
    type: str | None = None
    sdp: str | None = None
    candidate: _Candidate | None = None


def decode_signal(raw: bytes) -> Description | RemoteCandidate:
    """Read a signal.

    :raises BadSignal: it is none, or too long.
    """
    if len(raw) > MAX_SIGNAL_BYTES:
        raise BadSignal(f"a signal of {len(raw)} bytes; the limit is {MAX_SIGNAL_BYTES}")
    try:
        signal = json.decode(raw, type=_Signal)
    # Deep nesting is a RecursionError of msgspec.
    except (DecodeError, ValidationError, RecursionError, UnicodeDecodeError) as error:
        raise BadSignal(f"no signal: {error}") from None
    if signal.sdp is not None:
        if signal.type not in ("offer", "answer"):
            raise BadSignal("a description that is neither offer nor answer")
        return Description(signal.type == "offer", signal.sdp)
    if signal.candidate is None:
        raise BadSignal("neither a description nor a candidate")
    text = signal.candidate.candidate
    if len(text) > MAX_CANDIDATE_CHARS:
        raise BadSignal(f"a candidate of {len(text)} characters; the limit is {MAX_CANDIDATE_CHARS}")
    return RemoteCandidate(text.removeprefix("a=").removeprefix("candidate:"))


def encode_description(description: Description) -> bytes:
    """Write a description for the other end."""
    return json.encode({"type": "offer" if description.is_offer else "answer", "sdp": description.sdp})
