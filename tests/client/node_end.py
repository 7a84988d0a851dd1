"""The node's end of a client connection in memory: what the client wrote as frames, and what a node may say back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed

from meshrelay.client.address import NodeAddress
from meshrelay.client.identity import LinkTraits
from meshrelay.client.links import Credentials, Link, LinkReceiver
from meshrelay.client.options import ClientOptions
from meshrelay.model import Status
from meshrelay.wire.commands import CORE_VER, CoreCommand, encode_error, encode_goodbye
from meshrelay.wire.frame import Frame, FrameDecoder, encode_frame, encode_push
from meshrelay.wire.hello import Welcome, encode_welcome

__all__ = ["MemoryNode", "NodeEnd", "welcome_payload"]

SID = "0123456789abcdef" * 2


def welcome_payload(**changes: Any) -> bytes:
    """The answer to HELLO, with some members changed."""
    fields: dict[str, Any] = {
        "protocol": 1,
        "sid": SID,
        "node": "node-1",
        "user": "ann",
        "resumed": False,
        "recovered": False,
        "heartbeat_seconds": 25.0,
        "max_payload_bytes": 65536,
    }
    return encode_welcome(Welcome(**{**fields, **changes}))


class NodeEnd:
    """One connection; a `Link` to the client.

    :ivar frames: what the client wrote, in order.
    :ivar moves: how often the client asked for another local address.
    """

    def __init__(self, receiver: LinkReceiver, credentials: Credentials) -> None:
        self.receiver = receiver
        self.credentials = credentials
        self.frames: list[Frame] = []
        self.is_closed = False
        self.is_aborted = False
        self.moves = 0
        self._decoder = FrameDecoder(1 << 20)

    def write(self, frames: Sequence[bytes]) -> None:
        self.frames.extend(self._decoder.frames(b"".join(frames)))

    def close(self) -> Deferred[None]:
        self.is_closed = True
        return succeed(None)

    def abort(self) -> None:
        self.is_aborted = True

    def rebind(self) -> bool:
        self.moves += 1
        return True

    def of_command(self, ver: int, cmd: int) -> list[Frame]:
        """The frames of one command."""
        return [frame for frame in self.frames if (frame.ver, frame.cmd) == (ver, cmd)]

    def say(self, data: bytes) -> None:
        """Any bytes."""
        self.receiver.data_received(data)

    def answer(self, frame: Frame, payload: bytes = b"", status: int = Status.OK) -> None:
        """Answer a request."""
        self.say(encode_frame(frame.ver, status, frame.cmd, frame.request_id, payload))

    def refuse(self, frame: Frame, code: int, text: str, status: int = Status.BAD) -> None:
        """Answer a request with an error."""
        self.answer(frame, encode_error(code, text), status)

    def welcome(self, **changes: Any) -> None:
        """Answer HELLO."""
        self.answer(self.of_command(CORE_VER, CoreCommand.HELLO)[0], welcome_payload(**changes))

    def push(self, ver: int, cmd: int, payload: bytes = b"") -> None:
        """Push something."""
        self.say(encode_push(ver, cmd, payload))

    def goodbye(self, code: int, text: str) -> None:
        """Say why, as a node does just before it closes."""
        self.push(CORE_VER, CoreCommand.GOODBYE, encode_goodbye(code, text))


class MemoryNode:
    """What a client connects to: stands where `meshrelay.client.links.open_link` stands.

    :ivar ends: one for each connection, in order.
    :ivar failure: what the next connections fail with; None = they work.
    :ivar script: called with each new end once the client has its link.
    """

    def __init__(self, traits: LinkTraits | None = None) -> None:
        self.ends: list[NodeEnd] = []
        self.failure: Exception | None = None
        self.waiting: list[Deferred[tuple[Link, LinkTraits]]] = []
        self.holds = False
        self.tries = 0
        self.script: Callable[[NodeEnd], None] | None = None
        self._traits = traits or LinkTraits()

    @property
    def end(self) -> NodeEnd:
        """The newest connection."""
        return self.ends[-1]

    def open(
        self,
        reactor: Any,
        address: NodeAddress,
        receiver: LinkReceiver,
        credentials: Credentials,
        options: ClientOptions,
    ) -> Deferred[tuple[Link, LinkTraits]]:
        """See `open_link`."""
        self.tries += 1
        opened: Deferred[tuple[Link, LinkTraits]] = Deferred()
        if self.holds:
            self.waiting.append(opened)
        elif self.failure is not None:
            opened.errback(self.failure)
        else:
            self.ends.append(NodeEnd(receiver, credentials))
            opened.callback((self.ends[-1], self._traits))
        return opened
