"""The lists of what shows that the relay is NetBird's, and the overlay peer-relay's."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parent.parent.parent


class AcceptanceTests(SynchronousTestCase):
    """The pages name tests that are there."""

    def test_relay(self) -> None:
        """Each test that the page of the relay names exists."""
        self.check("relay-acceptance.rst", 150)

    def test_overlay(self) -> None:
        """Each test that the page of the overlay names exists."""
        self.check("overlay-acceptance.rst", 100)

    def check(self, page: str, least: int) -> None:
        """Each test that a page names exists, in the class itself or in the one that it is made from."""
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        named = re.findall(r"``(tests(?:\.\w+)+)\.(\w+Tests)\.(test_\w+)``", text)
        self.assertGreater(len(named), least)
        known = {module: self.known_tests(module) for module, _, _ in named}
        self.assertEqual([name for name in named if ".".join(name[1:]) not in known[name[0]]], [])

    def known_tests(self, module: str) -> set[str]:
        """The tests of a module, as class and method."""
        path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
        found: dict[str, set[str]] = {}
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                inherited = [found.get(base.id, set()) for base in node.bases if isinstance(base, ast.Name)]
                own = {each.name for each in node.body if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))}
                found[node.name] = own.union(*inherited)
        return {f"{name}.{test}" for name, tests in found.items() for test in tests}
