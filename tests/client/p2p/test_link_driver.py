"""Tests of `meshrelay.client.p2p.link_driver`: two drivers that are wired to each other."""

from __future__ import annotations

from random import Random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.client.p2p.link_driver import LinkDriver
from meshrelay.errors import PacketRejected, SessionClosed
from meshrelay.machine.hole_punch import HolePunch, PunchOptions
from meshrelay.machine.nat_kind import MappingObserver
from meshrelay.machine.peer_link import LinkChanged, LinkEnded, PeerEvent, PeerLink, PeerMessage, PeerPacket
from meshrelay.wire.frame import encode_push
from meshrelay.wire.sync_bytes import SyncBytes, SyncUser

SYNC = SyncBytes(bytes(48), (SyncUser("ann", ()), SyncUser("bob", ())))


class _Owner:
    """One end; its packets reach the other one a moment later."""

    def __init__(self, clock: Clock, name: str, peer: str) -> None:
        self.clock = clock
        self.other: _Owner
        self.payloads: list[bytes] = []
        self.log: list[str] = []
        self.is_deaf = False
        punch = HolePunch((), MappingObserver(), Random(1), 0.0, PunchOptions(has_socket=False))
        self.driver = LinkDriver(clock, PeerLink(name, peer, SYNC, punch, 7), punch, self)

    def packet_ready(self, driver: LinkDriver, packet: PeerPacket) -> None:
        self.clock.callLater(0.01, self.other.receive, packet.datagram)

    def receive(self, datagram: bytes) -> None:
        if not self.is_deaf:
            self.driver.receive(datagram, None)

    def event_came(self, driver: LinkDriver, event: PeerEvent) -> None:
        if isinstance(event, PeerMessage):
            self.payloads += [frame.payload for frame in event.frames]
        elif isinstance(event, LinkChanged):
            self.log.append(event.state.name)

    def link_over(self, driver: LinkDriver, ended: LinkEnded) -> None:
        self.log.append(f"over {ended.code}")

    def link_done(self, driver: LinkDriver) -> None:
        self.log.append("done")


class LinkDriverTests(SynchronousTestCase):
    """From the start to the end."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.ann, self.bob = _Owner(self.clock, "ann", "bob"), _Owner(self.clock, "bob", "ann")
        self.ann.other, self.bob.other = self.bob, self.ann
        for end in (self.ann, self.bob):
            end.driver.start()

    def run_for(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.pump([0.005] * round(seconds / 0.005))

    def say(self, payload: bytes, reliable: bool = True) -> None:
        """Ann sends one frame."""
        self.ann.driver.send(encode_push(2, 1, payload), reliable)

    def test_messages(self) -> None:
        """Messages arrive, and what was sent in one turn goes out at its end."""
        self.say(b"1")
        self.say(b"2", reliable=False)
        self.run_for(0.5)
        self.assertEqual((sorted(self.bob.payloads), self.bob.log), ([b"1", b"2"], ["RELAYED"]))
        self.assertFalse(self.ann.driver.is_retired)

    def test_hold(self) -> None:
        """What is held back is told in order when it is let go."""
        self.bob.driver.hold()
        for number in range(5):
            self.say(b"%d" % number)
        self.run_for(0.5)
        self.assertEqual(self.bob.payloads, [])
        self.bob.driver.release()
        self.run_for(0.01)
        self.assertEqual(self.bob.payloads, [b"%d" % number for number in range(5)])

    def test_retire(self) -> None:
        """A link that is retired delivers what is queued; both ends know that it is over, and are done soon after."""
        self.say(b"last")
        over = self.ann.driver.when_over()
        self.ann.driver.retire(2.0)
        self.ann.driver.retire(9.0)
        self.assertTrue(self.ann.driver.is_retired)
        self.assertRaises(SessionClosed, self.say, b"too late")
        self.run_for(1.0)
        self.successResultOf(over)
        self.successResultOf(self.ann.driver.when_over())
        self.assertEqual((self.bob.payloads, self.bob.log, self.ann.log), ([b"last"], *[["RELAYED", "over 0"]] * 2))
        self.run_for(2.0)
        self.assertEqual((self.ann.log[-1], self.bob.log[-1], self.clock.getDelayedCalls()), ("done", "done", []))

    def test_retire_in_vain(self) -> None:
        """A peer that does not answer holds nobody up for longer than was said."""
        self.run_for(0.5)
        self.bob.is_deaf = True
        self.say(b"unheard")
        drained = self.ann.driver.when_drained()
        self.ann.driver.retire(1.0)
        self.run_for(1.1)
        self.successResultOf(drained)
        self.assertEqual(self.ann.log[1:], ["over 4001", "done"])

    def test_retire_at_once(self) -> None:
        """A link that never met its peer can be retired as well."""
        cyd = _Owner(self.clock, "ann", "bob")
        cyd.other = cyd
        cyd.is_deaf = True
        cyd.driver.start()
        cyd.driver.retire(0.5)
        self.run_for(0.6)
        self.assertEqual(cyd.log[-1], "done")

    def test_abort(self) -> None:
        """Aborting tells the peer, and not the owner; a second time does nothing."""
        self.run_for(0.5)
        self.ann.driver.abort()
        self.ann.driver.abort()
        self.run_for(0.5)
        self.assertEqual((self.ann.log, self.bob.log), (["RELAYED"], ["RELAYED", "over 4504", "done"]))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_drained(self) -> None:
        """when_drained fires when the peer has acknowledged nearly everything; cancelling it does no harm."""
        self.successResultOf(self.ann.driver.when_drained())
        for _ in range(20):
            self.say(bytes(10000))
        drained, other = self.ann.driver.when_drained(), self.ann.driver.when_drained()
        self.assertNoResult(drained)
        other.addErrback(lambda _: None).cancel()
        self.run_for(3.0)
        self.successResultOf(drained)

    def test_rejected(self) -> None:
        """What is none of this link is said to be so."""
        self.assertRaises(PacketRejected, self.ann.driver.receive, bytes(100), None)
