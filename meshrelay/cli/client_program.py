"""What the subcommands that talk to a node have in common: options, the way into a group, and running to the end.

A body is a coroutine that gets a signed-in client. Whatever ends it (its return, an error, Ctrl-C) the client says
GOODBYE and the process ends: status 0, or 1 with one line on standard error.
"""

from __future__ import annotations

import getpass
import secrets
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from meshrelay.client import Client, Connected
from meshrelay.errors import AlreadyMember, GroupNotFound, MeshRelayError
from meshrelay.wire.buffer import GROUP_ID_BYTES

__all__ = [
    "Body",
    "GROUP_HELP",
    "Target",
    "as_target",
    "enter_group",
    "node_options",
    "printable",
    "run",
    "run_on_reactor",
    "static_group_id",
]

F = TypeVar("F", bound=Callable[..., Any])

Body = Callable[[Any, Client, Connected], Coroutine[Deferred[Any], Any, None]]

DEFAULT_URL = "tcp://127.0.0.1:7200"

#: Lifetime of a group that is made because none was there.
_NEW_GROUP_TTL_SECONDS = 3600

GROUP_HELP = """--group takes a group ID of 52 characters, or a short NAME. Groups that are made while a node runs get
their IDs from it, so a NAME is looked up like this: if the operator has configured a static group whose ID is NAME
followed by dashes up to 52 characters, that is it. If not, you are put into a random group of this node: one that
others were put into in the same way, whatever name they gave, or a new one when there is none. The ID is printed; with
--group ID others
are sure to meet you."""


@dataclass(frozen=True, slots=True)
class Target:
    """Which node, and as whom."""

    url: str
    #: None: the token names the user.
    user: str | None
    token_file: str | None

    def token(self) -> str:
        """Read the token; again at each connect, for it may have been renewed."""
        assert self.token_file is not None
        return Path(self.token_file).read_text(encoding="ascii").strip()


def node_options(function: F) -> F:
    """Give a command the options that `as_target` takes."""
    for option in (
        click.option(
            "--token-file", type=click.Path(exists=True, dir_okay=False), help="File with a JWT; read at each connect."
        ),
        click.option(
            "--user", help="User ID.  [default: that of the token, or your login name and four random digits]"
        ),
        click.option(
            "--url", default=DEFAULT_URL, show_default=True, help="tcp://, tls://, ws://, wss://, udp+http(s)://"
        ),
    ):
        function = option(function)
    return function


def as_target(url: str, user: str | None, token_file: str | None) -> Target:
    """Fill in what was left out."""
    if user is None and token_file is None:
        # Two programs of one user would take each other's place at the node.
        user = f"{getpass.getuser()}-{secrets.token_hex(2)}"
    return Target(url, user, token_file)


def static_group_id(name: str) -> str:
    """Return the ID of the static group that a short name stands for; an ID stands for itself.

    :raises ValueError: it can be no ID.
    """
    group_id = name.ljust(GROUP_ID_BYTES, "-")
    if not name or len(group_id) != GROUP_ID_BYTES or not group_id.isascii() or not group_id.isprintable():
        raise ValueError(f"--group {name!r}: 1 to {GROUP_ID_BYTES} printable ASCII characters are needed")
    return group_id


async def enter_group(client: Client, name: str, greeting: bytes = b"") -> str:
    """Join the group that `name` stands for (see `GROUP_HELP`) and return its ID.

    :raises CommandError: the node refuses; `GroupNotFound` only when `name` is a whole ID.
    """
    group_id = static_group_id(name)
    try:
        await client.join_group(group_id, greeting)
    except AlreadyMember:
        return group_id
    except GroupNotFound:
        if group_id == name:
            raise
        _, group_id = await client.join_random_group(ttl_seconds=_NEW_GROUP_TTL_SECONDS, message=greeting)
    return group_id


def printable(text: bytes | str) -> str:
    """Return what others sent without anything that a terminal would obey."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


async def _signed_in(reactor: Any, target: Target, body: Body) -> None:
    client = Client(reactor, target.url, target.user, token=target.token if target.token_file else None)
    try:
        await body(reactor, client, await client.connect())
    finally:
        await client.close()


def run(target: Target, body: Body) -> None:
    """Sign in, run `body` and end the process; Ctrl-C cancels what `body` waits for."""
    run_on_reactor(
        lambda reactor: _signed_in(reactor, target, body),
        lambda error, is_stopping: error.check(CancelledError) is not None,
    )


def run_on_reactor(
    main: Callable[[Any], Coroutine[Any, Any, None]], is_expected: Callable[[Failure, bool], bool]
) -> None:
    """Run ``main(reactor)`` and end the process: status 0, or 1 with a line on stderr; Ctrl-C cancels it.

    :param is_expected: ``is_expected(failure, is_stopping)`` -> True: it is not worth a word.
    """
    # The reactor of a program is chosen by the program.
    from twisted.internet import reactor as global_reactor  # noqa: TID251

    reactor: Any = global_reactor
    problems: list[str] = []
    running: list[Deferred[None]] = []
    stopping: list[bool] = []

    def note(error: Failure) -> None:
        if is_expected(error, bool(stopping)):
            return
        is_ours = error.check(MeshRelayError, ValueError, OSError)
        problems.append(error.getErrorMessage() if is_ours else error.getTraceback())

    def stop(_: None) -> None:
        running.clear()
        if reactor.running and not stopping:
            reactor.stop()

    def begin() -> None:
        running.append(Deferred.fromCoroutine(main(reactor)))
        running[0].addErrback(note).addBoth(stop)

    def interrupted() -> Deferred[None] | None:
        stopping.append(True)
        if not running:
            return None
        ended: Deferred[None] = Deferred()
        running[0].addBoth(lambda _: ended.callback(None))
        running[0].cancel()
        return ended

    reactor.callWhenRunning(begin)
    reactor.addSystemEventTrigger("before", "shutdown", interrupted)
    reactor.run()
    if problems:
        click.echo(f"meshrelay: {problems[0].strip()}", err=True)
        sys.exit(1)
