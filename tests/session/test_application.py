"""What the application gets."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from meshrelay.errors import AlreadyMember, MessageTooLarge
from meshrelay.interfaces import IMeshRelay, ISessionObserver
from meshrelay.model import Status, User
from meshrelay.testing.builders import make_session
from meshrelay.testing.node import make_node


class CommandTests(SynchronousTestCase):
    """Commands of the application's own."""

    def setUp(self) -> None:
        """A node with one client."""
        self.node = make_node()
        self.relay = self.node.relay
        self.ann = self.node.sign_in("ann")

    def test_contracts(self) -> None:
        """The application gets an IMeshRelay."""
        verifyObject(IMeshRelay, self.relay)
        verifyObject(ISessionObserver, self.relay)

    def test_called(self) -> None:
        """A handler gets what the client sent and who sent it, and answers."""

        def handler(ver: int, cmd: int, payload: bytes, user: User) -> bytes:
            return f"{ver} {cmd} {payload!r} {user.user_id}".encode()

        self.relay.command(255, 65535, handler)
        self.assertEqual(self.ann.request(65535, b"hi", ver=255).payload, b"255 65535 b'hi' ann")

    def test_nothing(self) -> None:
        """A handler that returns nothing answers with an empty payload."""
        self.relay.command(2, 0, lambda ver, cmd, payload, user: None)
        self.assertEqual(self.ann.request(0, ver=2)[1], Status.OK)
        self.assertEqual(self.ann.request(0, ver=2).payload, b"")

    def test_coroutine(self) -> None:
        """A handler may be a coroutine function; the answer goes out when it ends."""
        waiting: Deferred[bytes] = Deferred()

        async def handler(ver: int, cmd: int, payload: bytes, user: User) -> bytes:
            return payload + await waiting

        self.relay.command(2, 1, handler)
        request_id = self.ann.ask(1, b"a", ver=2)
        self.assertIsNone(self.ann.answer_to(request_id))
        waiting.callback(b"b")
        self.node.settle()
        answer = self.ann.answer_to(request_id)
        assert answer is not None
        self.assertEqual((answer.status, answer.payload), (Status.OK, b"ab"))

    def test_raises(self) -> None:
        """A handler may refuse with any CommandError; anything else is code 7 and in the log."""

        def handler(ver: int, cmd: int, payload: bytes, user: User) -> bytes:
            raise AlreadyMember("twice") if payload else KeyError("bug")

        self.relay.command(2, 1, handler)
        self.assertEqual(self.ann.refusal(1, b"x", ver=2), (Status.BAD, 20, "twice"))
        self.assertEqual(self.ann.refusal(1, b"", ver=2), (Status.ERROR, 7, "internal error"))
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_wrong_result(self) -> None:
        """A handler that returns neither bytes nor None is a bug, not a payload of zeros."""
        self.relay.command(2, 1, lambda ver, cmd, payload, user: 5)  # type: ignore[arg-type, return-value]
        self.assertEqual(self.ann.refusal(1, ver=2)[1], 7)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_too_large(self) -> None:
        """A handler whose answer no client takes is told so in the log; its caller gets an error, not a broken line."""
        self.relay.command(2, 1, lambda *_: bytes(65537))
        self.assertIn(self.ann.refusal(1, ver=2)[1], (5, 7))
        self.flushLoggedErrors()

    def test_reserved(self) -> None:
        """ver 0 and 1 are not the application's, and no number is taken twice."""
        for ver, cmd in ((0, 1), (1, 110), (256, 1), (2, -1), (2, 65536)):
            self.assertRaises(ValueError, self.relay.command, ver, cmd, lambda *_: None)
        self.relay.command(2, 1, lambda *_: None)
        self.assertRaises(ValueError, self.relay.command, 2, 1, lambda *_: None)

    def test_hooks(self) -> None:
        """Hooks of the application's own commands run around them, in order, and may refuse."""
        order: list[str] = []
        self.relay.command(2, 1, lambda *_: order.append("run"))
        self.relay.before(2, 1, lambda *_: order.append("before"))
        self.relay.after(2, 1, lambda *_: order.append("after"))
        self.ann.request(1, ver=2)
        self.assertEqual(order, ["before", "run", "after"])
        self.assertRaises(ValueError, self.relay.before, 2, 9, lambda *_: None)
        self.assertRaises(ValueError, self.relay.after, 2, 9, lambda *_: None)


class UserTests(SynchronousTestCase):
    """Users of this node."""

    def setUp(self) -> None:
        """A node with one client."""
        self.node = make_node()
        self.relay = self.node.relay
        self.ann = self.node.sign_in("ann")

    def test_push(self) -> None:
        """A push reaches the user it names, and says whether there was one."""
        self.assertTrue(self.relay.push("ann", 9, 8, b"news", True))
        self.assertFalse(self.relay.push("bob", 9, 8, b"news", True))
        self.node.settle()
        self.assertEqual(self.ann.pushes(), [(9, Status.PUSH, 8, 0, b"news")])

    def test_push_too_large(self) -> None:
        """A push that no client takes never leaves the application."""
        self.assertRaises(MessageTooLarge, self.relay.push, "ann", 9, 8, bytes(65537), True)

    def test_push_core(self) -> None:
        """The core commands are the node's: a push of ver 0 would end or miscount a session."""
        self.assertRaises(ValueError, self.relay.push, "ann", 0, 4, b"", True)

    def test_find(self) -> None:
        """A signed-in user is found with sid and transport."""
        self.assertEqual(self.relay.find_user("ann"), User("ann", self.ann.sid, "tcp"))
        self.assertIsNone(self.relay.find_user("bob"))

    def test_kick(self) -> None:
        """A kicked user reads why."""
        self.assertTrue(self.relay.kick("ann", "cheating"))
        self.assertEqual(self.ann.link.close_text, "cheating")
        self.assertFalse(self.relay.kick("ann", "cheating"))

    def test_sign_in_and_out(self) -> None:
        """The application hears of a sign-in and of the end, but not of a break in between."""
        heard: list[str] = []
        self.relay.on_sign_in(lambda user: heard.append(f"in {user.user_id}"))
        self.relay.on_sign_out(lambda user: heard.append(f"out {user.user_id}"))
        bob = self.node.sign_in("bob")
        bob.lose()
        self.node.sign_in("bob", resume=bob.sid)
        self.assertEqual(heard, ["in bob"])
        self.relay.kick("bob", "")
        self.assertEqual(heard, ["in bob", "out bob"])

    def test_roaming(self) -> None:
        """A user whose session goes on at another node has neither signed out here nor signed in there."""
        told: list[str] = []
        self.relay.on_sign_in(lambda user: told.append("in"))
        self.relay.on_sign_out(lambda user: told.append("out"))
        session = make_session("bob")
        self.relay.session_adopted(session, [])
        self.relay.session_moved(session)
        self.assertEqual(told, [])

    def test_callback_raises(self) -> None:
        """A callback that fails is logged; the next one is called, and the user comes in."""
        heard: list[str] = []

        def fail(user: User) -> None:
            raise KeyError(user.user_id)

        async def later(user: User) -> None:
            heard.append(user.user_id)

        self.relay.on_sign_in(fail)
        self.relay.on_sign_in(later)
        self.assertTrue(self.node.sign_in("bob").sid)
        self.assertEqual(heard, ["bob"])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
