"""meshrelay default-config."""

from __future__ import annotations

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.cli.default_config import command
from meshrelay.config.load import parse_config
from meshrelay.config.sample import reference_page
from meshrelay.config.schema import Config


class DefaultConfigTests(SynchronousTestCase):
    """A file to start from."""

    def test_toml(self) -> None:
        """What is printed can be saved as a configuration and changes nothing."""
        result = CliRunner().invoke(command, [])
        self.assertEqual(result.exit_code, 0)
        self.assertEqual(parse_config(result.stdout), Config())

    def test_rst(self) -> None:
        """The reference page is printed on demand."""
        self.assertEqual(CliRunner().invoke(command, ["--format", "rst"]).stdout, reference_page())
