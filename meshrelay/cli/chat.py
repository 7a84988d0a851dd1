"""``meshrelay chat --group lobby``: what you type goes to the group, what others say is printed."""

from __future__ import annotations

from typing import Any

import click

from meshrelay.cli.client_program import (
    GROUP_HELP,
    as_target,
    enter_group,
    node_options,
    printable,
    run,
    static_group_id,
)
from meshrelay.cli.terminal import Terminal, open_terminal
from meshrelay.client import (
    Client,
    Connected,
    Disconnected,
    Event,
    GroupMemberBack,
    GroupMemberJoined,
    GroupMemberLeft,
    GroupMemberLost,
    GroupMessageReceived,
)
from meshrelay.errors import CommandError, DeliveryError

__all__ = ["Chat", "command"]

_HELLO = b"hello"
_BYE = b"bye"

#: What is printed behind a name.
_NEWS: dict[type[Event], str] = {
    GroupMemberJoined: "joined",
    GroupMemberLeft: "left",
    GroupMemberLost: "was lost",
    GroupMemberBack: "is back",
}


class Chat:
    """One user in one group at one terminal.

    :param group: an ID or a short name, see `GROUP_HELP`.
    """

    def __init__(self, client: Client, terminal: Terminal, group: str) -> None:
        self._client = client
        self._terminal = terminal
        self._group = group
        self._group_id = ""

    async def talk(self, connected: Connected) -> None:
        """Join, then send each line until there are no more."""
        stop_telling = self._client.on(Event, self.tell)
        self._terminal.write_line(f"* you are {printable(connected.user_id)}, connected to node {connected.node_id}")
        await self._enter()
        while (line := await self._terminal.next_line()) is not None:
            if line.strip():
                await self._say(line)
        stop_telling()
        await self._client.leave_group(self._group_id, _BYE)

    def tell(self, event: Event) -> Any:
        """Print an event; a coroutine when there is more to do."""
        write_line = self._terminal.write_line
        if isinstance(event, GroupMessageReceived):
            write_line(f"{printable(event.user_id)}: {printable(event.message)}")
        elif isinstance(event, (GroupMemberJoined, GroupMemberLeft, GroupMemberLost, GroupMemberBack)):
            write_line(f"* {printable(event.user_id)} {_NEWS[type(event)]}")
        elif isinstance(event, Disconnected):
            write_line(f"* disconnected: {printable(event.text)}" + ("; coming back" if event.will_retry else ""))
            if not event.will_retry:
                self._terminal.end()
        elif isinstance(event, Connected):
            write_line(f"* connected again, to node {event.node_id}")
            if not event.resumed:
                return self._enter_again()
        return None

    async def _enter(self) -> None:
        self._group_id = await enter_group(self._client, self._group, _HELLO)
        self._terminal.write_line(f"* in group {self._group_id}; others join it with --group {self._group_id}")

    async def _enter_again(self) -> None:
        # First the group of before: the others may still be in it.
        group_id = self._group_id
        try:
            await enter_group(self._client, group_id, _HELLO)
        except (CommandError, DeliveryError) as error:
            self._terminal.write_line(f"* group {group_id}: {printable(str(error))}")
            await self._enter()

    async def _say(self, line: bytes) -> None:
        try:
            await self._client.broadcast(self._group_id, line)
        except (CommandError, DeliveryError) as error:
            self._terminal.write_line(f"* not sent: {printable(str(error))}")


@click.command(name="chat", epilog=GROUP_HELP)
@click.option("--group", required=True, help="Group ID of 52 characters, or a short name; see below.")
@node_options
def command(group: str, url: str, user: str | None, token_file: str | None) -> None:
    """Talk to everybody in a group; end with Ctrl-D or Ctrl-C."""

    async def body(reactor: Any, client: Client, connected: Connected) -> None:
        await Chat(client, open_terminal(reactor), group).talk(connected)

    try:
        static_group_id(group)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    run(as_target(url, user, token_file), body)
