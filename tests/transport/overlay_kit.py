"""What tests of the overlay's WebSockets share: parts on a clock, and receivers that write down what they are told."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from meshrelay.background import Alarms
from meshrelay.fanout.turn import Turn
from meshrelay.overlay.interfaces import IOverlayLink
from meshrelay.transport.overlay_link import LinkTraits, OverlaySocketCounters, OverlaySocketParts, OverlayWebSocket
from tests.transport.stream_kit import TcpStream
from tests.transport.test_websocket import Message, unmasked

__all__ = ["MemoryLink", "OverlayKit", "RecordingReceiver", "SwappingStream", "read_masked"]


class RecordingReceiver:
    """Writes down what a link tells.

    :ivar answer: called with each frame that came.
    """

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.lost: list[str] = []
        self.answer: Callable[[bytes], object] | None = None

    def frame_received(self, frame: bytes) -> None:
        """See `ILinkReceiver`."""
        self.frames.append(frame)
        if self.answer is not None:
            self.answer(frame)

    def link_lost(self, why: str) -> None:
        """See `ILinkReceiver`."""
        self.lost.append(why)


class SwappingStream(TcpStream):
    """A TCP connection in memory whose protocol can be replaced, as that of Twisted's own."""

    def __init__(self) -> None:
        super().__init__()
        self.protocol: Any = None

    def give(self, data: bytes) -> None:
        """Let bytes come."""
        self.protocol.dataReceived(data)

    def lose(self) -> None:
        """Let the connection end."""
        self.protocol.connectionLost(Failure(ConnectionDone()))

    def pause(self) -> None:
        """Ask whoever writes to wait."""
        assert self.producer is not None
        IPushProducer(self.producer).pauseProducing()

    def resume(self) -> None:
        """Let whoever writes go on."""
        assert self.producer is not None
        IPushProducer(self.producer).resumeProducing()


class OverlayKit:
    """Parts of overlay WebSockets on a clock of their own."""

    def __init__(self, **parts: Any) -> None:
        self.clock = Clock()
        self.counters = OverlaySocketCounters()
        self.alarms = Alarms(self.clock)
        self.parts = OverlaySocketParts(Turn(self.clock), self.alarms, self.counters, Random(1).randbytes, **parts)
        self.links: list[Any] = []
        self.receivers: list[RecordingReceiver] = []

    def opened(self, link: IOverlayLink) -> RecordingReceiver:
        """See `meshrelay.overlay.interfaces.LinkOpened`."""
        self.links.append(link)
        self.receivers.append(RecordingReceiver())
        return self.receivers[-1]

    def end_turn(self) -> None:
        """Let what was put off happen."""
        self.clock.advance(0)

    def pass_time(self, seconds: float) -> None:
        """Let time go by, one second after the other."""
        for _ in range(int(seconds)):
            self.clock.advance(1.0)
        self.clock.advance(seconds % 1.0)


class MemoryLink:
    """One link behind its handshake, on a stream in memory."""

    def __init__(self, kit: OverlayKit, is_outgoing: bool = False) -> None:
        self.kit = kit
        self.is_outgoing = is_outgoing
        self.stream = SwappingStream()
        self.link = self.stream.protocol = OverlayWebSocket(self.stream, kit.parts, LinkTraits(is_outgoing, True))
        self.link.open(kit.opened)
        self.receiver = kit.receivers[-1]

    def written(self) -> list[Message]:
        """The WebSocket frames that were written since the last time."""
        self.kit.end_turn()
        data = self.stream.value()
        self.stream.clear()
        return read_masked(data) if self.is_outgoing else unmasked(data)


def read_masked(data: bytes) -> list[Message]:
    """Read what a client wrote, all of it whole frames."""
    messages = []
    while data:
        assert data[1] & 0x80, "a frame of a client without a mask"
        size, start = data[1] & 0x7F, 2
        if size > 125:
            start = 4 if size == 126 else 10
            size = int.from_bytes(data[2:start], "big")
        mask, start = data[start : start + 4], start + 4
        body = data[start : start + size]
        plain = bytes(octet ^ mask[place & 3] for place, octet in enumerate(body))
        messages.append(Message(data[0] & 15, plain))
        data = data[start + size :]
    return messages
