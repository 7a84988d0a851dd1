"""Pages of the documentation that are made from the code."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import ErrorCode
from meshrelay.model import CloseReason

DOCS = Path(__file__).parent.parent.parent / "docs"


def generated_pages() -> dict[str, str]:
    """Return what docs/generate.py makes now."""
    spec = spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = module_from_spec(spec)
    spec.loader.exec_module(module)
    pages: dict[str, str] = module.pages()
    return pages


class GenerateTests(SynchronousTestCase):
    """What readers find is what the code says."""

    def test_up_to_date(self) -> None:
        """The pages are as the code makes them; ``python docs/generate.py`` writes them again."""
        for name, text in generated_pages().items():
            self.assertEqual((name, (DOCS / name).read_text(encoding="utf-8")), (name, text))

    def test_every_code(self) -> None:
        """Every close code and every error code is on the page."""
        page = generated_pages()["close-codes.rst"]
        for code, name in [(one.code, one.name) for one in CloseReason] + [(one.value, one.name) for one in ErrorCode]:
            self.assertIn(f"   * - {code}\n     - {name}\n", page)

    def test_error_classes(self) -> None:
        """An error code that the node can answer stands beside its exception and whose fault it is."""
        page = generated_pages()["close-codes.rst"]
        self.assertIn("   * - 22\n     - NOT_MEMBER\n     - BAD\n     - ``NotMember``\n", page)
        self.assertIn("   * - 12\n     - NODE_OFFLINE\n     - ERROR\n     - ``NodeOffline``\n", page)
