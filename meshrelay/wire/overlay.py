"""Frames of the peer overlay to values and back: the hello and the envelope.

::

    WebSocket message or data-channel message --decode_hello--> peer ID of the link
                                              --decode_frame--> Envelope --overlay.router--> encode_frame --> next hops

A frame is one JSON document, UTF-8, at most `MAX_ENVELOPE_BYTES`::

    {"to": ID, "from": ID, "path": [ID, ...], "nonce": "digits", "data": {"type": text, "data": any}, "more": any}

An ID is written as 40 hex digits, and read in the form of a serialised Node buffer too: JavaScript relays decode `to`
and `from` in place and write them so on later hops. `path` has the originator first and the last hop last; each node
appends itself when it sends. Members that we do not know are kept, which is where our own nodes put `EXTRA_KEY`.

The rule behind the checks: a JavaScript peer ends its process at most things that are not as it expects them, so what
passes here can be given to one. Signals alone are fit for some peers only, which is the router's business.

Source: npm peer-relay 0.0.2 as seen on the wire.
"""

from __future__ import annotations

import re
from binascii import Error as HexError
from binascii import unhexlify
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from meshrelay.wire.overlay_data import (
    ID_BYTES,
    MAX_DEPTH,
    MAX_ENVELOPE_BYTES,
    MAX_FOUND,
    MAX_URL_CHARS,
    Answer,
    BadFrame,
    DataType,
    Fault,
    buffer_bytes,
    check_data,
    check_depth,
    decode_answer,
    decode_id,
    decode_ids,
    decode_value,
    encode_answer,
    encode_id,
    encode_ids,
    encode_value,
    is_socket_url,
    parse_id,
)

__all__ = [
    "Answer",
    "BadFrame",
    "DataType",
    "EXTRA_KEY",
    "Envelope",
    "Fault",
    "ID_BYTES",
    "MAX_DATA_BYTES",
    "MAX_DEPTH",
    "MAX_ENVELOPE_BYTES",
    "MAX_ESCAPES",
    "MAX_EXTRAS",
    "MAX_FOUND",
    "MAX_HOPS",
    "MAX_NONCE_CHARS",
    "MAX_PATH",
    "MAX_TYPE_CHARS",
    "MAX_URL_CHARS",
    "MAX_WRTC_BYTES",
    "NO_EXTRAS",
    "buffer_bytes",
    "decode_answer",
    "decode_frame",
    "decode_hello",
    "decode_id",
    "decode_ids",
    "decode_value",
    "encode_answer",
    "encode_frame",
    "encode_hello",
    "encode_id",
    "encode_ids",
    "encode_value",
    "is_socket_url",
    "new_envelope",
]

#: Longest frame on a data channel: one SCTP message, and 262,144 bytes end the link of a JavaScript peer.
MAX_WRTC_BYTES = 250_000
#: Longest raw JSON of ``data.data`` in an envelope of ours: with the head, our extras and 20 hops it fits every link.
MAX_DATA_BYTES = MAX_WRTC_BYTES - 4096
#: An envelope whose path is so long goes no further; it may still be delivered.
MAX_HOPS = 20
#: Longest path that is read.
MAX_PATH = 64
#: Characters of a nonce, and of a type; at least one.
MAX_NONCE_CHARS = 64
MAX_TYPE_CHARS = 64
#: Members of an envelope that we do not know.
MAX_EXTRAS = 32
#: Escapes in a frame in which half surrogate pairs are replaced.
MAX_ESCAPES = 4096
#: The member of an envelope that is ours.
EXTRA_KEY = "meshrelay"

#: For an envelope without members that we do not know.
NO_EXTRAS: Final[Mapping[str, bytes]] = MappingProxyType({})

_MAX_HELLO_BYTES = 1024
_HEX_STRING_BYTES = 2 * ID_BYTES + 2
_QUOTE = 0x22
_FOUND_PEERS = DataType.FOUND_PEERS.value


class Envelope(NamedTuple):
    """One message on its way from peer to peer."""

    to: bytes
    #: Who says to have sent it; nothing proves it but a signature in `extras`.
    sender: bytes
    #: Where it says to have been, originator first.
    path: tuple[bytes, ...]
    nonce: str
    type: str
    #: Raw JSON of ``data.data``; None: there was none.
    data: bytes | None
    #: Raw JSON of the whole data object.
    body: bytes
    #: Raw JSON of each other member.
    extras: Mapping[str, bytes] = NO_EXTRAS
    #: IDs that were cut off a foundPeers of more than `MAX_FOUND`, for a counter.
    cut: int = 0


