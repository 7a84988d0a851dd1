"""``meshrelay chat --group lobby``: what you type goes to the group, what others say is printed.

``meshrelay chat --with bob`` is the same for two, by direct messages.
"""

from __future__ import annotations

from typing import Any

import click
from twisted.internet.defer import CancelledError

from meshrelay.cli.client_program import (
    GROUP_HELP,
    as_target,
    enter_group,
    node_options,
    printable,
    run,
    static_group_id,
)
from meshrelay.cli.dm import check_peer
from meshrelay.cli.terminal import Terminal, open_terminal
from meshrelay.client import (
    Client,
    Connected,
    DirectCleared,
    DirectMessageReceived,
    DirectPeerGone,
    Disconnected,
    Event,
    GroupMemberBack,
    GroupMemberJoined,
    GroupMemberLeft,
    GroupMemberLost,
    GroupMessageReceived,
)
from meshrelay.errors import CommandError, DeliveryError, UserNotFound

__all__ = ["Chat", "DirectChat", "command"]

_HELLO = b"hello"
_BYE = b"bye"

#: What is printed behind a name.
_NEWS: dict[type[Event], str] = {
    GroupMemberJoined: "joined",
    GroupMemberLeft: "left",
    GroupMemberLost: "was lost",
    GroupMemberBack: "is back",
}


def _tell_connection(terminal: Terminal, event: Connected | Disconnected) -> None:
    """Print what became of the connection; there is nothing more to type when it does not come back."""
    if isinstance(event, Connected):
        terminal.write_line(f"* connected again, to node {event.node_id}")
        return
    terminal.write_line(f"* disconnected: {printable(event.text)}" + ("; coming back" if event.will_retry else ""))
    if not event.will_retry:
        terminal.end()


def _aside(event: DirectMessageReceived) -> str:
    """A direct message that does not belong to the chat."""
    sender = f"direct message of {printable(event.user_id)}" if event.user_id else "message of the server"
    return f"* {sender}: {printable(event.message)}"


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
        elif isinstance(event, DirectMessageReceived):
            write_line(_aside(event))
        elif isinstance(event, (Connected, Disconnected)):
            _tell_connection(self._terminal, event)
            if isinstance(event, Connected) and not event.resumed:
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


class DirectChat:
    """Two users, one of them at this terminal.

    :param peer_id: the other one, who may sign in later.
    """

    def __init__(self, client: Client, terminal: Terminal, peer_id: str) -> None:
        self._client = client
        self._terminal = terminal
        self._peer_id = peer_id
        self._name = printable(peer_id)

    async def talk(self, connected: Connected) -> None:
        """Send each line until there are no more, then say goodbye to the peer."""
        stop_telling = self._client.on(Event, self.tell)
        user = printable(connected.user_id)
        self._terminal.write_line(f"* you are {user}, connected to node {connected.node_id}")
        self._terminal.write_line(f"* to {self._name} alone; the other way it is --user {self._name} --with {user}")
        try:
            while (line := await self._terminal.next_line()) is not None:
                if line.strip():
                    await self._say(line)
        except CancelledError:
            # Ctrl-C. It goes out before GOODBYE, and nobody is left who waits for the answer.
            self._client.clear_direct(self._peer_id, _BYE).addErrback(lambda _: None)
            raise
        stop_telling()
        await self._client.clear_direct(self._peer_id, _BYE)

    def tell(self, event: Event) -> None:
        """Print an event."""
        if isinstance(event, DirectMessageReceived):
            is_peer = event.user_id == self._peer_id
            self._terminal.write_line(f"{self._name}: {printable(event.message)}" if is_peer else _aside(event))
        elif isinstance(event, (DirectCleared, DirectPeerGone)):
            if event.user_id == self._peer_id:
                self._terminal.write_line(f"* {self._name} {'left' if isinstance(event, DirectCleared) else 'is gone'}")
        elif isinstance(event, (Connected, Disconnected)):
            _tell_connection(self._terminal, event)

    async def _say(self, line: bytes) -> None:
        try:
            await self._client.send_direct(self._peer_id, line)
        except UserNotFound:
            self._terminal.write_line(f"* not sent: {self._name} is not there")
        except (CommandError, DeliveryError) as error:
            self._terminal.write_line(f"* not sent: {printable(str(error))}")


@click.command(name="chat", epilog=GROUP_HELP)
@click.option("--group", help="Group ID of 52 characters, or a short name; see below.")
@click.option("--with", "peer", callback=check_peer, help="User ID: talk to that user alone instead.")
@node_options
def command(group: str | None, peer: str | None, url: str, user: str | None, token_file: str | None) -> None:
    """Talk to everybody in a group, or to one user; end with Ctrl-D or Ctrl-C."""

    async def body(reactor: Any, client: Client, connected: Connected) -> None:
        terminal = open_terminal(reactor)
        chat = DirectChat(client, terminal, peer) if peer is not None else Chat(client, terminal, group or "")
        await chat.talk(connected)

    if (group is None) == (peer is None):
        raise click.UsageError("either --group or --with is needed")
    try:
        if group is not None:
            static_group_id(group)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    run(as_target(url, user, token_file), body)
