"""Golden vectors, written or computed without our own encoders; each file names its source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["load_vectors"]


def load_vectors(name: str) -> dict[str, Any]:
    """Return the vectors of ``name.json``."""
    text = (Path(__file__).parent / f"{name}.json").read_text("utf-8")
    vectors: dict[str, Any] = json.loads(text)
    return vectors
