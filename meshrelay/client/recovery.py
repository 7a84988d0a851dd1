"""Groups that a client follows across breaks: asks the node for what was missed, and tells how that went."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from meshrelay.client.events import (
    Connected,
    Disconnected,
    Event,
    GroupLogged,
    GroupPresenceChanged,
    GroupRecovered,
)
from meshrelay.client.positions import GroupPositions
from meshrelay.errors import CommandError, DeliveryError, MalformedPayload, RateLimited, TimedOut
from meshrelay.wire.commands import Command
from meshrelay.wire.history_commands import (
    PRESENCE_ON,
    AskPresence,
    AskRecover,
    Recovered,
    decode_recovered,
    encode_ask_presence,
    encode_ask_recover,
)

__all__ = ["AGAIN_SECONDS", "GroupRecovery"]

#: A node that was asked and could not say is asked again.
AGAIN_SECONDS = 1.0


class GroupRecovery:
    """See the module.

    :param ask: ``ask(cmd, payload)`` -> a Deferred of the answer.
    :param tell: called with each event for the program.
    """

    _log = Logger()

    def __init__(
        self, reactor: Any, ask: Callable[[Command, bytes], Deferred[bytes]], tell: Callable[[Event], object]
    ) -> None:
        self._reactor = reactor
        self._ask = ask
        self._tell = tell
        self.positions = GroupPositions()
        #: Groups of which the program wants to know who comes and goes.
        self._watched: dict[str, None] = {}
        self._retries: dict[str, IDelayedCall] = {}
        self._own_id = ""

    def join(self, group_id: str, message: bytes, position: tuple[int, int]) -> Deferred[None]:
        """Join and follow a group. Fails as the command does; then it is not followed."""
        try:
            encode_ask_recover(AskRecover(group_id, *position, message))
        except Exception as error:  # noqa: BLE001 - struct and encoding errors are the caller's bad arguments
            return fail(MalformedPayload(str(error)))
        self.positions.follow(group_id, *position)
        asked = self._recover(group_id, message, any(position))
        assert asked is not None

        def failed(failure: Failure) -> Failure:
            self.forget(group_id)
            return failure

        return asked.addErrback(failed)

    def watch(self, group_id: str, is_on: bool) -> None:
        """Ask for notices again after each break, or no more."""
        if is_on:
            self._watched[group_id] = None
        else:
            self._watched.pop(group_id, None)

    def forget(self, group_id: str) -> None:
        """The program has left the group."""
        self.positions.forget(group_id)
        self._watched.pop(group_id, None)
        self._stop_retry(group_id)

    def heard(self, event: Event) -> bool:
        """Take an event before the program does. True: it is dealt with, the program is told what comes of it."""
        if isinstance(event, GroupLogged):
            events, is_missing = self.positions.pushed(event.push, self._own_id)
            for each in events:
                self._tell(each)
            if is_missing:
                self._recover_again(event.push.group_id)
            return True
        return self.positions.is_superfluous(event)

    def told(self, event: Event) -> None:
        """Draw the conclusions from what the program has been told."""
        if isinstance(event, Connected):
            self._own_id = event.user_id
            if not (event.resumed and event.recovered):
                for group_id in self.positions:
                    self.positions.unanswered(group_id)
                    self._recover_again(group_id)
                for group_id in list(self._watched):
                    self._watch_again(group_id)
        elif isinstance(event, Disconnected) and not event.will_retry:
            self.positions.clear()
            self._watched.clear()
            for group_id in list(self._retries):
                self._stop_retry(group_id)

    def _recover(self, group_id: str, message: bytes, is_told: bool) -> Deferred[None] | None:
        position = self.positions.asks(group_id, is_told)
        if position is None:
            return None
        asked = self._ask(Command.GROUP_RECOVER, encode_ask_recover(AskRecover(group_id, *position, message)))

        def answered(payload: bytes) -> None:
            answer: Recovered = decode_recovered(payload)
            for event in self.positions.answered(group_id, answer):
                self._tell(event)

        return asked.addCallback(answered)

    def _recover_again(self, group_id: str) -> None:
        self._stop_retry(group_id)
        asked = self._recover(group_id, b"", True)
        if asked is not None:
            asked.addErrback(self._not_recovered, group_id)

    def _not_recovered(self, failure: Failure, group_id: str) -> None:
        self.positions.unanswered(group_id)
        if failure.check(TimedOut, RateLimited) is not None:
            self._retries[group_id] = self._reactor.callLater(AGAIN_SECONDS, self._recover_again, group_id)
        elif failure.check(CommandError) is not None:
            self.forget(group_id)
            self._tell(GroupRecovered(group_id, False, failure.getErrorMessage()))
        elif failure.check(DeliveryError) is None:
            self._log.failure("a group could not be recovered", failure=failure)
        # Without a connection the next one asks again.

    def _stop_retry(self, group_id: str) -> None:
        retry = self._retries.pop(group_id, None)
        if retry is not None and retry.active():
            retry.cancel()

    def _watch_again(self, group_id: str) -> None:
        # Behind GROUP_RECOVER, which makes the user a member; commands run in their order.
        asked = self._ask(Command.GROUP_PRESENCE, encode_ask_presence(AskPresence(group_id, PRESENCE_ON, 0, "")))

        def answered(payload: bytes) -> None:
            self._tell(GroupPresenceChanged(group_id, int.from_bytes(payload[:4], "big"), (), (), ()))

        def failed(failure: Failure) -> None:
            failure.trap(CommandError, DeliveryError)
            if failure.check(CommandError) is not None:
                self._watched.pop(group_id, None)

        asked.addCallbacks(answered, failed)
