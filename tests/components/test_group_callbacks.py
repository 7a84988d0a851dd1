"""What the application is asked and told about groups."""

from __future__ import annotations

from collections.abc import Awaitable

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.components import group_callbacks
from meshrelay.errors import GroupNotFound
from meshrelay.interfaces import MessageMaker
from meshrelay.model import CloseReason
from meshrelay.testing.node import MemoryClient, make_node
from meshrelay.wire.commands import Command, CoreCommand
from meshrelay.wire.frame import Frame


class CallbackTestCase(SynchronousTestCase):
    """ann and bob are in a group."""

    def setUp(self) -> None:
        """Nothing is registered yet."""
        self.node = make_node()
        self.groups = self.node.groups
        self.ann, self.bob = self.node.sign_in("ann"), self.node.sign_in("bob")
        self.group_id = self.ann.create_group(allow_empty=True)
        self.bob.join(self.group_id)

    def seen(self, client: MemoryClient) -> list[tuple[str, str, bytes]]:
        """Name of the command, user and message of each push that a client read."""
        frames: list[Frame] = client.pushes()
        start = 52
        found = []
        for frame in frames:
            self.assertEqual(frame.payload[:start], self.group_id.encode())
            size = frame.payload[start]
            user = frame.payload[start + 1 : start + 1 + size].decode()
            found.append((Command(frame.cmd).name, user, frame.payload[start + 1 + size :]))
        return found


class LostAndBackTests(CallbackTestCase):
    """GROUP_LOST and GROUP_BACK."""

    def setUp(self) -> None:
        """Both messages say which user it is about."""
        super().setUp()
        self.asked: list[tuple[str, str, str]] = []
        self.groups.on_discard_message(self.maker(b"lost"))
        self.groups.on_rejoin_message(self.maker(b"back"))

    def maker(self, message: bytes) -> MessageMaker:
        """Return a callback that makes `message`."""

        def make(group_id: str, user_id: str, sid: str) -> bytes:
            self.asked.append((group_id, user_id, sid))
            return message

        return make

    def test_lost(self) -> None:
        """When a member is lost the others get the message of the application."""
        self.bob.lose()
        self.assertEqual(self.seen(self.ann), [("GROUP_LOST", "bob", b"lost")])
        self.assertEqual(self.asked, [(self.group_id, "bob", self.bob.sid)])

    def test_back(self) -> None:
        """When it is back they get the other one; it does not read of itself."""
        self.bob.lose()
        again = self.node.sign_in("bob", resume=self.bob.sid)
        self.node.settle()
        self.assertEqual([each[0] for each in self.seen(self.ann)], ["GROUP_LOST", "GROUP_BACK"])
        self.assertEqual(self.seen(again), [])

    def test_moved(self) -> None:
        """Of a session that goes on at another node nothing is kept, be it in a group or in none."""
        for client in (self.bob, self.node.sign_in("cid")):
            session = self.node.registry.find_session(client.sid)
            assert session is not None
            client.lose()
            self.assertIn(session, self.groups._callbacks._lost)
            self.groups.session_moved(session)
            self.assertNotIn(session, self.groups._callbacks._lost)

    def test_gone_for_good(self) -> None:
        """Who was lost and stays away is not lost a second time."""
        self.bob.lose()
        self.node.advance(40)
        self.assertEqual(self.seen(self.ann), [("GROUP_LOST", "bob", b"lost")])

    def test_kicked(self) -> None:
        """Whoever goes without having been lost before is lost then."""
        self.node.relay.kick("bob", "")
        self.node.settle()
        self.assertEqual(self.seen(self.ann), [("GROUP_LOST", "bob", b"lost")])

    def test_left(self) -> None:
        """Who leaves a group is not lost."""
        self.bob.leave(self.group_id)
        self.bob.send(CoreCommand.GOODBYE, ver=0)
        self.node.settle()
        self.assertEqual(self.seen(self.ann), [])

    def test_lost_again(self) -> None:
        """A member may be lost and found as often as it likes."""
        client = self.bob
        for _ in range(2):
            client.lose()
            client = self.node.sign_in("bob", resume=self.bob.sid)
            self.node.settle()
        self.assertEqual([each[0] for each in self.seen(self.ann)], ["GROUP_LOST", "GROUP_BACK"] * 2)

    def test_never_lost(self) -> None:
        """A member that resumes before anybody noticed that it was away is back all the same."""
        self.node.sign_in("bob", resume=self.bob.sid)
        self.node.settle()
        self.assertEqual([each[0] for each in self.seen(self.ann)], ["GROUP_BACK"])

    def test_retryable_close(self) -> None:
        """A member that the node sent away to come back is lost until it does."""
        self.bob.connection.close(CloseReason.INTERNAL)
        self.node.settle()
        self.assertEqual(self.seen(self.ann), [("GROUP_LOST", "bob", b"lost")])

    def test_each_group(self) -> None:
        """Every group of the member is told."""
        other = self.ann.create_group()
        self.bob.join(other)
        self.bob.lose()
        self.assertEqual([asked[0] for asked in self.asked], [self.group_id, other])
        self.assertEqual(len(self.ann.pushes()), 2)

    def test_waits_for_those_who_are_away(self) -> None:
        """The message is reliable: another member who is away gets it with a resume."""
        self.ann.lose()
        self.bob.lose()
        again = self.node.sign_in("ann", resume=self.ann.sid)
        self.assertEqual(self.seen(again), [("GROUP_LOST", "bob", b"lost")])


