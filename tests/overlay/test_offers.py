"""Offers of links, their answers, and the dials that follow."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from meshrelay.overlay.handshakes import DIAL_SECONDS, OFFER_SECONDS
from meshrelay.overlay.offers import MAX_ATTEMPTS
from meshrelay.overlay.signing import sign
from meshrelay.testing.overlay_links import linked_pair
from meshrelay.testing.overlay_network import RawPeer
from meshrelay.wire.overlay import Answer, DataType, decode_answer, encode_answer, new_envelope
from tests.overlay.peer_kit import PeerCase

FAR = "ws://203.0.113.5:80"
PUBLIC = "ws://8.8.8.8:80"


class OffersCase(PeerCase):
    """A peer with one neighbour, by which offers and answers go."""

    def setUp(self) -> None:
        """The neighbour is a JavaScript peer."""
        super().setUp()
        self.end = self.raw().linked(self.url)
        self.run_on(0.1)
        self.network.places.dialled.clear()

    def dialled(self) -> list[str]:
        """URLs that were dialled since then."""
        self.run_on(1.1)
        return [url for url, _ in self.network.places.dialled]

    def offers(self) -> list[bytes]:
        """Whom the peer has offered links."""
        return [envelope.to for envelope in self.end.envelopes(DataType.OFFER)]

    def wanted(self) -> RawPeer:
        """Somebody whom the peer has just offered a link, as its user asked for one."""
        other = self.raw()
        self.hub.peer.connect(other.peer_id).addErrback(lambda _: None)
        self.run_on(0.1)
        self.assertIn(other.peer_id, self.offers())
        return other


class AnswerTests(OffersCase):
    """What answers lead to."""

    def test_dial(self) -> None:
        """An answer to an offer is dialled, once, with its addresses checked; the link is there then."""
        other = self.wanted()
        other.listen(PUBLIC)
        self.end.answer(self.hub.peer_id, PUBLIC, sender=other.peer_id)
        self.assertEqual(self.dialled(), [PUBLIC])
        self.assertEqual(self.network.places.dialled, [(PUBLIC, True)])
        other.ends[0].say_hello()
        self.run_on(0.1)
        self.assertTrue(self.hub.is_linked(other))
        self.end.answer(self.hub.peer_id, PUBLIC, sender=other.peer_id)
        self.assertEqual(self.dialled(), [PUBLIC])

    def test_unasked(self) -> None:
        """An answer that nobody asked for is never dialled."""
        for sender in (b"\x07" * 20, self.end.peer.peer_id):
            self.end.answer(self.hub.peer_id, PUBLIC, sender=sender)
        self.assertEqual((self.dialled(), self.dropped("answer")), ([], 2))

    def test_twice(self) -> None:
        """One offer is one dial, however many answers come."""
        other = self.wanted()
        for _ in range(10):
            self.end.answer(self.hub.peer_id, PUBLIC, sender=other.peer_id)
        self.assertEqual(self.dialled(), [PUBLIC])

    def test_late(self) -> None:
        """An answer that comes too late is not dialled."""
        self.network.run(0.1)
        other = self.raw()
        self.hub.peer.neighbourhood.connect(other.peer_id, by_user=True)
        self.run_on(OFFER_SECONDS + 1.5)
        self.network.places.dialled.clear()
        self.end.answer(self.hub.peer_id, PUBLIC, sender=other.peer_id)
        self.assertEqual(self.dialled(), [])

    def test_forbidden(self) -> None:
        """What must not be dialled is not: this machine, its network, nonsense."""
        for url in ("ws://127.0.0.1:80", "ws://localhost:1", "ws://10.0.0.1:80", "ws://169.254.169.254/"):
            other = self.wanted()
            self.end.answer(self.hub.peer_id, url, sender=other.peer_id)
        self.assertEqual(self.dialled(), [])

    def test_forged(self) -> None:
        """A signature that does not hold is not believed, and the real answer still is."""
        other = self.wanted()
        forged = new_envelope(self.hub.peer_id, other.peer_id, "1", DataType.ANSWER, encode_answer(Answer(FAR, False)))
        self.end.pass_on(sign(forged, self.end.peer.identity))
        real = new_envelope(self.hub.peer_id, other.peer_id, "2", DataType.ANSWER, encode_answer(Answer(PUBLIC, False)))
        self.end.pass_on(sign(real, other.identity))
        self.assertEqual(self.dialled(), [PUBLIC])

    def test_stripped(self) -> None:
        """Who is known to sign is not believed without a signature."""
        other = self.raw(is_own=True)
        self.proved_end(other).link.close()
        self.run_on(0.1)
        self.network.places.dialled.clear()
        self.hub.peer.connect(other.peer_id).addErrback(lambda _: None)
        self.run_on(0.1)
        self.end.answer(self.hub.peer_id, PUBLIC, sender=other.peer_id)
        self.assertEqual(self.dialled(), [])

    def test_somebody_else(self) -> None:
        """Who is found at the URL is linked as who it is; the one that was looked for may be offered a link again."""
        other, there = self.wanted(), self.raw()
        there.listen(PUBLIC)
        self.end.answer(self.hub.peer_id, PUBLIC, sender=other.peer_id)
        self.dialled()
        there.ends[0].say_hello()
        self.run_on(0.1)
        self.assertTrue(self.hub.is_linked(there))
        self.assertFalse(self.hub.is_linked(other))
        self.assertEqual(self.hub.statistics["tries"], 0)
        self.assertFalse(self.hub.peer.neighbourhood.handshakes.is_pending(other.peer_id))

    def test_nobody_there(self) -> None:
        """A dial that fails, or that nobody answers, leaves nothing behind."""
        self.network.places.black_holes.add("ws://8.8.4.4:80")
        for url in (PUBLIC, "ws://8.8.4.4:80"):
            other = self.raw()
            self.hub.peer.neighbourhood.connect(other.peer_id, by_user=True)
            self.run_on(0.1)
            self.end.answer(self.hub.peer_id, url, sender=other.peer_id)
        self.run_on(0.1)
        self.assertEqual(self.hub.statistics["tries"], 1)
        self.run_on(DIAL_SECONDS + 2)
        self.assertEqual(self.hub.statistics["tries"], 0)
        self.assertEqual((self.hub.statistics["handshakes_pending"], self.hub.statistics["dials_failed"]), (0, 2))

    def test_full(self) -> None:
        """A dial that finds no room any more leaves nothing behind."""
        self.hub.peer._switch._options = self.options._replace(max_links=1)
        other = self.wanted()
        other.listen(PUBLIC)
        self.end.answer(self.hub.peer_id, PUBLIC, sender=other.peer_id)
        self.dialled()
        self.assertEqual((self.closed("full"), self.hub.statistics["tries"]), (1, 0))

    def test_no_way(self) -> None:
        """An answer that names no way is over at once; a JavaScript peer is invited to dial us, once."""
        other = self.wanted()
        self.end.answer(self.hub.peer_id, None, sender=other.peer_id)
        self.run_on(0.2)
        (invitation,) = [one for one in self.end.envelopes(DataType.ANSWER) if one.to == other.peer_id]
        self.assertEqual(decode_answer(invitation.data or b""), Answer(self.url, False))


class OfferTests(OffersCase):
    """Offers of others."""

    def answers(self) -> list[Answer | None]:
        """What the peer has answered."""
        self.run_on(0.1)
        return [decode_answer(envelope.data or b"") for envelope in self.end.envelopes(DataType.ANSWER)]

    def test_answer(self) -> None:
        """An offer is answered with the way to this peer, to whoever has one; nothing is dialled."""
        self.end.write(self.hub.peer_id, DataType.OFFER, sender=b"\x07" * 20)
        self.assertEqual(self.answers(), [Answer(self.url, False)])
        self.assertEqual(self.dialled(), [])

    def test_linked(self) -> None:
        """Who is linked gets no answer."""
        self.end.write(self.hub.peer_id, DataType.OFFER)
        self.assertEqual(self.answers(), [])

    def test_flood(self) -> None:
        """A flood of offers in many names is answered as far as the share of its link goes."""
        for number in range(2000):
            self.end.write(self.hub.peer_id, DataType.OFFER, sender=number.to_bytes(20, "big"))
        self.assertLess(len(self.answers()), 600)
        self.assertGreater(self.dropped("too_many_requests"), 1300)

    def test_forged(self) -> None:
        """An offer whose signature does not hold is dropped."""
        offer = new_envelope(self.hub.peer_id, b"\x07" * 20, "1", DataType.OFFER)
        self.end.pass_on(sign(offer, self.end.peer.identity))
        self.assertEqual((self.answers(), self.dropped("offer")), ([], 1))

    def test_without_url(self) -> None:
        """Who cannot be dialled answers, and offers a link itself: it must be the one who dials."""
        self.hub.url = ""
        self.end.write(self.hub.peer_id, DataType.OFFER, sender=b"\x07" * 20)
        self.assertEqual(self.answers(), [Answer(None, False)])
        self.assertIn(b"\x07" * 20, self.offers())


class WrtcTests(PeerCase):
    """Links by WebRTC."""

    def test_two_of_ours(self) -> None:
        """Two without a port are linked by WebRTC, and prove to each other who they are, as they have signed before."""
        first, second = (self.network.add(bootstrap=[self.url], listens=False, is_wrtc=True) for _ in range(2))
        self.run_on(5)
        self.assertTrue(first.is_proved(second) and second.is_proved(first))
        self.assertEqual(first.peer.channels[second.peer_id].link.transport_name, "wrtc")
        first.send(second, "by WebRTC")
        self.run_on(1)
        self.assertEqual(second.data, ["by WebRTC"])

    def test_unasked_signals(self) -> None:
        """Signals of whom nobody offered a link, or agreed to one, begin nothing."""
        self.hub = self.network.add(is_wrtc=True)
        end = self.raw().linked(self.hub.url)
        end.write(self.hub.peer_id, DataType.SIGNAL, b'{"type":"offer","sdp":"0"}', sender=b"\x07" * 20)
        self.run_on(0.1)
        self.assertEqual((self.dropped("unexpected_signal"), self.hub.statistics["tries"]), (1, 0))

    def test_flood(self) -> None:
        """Those who are answered can begin so many connections at a time."""
        self.hub = self.network.add(is_wrtc=True)
        end = self.raw().linked(self.hub.url)
        for number in range(2 * MAX_ATTEMPTS):
            sender = number.to_bytes(20, "big")
            end.write(self.hub.peer_id, DataType.OFFER, sender=sender)
            end.write(self.hub.peer_id, DataType.SIGNAL, b'{"type":"offer","sdp":"0"}', sender=sender)
        self.run_on(0.2)
        self.assertEqual(self.hub.statistics["tries"], MAX_ATTEMPTS)
        self.assertEqual(self.dropped("unexpected_signal"), MAX_ATTEMPTS)
        self.run_on(25)
        self.assertEqual(self.hub.statistics["tries"], 0)
        late = b"\x99" * 20
        end.write(self.hub.peer_id, DataType.OFFER, sender=late)
        end.write(self.hub.peer_id, DataType.SIGNAL, b'{"type":"offer","sdp":"0"}', sender=late)
        self.run_on(0.1)
        self.assertEqual(self.hub.statistics["tries"], 1)

    def test_second_link(self) -> None:
        """A WebRTC link to a peer that is linked is closed, and leaves nothing that the end would wait for."""
        end = self.raw().linked(self.url)
        link, far = linked_pair(self.network.ground, transport_name="wrtc")
        far.start(end)
        self.assertIsNone(self.hub.peer.neighbourhood.link_opened(link, end.peer.peer_id))
        self.assertEqual((self.closed("duplicate"), self.hub.statistics["links_leaving"]), (1, 0))
        self.successResultOf(self.stopped())

    def stopped(self) -> Deferred[None]:
        """Stop the peer."""
        gone = self.hub.peer.stop()
        self.run_on(1)
        return gone
