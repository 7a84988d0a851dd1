"""Tests of `meshrelay.peer_relay.datagrams`: sockets on connections in memory."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.peer_relay import PeerDestroyed, PeerRelaySocket, RemoteInfo, UnusableData
from meshrelay.peer_relay.datagrams import FAMILY
from tests.peer_relay.memory_sockets import SocketReactor


class SocketTestCase(SynchronousTestCase):
    """Two sockets that are linked."""

    def setUp(self) -> None:
        """Make them."""
        self.reactor = SocketReactor()
        self.first = self.make()
        self.last = self.make(self.first.peer.url)
        self.told: list[tuple[bytes, RemoteInfo]] = []
        self.last.on("message", lambda data, sender: self.told.append((data, sender)))

    def make(self, *bootstrap: str, **options: Any) -> PeerRelaySocket:
        """One socket."""
        made = PeerRelaySocket(self.reactor, port=0, bootstrap=bootstrap, webrtc=False, **options)
        self.reactor.pass_time(0.5)
        return made

    def received(self) -> list[bytes]:
        """Datagrams of the second one since the last call."""
        self.reactor.pass_time(0.2)
        told = [data for data, _ in self.told]
        self.told.clear()
        return told


class SendTests(SocketTestCase):
    """From one socket to the other."""

    def test_failing_callback(self) -> None:
        """A callback that raises is logged, and the others are told all the same."""
        later: list[bytes] = []
        self.last.on("message", lambda data, sender: 1 // 0)
        self.last.on("message", lambda data, sender: later.append(data))
        self.first.send_nowait(b"x", 0, self.last.peer.id)
        self.assertEqual(self.received(), [b"x"])
        self.assertEqual(later, [b"x"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_datagram(self) -> None:
        """Bytes come as they were sent, with the sender's ID, its port, and their number."""
        self.first.bind(4321)
        sent = self.first.send(b"\x00hello\xff", 7, self.last.peer.id)
        self.reactor.pass_time(0.2)
        self.successResultOf(sent)
        self.assertEqual(self.told, [(b"\x00hello\xff", RemoteInfo(self.first.peer.id.hex(), 4321, FAMILY, 7))])

    def test_forms(self) -> None:
        """Text, bytes and what is like them are sent, whole or in part; the ID is bytes or hex of either case."""
        to = self.last.peer.id
        for buffer, where, expected in (
            ("hé", (0, to), "hé".encode()),
            (bytearray(b"abc"), (9, to.hex()), b"abc"),
            (memoryview(b"abc"), (9, to.hex().upper()), b"abc"),
            (b"", (9, to), b""),
            (b"0123456789", (2, 5, 0, to), b"23456"),
            (b"0123456789", (10, 0, 0, to), b""),
            ("0123", (1, 2, 0, to), b"12"),
        ):
            self.first.send_nowait(buffer, *where)  # type: ignore[arg-type]
            self.assertEqual((buffer, self.received()), (buffer, [expected]))

    def test_bad_arguments(self) -> None:
        """What is of no form, or reaches beyond the buffer, is refused at once, and nothing is sent."""
        to = self.last.peer.id
        for buffer, where, error in (
            (b"x", (), TypeError),
            (b"x", (to,), TypeError),
            (b"x", (0, 1, to), TypeError),
            (b"x", ("0", 1, 0, to), TypeError),
            (b"x", (0, 2, 0, to), ValueError),
            (b"x", (-1, 1, 0, to), ValueError),
            (b"x", (1, -1, 0, to), ValueError),
            (5, (0, to), TypeError),
        ):
            self.assertRaises(error, self.first.send, buffer, *where)
        self.assertEqual(self.received(), [])

    def test_bad_id(self) -> None:
        """An address that is no ID fails, and is told by the event of who does not wait."""
        errors: list[Exception] = []
        self.first.on("error", errors.append)
        for to in ("127.0.0.1", "12", b"12", None, 7):
            self.failureResultOf(self.first.send(b"x", 0, to), UnusableData)
        self.first.send_nowait(b"x", 0, "localhost")
        self.assertIsInstance(errors[0], UnusableData)
        self.assertEqual(self.received(), [])


