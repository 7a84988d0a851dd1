"""How far a client has followed the groups that it can recover: each message once, and gaps noticed. Pure.

A push says its epoch and offset. What was told already is dropped, what is next is told, and what is too early shows
that something is missing: then the node is asked for the rest, which includes the push that showed it. Until it has
answered the group is *behind*, also between two questions and over breaks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from meshrelay.client.events import Event, GroupMessageReceived, GroupRecovered, PushReceived
from meshrelay.wire.commands import BUILT_IN_VER, Command
from meshrelay.wire.history_commands import LoggedPush, Recovered

__all__ = ["GroupPositions"]


class _Place:
    __slots__ = (
        "asking",
        "epoch",
        "has_missed",
        "has_strayed",
        "is_behind",
        "is_leaving",
        "is_member",
        "is_told",
        "offset",
    )

    def __init__(self, epoch: int, offset: int) -> None:
        self.epoch = epoch
        self.offset = offset
        #: Questions that are under way.
        self.asking = 0
        #: What came after the place is not known: the node is asked, or will be.
        self.is_behind = False
        #: The program is to be told how the present question ends.
        self.is_told = False
        #: Something of another epoch, or of none, was told since it was made.
        self.has_strayed = False
        #: What was missed lies before the place from which the node is asked next.
        self.has_missed = False
        #: The program leaves the group; who joins anew begins anew.
        self.is_leaving = False
        #: A join was answered; until then a refusal ends the place.
        self.is_member = False


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

    def place_of(self, group_id: str) -> object:
        """What stays the same until the group is followed anew; None: it is not followed."""
        return self._places.get(group_id)

    def follow(self, group_id: str, epoch: int, offset: int) -> None:
        """Follow a group from a position on; 0 and 0: from wherever the node says."""
        self.forget(group_id)
        self._places[group_id] = _Place(epoch, offset)

    def forget(self, group_id: str) -> None:
        """Follow it no more."""
        self._places.pop(group_id, None)

    def clear(self) -> None:
        """Follow nothing any more."""
        self._places.clear()

    def leaves(self, group_id: str) -> None:
        """The program is about to leave: do not ask for what was missed, which would join it again."""
        self._set_leaving(group_id, True)

    def stays(self, group_id: str) -> None:
        """The program stays after all."""
        self._set_leaving(group_id, False)

    def is_kept(self, group_id: str) -> bool:
        """Whether who joins goes on from where the client is: the group is followed, and not about to be left."""
        place = self._places.get(group_id)
        return place is not None and not place.is_leaving

    def is_joined(self, group_id: str) -> bool:
        """Whether a join of a followed group was answered."""
        place = self._places.get(group_id)
        return place is not None and place.is_member

    def is_asked(self, group_id: str) -> bool:
        """Whether an answer of the node is waited for."""
        place = self._places.get(group_id)
        return place is not None and place.asking > 0

    def lost(self) -> None:
        """Of no group is it known what came after its position."""
        for place in self._places.values():
            place.is_behind = True

    def is_behind(self, group_id: str) -> bool:
        """Whether the node was not asked yet for what came after the position, or did not answer yet."""
        place = self._places.get(group_id)
        return place is not None and place.is_behind

    def unasked(self) -> list[str]:
        """The groups of which the node is to be asked what came after their positions."""
        return [
            group_id
            for group_id, place in self._places.items()
            if place.is_behind and not place.asking and not place.is_leaving
        ]

    def asks(self, group_id: str, is_told: bool, *, is_join: bool = False) -> tuple[int, int] | None:
        """The node is asked for what came after the returned position; None: that is under way, or not followed.

        :param is_told: the program is to hear how it ends.
        :param is_join: the program asks, and that also when a question is under way.
        """
        place = self._places.get(group_id)
        if place is None or (place.asking and not is_join):
            return None
        place.is_told = is_told or (place.is_told and place.asking > 0)
        if not place.asking:
            place.has_strayed = False
        place.is_behind = True
        place.asking += 1
        return place.epoch, place.offset

    def answered(self, group_id: str, answer: Recovered) -> list[Event]:
        """The node says where the group is; pushes follow when it gives back what was missed.

        What was told without its offset since the question, because a session brought it along, may be among what is
        given back. Nobody can tell, so none of that is told: something may be missing, and nothing comes twice.
        """
        place = self._places.get(group_id)
        if place is None:
            return []
        self.unanswered(group_id)
        place.is_member = True
        is_passed_over = answer.recovered and place.has_strayed
        if is_passed_over or not answer.recovered:
            place.epoch, place.offset = answer.epoch, answer.offset
        recovered = answer.recovered and not is_passed_over and not place.has_missed
        place.is_behind = False
        place.has_missed = False
        return [GroupRecovered(group_id, recovered)] if place.is_told or is_passed_over else []

    def unanswered(self, group_id: str) -> None:
        """There is no answer; ask again."""
        place = self._places.get(group_id)
        if place is not None and place.asking:
            place.asking -= 1

    def is_superfluous(self, event: Event) -> bool:
        """Whether a message came without its offset while it is about to come with it: the session has moved."""
        if not isinstance(event, GroupMessageReceived):
            return False
        place = self._places.get(event.group_id)
        return place is not None and place.is_behind and place.epoch > 0

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
            if place.epoch and place.is_behind:
                place.has_missed = True
            elif push.epoch and place.epoch:
                events.append(GroupRecovered(push.group_id, False))
            place.has_strayed = True
        elif push.epoch:
            if push.offset <= place.offset:
                return [], False
            if push.offset > place.offset + 1:
                place.is_behind = True
                return [], not place.asking
        place.epoch, place.offset = push.epoch, push.offset
        return events + self._events_of(push, own_id), False

    def _events_of(self, push: LoggedPush, own_id: str) -> list[Event]:
        if push.sender == own_id:
            return []
        if push.ver == BUILT_IN_VER and push.cmd == Command.GROUP_BROADCAST:
            return [GroupMessageReceived(push.group_id, push.sender, push.message, push.offset)]
        return [PushReceived(push.ver, push.cmd, push.message)]

    def _set_leaving(self, group_id: str, is_leaving: bool) -> None:
        place = self._places.get(group_id)
        if place is not None:
            place.is_leaving = is_leaving
