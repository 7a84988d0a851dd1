"""Dialling other peers of the overlay; names and connections are in memory."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.interfaces import IAddress, IHostnameResolver, IResolutionReceiver
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from meshrelay.background import Alarms
from meshrelay.fanout.turn import Turn
from meshrelay.overlay.interfaces import IDialler, IOverlayLink
from meshrelay.transport.overlay_dial import (
    DIAL_SECONDS,
    MAX_ADDRESSES,
    MAX_DIALS,
    MAX_WAITING_DIALS,
    OverlayDialler,
    Place,
)
from meshrelay.transport.overlay_link import OverlaySocketCounters, OverlaySocketParts
from meshrelay.wire.websocket import encode_message
from tests.transport.overlay_kit import RecordingReceiver, SwappingStream, read_masked
from tests.transport.test_websocket import TEXT
from tests.transport.test_websocket_open import answer_to


@implementer(IHostnameResolver)
class Names:
    """Looks names up in a table; an empty name waits for `answer`."""

    def __init__(self, table: dict[str, list[str]]) -> None:
        self.table = table
        self.asked: list[str] = []
        self.waiting: list[IResolutionReceiver] = []

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Any = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        """See `IHostnameResolver`."""
        self.asked.append(hostName)
        resolutionReceiver.resolutionBegan(self)  # type: ignore[arg-type]
        if hostName in self.table:
            self.answer(resolutionReceiver, self.table[hostName])
        else:
            self.waiting.append(resolutionReceiver)
        return self

    def answer(self, receiver: IResolutionReceiver, hosts: list[str]) -> None:
        """Tell the addresses."""
        for host in hosts:
            address: IAddress = (IPv6Address if ":" in host else IPv4Address)("TCP", host, 0)
            receiver.addressResolved(address)
        receiver.resolutionComplete()


class Attempt:
    """One call of `dial`, and what came of it."""

    def __init__(self, dialler: OverlayDialler, url: str, is_checked: bool = True) -> None:
        self.links: list[IOverlayLink] = []
        self.failures: list[str] = []
        self.receiver: RecordingReceiver | None = RecordingReceiver()
        self.cancel: Callable[[], None] = dialler.dial(url, self.opened, self.failures.append, is_checked=is_checked)
        assert not self.links
        assert not self.failures

    def opened(self, link: IOverlayLink) -> RecordingReceiver | None:
        """See `LinkOpened`."""
        self.links.append(link)
        return self.receiver


class DiallerTestCase(SynchronousTestCase):
    """A dialler that may go to addresses of documentation only."""

    def setUp(self) -> None:
        """No names but these."""
        self.reactor: Any = MemoryReactorClock()
        self.names = self.reactor.nameResolver = Names(
            {
                "one.example": ["192.0.2.1"],
                "two.example": ["192.0.2.2", "2001:db8::2"],
                "mixed.example": ["192.0.2.3", "10.0.0.1"],
                "many.example": [f"192.0.2.{number}" for number in range(1, 20)],
                "none.example": [],
                "127.1": ["127.0.0.1"],
            }
        )
        self.checked: list[str] = []
        self.counters = OverlaySocketCounters()
        parts = OverlaySocketParts(Turn(self.reactor), Alarms(self.reactor), self.counters, Random(1).randbytes)
        self.dialler = OverlayDialler(self.reactor, parts, self.allows)

    def allows(self, host: str) -> bool:
        """The policy."""
        self.checked.append(host)
        return host.startswith(("192.0.2.", "2001:db8:"))

    def dial(self, url: str, is_checked: bool = True) -> Attempt:
        """Dial, and end the turn."""
        attempt = Attempt(self.dialler, url, is_checked)
        self.reactor.advance(0)
        return attempt

    def targets(self) -> list[tuple[str, int]]:
        """Where connections were asked for."""
        return [(client[0], client[1]) for client in self.reactor.tcpClients]

    def connect(self, number: int = 0) -> SwappingStream:
        """Let TCP connect; the stream holds the request."""
        stream = SwappingStream()
        stream.protocol = self.reactor.tcpClients[number][2].buildProtocol(None)
        stream.protocol.makeConnection(stream)
        return stream

    def refuse(self, number: int = 0) -> None:
        """Let TCP fail."""
        self.reactor.tcpClients[number][2].clientConnectionFailed(None, Failure(ConnectionRefusedError()))


class DialTests(DiallerTestCase):
    """From a URL to a link."""

    def test_contract(self) -> None:
        """It is what a peer takes it for."""
        verifyObject(IDialler, self.dialler)

    def test_request(self) -> None:
        """It asks for what the URL names, says that it is meshrelay, and no more."""
        self.dial("ws://one.example:8101/a/path;of=it?with=query")
        self.assertEqual(self.targets(), [("192.0.2.1", 8101)])
        request = self.connect().value()
        self.assertTrue(request.startswith(b"GET /a/path;of=it?with=query HTTP/1.1\r\n"))
        self.assertIn(b"Host: one.example:8101\r\n", request)
        self.assertIn(b"Meshrelay-Overlay: 1\r\n", request)
        for header in (b"Extensions", b"Sec-WebSocket-Protocol", b"Origin"):
            self.assertNotIn(header, request)

    def test_hosts(self) -> None:
        """Hosts of all kinds stand in the request as they must."""
        for url, host, target in (
            ("ws://192.0.2.9/", b"192.0.2.9:80", ("192.0.2.9", 80)),
            ("ws://[2001:db8::9]:81", b"[2001:db8::9]:81", ("2001:db8::9", 81)),
            ("ws://ONE.example.:82", b"one.example.:82", ("192.0.2.1", 82)),
        ):
            self.setUp()
            self.names.table["one.example."] = ["192.0.2.1"]
            self.dial(url)
            self.assertEqual(self.targets(), [target])
            self.assertIn(b"Host: " + host + b"\r\n", self.connect().value())

    def test_link(self) -> None:
        """The answer opens the link; what came with it reaches the receiver; frames that leave are masked."""
        for headers, is_own in ((b"", False), (b"Meshrelay-Overlay: 1\r\n", True)):
            self.setUp()
            attempt = self.dial("ws://one.example:8101")
            stream = self.connect()
            stream.give(answer_to(stream.value(), headers) + encode_message(b'"1"', False))
            stream.clear()
            [link] = attempt.links
            self.assertEqual((link.is_own, link.is_outgoing, link.has_origin), (is_own, True, False))
            stream.give(encode_message(b'"2"', False))
            assert attempt.receiver is not None
            self.assertEqual(attempt.receiver.frames, [b'"1"', b'"2"'])
            self.assertTrue(link.send(b'"3"'))
            self.reactor.advance(0)
            self.assertEqual(read_masked(stream.value()), [(TEXT, b'"3"')])
            stream.lose()
            self.assertEqual(len(attempt.receiver.lost), 1)
            self.reactor.pump([DIAL_SECONDS, 1.0])
            self.assertEqual(attempt.failures, [])

    def test_no_autobahn(self) -> None:
        """After the handshake the connection calls the link itself."""
        attempt = self.dial("ws://one.example:8101")
        stream = self.connect()
        stream.give(answer_to(stream.value()))
        self.assertIs(stream.protocol, attempt.links[0])

    def test_not_wanted(self) -> None:
        """A link that nobody wants any more is dropped."""
        attempt = self.dial("ws://one.example:8101")
        attempt.receiver = None
        stream = self.connect()
        stream.give(answer_to(stream.value()))
        self.assertEqual(stream.ends, ["abort"])

    def test_refused(self) -> None:
        """Whatever keeps it from being a link is told once, in words."""
        attempt = self.dial("ws://one.example:8101")
        self.refuse()
        self.assertEqual(attempt.failures, ["Connection was refused by other side."])
        attempt = self.dial("ws://one.example:8101")
        stream = self.connect(1)
        stream.give(b"HTTP/1.1 503 full\r\n\r\n")
        stream.lose()
        self.assertEqual(len(attempt.failures), 1)
        self.assertIn("503", attempt.failures[0])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_wrong_urls(self) -> None:
        """A URL that cannot be dialled fails, later, and nothing is looked up."""
        for url in (
            "http://one.example/",
            "wss:one.example",
            "ws://",
            "ws://user@one.example/",
            "ws://one.example/#part",
            "ws://one.example:0/",
            "ws://one.example:65536/",
            "ws://one.example:x/",
            "ws://one.example/a b",
            "ws://one.example/\r\nX: y",
            "ws://münchen.example/",
            "ws://[2001:db8::1%25eth0]/",
            "ws://[::1",
            "ws://a..example/",
            "ws://unix:80/run/x.sock",
            f"ws://{'a' * 64}.example/",
            "ws://one.example/" + "x" * 2048,
        ):
            attempt = self.dial(url)
            self.assertEqual(len(attempt.failures), 1, url)
        self.assertEqual((self.names.asked, self.targets()), ([], []))

    def test_default_ports(self) -> None:
        """Without a port it is that of the scheme."""
        self.assertEqual((Place.of("ws://a").port, Place.of("WSS://a").port), (80, 443))


class PolicyTests(DiallerTestCase):
    """Where it may go."""

    def test_every_address(self) -> None:
        """One address that is not allowed is enough to refuse a name, whichever would be taken."""
        attempt = self.dial("ws://mixed.example/")
        self.assertEqual((attempt.failures, self.targets()), (["10.0.0.1 is not to be dialled"], []))

    def test_spellings(self) -> None:
        """An address is checked as what it is, however it is spelled."""
        for url in ("ws://127.0.0.1/", "ws://127.1/", "ws://[::1]/", "ws://[::ffff:127.0.0.1]/"):
            attempt = self.dial(url)
            self.assertEqual(len(attempt.failures), 1, url)
        self.assertEqual(self.targets(), [])
        self.assertEqual(self.checked, ["127.0.0.1", "127.0.0.1", "::1", "::ffff:127.0.0.1"])

    def test_not_checked(self) -> None:
        """What whoever runs the peer has named is dialled wherever it is."""
        self.dial("ws://127.1:8101/", is_checked=False)
        self.assertEqual((self.targets(), self.checked), ([("127.0.0.1", 8101)], []))

    def test_one_look_up(self) -> None:
        """What is connected to is what was checked: a name that changes its mind is not asked again."""
        self.dial("ws://two.example/")
        self.names.table["two.example"] = ["10.0.0.1"]
        self.refuse()
        self.assertEqual(self.names.asked, ["two.example"])
        self.assertEqual(self.targets(), [("192.0.2.2", 80), ("2001:db8::2", 80)])

    def test_no_address(self) -> None:
        """A name without an address fails."""
        self.assertEqual(self.dial("ws://none.example/").failures, ["none.example has no address"])


class BoundTests(DiallerTestCase):
    """How long, and how many."""

    def test_next_address(self) -> None:
        """A host with two addresses is reached by the second if the first says nothing for its share of the time."""
        attempt = self.dial("ws://two.example/")
        self.reactor.advance(DIAL_SECONDS / 2)
        self.assertEqual([host for host, _ in self.targets()], ["192.0.2.2", "2001:db8::2"])
        stream = self.connect(1)
        stream.give(answer_to(stream.value()))
        self.assertEqual(len(attempt.links), 1)

    def test_many_addresses(self) -> None:
        """A name with ever so many addresses is tried at a few; all of them are checked."""
        attempt = self.dial("ws://many.example/")
        for number in range(MAX_ADDRESSES):
            self.refuse(number)
        self.assertEqual((len(self.targets()), len(attempt.failures), len(self.checked)), (MAX_ADDRESSES, 1, 19))

    def test_deadline(self) -> None:
        """Whatever it waits for, look-up, connection or answer: after ten seconds it has failed, with nothing left."""
        for url, is_connected in (
            ("ws://slow.example/", False),
            ("ws://one.example/", False),
            ("ws://two.example/", False),
            ("ws://one.example/", True),
        ):
            self.setUp()
            attempt = self.dial(url)
            streams = [self.connect()] if is_connected else []
            self.reactor.pump([1.0] * int(DIAL_SECONDS))
            self.assertEqual(attempt.failures, ["not connected in time"])
            self.assertEqual([stream.ends for stream in streams], [["abort"]] * len(streams))
            self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_late_answer(self) -> None:
        """A look-up that answers after the deadline is passed over."""
        self.dial("ws://slow.example/")
        self.reactor.pump([1.0] * int(DIAL_SECONDS))
        self.names.answer(self.names.waiting[0], ["192.0.2.1"])
        self.assertEqual(self.targets(), [])

    def test_cancelled(self) -> None:
        """Who gives up hears nothing more, wherever it was, and nothing is left."""
        for step in range(4):
            self.setUp()
            attempt = Attempt(self.dialler, "ws://slow.example/" if step == 1 else "ws://one.example/")
            if step:
                self.reactor.advance(0)
            stream = self.connect() if step == 3 else None
            attempt.cancel()
            attempt.cancel()
            self.reactor.pump([1.0] * 20)
            self.assertEqual((attempt.links, attempt.failures), ([], []), step)
            if stream is not None:
                self.assertEqual(stream.ends, ["abort"])
                stream.protocol.connectionLost(Failure(ConnectionDone()))
            self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_cancelled_between_addresses(self) -> None:
        """Who gives up while one address is tried does not go on to the next."""
        attempt = self.dial("ws://two.example/")
        attempt.cancel()
        self.reactor.pump([1.0] * 20)
        self.assertEqual(len(self.targets()), 1)

    def test_cancelled_too_late(self) -> None:
        """To give up a link that is open does nothing."""
        attempt = self.dial("ws://one.example/")
        stream = self.connect()
        stream.give(answer_to(stream.value()))
        attempt.cancel()
        self.assertEqual(stream.ends, [])

    def test_at_once(self) -> None:
        """So many are dialled at once; the next one begins when one of them has ended."""
        attempts = [self.dial("ws://one.example/") for _ in range(MAX_DIALS + 2)]
        self.assertEqual(len(self.targets()), MAX_DIALS)
        self.refuse(0)
        self.assertEqual(len(self.targets()), MAX_DIALS + 1)
        attempts[1].cancel()
        self.assertEqual(len(self.targets()), MAX_DIALS + 2)

    def test_waiting(self) -> None:
        """So many wait for them; another fails, and those who waited too long."""
        for _ in range(MAX_DIALS + MAX_WAITING_DIALS):
            last = self.dial("ws://slow.example/")
        late = self.dial("ws://slow.example/")
        self.assertEqual((last.failures, late.failures), ([], ["too many other peers are dialled"]))
        self.reactor.pump([1.0] * int(DIAL_SECONDS))
        self.assertEqual(last.failures, ["not connected in time"])
        again = self.dial("ws://one.example/")
        self.refuse()
        self.assertEqual(again.failures, ["Connection was refused by other side."])

    def test_own_urls(self) -> None:
        """URLs of whoever runs the peer wait for nobody."""
        for _ in range(MAX_DIALS + MAX_WAITING_DIALS):
            self.dial("ws://slow.example/")
        self.dial("ws://one.example/", is_checked=False)
        self.assertEqual(self.targets(), [("192.0.2.1", 80)])