class ReceiveTests(SocketTestCase):
    """What comes."""

    def send(self, data: Any) -> None:
        """Send any message to the second one."""
        self.first.peer.send_nowait(self.last.peer.id, data)

    def test_claims(self) -> None:
        """Whatever a datagram says of its address, it is from its sender."""
        self.send({"buffer": {"type": "Buffer", "data": [1]}, "address": "00" * 20, "port": 9})
        self.reactor.pass_time(0.2)
        self.assertEqual(self.told, [(b"\x01", RemoteInfo(self.first.peer.id.hex(), 9, FAMILY, 1))])

    def test_text(self) -> None:
        """A buffer that came as a text is its UTF-8, as with Node."""
        self.send({"buffer": "hé", "address": "x", "port": 0})
        self.assertEqual(self.received(), ["hé".encode()])

    def test_foreign(self) -> None:
        """What is no datagram is passed over and counted; npm's package would die of it."""
        buffer = {"type": "Buffer", "data": [1]}
        foreign: tuple[Any, ...] = (
            None, 1, "x", [], {}, {"buffer": buffer}, {"port": 1}, {"buffer": [1], "port": 1},
            {"buffer": {"type": "Buffer", "data": [256]}, "port": 1}, {"buffer": {"type": "Buffer"}, "port": 1},
            *({"buffer": buffer, "port": port} for port in (None, "1", 1.5, True, -1, 65536)),
        )  # fmt: skip
        for data in foreign:
            self.send(data)
        self.assertEqual(self.received(), [])
        self.assertEqual(self.last.foreign_messages, len(foreign))

    def test_ended_callback(self) -> None:
        """A callback that was ended is told nothing more; ending it twice does no harm."""
        told: list[bytes] = []
        end = self.last.on("message", lambda data, sender: told.append(data))
        end()
        end()
        self.first.send_nowait(b"x", 0, self.last.peer.id)
        self.assertEqual((self.received(), told), ([b"x"], []))


class BindTests(SocketTestCase):
    """The port that others are told."""

    def test_bind(self) -> None:
        """A port that is asked for is told, and that the socket listens, in the next turn and without any peer."""
        alone = self.make()
        told: list[str] = []
        alone.on("listening", lambda: told.append("event"))
        alone.bind(4321, lambda: told.append("callback"))
        self.assertEqual(told, [])
        self.reactor.advance(0)
        self.assertEqual(told, ["event", "callback"])
        self.assertEqual(alone.address(), RemoteInfo(alone.peer.id.hex(), 4321, FAMILY, 0))

    def test_any_port(self) -> None:
        """Without a port one is drawn, and kept."""
        port = self.first.address().port
        self.assertTrue(0 < port <= 65535)
        self.first.bind()
        self.assertEqual(self.first.address().port, port)

    def test_refused(self) -> None:
        """What is no port is refused, and a second bind."""
        for port in (-1, 65536):
            self.assertRaises(ValueError, self.first.bind, port)
        self.first.bind(1)
        self.assertRaises(RuntimeError, self.first.bind, 2)
        self.assertEqual(self.first.address().port, 1)


class CloseTests(SocketTestCase):
    """The end."""

    def test_close(self) -> None:
        """The peer is destroyed, then the event comes, once, and the port is free; closing again does no harm."""
        told: list[str] = []
        self.first.on("close", lambda: told.append("event"))
        closed = self.first.close(lambda: told.append("callback"))
        again = self.first.close()
        self.assertEqual(told, [])
        self.reactor.pass_time(3)
        for deferred in (closed, again):
            self.successResultOf(deferred)
        self.assertEqual(told, ["event", "callback"])
        self.assertEqual(self.last.peer.peers, ())

    def test_afterwards(self) -> None:
        """A closed socket does nothing more."""
        self.first.close()
        for call in (
            self.first.address, self.first.bind, lambda: self.first.send(b"x", 0, self.last.peer.id),
            lambda: self.first.send_nowait(b"x", 0, self.last.peer.id),
        ):  # fmt: skip
            self.assertRaises(PeerDestroyed, call)
        self.reactor.pass_time(3)

    def test_events(self) -> None:
        """An event that does not exist is refused, with those that do."""
        self.assertRaisesRegex(ValueError, "message, listening, close, error", self.first.on, "data", print)
