"""Messages on their way out."""

from __future__ import annotations

from itertools import pairwise

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.overlay.deliveries import Outcome
from meshrelay.overlay.errors import TooMuchWaiting, UnusableData
from meshrelay.overlay.outbox import (
    LIFETIME_SECONDS,
    MAX_EXPIRED,
    MAX_MESSAGE_BYTES,
    MAX_TRIES,
    MAX_WAITING,
    MAX_WAITING_BYTES,
    MAX_WAITING_BYTES_IN_ALL,
    MESSAGE_COST,
)
from meshrelay.overlay.replay import WINDOW
from meshrelay.wire.overlay import MAX_ENVELOPE_BYTES, MAX_WRTC_BYTES, Envelope, encode_frame
from tests.overlay.delivery_kit import RELAYS, Network, identity


def text(size: int) -> bytes:
    """JSON of that many bytes."""
    return b'"%b"' % (b"x" * (size - 2))


class OutboxTests(SynchronousTestCase):
    """Anna knows Ben's key, and her network loses everything unless a test says otherwise."""

    def setUp(self) -> None:
        self.network = Network()
        self.anna = self.network.add(1, max_peers=20_000)
        self.ben = self.network.add(2)
        self.anna.deliveries.learned(self.ben.peer_id, self.ben.identity.public)
        self.network.on_the_way = lambda envelope: None

    def fails(self, raw: bytes, to: bytes = b"") -> str:
        before = self.anna.deliveries.waiting_count, self.anna.deliveries.waiting_bytes
        error = self.assertRaises(TooMuchWaiting, self.anna.send, to or self.ben.peer_id, raw)
        self.assertEqual((self.anna.deliveries.waiting_count, self.anna.deliveries.waiting_bytes), before)
        return str(error)

    def test_waits(self) -> None:
        """A message is sent up to nine times, at growing distances, and then its sender is told."""
        times: list[float] = []
        self.network.on_the_way = lambda envelope: times.append(self.network.now)
        self.anna.send(self.ben.peer_id, b"1")
        self.network.run(60)
        waits = [round(later - earlier, 3) for earlier, later in pairwise(times)]
        self.assertEqual(waits, [1.0, 1.5, 2.25, 3.375, 4.0, 4.0, 4.0, 4.0])
        self.assertEqual((len(times), self.anna.outcomes), (MAX_TRIES, {b"1": Outcome.NOT_DELIVERED}))

    def test_other_hops(self) -> None:
        """Each try takes a first hop that was not tried, as long as there is one, and each failure is told."""
        self.anna.send(self.ben.peer_id, b"1")
        self.network.run(60)
        hops = [hop for what, _, hop in self.anna.hops if what == "failed"]
        self.assertEqual((hops[:3], len(hops)), (list(RELAYS), MAX_TRIES))

    def test_silence_of_strangers(self) -> None:
        """Who may be a peer of npm's package acknowledges nothing: no way is blamed for that."""
        stranger = self.network.add(3)
        self.anna.send(stranger.peer_id, b"1")
        self.network.run(60)
        self.assertEqual(self.anna.outcomes, {b"1": Outcome.UNCONFIRMED})
        self.assertEqual([what for what, target, _ in self.anna.hops if target == stranger.peer_id], [])

    def test_wait_follows_the_round_trip(self) -> None:
        """On a fast network a lost message is sent again after a quarter of a second."""
        self.network.on_the_way = lambda envelope: envelope
        self.anna.send(self.ben.peer_id, b"1")
        self.network.run(0.2)
        lost: list[Envelope] = []
        self.network.on_the_way = lambda envelope: envelope if lost else lost.append(envelope)
        self.anna.send(self.ben.peer_id, b"2")
        self.network.run(0.24)
        self.assertEqual(self.ben.texts, [b"1"])
        self.network.run(0.02)
        self.assertEqual(self.ben.texts, [b"1", b"2"])

    def test_no_links(self) -> None:
        """Without a link a message waits, without being tried, and is told after 30 seconds."""
        self.network.relays = ()
        self.anna.send(self.ben.peer_id, b"1")
        self.anna.send(b"j" * 20, b"2")
        self.network.run(LIFETIME_SECONDS - 0.1)
        self.assertEqual((self.anna.outcomes, self.anna.hops), ({}, []))
        self.network.run(0.2)
        self.assertEqual(set(self.anna.outcomes.values()), {Outcome.NOT_DELIVERED})
        self.assertEqual(self.anna.hops, [])

    def test_first_link(self) -> None:
        """What was sent before there was a link goes out in its order as soon as there is one."""
        self.network.relays = ()
        numbers = [b"%d" % number for number in range(5)]
        for number in numbers:
            self.anna.send(self.ben.peer_id, number)
        self.network.run(1)
        self.network.relays = RELAYS
        self.network.on_the_way = lambda envelope: envelope
        self.anna.deliveries.links_changed(self.network.now)
        self.network.run(0.001)
        self.assertEqual(self.ben.texts, numbers)
        self.anna.deliveries.links_changed(self.network.now)
        self.assertEqual(len(self.network.log), 5)

    def test_lost_link(self) -> None:
        """A link that failed is told once, also if there is no other after it; the time runs from the beginning."""
        self.anna.send(self.ben.peer_id, b"1")
        self.network.run(0.5)
        self.network.relays = ()
        self.network.run(27)
        self.assertEqual(self.anna.hops, [("failed", self.ben.peer_id, RELAYS[0])])
        self.network.relays = RELAYS
        self.network.run(LIFETIME_SECONDS - self.network.now)
        self.assertEqual(self.anna.outcomes, {b"1": Outcome.NOT_DELIVERED})

    def test_stranded_plain(self) -> None:
        """A message that was never sent is not called sent because its receiver seems to be a JavaScript peer."""
        self.network.relays = ()
        self.anna.send(b"j" * 20, b"1")
        self.anna.deliveries.seems_plain(b"j" * 20, self.network.now)
        self.assertEqual(self.anna.outcomes, {})
        self.network.relays = RELAYS
        self.anna.deliveries.links_changed(self.network.now)
        self.assertEqual((len(self.network.log), self.anna.outcomes), (1, {b"1": Outcome.UNCONFIRMED}))

    def test_link_without_notice(self) -> None:
        """A link that nobody tells of is found within two seconds."""
        self.network.relays = ()
        self.anna.send(self.ben.peer_id, b"1")
        self.network.run(1)
        self.network.relays = RELAYS
        self.network.on_the_way = lambda envelope: envelope
        self.network.run(1.1)
        self.assertEqual(self.ben.texts, [b"1"])

    def test_bound_of_messages(self) -> None:
        """1,024 messages wait for one peer; one more is refused, and counted."""
        for _ in range(MAX_WAITING):
            self.anna.send(self.ben.peer_id, b"1")
        self.assertIn("1024 messages wait for this peer", self.fails(b"1"))
        self.assertEqual(self.anna.deliveries.counters["too_much_waiting"], 1)

    def test_bound_of_bytes(self) -> None:
        """4 MiB wait for one peer."""
        for _ in range(MAX_WAITING_BYTES // 131_072):
            self.anna.send(self.ben.peer_id, text(131_072))
        self.assertIn("bytes wait for this peer", self.fails(b"1"))
        self.anna.deliveries.close()
        self.anna.send(self.ben.peer_id, b"1")

    def test_bound_in_all(self) -> None:
        """64 MiB wait for all peers, and small messages do not count for nothing."""
        self.network.relays = ()
        # A key that is known makes this fast: what waits for a link is not signed.
        count = MAX_WAITING_BYTES_IN_ALL // (131_072 + MESSAGE_COST)
        for number in range(count):
            other = identity(number // 30 + 100)
            self.anna.deliveries.learned(other.peer_id, other.public)
            self.anna.send(other.peer_id, text(131_072))
        self.assertIn("bytes wait for all peers", self.fails(text(131_072)))
        self.anna.deliveries.close()
        self.assertEqual(self.anna.deliveries.waiting_bytes, 0)

    def test_bound_of_peers(self) -> None:
        """If messages wait for as many peers as are remembered, there is no room for one more."""
        anna = self.network.add(1, max_peers=2)
        for name in (b"a", b"b"):
            anna.send(name * 20, b"1")
        self.assertRaises(TooMuchWaiting, anna.send, b"c" * 20, b"1")

    def test_window(self) -> None:
        """The oldest message that waits and the newest are never further apart than the receiver can tell apart."""
        self.network.on_the_way = lambda envelope: envelope if len(self.network.log) > 1 else None
        self.anna.send(self.ben.peer_id, b"0")
        sent = 1
        while sent < WINDOW:
            for _ in range(MAX_WAITING - 1):
                if sent < WINDOW:
                    self.anna.send(self.ben.peer_id, b"1")
                    sent += 1
            self.network.run(0.06)
        self.assertIn("before the last 4096", self.fails(b"1"))
        self.network.run(1.5)
        self.assertEqual(self.anna.outcomes[b"0"], Outcome.DELIVERED)
        self.anna.send(self.ben.peer_id, b"1")

    def test_size(self) -> None:
        """The largest message fits a frame of every link, in the clear and sealed with a full acknowledgement."""
        conversation = self.anna.deliveries._conversations.open(self.ben.peer_id)
        assert conversation is not None
        for number in range(1, 1000, 2):
            conversation.arrived(b"r" * 16, number, is_new=True)
        self.anna.send(self.ben.peer_id, text(MAX_MESSAGE_BYTES))
        self.anna.send(b"j" * 20, text(MAX_MESSAGE_BYTES))
        for envelope in self.network.log:
            frame = encode_frame(envelope._replace(path=(b"p" * 20,) * 19), b"p" * 20)
            self.assertLess(len(frame), min(MAX_WRTC_BYTES, MAX_ENVELOPE_BYTES))
        self.assertRaises(UnusableData, self.anna.send, self.ben.peer_id, text(MAX_MESSAGE_BYTES + 1))

    def test_no_json(self) -> None:
        """What is no JSON, or does not survive, is refused at once and leaves nothing behind."""
        for to in (self.ben.peer_id, b"j" * 20):
            for raw in (b"", b"nope", b"1e400", b'"\xff"'):
                self.assertRaises(UnusableData, self.anna.send, to, raw)
        self.assertEqual((self.anna.deliveries.waiting_count, self.network.log), (0, []))

    def test_turn(self) -> None:
        """When much is due at once it is done in pieces, so that nothing else has to wait for long."""
        for _ in range(MAX_EXPIRED + 1):
            self.anna.send(self.ben.peer_id, b"1")
        self.network.log.clear()
        self.network.now = 1.0
        self.anna.deliveries.expire(1.0)
        self.assertEqual((len(self.network.log), self.anna.deliveries.next_at()), (MAX_EXPIRED, 1.0))
        self.anna.deliveries.expire(1.0)
        self.assertEqual(len(self.network.log), MAX_EXPIRED + 1)

    def test_memory(self) -> None:
        """What is over leaves nothing behind, however many messages were sent."""
        self.network.on_the_way = lambda envelope: envelope
        self.network.is_instant = True
        for _ in range(5000):
            self.anna.send(self.ben.peer_id, b"1")
            if self.anna.deliveries.waiting_count > 500:
                self.ben.deliveries.expire(self.network.now + 1)
        self.ben.deliveries.expire(self.network.now + 1)
        self.assertEqual((len(self.ben.got), self.anna.deliveries.waiting_count), (5000, 0))
        self.assertLessEqual(len(self.anna.deliveries._outbox._heap), 2500)
