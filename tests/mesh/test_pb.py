"""Perspective Broker under the links, over streams in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from meshrelay.mesh.errors import LinkLost
from meshrelay.mesh.interfaces import IConnectionUser, INodeConnection
from meshrelay.mesh.pb import MAX_NOT_READY, MAX_UNREAD_BYTES, dialer, server_factory
from meshrelay.testing.link_contract import CallFailedOnPurpose, check_links
from meshrelay.wire.node import Refusal, decode_refusal, encode_call
from tests.mesh.memory_streams import MemoryEndpoint, MemoryStream, Wires, make_links
from tests.mesh.test_banana_guard import head

LOOPBACK = IPv4Address("TCP", "127.0.0.1", 7)


def encode(value: Any) -> bytes:
    """Banana without its vocabulary."""
    if isinstance(value, list):
        return head(0x80, len(value)) + b"".join(map(encode, value))
    return head(0x81, value) if isinstance(value, int) else head(0x82, len(value)) + value


class RawPeer:
    """A peer that writes banana by hand, and remembers what it got."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.received = b""
        self.is_lost = False

    def makeConnection(self, transport: Any) -> None:
        """See `IProtocol`."""
        self.transport = transport

    def dataReceived(self, data: bytes) -> None:
        """See `IProtocol`."""
        self.received += data

    def connectionLost(self, _: object) -> None:
        """See `IProtocol`."""
        self.is_lost = True

    def say(self, *expressions: Any) -> None:
        """Write expressions."""
        for each in expressions:
            self.transport.write(encode(each))


@implementer(IConnectionUser)
class User:
    """Answers everything with `answer`, and remembers."""

    def __init__(self, answer: bytes = b"well") -> None:
        self.answer = answer
        self.calls: list[tuple[str, bytes]] = []
        self.reasons: list[str] = []
        self.heard_count = 0

    def heard(self) -> None:
        """See `IConnectionUser`."""
        self.heard_count += 1

    def received(self, method: str, data: bytes) -> bytes | Deferred[bytes]:
        """See `IConnectionUser`."""
        self.calls.append((method, data))
        return self.answer

    def connection_lost(self, reason: str) -> None:
        """See `IConnectionUser`."""
        self.reasons.append(reason)


class ContractTests(SynchronousTestCase):
    """Links over Perspective Broker."""

    def test_contract(self) -> None:
        """They promise what links in memory do."""
        check_links(make_links)
        self.assertEqual(len(self.flushLoggedErrors(CallFailedOnPurpose)), 1)


