"""Channels: subscribers, and the frames that wait for them."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from meshrelay.counters import NodeCounters
from meshrelay.fanout.hub import MAX_PENDING_BYTES, MAX_SENDERS, Channel, Hub
from meshrelay.fanout.turn import TOGETHER, Turn
from meshrelay.interfaces import IFanout, ISubscriber
from meshrelay.testing.contracts import check_subscriber
from meshrelay.wire.frame import encode_push, split_frames
from meshrelay.wire.prepared import Batch


@implementer(ISubscriber)
class Reader:
    """Keeps the batches it is given; may do something else with each."""

    def __init__(self, react: Callable[[Batch], object] | None = None) -> None:
        self.batches: list[Batch] = []
        self.react = react

    def deliver(self, batch: Batch) -> None:
        """See `ISubscriber`."""
        self.batches.append(batch)
        if self.react is not None:
            self.react(batch)

    @property
    def texts(self) -> list[bytes]:
        """The payloads of all frames so far."""
        return [frame[12:] for batch in self.batches for frame in split_frames(batch.stream)]


class ChannelTestCase(SynchronousTestCase):
    """A channel with two readers."""

    interval_seconds = 0.0

    def setUp(self) -> None:
        """Nothing is published yet."""
        self.clock = Clock()
        self.counters = NodeCounters()
        self.turn = Turn(self.clock)
        self.hub = Hub(self.turn, self.clock, self.counters)
        self.channel: Channel = self.hub.open_channel(self.interval_seconds)
        self.ann, self.bob = Reader(), Reader()
        for reader in (self.ann, self.bob):
            self.channel.subscribe(reader)

    def publish(self, text: bytes, sender: ISubscriber | None = None, reliable: bool = True) -> None:
        """Publish one frame."""
        self.channel.publish(encode_push(1, 113, text), sender, reliable)


class DeliveryTests(ChannelTestCase):
    """From one sender to everybody else."""

    def test_contracts(self) -> None:
        """The hub is what components take it for, and the readers here are fit for a channel."""
        verifyObject(IFanout, self.hub)
        check_subscriber(Reader)

    def test_end_of_turn(self) -> None:
        """Nothing is delivered before the turn ends; then everything at once, joined once for all."""
        self.publish(b"1")
        self.publish(b"2")
        self.assertEqual(self.ann.batches, [])
        self.assertEqual(self.channel.pending_bytes, 26)
        self.clock.advance(0)
        self.assertEqual(self.ann.texts, [b"1", b"2"])
        self.assertEqual(len(self.ann.batches), 1)
        self.assertIs(self.ann.batches[0], self.bob.batches[0])
        self.assertEqual(self.channel.pending_bytes, 0)

    def test_counters(self) -> None:
        """Deliveries are frames times receivers."""
        self.publish(b"1")
        self.publish(b"2", self.ann)
        self.clock.advance(0)
        self.assertEqual((self.counters.deliveries, self.counters.batches), (3, 1))

    def test_sender(self) -> None:
        """Nobody hears an echo; senders get the others' frames in order."""
        self.publish(b"a1", self.ann)
        self.publish(b"b1", self.bob)
        self.publish(b"a2", self.ann)
        self.publish(b"x")
        self.clock.advance(0)
        self.assertEqual(self.ann.texts, [b"b1", b"x"])
        self.assertEqual(self.bob.texts, [b"a1", b"a2", b"x"])

    def test_many_senders(self) -> None:
        """However many speak in one turn, all hear all but themselves, in order, joined at a bounded cost."""
        crowd = [Reader() for _ in range(3 * MAX_SENDERS + 1)]
        for reader in crowd:
            self.channel.subscribe(reader)
        for number, reader in enumerate(crowd):
            self.publish(b"%d" % number, reader)
        self.clock.advance(0)
        for number, reader in enumerate(crowd):
            self.assertEqual(reader.texts, [b"%d" % other for other in range(len(crowd)) if other != number])
        self.assertEqual([batch.count for batch in self.ann.batches], [MAX_SENDERS] * 3 + [1])
        self.assertIs(self.ann.batches[0], self.bob.batches[0])

    def crowd_of(self, count: int) -> list[str]:
        """Subscribe as many who are each sent what they are handed; return where it is written down."""
        order: list[str] = []

        class Box:
            """Something that has one thing to send."""

            def take(self) -> tuple[Callable[[bytes], int], bytes]:
                """See `Sendable`."""
                order.append("send")
                return len, b"sent"

            def flush(self) -> None:
                """See `Sendable`."""

            def not_sent(self, rest: bytes) -> None:
                """See `Sendable`."""

        def react(batch: Batch) -> None:
            order.append("hand")
            self.turn.send(Box())

        for _ in range(count):
            self.channel.subscribe(Reader(react))
        return order

    def test_crowd(self) -> None:
        """The first ones of a crowd are sent a message before the last ones are handed it."""
        order = self.crowd_of(2 * TOGETHER + 1)
        self.publish(b"1")
        self.clock.advance(0)
        first, last = order.index("send"), len(order) - 1 - order[::-1].index("hand")
        self.assertLess(first, last)
        self.assertEqual((order.count("hand"), order.count("send")), (2 * TOGETHER + 1, 2 * TOGETHER + 1))

    def test_crowd_of_senders(self) -> None:
        """Where a turn has several batches for each, nobody is sent the first one alone."""
        order = self.crowd_of(2 * TOGETHER)
        senders = [Reader() for _ in range(MAX_SENDERS + 1)]
        for sender in senders:
            self.channel.subscribe(sender)
        for sender in senders:
            self.publish(b"1", sender)
        self.clock.advance(0)
        self.assertEqual(order.index("send"), 2 * 2 * TOGETHER)

    def test_only_sender(self) -> None:
        """Who alone has spoken is left in peace."""
        self.publish(b"a1", self.ann)
        self.clock.advance(0)
        self.assertEqual(self.ann.batches, [])
        self.assertEqual(self.bob.texts, [b"a1"])

    def test_sender_outside(self) -> None:
        """A sender that is no subscriber costs no join of its own."""
        self.publish(b"1", Reader())
        self.clock.advance(0)
        self.assertIs(self.ann.batches[0], self.bob.batches[0])

    def test_reliables(self) -> None:
        """Each frame keeps whether it may be lost, also in a sender's own batch."""
        self.publish(b"a", self.ann, reliable=False)
        self.publish(b"b", self.bob, reliable=True)
        self.publish(b"c", None, reliable=False)
        self.clock.advance(0)
        (own,) = self.ann.batches
        assert own.reliable is not None
        assert own.unreliable is not None
        self.assertEqual(own.reliable.stream[12:], b"b")
        self.assertEqual(own.unreliable.stream[12:], b"c")

    def test_subscribers(self) -> None:
        """A channel knows its subscribers in join order."""
        self.assertEqual(list(self.channel), [self.ann, self.bob])
        self.assertEqual(len(self.channel), 2)
        self.assertIn(self.ann, self.channel)
        self.channel.unsubscribe(self.ann)
        self.channel.unsubscribe(self.ann)
        self.assertEqual(list(self.channel), [self.bob])


