"""``meshrelay send --group ID TEXT...``: broadcasts one message, or each line of standard input."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import click
from twisted.internet.defer import Deferred

from meshrelay.cli.client_program import GROUP_HELP, as_target, enter_group, node_options, run, static_group_id
from meshrelay.cli.terminal import Terminal, open_terminal
from meshrelay.client import Client, Connected

__all__ = ["command", "send_each", "send_lines", "send_text"]

#: Messages on their way at one time.
_WINDOW = 64


async def send_text(client: Client, group: str, text: str) -> None:
    """Join, send one message, leave."""
    group_id = await enter_group(client, group)
    await client.broadcast(group_id, text.encode("utf-8"))
    await client.leave_group(group_id)


async def send_each(terminal: Terminal, send: Callable[[bytes], Deferred[None]]) -> None:
    """Send each line until there are no more, some of them at a time; ends with the first error."""
    sent: deque[Deferred[None]] = deque()
    try:
        while (line := await terminal.next_line()) is not None:
            if len(sent) >= _WINDOW:
                await sent.popleft()
            sent.append(send(line))
        while sent:
            await sent.popleft()
    finally:
        # One failure ends the command; what comes of the others is told to nobody.
        for answer in sent:
            answer.addErrback(lambda _: None)


async def send_lines(client: Client, group: str, terminal: Terminal) -> None:
    """Join, send each line, leave. Empty lines are sent too."""
    group_id = await enter_group(client, group)
    await send_each(terminal, lambda line: client.broadcast(group_id, line))
    await client.leave_group(group_id)


@click.command(name="send", epilog=GROUP_HELP)
@click.option("--group", required=True, help="Group ID of 52 characters, or a short name; see below.")
@click.argument("text", nargs=-1, required=True)
@node_options
def command(group: str, text: tuple[str, ...], url: str, user: str | None, token_file: str | None) -> None:
    """Broadcast TEXT to a group; TEXT "-" sends each line of standard input."""

    async def body(reactor: Any, client: Client, connected: Connected) -> None:
        if text == ("-",):
            await send_lines(client, group, open_terminal(reactor))
        else:
            await send_text(client, group, " ".join(text))

    try:
        static_group_id(group)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    run(as_target(url, user, token_file), body)
