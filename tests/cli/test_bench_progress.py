"""Tests of `meshrelay.cli.bench_progress`."""

from __future__ import annotations

import io
import sys

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.cli.bench_progress import PlainProgress, RichProgress, SilentProgress, open_progress


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class _Bars:
    """As much of `rich.progress.Progress` as is used."""

    def __init__(self) -> None:
        self.done: list[tuple[str, object]] = []

    def add_task(self, name: str, total: int | None) -> str:
        """See rich."""
        self.done.append((name, total))
        return name

    def advance(self, task: str, steps: int) -> None:
        """See rich."""
        self.done.append((task, steps))


class ProgressTests(SynchronousTestCase):
    """How far it is."""

    def test_plain(self) -> None:
        """Where nobody watches there is a line for each stage."""
        told = io.StringIO()
        self.patch(sys, "stderr", told)
        with open_progress(is_quiet=False) as progress:
            self.assertIsInstance(progress, PlainProgress)
            progress.stage("sending", 1000)
            progress.advance(10)
            progress.stage("waiting", 0)
        self.assertEqual(told.getvalue(), "sending: 1,000\nwaiting\n")

    def test_quiet(self) -> None:
        """Or nothing."""
        with open_progress(is_quiet=True) as progress:
            self.assertIsInstance(progress, SilentProgress)
            self.assertNotIsInstance(progress, PlainProgress)

    def test_bars(self) -> None:
        """Steps go to the bar of the stage; one whose end nobody knows has no total."""
        bars = _Bars()
        progress = RichProgress(bars)
        progress.stage("sending", 5)
        progress.advance(2)
        progress.stage("waiting", 0)
        self.assertEqual(bars.done, [("sending", 5), ("sending", 2), ("waiting", None)])

    def test_terminal(self) -> None:
        """On a terminal there are bars, where the library is."""
        try:
            import rich  # noqa: F401
        except ImportError:
            self.skipTest("missing: rich")
        self.patch(sys, "stderr", _Terminal())
        with open_progress(is_quiet=False) as progress:
            self.assertIsInstance(progress, RichProgress)
