"""``meshrelay dm USER TEXT...``: sends one direct message, or each line of standard input, to one user."""

from __future__ import annotations

from typing import Any

import click
from twisted.internet.defer import Deferred, succeed

from meshrelay.cli.client_program import as_target, node_options, run
from meshrelay.cli.send import send_each
from meshrelay.cli.terminal import Terminal, open_terminal
from meshrelay.client import Client, Connected
from meshrelay.model import check_user_id

__all__ = ["check_peer", "command", "send_direct_lines"]


def check_peer(context: click.Context, parameter: click.Parameter, peer_id: str | None) -> str | None:
    """Refuse a user ID that nobody can have, as a callback of click; None stays None."""
    try:
        return None if peer_id is None else check_user_id(peer_id)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


async def send_direct_lines(client: Client, peer_id: str, terminal: Terminal) -> None:
    """Send each line that is not empty: the node takes no direct message without a byte."""

    def send(line: bytes) -> Deferred[None]:
        return client.send_direct(peer_id, line) if line else succeed(None)

    await send_each(terminal, send)


@click.command(name="dm")
@click.argument("peer", metavar="USER", callback=check_peer)
@click.argument("text", nargs=-1, required=True)
@node_options
def command(peer: str, text: tuple[str, ...], url: str, user: str | None, token_file: str | None) -> None:
    """Send TEXT to USER alone, on whatever node that is; TEXT "-" sends each line of standard input.

    Exit status 1: USER is not signed in, or the message was not taken for another reason, which is told.
    """

    async def body(reactor: Any, client: Client, connected: Connected) -> None:
        if text == ("-",):
            await send_direct_lines(client, peer, open_terminal(reactor))
        else:
            await client.send_direct(peer, " ".join(text).encode("utf-8"))

    run(as_target(url, user, token_file), body)
