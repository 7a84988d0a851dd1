"""Messages from end to end."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import LocalProtocolError
from meshrelay.overlay.deliveries import ACK_SECONDS, MAX_OWED, Message, Outcome, Received
from meshrelay.overlay.signing import sign
from meshrelay.wire.overlay import DataType, Envelope, new_envelope
from tests.overlay.delivery_kit import RELAYS, Network


class DeliveryTests(SynchronousTestCase):
    """Anna and Ben are peers of ours on a good network."""

    def setUp(self) -> None:
        self.network = Network()
        self.anna = self.network.add(1)
        self.ben = self.network.add(2)

    def meet(self) -> None:
        """Let both learn the other's key, as linked peers do."""
        self.anna.deliveries.learned(self.ben.peer_id, self.ben.identity.public)
        self.ben.deliveries.learned(self.anna.peer_id, self.anna.identity.public)

    def types(self) -> list[str]:
        return [str(envelope.type) for envelope in self.network.log]

    def test_first_message(self) -> None:
        """The first message goes in the clear, as JavaScript peers read it, and is acknowledged at once."""
        self.anna.send(self.ben.peer_id, b'"hi"')
        self.network.run(0.001)
        self.assertEqual(self.ben.got, [Message(self.anna.peer_id, b'"hi"', is_verified=True)])
        self.assertEqual(self.anna.outcomes, {b'"hi"': Outcome.DELIVERED})
        self.assertEqual(self.types(), [DataType.USER, DataType.SEALED])
        self.assertEqual(self.network.log[0].data, b'"hi"')

    def test_then_sealed(self) -> None:
        """After that nobody on the way can read what is sent, in either direction."""
        self.anna.send(self.ben.peer_id, b'"hi"')
        self.network.run(0.001)
        self.network.log.clear()
        self.anna.send(self.ben.peer_id, b'"secret one"')
        self.ben.send(self.anna.peer_id, b'"secret two"')
        self.network.run(0.1)
        self.assertEqual((self.ben.texts[1:], self.anna.texts), ([b'"secret one"'], [b'"secret two"']))
        self.assertEqual(set(self.types()), {DataType.SEALED})
        self.assertNotIn(b"secret", b"".join(envelope.body for envelope in self.network.log))

    def test_no_value(self) -> None:
        """A message without a value arrives as one, in the clear and sealed."""
        for _ in range(2):
            self.anna.deliveries.send(self.ben.peer_id, None, self.network.now)
            self.network.run(0.1)
        self.assertEqual([message.raw for message in self.ben.got], [None, None])

    def test_one_acknowledgement(self) -> None:
        """Many messages are acknowledged together, after 50 ms at the latest."""
        self.meet()
        for number in range(20):
            self.anna.send(self.ben.peer_id, b"%d" % number)
        self.network.run(ACK_SECONDS - 0.001)
        self.assertEqual((len(self.ben.got), self.anna.outcomes), (20, {}))
        self.network.run(0.002)
        self.assertEqual(set(self.anna.outcomes.values()), {Outcome.DELIVERED})
        self.assertEqual((len(self.anna.outcomes), len(self.network.log)), (20, 21))

    def test_acknowledged_before(self) -> None:
        """A long row of messages is acknowledged before the 50 ms are over, so that the sender need not stop."""
        self.meet()
        for number in range(MAX_OWED):
            self.anna.send(self.ben.peer_id, b"%d" % number)
        self.network.run(0.001)
        self.assertEqual(len(self.anna.outcomes), MAX_OWED)

    def test_piggyback(self) -> None:
        """An answer carries the acknowledgement: question and answer are three frames with the last acknowledgement."""
        self.meet()
        self.ben.answer = lambda message: self.ben.send(self.anna.peer_id, b'"answer"')
        self.anna.send(self.ben.peer_id, b'"question"')
        self.network.run(1.0)
        self.assertEqual(self.anna.outcomes, {b'"question"': Outcome.DELIVERED})
        self.assertEqual(self.ben.outcomes, {b'"answer"': Outcome.DELIVERED})
        self.assertEqual(len(self.network.log), 3)

    def test_acknowledgements_are_in_time(self) -> None:
        """A peer whose acknowledgement rode on an answer keeps no other peer waiting for its own."""
        self.meet()
        carl = self.network.add(3)
        carl.deliveries.learned(self.ben.peer_id, self.ben.identity.public)
        self.anna.send(self.ben.peer_id, b"1")
        self.network.run(0.001)
        self.ben.send(self.anna.peer_id, b"2")
        self.network.run(0.009)
        carl.send(self.ben.peer_id, b"3")
        self.network.run(0.03)
        self.anna.send(self.ben.peer_id, b"4")
        self.network.run(0.021)
        self.assertEqual(carl.outcomes, {b"3": Outcome.DELIVERED})

    def test_lost(self) -> None:
        """A lost message is sent again over another link, with a new nonce, and arrives."""
        self.meet()
        lost: list[Envelope] = []
        self.network.on_the_way = lambda envelope: envelope if lost else lost.append(envelope)
        self.anna.send(self.ben.peer_id, b'"hi"')
        self.network.run(1.2)
        self.assertEqual((self.ben.texts, self.anna.outcomes), ([b'"hi"'], {b'"hi"': Outcome.DELIVERED}))
        self.assertNotEqual(self.network.log[0].nonce, self.network.log[1].nonce)
        self.assertEqual(self.anna.hops, [("failed", self.ben.peer_id, RELAYS[0])])
        self.assertEqual(self.anna.deliveries.counters["resent"], 1)

    def test_lost_acknowledgement(self) -> None:
        """If the acknowledgement is lost the message is sent again, and still arrives once."""
        self.meet()
        lost: list[Envelope] = []

        def on_the_way(envelope: Envelope) -> Envelope | None:
            if envelope.sender == self.ben.peer_id and not lost:
                lost.append(envelope)
                return None
            return envelope

        self.network.on_the_way = on_the_way
        self.anna.send(self.ben.peer_id, b'"hi"')
        self.network.run(1.2)
        self.assertEqual((self.ben.texts, self.anna.outcomes), ([b'"hi"'], {b'"hi"': Outcome.DELIVERED}))
        self.assertEqual(self.ben.deliveries.counters["repeated"], 1)

    def test_worked(self) -> None:
        """The link over which a message arrived is told."""
        self.meet()
        self.anna.send(self.ben.peer_id, b'"hi"')
        self.network.run(0.1)
        self.assertEqual(self.anna.hops, [("worked", self.ben.peer_id, RELAYS[0])])

    def test_restart_of_the_receiver(self) -> None:
        """A peer that restarts, and has forgotten our key, gets what is sent then."""
        self.meet()
        self.anna.send(self.ben.peer_id, b"1")
        self.network.run(0.1)
        self.ben.send(self.anna.peer_id, b"2")
        self.network.run(0.1)
        ben = self.network.add(2)
        self.anna.send(self.ben.peer_id, b"3")
        self.network.run(1.2)
        self.assertEqual((ben.texts, self.anna.outcomes[b"3"]), ([b"3"], Outcome.DELIVERED))

    def test_restart_of_the_sender(self) -> None:
        """A peer that restarts counts from 1 again, and is heard."""
        for number in (b"1", b"2"):
            self.anna.send(self.ben.peer_id, number)
            self.network.run(0.1)
        self.anna = self.network.add(1)
        self.anna.send(self.ben.peer_id, b"3")
        self.network.run(0.1)
        self.assertEqual((self.ben.texts, self.anna.outcomes), ([b"1", b"2", b"3"], {b"3": Outcome.DELIVERED}))

    def test_at_once(self) -> None:
        """A network that delivers within the call breaks nothing."""
        self.network.is_instant = True
        self.ben.answer = lambda message: self.ben.send(self.anna.peer_id, b'"answer"')
        self.anna.send(self.ben.peer_id, b'"hi"')
        self.assertEqual((self.ben.texts, self.anna.texts), ([b'"hi"'], [b'"answer"']))
        self.assertEqual(self.anna.outcomes, {b'"hi"': Outcome.DELIVERED})
        self.assertEqual(self.anna.deliveries.waiting_count, 0)

    def test_self(self) -> None:
        """A message to oneself is nothing for the overlay."""
        self.assertRaises(LocalProtocolError, self.anna.send, self.anna.peer_id, b"1")

    def test_close(self) -> None:
        """A peer that stops tells of everything that waits."""
        self.network.relays = ()
        self.anna.send(self.ben.peer_id, b"1")
        self.anna.send(b"j" * 20, b"2")
        self.anna.deliveries.close()
        self.assertEqual(set(self.anna.outcomes.values()), {Outcome.NOT_DELIVERED})
        self.assertEqual((self.anna.deliveries.waiting_count, self.anna.deliveries.waiting_bytes), (0, 0))
        self.assertIsNone(self.anna.deliveries.next_at())


