"""``meshrelay ping``: how long a round trip to a node takes, as ping(8) prints it."""

from __future__ import annotations

from typing import Any

import click
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from meshrelay.cli.client_program import as_target, node_options, run
from meshrelay.client import Client, Connected
from meshrelay.errors import DeliveryError, TimedOut

__all__ = ["command", "ping_node", "summary"]


def summary(sent: int, seconds: list[float]) -> list[str]:
    """Return the two lines of the end; one when nothing came back."""
    lost = 100 * (sent - len(seconds)) // sent if sent else 0
    lines = [f"{sent} sent, {len(seconds)} answered, {lost}% lost"]
    if seconds:
        lowest, mean, highest = min(seconds) * 1e3, sum(seconds) / len(seconds) * 1e3, max(seconds) * 1e3
        lines.append(f"round trip min/avg/max = {lowest:.3f}/{mean:.3f}/{highest:.3f} ms")
    return lines


async def ping_node(
    clock: IReactorTime, client: Client, connected: Connected, count: int, interval_seconds: float
) -> None:
    """Ping `count` times (0: until cancelled) and print each round trip and the summary.

    :raises TimedOut: nothing was answered at all.
    """
    node = connected.node_id or "node"
    seconds: list[float] = []
    sent = 0
    try:
        while not count or sent < count:
            if sent:
                await deferLater(clock, interval_seconds)
            sent += 1
            try:
                seconds.append(await client.ping())
            except (TimedOut, DeliveryError) as error:
                click.echo(f"seq={sent} {error}")
            else:
                click.echo(f"answer from {node}: seq={sent} time={seconds[-1] * 1e3:.3f} ms")
    except CancelledError:
        # Interrupted: ping(8) sums up then too.
        click.echo()
    for line in summary(sent, seconds):
        click.echo(line)
    if not seconds:
        raise TimedOut("no answer")


@click.command(name="ping")
@click.option("--count", type=click.IntRange(min=0), default=4, show_default=True, help="0 = until Ctrl-C.")
@click.option("--interval", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Seconds between two.")
@node_options
def command(count: int, interval: float, url: str, user: str | None, token_file: str | None) -> None:
    """Measure round trips to a node."""

    async def body(reactor: Any, client: Client, connected: Connected) -> None:
        await ping_node(reactor, client, connected, count, interval)

    run(as_target(url, user, token_file), body)
