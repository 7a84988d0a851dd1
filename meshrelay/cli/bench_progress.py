"""How far a run of ``meshrelay bench`` is: bars with the extra ``rich`` on a terminal, else a line for each stage."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import click

from meshrelay.cli.bench_run import Progress

__all__ = ["PlainProgress", "RichProgress", "SilentProgress", "open_progress"]


class SilentProgress:
    """Says nothing."""

    def stage(self, name: str, total: int) -> None:
        """See `Progress`."""

    def advance(self, steps: int) -> None:
        """See `Progress`."""


class PlainProgress(SilentProgress):
    """A line on standard error for each stage."""

    def stage(self, name: str, total: int) -> None:
        """See `Progress`."""
        click.echo(f"{name}: {total:,}" if total else name, err=True)


class RichProgress:
    """Bars.

    :param bars: `rich.progress.Progress`.
    """

    def __init__(self, bars: Any) -> None:
        self._bars = bars
        self._task: Any = None

    def stage(self, name: str, total: int) -> None:
        """See `Progress`."""
        self._task = self._bars.add_task(name, total=total or None)

    def advance(self, steps: int) -> None:
        """See `Progress`."""
        self._bars.advance(self._task, steps)


@contextmanager
def open_progress(is_quiet: bool) -> Iterator[Progress]:
    """Show how far it is until the end of the block."""
    if is_quiet:
        yield SilentProgress()
    elif not sys.stderr.isatty() or find_spec("rich") is None:
        yield PlainProgress()
    else:
        from rich.console import Console
        from rich.progress import Progress as Bars

        with Bars(console=Console(stderr=True)) as bars:
            yield RichProgress(bars)