class _Body(msgspec.Struct):
    type: str
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_BODIES: Final = msgspec.json.Decoder(_Body)
_STRINGS: Final = msgspec.json.Decoder(list[str])
_STRING: Final = msgspec.json.Decoder(str)

_ERRORS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

# Escapes one by one: pairs of surrogates, half pairs (the group), all others.
_ESCAPE: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)


def decode_frame(frame: bytes) -> Envelope:
    """Return the envelope of a frame. What passes may be relayed to a JavaScript peer; signals to one with WebRTC only.

    Half a surrogate pair, which JavaScript can send, becomes U+FFFD, in frames of at most `MAX_ESCAPES` escapes.

    :raises BadFrame: the peer's fault.
    """
    members = _members(frame)
    to = _take_id(members, "to", Fault.TO)
    sender = _take_id(members, "from", Fault.FROM)
    path = _take_path(members)
    nonce = _take_nonce(members)
    kind, data, body, cut = _take_body(members)
    if not members:
        return Envelope(to, sender, path, nonce, kind, data, body, NO_EXTRAS, cut)
    if len(members) > MAX_EXTRAS:
        raise BadFrame(Fault.EXTRAS, f"{len(members)} unknown members, more than {MAX_EXTRAS}")
    extras = {key: bytes(raw) for key, raw in members.items()}
    return Envelope(to, sender, path, nonce, kind, data, body, extras, cut)


def encode_frame(envelope: Envelope, via: bytes) -> bytes:
    """Return the frame of an envelope that leaves the peer `via`, which is appended to the path."""
    nonce = envelope.nonce
    quoted = f'"{nonce}"' if nonce.isascii() and nonce.isalnum() else msgspec.json.encode(nonce).decode()
    path = '","'.join([peer_id.hex() for peer_id in (*envelope.path, via)])
    head = (
        f'{{"to":"{envelope.to.hex()}","from":"{envelope.sender.hex()}","path":["{path}"],"nonce":{quoted},"data":'
    ).encode()
    if not envelope.extras:
        return b"%b%b}" % (head, envelope.body)
    extras = b",".join([b"%b:%b" % (msgspec.json.encode(key), raw) for key, raw in envelope.extras.items()])
    return b"%b%b,%b}" % (head, envelope.body, extras)


def new_envelope(
    to: bytes,
    sender: bytes,
    nonce: str,
    type: str,
    data: bytes | None = None,
    extras: Mapping[str, bytes] = NO_EXTRAS,
) -> Envelope:
    """Return an envelope that has been nowhere yet.

    :param data: raw JSON, see `encode_value`.
    :raises ValueError: data is over `MAX_DATA_BYTES`.
    """
    name = msgspec.json.encode(str(type))
    if data is None:
        return Envelope(to, sender, (), nonce, str(type), None, b'{"type":%b}' % name, extras)
    if len(data) > MAX_DATA_BYTES:
        raise ValueError(f"{len(data)} bytes of data, more than {MAX_DATA_BYTES}")
    return Envelope(to, sender, (), nonce, str(type), data, b'{"type":%b,"data":%b}' % (name, data), extras)


def decode_hello(frame: bytes) -> bytes:
    """Return the ID of the peer at the other end of a WebSocket, which says it first. Nothing proves it.

    :raises BadFrame: the frame is no hello.
    """
    if len(frame) > _MAX_HELLO_BYTES:
        raise BadFrame(Fault.HELLO, f"{len(frame)} bytes, more than {_MAX_HELLO_BYTES}")
    found = parse_id(decode_value(frame, Fault.HELLO))
    if found is None:
        raise BadFrame(Fault.HELLO, f"it is not an ID of {ID_BYTES} bytes")
    return found


def encode_hello(peer_id: bytes) -> bytes:
    """Return the hello in the form that JavaScript peers send."""
    return encode_value(peer_id)


def _members(frame: bytes) -> dict[str, msgspec.Raw]:
    """Return the members of the envelope, each as raw JSON that is UTF-8 and not too deep."""
    if len(frame) > MAX_ENVELOPE_BYTES:
        raise BadFrame(Fault.SIZE, f"{len(frame)} bytes, more than {MAX_ENVELOPE_BYTES}")
    try:
        # The decoder looks into no raw part for this.
        frame.decode()
    except UnicodeDecodeError:
        raise BadFrame(Fault.TEXT, "it is not UTF-8") from None
    check_depth(frame)
    try:
        return _MEMBERS.decode(frame)
    except msgspec.ValidationError:
        raise BadFrame(Fault.ENVELOPE, "it is not an object") from None
    except (msgspec.MsgspecError, RecursionError) as error:
        repaired = _with_whole_pairs(frame)
        if repaired == frame:
            raise BadFrame(Fault.JSON, str(error)) from None
        return _members(repaired)


