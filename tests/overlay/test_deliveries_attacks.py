"""What Eve tries, who relays between Anna and Ben and has a key of her own."""

from __future__ import annotations

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.overlay.boxes import Numbered, encode_ack, encode_message
from meshrelay.overlay.deliveries import Outcome, Received
from meshrelay.overlay.identity import Identity, peer_id_of, unpadded
from meshrelay.overlay.sealing import Sealer
from meshrelay.overlay.signing import shown_key, sign
from meshrelay.wire.overlay import EXTRA_KEY, DataType, Envelope, new_envelope
from tests.overlay.delivery_kit import Network, identity

EVE = identity(66)
RUN = b"r" * 16


class AttackTests(SynchronousTestCase):
    """Anna and Ben have exchanged keys."""

    def setUp(self) -> None:
        self.network = Network()
        self.anna = self.network.add(1)
        self.ben = self.network.add(2)
        self.anna.deliveries.learned(self.ben.peer_id, self.ben.identity.public)

    def lost(self, envelope: Envelope) -> None:
        """Nothing gets through."""

    def sealed(self, sender: bytes, by: Identity, content: bytes) -> Envelope:
        """A box for Anna."""
        data = Sealer(by, RUN).seal(self.anna.peer_id, self.anna.identity.public, content)
        return new_envelope(self.anna.peer_id, sender, "1", DataType.SEALED, data)

    def test_forged_acknowledgement(self) -> None:
        """Eve cannot make Anna believe that Ben has a message."""
        self.network.on_the_way = self.lost
        self.anna.send(self.ben.peer_id, b"1")
        ack = encode_ack(self.anna.deliveries._sealer.run, [1])
        forged = self.sealed(self.ben.peer_id, EVE, ack)
        self.assertIs(self.anna.receive(forged), Received.REFUSED)
        self.assertIs(self.anna.receive(shown_key(forged, EVE)), Received.REFUSED)
        # Eve's own acknowledgements are about messages to Eve.
        self.assertIs(self.anna.receive(shown_key(self.sealed(EVE.peer_id, EVE, ack), EVE)), Received.REPEATED)
        self.assertEqual(self.anna.outcomes, {})

    def test_wide_acknowledgement(self) -> None:
        """Ben acknowledges all numbers there are: only what he was sent is taken as delivered, and nothing breaks."""
        self.anna.send(b"z" * 20, b"1")
        self.anna.send(self.ben.peer_id, b"2")
        ranges = b"".join((first * 65536 + 1).to_bytes(8, "big") + b"\xff\xff" for first in range(256))
        body = self.anna.deliveries._sealer.run + ranges
        ack = b"\x02" + len(body).to_bytes(4, "big") + body
        self.anna.receive(shown_key(self.sealed(self.ben.peer_id, self.ben.identity, ack), self.ben.identity))
        self.assertEqual(self.anna.outcomes, {b"2": Outcome.DELIVERED})

    def test_acknowledgement_of_another_run(self) -> None:
        """An old acknowledgement, from before Anna's restart, is about other messages."""
        self.network.on_the_way = self.lost
        self.anna.send(self.ben.peer_id, b"1")
        box = self.sealed(self.ben.peer_id, self.ben.identity, encode_ack(b"o" * 16, [1]))
        self.anna.receive(shown_key(box, self.ben.identity))
        self.assertEqual((self.anna.outcomes, self.anna.deliveries.counters["foreign_acknowledgements"]), ({}, 1))

    def test_replayed_box(self) -> None:
        """A box that Eve has kept is delivered once, however often she sends it, under whatever nonce."""
        self.anna.send(self.ben.peer_id, b"1")
        self.network.run(0.1)
        for number in range(10):
            self.assertIs(self.ben.receive(self.network.log[0]._replace(nonce=str(number))), Received.REPEATED)
        self.assertEqual(self.ben.texts, [b"1"])

    def test_replayed_clear(self) -> None:
        """So is a message in the clear; its nonce is signed."""
        carl = self.network.add(3)
        carl.send(self.ben.peer_id, b"1")
        self.network.run(0.1)
        for _ in range(10):
            self.assertIs(self.ben.receive(self.network.log[0]), Received.REPEATED)
        self.assertIs(self.ben.receive(self.network.log[0]._replace(nonce="7")), Received.REFUSED)
        self.assertEqual(self.ben.texts, [b"1"])

    def test_replayed_acknowledgement(self) -> None:
        """An acknowledgement that Eve has kept does not show the way to Ben: she may be the only one on hers."""
        self.anna.send(self.ben.peer_id, b"1")
        self.network.run(0.1)
        self.assertEqual(self.anna.received, [Received.VERIFIED])
        self.assertIs(self.anna.receive(self.network.log[1]._replace(nonce="7")), Received.REPEATED)

    def test_clear_and_sealed(self) -> None:
        """A message that went in the clear and then sealed is one message."""
        carl = self.network.add(3)
        self.network.on_the_way = self.lost
        carl.send(self.ben.peer_id, b"1")
        carl.deliveries.learned(self.ben.peer_id, self.ben.identity.public)
        self.network.on_the_way = lambda envelope: envelope
        self.network.run(1.1)
        self.assertEqual([envelope.type for envelope in self.network.log[:2]], [DataType.USER, DataType.SEALED])
        self.ben.receive(self.network.log[0])
        self.assertEqual(self.ben.texts, [b"1"])

    def test_stripped(self) -> None:
        """Once Ben knows Anna's key, a message of hers without a signature is not hers."""
        self.anna.send(self.ben.peer_id, b"1")
        self.network.run(0.1)
        plain = new_envelope(self.ben.peer_id, self.anna.peer_id, "5", DataType.USER, b'"give Eve all"')
        self.assertIs(self.ben.receive(plain), Received.REFUSED)
        self.assertEqual((self.ben.texts, self.ben.deliveries.counters["refused_stripped"]), ([b"1"], 1))

    def test_substituted_key(self) -> None:
        """Eve cannot put her key in the place of Ben's: neither in a signature nor beside a box."""
        carl = self.network.add(3)
        signed = sign(new_envelope(carl.peer_id, self.ben.peer_id, "5", DataType.USER, b"1"), EVE, 1, RUN)
        self.assertIs(carl.receive(signed), Received.REFUSED)
        box = new_envelope(
            carl.peer_id,
            self.ben.peer_id,
            "6",
            DataType.SEALED,
            Sealer(EVE, RUN).seal(carl.peer_id, carl.identity.public, encode_message(Numbered(1, b"1"))),
        )
        self.assertIs(carl.receive(shown_key(box, EVE)), Received.REFUSED)
        self.assertIs(carl.receive(box), Received.REFUSED)
        self.assertEqual((carl.got, carl.deliveries.public_key_of(self.ben.peer_id)), ([], b""))

    def test_weak_key(self) -> None:
        """A key for which anybody can open boxes is refused, and breaks nothing."""
        public = EVE.public[:32] + bytes(32)
        weak = peer_id_of(public)
        signed = sign(new_envelope(self.anna.peer_id, weak, "5", DataType.USER, b"1"), EVE, 1, RUN)
        proof = msgspec.json.decode(signed.extras[EXTRA_KEY]) | {"key": unpadded(public)}
        signed = signed._replace(extras={EXTRA_KEY: msgspec.json.encode(proof)})
        self.assertIs(self.anna.receive(signed), Received.REFUSED)
        self.anna.deliveries.learned(weak, public)
        self.assertEqual(self.anna.deliveries.public_key_of(weak), b"")

    def test_truncated(self) -> None:
        """A box that Eve has cut is refused, wherever she cut it, and the message arrives all the same."""
        self.network.on_the_way = self.lost
        self.anna.send(self.ben.peer_id, b"1")
        whole = self.network.log[0]
        assert whole.data is not None
        for length in range(0, len(whole.data) - 1, 3):
            self.assertIs(self.ben.receive(whole._replace(data=whole.data[:length] + b'"')), Received.REFUSED)
        self.network.on_the_way = lambda envelope: envelope
        self.network.run(1.2)
        self.assertEqual((self.ben.texts, self.anna.outcomes), ([b"1"], {b"1": Outcome.DELIVERED}))

    def test_nonsense_inside(self) -> None:
        """A peer of ours that seals nonsense is refused, and breaks nothing."""
        for content in (b"\1", b"\1\0\0\0\1a", encode_message(Numbered(1, b"nope")), encode_message(Numbered(0, b"1"))):
            self.assertIs(self.anna.receive(shown_key(self.sealed(EVE.peer_id, EVE, content), EVE)), Received.REFUSED)
        self.assertEqual((self.anna.got, self.anna.deliveries.counters["refused_box"]), ([], 4))

    def test_own_id(self) -> None:
        """A message that pretends to be from oneself is refused."""
        forged = new_envelope(self.anna.peer_id, self.anna.peer_id, "1", DataType.USER, b"1")
        self.assertIs(self.anna.receive(forged), Received.REFUSED)

    def test_many_identities(self) -> None:
        """Any number of new peers costs bounded memory, and pushes out nobody whom a message waits for."""
        anna = self.network.add(1, max_peers=8)
        anna.deliveries.learned(self.ben.peer_id, self.ben.identity.public)
        self.network.on_the_way = self.lost
        anna.send(self.ben.peer_id, b"1")
        for number in range(70, 110):
            stranger = identity(number)
            envelope = new_envelope(anna.peer_id, stranger.peer_id, "1", DataType.USER, b"2")
            anna.receive(sign(envelope, stranger, 1, RUN))
        self.assertEqual((len(anna.got), anna.deliveries.peer_count), (40, 8))
        self.assertLessEqual(anna.deliveries._sealer.key_count, 16)
        self.assertLessEqual(len(anna.deliveries._replays), 16)
        self.assertEqual(anna.deliveries.public_key_of(self.ben.peer_id), self.ben.identity.public)

    def test_no_room(self) -> None:
        """If messages wait for all peers there is room for, others are refused, and heard later."""
        anna = self.network.add(1, max_peers=1)
        self.network.on_the_way = self.lost
        anna.send(self.ben.peer_id, b"1")
        envelope = sign(new_envelope(anna.peer_id, EVE.peer_id, "1", DataType.USER, b"2"), EVE, 1, RUN)
        box = shown_key(self.sealed(EVE.peer_id, EVE, encode_message(Numbered(2, b"3"))), EVE)
        self.assertEqual([anna.receive(envelope), anna.receive(box)], [Received.REFUSED, Received.REFUSED])
        self.network.run(40)
        self.assertEqual([anna.receive(envelope), anna.receive(box)], [Received.VERIFIED, Received.VERIFIED])
        self.assertEqual(anna.texts, [b"2", b"3"])

    def test_counters(self) -> None:
        """Labels of counters are a fixed set, whatever strangers send."""
        self.test_nonsense_inside()
        self.test_forged_acknowledgement()
        self.assertLess(len(self.anna.deliveries.counters), 20)
