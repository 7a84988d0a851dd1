"""The envelopes that messages go out in."""

from __future__ import annotations

from collections import Counter
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.overlay.boxes import Acknowledged, Numbered, decode_box
from meshrelay.overlay.conversations import Conversation, Outgoing
from meshrelay.overlay.envelopes import Envelopes
from meshrelay.overlay.errors import UnusableData
from meshrelay.overlay.sealing import Sealer
from meshrelay.overlay.signing import Verified, public_key_of, verify
from meshrelay.wire.overlay import DataType, Envelope
from tests.overlay.delivery_kit import identity

ANNA, BEN = identity(1), identity(2)
RUN, BENS_RUN = b"r" * 16, b"b" * 16


class EnvelopeTests(SynchronousTestCase):
    """Anna writes to Ben."""

    def setUp(self) -> None:
        self.posted: list[tuple[Envelope, frozenset[bytes]]] = []
        self.hops = [b"x" * 20, b"y" * 20]
        self.counters: Counter[str] = Counter()
        self.envelopes = Envelopes(ANNA, Sealer(ANNA, RUN), self.post, Random(1).randbytes, self.counters)
        self.conversation = Conversation(BEN.peer_id, 1)
        self.outgoing = Outgoing(BEN.peer_id, 7, b'"hi"', 0.0, None)
        self.outgoing.tries = 1

    def post(self, envelope: Envelope, avoid: frozenset[bytes]) -> tuple[bytes, ...]:
        hops = tuple(hop for hop in self.hops if hop not in avoid)
        if hops:
            self.posted.append((envelope, avoid))
        return hops[:1]

    def opened(self, envelope: Envelope) -> list[Numbered | Acknowledged]:
        """What Ben reads."""
        self.assertEqual(envelope.type, DataType.SEALED)
        return decode_box(Sealer(BEN, BENS_RUN).open(ANNA.peer_id, ANNA.public, envelope.data).content)

    def know_ben(self) -> None:
        self.conversation.public = BEN.public
        self.conversation.knows_us = True

    def test_clear(self) -> None:
        """To a peer whose key is unknown it goes in the clear, signed, and the same again each time."""
        for _ in range(2):
            self.envelopes.post_message(self.conversation, self.outgoing)
        (first, _), (second, _) = self.posted
        self.assertEqual((first.type, first.data, first), (DataType.USER, b'"hi"', second))
        self.assertEqual(verify(first), Verified(ANNA.public, 7, RUN))

    def test_nonce(self) -> None:
        """A nonce is as JavaScript peers make them: digits, below 10^15, another each time."""
        self.know_ben()
        for _ in range(50):
            self.envelopes.post_message(self.conversation, self.outgoing)
        nonces = {envelope.nonce for envelope, _ in self.posted}
        self.assertEqual(len(nonces), 50)
        self.assertTrue(all(nonce.isdigit() and int(nonce) < 10**15 for nonce in nonces))

    def test_sealed(self) -> None:
        """To a peer whose key is known it goes sealed, and carries what the peer is owed."""
        self.know_ben()
        self.conversation.arrived(BENS_RUN, 3, is_new=True)
        self.envelopes.post_message(self.conversation, self.outgoing)
        envelope = self.posted[0][0]
        self.assertEqual(self.opened(envelope), [Numbered(7, b'"hi"'), Acknowledged(BENS_RUN, ((3, 3),))])
        self.assertEqual((self.conversation.owed, dict(envelope.extras)), ([], {}))

    def test_shown_key(self) -> None:
        """The key is shown to a peer that has not used it, and with each resend: the peer may have forgotten it."""
        self.know_ben()
        self.outgoing.tries = 2
        self.envelopes.post_message(self.conversation, self.outgoing)
        self.conversation.knows_us = False
        self.outgoing.tries = 1
        self.envelopes.post_message(self.conversation, self.outgoing)
        self.conversation.arrived(BENS_RUN, 3, is_new=True)
        self.envelopes.post_ack(self.conversation)
        self.assertEqual({public_key_of(envelope) for envelope, _ in self.posted}, {ANNA.public})

    def test_other_hops(self) -> None:
        """A resend takes another way while there is one, and then any."""
        self.know_ben()
        self.outgoing.hops = frozenset(self.hops[:1])
        self.assertEqual(self.envelopes.post_message(self.conversation, self.outgoing), (self.hops[1],))
        self.outgoing.hops = frozenset(self.hops)
        self.assertEqual(self.envelopes.post_message(self.conversation, self.outgoing), (self.hops[0],))
        self.assertEqual(self.counters["resent"], 2)

    def test_nobody(self) -> None:
        """Without links it goes nowhere."""
        self.hops = []
        self.assertEqual(self.envelopes.post_message(self.conversation, self.outgoing), ())

    def test_nothing_owed(self) -> None:
        """Nothing is acknowledged where nothing is owed."""
        self.know_ben()
        self.envelopes.post_ack(self.conversation)
        self.assertEqual((self.posted, self.counters["acknowledgements"]), ([], 0))

    def test_unsignable(self) -> None:
        """A value that JavaScript peers cannot hold is the caller's fault, and says so."""
        outgoing = Outgoing(BEN.peer_id, 7, b"1e400", 0.0, None)
        error = self.assertRaises(UnusableData, self.envelopes.sign_plain, outgoing)
        self.assertIn("no message for JavaScript peers: inf", str(error))
