"""Sessions of users who come back at another node, or sign in there anew."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from meshrelay.config.schema import SessionConfig
from meshrelay.directory.records import UserRecord
from meshrelay.interfaces import ISessionObserver
from meshrelay.model import CloseReason
from meshrelay.session import roaming as module
from meshrelay.session.auth import Identity
from meshrelay.session.roaming import MAX_WAITERS
from meshrelay.testing.builders import make_group_id, make_sid
from meshrelay.wire.commands import CORE_VER, CoreCommand
from meshrelay.wire.frame import Frame
from meshrelay.wire.session_node import MAX_GROUPS, EndRequest, SessionName, encode_end, encode_name
from tests.session.roaming_kit import Client, RoamingKit, RoamingNode

G, H = make_group_id("g"), make_group_id("h")


class ResumeTests(SynchronousTestCase):
    """A client that lost its node, or only its connection, and finds another node."""

    def setUp(self) -> None:
        """Ann is signed in at node a, with acks, and has had the first of two pushes."""
        self.kit = RoamingKit()
        self.first = self.kit.a.hello("ann", acks=True)
        self.sid = self.first.welcome.sid
        self.kit.a.push("ann", b"1", b"2")

    def resume_at_b(self, received: int | None = 1, acks: bool | None = True) -> tuple[bool, bool, list[bytes]]:
        """Resume there; return resumed, recovered and what came."""
        client = self.kit.b.hello("ann", self.sid, acks, received)
        return client.welcome.resumed, client.welcome.recovered, client.pushed

    def test_contracts(self) -> None:
        """It is told about sessions like a component."""
        verifyObject(ISessionObserver, self.kit.a.roaming)
        verifyObject(ISessionObserver, self.kit.a.groups)

    def test_acks(self) -> None:
        """A client with acks gets exactly the rest at the other node, what came while it was away included."""
        self.first.lose()
        self.kit.a.push("ann", b"3")
        self.assertEqual(self.resume_at_b(), (True, True, [b"2", b"3"]))
        self.assertEqual(self.kit.where("ann"), ["b"])
        self.assertEqual(self.kit.b.session("ann").user.sid, self.sid)
        self.assertEqual(self.kit.a.groups.events, ["opened ann", "away ann", "moved ann"])
        self.assertEqual(self.kit.b.groups.events, ["adopted ann", "back ann"])

    def test_still_connected(self) -> None:
        """The connection that the old node still has is closed, and its client told that it was replaced."""
        self.assertEqual(self.resume_at_b(), (True, True, [b"2"]))
        self.assertIs(self.first.link.close_reason, CloseReason.REPLACED)

    def test_last_words(self) -> None:
        """What waited for the client in its groups when the session moved comes along."""
        self.kit.a.groups.last_words = b"3"
        self.assertEqual(self.resume_at_b(), (True, True, [b"2", b"3"]))

    def test_there_and_back(self) -> None:
        """A client may change nodes again and again, and its count goes on."""
        self.assertEqual(self.resume_at_b(), (True, True, [b"2"]))
        self.kit.b.push("ann", b"3", b"4")
        again = self.kit.a.hello("ann", self.sid, True, 3)
        self.assertEqual((again.welcome.recovered, again.pushed), (True, [b"4"]))
        self.assertEqual(self.kit.where("ann"), ["a"])

    def test_groups(self) -> None:
        """Memberships come along; what is there is sent, and nobody claims that nothing is missing."""
        self.kit.a.groups.of[self.kit.a.session("ann")] = [H, G]
        self.assertEqual(self.resume_at_b(), (True, False, [b"2"]))
        self.assertEqual(self.kit.b.groups.of[self.kit.b.session("ann")], [H, G])

    def test_rooms(self) -> None:
        """Places in rooms come along as well, in order, and nobody claims that nothing is missing."""
        self.kit.a.rooms.of["ann"] = [H, G]
        self.assertEqual(self.resume_at_b(), (True, False, [b"2"]))
        self.assertEqual(
            (self.kit.b.rooms.of, self.kit.b.groups.of), ({"ann": [H, G]}, {self.kit.b.session("ann"): []})
        )

    def test_too_many_places(self) -> None:
        """Of more groups than fit beside the rooms of a session the last ones stay behind."""
        groups = [make_group_id(f"g{number}") for number in range(MAX_GROUPS)]
        self.kit.a.groups.of[self.kit.a.session("ann")] = groups
        self.kit.a.rooms.of["ann"] = [G, H]
        self.assertTrue(self.resume_at_b()[0])
        self.assertEqual(self.kit.b.rooms.of["ann"], [G, H])
        self.assertEqual(self.kit.b.groups.of[self.kit.b.session("ann")], groups[:-2])

    def test_count_after_groups(self) -> None:
        """After such a resume the client's count is right, and the next one recovers everything."""
        self.kit.a.groups.of[self.kit.a.session("ann")] = [G]
        self.resume_at_b()
        self.kit.b.push("ann", b"3", b"4")
        again = self.kit.b.hello("ann", self.sid, True, 3)
        self.assertEqual((again.welcome.recovered, again.pushed), (True, [b"4"]))

    def test_moves_twice_before_it_is_told(self) -> None:
        """A session that moves on before its client was told of a lapse tells it at the third node."""
        self.kit.a.groups.of[self.kit.a.session("ann")] = [G]
        late: Deferred[None] = Deferred()
        self.kit.b.groups.entering = late
        at_b = self.kit.b.hello("ann", self.sid, True, 1)
        at_b.lose()
        late.callback(None)
        self.kit.b.groups.of[self.kit.b.session("ann")] = []
        at_c = self.kit.c.hello("ann", self.sid, True, 1)
        self.assertEqual((at_c.welcome.resumed, at_c.welcome.recovered, at_c.pushed), (True, False, [b"2"]))

    def test_without_acks(self) -> None:
        """Without acks what came while nobody was connected is sent, as on one node."""
        bob = self.kit.a.hello("bob")
        self.kit.a.push("bob", b"1")
        bob.lose()
        self.kit.a.push("bob", b"2")
        again = self.kit.b.hello("bob", bob.welcome.sid)
        self.assertEqual((again.welcome.resumed, again.welcome.recovered, again.pushed), (True, False, [b"2"]))

    def test_impossible_count(self) -> None:
        """A count that cannot be recovers nothing, also elsewhere."""
        self.assertEqual(self.resume_at_b(9), (True, False, []))

    def test_dropped(self) -> None:
        """A push that was dropped on its way at the old node is not made up for at the new one."""
        self.first.link.uplink.pushes_dropped(1)  # type: ignore[union-attr]
        self.kit.a.push("ann", b"3")
        self.assertEqual(self.resume_at_b(3), (True, False, []))

    def test_dead_node(self) -> None:
        """When the node died with the session, memberships come back from the nodes that knew them."""
        self.kit.b.groups.known["ann", self.sid] = [H]
        self.kit.c.groups.known["ann", self.sid] = [H, G]
        self.kit.kill(self.kit.a)
        client = self.kit.b.hello("ann", self.sid, True, 1)
        self.assertEqual((client.welcome.resumed, client.welcome.recovered), (True, False))
        self.assertEqual(client.welcome.sid, self.sid)
        self.assertEqual(self.kit.b.groups.of[self.kit.b.session("ann")], [H, G])
        self.kit.b.push("ann", b"2")
        again = self.kit.b.hello("ann", self.sid, True, 1)
        self.assertEqual((again.welcome.recovered, again.pushed), (True, [b"2"]))

    def test_last_node(self) -> None:
        """The last node of a cluster gives back what it knows itself."""
        self.kit.b.groups.known["ann", self.sid] = [G]
        self.kit.kill(self.kit.a)
        self.kit.kill(self.kit.c)
        self.assertTrue(self.resume_at_b()[0])
        self.assertEqual(self.kit.b.groups.of[self.kit.b.session("ann")], [G])

    def test_dead_node_and_rooms(self) -> None:
        """When the node died with the session, its rooms give it its places back, those of the last node too."""
        self.kit.b.rooms.known["ann", self.sid] = [G]
        self.kit.c.rooms.known["ann", self.sid] = [H]
        self.kit.kill(self.kit.a)
        self.assertTrue(self.resume_at_b()[0])
        self.assertEqual(self.kit.b.rooms.of["ann"], [G, H])
        self.kit.kill(self.kit.b)
        self.assertTrue(self.kit.c.hello("ann", self.sid, True, 1).welcome.resumed)
        self.assertEqual(self.kit.c.rooms.of["ann"], [H])

    def test_dead_node_and_nobody_knows(self) -> None:
        """When nobody knows the session any more, the sign-in is a new one."""
        self.kit.kill(self.kit.a)
        self.assertEqual(self.resume_at_b(), (False, False, []))
        self.assertNotEqual(self.kit.b.session("ann").user.sid, self.sid)
        self.assertEqual(self.kit.b.roaming.statistics()["not_found"], 1)

    def test_directory_away(self) -> None:
        """Without the directory the session is found by asking all nodes."""
        self.successResultOf(self.kit.directory.stop())
        self.assertEqual(self.resume_at_b(), (True, True, [b"2"]))
        self.assertEqual(self.kit.where("ann"), ["b"])

    def test_directory_wiped(self) -> None:
        """A directory that has forgotten everything is no hindrance."""
        self.kit.directory.clear()
        self.assertEqual(self.resume_at_b(), (True, True, [b"2"]))

    def test_directory_says_here(self) -> None:
        """An entry that says that the session is at this very node, where it is not, is not believed."""
        self.kit.directory.claim_user(UserRecord(user_id="ann", node_id="b", sid=self.sid, stamp=1 << 40))
        self.assertEqual(self.resume_at_b(), (True, True, [b"2"]))

    def test_not_kept(self) -> None:
        """Where sessions are not kept for a resume none is taken over."""
        self.kit.b.registry.set_limits(self.kit.b.registry._limits._replace(resume_seconds=0.0))
        self.assertFalse(self.resume_at_b()[0])

    def test_claims(self) -> None:
        """The application sees the claims of the new token, not of the one that the old node knew."""
        waiting = self.kit.b.roaming.fetch(Identity("ann", {"exp": 2}), self.sid)
        assert waiting is not None
        self.successResultOf(waiting)
        self.assertEqual(self.kit.b.session("ann").user.claims, {"exp": 2})