def _with_whole_pairs(frame: bytes) -> bytes:
    """Return the frame with U+FFFD for each half of a surrogate pair. It is slow, hence the bound."""
    if frame.count(b"\\") > MAX_ESCAPES:
        return frame
    return _ESCAPE.sub(lambda match: b"\\ufffd" if match[1] else match[0], frame)


def _take_id(members: dict[str, msgspec.Raw], name: str, fault: Fault) -> bytes:
    raw = members.pop(name, None)
    if raw is None:
        raise BadFrame(fault, "it is missing")
    text = bytes(raw)
    if len(text) == _HEX_STRING_BYTES and text[0] == _QUOTE:
        try:
            return unhexlify(text[1:-1])
        except HexError:
            raise BadFrame(fault, "it is not hex") from None
    found = parse_id(decode_value(text, fault))
    if found is None:
        raise BadFrame(fault, f"it is not an ID of {ID_BYTES} bytes")
    return found


def _take_path(members: dict[str, msgspec.Raw]) -> tuple[bytes, ...]:
    raw = members.pop("path", None)
    if raw is None:
        raise BadFrame(Fault.PATH, "it is missing")
    entries: list[object]
    try:
        entries = list(_STRINGS.decode(raw))
    except _ERRORS:
        decoded = decode_value(bytes(raw), Fault.PATH)
        if not isinstance(decoded, list):
            raise BadFrame(Fault.PATH, "it is not a list") from None
        entries = decoded
    # An empty one makes a JavaScript peer fail when it sends back.
    if not 1 <= len(entries) <= MAX_PATH:
        raise BadFrame(Fault.PATH, f"{len(entries)} hops, not 1 to {MAX_PATH}")
    path = [parse_id(entry) for entry in entries]
    known = tuple([peer_id for peer_id in path if peer_id is not None])
    if len(known) != len(path):
        raise BadFrame(Fault.PATH, f"an entry is not an ID of {ID_BYTES} bytes")
    return known


def _take_nonce(members: dict[str, msgspec.Raw]) -> str:
    raw = members.pop("nonce", None)
    if raw is None:
        raise BadFrame(Fault.NONCE, "it is missing")
    try:
        nonce = _STRING.decode(raw)
    except _ERRORS:
        raise BadFrame(Fault.NONCE, "it is not a string") from None
    if not 1 <= len(nonce) <= MAX_NONCE_CHARS:
        raise BadFrame(Fault.NONCE, f"{len(nonce)} characters, not 1 to {MAX_NONCE_CHARS}")
    return nonce


def _take_body(members: dict[str, msgspec.Raw]) -> tuple[str, bytes | None, bytes, int]:
    """Return type, data, body and cut of an `Envelope`."""
    raw = members.pop("data", None)
    if raw is None:
        raise BadFrame(Fault.DATA, "it is missing")
    try:
        body = _BODIES.decode(raw)
    except _ERRORS as error:
        fault = Fault.TYPE if bytes(raw).startswith(b"{") else Fault.DATA
        raise BadFrame(fault, str(error)) from None
    kind = body.type
    if not 1 <= len(kind) <= MAX_TYPE_CHARS:
        raise BadFrame(Fault.TYPE, f"{len(kind)} characters, not 1 to {MAX_TYPE_CHARS}")
    if body.data is msgspec.UNSET:
        check_data(kind, None)
        return kind, None, bytes(raw), 0
    data = bytes(body.data)
    if kind == _FOUND_PEERS:
        ids = decode_ids(data, MAX_ENVELOPE_BYTES)
        if len(ids) > MAX_FOUND:
            return kind, *_shortened(raw, ids)
    else:
        check_data(kind, data)
    return kind, data, bytes(raw), 0


def _shortened(body: msgspec.Raw, ids: list[bytes]) -> tuple[bytes, bytes, int]:
    """Return data, body and cut of a foundPeers that names too many; JavaScript peers take any number."""
    data = encode_ids(ids[:MAX_FOUND])
    shorter = _MEMBERS.decode(body) | {"data": msgspec.Raw(data)}
    return data, msgspec.json.encode(shorter), len(ids) - MAX_FOUND
