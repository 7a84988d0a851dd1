"""All sessions of a node."""

from __future__ import annotations

from collections.abc import Awaitable
from itertools import count

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from meshrelay.background import Alarms
from meshrelay.counters import NodeCounters
from meshrelay.interfaces import ISession, ISessionObserver, ISessions
from meshrelay.model import CloseReason
from meshrelay.session.auth import Identity
from meshrelay.session.registry import RegistryLimits, Resume, SessionRegistry, SignIn
from meshrelay.session.session import Session
from meshrelay.testing.builders import make_sid
from meshrelay.testing.link import MemoryConnection, MemoryLink
from meshrelay.wire.frame import encode_push
from meshrelay.wire.session_node import Handover


@implementer(ISessionObserver)
class Diary:
    """Writes down what it is told."""

    def __init__(self, raises: bool = False) -> None:
        self.entries: list[str] = []
        self.adopting: Awaitable[None] | None = None
        self.raises = raises

    def _write(self, event: str, session: ISession) -> None:
        self.entries.append(f"{event} {session.user.user_id}")
        if self.raises:
            raise RuntimeError("the diary is full")

    def session_opened(self, session: ISession) -> None:
        """See `ISessionObserver`."""
        self._write("opened", session)

    def session_away(self, session: ISession) -> None:
        """See `ISessionObserver`."""
        self._write("away", session)

    def session_back(self, session: ISession) -> None:
        """See `ISessionObserver`."""
        self._write("back", session)

    def session_closed(self, session: ISession, reason: CloseReason | None) -> None:
        """See `ISessionObserver`."""
        self._write(f"closed {reason.name if reason is not None else None}", session)

    def session_moved(self, session: ISession) -> None:
        """See `ISessionObserver`."""
        self._write("moved", session)

    def session_adopted(self, session: ISession, group_ids: list[str]) -> Awaitable[None] | None:
        """See `ISessionObserver`."""
        self._write("adopted", session)
        return self.adopting


class RegistryTestCase(SynchronousTestCase):
    """A registry on a clock, watched."""

    def setUp(self) -> None:
        """Nobody is signed in."""
        sids = count(1)
        self.clock = Clock()
        self.counters = NodeCounters()
        self.diary = Diary()
        self.registry = SessionRegistry(
            RegistryLimits(30.0, 1000, 3), Alarms(self.clock), lambda: f"{next(sids):032x}", self.counters
        )
        self.registry.add_observer(self.diary)

    def sign_in(self, user_id: str, resume: Resume | None = None, **claims: object) -> SignIn:
        """Sign in by a new connection, as `Connection` does."""
        outcome = self.registry.sign_in(Identity(user_id, claims), MemoryConnection(MemoryLink()), resume or Resume())
        self.registry.signed_in(outcome)
        return outcome

    def leave(self, outcome: SignIn) -> None:
        """Break the connection."""
        assert outcome.session.link is not None
        self.registry.detach(outcome.session, outcome.session.link)