class SecretTests(SynchronousTestCase):
    """A sid is a secret."""

    def setUp(self) -> None:
        """Ann is signed in at node a."""
        self.kit = RoamingKit()
        self.ann = self.kit.a.hello("ann")

    def test_wrong_sid(self) -> None:
        """A guess takes over nothing: it is a new sign-in, which ends the old session like any other."""
        self.kit.a.groups.of[self.kit.a.session("ann")] = [G]
        client = self.kit.b.hello("ann", "f" * 32)
        self.assertEqual((client.welcome.resumed, client.welcome.recovered), (False, False))
        self.assertEqual(self.kit.where("ann"), ["b"])
        self.assertIs(self.ann.link.close_reason, CloseReason.REPLACED)
        self.assertEqual(self.kit.a.groups.events, ["opened ann", "closed ann"])
        self.assertEqual(self.kit.nodes["a"].calls[0][1], "session.end")

    def test_sid_of_another_user(self) -> None:
        """Nobody goes on with somebody else's session, and its owner does not notice."""
        sid = self.ann.welcome.sid
        client = self.kit.b.hello("bob", sid)
        self.assertFalse(client.welcome.resumed)
        self.assertNotEqual(client.welcome.sid, sid)
        self.assertEqual(self.kit.where("ann"), ["a"])
        self.assertFalse(self.ann.link.is_closed)

    def test_no_sid(self) -> None:
        """What no node could have made is not looked for."""
        for text in ("x", "é" * 32, "\ud800", "F" * 32, "f" * 33):
            self.assertIsNone(self.kit.b.roaming.fetch(Identity("ann", {}), text))
        self.assertEqual(self.kit.nodes["a"].calls, [])

    def test_alone(self) -> None:
        """Where no other node is known, nobody waits."""
        for node in (self.kit.a, self.kit.c):
            self.kit.kill(node)
        self.assertIsNone(self.kit.b.roaming.fetch(Identity("ann", {}), make_sid("ann")))

    def test_asked_by_a_guess(self) -> None:
        """A node that asks by a wrong sid learns nothing, and ends nothing."""
        call = self.kit.nodes["b"].call
        name = encode_name(SessionName(user_id="ann", sid="f" * 32))
        self.assertEqual(self.successResultOf(call("a", "session.release", name)), b"\x80")
        self.assertEqual(self.successResultOf(call("a", "session.recall", name)), b"\x80")
        end = encode_end(EndRequest(user_id="ann", sid="f" * 32, stamp=1 << 52))
        self.assertEqual(self.successResultOf(call("a", "session.end", end)), b"")
        self.assertEqual(self.kit.where("ann"), ["a"])


