"""What envelopes of the overlay carry, by type: JSON of the wire to values and back.

``wire.overlay`` reads the envelope around it and checks each type that a JavaScript peer looks into with `check_data`,
so that nothing is relayed that would end its process. All names here can be imported from ``wire.overlay``.

====================  ============================================================
findPeers             hex ID
foundPeers            list of at most `MAX_FOUND` hex IDs
handshake-offer       nothing; what is there all the same is passed on
handshake-answer      null, or ``{"ws": URL or null, "wrtc": true or false}``
signal                ``{"type": "offer" or "answer", "sdp": text}`` or
                      ``{"candidate": {"candidate": text, "sdpMLineIndex": 0, "sdpMid": "0"}}``
user, and the rest    any JSON
====================  ============================================================

Source: npm peer-relay 0.0.2 as seen on the wire; signals are those of simple-peer 6.
"""

from __future__ import annotations

import re
from binascii import Error as HexError
from binascii import unhexlify
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from json import JSONEncoder
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import idna
import msgspec

__all__ = [
    "Answer",
    "BadFrame",
    "DataType",
    "Fault",
    "ID_BYTES",
    "MAX_DEPTH",
    "MAX_ENVELOPE_BYTES",
    "MAX_FOUND",
    "MAX_URL_CHARS",
    "buffer_bytes",
    "check_data",
    "check_depth",
    "decode_answer",
    "decode_id",
    "decode_ids",
    "decode_value",
    "encode_answer",
    "encode_id",
    "encode_ids",
    "encode_value",
    "is_socket_url",
    "parse_id",
]

#: A peer ID is that many random bytes.
ID_BYTES = 20
#: Longer frames are refused unread. aiortc and simple-peer advertise the same for one SCTP message.
MAX_ENVELOPE_BYTES = 262_144
#: IDs in one foundPeers.
MAX_FOUND = 20
#: Arrays and objects inside each other, the envelope counted; JSON.stringify overflows its stack at some thousands.
MAX_DEPTH = 128
#: Levels that the envelope has around `data.data`.
_ENVELOPE_DEPTH = 2
#: Characters of an advertised URL.
MAX_URL_CHARS = 2048

_MAX_HOST_CHARS = 253
_MAX_PORT = 65535


class Fault(StrEnum):
    """Why a frame was refused: the label of a counter."""

    SIZE = "size"
    TEXT = "text"
    JSON = "json"
    DEPTH = "depth"
    HELLO = "hello"
    ENVELOPE = "envelope"
    TO = "to"
    FROM = "from"
    PATH = "path"
    NONCE = "nonce"
    DATA = "data"
    TYPE = "type"
    EXTRAS = "extras"
    FIND_PEERS = "find-peers"
    FOUND_PEERS = "found-peers"
    ANSWER = "answer"
    URL = "url"
    SIGNAL = "signal"
    VALUE = "value"


class BadFrame(ValueError):
    """The peer's fault: it breaks the protocol, or would end a JavaScript peer. The text names field and limit."""

    def __init__(self, reason: Fault, problem: str) -> None:
        super().__init__(f"{reason.value}: {problem}")
        self.reason = reason


class DataType(StrEnum):
    """Types that mean something to us; envelopes of all others are relayed untouched."""

    FIND_PEERS = "findPeers"
    FOUND_PEERS = "foundPeers"
    OFFER = "handshake-offer"
    ANSWER = "handshake-answer"
    SIGNAL = "signal"
    USER = "user"
    #: Ours alone.
    SEALED = "meshrelay"
    HOLDINGS = "meshrelay-links"


class Answer(NamedTuple):
    """What the peer that was offered a link can do."""

    #: Where its WebSocket server is; None: it has none.
    ws: str | None
    #: It speaks WebRTC.
    wrtc: bool


# Strings, also one that never ends, so that the search takes one pass whatever the frame is.
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.?[^"\\]*+)*+"?', re.DOTALL)
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_STEPS: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}

_WS_URL: Final = re.compile(
    r"(?i:wss?)://(?:\[([0-9A-Fa-f:.]+)\]|([0-9A-Za-z._-]+))(?::([0-9]{1,5}))?(?:[/?](?:[0-9A-Za-z/?:@!$&'()*+,;=._~-]|%[0-9A-Fa-f]{2})*)?"
)
_NUMERIC_LABEL: Final = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_LABEL: Final = re.compile(r"[0-9A-Za-z_](?:[0-9A-Za-z_-]{0,61}[0-9A-Za-z_])?")


class _Candidate(msgspec.Struct):
    candidate: str
    sdpMLineIndex: int | None = None
    sdpMid: str | None = None


