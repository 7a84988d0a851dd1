"""``meshrelay bench``: many clients against a running node, and how fast and how evenly it delivers.

::

    options -> BenchPlan -> bench_run -> BenchResult -> bench_report: lines, --json, --plot
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec
from twisted.internet.defer import CancelledError

from meshrelay.cli.bench_progress import open_progress
from meshrelay.cli.bench_report import can_plot, draw, report_lines, report_values
from meshrelay.cli.bench_run import MIN_SIZE, BenchPlan, BenchResult, BenchRun
from meshrelay.cli.client_program import DEFAULT_URL, run_on_reactor
from meshrelay.cli.token import make_token
from meshrelay.client import Client, ClientOptions
from meshrelay.client.address import parse_url
from meshrelay.config.files import read_secret
from meshrelay.errors import ConfigError
from meshrelay.open_files import raise_open_files_limit

__all__ = ["client_maker", "command"]

MAX_CLIENTS = 20_000
MAX_RATE = 1_000_000.0
MAX_SIZE = 65_000
MAX_SECONDS = 3600.0

#: Descriptors of the process beside those of its clients.
SPARE_FILES = 50

#: A token is good for so much longer than the run.
_TOKEN_SPARE_SECONDS = 600.0


def client_maker(reactor: Any, urls: tuple[str, ...], secret: bytes | None, seconds: float) -> Callable[[int], Client]:
    """Return what makes the client of a number; clients take turns at the URLs.

    :param secret: signs a token for each (HS256); None: the node asks for none.
    :param seconds: how long tokens must be good for.
    """
    prefix = f"bench-{secrets.token_hex(3)}"
    options = ClientOptions(reconnect=False, connect_timeout_seconds=30.0, max_pending_requests=100_000)

    def make(number: int) -> Client:
        user = f"{prefix}-{number}"
        token = None
        if secret is not None:
            token = make_token({"sub": user}, secret, "HS256", datetime.now(UTC), seconds + _TOKEN_SPARE_SECONDS)
        return Client(reactor, urls[number % len(urls)], user, token=token, acks=False, resume=False, options=options)

    return make


def _check(urls: tuple[str, ...], clients: int, plot: Path | None) -> None:
    for url in urls:
        try:
            parse_url(url)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--url") from None
    if plot is not None and not can_plot():
        raise click.UsageError("--plot needs matplotlib: pip install 'meshrelay[benchmarks]'")
    files = raise_open_files_limit() - SPARE_FILES
    if clients > files:
        raise click.BadParameter(f"the limit of open files allows {files}", param_hint="--clients")


def _tell(plan: BenchPlan, result: BenchResult, is_json: bool, plot: Path | None) -> None:
    if is_json:
        click.echo(msgspec.json.encode(report_values(plan, result)))
    else:
        for line in report_lines(plan, result):
            click.echo(line)
    if plot is not None:
        draw(plan, result, plot)


@click.command(name="bench")
@click.option(
    "--url",
    "urls",
    multiple=True,
    default=(DEFAULT_URL,),
    show_default=True,
    help="tcp://, ws://, udp+http://, with TLS tls://, wss://, udp+https://. Repeat it to spread clients over nodes.",
)
@click.option("--mode", type=click.Choice(["fanout", "direct"]), default="fanout", show_default=True, help="See above.")
@click.option("--clients", type=click.IntRange(2, MAX_CLIENTS), default=100, show_default=True)
@click.option("--size", type=click.IntRange(MIN_SIZE, MAX_SIZE), default=128, show_default=True, help="Bytes.")
@click.option(
    "--rate",
    type=click.FloatRange(0.1, MAX_RATE),
    default=100.0,
    show_default=True,
    help="Messages a second, of all clients together.",
)
@click.option("--seconds", type=click.FloatRange(0.5, MAX_SECONDS), default=10.0, show_default=True)
@click.option("--secret-file", type=click.Path(), help="Secret of the node (HS256), where it asks for tokens.")
@click.option("--json", "is_json", is_flag=True, help="One JSON object.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw latencies; .png, .svg or .pdf.")
@click.option("--quiet", "is_quiet", is_flag=True, help="Do not tell how far it is.")
def command(
    urls: tuple[str, ...], secret_file: str | None, is_json: bool, plot: Path | None, is_quiet: bool, **of_plan: Any
) -> None:
    """Measure a running node with many clients.

    fanout: all join one group and take turns at broadcasting, so each message is delivered to all others. direct: each
    sends direct messages to the next one.

    The clients are one process on one processor: watch it, and where it is the one that is busy run several at the same
    time, with fewer clients each, best from another machine.
    """
    plan = BenchPlan(**of_plan)
    _check(urls, plan.clients, plot)
    try:
        secret = read_secret(secret_file) if secret_file is not None else None
    except ConfigError as error:
        raise click.BadParameter(str(error), param_hint="--secret-file") from None

    async def main(reactor: Any) -> None:
        make_client = client_maker(reactor, urls, secret, plan.seconds)
        with open_progress(is_quiet) as progress:
            result = await BenchRun(reactor, plan, secrets.token_bytes(8), make_client, progress).run()
        _tell(plan, result, is_json, plot)

    run_on_reactor(main, lambda error, is_stopping: error.check(CancelledError) is not None)
