"""Opening handshakes of WebSockets that go on without Autobahn."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.background import Alarms
from meshrelay.transport.websocket_accept import (
    HANDSHAKE_SECONDS,
    MAX_HANDSHAKE_BYTES,
    AcceptingFactory,
    AcceptingWebSocket,
    ConnectionRequest,
    refuse_websocket,
)
from tests.transport.overlay_kit import SwappingStream
from tests.transport.test_websocket import REQUEST


class Stream:
    """What takes over; writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[bytes | str] = []

    def dataReceived(self, data: bytes) -> None:
        """See `WebSocketStream`."""
        self.told.append(data)

    def connectionLost(self, reason: Failure) -> None:
        """See `WebSocketStream`."""
        self.told.append("lost")


class Door(AcceptingWebSocket):
    """Lets everybody in but at /no."""

    def __init__(self, alarms: Alarms) -> None:
        super().__init__(alarms)
        self.stream = Stream()
        self.told: list[str] = []

    def check_request(self, request: ConnectionRequest) -> None:
        """See `AcceptingWebSocket`."""
        if request.path == "/no":
            refuse_websocket(404, "not here")

    def make_stream(self, transport: Any) -> Stream:
        """See `AcceptingWebSocket`."""
        self.told.append("open")
        return self.stream

    def broken_off(self, why: str) -> None:
        """See `AcceptingWebSocket`."""
        self.told.append(why)

    def handshake_ended(self) -> None:
        """See `AcceptingWebSocket`."""
        self.told.append("ended")


class AcceptingWebSocketTests(SynchronousTestCase):
    """A connection on a clock."""

    def setUp(self) -> None:
        """Nothing was said yet."""
        self.clock = Clock()
        self.stream = SwappingStream()
        self.door = self.stream.protocol = Door(Alarms(self.clock))
        self.door.factory = AcceptingFactory(self.clock, {"X-Of": "ours"})
        self.door.makeConnection(self.stream)

    def test_taken_over(self) -> None:
        """What comes after the request goes to what took over, and so does the end."""
        self.stream.give(REQUEST + b"\r\nfirst")
        self.assertIn(b" 101 ", self.stream.value())
        self.assertIn(b"\r\nX-Of: ours\r\n", self.stream.value())
        self.stream.give(b"second")
        self.stream.lose()
        self.clock.advance(2 * HANDSHAKE_SECONDS)
        self.assertEqual(self.door.stream.told, [b"first", b"second", "lost"])
        self.assertEqual(self.door.told, ["ended", "open"])

    def test_refused(self) -> None:
        """Who is refused has an answer, and does not come in; if it stays, the deadline ends it."""
        self.stream.give(REQUEST.replace(b"GET / ", b"GET /no ") + b"\r\n")
        self.assertIn(b"404 not here", self.stream.value())
        self.clock.advance(HANDSHAKE_SECONDS + 0.1)
        self.assertEqual(self.stream.ends, ["lose", "abort"])

    def test_late(self) -> None:
        """Who says nothing is dropped."""
        self.clock.advance(HANDSHAKE_SECONDS + 0.1)
        self.stream.lose()
        self.assertEqual((self.stream.ends, self.door.told), (["abort"], ["handshake_timeout", "ended"]))

    def test_too_much(self) -> None:
        """Who says too much is dropped."""
        self.stream.give(b"GET / HTTP/1.1\r\nX: " + b"x" * MAX_HANDSHAKE_BYTES)
        self.stream.lose()
        self.assertEqual((self.stream.ends, self.door.told), (["abort"], ["handshake_bytes", "ended"]))
