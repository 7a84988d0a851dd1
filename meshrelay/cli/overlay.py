"""``meshrelay overlay``: see who is in an overlay, send to one of them, listen, and trace the way."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import click
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from meshrelay.cli.client_program import run_on_reactor
from meshrelay.errors import ConfigError
from meshrelay.overlay.channel import Channel
from meshrelay.overlay.errors import NotLinked
from meshrelay.overlay.identity import Identity
from meshrelay.overlay.peer import PeerMessage
from meshrelay.peer_relay.peer import PeerRelay

__all__ = ["JOIN_SECONDS", "command", "join", "print_messages", "print_peers", "print_trace"]

F = TypeVar("F", bound=Callable[..., Any])

Body = Callable[[Any, PeerRelay], Coroutine[Any, Any, None]]

#: Some bootstrap must have been linked by then.
JOIN_SECONDS = 10.0


class _PeerId(click.ParamType[bytes]):
    """40 hex digits."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        """See `click.ParamType`."""
        try:
            peer_id = bytes.fromhex(value)
        except ValueError:
            peer_id = b""
        if len(peer_id) != 20:
            self.fail(f"{value!r} is no peer ID: 40 hex digits")
        return peer_id


def _options(function: F) -> F:
    for option in (
        click.option("--key-file", type=click.Path(dir_okay=False), help="Be the peer of this key; made if missing."),
        click.option("--bootstrap", multiple=True, required=True, help="ws://host:port of a peer; may be repeated."),
    ):
        function = option(function)
    return function


def _run(bootstrap: tuple[str, ...], key_file: str | None, body: Body) -> None:
    try:
        identity = Identity.load_or_create(key_file, secrets.token_bytes, "--key-file") if key_file else None
    except ConfigError as error:
        raise click.ClickException(str(error)) from error

    async def main(reactor: Any) -> None:
        peer = PeerRelay(reactor, bootstrap=bootstrap, identity=identity)
        try:
            await join(reactor, peer)
            await body(reactor, peer)
        finally:
            await peer.destroy()

    run_on_reactor(main, lambda error, is_stopping: error.check(CancelledError) is not None)


async def join(reactor: Any, peer: PeerRelay) -> None:
    """Wait until a peer is linked.

    :raises NotLinked: within `JOIN_SECONDS` it was not.
    """
    if peer.peers:
        return
    linked: Deferred[None] = Deferred()
    end = peer.on("peer", lambda _: None if linked.called else linked.callback(None))
    linked.addTimeout(JOIN_SECONDS, reactor, lambda *_: _no_link())
    try:
        await linked
    finally:
        end()


def _no_link() -> None:
    raise NotLinked(f"none of the bootstraps could be reached within {JOIN_SECONDS:.0f} seconds")


async def print_peers(reactor: Any, peer: PeerRelay, seconds: float, as_json: bool) -> None:
    """Look around for so long, then print who was heard of."""
    await deferLater(reactor, seconds)
    links = peer.links
    for peer_id in dict.fromkeys((*links, *peer.known_peers())):
        click.echo(_peer_line(peer_id, links.get(peer_id), as_json))


def _peer_line(peer_id: bytes, channel: Channel | None, as_json: bool) -> str:
    transport = channel.link.transport_name if channel is not None else ""
    address = channel.link.remote_address if channel is not None else ""
    is_proved = channel is not None and channel.is_proved
    if as_json:
        return json.dumps({"id": peer_id.hex(), "transport": transport, "address": address, "is_proved": is_proved})
    kind = "meshrelay" if is_proved else "-"
    return f"{peer_id.hex()}  {transport or '-':4}  {kind:9}  {address or '-'}"


async def print_messages(reactor: Any, peer: PeerRelay, count: int) -> None:
    """Print messages as they come.

    :param count: end after so many; 0: never.
    """
    enough: Deferred[None] = Deferred()
    printed = 0

    def received(message: PeerMessage) -> None:
        nonlocal printed
        if enough.called:
            return
        printed += 1
        fields = {"from": message.sender.hex(), "is_verified": message.is_verified, "data": message.data}
        click.echo(json.dumps(fields))
        if printed == count:
            enough.callback(None)

    end = peer.on_message(received)
    click.echo(f"listening as {peer.id.hex()}", err=True)
    try:
        await enough
    finally:
        end()


async def print_trace(peer: PeerRelay, peer_id: bytes) -> None:
    """Print the way by which messages of a peer come."""
    trace = await peer.trace(peer_id)
    for number, hop in enumerate((*trace.path, peer.id)):
        click.echo(f"{number:2}  {hop.hex()}")
    links = f"{len(trace.path)} link{'s' if len(trace.path) > 1 else ''}"
    click.echo(f"{links}, {trace.seconds * 1000:.1f} ms there and back")


@click.group(name="overlay")
def command() -> None:
    """Use and try an overlay of peers, as npm's peer-relay makes them.

    Every command joins the overlay as one more peer.
    """


@command.command(name="peers")
@_options
@click.option("--seconds", type=click.FloatRange(0, 600), default=3.0, show_default=True, help="How long to look.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def peers_command(bootstrap: tuple[str, ...], key_file: str | None, seconds: float, as_json: bool) -> None:
    """Print the peers that can be heard of, and how they are linked with this one."""
    _run(bootstrap, key_file, lambda reactor, peer: print_peers(reactor, peer, seconds, as_json))


@command.command(name="send")
@_options
@click.argument("peer_id", metavar="ID", type=_PeerId())
@click.argument("text")
@click.option("--json", "is_json", is_flag=True, help="TEXT is JSON; otherwise it is sent as a string.")
def send_command(bootstrap: tuple[str, ...], key_file: str | None, peer_id: bytes, text: str, is_json: bool) -> None:
    """Send TEXT to the peer with that ID.

    Waits until the other peer has acknowledged it. Peers of npm's package acknowledge nothing: then until it is on its
    way, and nobody knows whether it arrives.
    """
    try:
        data = json.loads(text) if is_json else text
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"TEXT is no JSON: {error}") from None

    async def body(reactor: Any, peer: PeerRelay) -> None:
        await peer.send(peer_id, data)

    _run(bootstrap, key_file, body)


@command.command(name="listen")
@_options
@click.option("--count", type=click.IntRange(min=0), default=0, help="End after so many messages; 0 = never.")
def listen_command(bootstrap: tuple[str, ...], key_file: str | None, count: int) -> None:
    """Print the messages to this peer, one JSON object a line; end with Ctrl-C."""
    _run(bootstrap, key_file, lambda reactor, peer: print_messages(reactor, peer, count))


@command.command(name="trace")
@_options
@click.argument("peer_id", metavar="ID", type=_PeerId())
def trace_command(bootstrap: tuple[str, ...], key_file: str | None, peer_id: bytes) -> None:
    """Print the way by which messages of a peer come, its own ID first, and how long a round trip takes."""
    _run(bootstrap, key_file, lambda reactor, peer: print_trace(peer, peer_id))
