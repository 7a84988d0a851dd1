"""Descriptions of keys."""

from __future__ import annotations

from typing import Annotated

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.config.describing import describe, describe_made_file


class DescribeTests(SynchronousTestCase):
    """What programs read of a key."""

    def test_bounds(self) -> None:
        """A number is held between its bounds."""
        kind = Annotated[int, describe("a number", ge=1, le=2)]
        self.assertEqual(msgspec.convert(2, kind), 2)
        for wrong in (0, 3):
            self.assertRaises(msgspec.ValidationError, msgspec.convert, wrong, kind)

    def test_pattern(self) -> None:
        """A text matches as a whole, line ends included."""
        kind = Annotated[str, describe("a text", pattern="a|bc")]
        self.assertEqual(msgspec.convert("bc", kind), "bc")
        for wrong in ("abc", "bc\n", "b", ""):
            self.assertRaises(msgspec.ValidationError, msgspec.convert, wrong, kind)

    def test_extra(self) -> None:
        """What no type can say is kept beside it."""
        meta = describe("a file", form="a path", empty="none", reload=True, file=True)
        self.assertEqual(meta.description, "a file")
        self.assertEqual(meta.extra, {"form": "a path", "empty": "none", "reload": True, "file": True})

    def test_made_file(self) -> None:
        """A file that the node makes is a file all the same."""
        extra = describe_made_file("a file", "none").extra or {}
        self.assertEqual((extra["file"], extra["made"], extra["empty"]), (True, True, "none"))
