"""One sign-in, with and without a connection."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from meshrelay.interfaces import ISession
from meshrelay.session.session import Session
from meshrelay.testing.builders import make_group_id, make_session, make_user
from meshrelay.testing.contracts import check_subscriber
from meshrelay.testing.link import MemoryConnection, MemoryLink
from meshrelay.wire.frame import encode_push, split_frames
from meshrelay.wire.prepared import Batch
from meshrelay.wire.session_node import Handover


def payloads_of(frames: list[bytes]) -> list[bytes]:
    """Return what encoded frames carry."""
    return [frame[12:] for frame in frames]


class AttachedTests(SynchronousTestCase):
    """A session that a connection serves."""

    def setUp(self) -> None:
        """A session without acknowledgements."""
        self.link = MemoryLink("websocket")
        self.session = make_session("ann", self.link)

    def test_contracts(self) -> None:
        """A session is what the rest of the house takes it for."""
        verifyObject(ISession, self.session)
        check_subscriber(make_session)

    def test_push(self) -> None:
        """A push goes to the client as it is."""
        self.session.push(7, 300, b"hello", False)
        (frame,) = self.link.received
        self.assertEqual(frame, (7, 255, 300, 0, b"hello"))
        self.assertEqual(self.session.replay_bytes, 0)

    def test_reply(self) -> None:
        """An answer carries the request's number; a request without one is not answered."""
        self.session.reply(9, 1, 1, 110, b"gid")
        self.session.reply(0, 1, 1, 110, b"gid")
        self.assertEqual(self.link.received, [(1, 1, 110, 9, b"gid")])

    def test_transport(self) -> None:
        """The application sees by which transport the user is here now."""
        self.assertEqual(self.session.user.transport, "websocket")
        self.session.resume(MemoryConnection(MemoryLink("udp")), False, 0)
        self.assertEqual(self.session.user.transport, "udp")

    def test_queued_bytes(self) -> None:
        """What waits for the client is counted."""
        self.link.stall()
        self.session.push(1, 113, b"1234", True)
        self.assertEqual(self.session.queued_bytes, 16)
        self.session.let_go()
        self.assertEqual(self.session.queued_bytes, 0)

    def test_repr(self) -> None:
        """A session in a log shows the user and not the secret sid."""
        self.assertIn("'ann'", repr(self.session))
        self.assertNotIn(self.session.user.sid, repr(self.session))


class AwayTests(SynchronousTestCase):
    """A session that waits for its client, which does not acknowledge."""

    def setUp(self) -> None:
        """A session whose connection broke."""
        self.session = make_session("ann", replay_bytes=100)
        self.session.push(1, 113, b"before", True)
        self.session.let_go()
        self.link = MemoryLink()

    def come_back(self, acks: bool = False, received: int = 0) -> tuple[bool, list[bytes]]:
        """Resume by a new connection."""
        recovered, frames = self.session.resume(MemoryConnection(self.link), acks, received)
        return recovered, payloads_of(frames)

    def test_kept(self) -> None:
        """Reliable pushes made meanwhile wait; what was on its way and what may be lost does not."""
        self.assertFalse(self.session.is_attached)
        self.session.deliver(Batch([encode_push(1, 113, payload) for payload in (b"a", b"b")], [True, False]))
        self.session.push(1, 113, b"c", True)
        self.session.push(1, 113, b"d", False)
        self.assertEqual(self.come_back(), (False, [b"a", b"c"]))
        self.assertTrue(self.session.is_attached)

    def test_answers_are_dropped(self) -> None:
        """An answer to a request of the broken connection waits for nobody."""
        self.session.reply(5, 1, 1, 110, b"")
        self.assertEqual(self.come_back(), (False, []))
        self.assertEqual(self.link.received, [])

    def test_second_time(self) -> None:
        """Each absence has its own pushes."""
        self.session.push(1, 113, b"first", True)
        self.come_back()
        self.session.push(1, 113, b"here", True)
        self.session.let_go()
        self.session.push(1, 113, b"second", True)
        self.assertEqual(self.come_back(), (False, [b"second"]))

    def test_bound(self) -> None:
        """When there was too much to keep, nothing is replayed, so that the client knows to start afresh."""
        for index in range(8):
            self.session.push(1, 113, bytes((index,)), True)
        self.assertLessEqual(self.session.replay_bytes, 100)
        self.assertEqual(self.come_back(), (False, []))

    def test_acks_from_now_on(self) -> None:
        """A client may begin to acknowledge when it resumes; its count goes on from what it says."""
        self.session.push(1, 113, b"a", True)
        self.assertEqual(self.come_back(True, 40), (False, [b"a"]))
        self.session.push(1, 113, b"b", True)
        self.session.acknowledge(41)
        self.session.let_go()
        self.assertEqual(self.come_back(True, 41), (True, [b"b"]))

    def test_dropped(self) -> None:
        """After a policy dropped a push nothing claims to be complete."""
        self.session.pushes_dropped(1)
        self.session.push(1, 113, b"a", True)
        self.assertEqual(self.come_back(), (False, []))


