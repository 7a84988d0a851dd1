"""(ver, cmd) to the command that is registered for it, and what it raises to the answer that its client gets.

The table is explicit: nothing is looked up by a name that came from the wire. This is the one place where
`CommandError` is caught.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from meshrelay.background import in_time
from meshrelay.components.hooks import Command, PipelinedCommand
from meshrelay.counters import NodeCounters
from meshrelay.errors import CommandError, InternalError, TimedOut, UnknownCommand
from meshrelay.interfaces import IDownlink
from meshrelay.model import Status
from meshrelay.session.session import Session
from meshrelay.wire.commands import BUILT_IN_VER, encode_error
from meshrelay.wire.frame import Frame, FrameRun, run_of_one

__all__ = ["SAMPLE_EVERY", "Dispatcher", "answer_error", "command_class"]

_new_tuple = tuple.__new__

_RELIABLE = 1
_OK = Status.OK.value

#: One command, or run of commands, of so many is timed: reading the clock for each would cost as much as the rest.
SAMPLE_EVERY = 16

#: Numbers of ver 1, by tens.
_CLASSES = {10: "room", 11: "group", 12: "direct", 13: "link"}


def command_class(ver: int, cmd: int) -> str:
    """What a command is counted as, by its number: one of `meshrelay.counters.COMMAND_CLASSES`."""
    return _CLASSES.get(cmd // 10, "other") if ver == BUILT_IN_VER else "application"


def answer_error(session: Session, frame: Frame, error: CommandError, counters: NodeCounters) -> None:
    """Answer `frame` with what went wrong."""
    counters.errors[error.code] += 1
    session.reply(frame.request_id, error.status, frame.ver, frame.cmd, encode_error(error.code, error.text))


class _Answers(NamedTuple):
    """Answers the requests of one run of frames; see `meshrelay.components.hooks.Answers`."""

    session: Session
    #: The connection that the requests came by; a later one may use their IDs for others.
    link: IDownlink | None
    ver: int
    cmd: int
    dispatcher: Dispatcher

    def accept(self, request_ids: list[int]) -> None:
        """See `Answers`."""
        session = self.session
        if session.link is self.link and any(request_ids):
            session.reply_empty(request_ids, _OK, self.ver, self.cmd)

    def refuse(self, request_id: int, error: CommandError) -> None:
        """See `Answers`."""
        self.dispatcher.counters.errors[error.code] += 1
        if self.session.link is self.link:
            body = encode_error(error.code, error.text)
            self.session.reply(request_id, error.status, self.ver, self.cmd, body)


class Dispatcher:
    """The table of commands.

    :param timeout_seconds: longest that a command may wait for the application.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, timeout_seconds: float, counters: NodeCounters) -> None:
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self.counters = counters
        self._table: dict[tuple[int, int], Command] = {}
        self._pipelined: dict[tuple[int, int], PipelinedCommand] = {}
        self._until_sample = SAMPLE_EVERY

    def register(self, commands: Mapping[tuple[int, int], Command]) -> None:
        """Add `commands`.

        :raises ValueError: one is there already.
        """
        for key, command in commands.items():
            if key in self._table:
                raise ValueError(f"command {key} is registered already")
            self._table[key] = command
            if type(command) is PipelinedCommand:
                self._pipelined[key] = command

    def find(self, ver: int, cmd: int) -> Command | None:
        """The command of (ver, cmd)."""
        return self._table.get((ver, cmd))

    def find_pipelined(self, run: FrameRun) -> PipelinedCommand | None:
        """The command that takes `run` all at once; None: each of its frames runs by itself."""
        command = self._pipelined.get((run.ver, run.cmd))
        return command if command is not None and not command.has_hooks else None

    def dispatch_run(self, session: Session, command: PipelinedCommand, run: FrameRun) -> None:
        """Run a pipelined command for frames that came together. Each is answered, now or later."""
        self._until_sample -= 1
        if not self._until_sample:
            # One more, because this one is counted again.
            self._until_sample = SAMPLE_EVERY + 1
            started = self._clock.seconds()
            self.dispatch_run(session, command, run)
            self._sampled(command.ver, command.cmd, started)
            return
        self.counters.commands += len(run.payloads)
        # A call of the class costs twice as much, and one is made for each run.
        answers = _new_tuple(_Answers, (session, session.link, command.ver, command.cmd, self))
        try:
            command.run_many(session, run, answers)
        except Exception:  # as below
            self._log.failure("command {ver} {cmd} failed", ver=command.ver, cmd=command.cmd)
            for request_id in run.request_ids:
                answers.refuse(request_id, InternalError())

    def _sampled(self, ver: int, cmd: int, started: float) -> None:
        self.counters.command_seconds[command_class(ver, cmd)].add(self._clock.seconds() - started)

    def dispatch(self, session: Session, frame: Frame) -> Deferred[None] | None:
        """Run the command of `frame` and answer it.

        :returns: None when it is answered; otherwise a Deferred that fires with None, never a failure, when it is.
        """
        command = self._table.get((frame.ver, frame.cmd))
        if type(command) is PipelinedCommand and not command.has_hooks:
            self.dispatch_run(session, command, run_of_one(frame))
            return None
        self._until_sample -= 1
        if not self._until_sample:
            return self._dispatch_sample(session, frame)
        try:
            if command is None:
                raise UnknownCommand(f"unknown command ver {frame.ver} cmd {frame.cmd}")
            self.counters.commands += 1
            result = command.start(session, frame.payload, bool(frame.status & _RELIABLE))
        except CommandError as error:
            answer_error(session, frame, error, self.counters)
            return None
        except Exception:  # a bug in a command costs its caller an answer, not the connection
            self._fail(session, frame, Failure())
            return None
        if isinstance(result, bytes):
            session.reply(frame.request_id, _OK, frame.ver, frame.cmd, result)
            return None
        return self._when_done(session, frame, result)

    def _dispatch_sample(self, session: Session, frame: Frame) -> Deferred[None] | None:
        # One more, because `dispatch` counts this one again.
        self._until_sample = SAMPLE_EVERY + 1
        started = self._clock.seconds()
        done = self.dispatch(session, frame)
        if done is not None:
            return done.addCallback(lambda _: self._sampled(frame.ver, frame.cmd, started))
        self._sampled(frame.ver, frame.cmd, started)
        return None

    def _when_done(self, session: Session, frame: Frame, result: Deferred[bytes]) -> Deferred[None] | None:
        if not result.called:
            result = in_time(result, self._timeout_seconds, self._clock)

        link = session.link

        def answer(payload: bytes) -> None:
            # A request belongs to its connection; a client that has resumed meanwhile may use the ID for another.
            if session.link is link:
                session.reply(frame.request_id, _OK, frame.ver, frame.cmd, payload)

        def refuse(failure: Failure) -> None:
            self._fail(session, frame if session.link is link else frame._replace(request_id=0), failure)

        done = result.addCallbacks(answer, refuse)
        return None if done.called and not done.paused else done

    def _fail(self, session: Session, frame: Frame, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, (TimeoutError, CancelledError)):
            error = TimedOut(f"the application did not answer within {self._timeout_seconds} seconds")
        if not isinstance(error, CommandError):
            self._log.failure(
                "command ({ver}, {cmd}) of {user} failed",
                failure=failure,
                ver=frame.ver,
                cmd=frame.cmd,
                user=session.user.user_id,
            )
            error = InternalError()
        answer_error(session, frame, error, self.counters)
