"""The ``meshrelay`` command: one module for each subcommand, imported when it is called.

``check_config``    everything that is wrong with a configuration
``default_config``  the sample configuration, or its reference page
``token``           a JWT to try things with
``ca``              a private CA and certificates for the links between nodes
``cluster``         the nodes of a cluster, their links, and the directory
``impair``          a bad network in front of any UDP or TCP port
``chat``            talk to a group or to one user, ``listen`` only reads a group, ``send`` only writes to it
``dm``              send something to one user
``ping``            how far away a node is
``relay``           tokens for a NetBird-compatible relay, and a pipe through one (``relay_pipe``)
``overlay``         who is in an overlay of peers, and messages to and from them
``punch``           what NAT there is, and whether peers are reached directly
``bench``           how fast and how evenly a node delivers (``bench_run``, ``bench_latency``, ``bench_report``,
                    ``bench_progress``)
``client_program``  what those that talk to others share: how they connect, and how they tell what went wrong
``terminal``        reading and writing lines while messages arrive

To add one, write a module whose `command` is a `click.Command` and name it in `COMMANDS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

import click

from meshrelay import __version__

__all__ = ["COMMANDS", "main"]

#: Name of the subcommand -> its module.
COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "bench": "meshrelay.cli.bench",
        "ca": "meshrelay.cli.ca",
        "chat": "meshrelay.cli.chat",
        "check-config": "meshrelay.cli.check_config",
        "cluster": "meshrelay.cli.cluster",
        "default-config": "meshrelay.cli.default_config",
        "dm": "meshrelay.cli.dm",
        "impair": "meshrelay.cli.impair",
        "listen": "meshrelay.cli.listen",
        "overlay": "meshrelay.cli.overlay",
        "ping": "meshrelay.cli.ping",
        "punch": "meshrelay.cli.punch",
        "relay": "meshrelay.cli.relay",
        "send": "meshrelay.cli.send",
        "token": "meshrelay.cli.token",
    }
)


class _LazyGroup(click.Group):
    """Imports a subcommand when it is asked for, so that ``check-config`` does not wait for a client library."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """See `click.Group`."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """See `click.Group`."""
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = import_module(module).command
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="meshrelay")
def main() -> None:
    """Try, check and talk to a meshrelay node. The node itself is started by `twistd -n meshrelay`."""