class AcknowledgedTests(SynchronousTestCase):
    """A session whose client acknowledges."""

    def setUp(self) -> None:
        """Three pushes were sent, reliable or not."""
        self.link = MemoryLink()
        self.session = make_session("ann", self.link, replay_bytes=200, acks=True)
        for payload, reliable in ((b"1", True), (b"2", False), (b"3", True)):
            self.session.push(1, 113, payload, reliable)

    def come_back(self, received: int, acks: bool = True) -> tuple[bool, list[bytes]]:
        """Lose the connection and resume by a new one."""
        self.session.let_go()
        recovered, frames = self.session.resume(MemoryConnection(self.link), acks, received)
        return recovered, payloads_of(frames)

    def test_lost_with_the_connection(self) -> None:
        """Exactly the rest is replayed, what was on its way included."""
        self.assertEqual(self.come_back(1), (True, [b"2", b"3"]))

    def test_nothing_missing(self) -> None:
        """A client that has everything gets nothing again."""
        self.assertEqual(self.come_back(3), (True, []))

    def test_while_away(self) -> None:
        """What was made meanwhile follows what was lost."""
        self.session.let_go()
        self.session.push(1, 113, b"4", True)
        self.assertEqual(self.come_back(2), (True, [b"3", b"4"]))

    def test_twice(self) -> None:
        """The replay itself may be lost, and is replayed again."""
        self.assertEqual(self.come_back(1), (True, [b"2", b"3"]))
        self.assertEqual(self.come_back(2), (True, [b"3"]))

    def test_acknowledged(self) -> None:
        """What was acknowledged needs no room any more."""
        self.assertEqual(self.session.replay_bytes, 39)
        self.session.acknowledge(2)
        self.assertEqual(self.session.replay_bytes, 13)
        self.session.acknowledge(77)
        self.assertEqual(self.session.replay_bytes, 13)

    def test_impossible_count(self) -> None:
        """A count that cannot be: nothing is replayed, and from there on the client's count holds."""
        self.assertEqual(self.come_back(9), (False, []))
        self.session.push(1, 113, b"new", True)
        self.assertEqual(self.come_back(9), (True, [b"new"]))

    def test_given_up(self) -> None:
        """A client that lacks what the node no longer has is told so and gets nothing half."""
        for index in range(30):
            self.session.push(1, 113, bytes((index,)), True)
        self.assertLessEqual(self.session.replay_bytes, 200)
        self.assertEqual(self.come_back(3), (False, []))

    def test_dropped(self) -> None:
        """After a policy dropped a push the counts mean nothing, so nothing is recovered."""
        self.session.pushes_dropped(1)
        self.assertEqual(self.come_back(3), (False, []))

    def test_without_acks_again(self) -> None:
        """A client that no longer acknowledges still gets the reliable pushes made while it was away."""
        self.session.let_go()
        self.session.push(1, 113, b"4", True)
        self.assertEqual(self.come_back(0, acks=False), (False, [b"4"]))

    def test_batches_are_shared(self) -> None:
        """A batch is kept as the same bytes that all members share."""
        batch = Batch([encode_push(1, 113, b"x"), encode_push(1, 113, b"y")])
        self.session.deliver(batch)
        self.session.let_go()
        _, frames = self.session.resume(MemoryConnection(self.link), True, 3)
        self.assertEqual(frames, split_frames(batch.stream))

    def test_nobody_asked(self) -> None:
        """An ACK of a client that never asked for them is passed over."""
        session = make_session("bob")
        session.push(1, 113, b"x", True)
        session.acknowledge(1)
        self.assertEqual(session.replay_bytes, 0)