class MembershipTests(ChannelTestCase):
    """A channel is flushed before its subscribers change."""

    def test_newcomer(self) -> None:
        """Nobody gets what was published before it came."""
        self.publish(b"before")
        newcomer = Reader()
        self.channel.subscribe(newcomer)
        self.assertEqual(self.ann.texts, [b"before"])
        self.publish(b"after")
        self.clock.advance(0)
        self.assertEqual(newcomer.texts, [b"after"])
        self.assertEqual(self.ann.texts, [b"before", b"after"])

    def test_leaver(self) -> None:
        """Everybody gets what was published before it left."""
        self.publish(b"before")
        self.channel.unsubscribe(self.ann)
        self.publish(b"after")
        self.clock.advance(0)
        self.assertEqual(self.ann.texts, [b"before"])
        self.assertEqual(self.bob.texts, [b"before", b"after"])

    def test_published_again_after_a_flush(self) -> None:
        """A flush in the middle of a turn does not end it: what comes after goes out as well, once."""
        for number in range(3):
            self.publish(b"%d" % number)
            self.channel.unsubscribe(Reader())
        self.publish(b"3")
        self.clock.advance(0)
        self.assertEqual(self.ann.texts, [b"0", b"1", b"2", b"3"])


class BadSubscriberTests(ChannelTestCase):
    """One receiver never disturbs another."""

    def test_raises(self) -> None:
        """A subscriber that fails is logged; everybody else gets everything."""

        def fail(batch: Batch) -> None:
            raise RuntimeError("broken")

        self.ann.react = fail
        self.publish(b"1")
        self.clock.advance(0)
        self.publish(b"2")
        self.clock.advance(0)
        self.assertEqual(self.bob.texts, [b"1", b"2"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)

    def test_leaves_inside(self) -> None:
        """A slow consumer that is closed from inside the loop costs nobody a frame, nor the order."""
        readers = [Reader() for _ in range(4)]
        for reader in readers:
            self.channel.subscribe(reader)

        def leave(batch: Batch) -> None:
            self.channel.unsubscribe(self.ann)
            self.publish(b"ann was lost", self.ann)

        self.ann.react = leave
        self.publish(b"1")
        self.publish(b"2")
        self.clock.advance(0)
        self.publish(b"3")
        self.clock.advance(0)
        for reader in (self.bob, *readers):
            self.assertEqual(reader.texts, [b"1", b"2", b"ann was lost", b"3"])
        self.assertEqual(self.ann.texts, [b"1", b"2"])

    def test_joins_inside(self) -> None:
        """Who comes while the others are served gets what is published from then on."""
        newcomer = Reader()
        self.ann.react = lambda batch: self.channel.subscribe(newcomer)
        self.publish(b"1")
        self.clock.advance(0)
        self.ann.react = None
        self.publish(b"2")
        self.clock.advance(0)
        self.assertEqual(newcomer.texts, [b"2"])

    def test_publishes_inside(self) -> None:
        """What is published while the others are served comes behind, for everybody."""
        self.ann.react = lambda batch: self.publish(b"again") if len(self.ann.batches) == 1 else None
        self.publish(b"1")
        self.clock.advance(0)
        self.clock.advance(0)
        self.assertEqual(self.bob.texts, [b"1", b"again"])
        self.assertEqual(self.ann.texts, [b"1", b"again"])


class BoundTests(ChannelTestCase):
    """256 KiB wait at most."""

    def test_bound(self) -> None:
        """A channel that has 256 KiB waiting is flushed at once, not at the end of the turn."""
        payload = bytes(1012)
        for _ in range(MAX_PENDING_BYTES // 1024 - 1):
            self.publish(payload)
        self.assertEqual(self.ann.batches, [])
        self.assertEqual(self.channel.pending_bytes, MAX_PENDING_BYTES - 1024)
        self.publish(payload)
        self.assertEqual(self.channel.pending_bytes, 0)
        self.assertEqual(self.ann.batches[0].count, 256)

    def test_goes_on(self) -> None:
        """What comes after such a flush waits for the end of the turn again."""
        self.publish(bytes(MAX_PENDING_BYTES))
        self.publish(b"after")
        self.assertEqual(len(self.ann.batches), 1)
        self.clock.advance(0)
        self.assertEqual(len(self.ann.batches), 2)


class MergingTests(ChannelTestCase):
    """A channel with an interval of 200 ms."""

    interval_seconds = 0.2

    def test_interval(self) -> None:
        """What is published within the interval goes out together when it is over."""
        self.publish(b"1")
        self.clock.advance(0.1)
        self.publish(b"2")
        self.clock.advance(0.09)
        self.assertEqual(self.ann.batches, [])
        self.clock.advance(0.02)
        self.assertEqual([batch.count for batch in self.ann.batches], [2])

    def test_next_interval(self) -> None:
        """The interval begins anew with the first frame after the last one; meanwhile no timer runs."""
        self.publish(b"1")
        self.clock.advance(0.2)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(5)
        self.publish(b"2")
        self.clock.advance(0.19)
        self.assertEqual(self.ann.texts, [b"1"])
        self.clock.advance(0.02)
        self.assertEqual(self.ann.texts, [b"1", b"2"])

    def test_membership(self) -> None:
        """A change of the members does not wait for the interval, and stops its timer."""
        self.publish(b"1")
        newcomer = Reader()
        self.channel.subscribe(newcomer)
        self.assertEqual((self.ann.texts, newcomer.texts), ([b"1"], []))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_bound(self) -> None:
        """256 KiB do not wait for the interval either."""
        self.publish(bytes(MAX_PENDING_BYTES))
        self.assertEqual(len(self.ann.batches), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_hub_flush(self) -> None:
        """A node that stops flushes what waits, intervals or not."""
        other = self.hub.open_channel(0.0)
        reader = Reader()
        other.subscribe(reader)
        self.publish(b"merged")
        other.publish(encode_push(1, 113, b"plain"), None, True)
        self.hub.flush()
        self.assertEqual((self.ann.texts, reader.texts), ([b"merged"], [b"plain"]))

    def test_closed(self) -> None:
        """A channel that is closed delivers what waits and leaves no timer."""
        self.publish(b"last")
        self.hub.close_channel(self.channel)
        self.assertEqual(self.ann.texts, [b"last"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nobody_there(self) -> None:
        """Without subscribers nothing waits, so that a group that is gone leaves no timer."""
        for reader in (self.ann, self.bob):
            self.channel.unsubscribe(reader)
        self.hub.close_channel(self.channel)
        self.publish(b"to nobody")
        self.assertEqual(self.clock.getDelayedCalls(), [])
