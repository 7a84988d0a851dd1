"""What a program found goes into a page for people, between the program's own two markers."""

from __future__ import annotations

from pathlib import Path

__all__ = ["write_between"]


def write_between(page: Path, begin: str, end: str, text: str) -> None:
    """Put `text` between two markers of a page, in place of what stands there."""
    before, rest = page.read_text().split(begin)[0], page.read_text().split(end)[1]
    page.write_text(f"{before}{begin}\n{text}\n{end}{rest}")
