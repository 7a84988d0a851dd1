"""A node that is read while somebody wants to know."""

from __future__ import annotations

from meshrelay.http.console_live import READER_SECONDS
from tests.http.console_kit import ConsoleTestCase


class LiveNodeTests(ConsoleTestCase):
    """A node in memory."""

    def test_until_nobody_asks(self) -> None:
        """Who reads again and again keeps it going, until five seconds after the last time."""
        self.read()
        self.seconds(4)
        self.read()
        self.seconds(4)
        self.assertTrue(self.console.own.is_read)
        self.seconds(2)
        self.assertFalse(self.console.own.is_read)

    def test_groups_are_left_alone(self) -> None:
        """Groups are counted from the first question to the end, and then are as they were."""
        ann = self.node.sign_in("ann")
        group = self.node.groups.table.find(ann.create_group())
        assert group is not None
        self.read()
        self.assertIsNotNone(group.tap)
        self.seconds(int(READER_SECONDS) + 1)
        self.assertIsNone(group.tap)
        self.read()
        self.assertIsNotNone(group.tap)
        self.console.own.stop()
        self.assertEqual((group.tap, self.console.own.is_read), (None, False))

    def test_everything(self) -> None:
        """What was and what is come together, with the names of what stands in a sample."""
        self.seconds(3)
        told = self.read()
        self.assertEqual([len(sample) for sample in told["samples"]], [len(told["columns"])] * 3)
        self.assertEqual((told["interval_seconds"], told["step_seconds"]), (1.0, 1.0))
        self.assertEqual(told["state"]["sample"], told["samples"][-1])

    def test_part(self) -> None:
        """Who adds up is told only the samples that it has not got yet."""
        self.seconds(4)
        part = self.console.own.part(2, 0.0)
        self.assertEqual(([sample.at for sample in part.samples], part.state["consoles"]), ([1.0, 2.0, 3.0, 4.0], 2))
        self.assertEqual([sample.at for sample in self.console.own.part(0, 3.0).samples], [4.0])

    def test_a_part_asks_nobody(self) -> None:
        """A process that is a part of a node leaves it to another one to ask the cluster."""
        sources = self.sources._replace(read_cluster=None)
        console = self.make_console(sources)
        console.own.part(0, 0.0)
        self.seconds(3)
        self.assertEqual((self.asked, console.own.read(0)["cluster"]), (0, None))
        console.own.stop()