class MakerTests(CallbackTestCase):
    """What such a callback may return, and what it must not cost."""

    def lose_bob(self, make: MessageMaker) -> None:
        """Lose bob while `make` makes the message."""
        self.groups.on_discard_message(make)
        self.bob.lose()

    def test_nobody_asked(self) -> None:
        """Without callbacks the others are told without a message, once for each time."""
        self.bob.lose()
        self.bob = self.node.sign_in("bob", resume=self.bob.sid)
        self.bob.send(CoreCommand.GOODBYE, ver=0)
        self.node.settle()
        expected = [("GROUP_LOST", "bob", b""), ("GROUP_BACK", "bob", b""), ("GROUP_LOST", "bob", b"")]
        self.assertEqual(self.seen(self.ann), expected)

    def test_nobody_asked_and_away(self) -> None:
        """Without callbacks, too, a break is told once, and to those who are away when they resume."""
        self.ann.lose()
        self.bob.lose()
        self.node.advance(20)
        again = self.node.sign_in("ann", resume=self.ann.sid)
        self.node.advance(20)
        self.assertEqual(self.seen(again), [("GROUP_LOST", "bob", b"")])

    def test_many_members(self) -> None:
        """A large group is told nothing that no application makes a message for."""
        self.patch(group_callbacks, "MAX_MEMBERS_TOLD", 3)
        for name in ("cid", "dan"):
            self.node.sign_in(name).join(self.group_id)
        self.bob.lose()
        self.assertEqual(self.seen(self.ann), [])
        self.node.advance(40)
        self.node.relay.kick("cid", "")
        self.node.settle()
        self.assertEqual(self.seen(self.ann), [("GROUP_LOST", "cid", b"")])

    def test_nothing(self) -> None:
        """Empty or None sends nothing."""
        for message in (b"", None):
            self.lose_bob(lambda *_, message=message: message)
            self.bob = self.node.sign_in("bob", resume=self.bob.sid)
        self.assertEqual(self.seen(self.ann), [])

    def test_raises(self) -> None:
        """A callback that raises is logged and costs the group nothing."""

        def fail(group_id: str, user_id: str, sid: str) -> bytes:
            raise RuntimeError("no message")

        self.lose_bob(fail)
        self.assertEqual(self.seen(self.ann), [])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_awaited(self) -> None:
        """A callback may take its time; the group goes on meanwhile."""
        message: Deferred[bytes] = Deferred()

        async def make(group_id: str, user_id: str, sid: str) -> bytes:
            return await message

        self.lose_bob(make)
        self.groups.announce(self.group_id, 1, Command.GROUP_BROADCAST, self.group_id.encode() + b"\x01xhi", True)
        self.node.settle()
        message.callback(b"lost")
        self.node.settle()
        self.assertEqual(self.seen(self.ann), [("GROUP_BROADCAST", "x", b"hi"), ("GROUP_LOST", "bob", b"lost")])

    def test_awaited_and_raises(self) -> None:
        """One that fails late is logged as well."""
        message: Deferred[bytes] = Deferred()

        def make(group_id: str, user_id: str, sid: str) -> Awaitable[bytes]:
            return message

        self.lose_bob(make)
        message.errback(RuntimeError("no message"))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(self.seen(self.ann), [])

    def test_too_slow(self) -> None:
        """The news that a member is lost does not come behind the news that it is back."""
        message: Deferred[bytes] = Deferred()
        self.groups.on_rejoin_message(lambda *_: b"back")
        self.lose_bob(lambda *_: message)
        self.node.sign_in("bob", resume=self.bob.sid)
        self.node.settle()
        message.callback(b"lost")
        self.node.settle()
        self.assertNotEqual([each[0] for each in self.seen(self.ann)], ["GROUP_BACK", "GROUP_LOST"])

    def test_wrong_type(self) -> None:
        """What is no bytes, or too many, is logged and not sent."""
        for message in ("text", bytes(65536)):
            self.lose_bob(lambda *_, message=message: message)
            self.bob = self.node.sign_in("bob", resume=self.bob.sid)
        self.node.settle()
        self.assertEqual(self.seen(self.ann), [])

    def test_longest(self) -> None:
        """The longest message fits a frame, whatever the name of the user."""
        self.lose_bob(lambda *_: bytes(65536 - 53 - 128))
        self.assertLessEqual(len(self.ann.pushes()[0].payload), 65536)