class _Signal(msgspec.Struct):
    type: str | None = None
    sdp: str | None = None
    candidate: _Candidate | None = None


class _Answer(msgspec.Struct):
    ws: str | None = None
    wrtc: bool = False


_VALUES: Final = msgspec.json.Decoder()
_STRINGS: Final = msgspec.json.Decoder(list[str])
_SIGNALS: Final = msgspec.json.Decoder(_Signal)
_ANSWERS: Final = msgspec.json.Decoder(_Answer | None)

#: What a decoder of ours raises for bytes of somebody else.
_DECODE_ERRORS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def check_depth(raw: bytes, limit: int = MAX_DEPTH) -> None:
    """Pass what nests no deeper than `limit`. The raw bytes are JSON, or are refused as such by the caller.

    :raises BadFrame: it does.
    """
    if raw.count(b"[") + raw.count(b"{") <= limit:
        return
    depth = 0
    for bracket in _STRING.sub(b"", raw).translate(None, _NOT_BRACKETS):
        depth += _STEPS[bracket]
        if depth > limit:
            raise BadFrame(Fault.DEPTH, f"arrays and objects nest deeper than {limit}")


def parse_id(value: object) -> bytes | None:
    """A peer ID out of decoded JSON: 40 hex digits of either case, or the form that JSON gives a Node buffer.

    :returns: None: it is not one.
    """
    if isinstance(value, str):
        if len(value) != 2 * ID_BYTES:
            return None
        try:
            return unhexlify(value)
        except (HexError, ValueError):
            return None
    found = buffer_bytes(value)
    return found if found is not None and len(found) == ID_BYTES else None


def buffer_bytes(value: object) -> bytes | None:
    """The bytes of a Node buffer in its JSON form, ``{"type": "Buffer", "data": [0, 255]}``; None: it is none."""
    if not isinstance(value, dict) or value.get("type") != "Buffer":
        return None
    numbers = value.get("data")
    if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
        return None
    try:
        return bytes(numbers)
    except ValueError:
        return None


def _as_buffer(value: object) -> dict[str, object]:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"type": "Buffer", "data": list(bytes(value))}
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


_WRITER: Final = JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_as_buffer)


def encode_value(value: object) -> bytes:
    """The JSON of a value that the application gives: None, bool, numbers, str, lists, tuples, dicts, and bytes, which
    become what `buffer_bytes` reads and Node's ``Buffer.from`` takes.

    :raises TypeError: the application's fault: there is no JSON for a value in it.
    :raises ValueError: not a number, half a character (a lone surrogate), a circle, or deeper than fits an envelope.
    """
    try:
        raw = _WRITER.encode(value).encode()
        check_depth(raw, MAX_DEPTH - _ENVELOPE_DEPTH)
    except RecursionError:
        raise ValueError(f"it nests deeper than {MAX_DEPTH - _ENVELOPE_DEPTH}") from None
    return raw


def decode_value(raw: bytes, fault: Fault = Fault.VALUE) -> Any:
    """The value of raw JSON. A Node buffer stays a dict, see `buffer_bytes`.

    :param fault: what an error is called.
    :raises BadFrame: it has a number beyond all floats, or is no JSON.
    """
    try:
        return _VALUES.decode(raw)
    except _DECODE_ERRORS as error:
        raise BadFrame(fault, str(error)) from None


def encode_id(peer_id: bytes) -> bytes:
    """One ID, for findPeers."""
    return b'"%b"' % peer_id.hex().encode()


def decode_id(raw: bytes) -> bytes:
    """Whom a findPeers asks for.

    :raises BadFrame: it is not 40 hex digits in a string; a JavaScript peer takes no other form inside of `data`.
    """
    value = decode_value(raw, Fault.FIND_PEERS)
    found = parse_id(value) if isinstance(value, str) else None
    if found is None:
        raise BadFrame(Fault.FIND_PEERS, "data is not a peer ID of 40 hex digits")
    return found


def encode_ids(ids: Iterable[bytes]) -> bytes:
    """A list of IDs, for foundPeers."""
    return b'["%b"]' % '","'.join(hexes).encode() if (hexes := [peer_id.hex() for peer_id in ids]) else b"[]"


def decode_ids(raw: bytes, limit: int = MAX_FOUND) -> list[bytes]:
    """The reverse of `encode_ids`.

    :raises BadFrame: it is not a list of IDs, or of more than `limit`.
    """
    try:
        hexes = _STRINGS.decode(raw)
    except _DECODE_ERRORS:
        raise BadFrame(Fault.FOUND_PEERS, "data is not a list of strings") from None
    if len(hexes) > limit:
        raise BadFrame(Fault.FOUND_PEERS, f"{len(hexes)} IDs, more than {limit}")
    ids: list[bytes] = []
    for text in hexes:
        found = parse_id(text)
        if found is None:
            raise BadFrame(Fault.FOUND_PEERS, "an ID is not 40 hex digits")
        ids.append(found)
    return ids


