"""Sending everybody away."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.model import CloseReason
from meshrelay.session.drain import LINGER_SECONDS, MIN_BATCH, Drain
from meshrelay.testing.node import MemoryClient, MemoryNode, make_node


class DrainTests(SynchronousTestCase):
    """The end of service."""

    def clients_of(self, node: MemoryNode, count: int) -> list[MemoryClient]:
        """Sign in `count` users."""
        return [node.sign_in(f"user-{index}") for index in range(count)]

    def test_nobody_there(self) -> None:
        """A node without clients is done at once."""
        node = make_node()
        self.successResultOf(Drain(node.reception, node.alarms, 10.0).start())

    def test_goodbye(self) -> None:
        """Every client, signed in or not, reads DRAINING; the node is done when all are gone."""
        node = make_node()
        clients = [*self.clients_of(node, 3), node.connect()]
        done = Drain(node.reception, node.alarms, 10.0).start()
        self.assertNoResult(done)
        self.assertEqual({client.link.close_reason for client in clients}, {CloseReason.DRAINING})
        node.advance(0.3, 0.1)
        self.successResultOf(done)

    def test_nobody_is_let_in(self) -> None:
        """Who comes now is sent on with code 9 and DRAINING."""
        node = make_node()
        drain = Drain(node.reception, node.alarms, 10.0)
        self.clients_of(node, 1)
        drain.start()
        late = node.connect()
        self.assertRaises(AssertionError, node.sign_in, "late")
        self.assertFalse(late.link.is_closed)
        node.advance(1)
        self.assertIs(late.link.close_reason, CloseReason.DRAINING)

    def test_spread(self) -> None:
        """Many clients are sent away in batches over drain_seconds."""
        node = make_node()
        clients = self.clients_of(node, MIN_BATCH * 3)
        Drain(node.reception, node.alarms, 0.2).start()
        counts = []
        for _ in range(3):
            counts.append(sum(client.link.is_closed for client in clients))
            node.advance(0.15, 0.05)
        self.assertEqual(counts[0], MIN_BATCH * 3 // 2)
        self.assertEqual(counts[-1], MIN_BATCH * 3)

    def test_all_of_the_time(self) -> None:
        """A hundred clients take as long to be sent away as drain_seconds says, and no longer."""
        node = make_node()
        clients = self.clients_of(node, 100)
        Drain(node.reception, node.alarms, 2.0).start()
        node.advance(1.0, 0.05)
        self.assertTrue(40 <= sum(client.link.is_closed for client in clients) <= 60)
        node.advance(1.0, 0.05)
        self.assertTrue(all(client.link.is_closed for client in clients))

    def test_few_at_once(self) -> None:
        """Few clients need not be spread, however long the drain may take."""
        node = make_node()
        clients = self.clients_of(node, MIN_BATCH)
        Drain(node.reception, node.alarms, 100.0).start()
        self.assertTrue(all(client.link.is_closed for client in clients))

    def test_linger(self) -> None:
        """A client that never closes its end holds the node up for some seconds, not for ever."""
        node = make_node()
        self.clients_of(node, 1)
        done = Drain(node.reception, node.alarms, 1.0).start()
        self.assertEqual(len(node.reception.lingering), 1)
        for _ in range(int((1.0 + LINGER_SECONDS) / 0.1) - 2):
            node.clock.advance(0.1)
        self.assertNoResult(done)
        for _ in range(4):
            node.clock.advance(0.1)
        self.successResultOf(done)

    def test_cut(self) -> None:
        """Whoever has no patience is done at once; twice is once."""
        node = make_node()
        self.clients_of(node, 1)
        drain = Drain(node.reception, node.alarms, 100.0)
        done = drain.start()
        drain.cut()
        drain.cut()
        self.successResultOf(done)