class TickTests(CallbackTestCase):
    """on_tick."""

    def setUp(self) -> None:
        """Ticks are written down with the second they came at."""
        super().setUp()
        self.ticks: list[float] = []

    def tick(self, group_id: str) -> None:
        """A tick of the group."""
        self.assertEqual(group_id, self.group_id)
        self.ticks.append(round(self.node.clock.seconds()))

    def test_interval(self) -> None:
        """Called each interval, as near as a look every two seconds allows."""
        self.groups.on_tick(self.group_id, self.tick, 4.0)
        self.node.advance(13, 0.1)
        self.assertEqual(self.ticks, [4, 8, 12])

    def test_shortest(self) -> None:
        """A shorter interval than two seconds is two seconds."""
        self.groups.on_tick(self.group_id, self.tick, 0.5)
        self.node.advance(7, 0.1)
        self.assertEqual(self.ticks, [2, 4, 6])

    def test_raises(self) -> None:
        """A tick that raises is logged and called again next time; others are not held up."""

        def fail(group_id: str) -> None:
            raise RuntimeError("tick")

        self.groups.on_tick(self.group_id, fail, 2.0)
        self.groups.on_tick(self.group_id, self.tick, 2.0)
        self.node.advance(5, 0.1)
        self.assertEqual(len(self.ticks), 2)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)

    def test_coroutine(self) -> None:
        """A tick may be a coroutine function; one that fails is logged."""

        async def later(group_id: str) -> None:
            self.tick(group_id)
            raise RuntimeError("tick")

        self.groups.on_tick(self.group_id, later, 2.0)
        self.node.advance(5, 0.1)
        self.assertEqual(len(self.ticks), 2)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)

    def test_group_gone(self) -> None:
        """A group that is gone ticks no more, and no timer looks for it."""
        group_id = self.ann.create_group()
        calls: list[str] = []
        self.groups.on_tick(group_id, calls.append, 2.0)
        self.ann.leave(group_id)
        self.node.advance(5, 0.1)
        self.assertEqual(calls, [])

    def test_gone_inside(self) -> None:
        """When a tick ends the group, its other ticks are not called any more."""
        group_id = self.groups.create_group(self.node.relay.find_user("ann"), False, True, 60, 0)
        calls: list[str] = []

        def end(_: str) -> None:
            calls.append("end")
            self.ann.leave(group_id)

        self.groups.on_tick(group_id, end, 2.0)
        self.groups.on_tick(group_id, lambda _: calls.append("behind"), 2.0)
        self.node.advance(5, 0.1)
        self.assertEqual(calls, ["end"])

    def test_no_group(self) -> None:
        """There is nothing to tick for."""
        self.assertRaises(GroupNotFound, self.groups.on_tick, "x" * 52, self.tick, 2.0)

    def test_stopped(self) -> None:
        """A node that stops calls nothing any more."""
        self.groups.on_tick(self.group_id, self.tick, 2.0)
        self.groups.stop()
        self.node.advance(5, 0.1)
        self.assertEqual(self.ticks, [])