class TakeOverTests(SynchronousTestCase):
    """A user has one session in the whole cluster: the newest."""

    def setUp(self) -> None:
        """Nobody is signed in."""
        self.kit = RoamingKit()

    def test_newer_elsewhere(self) -> None:
        """A sign-in at another node closes the older one, which is told why."""
        older = self.kit.a.hello("ann")
        newer = self.kit.b.hello("ann")
        self.assertIs(older.link.close_reason, CloseReason.REPLACED)
        self.assertFalse(newer.link.is_closed)
        self.assertEqual(self.kit.where("ann"), ["b"])
        record = self.kit.record("ann")
        assert record is not None
        self.assertEqual((record.node_id, record.sid), ("b", newer.welcome.sid))
        self.assertEqual(self.kit.a.roaming.statistics()["replaced"], 1)

    def test_away(self) -> None:
        """A session that is merely away keeps its place in the directory, until it is over."""
        client = self.kit.a.hello("ann")
        client.lose()
        self.assertIsNotNone(self.kit.record("ann"))
        self.kit.advance(31)
        self.assertIsNone(self.kit.record("ann"))

    def test_left(self) -> None:
        """A client that leaves for good leaves nothing in the directory."""
        self.kit.a.hello("ann").send(CoreCommand.GOODBYE, b"", CORE_VER)
        self.assertIsNone(self.kit.record("ann"))
        self.assertEqual(list(self.kit.a.roaming.records()), [])

    def test_late_clock(self) -> None:
        """A node whose clock is an hour late loses a user once, and not for ever."""
        self.kit.b.clock_is_off_by = 3_600_000_000
        self.kit.b.hello("ann")
        lost = self.kit.a.hello("ann")
        self.assertIs(lost.link.close_reason, CloseReason.REPLACED)
        again = self.kit.a.hello("ann")
        self.assertFalse(again.link.is_closed)
        self.assertEqual(self.kit.where("ann"), ["a"])

    def test_late_clock_and_resume(self) -> None:
        """A resume at a node whose clock is late is newer than what it resumes."""
        self.kit.a.clock_is_off_by = 3_600_000_000
        sid = self.kit.a.hello("ann").welcome.sid
        self.assertTrue(self.kit.b.hello("ann", sid).welcome.resumed)
        self.assertEqual(self.kit.where("ann"), ["b"])

    def test_late_clock_and_no_entry(self) -> None:
        """Also when only the node that had the session knows how new it was."""
        self.kit.a.clock_is_off_by = 3_600_000_000
        sid = self.kit.a.hello("ann").welcome.sid
        (before,) = self.kit.a.roaming.records()
        self.kit.directory.clear()
        self.kit.b.hello("ann", sid)
        (after,) = self.kit.b.roaming.records()
        self.assertGreater(after.stamp, before.stamp)

    def test_late_clock_and_wrong_sid(self) -> None:
        """A client whose resume comes to nothing is in all the same."""
        self.kit.a.clock_is_off_by = 3_600_000_000
        self.kit.a.hello("ann")
        client = self.kit.b.hello("ann", "f" * 32)
        self.assertFalse(client.link.is_closed)
        self.assertEqual(self.kit.where("ann"), ["b"])

    def test_clock_jumps_back(self) -> None:
        """Stamps of one node only grow, whatever its clock does."""
        self.kit.a.hello("ann")
        self.kit.a.hello("bob")
        self.kit.a.clock_is_off_by = -500_000
        self.kit.a.hello("cid")
        stamps = [record.stamp for record in self.kit.a.roaming.records()]
        self.assertEqual(stamps, sorted(set(stamps)))
        self.assertEqual(len(stamps), 3)

    def test_refreshed_directory(self) -> None:
        """A directory that was refreshed tells of a newer sign-in; an older one, or our own, ends nothing."""
        client = self.kit.a.hello("ann")
        (mine,) = self.kit.a.roaming.records()
        older = UserRecord(user_id="ann", node_id="b", sid=make_sid("x"), stamp=mine.stamp - 1)
        nobody = UserRecord(user_id="bob", node_id="b", sid=make_sid("x"), stamp=1)
        for record in (mine, older, nobody):
            self.kit.a.roaming.taken_over(record)
            self.assertFalse(client.link.is_closed)
        self.kit.a.clock_is_off_by = -1
        self.kit.b.claims.roaming = None
        elsewhere = self.kit.b.hello("ann")
        (newer,) = self.kit.b.roaming.records()
        self.kit.a.roaming.taken_over(newer)
        self.assertIs(client.link.close_reason, CloseReason.REPLACED)
        self.assertFalse(elsewhere.link.is_closed)
        self.assertEqual((list(self.kit.a.roaming.records()), self.kit.record("ann")), ([], newer))

    def test_refreshed_directory_and_nobody_there(self) -> None:
        """A newer sign-in that its node knows nothing of ends no session whose client is here."""
        client = self.kit.a.hello("ann")
        (mine,) = self.kit.a.roaming.records()
        newer = UserRecord(user_id="ann", node_id="b", sid=mine.sid, stamp=mine.stamp + 1)
        self.successResultOf(self.kit.directory.claim_user(newer))
        self.kit.a.roaming.taken_over(newer)
        self.assertFalse(client.link.is_closed)
        (again,) = self.kit.a.roaming.records()
        self.assertEqual((again.stamp, self.kit.record("ann")), (newer.stamp + 1, again))

    def test_end_comes_late(self) -> None:
        """A node that is told to end a session whose user has come back to it since does not."""
        client = self.kit.a.hello("ann")
        (before,) = self.kit.a.roaming.records()
        self.kit.a.hello("ann", client.welcome.sid)
        end = EndRequest(user_id="ann", sid=before.sid, stamp=before.stamp)
        self.successResultOf(self.kit.nodes["b"].call("a", "session.end", encode_end(end)))
        self.assertEqual(self.kit.where("ann"), ["a"])

    def test_cut(self) -> None:
        """A node that cannot be reached is told again until it can be."""
        self.kit.a.hello("ann")
        self.kit.nodes.cut("a", "b")
        self.kit.b.hello("ann")
        self.kit.advance(3)
        self.assertEqual((self.kit.where("ann"), self.kit.b.roaming.statistics()["pending_ends"]), (["a", "b"], 1))
        self.kit.nodes.mend("a", "b")
        self.kit.advance(3)
        self.assertEqual((self.kit.where("ann"), self.kit.b.roaming.statistics()["pending_ends"]), (["b"], 0))

    def test_cut_for_ever(self) -> None:
        """That ends at some time, and is counted; a stopped node tells nobody any more."""
        self.kit.a.hello("ann")
        self.kit.nodes.cut("a", "b")
        self.kit.b.hello("ann")
        self.kit.advance(62)
        self.assertEqual(self.kit.b.roaming.statistics()["ends_given_up"], 1)
        self.kit.nodes.cut("b", "c")
        self.kit.c.hello("ann")
        self.kit.c.roaming.stop()
        self.assertEqual(self.kit.c.roaming.statistics()["pending_ends"], 0)

    def test_ends_bound(self) -> None:
        """Not more than so many nodes and sessions wait to be told."""
        self.patch(module, "MAX_PENDING_ENDS", 2)
        self.kit.nodes.cut("a", "b")
        for user_id in ("ann", "bob", "cid"):
            self.kit.a.hello(user_id)
            self.kit.b.hello(user_id)
        statistics = self.kit.b.roaming.statistics()
        self.assertEqual((statistics["pending_ends"], statistics["ends_given_up"]), (2, 1))

    def test_gone(self) -> None:
        """A node that is gone is not told."""
        self.kit.a.hello("ann")
        (record,) = self.kit.a.roaming.records()
        self.kit.nodes.kill("a")
        self.kit.b.roaming.displaced(record)
        self.assertEqual(self.kit.b.roaming.statistics()["pending_ends"], 0)

    def test_over_before_it_is_told(self) -> None:
        """A session that another observer threw out is not said to be here."""
        session = self.kit.a.registry.find_user(self.kit.a.hello("ann").welcome.user)
        assert session is not None
        self.kit.a.registry.expel(session, CloseReason.KICKED)
        self.kit.a.roaming.session_opened(session)
        self.assertIsNone(self.kit.record("ann"))


