"""Examples of the documentation."""

from __future__ import annotations

import ast
from pathlib import Path
from textwrap import dedent, indent

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parent.parent.parent


class ExampleTests(SynchronousTestCase):
    """What readers copy."""

    def test_browser(self) -> None:
        """The program for browsers is the same in README and tutorial."""
        program = (ROOT / "docs" / "examples" / "hello.js").read_text(encoding="utf-8")
        self.assertIn(indent(program, "   "), (ROOT / "README.rst").read_text(encoding="utf-8"))

    def test_python(self) -> None:
        """The Python programs of README and tutorial can be parsed."""
        parts = (ROOT / "README.rst").read_text(encoding="utf-8").split(".. code-block:: python\n")[1:]
        blocks = [dedent("\n".join(self.indented_lines(part))) for part in parts]
        self.assertEqual(len(blocks), 2)
        for source in (*blocks, (ROOT / "docs" / "examples" / "hello.py").read_text(encoding="utf-8")):
            ast.parse(source)

    def indented_lines(self, text: str) -> list[str]:
        """Return the lines up to the first one that is not indented."""
        lines = []
        for line in text.splitlines():
            if line and not line.startswith("   "):
                break
            lines.append(line)
        return lines