def encode_answer(answer: Answer | None) -> bytes:
    """For handshake-answer; None says that there is no way."""
    return b"null" if answer is None else msgspec.json.encode({"ws": answer.ws, "wrtc": answer.wrtc})


def decode_answer(raw: bytes) -> Answer | None:
    """The reverse of `encode_answer`. A member that is not there is like null and false.

    :raises BadFrame: it is neither null nor an answer, or the URL is one that makes ``new WebSocket`` throw.
    """
    try:
        answer = _ANSWERS.decode(raw)
    except _DECODE_ERRORS as error:
        raise BadFrame(Fault.ANSWER, str(error)) from None
    if answer is None:
        return None
    if answer.ws is not None and not is_socket_url(answer.ws):
        raise BadFrame(Fault.URL, "ws is not a URL of a WebSocket that can be dialled")
    return Answer(answer.ws, answer.wrtc)


def is_socket_url(url: str) -> bool:
    """Whether every WebSocket constructor takes it: ws or wss, a host that can be one, no user, no fragment, ASCII."""
    match = _WS_URL.fullmatch(url) if len(url) <= MAX_URL_CHARS else None
    if match is None:
        return False
    six, name, port = match.groups()
    if port is not None and not 1 <= int(port) <= _MAX_PORT:
        return False
    return _is_ipv6(six) if six is not None else _is_host_name(name)


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except AddressValueError:
        return False
    return True


def _is_host_name(name: str) -> bool:
    labels = name.removesuffix(".").split(".")
    if len(name) > _MAX_HOST_CHARS or not all(_LABEL.fullmatch(label) for label in labels):
        return False
    # The rule of the URL standard: a host that ends in a number is an IPv4 address or nothing.
    if _NUMERIC_LABEL.fullmatch(labels[-1]):
        try:
            IPv4Address(name)
        except AddressValueError:
            return False
        return True
    try:
        # Labels that say they are punycode must be so, else the URL parsers throw.
        for label in labels:
            if label[:4].lower() == "xn--":
                idna.ulabel(label)
    except (idna.IDNAError, UnicodeError):
        return False
    return True


def _check_find(raw: bytes) -> None:
    decode_id(raw)


def _check_found(raw: bytes) -> None:
    decode_ids(raw)


def _check_answer(raw: bytes) -> None:
    decode_answer(raw)


def _check_signal(raw: bytes) -> None:
    try:
        signal = _SIGNALS.decode(raw)
    except _DECODE_ERRORS as error:
        raise BadFrame(Fault.SIGNAL, str(error)) from None
    if not signal.sdp and signal.candidate is None:
        raise BadFrame(Fault.SIGNAL, "neither an sdp nor a candidate")
    if signal.sdp is not None and signal.type not in ("offer", "answer"):
        raise BadFrame(Fault.SIGNAL, "the type of an sdp is neither offer nor answer")
    candidate = signal.candidate
    if candidate is not None:
        # RTCIceCandidate throws without both.
        if candidate.sdpMid is None and candidate.sdpMLineIndex is None:
            raise BadFrame(Fault.SIGNAL, "a candidate of no medium")
        if candidate.sdpMLineIndex is not None and not 0 <= candidate.sdpMLineIndex <= _MAX_PORT:
            raise BadFrame(Fault.SIGNAL, f"sdpMLineIndex is not from 0 to {_MAX_PORT}")


#: The types that a JavaScript peer looks into.
_CHECKS: Final[Mapping[str, tuple[Callable[[bytes], None], Fault]]] = MappingProxyType(
    {
        DataType.FIND_PEERS.value: (_check_find, Fault.FIND_PEERS),
        DataType.FOUND_PEERS.value: (_check_found, Fault.FOUND_PEERS),
        DataType.ANSWER.value: (_check_answer, Fault.ANSWER),
        DataType.SIGNAL.value: (_check_signal, Fault.SIGNAL),
    }
)


def check_data(type: str, data: bytes | None) -> None:
    """Pass what a JavaScript peer can be given.

    :param data: raw JSON of ``data.data``; None: absent.
    :raises BadFrame: it would end that peer's process, or make no sense to anybody.
    """
    check = _CHECKS.get(type)
    if check is None:
        return
    if data is None:
        raise BadFrame(check[1], f"{type} without data")
    check[0](data)
