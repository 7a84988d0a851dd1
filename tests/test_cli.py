"""The meshrelay command as a whole."""

from __future__ import annotations

from importlib import import_module

import click
from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from meshrelay import __version__
from meshrelay.cli import COMMANDS, main


class MainTests(SynchronousTestCase):
    """The group of subcommands."""

    def test_version(self) -> None:
        """--version tells the version of the package."""
        result = CliRunner().invoke(main, ["--version"])
        self.assertEqual((result.exit_code, result.output), (0, f"meshrelay, version {__version__}\n"))

    def test_help(self) -> None:
        """Each subcommand is listed with a line of help."""
        result = CliRunner().invoke(main, ["--help"])
        self.assertEqual(result.exit_code, 0)
        for name in COMMANDS:
            self.assertRegex(result.output, rf"(?m)^  {name} +\S")

    def test_every_command(self) -> None:
        """Each name in the table leads to a command of that name."""
        for name, module in COMMANDS.items():
            command = import_module(module).command
            self.assertIsInstance(command, click.Command)
            self.assertEqual(command.name, name)

    def test_unknown(self) -> None:
        """A subcommand that does not exist is a usage error."""
        result = CliRunner().invoke(main, ["chek-config"])
        self.assertEqual(result.exit_code, 2)
        self.assertIn("No such command", result.output)
