"""What the application is asked and told about groups: messages for lost and returned members, and ticks.

Members are told of losses and returns also where no application makes a message for them, unless they are many. A
callback that raises is logged and costs nobody anything; one that takes its time is awaited beside the flow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from inspect import isawaitable
from typing import NamedTuple

from twisted.logger import Logger

from meshrelay.background import Alarm, Alarms, start
from meshrelay.components.group_table import LiveGroup
from meshrelay.interfaces import ISession, MessageMaker
from meshrelay.model import MAX_USER_ID_BYTES
from meshrelay.wire.commands import BUILT_IN_VER, Command, encode_pushed_message, pushed_message_overhead
from meshrelay.wire.frame import encode_push

__all__ = ["MAX_MEMBERS_TOLD", "TICK_CHECK_SECONDS", "GroupCallbacks", "Tell", "longest_message_of_callbacks"]

#: Ticks are looked at this often (seed 001, SetOnTickByID).
TICK_CHECK_SECONDS = 2.0


#: A group with more members than this is told of losses and returns only if the application makes a message for them:
#: when n members are lost at once, those who stay are pushed n frames each.
MAX_MEMBERS_TOLD = 256

#: Pushes a frame to members of a group.
Tell = Callable[[LiveGroup, bytes], object]


def longest_message_of_callbacks(max_payload_bytes: int) -> int:
    """Return how long a message of a callback may be: its push fits whoever it is about."""
    return max_payload_bytes - pushed_message_overhead("x" * MAX_USER_ID_BYTES)


class _Subject(NamedTuple):
    """The member that a group is told about."""

    user_id: str
    sid: str
    #: None: on another node.
    session: ISession | None = None
    #: None: all members of the group are told.
    tell: Tell | None = None


class _Tick:
    __slots__ = ("callback", "called_at", "interval_seconds")

    def __init__(self, callback: Callable[[str], object], interval_seconds: float, now: float) -> None:
        self.callback = callback
        self.interval_seconds = interval_seconds
        self.called_at = now


class GroupCallbacks:
    """Holds the callbacks and calls them.

    :param max_message_bytes: a longer message of a callback is logged and not sent.
    """

    _log = Logger()

    def __init__(self, alarms: Alarms, max_message_bytes: int) -> None:
        self._alarms = alarms
        self._max_message_bytes = max_message_bytes
        self._make_discard: MessageMaker | None = None
        self._make_rejoin: MessageMaker | None = None
        #: Sessions whose groups have been told that they are lost.
        self._lost: set[ISession] = set()
        self._ticks: dict[str, list[_Tick]] = {}
        self._tick_alarm: Alarm | None = None

    def on_discard_message(self, make: MessageMaker) -> None:
        """See `IGroups`."""
        self._make_discard = make

    def on_rejoin_message(self, make: MessageMaker) -> None:
        """See `IGroups`."""
        self._make_rejoin = make

    def member_lost(self, session: ISession, groups: list[LiveGroup]) -> None:
        """The connection of a member broke."""
        self._lost.add(session)
        self._tell(self._make_discard, Command.GROUP_LOST, session, groups)

    def member_back(self, session: ISession, groups: list[LiveGroup]) -> None:
        """A member has resumed."""
        self._lost.discard(session)
        self._tell(self._make_rejoin, Command.GROUP_BACK, session, groups)

    def member_gone(self, session: ISession, groups: list[LiveGroup]) -> None:
        """A member's session is over; the groups are told unless they know that it is lost."""
        if session in self._lost:
            self._lost.discard(session)
        else:
            self._tell(self._make_discard, Command.GROUP_LOST, session, groups)

    def member_moved(self, session: ISession) -> None:
        """A member's session goes on at another node, which tells what becomes of it."""
        self._lost.discard(session)

    def remote_member_lost(self, group: LiveGroup, user_id: str, sid: str, tell: Tell) -> None:
        """The node of a member was lost.

        :param tell: ``tell(group, frame)`` pushes to those members who are to know.
        """
        self._tell_one(self._make_discard, Command.GROUP_LOST, group, _Subject(user_id, sid, tell=tell))

    def remote_member_back(self, group: LiveGroup, user_id: str, sid: str, tell: Tell) -> None:
        """The node of a member is back."""
        self._tell_one(self._make_rejoin, Command.GROUP_BACK, group, _Subject(user_id, sid, tell=tell))

    def _tell(self, make: MessageMaker | None, cmd: Command, session: ISession, groups: Iterable[LiveGroup]) -> None:
        subject = _Subject(session.user.user_id, session.user.sid, session)
        for group in groups:
            self._tell_one(make, cmd, group, subject)

    def _tell_one(self, make: MessageMaker | None, cmd: Command, group: LiveGroup, subject: _Subject) -> None:
        if make is None:
            # An application that makes one of the messages has both in its hands.
            is_ours = self._make_discard is None and self._make_rejoin is None
            if is_ours and group.member_count <= MAX_MEMBERS_TOLD:
                self._send(cmd, group, subject, b"")
            return
        try:
            message = make(group.id, subject.user_id, subject.sid)
        except Exception:  # the application's bug must not hold up the group
            self._log.failure("the {cmd} callback failed", cmd=cmd.name)
            return
        if isawaitable(message):
            start(self._tell_later(message, cmd, group, subject), self._log, f"the {cmd.name} callback")
        else:
            self._push(cmd, group, subject, message)

    async def _tell_later(self, message: object, cmd: Command, group: LiveGroup, subject: _Subject) -> None:
        made = await message  # type: ignore[misc]
        # What took so long that the opposite is true by now would only mislead.
        if subject.session is None or subject.session.is_attached is (cmd is Command.GROUP_BACK):
            self._push(cmd, group, subject, made)

    def _push(self, cmd: Command, group: LiveGroup, subject: _Subject, message: object) -> None:
        if not message:
            return
        if not isinstance(message, bytes) or len(message) > self._max_message_bytes:
            self._log.error(
                "the {cmd} callback must return at most {limit} bytes", cmd=cmd.name, limit=self._max_message_bytes
            )
            return
        self._send(cmd, group, subject, message)

    def _send(self, cmd: Command, group: LiveGroup, subject: _Subject, message: bytes) -> None:
        body = encode_pushed_message(group.id, subject.user_id, message)
        frame = encode_push(BUILT_IN_VER, cmd, body)
        if subject.tell is not None:
            subject.tell(group, frame)
        else:
            group.publish(frame, subject.session, True)

    def on_tick(self, group_id: str, callback: Callable[[str], object], interval_seconds: float) -> None:
        """See `IGroups`; the group exists."""
        self._ticks.setdefault(group_id, []).append(_Tick(callback, interval_seconds, self._alarms.now()))
        if self._tick_alarm is None:
            self._tick_alarm = self._alarms.call_later(TICK_CHECK_SECONDS, self._check_ticks)

    def group_discarded(self, group: LiveGroup) -> None:
        """The group is gone, and its ticks with it."""
        self._ticks.pop(group.id, None)

    def _check_ticks(self) -> None:
        self._tick_alarm = None
        now = self._alarms.now()
        for group_id, ticks in list(self._ticks.items()):
            for tick in ticks:
                if group_id not in self._ticks:
                    # The callback before this one has ended the group.
                    break
                # A check that comes a hair early must not put the tick off by two seconds more.
                if now - tick.called_at + 0.1 >= tick.interval_seconds:
                    tick.called_at = now
                    self._call_tick(group_id, tick)
        if self._ticks:
            self._tick_alarm = self._alarms.call_later(TICK_CHECK_SECONDS, self._check_ticks)

    def _call_tick(self, group_id: str, tick: _Tick) -> None:
        try:
            waiting = tick.callback(group_id)
        except Exception:  # called again next time, as the application was promised
            self._log.failure("the tick of group {group_id} failed", group_id=group_id)
            return
        if isawaitable(waiting):
            start(self._wait_for(waiting), self._log, "a group's tick")

    async def _wait_for(self, waiting: object) -> None:
        await waiting  # type: ignore[misc]

    def stop(self) -> None:
        """Call nothing any more."""
        self._ticks.clear()
        if self._tick_alarm is not None:
            self._tick_alarm.cancel()
            self._tick_alarm = None
