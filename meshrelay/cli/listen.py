"""``meshrelay listen --group ID``: prints what is said in a group, and to the user alone, one message a line."""

from __future__ import annotations

import base64
import json
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
from meshrelay.client import (
    Client,
    Connected,
    DirectMessageReceived,
    Disconnected,
    GroupMessageReceived,
    NotConnected,
    WhenFull,
)

__all__ = ["command", "format_message"]

#: Messages that may wait while standard output takes no more.
_MAX_EVENTS = 10000


def format_message(event: GroupMessageReceived | DirectMessageReceived, as_json: bool) -> str:
    """Return one line: ``user: text``, or a JSON object with group, user and message.

    A direct message is ``user (direct): text`` and has no group in JSON; the server's has an empty user. In JSON a
    message that is not UTF-8 is under ``message_base64`` instead.
    """
    if not as_json:
        kind = " (direct)" if isinstance(event, DirectMessageReceived) else ""
        return f"{printable(event.user_id)}{kind}: {printable(event.message)}"
    fields = {"group": event.group_id} if isinstance(event, GroupMessageReceived) else {}
    fields["user"] = event.user_id
    try:
        fields["message"] = event.message.decode("utf-8")
    except UnicodeDecodeError:
        fields["message_base64"] = base64.b64encode(event.message).decode("ascii")
    return json.dumps(fields, ensure_ascii=False)


async def print_messages(client: Client, group: str, as_json: bool, count: int) -> None:
    """Join and print, until `count` messages came (0: for ever).

    :raises NotConnected: the client gave up.
    """
    events = client.events(_MAX_EVENTS, WhenFull.DROP_OLDEST)
    group_id = await enter_group(client, group)
    click.echo(f"listening in group {group_id}", err=True)
    printed = 0
    async for event in events:
        if isinstance(event, (GroupMessageReceived, DirectMessageReceived)):
            click.echo(format_message(event, as_json))
            printed += 1
            if printed == count:
                return
        elif isinstance(event, Connected) and not event.resumed:
            await enter_group(client, group_id)
        elif isinstance(event, Disconnected):
            click.echo(f"disconnected: {printable(event.text)}", err=True)
    raise NotConnected("disconnected for good")


@click.command(name="listen", epilog=GROUP_HELP)
@click.option("--group", required=True, help="Group ID of 52 characters, or a short name; see below.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--count", type=click.IntRange(min=0), default=0, help="End after so many messages; 0 = never.")
@node_options
def command(group: str, as_json: bool, count: int, url: str, user: str | None, token_file: str | None) -> None:
    """Print the messages of a group and those to you alone, one a line; end with Ctrl-C."""

    async def body(reactor: Any, client: Client, connected: Connected) -> None:
        await print_messages(client, group, as_json, count)

    try:
        static_group_id(group)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    run(as_target(url, user, token_file), body)