class SignInTests(RegistryTestCase):
    """Coming in."""

    def test_contracts(self) -> None:
        """The registry, and the diary that stands for a component, are what they claim to be."""
        verifyObject(ISessions, self.registry)
        verifyObject(ISessionObserver, self.diary)

    def test_new(self) -> None:
        """A user who signs in is found by ID and by sid."""
        outcome = self.sign_in("ann", team="red")
        self.assertEqual((outcome.resumed, outcome.recovered, outcome.frames), (False, False, []))
        self.assertIs(self.registry.find_user("ann"), outcome.session)
        self.assertIs(self.registry.find_session(outcome.session.user.sid), outcome.session)
        self.assertEqual(outcome.session.user.claims, {"team": "red"})
        self.assertEqual((len(self.registry), list(self.registry)), (1, [outcome.session]))
        self.assertEqual(self.diary.entries, ["opened ann"])

    def test_given_sid(self) -> None:
        """A session whose secrets were handed out before keeps the sid of those."""
        connection = MemoryConnection(MemoryLink("udp"))
        outcome = self.registry.sign_in(Identity("ann", {}), connection, Resume(), "f" * 32)
        self.assertEqual(outcome.session.user.sid, "f" * 32)

    def test_take_over(self) -> None:
        """A newer sign-in of the same user closes the older connection and ends its session."""
        older = self.sign_in("ann")
        connection = older.session.connection
        assert isinstance(connection, MemoryConnection)
        newer = self.sign_in("ann")
        self.assertEqual(connection.closes, [CloseReason.REPLACED])
        self.assertIs(self.registry.find_user("ann"), newer.session)
        self.assertIsNone(self.registry.find_session(older.session.user.sid))
        self.assertEqual(self.diary.entries, ["opened ann", "closed REPLACED ann", "opened ann"])
        self.assertEqual(len(self.registry), 1)

    def test_observer_raises(self) -> None:
        """A component that fails keeps neither the user out nor the other components in the dark."""
        registry_diary = Diary(raises=True)
        last = Diary()
        self.registry.add_observer(registry_diary)
        self.registry.add_observer(last)
        self.sign_in("ann")
        self.assertEqual(last.entries, ["opened ann"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class AwayTests(RegistryTestCase):
    """Going away, and how long that may take."""

    def test_resume(self) -> None:
        """Within resume_seconds the same session goes on."""
        first = self.sign_in("ann")
        self.leave(first)
        self.assertEqual(self.registry.away_count, 1)
        self.clock.advance(29.9)
        again = self.sign_in("ann", Resume(first.session.user.sid))
        self.assertTrue(again.resumed)
        self.assertIs(again.session, first.session)
        self.assertEqual(self.registry.away_count, 0)
        self.clock.advance(100)
        self.assertIs(self.registry.find_user("ann"), first.session)
        self.assertEqual(self.diary.entries, ["opened ann", "away ann", "back ann"])
        self.assertEqual(self.counters.resumes, {"resumed": 1})

    def test_too_late(self) -> None:
        """After resume_seconds the session is over, and a resume is a new sign-in."""
        first = self.sign_in("ann")
        self.leave(first)
        self.clock.advance(30.1)
        self.assertIsNone(self.registry.find_user("ann"))
        again = self.sign_in("ann", Resume(first.session.user.sid))
        self.assertFalse(again.resumed)
        self.assertNotEqual(again.session.user.sid, first.session.user.sid)
        self.assertEqual(self.diary.entries, ["opened ann", "away ann", "closed None ann", "opened ann"])
        self.assertEqual(self.counters.resumes, {"refused": 1})

    def test_recovered(self) -> None:
        """A client with acknowledgements is told that nothing is missing, and gets what was."""
        first = self.sign_in("ann", Resume(acks=True))
        first.session.push(1, 113, b"x", True)
        self.leave(first)
        again = self.sign_in("ann", Resume(first.session.user.sid, True, 0))
        self.assertTrue(again.recovered)
        self.assertEqual(len(again.frames), 1)
        self.assertEqual(self.counters.resumes, {"recovered": 1})

    def test_wrong_sid(self) -> None:
        """A sid is a secret: a guess ends the old session like any other sign-in."""
        first = self.sign_in("ann")
        self.leave(first)
        for guess in ("0" * 32, "é", "\ud800", first.session.user.sid.upper() + "0"):
            self.assertFalse(self.registry.can_resume("ann", guess))
        self.assertFalse(self.sign_in("ann", Resume("0" * 32)).resumed)
        self.assertEqual(self.diary.entries[-2:], ["closed REPLACED ann", "opened ann"])

    def test_sid_of_another_user(self) -> None:
        """Nobody goes on with somebody else's session."""
        bob = self.sign_in("bob")
        self.leave(bob)
        self.assertFalse(self.sign_in("ann", Resume(bob.session.user.sid)).resumed)
        self.assertIs(self.registry.find_user("bob"), bob.session)

    def test_resume_while_connected(self) -> None:
        """A client that noticed a broken connection before the node did takes its own session over."""
        first = self.sign_in("ann")
        connection = first.session.connection
        assert isinstance(connection, MemoryConnection)
        again = self.sign_in("ann", Resume(first.session.user.sid))
        self.assertTrue(again.resumed)
        self.assertIs(again.session, first.session)
        self.assertEqual(connection.closes, [CloseReason.REPLACED])
        self.assertTrue(again.session.is_attached)

    def test_late_loss(self) -> None:
        """The end of a connection that was replaced says nothing about its session."""
        first = self.sign_in("ann")
        link = first.session.link
        assert link is not None
        self.sign_in("ann", Resume(first.session.user.sid))
        self.registry.detach(first.session, link)
        self.assertTrue(first.session.is_attached)
        self.assertEqual(self.registry.away_count, 0)

    def test_no_resume(self) -> None:
        """With resume_seconds = 0 a broken connection ends its session."""
        self.registry.set_limits(RegistryLimits(0.0, 1000, 3))
        self.leave(self.sign_in("ann"))
        self.assertEqual((len(self.registry), self.registry.away_count), (0, 0))
        self.assertEqual(self.diary.entries, ["opened ann", "closed None ann"])

    def test_bound(self) -> None:
        """Of sessions that are away at most max_away are kept; the one that left first gives way."""
        for user_id in ("ann", "bob", "cid"):
            self.leave(self.sign_in(user_id))
        self.assertEqual(self.registry.away_count, 3)
        self.leave(self.sign_in("dan"))
        self.assertEqual(self.registry.away_count, 3)
        self.assertIsNone(self.registry.find_user("ann"))
        self.assertIsNotNone(self.registry.find_user("bob"))

    def test_fresh_claims(self) -> None:
        """A resume with a newer token brings the newer claims."""
        first = self.sign_in("ann", None, exp=1)
        self.leave(first)
        again = self.sign_in("ann", Resume(first.session.user.sid), exp=2)
        self.assertEqual(again.session.user.claims, {"exp": 2})


class EndTests(RegistryTestCase):
    """Going for good."""

    def test_kick(self) -> None:
        """A user who is kicked is told why and has no session any more."""
        outcome = self.sign_in("ann")
        connection = outcome.session.connection
        assert isinstance(connection, MemoryConnection)
        self.assertTrue(self.registry.kick("ann", "cheating"))
        self.assertEqual(connection.closes, [CloseReason.KICKED])
        self.assertEqual(connection.link.close_text, "cheating")
        self.assertFalse(self.registry.kick("ann", "again"))
        self.assertEqual(self.diary.entries, ["opened ann", "closed KICKED ann"])

    def test_kick_away(self) -> None:
        """A user who is away can be kicked as well."""
        self.leave(self.sign_in("ann"))
        self.assertTrue(self.registry.kick("ann", ""))
        self.assertEqual((len(self.registry), self.registry.away_count), (0, 0))

    def test_twice(self) -> None:
        """A session ends once."""
        session = self.sign_in("ann").session
        self.registry.end(session, None)
        self.registry.end(session, CloseReason.KICKED)
        self.assertEqual(self.diary.entries, ["opened ann", "closed None ann"])
        self.assertFalse(session.is_attached)


class MoveTests(RegistryTestCase):
    """Sessions that come from other nodes, or go there."""

    def adopt(self, user_id: str, instead_of: Session | None = None) -> Session | None:
        """Take a session over that kept one push."""
        handover = Handover(is_found=True, frames=encode_push(1, 113, b"x"))
        adoption = self.registry.adopt(Identity(user_id, {"n": 1}), make_sid(user_id), handover, instead_of)
        return adoption.session if adoption is not None else None

    def test_adopted(self) -> None:
        """A session that comes is away, and its client resumes it like one of this node."""
        session = self.adopt("ann")
        assert session is not None
        self.assertEqual((session.user.claims, session.is_attached, self.registry.away_count), ({"n": 1}, False, 1))
        again = self.sign_in("ann", Resume(make_sid("ann")))
        self.assertIs(again.session, session)
        self.assertEqual(again.frames, [encode_push(1, 113, b"x")])
        self.assertEqual(self.diary.entries, ["adopted ann", "back ann"])

    def test_nobody_comes(self) -> None:
        """It is kept for resume_seconds, no longer."""
        self.adopt("ann")
        self.clock.advance(30.1)
        self.assertEqual(self.diary.entries, ["adopted ann", "closed None ann"])

    def test_instead_of(self) -> None:
        """It takes the place of the session that its client wants to leave, and of no other."""
        present = self.sign_in("ann").session
        self.assertIsNone(self.adopt("ann"))
        self.assertTrue(present.is_attached)
        self.assertIsNotNone(self.adopt("ann", present))
        self.assertTrue(present.is_over)
        self.assertEqual(self.diary.entries, ["opened ann", "closed REPLACED ann", "adopted ann"])

    def test_ended_meanwhile(self) -> None:
        """The session that it was to take the place of may be over already."""
        present = self.sign_in("ann").session
        self.registry.end(present, None)
        self.assertIsNotNone(self.adopt("ann", present))

    def test_same_sid(self) -> None:
        """Two sessions never have the same sid."""
        self.registry.sign_in(Identity("bob", {}), MemoryConnection(MemoryLink("udp")), Resume(), make_sid("ann"))
        self.assertIsNone(self.adopt("ann"))

    def test_not_kept(self) -> None:
        """A node that keeps no sessions takes none over."""
        self.registry.set_limits(RegistryLimits(0.0, 1000, 3))
        self.assertIsNone(self.adopt("ann"))

    def test_bound(self) -> None:
        """Sessions that came count among those that are away."""
        for user_id in ("ann", "bob", "cid", "dan"):
            self.adopt(user_id)
        self.assertEqual(self.registry.away_count, 3)
        self.assertIsNone(self.registry.find_user("ann"))

    def test_waiting(self) -> None:
        """Whoever answers the client can wait for what the components do about it, Deferred or coroutine."""
        entering: Deferred[None] = Deferred()

        async def enter() -> None:
            await entering

        for waiting in (entering, enter()):
            self.diary.adopting = waiting
            adoption = self.registry.adopt(Identity("ann", {}), make_sid("ann"), Handover(), None)
            assert adoption is not None
            (done,) = adoption.waiting
            self.registry.end(adoption.session, None)
            if not entering.called:
                self.assertNoResult(done)
                entering.callback(None)
            self.successResultOf(done)

    def test_adopting_fails(self) -> None:
        """What fails there is logged, and keeps nobody waiting."""
        entering: Deferred[None] = Deferred()
        self.diary.adopting = entering
        adoption = self.registry.adopt(Identity("ann", {}), make_sid("ann"), Handover(), None)
        assert adoption is not None
        entering.errback(RuntimeError("no"))
        self.successResultOf(adoption.waiting[0])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_moved_out(self) -> None:
        """A session that goes is over here, without having ended; its connection is told that it was replaced."""
        session = self.sign_in("ann").session
        connection = session.connection
        assert isinstance(connection, MemoryConnection)
        self.registry.move_out(session)
        self.registry.move_out(session)
        self.assertEqual(connection.closes, [CloseReason.REPLACED])
        self.assertEqual((len(self.registry), session.is_over), (0, True))
        self.assertEqual(self.diary.entries, ["opened ann", "moved ann"])

    def test_moved_out_while_away(self) -> None:
        """One that is away can go as well, and its deadline with it."""
        first = self.sign_in("ann")
        self.leave(first)
        self.registry.move_out(first.session)
        self.clock.advance(31)
        self.assertEqual((self.registry.away_count, self.diary.entries[-1]), (0, "moved ann"))
