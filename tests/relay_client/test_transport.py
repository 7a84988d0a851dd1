"""Tests of `meshrelay.relay_client.transport`."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IPushProducer, ITransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from meshrelay.relay.errors import ConnClosed
from meshrelay.relay_client.conn import RelayPeerAddress
from tests.relay_client.memory_relay import HOME, MemoryRelays


class Recorder(Protocol):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.ended: list[type[BaseException] | None] = []

    def dataReceived(self, data: bytes) -> None:
        self.heard.append(data)
        if data == b"bug":
            raise ZeroDivisionError

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended.append(reason.type)


class Lines(LineReceiver):
    """Answers each line."""

    delimiter = b"\n"

    def lineReceived(self, line: bytes) -> None:
        self.sendLine(line.upper())


class Producer:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


class RelayTransportTests(SynchronousTestCase):
    """A protocol of alice's, and bob."""

    def setUp(self) -> None:
        self.relays = MemoryRelays()
        self.relays.add_server()
        self.alice, self.bob = self.relays.pair()
        self.protocol = Recorder()
        self.transport = self.alice.attach(self.protocol)

    def pass_time(self) -> None:
        """Let everything happen."""
        self.relays.advance(0.25)

    def flow(self, is_behind: bool) -> None:
        """Let alice's link be behind, or catch up."""
        receiver: Any = self.relays.links[0].receiver
        if is_behind:
            receiver.writing_paused()
        else:
            receiver.writing_resumed()

    def test_interfaces(self) -> None:
        """It is a transport as Twisted knows them."""
        for interface in (ITransport, IPushProducer, IConsumer):
            verifyObject(interface, self.transport)
        self.assertEqual(self.transport.getPeer(), RelayPeerAddress(HOME, "bob"))
        self.assertEqual(self.transport.getHost().host, "192.0.2.1")

    def test_lines(self) -> None:
        """A line protocol can talk to a peer."""
        carol, dave = self.relays.connected("carol"), self.relays.connected("dave")
        self.relays.conn(carol, "dave").attach(Lines())
        conn = self.relays.conn(dave, "carol")
        conn.write_nowait(b"hello\nwor")
        conn.write_nowait(b"ld\n")
        self.relays.settle()
        self.assertEqual([self.successResultOf(conn.read()) for _ in range(2)], [b"HELLO\n", b"WORLD\n"])

    def test_long_write(self) -> None:
        """What is longer than a message is cut into some."""
        self.transport.writeSequence([bytes(5000), bytes(5000)])
        self.relays.settle()
        self.assertEqual([len(self.successResultOf(self.bob.read())) for _ in range(2)], [8782, 1218])

    def test_waiting_messages(self) -> None:
        """What had come before the protocol was there it gets at once."""
        self.alice.write_nowait(b"first")
        self.relays.settle()
        late = Recorder()
        self.bob.attach(late)
        self.assertEqual(late.heard, [b"first"])

    def test_pause(self) -> None:
        """A protocol that pauses gets nothing until it goes on."""
        self.transport.pauseProducing()
        for data in (b"one", b"two"):
            self.bob.write_nowait(data)
        self.relays.settle()
        self.assertEqual(self.protocol.heard, [])
        self.transport.resumeProducing()
        self.assertEqual(self.protocol.heard, [b"one", b"two"])

    def test_producer(self) -> None:
        """A producer is paused while the way to the server is full, and told of the end."""
        producer = Producer()
        self.transport.registerProducer(producer, True)
        self.assertRaises(RuntimeError, self.transport.registerProducer, producer, True)
        self.flow(True)
        self.flow(False)
        self.relays.links[1].cut()
        self.pass_time()
        self.assertEqual(producer.told, ["pause", "resume", "stop"])
        late = Producer()
        self.transport.registerProducer(late, True)
        self.assertEqual(late.told, ["stop"])

    def test_other_producers(self) -> None:
        """One that is pulled is asked for more; one that comes while the way is full is paused at once."""
        pulled, pushed = Producer(), Producer()
        self.transport.registerProducer(pulled, False)
        self.transport.unregisterProducer()
        self.flow(True)
        self.transport.registerProducer(pushed, True)
        self.assertEqual((pulled.told, pushed.told), (["resume"], ["pause"]))

    def test_lose(self) -> None:
        """Losing the connection waits for a producer; the protocol hears of it in another turn, as it is done."""
        self.transport.registerProducer(Producer(), True)
        self.transport.loseConnection()
        self.transport.write(b"last")
        self.assertFalse(self.alice.is_closed)
        self.transport.unregisterProducer()
        self.assertTrue(self.alice.is_closed)
        self.assertEqual(self.protocol.ended, [])
        self.pass_time()
        self.assertEqual(self.protocol.ended, [ConnectionDone])
        self.assertEqual(self.successResultOf(self.bob.read()), b"last")
        self.transport.write(b"too late")
        self.transport.stopProducing()
        self.transport.abortConnection()
        self.transport.resumeProducing()
        self.assertRaises(ConnClosed, self.alice.attach, Recorder())

    def test_peer_goes(self) -> None:
        """When the peer goes the connection was lost."""
        self.relays.links[1].cut()
        self.pass_time()
        self.assertEqual(self.protocol.ended, [ConnectionLost])

    def test_bug(self) -> None:
        """A protocol that raises loses its connection; the relay's goes on."""
        self.bob.write_nowait(b"bug")
        self.pass_time()
        self.assertEqual(self.protocol.ended, [ConnectionDone])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.relays.links[0].ended, "")

    def test_unbounded_writer(self) -> None:
        """Who writes on and on while the way is full is cut off."""
        self.flow(True)
        for _ in range(200):
            self.transport.write(bytes(8000))
        self.assertTrue(self.alice.is_closed)
        self.assertEqual(self.relays.links[0].ended, "")
