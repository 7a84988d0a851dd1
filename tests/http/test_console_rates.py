"""Which groups are busy."""

from __future__ import annotations

from meshrelay.http import console_rates
from meshrelay.http.console_rates import LEAST_SECONDS, GroupRates
from tests.http.console_kit import ConsoleTestCase


class GroupRatesTests(ConsoleTestCase):
    """Groups of a node in memory."""

    def setUp(self) -> None:
        """Two groups with two members each."""
        super().setUp()
        self.rates = GroupRates(self.node.groups.table, self.clock)
        self.ann, self.bob = self.node.sign_in("ann"), self.node.sign_in("bob")
        self.one, self.two = self.ann.create_group(), self.ann.create_group()
        for group in (self.one, self.two):
            self.bob.join(group)

    def say(self, group: str, count: int) -> None:
        """Broadcast so many messages."""
        for _ in range(count):
            self.ann.broadcast(group, b"hello")
        self.node.settle()

    def test_counts(self) -> None:
        """The busiest group comes first, with messages and bytes for each second since the last look."""
        self.rates.start()
        self.say(self.one, 4)
        self.say(self.two, 10)
        self.clock.advance(2)
        rates = self.rates.take()
        self.assertEqual([(group, rate.messages) for group, rate in rates.items()], [(self.two, 5.0), (self.one, 2.0)])
        self.assertGreater(rates[self.two].bytes, 5 * 52)
        self.clock.advance(1)
        self.assertEqual(self.rates.take(), {})

    def test_two_readers(self) -> None:
        """Two consoles that look one right after the other see the same, and neither takes it from the other."""
        self.rates.start()
        for _ in range(3):
            self.say(self.one, 5)
            self.clock.advance(1 - LEAST_SECONDS / 2)
            first = self.rates.take()
            self.say(self.two, 1)
            self.clock.advance(LEAST_SECONDS / 2)
            self.assertIs(self.rates.take(), first)
            self.assertEqual(next(iter(first)), self.one)
        self.clock.advance(LEAST_SECONDS)
        self.assertEqual([rate.messages for rate in self.rates.take().values()], [1.3])
        self.rates.stop()
        self.rates.start()
        self.say(self.one, 1)
        self.clock.advance(0.1)
        self.assertEqual(list(self.rates.take()), [self.one])

    def test_nothing_while_nobody_looks(self) -> None:
        """Groups are left alone before and after, and whoever listened there before still does."""
        heard = []
        table = self.node.groups.table
        first, second = table.find(self.one), table.find(self.two)
        assert first is not None
        assert second is not None
        tap = first.tap = lambda group, frames, sender, count: heard.append(count)
        self.rates.start()
        self.rates.start()
        self.say(self.one, 1)
        self.rates.stop()
        self.say(self.one, 1)
        self.assertEqual(heard, [1, 1])
        self.assertIs(first.tap, tap)
        self.assertIsNone(second.tap)
        self.assertEqual(len(self.rates), 0)

    def test_groups_come_and_go(self) -> None:
        """A group that is made meanwhile counts, one that is gone is forgotten."""
        self.rates.start()
        third = self.ann.create_group()
        self.say(third, 1)
        self.assertIn(third, self.rates.take())
        self.ann.leave(third)
        self.node.settle()
        self.assertEqual(len(self.rates), 2)

    def test_bound(self) -> None:
        """No more groups are counted than there is room for."""
        self.patch(console_rates, "MAX_COUNTED", 1)
        self.rates.start()
        self.ann.create_group()
        self.assertEqual(len(self.rates), 1)
