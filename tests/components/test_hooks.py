"""Commands, and what the application runs around them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.components.hooks import Command, refused_by
from meshrelay.errors import AlreadyMember, CommandError, ErrorCode, Refused
from meshrelay.interfaces import Hook, ISession
from meshrelay.model import User
from meshrelay.testing.builders import make_session


class HookTests(SynchronousTestCase):
    """Before and after a command."""

    def setUp(self) -> None:
        """A command that writes down when it ran."""
        self.order: list[str] = []
        self.session = make_session("ann")
        self.command = Command(1, 110, self.run_command)

    def run_command(self, session: ISession, payload: bytes, reliable: bool) -> bytes:
        """The command itself."""
        self.order.append("command")
        return payload

    def hook(self, name: str, waits_for: Deferred[None] | None = None) -> Hook:
        """Return a hook that writes down its name, and then waits."""

        def plain(ver: int, cmd: int, payload: bytes, user: User) -> Awaitable[None] | None:
            self.order.append(name)
            return waits_for

        return plain

    def failing(self, error: Exception) -> Hook:
        """Return a hook that refuses."""

        def refuse(ver: int, cmd: int, payload: bytes, user: User) -> None:
            raise error

        return refuse

    def start(self) -> Deferred[bytes]:
        """Run the command with its hooks."""
        result = self.command.start(self.session, b"payload", False)
        assert isinstance(result, Deferred)
        return result

    def refusal(self) -> CommandError:
        """Run the command and return what the client is told."""
        error = self.failureResultOf(self.start()).value
        assert isinstance(error, CommandError)
        return error

    def test_without_hooks(self) -> None:
        """A command without hooks is a plain call."""
        self.assertEqual(self.command.start(self.session, b"payload", False), b"payload")

    def test_order(self) -> None:
        """Hooks run in the order in which they were registered."""
        for name in ("before 1", "before 2"):
            self.command.add_before(self.hook(name))
        for name in ("after 1", "after 2"):
            self.command.add_after(self.hook(name))
        self.assertEqual(self.successResultOf(self.start()), b"payload")
        self.assertEqual(self.order, ["before 1", "before 2", "command", "after 1", "after 2"])

    def test_arguments(self) -> None:
        """A hook sees ver, cmd, payload and the user."""
        seen: list[object] = []
        self.command.add_before(lambda *arguments: seen.extend(arguments))
        self.successResultOf(self.start())
        self.assertEqual(seen, [1, 110, b"payload", self.session.user])

    def test_coroutine(self) -> None:
        """A coroutine is awaited before anything goes on."""
        gates: list[Deferred[None]] = [Deferred(), Deferred()]

        async def wait(ver: int, cmd: int, payload: bytes, user: User) -> None:
            self.order.append("begun")
            await gates[0]
            self.order.append("done")

        self.command.add_before(wait)
        self.command.add_after(self.hook("after", gates[1]))
        result = self.start()
        self.assertEqual(self.order, ["begun"])
        gates[0].callback(None)
        self.assertEqual(self.order, ["begun", "done", "command", "after"])
        self.assertNoResult(result)
        gates[1].callback(None)
        self.assertEqual(self.successResultOf(result), b"payload")

    def test_before_raises(self) -> None:
        """A hook that raises refuses the command: code 8 with its text, and nothing behind it runs."""
        self.command.add_before(self.hook("before"))
        self.command.add_before(self.failing(ValueError("not today")))
        self.command.add_before(self.hook("behind"))
        error = self.refusal()
        self.assertEqual((error.code, error.text), (ErrorCode.REFUSED, "not today"))
        self.assertEqual(self.order, ["before"])

    def test_coroutine_raises(self) -> None:
        """A coroutine that raises refuses just the same."""

        async def refuse(ver: int, cmd: int, payload: bytes, user: User) -> None:
            raise ValueError("later")

        self.command.add_before(refuse)
        self.assertEqual(self.refusal().text, "later")

    def test_after_raises(self) -> None:
        """A hook behind the command that raises stops those behind it; the command has run."""
        self.command.add_after(self.failing(ValueError("too late")))
        self.command.add_after(self.hook("behind"))
        error = self.refusal()
        self.assertEqual((error.code, error.text), (ErrorCode.REFUSED, "too late"))
        self.assertEqual(self.order, ["command"])

    def test_own_error(self) -> None:
        """A hook may refuse with an error of its choice."""
        self.command.add_before(self.failing(AlreadyMember("you again")))
        error = self.refusal()
        self.assertIsInstance(error, AlreadyMember)
        self.assertEqual(error.text, "you again")

    def test_silent_error(self) -> None:
        """An error without a text is still told in words."""
        self.command.add_before(self.failing(ValueError()))
        self.assertEqual(self.refusal().text, "refused by the application")

    def test_sealed(self) -> None:
        """Once clients can call a command its hooks are fixed."""
        self.command.seal()
        for add in (self.command.add_before, self.command.add_after):
            self.assertRaises(RuntimeError, add, self.hook("late"))


class ResultTests(SynchronousTestCase):
    """Commands that wait themselves."""

    def run_both(self, run: Callable[..., Awaitable[bytes]]) -> list[bytes]:
        """Return what a command gives without and with a hook around it."""
        results = []
        for hooks in ([], [lambda *_: None]):
            command = Command(1, 110, run)
            for hook in hooks:
                command.add_before(hook)
            result = command.start(make_session("ann"), b"x", True)
            assert isinstance(result, Deferred)
            results.append(self.successResultOf(result))
        return results

    def test_coroutine(self) -> None:
        """A command may be a coroutine function."""

        async def run(session: ISession, payload: bytes, reliable: bool) -> bytes:
            return payload * 2

        self.assertEqual(self.run_both(run), [b"xx", b"xx"])

    def test_refused_by(self) -> None:
        """What the client is told keeps what was raised, for the log."""
        cause = ValueError("no")
        error = refused_by(cause)
        self.assertIsInstance(error, Refused)
        self.assertIs(error.__cause__, cause)
