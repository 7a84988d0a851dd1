"""``meshrelay check-config FILE``: everything that is wrong with a configuration, without starting a node."""

from __future__ import annotations

import os

import click

from meshrelay.config.load import read_config
from meshrelay.errors import ConfigError

__all__ = ["command"]


@click.command(name="check-config")
@click.argument("file", required=False, type=click.Path())
def command(file: str | None) -> None:
    """Check FILE together with the environment, as a node would.

    Without FILE only the environment is checked. Exit status 1: each problem is a line on standard error.
    """
    try:
        read_config(file, os.environ)
    except ConfigError as error:
        click.echo(str(error), err=True)
        raise SystemExit(1) from None
    click.echo(f"{file or 'environment'}: ok")
