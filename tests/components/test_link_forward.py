"""LINK_FORWARD: limits, and what is refused."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.components.link_forward import LARGEST_PAYLOAD_BYTES, ForwardBudget
from meshrelay.config.schema import LinkConfig
from meshrelay.errors import ErrorCode
from meshrelay.wire.commands import Command
from meshrelay.wire.datagram import MAX_DATAGRAM_BYTES
from meshrelay.wire.frame import FrameRun
from meshrelay.wire.link_commands import Forwarded, encode_forward
from tests.components.link_kit import LinkTestCase, link_config


class BudgetTests(SynchronousTestCase):
    """What one user may send."""

    def test_packets(self) -> None:
        """So many at once, and so many a second."""
        budget = ForwardBudget(4, 0, 0.0)
        self.assertEqual([budget.take(1, 0.0) for _ in range(6)], [True] * 4 + [False] * 2)
        self.assertEqual([budget.take(1, 0.5) for _ in range(3)], [True, True, False])

    def test_bytes(self) -> None:
        """So many bytes a second; what does not fit takes nothing from what would."""
        budget = ForwardBudget(0, 3000, 0.0)
        self.assertEqual([budget.take(1000, 0.0) for _ in range(4)], [True, True, True, False])
        self.assertEqual([budget.take(size, 0.1) for size in (1000, 1000, 300)], [False, False, True])

    def test_small_rate(self) -> None:
        """However low the rate, the largest packet fits in the end."""
        budget = ForwardBudget(0, 1, 0.0)
        self.assertTrue(budget.take(LARGEST_PAYLOAD_BYTES, 0.0))
        self.assertFalse(budget.take(2, 1.0))

    def test_no_limit(self) -> None:
        """0 is no limit."""
        budget = ForwardBudget(0, 0, 0.0)
        self.assertTrue(all(budget.take(1400, 0.0) for _ in range(10_000)))


class FloodTests(LinkTestCase):
    """A client that sends more than it may."""

    config = link_config(LinkConfig(forward_packets_per_second=10, forward_bytes_per_second=100_000))
    node_ids = ("a", "b")

    def setUp(self) -> None:
        """Ann and bob on two nodes, with links."""
        super().setUp()
        self.ann, self.bob = self.client("ann"), self.client("bob", "b")
        self.den = self.room_of(self.ann, self.bob)
        self.start(self.ann, self.den)
        self.quiet(self.ann, self.bob)

    def test_flood(self) -> None:
        """What is over the limit is dropped and counted; nobody else pays for it, and it goes on a little later."""
        self.forward(self.ann, self.den, "bob", *(b"%d" % number for number in range(100)))
        self.forward(self.bob, self.den, "ann", b"mine")
        self.assertEqual(self.packets(self.bob), [("ann", b"%d" % number) for number in range(10)])
        self.assertEqual(self.packets(self.ann), [("bob", b"mine")])
        self.assertEqual(self.count("packets_dropped_limit"), 90)
        self.assertIs(self.ann.link.is_closed, False)
        self.cluster.run(1.0)
        self.forward(self.ann, self.den, "bob", b"again")
        self.assertEqual(self.packets(self.bob), [("ann", b"again")])

    def test_answers(self) -> None:
        """Only what is refused is answered: rate limited, malformed, nobody there."""
        asked = [
            self.ann.ask(Command.LINK_FORWARD, encode_forward(Forwarded(self.den, "bob", b"x"))) for _ in "12345678901"
        ]
        self.cluster.run(0.1)
        answers = [self.ann.answer_to(request_id) for request_id in asked]
        self.assertEqual(answers[:10], [None] * 10)
        assert answers[10] is not None
        self.assertEqual(self.code_of(answers[10]), ErrorCode.RATE_LIMITED)
        good = encode_forward(Forwarded(self.den, "bob", b""))
        for payload in (b"", b"x" * 52, self.den.encode(), good, good + b"x" * (MAX_DATAGRAM_BYTES + 1), good[:54]):
            self.assertEqual(self.ann.refusal(Command.LINK_FORWARD, payload)[1], ErrorCode.MALFORMED_PAYLOAD, payload)

    def test_run(self) -> None:
        """Packets of one read go to whom each is for; a bad one among them spoils none of the others."""
        cat = self.client("cat", "b")
        self.join(cat, self.den)
        self.start(self.ann, self.den)
        self.quiet(self.ann, self.bob, cat)
        to_bob, to_cat = (encode_forward(Forwarded(self.den, name, b"")) for name in ("bob", "cat"))
        eve = encode_forward(Forwarded(self.den, "eve", b"x"))
        payloads = [to_bob + b"1", to_bob + b"2", to_bob, b"bad", to_cat + b"3", eve, eve, to_bob + b"4", to_cat + b"5"]
        run = FrameRun(1, 0, Command.LINK_FORWARD, list(range(101, 110)), payloads)
        self.ann.connection.run_received(run)
        self.ann.connection.read_ended()
        self.assertEqual(self.packets(self.bob), [("ann", b"1"), ("ann", b"2"), ("ann", b"4")])
        self.assertEqual(self.packets(cat), [("ann", b"3"), ("ann", b"5")])
        refused = {number: self.code_of(answer) for number in range(101, 110) if (answer := self.ann.answer_to(number))}
        self.assertEqual(refused, {103: 1, 104: 1, 106: 30, 107: 30})

    def test_forgotten(self) -> None:
        """Nothing is kept of a user whose session is over."""
        budgets = self.links()._forward.budgets
        self.forward(self.ann, self.den, "bob", b"x")
        self.cluster.run(0.1)
        self.assertEqual(len(budgets), 1)
        self.ann.send(4, ver=0)
        self.cluster.run(0.1)
        self.assertEqual(len(budgets), 0)


class SlowTests(LinkTestCase):
    """A client that does not read."""

    config = link_config(LinkConfig(forward_packets_per_second=0, forward_bytes_per_second=0))
    node_ids = ("a", "b")

    def test_slow_peer(self) -> None:
        """Packets for a peer that does not read are dropped, and counted; it is not closed for them."""
        ann, bob, cat = self.client("ann"), self.client("bob", transport="tcp"), self.client("cat", "b", "tcp")
        dan = self.client("dan")
        den = self.room_of(ann, bob, cat, dan)
        self.start(ann, den)
        self.quiet(ann, bob, cat, dan)
        bob.link.stall()
        cat.link.stall()
        for number in range(200):
            self.forward(ann, den, "bob", b"%04d" % number + b"x" * 1000)
            self.forward(ann, den, "cat", b"%04d" % number + b"x" * 1000)
            self.cluster.run(0.01)
        limit = self.config.session.outbox_bytes // 4
        for client, node_id in ((bob, "a"), (cat, "b")):
            self.assertLess(client.link.queued_bytes, limit + 2 * 1100)
            self.assertIs(client.link.is_closed, False)
            dropped = self.count("packets_dropped_slow", node_id)
            client.link.unstall()
            got = [packet[:4] for _, packet in self.packets(client)]
            self.assertEqual(got, [b"%04d" % number for number in range(200 - dropped)])
            self.assertGreater(dropped, 150)
