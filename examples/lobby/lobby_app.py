"""A game lobby inside a node: tables that people open, sit down at, are ready at, and start.

A table is a room: it has seats, an owner and one order of all that happens. The lobby is a group: everybody hears which
tables there are. What is ours is the rules, a few names, and who is ready.

Run it from the directory that this file is in::

    PYTHONPATH=. MESHRELAY_APP__MODULE=lobby_app twistd -n --pidfile= meshrelay

All payloads are JSON.

===  ===  ============  ==========================================  ==================================================
ver  cmd  name          request                                     answer, or payload of the push
===  ===  ============  ==========================================  ==================================================
10   1    OPEN_TABLE    {"name": 1 to 40 letters, "seats": 2 to 8}  {"table": room ID}; who asked is its owner
10   2    SET_READY     {"table", "ready": true or false}           empty
10   3    START         {"table"}                                   empty; for the owner, when all are ready
10   4    LOOK          empty                                       empty; the news are told again
10   10   LOBBY         push to who signed in                       {"lobby": group ID}
10   11   TABLES        push to the lobby                           {"people", "tables": [{"id", "name", "seats",
                                                                    "taken", "is_started"}, ...]}
10   12   TABLE         push to those who sit at a table            {"table", "name", "owner", "players": [{"user",
                                                                    "is_ready"}, ...], "order": [user, ...]}
===  ===  ============  ==========================================  ==================================================

The order is drawn by lot at the start, and empty before. To sit down and to get up are commands of the node,
ROOM_JOIN and ROOM_LEAVE.
"""

from __future__ import annotations

from collections.abc import Coroutine
from random import Random, SystemRandom
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from meshrelay.errors import MalformedPayload, NotInRoom, Refused, RoomNotFound
from meshrelay.interfaces import IMeshRelay
from meshrelay.model import User

VER = 10
OPEN_TABLE, SET_READY, START, LOOK = 1, 2, 3, 4
LOBBY, TABLES, TABLE = 10, 11, 12

#: A client could make us hold any number of tables without a bound.
MAX_TABLES = 100

#: News are told at most once in this time, however much happens.
NEWS_SECONDS = 0.1

LOBBY_TTL_SECONDS = 10 * 365 * 24 * 3600
TABLE_TTL_SECONDS = 24 * 3600

_ROOM_ID_BYTES = 52


class NewTable(Struct, forbid_unknown_fields=True):
    """What OPEN_TABLE asks for."""

    name: Annotated[str, Meta(min_length=1, max_length=40)]
    seats: Annotated[int, Meta(ge=2, le=8)]


class Readiness(Struct, forbid_unknown_fields=True):
    """What SET_READY says."""

    table: str
    ready: bool


class WhichTable(Struct, forbid_unknown_fields=True):
    """What START names."""

    table: str


Wanted = TypeVar("Wanted", NewTable, Readiness, WhichTable)


def read(payload: bytes, kind: type[Wanted]) -> Wanted:
    """Read what a client sent; its text is not to be trusted in any way.

    :raises MalformedPayload: the client's fault; it is told what is wrong, with code 1.
    """
    try:
        return msgspec.json.decode(payload, type=kind)
    except msgspec.MsgspecError as error:
        raise MalformedPayload(str(error)) from None


class Table:
    """What the node does not know of a room: its name, who is ready, and who plays in which order."""

    def __init__(self, name: str, seats: int) -> None:
        self.name = name
        self.seats = seats
        self.taken = 1
        self.ready: set[str] = set()
        #: Empty until they begin.
        self.order: list[str] = []
        #: News of it are on their way.
        self.is_told = False