class WaitingTests(SynchronousTestCase):
    """The search takes time, and may lead nowhere."""

    def setUp(self) -> None:
        """Ann is away from node a; between nodes everything takes 10 ms."""
        self.kit = RoamingKit(with_delay=True)
        first = self.kit.a.hello("ann", acks=True)
        self.sid = first.welcome.sid
        self.kit.a.push("ann", b"1")
        first.lose()

    def resume_at_b(self) -> Client:
        """Say HELLO there; it is not answered yet."""
        client = self.kit.b.hello("ann", self.sid, True, 0)
        self.assertFalse(client.is_answered)
        return client

    def seconds_until_answered(self, client: Client) -> float:
        """Let time pass until HELLO is answered."""
        began_at = self.kit.clock.seconds()
        while not client.is_answered and self.kit.clock.seconds() < began_at + 10:
            self.kit.advance(0.05)
        return self.kit.clock.seconds() - began_at

    def test_found(self) -> None:
        """The client is answered as soon as its session has come."""
        client = self.resume_at_b()
        self.assertLess(self.seconds_until_answered(client), 0.2)
        self.assertEqual((client.welcome.recovered, client.pushed), (True, [b"1"]))

    def test_silent_node(self) -> None:
        """A node that answers nothing costs its client the session and at most 6 seconds."""
        self.kit.nodes.silence("a")
        client = self.resume_at_b()
        self.assertLess(self.seconds_until_answered(client), 6.0)
        self.assertFalse(client.welcome.resumed)

    def test_silent_node_and_witness(self) -> None:
        """Memberships of a session on a node that answers nothing come from another node."""
        self.kit.nodes.silence("a")
        self.kit.c.groups.known["ann", self.sid] = [G]
        client = self.resume_at_b()
        self.assertLess(self.seconds_until_answered(client), 6.0)
        self.assertEqual((client.welcome.resumed, client.welcome.recovered), (True, False))
        self.assertEqual(self.kit.b.groups.of[self.kit.b.session("ann")], [G])

    def test_silent_directory(self) -> None:
        """A directory that answers nothing is not waited for longer than a second."""
        self.kit.directory.find_user = lambda user_id: Deferred()  # type: ignore[method-assign]
        client = self.resume_at_b()
        self.assertLess(self.seconds_until_answered(client), 1.3)
        self.assertEqual((client.welcome.recovered, client.pushed), (True, [b"1"]))

    def test_everything_silent(self) -> None:
        """With nobody answering anything HELLO is answered all the same."""
        self.kit.directory.find_user = lambda user_id: Deferred()  # type: ignore[method-assign]
        self.kit.nodes.silence("b")
        self.assertLess(self.seconds_until_answered(self.resume_at_b()), 6.0)

    def test_cut_on_the_way(self) -> None:
        """A session that was released into a link that broke is over; its memberships come from those who know them."""
        self.kit.a.groups.known["ann", self.sid] = [G]
        client = self.resume_at_b()
        self.kit.clock.advance(0.01)
        self.assertEqual(self.kit.where("ann"), [])
        self.kit.nodes.cut("a", "b")
        self.kit.c.groups.known["ann", self.sid] = [G]
        self.seconds_until_answered(client)
        self.assertEqual((client.welcome.resumed, client.welcome.recovered), (True, False))

    def test_connection_lost(self) -> None:
        """A client that loses its connection meanwhile finds its session where it left it."""
        self.resume_at_b().lose()
        self.kit.advance(1)
        self.assertEqual(self.kit.where("ann"), ["b"])
        again = self.kit.b.hello("ann", self.sid, True, 0)
        self.assertEqual((again.welcome.recovered, again.pushed), (True, [b"1"]))

    def test_given_up(self) -> None:
        """A client that has gone before its session was asked for leaves it where it is: it may be there by now."""
        found: Deferred[UserRecord | None] = Deferred()
        record = self.kit.record("ann")
        self.patch(self.kit.directory, "find_user", lambda user_id: found)
        self.resume_at_b().lose()
        found.callback(record)
        self.kit.advance(1)
        self.assertEqual(self.kit.where("ann"), ["a"])

    def test_never_comes_back(self) -> None:
        """A session that was taken over for a client that did not come back ends like one that is away."""
        self.resume_at_b().lose()
        self.kit.advance(1)
        self.assertEqual((self.kit.where("ann"), self.kit.b.registry.away_count), (["b"], 1))
        self.kit.advance(30)
        self.assertEqual(self.kit.where("ann"), [])
        self.assertIsNone(self.kit.record("ann"))

    def test_asks_twice(self) -> None:
        """A client that says HELLO again meanwhile gets its session by the newer connection."""
        first = self.resume_at_b()
        second = self.resume_at_b()
        self.assertIs(first.link.close_reason, CloseReason.REPLACED)
        self.kit.advance(1)
        self.assertFalse(first.is_answered)
        self.assertEqual((second.welcome.recovered, second.pushed), (True, [b"1"]))
        self.assertEqual([call[1] for call in self.kit.nodes["a"].calls], ["session.release", "session.end"])

    def test_fresh_sign_in_meanwhile(self) -> None:
        """A newer sign-in without resume wins over a session that is still on its way."""
        first = self.resume_at_b()
        fresh = self.kit.b.hello("ann")
        self.assertFalse(fresh.welcome.resumed)
        self.kit.advance(1)
        self.assertIs(first.link.close_reason, CloseReason.REPLACED)
        self.assertFalse(fresh.link.is_closed)
        self.assertEqual(self.kit.b.session("ann").user.sid, fresh.welcome.sid)
        self.assertEqual(self.kit.where("ann"), ["b"])

    def test_session_that_is_resumed_elsewhere_than_the_present_one(self) -> None:
        """A client that names a session elsewhere while the user has another one here goes on with the named one."""
        self.successResultOf(self.kit.directory.stop())
        present = self.kit.b.hello("ann")
        client = self.resume_at_b()
        self.kit.advance(1)
        self.assertTrue(client.welcome.resumed)
        self.assertIs(present.link.close_reason, CloseReason.REPLACED)
        self.assertEqual(self.kit.b.session("ann").user.sid, self.sid)

    def test_both_ends_at_the_same_time(self) -> None:
        """Two nodes that take the session at the same time end with one session, and no client waits in vain."""
        for witness in (self.kit.a, self.kit.b, self.kit.c):
            witness.groups.known["ann", self.sid] = [G]
        at_b, at_c = self.resume_at_b(), self.kit.c.hello("ann", self.sid, True, 0)
        self.kit.advance(6)
        self.assertTrue(at_b.is_answered and at_c.is_answered)
        self.assertEqual(len(self.kit.where("ann")), 1)
        closed = [client.link.close_reason for client in (at_b, at_c) if client.link.is_closed]
        self.assertEqual(closed, [CloseReason.REPLACED])
        record = self.kit.record("ann")
        assert record is not None
        self.assertEqual([record.node_id], self.kit.where("ann"))

    def test_slow_groups(self) -> None:
        """The client is answered when its session is in its groups, or after 3 seconds."""
        self.kit.b.groups.entering = Deferred()
        client = self.resume_at_b()
        self.kit.advance(1)
        self.assertFalse(client.is_answered)
        self.kit.b.groups.entering.callback(None)
        self.assertTrue(client.welcome.resumed)
        self.kit.c.groups.entering = Deferred()
        never = self.kit.c.hello("ann", self.sid, True, 1)
        self.assertApproximates(self.seconds_until_answered(never), 3.0, 0.3)
        self.assertTrue(never.welcome.resumed)

    def test_slow_rooms(self) -> None:
        """The client is answered when its session is in its rooms, or after 3 seconds."""
        self.kit.a.rooms.of["ann"] = [G]
        self.kit.b.rooms.adopting = Deferred()
        client = self.resume_at_b()
        self.assertApproximates(self.seconds_until_answered(client), 3.0, 0.3)
        self.assertTrue(client.welcome.resumed)

    def test_groups_fail(self) -> None:
        """A component that fails is logged, and the client is in."""
        self.kit.b.groups.entering = Deferred()
        client = self.resume_at_b()
        self.kit.advance(1)
        self.kit.b.groups.entering.errback(RuntimeError("no"))
        self.assertTrue(client.welcome.resumed)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_moves_on_while_it_enters(self) -> None:
        """A session that is asked for while it enters its groups takes all of them along."""
        entering: Deferred[None] = Deferred()
        self.kit.b.groups.entering = entering
        self.resume_at_b().lose()
        self.kit.advance(0.2)
        self.kit.b.groups.of[self.kit.b.session("ann")] = []
        at_c = self.kit.c.hello("ann", self.sid, True, 0)
        self.kit.advance(0.5)
        self.assertFalse(at_c.is_answered)
        self.kit.b.groups.of[self.kit.b.session("ann")] = [G, H]
        entering.callback(None)
        self.kit.advance(0.5)
        self.assertEqual(self.kit.c.groups.of[self.kit.c.session("ann")], [G, H])

    def test_malformed_answers(self) -> None:
        """A node that answers nonsense is as good as one that answers nothing, and is counted."""
        for name in ("session.release", "session.recall"):
            self.kit.nodes["a"]._answers[name] = lambda node_id, payload: b"\xc1"
        client = self.resume_at_b()
        self.kit.advance(1)
        self.assertFalse(client.welcome.resumed)
        self.assertEqual(self.kit.b.roaming.statistics()["malformed"], 2)

    def test_malformed_questions(self) -> None:
        """A question that cannot be read is the other node's fault, and changes nothing."""
        for name in ("session.end", "session.release", "session.recall"):
            asked = self.kit.nodes["b"].call("a", name, b"\xc1")
            self.kit.advance(0.1)
            self.failureResultOf(asked)
        self.assertEqual(self.kit.where("ann"), ["a"])

    def test_bounds(self) -> None:
        """Beyond so many searches, and so many who wait for one, a sign-in is a new one at once."""
        self.kit.directory.find_user = lambda user_id: Deferred()  # type: ignore[method-assign]
        self.patch(module, "MAX_ARRIVALS", 5)
        fetch = self.kit.b.roaming.fetch
        for number in range(5):
            self.assertIsNotNone(fetch(Identity(f"user{number}", {}), self.sid))
        self.assertIsNone(fetch(Identity("ann", {}), self.sid))
        for _ in range(MAX_WAITERS - 1):
            self.assertIsNotNone(fetch(Identity("user0", {}), self.sid))
        self.assertIsNone(fetch(Identity("user0", {}), self.sid))
        statistics = self.kit.b.roaming.statistics()
        self.assertEqual((statistics["searching"], statistics["refused"]), (5, 1))
        self.kit.advance(7)
        self.assertEqual(self.kit.b.roaming.statistics()["searching"], 0)


