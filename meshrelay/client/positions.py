"""How far a client has followed the groups that it can recover: each message once, and gaps noticed. Pure.

A push says its epoch and offset. What was told already is dropped, what is next is told, and what is too early shows
that something is missing: then the node is asked for the rest, which includes the push that showed it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from meshrelay.client.events import Event, GroupMessageReceived, GroupRecovered, PushReceived
from meshrelay.wire.commands import BUILT_IN_VER, Command
from meshrelay.wire.history_commands import LoggedPush, Recovered

__all__ = ["GroupPositions"]


class _Place:
    __slots__ = ("epoch", "is_asking", "is_told", "offset")

    def __init__(self, epoch: int, offset: int) -> None:
        self.epoch = epoch
        self.offset = offset
        self.is_asking = False
        #: The program is to be told how the present request ends.
        self.is_told = False


class GroupPositions(Collection[str]):
    """IDs of the groups that are followed, the newest last. As many as the node lets a user be in."""

    def __init__(self) -> None:
        self._places: dict[str, _Place] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._places))

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, group_id: object) -> bool:
        return group_id in self._places

    def of(self, group_id: str) -> tuple[int, int]:
        """Epoch and offset of the last message that was told; 0 and 0: not known."""
        place = self._places.get(group_id)
        return (place.epoch, place.offset) if place is not None else (0, 0)

    def follow(self, group_id: str, epoch: int, offset: int) -> None:
        """Follow a group from a position on; 0 and 0: from wherever the node says."""
        self._places[group_id] = _Place(epoch, offset)

    def forget(self, group_id: str) -> None:
        """Follow it no more."""
        self._places.pop(group_id, None)

    def clear(self) -> None:
        """Follow nothing any more."""
        self._places.clear()

    def asks(self, group_id: str, is_told: bool) -> tuple[int, int] | None:
        """The node is asked for what came after the returned position; None: that is under way, or not followed.

        :param is_told: the program is to hear how it ends.
        """
        place = self._places.get(group_id)
        if place is None or place.is_asking:
            return None
        place.is_asking = True
        place.is_told = is_told
        return place.epoch, place.offset

    def answered(self, group_id: str, answer: Recovered) -> list[Event]:
        """The node says where the group is; pushes follow when it gives back what was missed."""
        place = self._places.get(group_id)
        if place is None:
            return []
        place.is_asking = False
        if not answer.recovered:
            place.epoch, place.offset = answer.epoch, answer.offset
        return [GroupRecovered(group_id, answer.recovered)] if place.is_told else []

    def unanswered(self, group_id: str) -> None:
        """There is no answer; ask again."""
        place = self._places.get(group_id)
        if place is not None:
            place.is_asking = False

    def is_superfluous(self, event: Event) -> bool:
        """Whether a message came without its offset while it is about to come with it: the session has moved."""
        if not isinstance(event, GroupMessageReceived):
            return False
        place = self._places.get(event.group_id)
        return place is not None and place.is_asking and place.epoch > 0

    def pushed(self, push: LoggedPush, own_id: str) -> tuple[list[Event], bool]:
        """Take a push.

        :param own_id: what this user said itself is not told.
        :returns: what the program is told, and whether something is missing: ask.
        """
        place = self._places.get(push.group_id)
        if place is None:
            return self._events_of(push, own_id), False
        events: list[Event] = []
        if push.epoch != place.epoch:
            if push.epoch and place.epoch and not place.is_asking:
                events.append(GroupRecovered(push.group_id, False))
        elif push.epoch:
            if push.offset <= place.offset:
                return [], False
            if push.offset > place.offset + 1:
                return [], not place.is_asking
        place.epoch, place.offset = push.epoch, push.offset
        return events + self._events_of(push, own_id), False

    def _events_of(self, push: LoggedPush, own_id: str) -> list[Event]:
        if push.sender == own_id:
            return []
        if push.ver == BUILT_IN_VER and push.cmd == Command.GROUP_BROADCAST:
            return [GroupMessageReceived(push.group_id, push.sender, push.message, push.offset)]
        return [PushReceived(push.ver, push.cmd, push.message)]
