"""The node's WebSocket decoder beside Autobahn's, on streams that are right and wrong: no ports are used."""

from __future__ import annotations

from random import Random
from struct import pack
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.wire.websocket import Opcode
from meshrelay.wire.websocket_decoder import BrokenWebSocket, WebSocketDecoder, unmask
from tests.transport.stream_kit import TcpStream

#: Streams that are compared.
STREAMS = 2000

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: relay.example:7300\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

#: One whole message (kind, payload), the beginning of one (kind, payload, "..."), or the code of a refusal.
Seen = list[tuple[Any, ...]]


class Peer(WebSocketServerProtocol):
    """Writes down what Autobahn makes of a stream."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Seen = []
        self._kind = 0
        self._payload = b""

    def onMessageBegin(self, isBinary: bool) -> None:
        """See Autobahn."""
        self._kind, self._payload = (Opcode.BINARY if isBinary else Opcode.TEXT), b""

    def onMessageFrameBegin(self, length: int) -> None:
        """See Autobahn."""

    def onMessageFrameData(self, payload: bytes) -> None:
        """See Autobahn."""
        self._payload += payload

    def onMessageFrameEnd(self) -> None:
        """See Autobahn."""

    def onMessageEnd(self) -> None:
        """See Autobahn."""
        self.seen.append((self._kind, self._payload))
        self._kind = 0

    def onPing(self, payload: bytes) -> None:
        """See Autobahn."""
        self.seen.append((Opcode.PING, payload))

    def onPong(self, payload: bytes) -> None:
        """See Autobahn."""
        self.seen.append((Opcode.PONG, payload))

    def onCloseFrame(self, code: Any, reasonRaw: Any) -> bool | None:
        """See Autobahn: it was read, and is now judged."""
        count = len(self.seen)
        stops = super().onCloseFrame(code, reasonRaw)
        if len(self.seen) == count:
            self.seen.append((Opcode.CLOSE, b"" if code is None else pack("!H", code) + (reasonRaw or b"")))
        return stops

    def _fail_connection(self, code: int = 0, reason: str = "") -> None:
        self.seen.append((code,))
        super()._fail_connection(code, reason)

    def everything(self) -> Seen:
        """What was seen, with the beginning of a message that was not over."""
        return [*self.seen, (self._kind, self._payload, "...")] if self._kind else self.seen


def by_autobahn(reads: list[bytes]) -> Seen:
    """What Autobahn makes of a stream until the first mistake or close."""
    factory = WebSocketServerFactory(reactor=Clock())
    factory.setProtocolOptions(
        failByDrop=True, utf8validateIncoming=False, openHandshakeTimeout=0, closeHandshakeTimeout=0
    )
    peer = Peer()
    peer.factory = factory
    peer.makeConnection(TcpStream())
    peer.dataReceived(REQUEST)
    for data in reads:
        peer.dataReceived(data)
    return peer.everything()


def by_us(reads: list[bytes]) -> Seen:
    """The same by the node's decoder."""
    decoder = WebSocketDecoder(1 << 30)
    seen: Seen = []
    open_kind, gathered = 0, b""
    try:
        for data in reads:
            for kind, payload, is_end in decoder.pieces(data):
                if kind > Opcode.BINARY:
                    seen.append((kind, payload))
                    continue
                gathered = gathered + payload if open_kind else payload
                open_kind = 0 if is_end else kind
                if is_end:
                    seen.append((kind, gathered))
    except BrokenWebSocket as error:
        seen.append((error.code,))
    return [*seen, (open_kind, gathered, "...")] if open_kind else seen


def random_frame(random: Random, is_inside: bool) -> tuple[bytes, bool]:
    """One frame, in one of four cases with something unusual; and whether a message is open behind it."""
    opcode = random.choice([0, 0, 0, 9, 10] if is_inside else [1, 2, 2, 2, 2, 2, 9, 10, 8])
    is_last = opcode > 2 or random.random() < 0.6
    size = random.choice([0, 1, 2, 5, 60, 125] if opcode > 2 else [0, 1, 7, 125, 126, 127, 300, 70_000])
    payload = random.randbytes(size)
    if opcode == Opcode.CLOSE and size > 1:
        code = random.choice([1000, 1000, 1001, 1004, 1005, 1006, 1007, 1012, 1013, 1014, 1016, 2999, 3000, 4999, 5000])
        payload = pack("!H", code) + random.choice([b"", b"bye", "ü".encode(), b"\xc3", b"\xed\xa0\x80"])
        size = len(payload)
    second = 0x80
    fault = random.random()
    reserved = 0
    if fault < 0.02:
        reserved = random.choice([0x10, 0x20, 0x40])
    elif fault < 0.04:
        second = 0
    elif fault < 0.08:
        opcode = random.randrange(16)
    elif fault < 0.1:
        is_last = not is_last
    form = 126 if 126 <= size < 65536 else 127 if size >= 65536 else 0
    if fault > 0.98:
        form = random.choice([126, 127]) if size < 65536 else 127
    head = bytes((0x80 * is_last | reserved | opcode, second | (form or size)))
    if form:
        head += pack("!H" if form == 126 else "!Q", size)
    mask = random.randbytes(4)
    data = head + (mask + unmask(payload, mask) if second else payload)
    return data, (not is_last if opcode < 8 else is_inside)


def random_reads(random: Random) -> list[bytes]:
    """A stream of whole frames, cut anywhere."""
    stream, is_inside = b"", False
    for _ in range(random.randrange(1, 8)):
        data, is_inside = random_frame(random, is_inside)
        stream += data
    cuts = sorted(random.randrange(len(stream) + 1) for _ in range(random.randrange(6)))
    return [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


class EquivalenceTests(SynchronousTestCase):
    """Who was understood by Autobahn is understood now, and who was refused is refused."""

    def test_random_streams(self) -> None:
        """Both read the same messages, up to the same mistake, with the same close code."""
        random = Random(6455)
        outcomes: dict[Any, int] = {}
        for index in range(STREAMS):
            reads = random_reads(random)
            ours = by_us(reads)
            self.assertEqual(ours, by_autobahn(reads), (index, [data[:200].hex() for data in reads]))
            outcome = ours[-1][0] if ours and len(ours[-1]) < 3 else "open"
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
        # The comparison has met everything there is to compare.
        self.assertGreater(min(outcomes.get(each, 0) for each in (*list(Opcode)[1:], 1002, 1007, "open")), 9, outcomes)
