"""For which room links were started: the sync bytes do not say it, and packets by the relay need it.

A client that is in one room knows. One that is in several asks the node for their members: it is one that has all users
of the link group in it. If that is true of several, the one counts that this client has asked to start; if it has not,
peers tell: their first packets come by the relay with the room's ID. And if none comes, the lowest ID does, so that
both ends take the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from twisted.internet.defer import Deferred, DeferredList, succeed

from meshrelay.wire.room_commands import RoomList

__all__ = ["MAX_ROOMS_ASKED", "RoomFinder"]

#: Rooms that are asked for their members, the newest ones.
MAX_ROOMS_ASKED = 32


class RoomFinder:
    """See the module.

    :param rooms: IDs of the rooms that we are in, the newest last.
    :param members: asks the node for the members of one.
    :ivar starting: rooms that we have asked to start.
    """

    def __init__(self, rooms: Collection[str], members: Callable[[str], Deferred[RoomList]]) -> None:
        self.starting: set[str] = set()
        self._rooms = rooms
        self._members = members

    def find(self, user_ids: Iterable[str]) -> Deferred[list[str]]:
        """Fire with the rooms that it can be, the lowest ID first; at once when there is only one. Never fails."""
        rooms = list(self._rooms)[-MAX_ROOMS_ASKED:]
        if len(rooms) <= 1:
            return succeed(rooms)
        wanted = set(user_ids)
        # The node does not answer for a room that we have just left.
        asked = DeferredList([self._members(room_id) for room_id in rooms], consumeErrors=True)

        def choose(answers: list[tuple[bool, RoomList]]) -> list[str]:
            found = {
                room_id
                for room_id, (is_answered, answer) in zip(rooms, answers, strict=True)
                if is_answered and wanted <= set(answer.members)
            }
            return sorted(found & self.starting or found)

        return asked.addCallback(choose)
