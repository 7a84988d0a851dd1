"""What a peer says beside the messages of its user."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.overlay.control import MAX_VERIFY_SECONDS, ControlMessages, new_nonce
from meshrelay.overlay.signing import Verified, sign, verify
from meshrelay.testing.overlay_network import identity_of
from meshrelay.wire.overlay import (
    Answer,
    DataType,
    Envelope,
    decode_answer,
    decode_frame,
    decode_id,
    decode_ids,
    encode_frame,
    new_envelope,
)

OWN = identity_of(1)
OTHER = identity_of(2)


class ControlTests(SynchronousTestCase):
    """See `ControlMessages`."""

    def setUp(self) -> None:
        """Nobody's kind is known."""
        self.own_ids: set[bytes] = set()
        self.learned: list[tuple[bytes, bytes]] = []
        self.control = ControlMessages(
            OWN, Random(1), self.own_ids.__contains__, lambda *learned: self.learned.append(learned)
        )

    def sent(self, envelope: Envelope) -> Envelope:
        """What the other end reads."""
        came = decode_frame(encode_frame(envelope, OWN.peer_id))
        self.assertEqual((came.to, came.sender, came.path), (OTHER.peer_id, OWN.peer_id, (OWN.peer_id,)))
        return came

    def test_nonce(self) -> None:
        """A nonce is a whole number below 10 ** 15 as a string, each time another one."""
        nonces = {new_nonce(Random(seed)) for seed in range(100)}
        self.assertEqual(len(nonces), 100)
        self.assertTrue(all(nonce.isdigit() and len(nonce) <= 15 for nonce in nonces))

    def test_peers(self) -> None:
        """Peers are asked for and named as npm's package does it."""
        self.assertEqual(
            decode_id(self.sent(self.control.find_peers(OTHER.peer_id, b"\x05" * 20)).data or b""), b"\x05" * 20
        )
        ids = [bytes([number]) * 20 for number in range(20)]
        self.assertEqual(decode_ids(self.sent(self.control.found_peers(OTHER.peer_id, ids)).data or b""), ids)

    def test_signed(self) -> None:
        """Offers and answers are signed: a lie there would lead others astray."""
        offer = self.sent(self.control.offer(OTHER.peer_id))
        answer = self.sent(self.control.answer(OTHER.peer_id, Answer("ws://127.0.0.1:1", False)))
        self.assertEqual((offer.type, offer.data), (DataType.OFFER, None))
        self.assertEqual(decode_answer(answer.data or b""), Answer("ws://127.0.0.1:1", False))
        for envelope in (offer, answer):
            self.assertIsInstance(verify(envelope), Verified)

    def test_not_signed(self) -> None:
        """Signals and what neighbours tell each other are not, but for proofs."""
        self.assertEqual(self.sent(self.control.signal(OTHER.peer_id, b'{"type":"offer","sdp":"x"}')).extras, {})
        self.assertEqual(self.sent(self.control.own_link(OTHER.peer_id, b"{}")).extras, {})
        proof = self.sent(self.control.own_link(OTHER.peer_id, b"{}", is_signed=True))
        self.assertIsInstance(verify(proof), Verified)

    def envelope(self, data: bytes = b"1") -> Envelope:
        """One of another peer, not signed."""
        return new_envelope(OWN.peer_id, OTHER.peer_id, "1", DataType.ANSWER, data)

    def test_believable(self) -> None:
        """A JavaScript peer signs nothing and is believed; one that is known to sign is not, without a signature."""
        self.assertTrue(self.control.is_believable(self.envelope()))
        self.own_ids.add(OTHER.peer_id)
        self.assertFalse(self.control.is_believable(self.envelope()))
        self.assertTrue(self.control.is_believable(sign(self.envelope(), OTHER)))

    def test_damaged(self) -> None:
        """A signature that does not hold is worse than none."""
        signed = sign(self.envelope(), OTHER)
        for forged in (signed._replace(data=b"2", body=b'{"type":"x","data":2}'), sign(self.envelope(), OWN)):
            self.assertFalse(self.control.is_believable(forged))
            self.assertFalse(self.control.is_proved(forged))
        self.assertEqual(self.learned, [])

    def test_learned(self) -> None:
        """Whoever has signed something has shown its key."""
        self.assertTrue(self.control.is_proved(sign(self.envelope(), OTHER)))
        self.assertEqual(self.learned, [(OTHER.peer_id, OTHER.public)])
        self.assertFalse(self.control.is_proved(self.envelope()))

    def test_costly(self) -> None:
        """What would take more than a millisecond is not believed, signed or not."""
        costly = sign(self.envelope(b"[%b0]" % (b"0," * int(MAX_VERIFY_SECONDS / 0.5e-6))), OTHER)
        self.assertFalse(self.control.is_believable(costly))
        self.assertEqual(self.learned, [])
