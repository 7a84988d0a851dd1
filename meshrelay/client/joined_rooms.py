"""Which rooms a client is in, as far as its program went in through it."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from meshrelay.client.events import Connected, Disconnected, Event, RoomMemberLost

__all__ = ["JoinedRooms"]


class JoinedRooms(Collection[str]):
    """Room IDs, the newest last. As many as the node lets a user be in.

    Rooms that the node's application put the user into are not among them: it says nothing of that.
    """

    def __init__(self) -> None:
        self._rooms: dict[str, None] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._rooms)

    def __len__(self) -> int:
        return len(self._rooms)

    def __contains__(self, room_id: object) -> bool:
        return room_id in self._rooms

    def add(self, room_id: str) -> None:
        """The node let us in."""
        self._rooms.pop(room_id, None)
        self._rooms[room_id] = None

    def remove(self, room_id: str) -> None:
        """We have left."""
        self._rooms.pop(room_id, None)

    def heard(self, event: Event, own_id: str) -> None:
        """Draw the conclusions from what the node says."""
        is_new = isinstance(event, Connected) and not event.resumed
        if is_new or (isinstance(event, Disconnected) and not event.will_retry):
            self._rooms.clear()
        elif isinstance(event, RoomMemberLost) and event.user_id == own_id:
            self.remove(event.room_id)
