"""From (ver, cmd) to a command, and from what it raises to an answer."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.components.hooks import Command, CommandRun
from meshrelay.counters import COMMAND_CLASSES, NodeCounters
from meshrelay.errors import AlreadyMember, CommandError, ErrorCode, InternalError, RemoteTimeout
from meshrelay.interfaces import ISession
from meshrelay.model import Status, User
from meshrelay.session.dispatch import SAMPLE_EVERY, Dispatcher, answer_error, command_class
from meshrelay.testing.builders import make_session
from meshrelay.testing.link import MemoryConnection, MemoryLink
from meshrelay.wire.commands import decode_error
from meshrelay.wire.frame import Frame


class DispatchTestCase(SynchronousTestCase):
    """A dispatcher with one command, (2, 1)."""

    def setUp(self) -> None:
        """A session, and a clock for the timeout."""
        self.clock = Clock()
        self.counters = NodeCounters()
        self.dispatcher = Dispatcher(self.clock, 10.0, self.counters)
        self.link = MemoryLink()
        self.session = make_session("ann", self.link)

    def register(self, run: CommandRun) -> Command:
        """Let (2, 1) run `run`."""
        command = Command(2, 1, run)
        self.dispatcher.register({(2, 1): command})
        return command

    def call(self, payload: bytes = b"", cmd: int = 1, status: int = 0) -> Deferred[None] | None:
        """Send (2, cmd) with request ID 5."""
        return self.dispatcher.dispatch(self.session, Frame(2, status, cmd, 5, payload))

    def refusal(self) -> tuple[int, int, str]:
        """Return (status, code, text) of the only answer."""
        (frame,) = self.link.received
        self.assertEqual((frame.ver, frame.request_id), (2, 5))
        return (frame.status, *decode_error(frame.payload))


class SynchronousCommandTests(DispatchTestCase):
    """Commands that are done at once."""

    def test_answer(self) -> None:
        """What a command returns is the answer, under the request's number; no Deferred is made."""
        self.register(lambda session, payload, reliable: payload[::-1])
        self.assertIsNone(self.call(b"abc"))
        self.assertEqual(self.link.received, [(2, Status.OK, 1, 5, b"cba")])
        self.assertEqual(self.counters.commands, 1)

    def test_reliable(self) -> None:
        """Bit 0 of the status byte asks for reliable pushes."""
        seen: list[bool] = []

        def run(session: ISession, payload: bytes, reliable: bool) -> bytes:
            seen.append(reliable)
            return b""

        self.register(run)
        self.call(status=0)
        self.call(status=1)
        self.assertEqual(seen, [False, True])

    def test_unknown(self) -> None:
        """A command that nobody registered is code 2, and says which."""
        self.call(cmd=9)
        self.assertEqual(self.refusal(), (Status.BAD, 2, "unknown command ver 2 cmd 9"))

    def test_refused(self) -> None:
        """An error of the caller is BAD with its code, and counted."""

        def run(session: ISession, payload: bytes, reliable: bool) -> bytes:
            raise AlreadyMember

        self.register(run)
        self.assertIsNone(self.call())
        self.assertEqual(self.refusal(), (Status.BAD, 20, "already a member of the group"))
        self.assertEqual(self.counters.errors, {20: 1})

    def test_bug(self) -> None:
        """A bug costs its caller an answer without details; the log has them."""

        def run(session: ISession, payload: bytes, reliable: bool) -> bytes:
            raise KeyError("secret")

        self.register(run)
        self.call()
        self.assertEqual(self.refusal(), (Status.ERROR, 7, "internal error"))
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_registered_twice(self) -> None:
        """No command takes another one's place."""
        command = self.register(lambda session, payload, reliable: b"")
        self.assertRaises(ValueError, self.dispatcher.register, {(2, 1): command})
        self.assertIs(self.dispatcher.find(2, 1), command)
        self.assertIsNone(self.dispatcher.find(2, 2))