class AcknowledgedLinkTests(SynchronousTestCase):
    """A session by a link that knows what its client has received, as UDP is."""

    def setUp(self) -> None:
        """Three reliable pushes were sent; the first was acknowledged by the link."""
        self.link = MemoryLink("udp")
        self.session = make_session("ann", self.link)
        self.pushes = [encode_push(1, 113, payload) for payload in (b"1", b"2", b"3")]
        for frame in self.pushes:
            self.session.push(1, 113, frame[12:], True)
        self.link.owed = (3, self.pushes[1:])

    def come_back(self, received: int | None, transport: str = "udp") -> tuple[bool, list[bytes]]:
        """Lose the connection and resume by a new one."""
        self.session.let_go()
        self.session.push(1, 113, b"4", True)
        recovered, frames = self.session.resume(MemoryConnection(MemoryLink(transport)), False, received)
        return recovered, payloads_of(frames)

    def test_owed(self) -> None:
        """What was not acknowledged is sent again, before what came meanwhile."""
        self.assertEqual(self.come_back(None), (True, [b"2", b"3", b"4"]))

    def test_count(self) -> None:
        """A client that says what it has gets exactly the rest: an acknowledgement may have been lost."""
        self.assertEqual(self.come_back(2), (True, [b"3", b"4"]))

    def test_impossible_count(self) -> None:
        """A count that cannot be recovers nothing."""
        self.assertEqual(self.come_back(9), (False, []))

    def test_dropped_on_the_way(self) -> None:
        """A push that the link could not take is missing, and the resume does not claim otherwise."""
        self.session.pushes_dropped(1)
        self.assertEqual(self.come_back(None), (False, []))

    def test_dropped_in_an_earlier_life(self) -> None:
        """After such a resume a new count begins, and the next one may recover everything again."""
        self.session.pushes_dropped(1)
        self.come_back(None)
        self.session.push(1, 113, b"5", True)
        link = self.session.link
        assert isinstance(link, MemoryLink)
        link.owed = (1, [encode_push(1, 113, b"5")])
        self.assertEqual(self.come_back(None), (True, [b"5", b"4"]))

    def test_more_than_is_kept(self) -> None:
        """When not all that was owed could be kept, only a client that has the rest recovers everything."""
        for received, recovered in ((None, False), (1, False), (2, True)):
            link = MemoryLink("udp")
            session = make_session("ann", link, replay_bytes=100)
            link.owed = (3, [encode_push(1, 113, bytes(40)) for _ in range(3)])
            session.let_go()
            outcome, frames = session.resume(MemoryConnection(MemoryLink("udp")), False, received)
            self.assertEqual((received, outcome, len(frames)), (received, recovered, int(recovered)))

    def test_other_transport(self) -> None:
        """A client that comes back by TCP and counts nothing gets what came meanwhile, and no claim that it is all."""
        recovered, payloads = self.come_back(None, "tcp")
        self.assertFalse(recovered)
        self.assertEqual(payloads[-1:], [b"4"])


class HandoverTests(SynchronousTestCase):
    """What a session takes along to another node."""

    def test_exact(self) -> None:
        """Pushes that were kept keep their numbers."""
        session = make_session("ann", acks=True)
        for payload in (b"1", b"2", b"3"):
            session.push(1, 113, payload, True)
        session.acknowledge(1)
        session.let_go()
        session.push(1, 113, b"4", True)
        handover = session.hand_over()
        self.assertEqual((handover.is_found, handover.first, handover.left_at), (True, 1, 3))
        self.assertEqual((handover.is_exact, handover.is_whole, handover.has_lapse), (True, True, False))
        self.assertEqual(payloads_of(split_frames(handover.frames)), [b"2", b"3", b"4"])
        self.assertEqual(Session.adopted(make_user("ann"), 1000, handover).hand_over(), handover)

    def test_smaller_bound(self) -> None:
        """A node that keeps less gives up the oldest, and knows it."""
        frames = b"".join(encode_push(1, 113, bytes(40)) for _ in range(3))
        session = Session.adopted(make_user("ann"), 110, Handover(is_found=True, is_exact=True, frames=frames))
        handover = session.hand_over()
        self.assertEqual((handover.first, handover.is_whole, session.replay_bytes), (1, False, 104))

    def test_lapse(self) -> None:
        """A session with memberships may have missed something on its way; it is told once, with what is there."""
        frame = encode_push(1, 113, b"1")
        groups = make_group_id("g").encode()
        handover = Handover(is_found=True, is_exact=True, frames=frame, groups=groups)
        session = Session.adopted(make_user("ann"), 1000, handover)
        self.assertTrue(session.hand_over().has_lapse)
        self.assertEqual(session.resume(MemoryConnection(MemoryLink()), True, 0), (False, [frame]))
        session.let_go()
        self.assertEqual(session.resume(MemoryConnection(MemoryLink()), True, 1), (True, []))

    def test_owed_by_udp(self) -> None:
        """What a UDP client has not acknowledged goes along, and a TCP client that counts gets the rest."""
        link = MemoryLink("udp")
        session = make_session("ann", link)
        owed = [encode_push(1, 113, payload) for payload in (b"2", b"3")]
        link.owed = (3, owed)
        session.let_go()
        adopted = Session.adopted(make_user("ann"), 1000, session.hand_over())
        self.assertEqual(adopted.resume(MemoryConnection(MemoryLink()), True, 2), (True, owed[1:]))

    def test_broken_off(self) -> None:
        """When a push was dropped on its way no count is right, so no push goes along."""
        session = make_session("ann", acks=True)
        session.pushes_dropped(1)
        session.let_go()
        handover = session.hand_over()
        self.assertEqual((handover.is_exact, handover.is_whole, handover.frames), (False, False, b""))
        adopted = Session.adopted(make_user("ann"), 1000, handover)
        adopted.push(1, 113, b"x", True)
        self.assertEqual(adopted.resume(MemoryConnection(MemoryLink()), True, 0), (False, []))
