"""An example of an application inside a node: a lobby that greets, counts, keeps a word out, and rolls dice.

Run it from the directory that this file is in::

    PYTHONPATH=. MESHRELAY_APP__MODULE=example_app twistd -n --pidfile= meshrelay

===  ===  ==============  ==========================================  ==========================================
ver  cmd  name            request                                     answer, or payload of the push
===  ===  ==============  ==========================================  ==========================================
2    1    SERVER_TIME     empty                                       u64 milliseconds since 1970
2    2    ROLL_DICE       u8 how many (1 to 20), u8 sides (2 to 255)  u8 for each
2    3    REMIND          u16 seconds (1 to 3,600), text              empty; the push 12 later
2    10   LOBBY           push to who signed in                       group ID of the lobby
2    11   WHO_IS_HERE     push to who joined a group                  names, a line each
2    12   REMINDER        push to who asked for it                    the text
2    13   COUNT           push to the lobby, once a minute            u32 members
===  ===  ==============  ==========================================  ==========================================
"""

from __future__ import annotations

import secrets
from struct import Struct

from meshrelay.errors import MalformedPayload, RateLimited, Refused
from meshrelay.interfaces import IMeshRelay
from meshrelay.model import User

VER = 2
SERVER_TIME, ROLL_DICE, REMIND = 1, 2, 3
LOBBY, WHO_IS_HERE, REMINDER, COUNT = 10, 11, 12, 13

BANNED_WORD = b"shibboleth"

#: The lobby is not discarded while it is empty, for as long as this.
LOBBY_TTL_SECONDS = 10 * 365 * 24 * 3600

#: Names in one push.
MAX_NAMES = 100

#: A client could make us hold any number of reminders without a bound.
MAX_REMINDERS = 1000

_GROUP_ID_BYTES = 52
_U16 = Struct("!H")
_U32 = Struct("!I")
_U64 = Struct("!Q")


class ExampleApp:
    """Everything that the application knows; one for each node, nothing at module level."""

    def __init__(self, relay: IMeshRelay) -> None:
        self._relay = relay
        self._reminders = 0
        self.lobby = relay.groups.create_group(None, True, False, LOBBY_TTL_SECONDS, 0)

    def register(self) -> None:
        """Tell the node which commands, hooks and callbacks there are."""
        relay, groups = self._relay, self._relay.groups
        relay.command(VER, SERVER_TIME, self.server_time)
        relay.command(VER, ROLL_DICE, self.roll_dice)
        relay.command(VER, REMIND, self.remind)
        relay.on_sign_in(self.greet)
        groups.before_broadcast(self.keep_word_out)
        groups.after_join(self.tell_who_is_here)
        groups.on_discard_message(lambda group_id, user_id, sid: b"lost the connection")
        groups.on_rejoin_message(lambda group_id, user_id, sid: b"is back")
        groups.on_tick(self.lobby, self.announce_count, 60.0)

    # Commands: the bytes that they return are the answer.

    def server_time(self, ver: int, cmd: int, payload: bytes, user: User) -> bytes:
        """Answer what time it is."""
        return _U64.pack(int(self._relay.clock.seconds() * 1000))

    def roll_dice(self, ver: int, cmd: int, payload: bytes, user: User) -> bytes:
        """Answer with dice that nobody can foresee.

        :raises MalformedPayload: the client's fault; it is told so with code 1.
        """
        if len(payload) != 2:
            raise MalformedPayload("two bytes: how many dice, how many sides")
        count, sides = payload
        if not 1 <= count <= 20 or sides < 2:
            raise MalformedPayload("1 to 20 dice of 2 to 255 sides")
        return bytes(1 + secrets.randbelow(sides) for _ in range(count))

    def remind(self, ver: int, cmd: int, payload: bytes, user: User) -> None:
        """Push a text back later, if the user is still there then.

        :raises RateLimited: there are too many reminders already.
        """
        seconds = _U16.unpack_from(payload)[0] if len(payload) > _U16.size else 0
        if not 1 <= seconds <= 3600:
            raise MalformedPayload("u16 seconds from 1 to 3,600, then a text")
        if self._reminders >= MAX_REMINDERS:
            raise RateLimited(60.0)
        self._reminders += 1
        self._relay.clock.callLater(seconds, self._remind_now, user.user_id, payload[_U16.size :])

    def _remind_now(self, user_id: str, text: bytes) -> None:
        self._reminders -= 1
        self._relay.push(user_id, VER, REMINDER, text, True)

    # Hooks: what they raise refuses the command, and its text goes to the client.

    def keep_word_out(self, ver: int, cmd: int, payload: bytes, user: User) -> None:
        """Refuse a broadcast with the banned word; the payload is as the client sent it: group ID, message."""
        if BANNED_WORD in payload[_GROUP_ID_BYTES:].lower():
            raise Refused("that word is not said here")

    def tell_who_is_here(self, ver: int, cmd: int, payload: bytes, user: User) -> None:
        """Push to a new member who else is in the group."""
        group = self._relay.groups.get_group(payload[:_GROUP_ID_BYTES].decode("ascii"))
        if group is not None:
            names = [member.user_id for member in group.members if member.user_id != user.user_id]
            self._relay.push(user.user_id, VER, WHO_IS_HERE, "\n".join(names[:MAX_NAMES]).encode("utf-8"), True)

    # Callbacks: nothing depends on them; what they raise is logged.

    def greet(self, user: User) -> None:
        """Tell a user who signed in where the lobby is."""
        self._relay.push(user.user_id, VER, LOBBY, self.lobby.encode("ascii"), True)

    def announce_count(self, group_id: str) -> None:
        """Tell the lobby how many are in it. Unreliable: the next minute brings another."""
        group = self._relay.groups.get_group(group_id)
        if group is not None and group.members:
            self._relay.groups.announce(group_id, VER, COUNT, _U32.pack(len(group.members)), False)


def setup(relay: IMeshRelay) -> None:
    """Called once for each node, before it listens."""
    ExampleApp(relay).register()
