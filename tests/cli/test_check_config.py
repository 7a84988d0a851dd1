"""meshrelay check-config."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.cli.check_config import command


class CheckConfigTests(SynchronousTestCase):
    """Checking a file without starting a node."""

    def write(self, text: str) -> str:
        """Return the path of a new file."""
        path = Path(self.mktemp())
        path.write_text(text)
        return str(path)

    def test_ok(self) -> None:
        """A file without a mistake is called ok."""
        path = self.write("[session]\nreplay_bytes = 5\n")
        result = CliRunner().invoke(command, [path])
        self.assertEqual((result.exit_code, result.stdout, result.stderr), (0, f"{path}: ok\n", ""))

    def test_problems(self) -> None:
        """Every mistake is a line on standard error, and the exit status is 1."""
        result = CliRunner().invoke(command, [self.write("[session]\nreplay_bytes = -1\noutbox = 3\n")])
        self.assertEqual((result.exit_code, result.stdout), (1, ""))
        paths = [line.partition(":")[0] for line in result.stderr.splitlines()]
        self.assertEqual(paths, ["session.replay_bytes", "session.outbox"])

    def test_environment(self) -> None:
        """The environment is checked as well, also alone."""
        result = CliRunner(env={"MESHRELAY_NODE__WORKER": "1"}).invoke(command, [])
        self.assertEqual(result.exit_code, 1)
        self.assertIn("MESHRELAY_NODE__WORKER: no such key", result.stderr)

    def test_missing(self) -> None:
        """A file that is not there is told, without a traceback."""
        result = CliRunner().invoke(command, ["gone.toml"])
        self.assertEqual(result.exit_code, 1)
        self.assertEqual(result.stderr, "cannot read gone.toml: No such file or directory\n")
