"""Tests of `meshrelay.transport.websocket_client`."""

from __future__ import annotations

import base64
import hashlib
import struct
from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.transport.websocket_client import MAX_MESSAGE_BYTES, WebSocketRefused, open_websocket
from tests.client.memory_transport import MemoryTransport
from tests.client.test_links import RecordingReceiver

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def _server_frame(opcode: int, payload: bytes) -> bytes:
    size = len(payload)
    head = bytes((0x80 | opcode, size)) if size < 126 else bytes((0x80 | opcode, 126)) + struct.pack("!H", size)
    return head + payload


def _client_messages(data: bytes) -> list[tuple[int, bytes]]:
    """Opcode and unmasked payload of each frame that a client wrote."""
    messages = []
    while data:
        opcode, size, start = data[0] & 15, data[1] & 127, 2
        if size == 126:
            size, start = struct.unpack_from("!H", data, 2)[0], 4
        elif size == 127:
            size, start = struct.unpack_from("!Q", data, 2)[0], 10
        mask, start = data[start : start + 4], start + 4
        body = data[start : start + size]
        repeated = (mask * (size // 4 + 1))[:size]
        plain = int.from_bytes(body, "big") ^ int.from_bytes(repeated, "big")
        messages.append((opcode, plain.to_bytes(size, "big")))
        data = data[start + size :]
    return messages


class WebSocketLinkTests(SynchronousTestCase):
    """Frames over WebSocket."""

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.receiver = RecordingReceiver()
        endpoint = TCP4ClientEndpoint(self.reactor, "127.0.0.1", 7300)
        self.opened = open_websocket(self.reactor, endpoint, "ws://127.0.0.1:7300/", self.receiver, "test/1")
        self.transport = MemoryTransport()

    def _connect(self) -> None:
        factory = self.reactor.tcpClients[0][2]
        self.protocol = factory.buildProtocol(None)
        self.protocol.makeConnection(self.transport)
        self.reactor.advance(0)

    def _shake_hands(self) -> Any:
        self._connect()
        request = self.transport.value()
        self.transport.clear()
        lines = dict(line.split(b": ", 1) for line in request.split(b"\r\n") if b": " in line)
        accept = base64.b64encode(hashlib.sha1(lines[b"Sec-WebSocket-Key"] + _GUID).digest())
        self.protocol.dataReceived(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        return self.successResultOf(self.opened)

    def test_one_message_a_turn(self) -> None:
        """What is written in one turn goes out as one binary message."""
        link = self._shake_hands()
        link.write([b"one", b"two"])
        link.write([b"three"])
        self.assertEqual(self.transport.value(), b"")
        self.reactor.advance(0)
        self.assertEqual(_client_messages(self.transport.value()), [(2, b"onetwothree")])

    def test_much_goes_at_once(self) -> None:
        """A turn that writes a lot does not gather without end."""
        link = self._shake_hands()
        for _ in range(9):
            link.write([bytes(10000)])
        [(_, payload)] = _client_messages(self.transport.value())
        self.assertEqual(len(payload), 70000)

    def test_receive(self) -> None:
        """A binary message is handed on."""
        self._shake_hands()
        self.protocol.dataReceived(_server_frame(2, b"frames"))
        self.assertEqual(self.receiver.told, [b"frames"])

    def test_text_message(self) -> None:
        """A text message is against the protocol: the connection is over, once."""
        self._shake_hands()
        self.protocol.dataReceived(_server_frame(1, b"text"))
        self.assertTrue(self.transport.is_aborted)
        self.protocol.connectionLost(Failure(ConnectionDone()))
        [(code, text)] = self.receiver.told
        self.assertIsNone(code)
        self.assertIn("text message", text)

    def test_huge_message(self) -> None:
        """A message over the bound ends the connection before its body is taken."""
        self._shake_hands()
        self.protocol.dataReceived(bytes((0x82, 127)) + struct.pack("!Q", MAX_MESSAGE_BYTES + 1))
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual([code for code, _ in self.receiver.told], [None])

    def test_close_code(self) -> None:
        """The close code of the node reaches the owner."""
        self._shake_hands()
        self.protocol.dataReceived(_server_frame(8, struct.pack("!H", 4500) + b"replaced"))
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.receiver.told, [(4500, "replaced")])

    def test_broken(self) -> None:
        """A connection that just breaks has no code."""
        self._shake_hands()
        self.protocol.connectionLost(Failure(ConnectionDone()))
        [(code, text)] = self.receiver.told
        self.assertIsNone(code)
        self.assertTrue(text)

    def test_close(self) -> None:
        """close sends what was written and a closing frame, and fires when the node has closed."""
        link = self._shake_hands()
        link.write([b"goodbye"])
        closed = link.close()
        messages = _client_messages(self.transport.value())
        self.assertEqual([opcode for opcode, _ in messages], [2, 8])
        self.assertIsNone(self.transport.producer)
        self.assertNoResult(closed)
        self.protocol.dataReceived(_server_frame(8, struct.pack("!H", 1000)))
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.successResultOf(closed)
        self.assertEqual(self.receiver.told, [])

    def test_back_pressure(self) -> None:
        """The owner hears when the transport asks to pause."""
        link = self._shake_hands()
        self.assertIs(self.transport.producer, link)
        link.pauseProducing()
        link.resumeProducing()
        self.assertEqual(self.receiver.told, ["paused", "resumed"])

    def test_refused(self) -> None:
        """Nobody there: opening fails."""
        self.reactor.tcpClients[0][2].clientConnectionFailed(None, Failure(ConnectionRefusedError()))
        self.failureResultOf(self.opened, ConnectionRefusedError)

    def test_no_websocket_server(self) -> None:
        """Something that speaks no WebSocket: opening fails, and the owner is told only so."""
        self._connect()
        self.protocol.dataReceived(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.failureResultOf(self.opened, WebSocketRefused)
        self.assertEqual(self.receiver.told, [])

    def test_cancelled(self) -> None:
        """Opening can be given up in the middle of the handshake."""
        self._connect()
        self.opened.addErrback(lambda _: None)
        self.opened.cancel()
        self.assertTrue(self.transport.is_aborted)
        self.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.receiver.told, [])

    def test_no_timers(self) -> None:
        """Nothing of the connection waits on a clock, neither this reactor's nor the global one's."""
        self._shake_hands()
        self.assertEqual(self.reactor.getDelayedCalls(), [])
