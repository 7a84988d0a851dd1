"""``meshrelay cluster status``: the nodes of a cluster, their links, and the directory, for people and for machines.

::

    GET /cluster of one node --JSON--> checked --> tables, or the same JSON

Exit status: 0 all is well; 1 a node does not answer, a link is down or the directory is away; 2 nobody was asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

import click
import msgspec

from meshrelay.cli.client_program import printable
from meshrelay.http.node_status import NO_ANSWER, LinkStatus, NodeStatus

__all__ = ["CannotAsk", "ClusterDocument", "DirectoryState", "command", "fetch", "problems", "status_lines"]

DEFAULT_URL = "http://127.0.0.1:7000"

#: A node gives its own answer within 5 seconds.
ANSWER_SECONDS = 10.0

#: Ten thousand links take about a fifth of it.
MAX_ANSWER_BYTES = 16 << 20

#: Of what a node said about a refusal.
_MAX_REFUSAL_BYTES = 1000

EXIT_TROUBLE = 1
EXIT_CANNOT_ASK = 2

#: Opens a request within so many seconds; may raise OSError.
Opener = Callable[[Request, float], IO[bytes]]


class DirectoryState(msgspec.Struct, frozen=True):
    """The directory as the asked node sees it."""

    kind: str
    state: str
    counts: dict[str, int] = {}


class ClusterDocument(msgspec.Struct, frozen=True):
    """What ``GET /cluster`` answers."""

    #: ID of the node that was asked.
    asked: str
    nodes: list[NodeStatus]
    directory: DirectoryState


class CannotAsk(click.ClickException):
    """The node cannot be reached, refuses, or answers something else."""

    exit_code = EXIT_CANNOT_ASK


class _NoRedirect(HTTPRedirectHandler):
    """A redirection would carry the key to somebody else."""

    def redirect_request(self, *args: Any) -> None:
        """See `urllib.request.HTTPRedirectHandler`: the redirection stays the answer."""


def _open(request: Request, seconds: float) -> IO[bytes]:
    answer: IO[bytes] = build_opener(_NoRedirect(), ProxyHandler({})).open(request, timeout=seconds)
    return answer


def fetch(url: str, key: str, opener: Opener = _open) -> bytes:
    """Return what the node at `url` answers, as it stands.

    :param url: of the HTTP port, without a path.
    :param key: of the operator; "" = none.
    :raises CannotAsk: it answers nothing, or refuses.
    """
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise CannotAsk(f"{url} is no http:// or https:// URL")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with opener(Request(url.rstrip("/") + "/cluster", headers=headers), ANSWER_SECONDS) as answer:
            content = answer.read(MAX_ANSWER_BYTES + 1)
    except HTTPError as error:
        with error:
            raise CannotAsk(f"{url} answers {error.code}: {_refusal_text(error)}") from error
    except (OSError, HTTPException, ValueError) as error:
        why = getattr(error, "reason", None) or str(error) or type(error).__name__
        raise CannotAsk(f"cannot ask {url}: {why}") from error
    if len(content) > MAX_ANSWER_BYTES:
        raise CannotAsk(f"{url} answers more than {MAX_ANSWER_BYTES} bytes")
    return content


def _refusal_text(error: HTTPError) -> str:
    content = error.read(_MAX_REFUSAL_BYTES)
    try:
        text = msgspec.json.decode(content, type=dict[str, str])["error"]
    except (msgspec.DecodeError, KeyError, ValueError):
        text = error.reason
    return printable(str(text))


def decode(content: bytes) -> ClusterDocument:
    """Read the document.

    :raises CannotAsk: it is none; something else listens there.
    """
    try:
        return msgspec.json.decode(content, type=ClusterDocument)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise CannotAsk(f"this is not the answer of a node: {printable(str(error))}") from error


def problems(document: ClusterDocument) -> list[str]:
    """Return what is wrong with a cluster, a sentence for each; empty: nothing."""
    found = [f"node {node.id} does not answer" for node in document.nodes if node.state == NO_ANSWER]
    found += [
        f"the link from {node.id} to {link.to} is {link.state}"
        for node in document.nodes
        for link in node.links
        if link.state != "up"
    ]
    if document.directory.state != "up":
        found.append(f"the directory is {document.directory.state}")
    return found


class _Table(NamedTuple):
    heads: tuple[str, ...]
    rows: list[tuple[str, ...]]


def _shown(value: float | str | None, form: str = "") -> str:
    return "-" if value is None or value == "" else format(value, form)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    minutes, _ = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours}h"
    return f"{hours}h {minutes}m" if hours else f"{minutes}m {int(seconds) % 60}s"


def _node_row(node: NodeStatus) -> tuple[str, ...]:
    places = " ".join(f"{kind}={place}" for kind, place in sorted(node.places.items()))
    return (
        node.id,
        node.state,
        _shown(node.load, ".0%"),
        _shown(node.users),
        _shown(node.groups),
        _duration(node.uptime_seconds),
        _shown(node.version),
        _shown(node.mesh_endpoint),
        _shown(places),
    )


def _link_row(node_id: str, link: LinkStatus) -> tuple[str, ...]:
    return (
        node_id,
        link.to,
        link.state,
        _shown(link.rtt_ms, ".3f"),
        _shown(link.queued_bytes),
        _shown(link.queued_messages),
        _shown(link.dropped_messages),
        _shown(link.resent_batches),
    )


_NODE_HEADS = ("NODE", "STATE", "LOAD", "USERS", "GROUPS", "UP FOR", "VERSION", "MESH", "PLACES")
_LINK_HEADS = ("FROM", "TO", "STATE", "RTT MS", "QUEUED BYTES", "QUEUED MESSAGES", "DROPPED", "RESENT BATCHES")


def _columns(table: _Table) -> list[str]:
    lines = [tuple(printable(cell) for cell in row) for row in (table.heads, *table.rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in lines]


def status_lines(document: ClusterDocument) -> list[str]:
    """Return the document as tables for people, and what is wrong below them."""
    nodes = _Table(_NODE_HEADS, [_node_row(node) for node in document.nodes])
    links = _Table(_LINK_HEADS, [_link_row(node.id, link) for node in document.nodes for link in node.links])
    lines = _columns(nodes)
    if links.rows:
        lines += ["", *_columns(links)]
    left_out = sum(node.links_left_out for node in document.nodes)
    if left_out:
        lines.append(f"and {left_out} links that are up")
    directory = document.directory
    counts = " ".join(f"{name}={value}" for name, value in sorted(directory.counts.items()))
    lines += ["", printable(f"directory {directory.kind}: {directory.state} {counts}".rstrip())]
    lines += _advice(printable(problem) for problem in problems(document))
    return lines


def _advice(found: Iterable[str]) -> list[str]:
    lines = [f"! {problem}" for problem in found]
    return ["", *lines] if lines else []


@click.group(name="cluster")
def command() -> None:
    """Look at the nodes of a cluster."""


@command.command(name="status")
@click.option("--url", default=DEFAULT_URL, show_default=True, help="HTTP port of any node.")
@click.option(
    "--key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the key of http.admin_key_file; not needed on the machine of the node.",
)
@click.option("--json", "as_json", is_flag=True, help="For machines: the answer of the node as it stands.")
@click.pass_context
def status_command(context: click.Context, url: str, key_file: Path | None, as_json: bool) -> None:
    """Show nodes, links and the directory.

    Exit status 1: a node does not answer, a link is down, or the directory is away. 2: nothing could be asked.
    """
    content = fetch(url, _read_key(key_file))
    document = decode(content)
    click.echo(content.decode("utf-8") if as_json else "\n".join(status_lines(document)))
    context.exit(EXIT_TROUBLE if problems(document) else 0)


def _read_key(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise CannotAsk(f"cannot read {path}: {error}") from error
