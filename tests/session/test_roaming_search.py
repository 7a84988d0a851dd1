"""Tests of `meshrelay.session.roaming_search`; what clients see of it is in `tests.session.test_roaming`."""

from __future__ import annotations

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.directory.records import MAX_STAMP, UserRecord
from meshrelay.session.roaming_search import MAX_WAITERS, SEARCH_SECONDS, Arrival
from meshrelay.testing.builders import make_sid
from meshrelay.wire.session_node import Handover, Recalled, SessionName, decode_name, encode_handover
from tests.session.roaming_kit import RoamingKit


class ArrivalTests(SynchronousTestCase):
    """Who waits, and what the sign-in is claimed under."""

    def setUp(self) -> None:
        """A client said HELLO at 5 s, under stamp 100."""
        self.arrival = Arrival(5.0, 100)

    def test_bound(self) -> None:
        """Not more than so many wait for one search, and who gives up makes room."""
        waiters = [self.arrival.when_over() for _ in range(MAX_WAITERS)]
        self.assertIsNone(self.arrival.when_over())
        last = waiters[-1]
        assert last is not None
        last.cancel()
        self.failureResultOf(last)
        self.assertIsNotNone(self.arrival.when_over())

    def test_stamps(self) -> None:
        """A sign-in is claimed above what it goes on with, and below the one that it came before."""
        self.arrival.is_after(50)
        self.assertEqual(self.arrival.stamp, 100)
        self.arrival.is_after(120)
        self.assertEqual((self.arrival.stamp, self.arrival.hello_stamp), (121, 100))
        self.arrival.is_before(90)
        self.assertEqual(self.arrival.stamp, 89)
        self.arrival.is_before(0)
        self.assertEqual(self.arrival.stamp, 0)
        self.arrival.is_after(MAX_STAMP)
        self.assertEqual(self.arrival.stamp, MAX_STAMP)

    def test_said_again(self) -> None:
        """The last HELLO is the one that counts, while the search goes on within its time."""
        self.arrival.said_hello(6.0, 200)
        self.assertEqual((self.arrival.said_at, self.arrival.stamp, self.arrival.hello_stamp), (6.0, 200, 200))
        self.assertEqual(self.arrival.ends_at, 5.0 + SEARCH_SECONDS)


class SearchTests(SynchronousTestCase):
    """What the directory and other nodes say, and what is made of it."""

    def setUp(self) -> None:
        """Ann is at node a, as the directory says; node b looks for her."""
        self.kit = RoamingKit()
        self.sid = make_sid("ann")
        self.name = SessionName(user_id="ann", sid=self.sid)
        self.search = self.kit.b.roaming._search
        self.say(self.sid, 50)

    def say(self, sid: str, stamp: int) -> None:
        """Have the directory say where she is."""
        record = UserRecord(user_id="ann", node_id="a", sid=sid, stamp=stamp)
        found: Deferred[UserRecord | None] = Deferred()
        found.callback(record)
        self.patch(self.kit.directory, "find_user", lambda user_id: found)

    def find(self, stamp: int) -> tuple[Handover, Arrival]:
        """Look for her session for a client that said HELLO under a stamp, half a second ago."""
        arrival = Arrival(self.kit.clock.seconds(), stamp)
        self.assertIsNotNone(arrival.when_over())
        self.kit.clock.advance(0.5)
        return self.successResultOf(ensureDeferred(self.search.search(self.name, arrival))), arrival

    def answer(self, handover: Handover) -> None:
        """Have node a say this when it is asked to release her."""
        self.kit.nodes["a"]._answers["session.release"] = lambda node_id, payload: encode_handover(handover)

    def test_question(self) -> None:
        """The node that has the session is told when its client came here."""
        self.find(70)
        (asked,) = [payload for _, name, payload in self.kit.nodes["a"].calls if name == "session.release"]
        question = decode_name(asked)
        self.assertEqual((question.age_ms, question.stamp), (500, 70))

    def test_found(self) -> None:
        """What is gone on with is claimed above its stamp."""
        self.answer(Handover(is_found=True, stamp=80))
        found, arrival = self.find(70)
        self.assertTrue(found.is_found)
        self.assertEqual(arrival.stamp, 81)

    def test_stays(self) -> None:
        """A session whose client has gone back to it is asked for once, and our sign-in is the older one."""
        self.answer(Handover(stamp=60))
        found, arrival = self.find(70)
        self.assertEqual((found.is_found, arrival.stamp), (False, 59))
        self.assertNotIn("session.recall", [name for _, name, _ in self.kit.nodes["c"].calls])

    def test_other_session(self) -> None:
        """A session that another sign-in ended is not looked for; which of the two is newer say their stamps."""
        now = self.kit.b.roaming._now_microseconds() + 500_000
        for hello, stamp, claimed in ((now - 9, now - 90, now - 9), (now - 90, now - 9, now - 90)):
            self.say(make_sid("bob"), stamp)
            found, arrival = self.find(hello)
            self.assertEqual((found.is_found, arrival.stamp), (False, claimed))
            now += 500_000

    def test_fast_clock(self) -> None:
        """A stamp that is still to come is that of a fast clock, and no newer sign-in."""
        self.say(make_sid("bob"), 1 << 50)
        self.assertEqual(self.find(70)[1].stamp, (1 << 50) + 1)

    def test_recall(self) -> None:
        """A node says of a session whether anybody is connected to it; one that is gone says nothing."""
        self.kit.nodes["a"].calls.clear()
        client = self.kit.a.hello("ann")
        record = UserRecord(user_id="ann", node_id="a", sid=client.welcome.sid, stamp=1)

        def recall() -> Recalled | None:
            return self.successResultOf(ensureDeferred(self.search.recall(record)))

        self.assertEqual(recall(), Recalled(is_live=True))
        client.lose()
        self.assertEqual(recall(), Recalled(is_live=True, is_away=True))
        self.kit.kill(self.kit.a)
        self.assertIsNone(recall())