class JavaScriptPeerTests(SynchronousTestCase):
    """The other one acknowledges nothing, as peers of npm's package."""

    def setUp(self) -> None:
        self.network = Network()
        self.anna = self.network.add(1)
        self.peer_id = b"j" * 20

    def plain(self, data: bytes = b'"hi"', sender: bytes = b"") -> Envelope:
        return new_envelope(self.anna.peer_id, sender or self.peer_id, "5", DataType.USER, data)

    def test_three_tries(self) -> None:
        """It is sent the first message three times, under one nonce, which it reads once."""
        self.anna.send(self.peer_id, b"1")
        self.network.run(4.9)
        self.assertEqual((len(self.network.log), self.anna.outcomes), (3, {}))
        self.assertEqual(len({envelope.nonce for envelope in self.network.log}), 1)
        self.network.run(0.2)
        self.assertEqual((len(self.network.log), self.anna.outcomes), (3, {b"1": Outcome.UNCONFIRMED}))

    def test_one_copy(self) -> None:
        """After that it is sent one copy of each, and nobody waits."""
        self.anna.send(self.peer_id, b"1")
        self.network.run(6)
        self.network.log.clear()
        self.anna.send(self.peer_id, b"2")
        self.assertEqual((len(self.network.log), self.anna.outcomes[b"2"]), (1, Outcome.UNCONFIRMED))
        self.assertEqual((self.anna.deliveries.waiting_count, self.anna.deliveries.next_at()), (0, None))

    def test_tried_again(self) -> None:
        """After ten minutes it is looked at again: it may be another program by then."""
        self.anna.send(self.peer_id, b"1")
        self.network.run(700)
        self.network.log.clear()
        self.anna.send(self.peer_id, b"2")
        self.network.run(6)
        self.assertEqual(len(self.network.log), 3)

    def test_seen_on_its_link(self) -> None:
        """A linked peer that signs nothing is sent one copy from the start."""
        self.anna.send(self.peer_id, b"1")
        self.anna.deliveries.seems_plain(self.peer_id, self.network.now)
        self.anna.send(self.peer_id, b"2")
        self.network.run(10)
        self.assertEqual(set(self.anna.outcomes.values()), {Outcome.UNCONFIRMED})
        self.assertEqual(len(self.network.log), 2)

    def test_it_was_ours(self) -> None:
        """A peer that was taken for one of JavaScript and then signs something is acknowledged to again."""
        ben = self.network.add(2)
        self.anna.deliveries.seems_plain(ben.peer_id, 0.0)
        ben.send(self.anna.peer_id, b"1")
        self.network.run(0.1)
        self.anna.send(ben.peer_id, b"2")
        self.assertEqual(self.anna.outcomes, {})
        self.network.run(0.1)
        self.assertEqual(self.anna.outcomes, {b"2": Outcome.DELIVERED})

    def test_seems_plain_is_overruled(self) -> None:
        """Who has shown a key is never taken for a JavaScript peer."""
        ben = self.network.add(2)
        self.anna.deliveries.learned(ben.peer_id, ben.identity.public)
        self.anna.deliveries.seems_plain(ben.peer_id, 0.0)
        self.anna.send(ben.peer_id, b"1")
        self.assertEqual(self.anna.outcomes, {})

    def test_accepted(self) -> None:
        """What it sends is delivered, as unverified."""
        self.assertIs(self.anna.receive(self.plain()), Received.UNSIGNED)
        self.assertEqual(self.anna.got, [Message(self.peer_id, b'"hi"', is_verified=False)])

    def test_refused(self) -> None:
        """A peer that takes no unsigned messages does not deliver them, and counts them."""
        strict = self.network.add(1, accepts_unsigned=False)
        self.assertIs(strict.receive(self.plain()), Received.REFUSED)
        self.assertEqual((strict.got, strict.deliveries.counters["refused_unsigned"]), ([], 1))

    def test_no_value_of_ours(self) -> None:
        """What passes through relays and is no value here is refused, and nobody is handed it."""
        for data in (b"1e400", b"1" * 5000):
            self.assertIs(self.anna.receive(self.plain(data)), Received.REFUSED)
        self.assertEqual((self.anna.got, self.anna.deliveries.counters["refused_value"]), ([], 2))

    def test_no_memory(self) -> None:
        """Unsigned messages from any number of senders leave nothing behind."""
        for number in range(300):
            self.anna.receive(self.plain(sender=number.to_bytes(20, "big")))
        self.assertEqual(self.anna.deliveries.peer_count, 0)

    def test_signed_other(self) -> None:
        """A signed message without a number is none of ours."""
        ben = self.network.add(2)
        envelope = sign(self.plain(sender=ben.peer_id), ben.identity)
        self.assertIs(self.anna.receive(envelope), Received.REFUSED)