class WaitingCommandTests(DispatchTestCase):
    """Commands that wait for the application."""

    def setUp(self) -> None:
        """(2, 1) waits for `result`."""
        super().setUp()
        self.result: Deferred[bytes] = Deferred()

    def wait(self) -> Deferred[None]:
        """Start the command; it has not answered yet."""
        self.register(lambda session, payload, reliable: self.result)
        done = self.call()
        assert done is not None
        self.assertEqual(self.link.received, [])
        self.assertNoResult(done)
        return done

    def test_later(self) -> None:
        """The answer goes out when the application has it, and no timer is left."""
        done = self.wait()
        self.result.callback(b"late")
        self.successResultOf(done)
        self.assertEqual(self.link.received, [(2, Status.OK, 1, 5, b"late")])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_already_there(self) -> None:
        """A Deferred that has fired costs nobody a wait."""
        self.register(lambda session, payload, reliable: succeed(b"now"))
        self.assertIsNone(self.call())
        self.assertEqual(self.link.received, [(2, Status.OK, 1, 5, b"now")])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_fails_later(self) -> None:
        """An error that comes late is answered like one that comes at once."""
        done = self.wait()
        self.result.errback(RemoteTimeout())
        self.successResultOf(done)
        self.assertEqual(self.refusal()[:2], (Status.ERROR, ErrorCode.TIMED_OUT))

    def test_bug_later(self) -> None:
        """A late bug is logged and answered with code 7."""
        self.wait()
        self.result.errback(KeyError("secret"))
        self.assertEqual(self.refusal(), (Status.ERROR, 7, "internal error"))
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_timeout(self) -> None:
        """An application that does not answer costs code 6, and what it waited for is cancelled."""
        done = self.wait()
        self.clock.advance(10.0)
        self.successResultOf(done)
        self.assertEqual(self.refusal(), (Status.ERROR, 6, "the application did not answer within 10.0 seconds"))
        self.assertTrue(self.result.called)

    def test_goes_on(self) -> None:
        """An application that does not heed the cancellation costs code 6 at the same time, and holds up nothing."""

        async def stubborn() -> bytes:
            try:
                return await self.result
            except CancelledError:
                return await late

        late: Deferred[bytes] = Deferred()
        self.register(lambda session, payload, reliable: stubborn())
        done = self.call()
        assert done is not None
        self.clock.advance(10.0)
        self.successResultOf(done)
        self.assertEqual(self.refusal()[:2], (Status.ERROR, 6))
        late.callback(b"too late")
        self.assertEqual((len(self.link.received), self.clock.getDelayedCalls()), (1, []))

    def test_hook_goes_on(self) -> None:
        """A command is not run once its client was told that it took too long, whatever a hook makes of that."""
        late: Deferred[None] = Deferred()
        ran: list[bytes] = []

        async def stubborn(ver: int, cmd: int, payload: bytes, user: User) -> None:
            try:
                await self.result
            except CancelledError:
                await late

        def run(session: ISession, payload: bytes, reliable: bool) -> bytes:
            ran.append(payload)
            return b""

        self.register(run).add_before(stubborn)
        done = self.call()
        assert done is not None
        self.clock.advance(10.0)
        self.successResultOf(done)
        self.assertEqual(self.refusal()[:2], (Status.ERROR, 6))
        late.callback(None)
        self.assertEqual((ran, len(self.link.received), self.clock.getDelayedCalls()), ([], 1, []))

    def test_slow_hook(self) -> None:
        """A hook that does not answer in time is code 6 as well: nobody refused anything."""
        waiting: Deferred[None] = Deferred()

        def hook(ver: int, cmd: int, payload: bytes, user: User) -> Deferred[None]:
            return waiting

        self.register(lambda session, payload, reliable: b"").add_before(hook)
        self.call()
        self.clock.advance(10.0)
        self.assertEqual(self.refusal()[:2], (Status.ERROR, ErrorCode.TIMED_OUT))

    def test_session_resumed_meanwhile(self) -> None:
        """An answer never goes to a later connection, where its number may mean another request."""
        self.wait()
        self.session.let_go()
        newer = MemoryLink()
        self.session.resume(MemoryConnection(newer), False, 0)
        self.result.callback(b"stale")
        self.assertEqual(newer.received, [])

    def test_session_gone_meanwhile(self) -> None:
        """An answer for a client that is gone is dropped."""
        done = self.wait()
        self.session.let_go()
        self.result.callback(b"stale")
        self.successResultOf(done)
        self.assertEqual(self.link.received, [])


class ErrorTableTests(DispatchTestCase):
    """Each class of error has one answer."""

    def test_every_error(self) -> None:
        """Every CommandError of the tree is answered with its own code, status and text."""

        def classes_below(cls: type[CommandError]) -> list[type[CommandError]]:
            return [each for sub in type.__subclasses__(cls) for each in [sub, *classes_below(sub)]]

        makers: dict[str, Callable[[type[CommandError]], CommandError]] = {"RateLimited": lambda cls: cls(0.5)}  # type: ignore[arg-type]
        for cls in classes_below(CommandError):
            if not cls.__module__.startswith("meshrelay."):
                continue
            error = makers.get(cls.__name__, lambda cls: cls())(cls)
            self.link.received.clear()
            answer_error(self.session, Frame(2, 0, 1, 5, b""), error, self.counters)
            self.assertEqual(self.refusal(), (cls.status, cls.code, error.text), cls)
            self.assertTrue(error.text, cls)

    def test_long_text(self) -> None:
        """However long the text of an error is, its answer fits the smallest limit that a client may have."""
        answer_error(self.session, Frame(2, 0, 1, 5, b""), InternalError("x" * 100_000), self.counters)
        self.assertLessEqual(len(self.link.received[0].payload), 65_536)


class SampleTests(DispatchTestCase):
    """How long commands take, for the metrics page."""

    def test_one_in_sixteen(self) -> None:
        """Every sixteenth command is timed, from its frame to its answer."""

        def run(session: ISession, payload: bytes, reliable: bool) -> bytes:
            self.clock.advance(0.25)
            return b""

        self.register(run)
        for _ in range(2 * SAMPLE_EVERY + 1):
            self.call()
        durations = self.counters.command_seconds["application"]
        self.assertEqual((durations.count, durations.sum_seconds), (2, 0.5))

    def test_waiting(self) -> None:
        """A command that waits is timed until its answer, and other classes stay at 0."""
        result: Deferred[bytes] = Deferred()
        self.register(lambda session, payload, reliable: result)
        for _ in range(SAMPLE_EVERY - 1):
            self.call(cmd=99)
        done = self.call()
        assert done is not None
        self.clock.advance(3.0)
        result.callback(b"late")
        self.assertIsNone(self.successResultOf(done))
        counts = {name: each.count for name, each in self.counters.command_seconds.items() if each.count}
        self.assertEqual(counts, {"application": 1})
        self.assertEqual(self.counters.command_seconds["application"].sum_seconds, 3.0)

    def test_classes(self) -> None:
        """The class of a command comes from its number, and there is no other class, whatever the number."""
        found = {command_class(ver, cmd) for ver in range(256) for cmd in range(256)}
        self.assertEqual(found, set(COMMAND_CLASSES))
        wanted = {100: "room", 113: "group", 120: "direct", 134: "link", 199: "other"}
        self.assertEqual({cmd: command_class(1, cmd) for cmd in wanted}, wanted)