class LobbyApp:
    """Everything that the application knows; one for each node, nothing at module level.

    :param lot: draws who begins.
    """

    def __init__(self, relay: IMeshRelay, lot: Random) -> None:
        self._relay = relay
        self._lot = lot
        self._log = Logger()
        self._tables: dict[str, Table] = {}
        self._is_lobby_told = False
        self.lobby = relay.groups.create_group(None, True, False, LOBBY_TTL_SECONDS, 0)

    def register(self) -> None:
        """Tell the node which commands, hooks and callbacks there are."""
        relay, groups, rooms = self._relay, self._relay.groups, self._relay.rooms
        relay.command(VER, OPEN_TABLE, self.open_table)
        relay.command(VER, SET_READY, self.set_ready)
        relay.command(VER, START, self.start)
        relay.command(VER, LOOK, self.look)
        relay.on_sign_in(self.greet)
        relay.on_sign_out(lambda user: self._lobby_changed())
        groups.after_join(lambda ver, cmd, payload, user: self._lobby_changed())
        groups.after_leave(lambda ver, cmd, payload, user: self._lobby_changed())
        rooms.before_create(self.refuse_other_rooms)
        rooms.before_join(self.check_seat)
        rooms.after_join(lambda ver, cmd, payload, user: self._room_changed(payload))
        rooms.after_leave(lambda ver, cmd, payload, user: self._room_changed(payload))
        rooms.on_discard_message(self.somebody_lost)

    # Commands: the bytes that they return are the answer.

    def open_table(self, ver: int, cmd: int, payload: bytes, user: User) -> bytes:
        """Make a room with its first member, and keep what else there is to a table."""
        wanted = read(payload, NewTable)
        self._check_free(user)
        if len(self._tables) >= MAX_TABLES:
            raise Refused("all tables are taken")
        room_id = self._relay.rooms.create_room(user, wanted.seats, False, True, TABLE_TTL_SECONDS, 0)
        self._tables[room_id] = Table(wanted.name, wanted.seats)
        self._table_changed(room_id)
        return msgspec.json.encode({"table": room_id})

    def set_ready(self, ver: int, cmd: int, payload: bytes, user: User) -> None:
        """Note that somebody is ready, or not any more."""
        said = read(payload, Readiness)
        table = self._table_of(said.table, user)
        if table.order:
            raise Refused("the game has begun")
        if said.ready:
            table.ready.add(user.user_id)
        else:
            table.ready.discard(user.user_id)
        self._table_changed(said.table)

    async def start(self, ver: int, cmd: int, payload: bytes, user: User) -> None:
        """Begin, when the owner says so and all are ready."""
        room_id = read(payload, WhichTable).table
        table = self._table_of(room_id, user)
        members = await self._relay.rooms.members(room_id)
        # Nothing is waited for from here on: what was true of the members still is.
        if members[0] != user.user_id:
            raise Refused("only the owner of the table may start")
        if table.order:
            raise Refused("the game has begun")
        if len(members) < 2 or not table.ready.issuperset(members):
            raise Refused("not everybody is ready")
        table.order = self._lot.sample(members, len(members))
        self._table_changed(room_id)

    def look(self, ver: int, cmd: int, payload: bytes, user: User) -> None:
        """Tell the news again; for a client that came back and has missed something."""
        self._lobby_changed()
        for room_id in self._relay.rooms.room_ids(user):
            self._table_changed(room_id)

    # Hooks: what they raise refuses the command, and its text goes to the client.

    def refuse_other_rooms(self, ver: int, cmd: int, payload: bytes, user: User) -> None:
        """Refuse ROOM_CREATE, which asks none of the questions of OPEN_TABLE."""
        raise Refused("open a table instead")

    def check_seat(self, ver: int, cmd: int, payload: bytes, user: User) -> None:
        """Let nobody sit at two tables, nor at one where they have begun. The node looks whether there is a seat."""
        self._check_free(user)
        table = self._tables.get(_room_of(payload))
        if table is not None and table.order:
            raise Refused("the game has begun")

    def _check_free(self, user: User) -> None:
        if self._relay.rooms.room_ids(user):
            raise Refused("you sit at a table already")

    def _table_of(self, room_id: str, user: User) -> Table:
        table = self._tables.get(room_id)
        if table is None or room_id not in self._relay.rooms.room_ids(user):
            raise NotInRoom("you do not sit at this table")
        return table

    # Callbacks: nothing depends on them; what they raise is logged.

    def greet(self, user: User) -> None:
        """Tell a user who signed in where the lobby is."""
        message = msgspec.json.encode({"lobby": self.lobby})
        self._relay.push(user.user_id, VER, LOBBY, message, True)

    def somebody_lost(self, room_id: str, user_id: str, sid: str) -> None:
        """A player did not come back in time. The node has emptied the seat."""
        self._table_changed(room_id)

    # News. Each is a whole picture, so that nobody has to put pieces together, and one that is late does no harm.

    def _room_changed(self, payload: bytes) -> None:
        self._table_changed(_room_of(payload))

    def _table_changed(self, room_id: str) -> None:
        table = self._tables.get(room_id)
        if table is not None and not table.is_told:
            table.is_told = True
            self._relay.clock.callLater(NEWS_SECONDS, self._run, self._tell_table, room_id, table)

    def _lobby_changed(self) -> None:
        if not self._is_lobby_told:
            self._is_lobby_told = True
            self._relay.clock.callLater(NEWS_SECONDS, self._tell_lobby)

    def _run(self, make: Any, *arguments: Any) -> None:
        coroutine: Coroutine[Deferred[Any], Any, None] = make(*arguments)
        done = Deferred.fromCoroutine(coroutine)
        done.addErrback(lambda failure: self._log.failure("news of a table", failure))

    async def _tell_table(self, room_id: str, table: Table) -> None:
        table.is_told = False
        self._lobby_changed()
        try:
            members = await self._relay.rooms.members(room_id)
        except RoomNotFound:
            # The last one has got up.
            del self._tables[room_id]
            return
        table.taken = len(members)
        table.ready.intersection_update(members)
        players = [{"user": member, "is_ready": member in table.ready} for member in members]
        told = {"table": room_id, "name": table.name, "owner": members[0], "players": players, "order": table.order}
        self._relay.rooms.announce(room_id, VER, TABLE, msgspec.json.encode(told), True)

    def _tell_lobby(self) -> None:
        self._is_lobby_told = False
        group = self._relay.groups.get_group(self.lobby)
        tables = [
            {"id": key, "name": each.name, "seats": each.seats, "taken": each.taken, "is_started": bool(each.order)}
            for key, each in self._tables.items()
        ]
        told = {"people": 0 if group is None else len(group.members), "tables": tables}
        self._relay.groups.announce(self.lobby, VER, TABLES, msgspec.json.encode(told), True)


def _room_of(payload: bytes) -> str:
    # Hooks see what the client sent, and it may be anything.
    return payload[:_ROOM_ID_BYTES].decode("ascii", "replace")


def setup(relay: IMeshRelay) -> None:
    """Called once for each node, before it listens."""
    LobbyApp(relay, SystemRandom()).register()
