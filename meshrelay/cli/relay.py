"""``meshrelay relay``: what a peer needs to sign in at a NetBird-compatible relay, and a pipe through one.

In production NetBird's management signs tokens, with the same secret.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from meshrelay.cli.token import write_secret
from meshrelay.config.files import read_secret
from meshrelay.errors import ConfigError
from meshrelay.relay.auth import hmac_key, make_token

if TYPE_CHECKING:
    from meshrelay.relay_client.token_store import TokenSource

__all__ = ["command"]


@click.group(name="relay")
def command() -> None:
    """Use and try a NetBird-compatible relay."""


@command.command(name="token")
@click.option("--secret-file", type=click.Path(), help="The relay's [relay] secret_file, NetBird's auth secret.")
@click.option("--new-secret", type=click.Path(), help="Make this secret file first, readable by you alone.")
@click.option(
    "--ttl-seconds",
    type=click.IntRange(min=1),
    default=43200,
    show_default=True,
    help="Time within which a peer can sign in; it stays for as long as it likes.",
)
@click.option("--json", "as_json", is_flag=True, help="The payload and signature that NetBird's management hands out.")
def token_command(secret_file: str | None, new_secret: str | None, ttl_seconds: int, as_json: bool) -> None:
    """Print a token, in hex as it goes over the wire."""
    if (secret_file is None) == (new_secret is None):
        raise click.UsageError("give --secret-file FILE, or --new-secret FILE to make one")
    try:
        if new_secret is not None:
            write_secret(new_secret)
        key = hmac_key(read_secret(secret_file or new_secret or ""))
        token = make_token(key, int(datetime.now(UTC).timestamp()) + ttl_seconds)
        text = json.dumps(token._asdict()) if as_json else token.wire().hex()
    except (OSError, ValueError, ConfigError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(text)


@command.command(name="pipe")
@click.option("--server", required=True, help="rel://host:port, or rels://host:port with TLS.")
@click.option("--peer", required=True, help="Name of this end. Who comes later under the same name takes its place.")
@click.option("--to", required=True, help="Name of the other end.")
@click.option("--secret-file", type=click.Path(), help="Sign in with the relay's secret.")
@click.option("--token-file", type=click.Path(), help="Sign in with a token as `meshrelay relay token` prints it.")
@click.option("--ca-file", type=click.Path(), help="PEM file of the authorities to trust.  [default: the system's]")
@click.option(
    "--transport",
    type=click.Choice(["auto", "quic", "ws", "prefer-quic", "prefer-ws"]),
    default="auto",
    show_default=True,
    help="How to get to the relay. QUIC is for --raw alone.",
)
@click.option("--raw", is_flag=True, help="Each read is one message of the relay, and may be lost.")
def pipe_command(
    server: str,
    peer: str,
    to: str,
    secret_file: str | None,
    token_file: str | None,
    ca_file: str | None,
    transport: str,
    raw: bool,
) -> None:
    """Connect standard input and output with those of another such pipe, through any NetBird relay.

    The other end runs the same with --peer and --to exchanged. Whoever starts first waits. Nothing is lost on the way,
    and each end sees when the other has no more. A relay can read what it passes on: encrypt it yourself if that
    matters.

    With --raw the other end can be anything that talks to relays; then some may be lost, and it never ends by itself.
    """
    # Here because nothing else of this command needs a reactor.
    from meshrelay.cli.relay_pipe import PipeTarget, run_pipe
    from meshrelay.relay_client.options import TransportMode

    mode = TransportMode(transport)
    if mode is TransportMode.QUIC and not raw:
        raise click.UsageError("--transport quic needs --raw: its datagrams are too small for the rest")
    if peer == to:
        raise click.UsageError("--peer and --to are the two ends: give them different names")
    tokens = _tokens(secret_file, token_file)
    run_pipe(PipeTarget(server, peer, to, tokens, ca_file, mode, raw))


def _tokens(secret_file: str | None, token_file: str | None) -> TokenSource | None:
    from meshrelay.relay_client.token_store import SecretTokens, TokenStore

    if secret_file is not None and token_file is not None:
        raise click.UsageError("give --secret-file or --token-file")
    try:
        if secret_file is not None:
            key = hmac_key(read_secret(secret_file))
            return SecretTokens(key, lambda: datetime.now(UTC).timestamp())
        if token_file is not None:
            return TokenStore(bytes.fromhex(Path(token_file).read_text("ascii").strip()))
    except (OSError, ValueError, ConfigError) as error:
        raise click.ClickException(str(error)) from error
    return None