class HostileTests(SynchronousTestCase):
    """What is no call of a node."""

    def setUp(self) -> None:
        """A node, and a peer that agreed on PB with it."""
        self.wires = Wires()
        self.user = User()
        self.accepted: list[INodeConnection] = []
        factory = server_factory(self.accept, self.wires.clock, None)
        self.peer = RawPeer()
        self.end, _ = self.wires.connect(factory.buildProtocol(LOOPBACK), self.peer)
        self.wires.pump()
        self.peer.say(b"pb", [b"version", 6])
        self.wires.pump()

    def accept(self, connection: INodeConnection) -> None:
        """Attach the user."""
        connection.attach(self.user)
        self.accepted.append(connection)

    def call(self, number: Any = 1, target: Any = b"root", name: Any = b"ping", answered: Any = 1, **more: Any) -> Any:
        """A call as PB writes it."""
        return [b"message", number, target, name, answered, more.get("args", [b"tuple", b"data"]), [b"dictionary"]]

    def test_good(self) -> None:
        """A call of a node arrives and is answered."""
        verifyObject(INodeConnection, self.accepted[0])
        self.peer.say(self.call())
        self.wires.pump()
        self.assertEqual(self.user.calls, [("ping", b"data")])
        self.assertTrue(self.peer.received.endswith(encode(1) + encode(b"well")), self.peer.received)
        self.assertFalse(self.peer.is_lost)

    def test_refused(self) -> None:
        """Other objects, methods, arguments and messages of PB end the connection, and reach nobody."""
        cases = {
            "another object": self.call(target=1),
            "another method": self.call(name=b"eval"),
            "a private method": self.call(name=b"_answer"),
            "no answer wanted": self.call(answered=0),
            "two arguments": self.call(args=[b"tuple", b"a", b"b"]),
            "no argument": self.call(args=[b"tuple"]),
            "a list": self.call(args=[b"tuple", [b"list", b"a"]]),
            "an instance": self.call(args=[b"tuple", [b"os.system", b"x"]]),
            "a reference": self.call(args=[b"tuple", [b"remote", 1]]),
            "keywords": [*self.call()[:-1], [b"dictionary", [b"x", b"y"]]],
            "a number that is none": self.call(number=b"1"),
            "too few parts": [b"message", 1],
            "an answer to nothing": [b"answer", 7, b"x"],
            "an answer of a list": [b"answer", 1, [b"list"]],
            "an error": [b"error", 1, b"x"],
            "a cached message": [b"cachemessage", *self.call()[1:]],
            "decref": [b"decref", b"root"],
            "uncache": [b"uncache", 1],
            "something unknown": [b"anything", 1],
            "not understood": [b"didNotUnderstand", b"x"],
            "another version": [b"version", 5],
            "an empty list": [],
            "a bare string": b"message",
            "a bare number": 1,
        }
        for name, expression in cases.items():
            self.setUp()
            self.peer.say(expression)
            self.wires.pump()
            self.assertTrue(self.peer.is_lost, name)
            self.assertEqual(self.user.calls, [], name)
            self.assertEqual(len(self.user.reasons), 1, name)
            self.assertIn("not the language of nodes", self.user.reasons[0], name)
            self.assertNotIn(b"raceback", self.peer.received, name)

    def test_nothing_behind(self) -> None:
        """What stands behind a refused expression in the same read is not looked at."""
        self.peer.say([b"anything"], self.call())
        self.wires.pump()
        self.assertEqual(self.user.calls, [])

    def test_bomb(self) -> None:
        """Lists in lists are refused at the 33rd, before banana keeps any of that read."""
        self.peer.transport.write(b"\x01\x80" * 30_000)
        self.end.other.pump()
        self.assertTrue(self.peer.is_lost)
        self.assertIn("inside 32 others", self.user.reasons[0])

    def test_never_reads(self) -> None:
        """A peer that asks on and on and does not read the answers is cut off."""
        self.user.answer = b"x" * 100_000
        self.end.producer.pauseProducing()
        asked = 0
        while not self.peer.is_lost and asked < 1000:
            self.peer.say(self.call(number=asked))
            self.end.other.pump()
            asked += 1
        self.assertLessEqual(asked, MAX_UNREAD_BYTES // 100_000 + 1)
        self.assertIn("does not read", self.user.reasons[0])

    def test_behind_the_end(self) -> None:
        """Calls that came in the same read as the one that was too much reach nobody."""
        self.user.answer = b"x" * 600_000
        self.end.producer.pauseProducing()
        self.peer.say(*[self.call(number=number) for number in range(20)])
        self.wires.pump()
        self.assertEqual((len(self.user.calls), self.peer.is_lost), (MAX_UNREAD_BYTES // 600_000 + 1, True))

    def test_reads_again(self) -> None:
        """A peer that reads now and then is not cut off."""
        self.user.answer = b"x" * 100_000
        for _ in range(100):
            self.end.producer.pauseProducing()
            self.peer.say(self.call())
            self.end.other.pump()
            self.end.producer.resumeProducing()
        self.assertFalse(self.peer.is_lost)

    def test_bug_of_ours(self) -> None:
        """When our own code raises, our log has it, and the peer gets no word of it but the end."""

        def broken(_: str, __: bytes) -> bytes:
            raise ZeroDivisionError("in /secret/path")

        self.user.received = broken  # type: ignore[method-assign, assignment]
        self.peer.say(self.call())
        self.wires.pump()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertNotIn(b"secret", self.peer.received)
        self.assertTrue(self.peer.is_lost)
        self.assertEqual(self.user.reasons, ["internal error"])


class ConnectTests(SynchronousTestCase):
    """Before there is a link."""

    def setUp(self) -> None:
        """A node that accepts."""
        self.wires = Wires()
        self.accepted: list[INodeConnection] = []

    def factory(self, insecure: bool = False) -> Any:
        """What listens, without TLS."""
        return server_factory(self.accepted.append, self.wires.clock, None, insecure)

    def dial(self, address: IPv4Address | None, insecure: bool, server_insecure: bool) -> tuple[Any, User]:
        """Dial from `address`; return the connection, if any, and who uses it."""
        endpoint = MemoryEndpoint(self.wires, self.factory(server_insecure), address)
        dialled: list[Any] = []
        user = User()

        def ready(connection: INodeConnection) -> None:
            dialled.append(connection)
            connection.attach(user)

        dialer(endpoint, self.wires.clock, None, insecure)().addCallbacks(ready, lambda _: None)
        self.wires.pump()
        return (dialled or [None])[0], user

    def test_clear(self) -> None:
        """In the clear: Unix sockets may, loopback where it was said, other machines never."""
        elsewhere = IPv4Address("TCP", "192.0.2.1", 7)
        for address, insecure, expected in (
            (None, False, 1),
            (LOOPBACK, True, 1),
            (LOOPBACK, False, 0),
            (elsewhere, True, 0),
        ):
            self.accepted.clear()
            self.dial(address, insecure, insecure)
            self.assertEqual(len(self.accepted), expected, (address, insecure))

    def test_clear_is_told(self) -> None:
        """A node that takes no links in the clear says so to the one that dialled."""
        _, user = self.dial(LOOPBACK, True, False)
        self.assertEqual([method for method, _ in user.calls], ["bye"])
        code, text = decode_refusal(user.calls[0][1])
        self.assertEqual((code, text), (Refusal.PLAIN, "a link in the clear with 127.0.0.1:7"))

    def test_not_ready(self) -> None:
        """Connections that agree on nothing are cut off in time; too many of them are turned away."""
        factory = self.factory()
        peers = [RawPeer() for _ in range(MAX_NOT_READY)]
        for peer in peers:
            self.wires.connect(factory.buildProtocol(LOOPBACK), peer)
        self.assertIsNone(factory.buildProtocol(LOOPBACK))
        self.wires.run(5.1)
        self.assertEqual({peer.is_lost for peer in peers}, {True})
        self.assertIsNotNone(factory.buildProtocol(LOOPBACK))
        self.assertEqual(factory.refused, MAX_NOT_READY + 1)
        self.assertEqual(self.accepted, [])

    def test_lost_early(self) -> None:
        """A dial fails when the connection ends before both agreed on PB."""
        wires = self.wires

        class Closing:
            def buildProtocol(self, _: object) -> RawPeer:
                return RawPeer()

        dialled = dialer(MemoryEndpoint(wires, Closing()), wires.clock, None)()  # type: ignore[arg-type]
        self.assertNoResult(dialled)
        wires.cut()
        self.failureResultOf(dialled, LinkLost)

    def test_given_up(self) -> None:
        """A dial that is cancelled closes what it had opened."""
        dialled = dialer(MemoryEndpoint(self.wires, self.factory()), self.wires.clock, None)()
        dialled.cancel()
        self.failureResultOf(dialled)
        self.assertEqual({stream.is_over for stream in self.wires.streams}, {True})

    def test_closed(self) -> None:
        """Calls on a closed connection fail, those under way with the reason."""
        connection, _ = self.dial(None, False, False)
        under_way = connection.call("ping", b"")
        connection.abort("enough")
        self.assertEqual(self.failureResultOf(under_way, LinkLost).value.reason, "enough")
        self.failureResultOf(connection.call("call", encode_call("x", b"")), LinkLost)
        connection.abort("twice")
        connection.finish()

    def test_no_certificate(self) -> None:
        """Without TLS there is no certificate, and the peer is named as the socket is."""
        connection, _ = self.dial(None, False, False)
        self.assertEqual((connection.names, connection.peer), (None, "/tmp/nodes"))
        self.assertIsInstance(self.wires.streams[0], MemoryStream)
