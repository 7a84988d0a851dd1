"""What pages name is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.docs.test_examples import ROOT

DOCS = ROOT / "docs"

#: Folders of the project, by which a path is known for one.
FOLDERS = "benchmarks|clients|docs|etc|examples|meshrelay|newsfragments|tests"


#: Paths that stand for any, and what is made by what a page says.
NOT_FILES = {"meshrelay/a/b.py", "tests/a/test_b.py", "docs/_build"}


def pages() -> Iterator[Path]:
    """All that people read; not what was decided once, which may name what is gone."""
    yield ROOT / "README.rst"
    yield from sorted((ROOT / "examples").rglob("*.rst"))
    yield from (page for page in sorted(DOCS.rglob("*.rst")) if "decisions" not in page.parts)


def missing_paths(text: str) -> list[str]:
    """The paths that a text names and that are not in the project."""
    named = re.findall(rf"``((?:{FOLDERS})/[\w./-]*)``", text)
    return [path for path in named if path not in NOT_FILES and not (ROOT / path).exists()]


class PathTests(SynchronousTestCase):
    """Files that pages name."""

    def test_paths(self) -> None:
        """Every file and folder that a page names is there."""
        found = {str(page.relative_to(ROOT)): missing_paths(page.read_text(encoding="utf-8")) for page in pages()}
        self.assertEqual({page: paths for page, paths in found.items() if paths}, {})

    def test_found(self) -> None:
        """A path that leads nowhere is found."""
        self.assertEqual(missing_paths("``docs/index.rst`` and ``etc/nothing.toml``"), ["etc/nothing.toml"])


class ReferenceTests(SynchronousTestCase):
    """docs/api."""

    def test_client(self) -> None:
        """Everything that is imported from the client library is on its page."""
        page = (DOCS / "api" / "client.rst").read_text(encoding="utf-8")
        modules = set(re.findall(r"(?m)^\.\. automodule:: (\S+)\n   :members:$", page))
        client: Any = import_module("meshrelay.client")
        for name in client.__all__:
            is_named = f".. autoclass:: meshrelay.client.{name}\n" in page
            self.assertTrue(is_named or getattr(client, name).__module__ in modules, name)

    def test_interfaces(self) -> None:
        """Everything that an application gets from the node is on its page."""
        page = (DOCS / "api" / "interfaces.rst").read_text(encoding="utf-8")
        interface = (ROOT / "meshrelay" / "interfaces" / "application.py").read_text(encoding="utf-8")
        names = {"IMeshRelay", *re.findall(r'Attribute\("`(I\w+)`"\)', interface)}
        self.assertEqual(set(re.findall(r":pyobject: (\w+)", page)), names | {"IMeshRelayApp"})


class LobbyPageTests(SynchronousTestCase):
    """docs/tutorial-lobby.rst."""

    def test_test(self) -> None:
        """The test that it shows runs, and shows what it is said to show."""
        from meshrelay.testing.node import make_node
        from tests.test_lobby_example import load_example

        text = (DOCS / "tutorial-lobby.rst").read_text(encoding="utf-8")
        (block,) = re.findall(r"\.\. code-block:: python\n\n((?:   .*\n)+)", text)
        source = re.sub(r"(?m)^   ", "", block)
        printed: list[Any] = []
        known = {"make_node": make_node, "lobby_app": load_example(), "print": printed.append}
        exec(compile(source, "tutorial", "exec"), known)
        ((push,),) = printed
        self.assertRegex(push, rb'^\{"lobby":"\S{52}"\}$')

    def test_numbers(self) -> None:
        """The page of the example uses the numbers of its application."""
        app = (ROOT / "examples" / "lobby" / "lobby_app.py").read_text(encoding="utf-8")
        page = (ROOT / "examples" / "lobby" / "lobby.js").read_text(encoding="utf-8")
        numbers = dict(re.findall(r"(?m)^const ([A-Z_]+) = (\d+);$", page))
        numbers.pop("MAX_LINES")
        expected = {"VER": "10"}
        for names, values in re.findall(r"(?m)^([A-Z_]+(?:, [A-Z_]+)+) = ([\d, ]+)$", app):
            expected.update(zip(names.split(", "), values.split(", "), strict=True))
        self.assertEqual(numbers, expected)
