"""IDs of groups and rooms."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.components.place_ids import home_key, new_place_id, node_key


class PlaceIdTests(SynchronousTestCase):
    """Who made an ID can be read from it."""

    def test_new(self) -> None:
        """An ID has 52 lower-case letters and digits, and names its node."""
        place_id = new_place_id(node_key("n1"), bytes)
        self.assertRegex(place_id, r"\A[a-z2-7]{52}\Z")
        self.assertEqual(home_key(place_id), node_key("n1"))
        self.assertNotEqual(home_key(place_id), node_key("n2"))

    def test_random(self) -> None:
        """Two IDs of one node differ by what was random."""
        one, other = (new_place_id(node_key("n1"), fill.__mul__) for fill in (b"a", b"b"))
        self.assertNotEqual(one, other)

    def test_foreign(self) -> None:
        """What no node made names no node, whatever it is."""
        for text in ("", "?" * 52, "1" * 52, "\u00e9" * 52, "a"):
            self.assertNotEqual(home_key(text), node_key("n1"))
