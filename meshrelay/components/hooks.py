"""Commands, and what the application runs before and after them.

A command runs in one go when nothing in it waits: no Deferred is made then. As soon as a hook or the command itself
returns something to wait for, the rest runs as a coroutine.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from inspect import isawaitable
from typing import Any, Protocol, TypeAlias

from twisted.internet.defer import CancelledError, Deferred

from meshrelay.background import let_go
from meshrelay.errors import CommandError, Refused
from meshrelay.interfaces import Hook, ISession
from meshrelay.wire.frame import FrameRun

__all__ = ["Answers", "Command", "CommandRun", "PipelinedCommand", "PlaceCommands", "PlaceHooks", "refused_by"]

#: ``run(session, payload, reliable)`` -> payload of the OK response, or something to wait for that gives it.
CommandRun: TypeAlias = Callable[[ISession, bytes, bool], "bytes | Awaitable[bytes]"]


def refused_by(error: Exception) -> CommandError:
    """What the client is told when a hook raised `error`: code 8 with its text."""
    refused = Refused(str(error))
    refused.__cause__ = error
    return refused


class Command:
    """One (ver, cmd): what runs, before it, after it.

    :param run: see `CommandRun`. It may raise CommandError.
    :ivar has_hooks: something runs before or after it.
    """

    __slots__ = ("_is_sealed", "after", "before", "cmd", "has_hooks", "run", "ver")

    def __init__(self, ver: int, cmd: int, run: CommandRun) -> None:
        self.ver = ver
        self.cmd = cmd
        self.run = run
        self.before: list[Hook] = []
        self.after: list[Hook] = []
        self.has_hooks = False
        self._is_sealed = False

    def add_before(self, hook: Hook) -> None:
        """Run `hook` before the command, behind the hooks added earlier.

        :raises RuntimeError: the command is exposed already.
        """
        self._add(self.before, hook)

    def add_after(self, hook: Hook) -> None:
        """Run `hook` after the command, behind the hooks added earlier.

        :raises RuntimeError: the command is exposed already.
        """
        self._add(self.after, hook)

    def seal(self) -> None:
        """Take no more hooks: clients can call the command now."""
        self._is_sealed = True

    def _add(self, hooks: list[Hook], hook: Hook) -> None:
        if self._is_sealed:
            raise RuntimeError(f"command ({self.ver}, {self.cmd}) is exposed already: register hooks before that")
        hooks.append(hook)
        self.has_hooks = True

    def start(self, session: ISession, payload: bytes, reliable: bool) -> bytes | Deferred[bytes]:
        """Run hooks and command.

        :returns: the payload of the OK response, or a Deferred of it.
        :raises CommandError: at once or through the Deferred: what the client is to be told.
        """
        if not self.has_hooks:
            result = self.run(session, payload, reliable)
            if type(result) is bytes:
                return result
            return Deferred.fromCoroutine(_wait_for(result))
        given_up: list[bool] = []
        work = Deferred.fromCoroutine(self._start_slowly(session, payload, reliable, given_up))
        return work if work.called else let_go(work, lambda: given_up.append(True))

    async def _start_slowly(self, session: ISession, payload: bytes, reliable: bool, given_up: list[bool]) -> bytes:
        await self.run_hooks(self.before, session, payload)
        if given_up:
            # A hook did not heed its cancellation; the client was told that this took too long.
            raise CancelledError
        result = self.run(session, payload, reliable)
        if isawaitable(result):
            result = await result
        await self.run_hooks(self.after, session, payload)
        return result if isinstance(result, bytes) else bytes(result)

    async def run_hooks(self, hooks: list[Hook], session: ISession, payload: bytes) -> None:
        """Run `hooks` in order.

        :raises CommandError: Refused with the text of what a hook raised; the hooks behind it do not run.
        """
        for hook in hooks:
            try:
                waiting = hook(self.ver, self.cmd, payload, session.user)
                if isawaitable(waiting):
                    await waiting
            except (CommandError, CancelledError):
                raise
            except Exception as error:
                raise refused_by(error) from error


async def _wait_for(result: Any) -> bytes:
    return bytes(await result)


class PlaceCommands(Protocol):
    """The commands of a component whose places users create, join, leave and broadcast to."""

    def table(self) -> Mapping[tuple[int, int], Command]:
        """Return (ver, cmd) -> command."""

    @property
    def create(self) -> Command:
        """Make a place."""

    @property
    def join(self) -> Command:
        """Come in."""

    @property
    def leave(self) -> Command:
        """Go out."""

    @property
    def broadcast(self) -> Command:
        """Say something to the others."""


class PlaceHooks:
    """What groups and rooms have in common for an application: hooks around their four commands."""

    _commands: PlaceCommands

    def before_create(self, hook: Hook) -> None:
        """See `IGroups` and `IRooms`, as for the others."""
        self._commands.create.add_before(hook)

    def after_create(self, hook: Hook) -> None:
        """Run `hook` after it."""
        self._commands.create.add_after(hook)

    def before_join(self, hook: Hook) -> None:
        """Run `hook` before it."""
        self._commands.join.add_before(hook)

    def after_join(self, hook: Hook) -> None:
        """Run `hook` after it."""
        self._commands.join.add_after(hook)

    def before_leave(self, hook: Hook) -> None:
        """Run `hook` before it."""
        self._commands.leave.add_before(hook)

    def after_leave(self, hook: Hook) -> None:
        """Run `hook` after it."""
        self._commands.leave.add_after(hook)

    def before_broadcast(self, hook: Hook) -> None:
        """Run `hook` before it."""
        self._commands.broadcast.add_before(hook)

    def after_broadcast(self, hook: Hook) -> None:
        """Run `hook` after it."""
        self._commands.broadcast.add_after(hook)


class Answers(Protocol):
    """How the requests of a pipelined command are answered: each once, at any time. Request ID 0 wants no answer."""

    def accept(self, request_ids: list[int]) -> object:
        """Answer these with OK and an empty payload."""

    def refuse(self, request_id: int, error: CommandError) -> object:
        """Say what went wrong with one."""


class PipelinedCommand(Command):
    """A command that takes many frames at once; it keeps their order itself, and holds up nothing behind it.

    With hooks each frame runs by itself.

    :param run_many: ``run_many(session, run, answers)`` for neighbours of one read; it answers each and raises nothing.
    :param run: for a frame that hooks look at; None: the command takes no hooks.
    """

    __slots__ = ("run_many",)

    def __init__(
        self,
        ver: int,
        cmd: int,
        run_many: Callable[[ISession, FrameRun, Answers], None],
        run: CommandRun | None = None,
    ) -> None:
        super().__init__(ver, cmd, run or _never_run)
        self.run_many = run_many
        if run is None:
            self.seal()


def _never_run(session: ISession, payload: bytes, reliable: bool) -> bytes:
    raise TypeError("this command has no way for one frame")
