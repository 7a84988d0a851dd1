"""What clients of Crossbar.io say to it, for the load to say it many times; see `benchmarks.dialects`.

WAMP as MessagePack on a raw socket: four bytes of length, then a list. A session is opened anonymously.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from typing import Any

import msgpack  # type: ignore[import-untyped]

from benchmarks.dialects import Dialect, read_quiet
from benchmarks.load_job import TalkStep

__all__ = ["Crossbar"]

#: Raw socket, messages of up to 2**24 bytes, MessagePack.
_HANDSHAKE = b"\x7f\xf2\0\0"
_LENGTH = struct.Struct("!I")

_HELLO, _WELCOME = 1, 2
_PUBLISH = 16
_SUBSCRIBE, _SUBSCRIBED = 32, 33
_UNSUBSCRIBE, _UNSUBSCRIBED = 34, 35

_ANSWERS = {_HELLO: _WELCOME, _SUBSCRIBE: _SUBSCRIBED, _UNSUBSCRIBE: _UNSUBSCRIBED}

_REALM = "realm1"
_TOPIC = "g"

#: As much of the end of an answer as the load compares.
_TAIL_BYTES = 8

#: In a delivery: the lengths of the frame and of the list, and EVENT; then the numbers of subscription and publication.
_BEFORE_NUMBERS = _LENGTH.size + 2
_NUMBER_BYTES = 9


def _framed(*message: Any) -> bytes:
    packed: bytes = msgpack.packb(message)
    return _LENGTH.pack(len(packed)) + packed


class Crossbar(Dialect):
    """A topic. A publication is not acknowledged, and its publisher does not get it.

    The router draws a number for each subscription and for each publication, which stand in the delivery: any are
    right. Each is one of 2**53, and takes another number of bytes once in two million.
    """

    varying = (_BEFORE_NUMBERS, 2 * _NUMBER_BYTES)

    def __init__(self) -> None:
        self._subscription = 0

    def sign_in(self, users: Sequence[str]) -> list[list[bytes]]:
        """The handshake of the raw socket, then HELLO."""
        return [[_HANDSHAKE], [_framed(_HELLO, _REALM, {"roles": {"publisher": {}, "subscriber": {}}})]]

    def found(self, publisher: socket.socket) -> None:
        """SUBSCRIBE: the topic keeps its number for as long as somebody is there."""
        publisher.sendall(self.join()[0])
        answer = msgpack.unpackb(read_quiet(publisher)[_LENGTH.size :])
        assert answer[0] == _SUBSCRIBED, f"no subscription: {answer!r}"
        self._subscription = answer[2]

    def join(self) -> list[bytes]:
        """SUBSCRIBE."""
        return [self._subscribe(_TOPIC)]

    @staticmethod
    def _subscribe(topic: str) -> bytes:
        return _framed(_SUBSCRIBE, 1, {}, topic)

    def leave(self) -> list[bytes]:
        """UNSUBSCRIBE."""
        return [_framed(_UNSUBSCRIBE, 2, self._subscription)]

    def message(self, payload: bytes) -> bytes:
        """PUBLISH."""
        return self.direct(_TOPIC, payload)

    def receiving(self, users: Sequence[str]) -> list[list[bytes]]:
        """SUBSCRIBE to a topic with the name of the user."""
        return [*self.sign_in(users), [self._subscribe(user) for user in users]]

    def direct(self, user: str, payload: bytes) -> bytes:
        """PUBLISH to that topic."""
        return _framed(_PUBLISH, 3, {}, user, [payload])

    def rehearse_step(self, connection: socket.socket, variants: list[bytes], number: int) -> TalkStep:
        """WELCOME names the client's address, which may be longer than here; it ends alike.

        :raises AssertionError: the answer is not the one that is wanted.
        """
        said = variants[number % len(variants)]
        connection.sendall(said)
        answer = read_quiet(connection)
        if said == _HANDSHAKE:
            assert answer == said, f"no raw socket: {answer!r}"
            return TalkStep(variants, len(answer))
        kind = msgpack.unpackb(said[_LENGTH.size :])[0]
        told = msgpack.unpackb(answer[_LENGTH.size :])
        assert told[0] == _ANSWERS[kind], f"unexpected answer {told!r}"
        return TalkStep(variants, len(answer), answer[-_TAIL_BYTES:] if kind == _HELLO else b"")
