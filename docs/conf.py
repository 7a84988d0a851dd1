"""How Sphinx builds the documentation: ``sphinx-build -W docs docs/_build``."""

from __future__ import annotations

import re
from pathlib import Path

_INIT = Path(__file__).parent.parent / "meshrelay" / "__init__.py"
_VERSION = re.search(r'^__version__ = "([^"]+)"', _INIT.read_text(encoding="utf-8"), re.MULTILINE)

project = "meshrelay"
author = "the meshrelay developers"
copyright = "the meshrelay developers"  # Sphinx takes it by this name
release = _VERSION[1] if _VERSION is not None else ""
version = release

extensions = ["sphinx.ext.autodoc"]
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"meshrelay {release}"
html_show_sourcelink = False
highlight_language = "none"
smartquotes = False
