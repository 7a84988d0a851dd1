"""The link to one other node."""

from __future__ import annotations

from itertools import product

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import LocalProtocolError
from meshrelay.fanout.turn import Turn
from meshrelay.machine.backoff import Backoff
from meshrelay.mesh.batches import BatchLimits, BatchSender
from meshrelay.mesh.errors import LinkLost
from meshrelay.mesh.interfaces import INodeConnection
from meshrelay.mesh.link import LINK_MOVES, LinkInput, LinkState, NodeLink
from meshrelay.mesh.links import LinkOptions
from meshrelay.testing.memory_mesh import MemoryMesh


class TableTests(SynchronousTestCase):
    """The states of a link."""

    def test_table(self) -> None:
        """Each input is either in the table, or refused with the state unchanged."""
        for state, happened in product(LinkState, LinkInput):
            link = NodeLink("b", BatchSender(BatchLimits(), 1), Turn(Clock()), Clock(), backoff(), lambda *_: None)  # type: ignore[arg-type]
            link.state = state
            if (state, happened) in LINK_MOVES:
                link._move(happened)
                self.assertEqual(link.state, LINK_MOVES[state, happened])
            else:
                self.assertRaises(LocalProtocolError, link._move, happened)
                self.assertEqual(link.state, state)

    def test_stopped_stays(self) -> None:
        """No input leads out of STOPPED."""
        self.assertEqual(
            {to for (state, _), to in LINK_MOVES.items() if state is LinkState.STOPPED}, {LinkState.STOPPED}
        )


def backoff() -> Backoff:
    """The longest delays of all."""
    return Backoff(0.2, 5.0, lambda _, longest: longest)


class DialTests(SynchronousTestCase):
    """When a node dials."""

    def setUp(self) -> None:
        """A link without a network."""
        self.clock = Clock()
        self.link = NodeLink(
            "b",
            BatchSender(BatchLimits(), 1),
            Turn(self.clock),
            self.clock,
            backoff(),
            lambda *_: None,  # type: ignore[arg-type]
        )
        self.dialled_at: list[float] = []

    def refuse(self) -> Deferred[INodeConnection]:
        """A dial that fails."""
        self.dialled_at.append(self.clock.seconds())
        return fail(LinkLost("b", "connection refused"))

    def test_release(self) -> None:
        """A node that is no longer to be dialled is not, whether the next try is waited for or under way."""
        self.link.keep(self.refuse)
        self.assertTrue(self.link.is_kept)
        self.link.release()
        self.clock.advance(60)
        self.assertEqual((self.link.state, len(self.dialled_at), self.link.is_kept), (LinkState.IDLE, 1, False))
        cancelled: list[bool] = []
        self.link.keep(lambda: Deferred(lambda _: cancelled.append(True)))
        self.assertEqual(self.link.state, LinkState.DIALING)
        self.link.release()
        self.clock.advance(60)
        self.assertEqual((self.link.state, cancelled), (LinkState.IDLE, [True]))

    def test_backoff(self) -> None:
        """A node that cannot be reached is dialled at once, then ever more rarely, up to the cap."""
        self.link.keep(self.refuse)
        for _ in range(2000):
            self.clock.advance(0.01)
        gaps = [round(late - early, 1) for early, late in zip(self.dialled_at, self.dialled_at[1:], strict=False)]
        self.assertEqual(gaps, [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])

    def test_log_of_failures(self) -> None:
        """A node that cannot be reached is warned about once a minute, however often it is dialled."""
        warnings: list[str] = []

        def observe(event: LogEvent) -> None:
            if event["log_level"] is LogLevel.warn:
                warnings.append(formatEvent(event))

        globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]
        self.addCleanup(globalLogPublisher.removeObserver, observe)  # type: ignore[arg-type]
        self.link.keep(self.refuse)
        for _ in range(90):
            self.clock.advance(1)
        self.assertEqual(len(warnings), 2, warnings)

    def test_stop(self) -> None:
        """A stopped link dials no more, also not the one that is under way, and cannot be kept again."""
        under_way: Deferred[INodeConnection] = Deferred()
        self.link.keep(lambda: under_way)
        self.link.stop()
        self.assertTrue(under_way.called)
        self.clock.advance(60)
        self.assertEqual(self.link.state, LinkState.STOPPED)
        self.assertRaises(LocalProtocolError, self.link.keep, self.refuse)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_not_linked(self) -> None:
        """Calls fail at once while there is no link, messages wait."""
        self.failureResultOf(self.link.call("x", b""), LinkLost)
        self.assertTrue(self.link.send(1, b"waits"))
        self.clock.advance(1)
        self.assertEqual(self.link.statistics()["queued_messages"], 1)
        self.assertIsNone(self.link.rtt_seconds)


