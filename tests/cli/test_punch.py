"""Tests of `meshrelay.cli.punch`."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from random import Random

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.cli.punch import PunchReport, punch
from meshrelay.client import Client, ClientOptions, Connected
from meshrelay.client.p2p import Mapping, NetworkView, P2POptions
from meshrelay.errors import TimedOut
from meshrelay.testing.nat import Nat, NatKind
from meshrelay.wire.addresses import UdpAddress
from tests.client.p2p.memory_internet import ROOM, MemoryClient, MemoryInternet

CONNECTED = Connected("ann", "node-1", "s", False, False)


def home(number: int, kind: NatKind = NatKind.PORT_RESTRICTED, passes_hairpins: bool = False) -> list[Nat]:
    """A NAT of one's own."""
    return [Nat(kind, f"203.0.113.{number}", number, passes_hairpins)]


class PunchTests(SynchronousTestCase):
    """What is found out."""

    def setUp(self) -> None:
        self.net = MemoryInternet()
        self.errors = io.StringIO()

    def make(self, name: str, nats: Sequence[Nat], is_udp: bool = True) -> MemoryClient:
        """A client that has not told its addresses yet, and is in no room."""
        return self.net.client(name, nats, is_udp=is_udp, room="")

    def punch(self, client: MemoryClient, room: str | None = None, seconds: float = 10.0) -> Deferred[PunchReport]:
        """Let one find out."""
        coroutine = punch(client.host, client.client, CONNECTED, make=None, room_id=room, seconds=seconds)
        with contextlib.redirect_stderr(self.errors):
            return Deferred.fromCoroutine(coroutine)

    def test_alone(self) -> None:
        """Alone it tells the addresses, and that there is a NAT."""
        done = self.punch(self.make("ann", home(1)))
        self.net.run(1.0)
        self.assertEqual(
            self.successResultOf(done).lines(),
            [
                "node      node-1",
                "UDP       reaches the node",
                "public    203.0.113.1:41000",
                "local     192.168.1.11:41000",
                "NAT       there is one, it keeps the port; not known yet: it takes two places that see this address",
            ],
        )

    def test_without_nat_and_udp(self) -> None:
        """Who has no NAT, or does not speak UDP, is told so."""
        done = self.punch(self.make("ann", []))
        tcp = self.punch(self.make("bob", home(2), is_udp=False))
        self.net.run(1.0)
        self.assertEqual(self.successResultOf(done).lines()[-1], "NAT       none: the node sees a local address")
        self.assertIn("UDP       not used", self.successResultOf(tcp).lines())

    def test_two(self) -> None:
        """Two in one room tell their paths, and each sees the other's NAT."""
        ann, bob = self.make("ann", home(1)), self.make("bob", home(2, NatKind.SYMMETRIC_STEADY))
        self.net.rooms[ROOM] = []
        first = Deferred.fromCoroutine(self.joined(ann))
        self.net.run(0.5)
        self.successResultOf(first)
        both = [self.punch(each, ROOM) for each in (ann, bob)]
        self.net.run(20.0)
        for done, peer in zip(both, ("bob", "ann"), strict=True):
            report = self.successResultOf(done)
            [line] = [line for line in report.lines() if line.startswith("peer")]
            self.assertRegex(line, rf"peer +{peer}: direct, at 203\.0\.113\.[12]:\d+, 40\.0 ms")
            [told] = json.loads(report.as_json())["peers"]
            self.assertEqual((told["user"], told["state"], told["round_trip_ms"]), (peer, "direct", 40.0))

    async def joined(self, client: MemoryClient) -> None:
        """Have somebody in the room before."""
        await client.client.links.addresses()

    def test_relayed(self) -> None:
        """Where no path is found the reason is told."""
        ann, bob = self.make("ann", home(1)), self.make("bob", home(2), is_udp=False)
        both = [self.punch(each, ROOM, seconds=3.0) for each in (ann, bob)]
        self.net.run(5.0)
        for done in both:
            self.assertIn("by the relay: ", self.successResultOf(done).lines()[-1])

    def test_nobody(self) -> None:
        """A new room is told to others; when nobody comes that is an error."""
        done = self.punch(self.make("ann", home(1)), "", seconds=2.0)
        with contextlib.redirect_stderr(self.errors):
            self.net.run(5.0)
        self.failureResultOf(done, TimedOut)
        self.assertRegex(self.errors.getvalue(), "in room [a-z]{52}; run the same with --room")

    def hairpins(self, passes: bool) -> bool | None:
        """Try it behind a NAT."""
        nats = home(1, NatKind.FULL_CONE, passes)
        ann = self.make("ann", nats)

        def make(name: str) -> Client:
            options = P2POptions(allow_private=False, allow_search=False, random=Random(1))
            return self.net.unconnected(name, nats, ClientOptions(p2p=options))

        coroutine = punch(ann.host, ann.client, CONNECTED, make=make, room_id=None, seconds=1.0)
        done = Deferred.fromCoroutine(coroutine)
        self.net.run(10.0)
        return self.successResultOf(done).passes_hairpins

    def test_hairpin(self) -> None:
        """Whether the NAT lets its own clients meet by their public addresses is tried."""
        self.assertIs(self.hairpins(True), True)
        self.setUp()
        self.assertIs(self.hairpins(False), False)


class ReportTests(SynchronousTestCase):
    """What people and programs read."""

    def test_json(self) -> None:
        """Programs get everything."""
        public, local = UdpAddress("203.0.113.1", 7), UdpAddress("192.168.1.2", 5)
        view = NetworkView(True, (local,), public, Mapping.STEADY, "steady")
        report = PunchReport("node-1", view, False, ROOM)
        self.assertEqual(
            json.loads(report.as_json()),
            {
                "node": "node-1",
                "has_udp": True,
                "public": "203.0.113.1:7",
                "local": ["192.168.1.2:5"],
                "mapping": "steady",
                "nat": "there is one, it changes the port; steady",
                "passes_hairpins": False,
                "room": ROOM,
                "peers": [],
            },
        )
        self.assertIn("hairpin   does not pass", report.lines())

    def test_not_known(self) -> None:
        """What the node does not say is not made up."""
        view = NetworkView(True, (), None, Mapping.UNKNOWN, "")
        self.assertIn("public    not known", PunchReport("n\x1b[2J", view).lines())
        self.assertNotIn("\x1b", PunchReport("n\x1b[2J", view).lines()[0])
