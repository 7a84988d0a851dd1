"""Groups that a client follows across breaks: asks the node for what was missed, and tells how that went.

What is to be asked for is noted first, by `GroupPositions` and in the watches, and asked for by `_catch_up`, a little
at a time. So nothing is forgotten over breaks and refusals, and a client in many groups is not too much for a node.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from meshrelay.client.errors import PASSING
from meshrelay.client.events import (
    Connected,
    Disconnected,
    Event,
    GroupLogged,
    GroupPresenceChanged,
    GroupRecovered,
)
from meshrelay.client.positions import GroupPositions
from meshrelay.client.requests import read_answer
from meshrelay.errors import (
    CommandError,
    DeliveryError,
    GroupNotFound,
    MalformedPayload,
    MessageTooLarge,
    NotMember,
    RemoteProtocolError,
)
from meshrelay.model import Presence
from meshrelay.wire.commands import Command
from meshrelay.wire.history_commands import (
    PRESENCE_ON,
    AskPresence,
    AskRecover,
    Recovered,
    decode_presence,
    decode_recovered,
    encode_ask_presence,
    encode_ask_recover,
)

__all__ = ["AGAIN_SECONDS", "MAX_ASKING", "GroupRecovery"]

#: A node that was asked and could not say is asked again after this, and nothing else before.
AGAIN_SECONDS = 1.0

#: Questions at one time after a break: nodes close connections that are refused too much.
MAX_ASKING = 16


class _Watch:
    """A group of which the program wants to know who comes and goes."""

    __slots__ = ("is_asked", "is_stale")

    def __init__(self) -> None:
        #: The node has to be asked again, and is.
        self.is_stale = False
        self.is_asked = False


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
        #: As many as the node lets a user be in.
        self._watches: dict[str, _Watch] = {}
        self._asking = 0
        self._retry: IDelayedCall | None = None
        self._own_id = ""

    def join(self, group_id: str, message: bytes, position: tuple[int, int]) -> Deferred[None]:
        """Join and follow a group; without a position one that is followed already from where the client is.

        :param position: epoch and offset of the last message that the program has; 0 and 0: it has none.
        :returns: fails as the command does. Then the group is not followed, unless it was before and may be still.
        """
        is_kept = not any(position) and self.positions.is_kept(group_id)
        begin = self.positions.of(group_id) if is_kept else position
        try:
            encode_ask_recover(AskRecover(group_id, *begin, message))
        except Exception as error:  # noqa: BLE001 - struct and encoding errors are the caller's bad arguments
            return fail(MalformedPayload(str(error)))
        if not is_kept:
            self.positions.follow(group_id, *begin)
        place = self.positions.place_of(group_id)
        asked = self._recover(group_id, message, any(begin), is_join=True)
        assert asked is not None

        def failed(failure: Failure) -> Failure:
            if self.positions.place_of(group_id) is not place:
                return failure
            if not self.positions.is_joined(group_id):
                # Another join, made meanwhile, may still be answered.
                if not self.positions.is_asked(group_id):
                    self.forget(group_id)
            elif failure.check(MessageTooLarge, CancelledError) is not None:
                # That was this one message, or this one caller.
                self._catch_up()
            else:
                self._not_recovered(failure, group_id, place)
            return failure

        return asked.addErrback(failed)

    def leaving(self, group_id: str, left: Deferred[None]) -> Deferred[None]:
        """The program leaves a group. Who joins again before it has left begins anew.

        :param left: fires when it has left.
        :returns: the same.
        """
        place = self.positions.place_of(group_id)
        self.positions.leaves(group_id)

        def gone(_: object) -> None:
            if self.positions.place_of(group_id) is place:
                self.forget(group_id)

        def failed(failure: Failure) -> Failure:
            if failure.check(NotMember, GroupNotFound) is not None:
                gone(None)
            else:
                self.positions.stays(group_id)
                self._catch_up()
            return failure

        return left.addCallbacks(gone, failed)

    def watch(self, group_id: str, is_on: bool) -> None:
        """Ask for notices again after each break, or no more."""
        if is_on:
            self._watches[group_id] = _Watch()
        else:
            self._watches.pop(group_id, None)

    def forget(self, group_id: str) -> None:
        """The program is not in the group any more."""
        self.positions.forget(group_id)
        self._watches.pop(group_id, None)

    def heard(self, event: Event) -> bool:
        """Take an event before the program does. True: it is dealt with, the program is told what comes of it."""
        if isinstance(event, GroupLogged):
            events, is_missing = self.positions.pushed(event.push, self._own_id)
            for each in events:
                self._tell(each)
            if is_missing:
                self._catch_up()
            return True
        return self.positions.is_superfluous(event)

    def told(self, event: Event) -> None:
        """Draw the conclusions from what the program has been told."""
        if isinstance(event, Connected):
            self._own_id = event.user_id
            if not (event.resumed and event.recovered):
                self.positions.lost()
                for watch in self._watches.values():
                    watch.is_stale = True
            # What the last connection left open is asked for also when nothing was lost.
            self._catch_up()
        elif isinstance(event, Disconnected):
            # The next connection asks.
            self._stop_retry()
            if not event.will_retry:
                self.positions.clear()
                self._watches.clear()

    def _catch_up(self) -> None:
        """Ask for what is not known, as much of it as may be asked at this moment."""
        if not self._may_ask():
            return
        for group_id in self.positions.unasked():
            if not self._may_ask():
                return
            self._recover_again(group_id)
        for group_id, watch in list(self._watches.items()):
            if not self._may_ask():
                return
            # Where the client is no member yet it would be refused.
            if watch.is_stale and not watch.is_asked and not self.positions.is_behind(group_id):
                self._watch_again(group_id, watch)

    def _may_ask(self) -> bool:
        return self._retry is None and self._asking < MAX_ASKING

    def _ask_by_itself(self, cmd: Command, payload: bytes) -> Deferred[bytes]:
        self._asking += 1

        def ended(result: bytes | Failure) -> bytes | Failure:
            self._asking -= 1
            return result

        return self._ask(cmd, payload).addBoth(ended)

    def _recover(self, group_id: str, message: bytes, is_told: bool, *, is_join: bool = False) -> Deferred[None] | None:
        """None: that is under way, or there is no need any more."""
        place = self.positions.place_of(group_id)
        position = self.positions.asks(group_id, is_told, is_join=is_join)
        if position is None:
            return None
        ask = self._ask if is_join else self._ask_by_itself
        asked = ask(Command.GROUP_RECOVER, encode_ask_recover(AskRecover(group_id, *position, message)))

        def answered(answer: Recovered) -> None:
            # The program may have left meanwhile, or have begun anew.
            if self.positions.place_of(group_id) is place:
                for event in self.positions.answered(group_id, answer):
                    self._tell(event)
            self._catch_up()

        def failed(failure: Failure) -> Failure:
            if self.positions.place_of(group_id) is place:
                self.positions.unanswered(group_id)
            return failure

        return asked.addCallback(read_answer, decode_recovered).addCallbacks(answered, failed)

    def _recover_again(self, group_id: str) -> None:
        place = self.positions.place_of(group_id)
        asked = self._recover(group_id, b"", True)
        if asked is not None:
            asked.addErrback(self._not_recovered, group_id, place)

    def _not_recovered(self, failure: Failure, group_id: str, place: object) -> None:
        def give_up() -> None:
            if self.positions.place_of(group_id) is place:
                self.forget(group_id)
                self._tell(GroupRecovered(group_id, False, failure.getErrorMessage()))

        self._failed(failure, give_up)

    def _watch_again(self, group_id: str, watch: _Watch) -> None:
        watch.is_asked = True
        payload = encode_ask_presence(AskPresence(group_id, PRESENCE_ON, 0, ""))
        asked = self._ask_by_itself(Command.GROUP_PRESENCE, payload).addCallback(read_answer, decode_presence)

        def answered(presence: Presence) -> None:
            watch.is_asked = watch.is_stale = False
            if self._watches.get(group_id) is watch:
                self._tell(GroupPresenceChanged(group_id, presence.count, (), (), ()))
            self._catch_up()

        def failed(failure: Failure) -> None:
            watch.is_asked = False
            self._failed(failure, give_up)

        def give_up() -> None:
            if self._watches.get(group_id) is watch:
                del self._watches[group_id]

        asked.addCallbacks(answered, failed)

    def _failed(self, failure: Failure, give_up: Callable[[], object]) -> None:
        if failure.check(*PASSING) is not None:
            if self._retry is None:
                self._retry = self._reactor.callLater(AGAIN_SECONDS, self._try_again)
        elif failure.check(DeliveryError) is None:
            if failure.check(CommandError, RemoteProtocolError) is None:
                self._log.failure("a group could not be recovered", failure=failure)
            give_up()
            self._catch_up()
        # Without a connection the next one asks again.

    def _try_again(self) -> None:
        self._retry = None
        self._catch_up()

    def _stop_retry(self) -> None:
        retry, self._retry = self._retry, None
        if retry is not None:
            retry.cancel()
