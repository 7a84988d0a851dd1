"""A hundred nodes in one process: a broadcast reaches each member once, whatever happens to the links."""

from __future__ import annotations

from tests.components.tree_kit import TreeKit

NODES = 100


class HundredNodesTests(TreeKit):
    """What holds on a few nodes holds on a hundred; about half a minute."""

    def test_hundred(self) -> None:
        """Every message reaches each of a hundred nodes once and in order, on lossy lines of which some are cut."""
        cluster = self.run_tree(NODES, 5, 0.02, True)
        counts = [cluster[name].groups.statistics() for name in cluster.node_ids]
        casts = sum(each["group_casts"] for each in counts)
        passed = sum(each["group_casts_passed_on"] for each in counts)
        # An origin writes to two; all the others get it from one of those that got it before.
        self.assertGreater(passed, casts * (NODES - 10))
        self.assertEqual(sum(each["group_casts_lost"] for each in counts), 0)