class FlowTests(SynchronousTestCase):
    """Messages through a link."""

    def setUp(self) -> None:
        """Two linked nodes."""
        self.mesh = MemoryMesh()
        limits = BatchLimits(queue_messages=1000, window_batches=2)
        self.mesh.add_node("a", options=LinkOptions(batches=limits))
        self.node = self.mesh.add_node("b")
        self.link = self.mesh.keep("a", "b")
        self.mesh.run(1)

    def test_one_batch_a_turn(self) -> None:
        """All that is sent in one turn is one batch."""
        for number in range(100):
            self.link.send(1, b"%d" % number)
        self.mesh.run(1)
        self.assertEqual(self.link.statistics()["sent_batches"], 1)
        self.link.send(1, b"next turn")
        self.mesh.run(1)
        self.assertEqual(self.link.statistics()["sent_batches"], 2)

    def test_window(self) -> None:
        """What is over the window leaves as soon as it moves, without another send."""
        for _ in range(1000):
            self.link.send(1, b"x")
        self.mesh.run(0.01)
        self.assertEqual(self.link.statistics()["unacknowledged_batches"], 2)
        self.assertEqual(self.link.statistics()["queued_messages"], 200)
        self.mesh.run(1)
        self.assertEqual(len(self.node.observer.messages["a"]), 1000)

    def test_overflow(self) -> None:
        """A full queue refuses and counts; once it has emptied all goes on."""
        taken = [self.link.send(1, b"%d" % number) for number in range(1200)]
        self.assertEqual(taken, [True] * 1000 + [False] * 200)
        self.assertEqual(self.link.statistics()["dropped_messages"], 200)
        self.mesh.run(1)
        self.assertTrue(self.link.send(1, b"later"))
        self.mesh.run(1)
        self.assertEqual(self.node.observer.messages["a"][-1], (1, b"later"))

    def test_statistics(self) -> None:
        """The keys are always the same."""
        keys = set(self.link.statistics())
        self.link.send(1, b"x")
        self.mesh.run(1)
        self.assertEqual(set(self.link.statistics()), keys)
        self.assertEqual(self.mesh.nodes["b"].link("a").statistics()["received_messages"], 1)


class DeliveryTests(SynchronousTestCase):
    """How long messages take to the other node, for the metrics page."""

    def setUp(self) -> None:
        """Two linked nodes, a hundredth of a second apart."""
        self.mesh = MemoryMesh()
        self.mesh.add_node("a")
        self.mesh.add_node("b")
        self.link = self.mesh.keep("a", "b")
        self.mesh.run(1.0)

    def test_one_at_a_time(self) -> None:
        """Of all messages on their way one is timed, from the queue to the other node's word that it has it."""
        for _ in range(5):
            self.link.send(1, b"x")
        self.mesh.run(1.0)
        durations = self.link.delivery_seconds
        self.assertEqual(durations.count, 1)
        self.assertTrue(0.001 < durations.sum_seconds < 0.1, durations.sum_seconds)
        self.link.send(1, b"y")
        self.mesh.run(1.0)
        self.assertEqual(durations.count, 2)

    def test_lost_connection(self) -> None:
        """What a broken connection holds up is not timed: the link was down, not slow."""
        self.mesh.kill("b")
        self.link.send(1, b"x")
        self.mesh.run(10.0)
        self.assertEqual(self.link.delivery_seconds.count, 0)