class RaceTests(SynchronousTestCase):
    """A client that finds another node before the last one is done with it; between nodes everything takes 10 ms."""

    def setUp(self) -> None:
        """Ann was signed in at node a a minute ago, and a push waits for her."""
        self.kit = RoamingKit(SessionConfig(resume_seconds=600), with_delay=True)
        self.first = self.kit.a.hello("ann", acks=True)
        self.sid = self.first.welcome.sid
        self.kit.a.push("ann", b"1")
        self.kit.advance(60)

    def resume(self, node: RoamingNode) -> Client:
        """Say HELLO to a node."""
        return node.hello("ann", self.sid, True, 0)

    def check_is_at(self, client: Client, *others: tuple[Client, CloseReason | None]) -> None:
        """This one is in and stays, the others were closed, and everybody knows where the user is."""
        self.kit.advance(5)
        self.assertTrue(client.is_answered)
        self.assertFalse(client.link.is_closed)
        self.assertEqual([other.link.close_reason for other, _ in others], [reason for _, reason in others])
        self.assertEqual(self.kit.where("ann"), [client.node.node_id])
        record = self.kit.record("ann")
        assert record is not None
        self.assertEqual((record.node_id, record.sid), (client.node.node_id, client.welcome.sid))

    def test_on_its_way(self) -> None:
        """A session that is on its way to a node that was given up is found by the next one, with all it has."""
        self.first.lose()
        at_b = self.resume(self.kit.b)
        self.kit.clock.advance(0.002)
        self.successResultOf(self.kit.directory.stop())
        at_b.lose()
        at_c = self.resume(self.kit.c)
        self.kit.advance(5)
        self.assertEqual((at_c.welcome.resumed, at_c.welcome.recovered, at_c.pushed), (True, True, [b"1"]))
        self.assertEqual(self.kit.where("ann"), ["c"])

    def test_slow_search(self) -> None:
        """A node that takes long to find a session does not take it from where its client went meanwhile."""
        for skew in (0, 700_000, -700_000):
            self.kit.b.clock_is_off_by = skew
            found: Deferred[UserRecord | None] = Deferred()
            record = self.kit.record("ann")
            patch = self.patch(self.kit.directory, "find_user", lambda user_id, found=found: found)
            at_b = self.resume(self.kit.b)
            self.kit.clock.advance(0.2)
            at_a = self.resume(self.kit.a)
            patch.restore()
            found.callback(record)
            self.check_is_at(at_a, (at_b, CloseReason.MOVED))

    def test_slow_question(self) -> None:
        """Nor does one whose question is overtaken by the client."""
        at_b = self.resume(self.kit.b)
        self.kit.clock.advance(0.005)
        self.check_is_at(self.resume(self.kit.a), (at_b, CloseReason.MOVED))

    def test_slow_question_and_wrong_clock(self) -> None:
        """Where clocks do not agree the client may lose that connection, and is told to come back."""
        for skew in (1_000_000, -3_000_000):
            self.kit.b.clock_is_off_by = skew
            at_b = self.resume(self.kit.b)
            self.kit.clock.advance(0.005)
            at_a = self.resume(self.kit.a)
            self.check_is_at(at_b, (at_a, CloseReason.MOVED))
            self.resume(self.kit.a)
            self.kit.advance(5)

    def test_late_arrival(self) -> None:
        """A session that arrives where nobody waits for it any more does not end a newer one."""
        at_b = self.resume(self.kit.b)
        self.kit.clock.advance(0.002)
        at_b.lose()
        at_c = self.kit.c.hello("ann")
        self.check_is_at(at_c)

    def test_gone_again(self) -> None:
        """A sign-in that is read late, when its client has gone, ends no session whose client is there."""
        at_b = self.kit.b.hello("ann")
        at_b.lose()
        self.check_is_at(self.first)

    def test_gone_again_and_late_claim(self) -> None:
        """The same when the directory hears of the client that is there after the one that has gone."""
        self.first.lose()
        late: list[UserRecord] = []
        patch = self.patch(self.kit.c.claims, "claim", late.append)
        at_c = self.kit.c.hello("ann")
        patch.restore()
        self.kit.advance(1)
        self.kit.b.hello("ann").lose()
        self.kit.advance(1)
        self.kit.c.claims.claim(late[0])
        self.check_is_at(at_c)

    def test_signs_in_anew(self) -> None:
        """A session that a newer one ends on its node is not taken out of the directory: another may have it by now."""
        released: list[tuple[str, str]] = []
        self.patch(self.kit.a.claims, "release", lambda *session: released.append(session))
        self.check_is_at(self.kit.a.hello("ann"), (self.first, CloseReason.REPLACED))
        self.assertEqual(released, [])

    def test_no_word_from_the_newer_one(self) -> None:
        """When the node of a newer sign-in does not say whether its client is there, ours may come back and see."""
        self.kit.b.hello("ann")
        self.kit.clock.advance(0.012)
        self.kit.nodes.silence("b")
        self.kit.advance(5)
        self.assertIs(self.first.link.close_reason, CloseReason.MOVED)

    def test_one_session_twice(self) -> None:
        """Of one session on two nodes that did not see each other the older one is told to come back."""
        self.kit.b.groups.known["ann", self.sid] = [G]
        self.kit.nodes.cut("a", "b")
        self.kit.nodes.cut("a", "c")
        at_b = self.resume(self.kit.b)
        self.kit.advance(1)
        self.assertEqual(self.kit.where("ann"), ["a", "b"])
        self.kit.nodes.mend("a", "b")
        self.check_is_at(at_b, (self.first, CloseReason.MOVED))


