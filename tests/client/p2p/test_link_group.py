"""Tests of `meshrelay.client.p2p.link_group`; `test_links` has what groups of several clients do together."""

from __future__ import annotations

from collections import Counter
from random import Random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.client.events import Event
from meshrelay.client.p2p.events import LinkMessageReceived, LinkRelayReceived
from meshrelay.client.p2p.link_group import LinkGroup, LinkParts
from meshrelay.client.p2p.options import P2POptions
from meshrelay.client.p2p.sockets import PeerSockets
from meshrelay.machine.nat_kind import MappingObserver
from meshrelay.wire.datagram import PacketKind
from meshrelay.wire.frame import encode_frame, encode_push
from meshrelay.wire.peer_packet import PeerCodec
from meshrelay.wire.sync_bytes import SyncBytes, SyncUser

ROOM = "r" * 52
NAMES = ("ann", "bob", "cyd")
SYNC = SyncBytes(bytes(48), tuple(SyncUser(name, ()) for name in NAMES))


class LinkGroupTests(SynchronousTestCase):
    """Ann's end of a group of three."""

    def setUp(self) -> None:
        clock = Clock()
        self.told: list[Event] = []
        self.forwarded: list[tuple[str, str]] = []
        self.counts: Counter[str] = Counter()
        parts = LinkParts(
            clock,
            P2POptions(random=Random(1), hosts=list),
            PeerSockets(clock, lambda datagram, path: None),
            MappingObserver(),
            lambda room_id, user_id, packet: self.forwarded.append((room_id, user_id)),
            lambda room_id, user_id, state: None,
            self.told.append,
            self.counts,
        )
        self.clock = clock
        self.over: list[LinkGroup] = []
        self.group = LinkGroup(parts, ROOM, "ann", SYNC, self.over.append)
        self.group.start(None)
        self.bob = PeerCodec("bob", "ann", SYNC.secret, NAMES)

    def data(self, *frames: bytes) -> bytes:
        """A packet of Bob with frames."""
        return self.bob.seal(PacketKind.DATA, b"".join(frames))

    def test_members(self) -> None:
        """There is a link to everybody but oneself."""
        self.assertEqual((self.group.user_ids, self.group.member_ids), (["bob", "cyd"], frozenset(NAMES)))
        self.assertEqual({user_id for _, user_id in self.forwarded}, {"bob", "cyd"})
        self.assertIsNone(self.group.driver("ann"))

    def test_whose(self) -> None:
        """A packet is taken for the member that it names and that the node names, once, and for nobody else."""
        packet = self.data(encode_push(2, 7, b"hi"))
        self.assertFalse(self.group.receive(packet, None, "cyd"))
        self.assertFalse(self.group.receive(b"\1\1" + bytes(60), None, "bob"))
        self.assertTrue(self.group.receive(packet, None, "bob"))
        self.assertFalse(self.group.receive(packet, None, "bob"))
        self.clock.advance(0)
        self.assertEqual(self.told[-1], LinkMessageReceived(ROOM, "bob", 2, 7, b"hi", False))

    def test_frames(self) -> None:
        """Frames of the application and relayed messages are told; what means nothing to us is counted."""
        relayed = ROOM.encode() + b"\3danhello"
        frames = (
            encode_frame(255, 0, 1, 5, b"a"),
            encode_push(1, 132, relayed),
            encode_push(1, 132, b"short"),
            encode_push(1, 113, b"no group here"),
            encode_push(0, 4, b""),
        )
        before = len(self.told)
        self.assertTrue(self.group.receive(self.data(*frames), None, "bob"))
        self.clock.advance(0)
        first, second = self.told[before:]
        self.assertEqual(first, LinkMessageReceived(ROOM, "bob", 255, 1, b"a", False))
        self.assertEqual(second, LinkRelayReceived(ROOM, "dan", b"hello"))
        self.assertEqual(self.counts, {"frames_malformed": 1, "frames_unknown": 2})

    def test_pass_on(self) -> None:
        """What is relayed goes to all but its sender; a link that takes no more is left out and counted."""
        for _ in range(200):
            self.group.pass_on("bob", bytes(60000))
        driver = self.group.driver("bob")
        assert driver is not None
        self.assertEqual(driver.link.buffered_bytes, 0)
        self.assertTrue(self.counts["relay_dropped"])
        self.assertEqual(self.counts["relay_dropped"] + self.counts["relay_passed_on"], 200)

    def test_end(self) -> None:
        """When all links are done the owner hears it; after an abort nothing is told."""
        self.group.leave(None, "bye")
        self.clock.pump([0.1] * 30)
        self.assertEqual((self.over, self.group.user_ids, self.group.is_done), ([self.group], [], True))
        self.setUp()
        before = len(self.told)
        self.group.abort()
        self.assertEqual((self.told[before:], self.over, self.group.is_done), ([], [], True))
        self.assertEqual(self.clock.getDelayedCalls(), [])
