"""The call "udp.reserve" between nodes: a user who was authenticated -> a place and the secrets of a UDP session there.

The asking node has authenticated the user; the other one believes it, as nodes believe each other. The payloads are
msgpack of the structs below; fields that a later version adds are passed over by this one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec

from meshrelay.errors import LocalProtocolError, MalformedFrame, NodeDraining
from meshrelay.http.chooser import Endpoints, Question
from meshrelay.http.placement import Place
from meshrelay.model import check_user_id
from meshrelay.session.auth import Identity
from meshrelay.transport.udp import UdpCredentials

__all__ = [
    "RESERVE_CALL",
    "ReserveRequest",
    "Reserved",
    "answer_reserve",
    "decode_request",
    "decode_reserved",
    "encode_request",
    "encode_reserved",
]

_T = TypeVar("_T")

RESERVE_CALL = "udp.reserve"

#: A sid and the three keys (`UdpCredentials`).
_Secret = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]


class ReserveRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Who wants a session.

    :raises ValueError: the user ID is none.
    """

    user_id: str
    #: Of the token.
    claims: dict[str, Any]
    #: sid of an earlier session; "" = none.
    resume: Annotated[str, msgspec.Meta(pattern=r"\A([0-9a-f]{32})?\Z")] = ""
    #: Reliable pushes received in it, mod 2^32; None = not said.
    received: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)] | None = None

    def __post_init__(self) -> None:
        check_user_id(self.user_id)


class Reserved(msgspec.Struct, frozen=True, kw_only=True):
    """The session that waits for its first packet."""

    #: "" = the address that the client used to ask.
    host: Annotated[str, msgspec.Meta(max_length=253)]
    port: Annotated[int, msgspec.Meta(gt=0, lt=65536)]
    sid: _Secret
    key: _Secret
    iv: _Secret
    mac_key: _Secret


def encode_request(question: Question) -> bytes:
    """Return what is sent to another node.

    :raises LocalProtocolError: the token has claims that msgpack does not know, such as numbers over 64 bits.
    """
    user_id, claims = question.identity
    request = ReserveRequest(user_id=user_id, claims=claims, resume=question.resume, received=question.received)
    try:
        return msgspec.msgpack.encode(request)
    except (OverflowError, RecursionError, TypeError, ValueError) as error:
        raise LocalProtocolError(f"the claims cannot be sent to another node: {error}") from error


def decode_request(payload: bytes) -> ReserveRequest:
    """Read what `encode_request` made.

    :raises MalformedFrame: it is no such thing; the other node's fault.
    """
    return _decode(payload, ReserveRequest)


def encode_reserved(place: Place, secrets: UdpCredentials) -> bytes:
    """Return what is answered."""
    return msgspec.msgpack.encode(Reserved(host=place.host, port=place.port, **secrets._asdict()))


def decode_reserved(payload: bytes) -> tuple[Place, UdpCredentials]:
    """Read what `encode_reserved` made.

    :raises MalformedFrame: it is no such thing; the other node's fault.
    """
    reserved = _decode(payload, Reserved)
    secrets = UdpCredentials(reserved.sid, reserved.key, reserved.iv, reserved.mac_key)
    return Place("UDP", reserved.host, reserved.port), secrets


def _decode(payload: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.msgpack.decode(payload, type=kind)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise MalformedFrame(f"{kind.__name__}: {error}") from error


def answer_reserve(endpoints: Endpoints, is_ready: Callable[[], bool]) -> Callable[[str, bytes], bytes]:
    """Return what answers "udp.reserve" on this node.

    :param is_ready: False: this node takes no clients, the call fails and the other node asks elsewhere.
    """

    def answer(node_id: str, payload: bytes) -> bytes:
        request = decode_request(payload)
        place = endpoints.place("UDP", "")
        if place is None or not is_ready():
            raise NodeDraining("no UDP sessions here now")
        identity = Identity(request.user_id, request.claims)
        return encode_reserved(Place(*place), endpoints.reserve_udp(identity, request.resume, request.received))

    return answer