class EarlyFramesTests(SynchronousTestCase):
    """Clients need not wait for the answer to HELLO before they send the next."""

    def setUp(self) -> None:
        """Ann has said HELLO at node b, and her session is on its way; two commands may wait."""
        self.kit = RoamingKit(SessionConfig(pending_commands=2, hello_timeout_seconds=2), with_delay=True)
        first = self.kit.a.hello("ann")
        first.lose()
        self.sid = first.welcome.sid
        self.client = self.kit.b.hello("ann", self.sid)

    def test_in_order(self) -> None:
        """What was sent early is run behind the answer, in its order; a stream is not read any further meanwhile."""
        for payload in (b"1", b"2", b"3"):
            self.client.send(1, payload, request_id=int(payload))
        self.assertEqual((self.kit.b.ran, self.client.link.is_reading_paused), ([], True))
        self.kit.advance(1)
        self.client.link.read()
        self.assertEqual(self.kit.b.ran, [b"1", b"2", b"3"])
        self.assertEqual([frame.request_id for frame in self.client.link.received], [4711, 1, 2, 3])

    def test_goodbye(self) -> None:
        """A client that leaves at once leaves for good."""
        self.client.send(CoreCommand.GOODBYE, b"", CORE_VER)
        self.kit.advance(1)
        self.assertEqual(self.kit.where("ann"), [])

    def test_protocol_error(self) -> None:
        """Early frames must be frames."""
        self.client.link.frame_sent(Frame(2, 2, 1, 0, b""))
        self.assertIs(self.client.link.close_reason, CloseReason.PROTOCOL_ERROR)

    def test_deadline(self) -> None:
        """HELLO has its deadline also while a session is on its way."""
        self.kit.nodes.silence("a")
        client = self.kit.c.hello("ann", self.sid)
        self.kit.advance(2.2)
        self.assertIs(client.link.close_reason, CloseReason.HELLO_TIMEOUT)
        self.assertEqual(self.kit.c.reception.signing_in, {})

    def test_nothing_is_left(self) -> None:
        """A connection that is gone is in no table."""
        self.assertEqual(len(self.kit.b.reception.signing_in), 1)
        self.client.lose()
        self.assertEqual((self.kit.b.reception.signing_in, len(self.kit.b.reception.connections)), ({}, 0))
