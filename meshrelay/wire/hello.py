"""The JSON bodies of HELLO (client protocol, section 2), and of the endpoint answer for UDP (section 5)."""

from __future__ import annotations

import msgspec

from meshrelay.errors import MalformedPayload
from meshrelay.model import check_user_id

__all__ = ["Hello", "Welcome", "decode_hello", "decode_welcome", "encode_hello", "encode_welcome"]

#: Longest token taken, in bytes; a JWT of a few claims has some hundred.
MAX_TOKEN_BYTES = 8192


class Hello(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What a client says first. Unknown members are passed over, so that newer clients can talk to us."""

    protocol: int
    #: May be missing when a token names the user.
    user: str | None = None
    token: str | None = None
    #: "name/version" of the client program, for logs.
    client: str | None = None
    #: True: the client acknowledges pushes by ACK.
    acks: bool | None = None
    #: sid of an earlier session of the same user.
    resume: str | None = None
    #: Pushes of ver >= 1 that the client has received in that session, mod 2^32.
    received: int | None = None


class Welcome(msgspec.Struct, kw_only=True):
    """What the node answers."""

    protocol: int
    sid: str
    node: str
    user: str
    resumed: bool
    recovered: bool
    heartbeat_seconds: int | float
    max_payload_bytes: int


_HELLO = msgspec.json.Decoder(Hello)
_WELCOME = msgspec.json.Decoder(Welcome)
_ENCODER = msgspec.json.Encoder()


def encode_hello(hello: Hello) -> bytes:
    """Return the payload of a HELLO request."""
    return _ENCODER.encode(hello)


def decode_hello(payload: bytes) -> Hello:
    """Return what the client said, each member in its range.

    :raises MalformedPayload: the client's fault; the text names the member.
    """
    try:
        hello = _HELLO.decode(payload)
        if hello.user is not None:
            check_user_id(hello.user)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise MalformedPayload(f"HELLO: {error}") from None
    if hello.token is not None and len(hello.token) > MAX_TOKEN_BYTES:
        raise MalformedPayload(f"HELLO: token is over {MAX_TOKEN_BYTES} bytes")
    if hello.received is not None and not 0 <= hello.received < 1 << 32:
        raise MalformedPayload("HELLO: received is not a number from 0 to 2^32 - 1")
    return hello


def encode_welcome(welcome: Welcome) -> bytes:
    """Return the payload of the answer to HELLO."""
    return _ENCODER.encode(welcome)


def decode_welcome(payload: bytes) -> Welcome:
    """The reverse of `encode_welcome`.

    :raises MalformedPayload: the node's fault.
    """
    try:
        return _WELCOME.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedPayload(f"HELLO answer: {error}") from None
