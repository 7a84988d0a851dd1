"""What linked meshrelay peers say to each other: proofs, and whom else they are linked to."""

from __future__ import annotations

from typing import Any

from meshrelay.overlay.links import MAX_HOLDINGS
from meshrelay.overlay.own_links import MAX_NAMED_KIN
from meshrelay.overlay.signing import sign
from meshrelay.testing.overlay_links import MemoryOverlayLink
from meshrelay.testing.overlay_network import RawEnd
from meshrelay.wire.overlay import DataType
from tests.overlay.peer_kit import PeerCase, challenges, own_link_messages, own_message, prove


def named(end: RawEnd, name: str) -> list[str]:
    """All IDs that a peer named under one name, in order."""
    return [peer_id for message in own_link_messages(end) for peer_id in message.get(name, ())]


def hexes(start: int, count: int) -> list[str]:
    """IDs that nobody has."""
    return [number.to_bytes(20, "big").hex() for number in range(start, start + count)]


class ProofTests(PeerCase):
    """A challenge and its answer."""

    def test_asked(self) -> None:
        """Who says it is meshrelay is asked for a proof; a JavaScript peer hears nothing of it."""
        self.assertEqual(len(challenges(self.own_end(self.raw(is_own=True)))), 1)
        self.assertEqual(own_link_messages(self.raw().linked(self.url)), [])

    def test_proved(self) -> None:
        """A signed answer proves it."""
        end = self.own_end(self.raw(is_own=True))
        channel = self.hub.peer.channels[end.peer.peer_id]
        self.assertFalse(channel.is_proved)
        prove(end, self.hub.peer_id)
        self.run_on(0.1)
        self.assertTrue(channel.is_proved)
        self.assertEqual(self.hub.statistics["links_proved"], 1)

    def refused(self, answer: str | None = None, *, is_signed: bool = True, signer: Any = None) -> None:
        """Answer wrongly; the link is closed, and nothing is proved."""
        before = self.dropped("bad_proof")
        end = self.own_end(self.raw(is_own=True))
        answer = challenges(end)[0] if answer is None else answer
        end.pass_on(
            own_message(end, self.hub.peer_id, {"answer": answer}, (signer or end.peer.identity) if is_signed else None)
        )
        self.run_on(0.1)
        self.assertEqual((len(end.lost), self.hub.statistics["links_proved"]), (1, 0))
        self.assertEqual(self.dropped("bad_proof"), before + 1)

    def test_forged(self) -> None:
        """Nothing else does: no signature, somebody else's, or the answer to something else."""
        self.refused(is_signed=False)
        self.refused(signer=self.network.new_identity())
        self.refused("00" * 16)

    def test_changed(self) -> None:
        """A signature does not hold for another answer."""
        end = self.own_end(self.raw(is_own=True))
        signed = own_message(end, self.hub.peer_id, {"answer": "00" * 16}, end.peer.identity)
        other = own_message(end, self.hub.peer_id, {"answer": challenges(end)[0]})
        end.pass_on(other._replace(nonce=signed.nonce, extras=signed.extras))
        self.run_on(0.1)
        self.assertEqual((len(end.lost), self.hub.statistics["links_proved"]), (1, 0))

    def test_replayed(self) -> None:
        """A proof of yesterday proves nothing today: the challenge is another one."""
        other = self.raw(is_own=True)
        first = self.own_end(other)
        proof = own_message(first, self.hub.peer_id, {"answer": challenges(first)[0]}, other.identity)
        first.pass_on(proof)
        first.link.close()
        self.run_on(0.1)
        second = self.own_end(other)
        second.pass_on(proof)
        self.run_on(0.1)
        self.assertEqual((len(second.lost), self.hub.statistics["links_proved"]), (1, 0))

    def test_for_another(self) -> None:
        """A proof that was made for another peer proves nothing here."""
        end = self.own_end(self.raw(is_own=True))
        signed = sign(
            own_message(end, b"\x09" * 20, {"answer": challenges(end)[0]}),
            end.peer.identity,
        )
        end.pass_on(signed._replace(to=self.hub.peer_id))
        self.run_on(0.1)
        self.assertEqual(self.hub.statistics["links_proved"], 0)

    def test_unasked(self) -> None:
        """An answer that nobody asked for is counted, and costs a proved link nothing."""
        end = self.proved_end(self.raw(is_own=True))
        prove(end, self.hub.peer_id, at=0)
        self.run_on(0.1)
        self.assertEqual((end.lost, self.dropped("bad_proof")), ([], 1))

    def test_costly(self) -> None:
        """What would cost much to verify is not looked at."""
        end = self.own_end(self.raw(is_own=True))
        data = b'{"answer":"%b","x":[%b0]}' % (challenges(end)[0].encode(), b"0," * 20_000)
        end.pass_on(own_message(end, self.hub.peer_id, data, end.peer.identity))
        self.run_on(0.1)
        self.assertEqual(self.hub.statistics["links_proved"], 0)

    def test_answers(self) -> None:
        """The peer proves itself to whoever asks; a flood of challenges is answered as far as its share goes."""
        end = self.raw().linked(self.url)
        for number in range(1500):
            challenge = f"{number:032x}"
            end.pass_on(own_message(end, self.hub.peer_id, {"challenge": challenge}))
        self.run_on(0.2)
        answers = [message["answer"] for message in own_link_messages(end) if "answer" in message]
        self.assertEqual(answers[0], f"{0:032x}")
        self.assertLess(len(answers), 600)
        self.assertGreater(self.dropped("too_many_requests"), 900)

    def test_malformed(self) -> None:
        """What cannot be read is counted, and nothing of it is used."""
        end = self.proved_end(self.raw(is_own=True))
        for data in (b"[]", b'{"added": 1}', b'{"added": ["xyz"]}', b'{"added": ["00"]}', b'{"kin": ["00"]}', b"null"):
            end.pass_on(own_message(end, self.hub.peer_id, data))
        self.run_on(0.1)
        self.assertEqual(sum(self.hub.peer.counters.bad_frames.values()), 6)
        self.assertEqual((self.hub.statistics["holdings"], end.lost), (0, []))


class HoldingsTests(PeerCase):
    """Who is linked to whom."""

    def test_long_list_of_plain_ones(self) -> None:
        """A list of peers of npm's package, each of which is named twice, goes in parts that fit a frame."""
        end = self.proved_end(self.raw(is_own=True))
        javascript = self.raw().linked(self.url)
        channels = self.hub.peer._switch.channels
        channel, plain = channels[end.peer.peer_id], channels[javascript.peer.peer_id]
        ids = [bytes.fromhex(peer_id) for peer_id in hexes(1, 4000)]
        channels.update(dict.fromkeys(ids, plain))
        self.hub.peer._own_links._tell_added(channel, ids)
        for peer_id in ids:
            del channels[peer_id]
        self.run_on(0.1)
        self.assertEqual(self.dropped("too_large_for_link"), 0)
        self.assertEqual(len(set(named(end, "plain")) & set(hexes(1, 4000))), 4000)

    def test_told_when_there_is_room(self) -> None:
        """What did not fit a link that is busy is told when there is room again."""
        end = self.proved_end(self.raw(is_own=True))
        gone = self.raw().linked(self.url)
        self.run_on(0.5)
        assert isinstance(end.link, MemoryOverlayLink)
        end.link.is_reading = False
        link = self.hub.peer.channels[end.peer.peer_id].link
        for size in (200_000, 100):
            while link.send(b"x" * size):
                pass
        gone.link.close()
        come = self.raw().linked(self.url)
        self.run_on(1)
        self.assertGreater(self.dropped("link_too_slow"), 0)
        end.link.is_reading = True
        self.run_on(1)
        self.assertEqual(named(end, "removed"), [gone.peer.peer_id.hex()])
        self.assertIn(come.peer.peer_id.hex(), named(end, "added"))

    def test_told(self) -> None:
        """Who proves itself hears whom the peer is linked to, then what changes, a moment later."""
        javascript = self.raw().linked(self.url)
        end = self.proved_end(self.raw(is_own=True))
        self.assertEqual(named(end, "added"), [javascript.peer.peer_id.hex()])
        later = self.raw().linked(self.url)
        self.run_on(0.5)
        self.assertIn(later.peer.peer_id.hex(), named(end, "added"))
        later.link.close()
        self.run_on(0.5)
        self.assertEqual(named(end, "removed"), [later.peer.peer_id.hex()])

    def test_in_one(self) -> None:
        """What changes within a moment is one message."""
        end = self.proved_end(self.raw(is_own=True))
        self.run_on(0.5)
        before = len(own_link_messages(end))
        raws = [self.raw() for _ in range(20)]
        ends = [raw.dial(self.url) for raw in raws]
        for one in ends:
            one.say_hello()
        self.run_on(0.3)
        for one in ends:
            one.find_peers(self.hub.peer_id)
        self.run_on(0.5)
        self.assertEqual(len(own_link_messages(end)) - before, 1)
        self.assertEqual(len(named(end, "added")), 20)

    def test_not_of_deaf_ones(self) -> None:
        """A JavaScript peer that has not asked for peers has no room for us: nobody is told that it is linked."""
        end = self.proved_end(self.raw(is_own=True))
        deaf = self.raw().dial(self.url)
        deaf.say_hello()
        self.run_on(0.5)
        self.assertNotIn(deaf.peer.peer_id.hex(), named(end, "added"))
        deaf.link.close()
        self.run_on(0.5)
        self.assertEqual(named(end, "removed"), [], "nor that it is gone")

    def test_of_proved_ones(self) -> None:
        """One of ours need not ask."""
        first = self.proved_end(self.raw(is_own=True))
        second = self.proved_end(self.raw(is_own=True))
        self.run_on(0.5)
        self.assertIn(second.peer.peer_id.hex(), named(first, "added"))
        self.assertIn(first.peer.peer_id.hex(), named(second, "added"))
        self.assertNotIn(first.peer.peer_id.hex(), named(first, "added"), "nobody hears of itself")

    def test_kin(self) -> None:
        """Those of our kind are named to those of our kind, in both directions."""
        first = self.proved_end(self.raw(is_own=True))
        self.raw().linked(self.url)
        second = self.proved_end(self.raw(is_own=True))
        self.run_on(0.5)
        self.assertEqual(named(second, "kin"), [first.peer.peer_id.hex()])
        self.assertEqual(named(first, "kin"), [second.peer.peer_id.hex()])

    def test_used(self) -> None:
        """A message for a peer that a proved neighbour holds goes to that neighbour alone."""
        others = [self.raw().linked(self.url) for _ in range(5)]
        end = self.proved_end(self.raw(is_own=True))
        target = bytes.fromhex(hexes(1, 1)[0])
        end.pass_on(own_message(end, self.hub.peer_id, {"added": hexes(1, 1)}))
        self.run_on(0.1)
        self.hub.peer.send(target, "by the holder")
        self.run_on(0.1)
        self.assertEqual([len(other.envelopes(DataType.USER)) for other in (end, *others)], [1, 0, 0, 0, 0, 0])

    def test_plain(self) -> None:
        """Of peers of npm's package it is said that they are; who writes to one does not wait for what never comes."""
        javascript = self.raw().linked(self.url)
        end = self.proved_end(self.raw(is_own=True))
        other = self.proved_end(self.raw(is_own=True))
        self.run_on(0.5)
        self.assertEqual(named(other, "plain"), [javascript.peer.peer_id.hex()])
        self.assertIn(end.peer.peer_id.hex(), named(other, "added"))
        end.pass_on(own_message(end, self.hub.peer_id, {"added": hexes(1, 2), "plain": hexes(1, 1)}))
        self.run_on(0.1)
        fired = self.results(*(self.hub.peer.send(bytes.fromhex(target), "x") for target in hexes(1, 2)))
        self.assertEqual(fired, [None], "the other one is waited for")
        self.run_on(10)
        plain = [envelope for envelope in end.envelopes(DataType.USER) if envelope.to.hex() == hexes(1, 1)[0]]
        self.assertEqual(len(plain), 1)

    def test_not_believed(self) -> None:
        """Who has not proved itself is not believed what it is linked to."""
        for end in (self.own_end(self.raw(is_own=True)), self.raw().linked(self.url)):
            end.pass_on(own_message(end, self.hub.peer_id, {"added": hexes(0, 5), "kin": hexes(10, 5)}))
        self.run_on(0.1)
        self.assertEqual((self.hub.statistics["holdings"], self.hub.statistics["kin"]), (0, 0))

    def test_flood(self) -> None:
        """A neighbour can claim so many and no more, and takes them along when it goes."""
        end = self.proved_end(self.raw(is_own=True))
        for part in range(8):
            end.pass_on(own_message(end, self.hub.peer_id, {"added": hexes(part * 2500, 2500)}))
        self.run_on(0.1)
        self.assertEqual(self.hub.statistics["holdings"], MAX_HOLDINGS)
        self.assertEqual(self.hub.statistics["holdings_refused"], 20_000 - MAX_HOLDINGS)
        end.link.close()
        self.run_on(0.1)
        self.assertEqual(self.hub.statistics["holdings"], 0)

    def test_long_list(self) -> None:
        """A list that is longer than a frame goes in parts."""
        hub = self.hub.peer._own_links
        hub._announced.update(bytes.fromhex(peer_id) for peer_id in hexes(1, 9000))
        end = self.proved_end(self.raw(is_own=True))
        self.run_on(0.1)
        self.assertEqual(len(named(end, "added")), 9000)
        self.assertTrue(all(len(frame) <= 262_144 for frame in end.frames))

    def test_once(self) -> None:
        """A peer is named once, though it has proved itself and asks for peers; a second link changes nothing."""
        watcher = self.proved_end(self.raw(is_own=True))
        other = self.raw(is_own=True)
        first = self.proved_end(other)
        self.run_on(0.5)
        first.find_peers(self.hub.peer_id)
        self.run_on(0.5)
        second = self.own_end(other)
        second.link.close()
        self.run_on(0.5)
        self.assertEqual((named(watcher, "added"), named(watcher, "removed")), ([other.peer_id.hex()], []))

    def test_displaced(self) -> None:
        """A link that took the place of a stranger's counts like any other: others hear of it."""
        watcher = self.proved_end(self.raw(is_own=True))
        owner = self.raw(is_own=True)
        self.raw().dial(self.url).say_hello(owner.peer_id)
        self.run_on(0.1)
        self.proved_end(owner)
        self.run_on(0.5)
        self.assertIn(owner.peer_id.hex(), named(watcher, "added"))
        self.assertEqual(named(watcher, "removed"), [])


class KinFloodTests(PeerCase):
    """Neighbours of our kind that name whom they like."""

    def test_bounded(self) -> None:
        """A flood of names is bounded, and each of them costs an offer at most."""
        end = self.proved_end(self.raw(is_own=True))
        for part in range(10):
            end.pass_on(own_message(end, self.hub.peer_id, {"kin": hexes(part * 3000, 3000)}))
        self.run_on(1.0)
        self.assertLessEqual(self.hub.statistics["kin"], MAX_NAMED_KIN)
        self.assertLessEqual(self.hub.statistics["handshakes_pending"], 64)

    def test_forgotten(self) -> None:
        """Names that nobody has are forgotten after some tries."""
        end = self.proved_end(self.raw(is_own=True))
        end.pass_on(own_message(end, self.hub.peer_id, {"kin": hexes(0, 5)}))
        self.run_on(1)
        self.assertEqual(self.hub.statistics["kin"], 5)
        self.run_on(150)
        self.assertEqual(self.hub.statistics["kin"], 0)

    def test_others_are_found(self) -> None:
        """Names that nobody has do not keep those from being linked that another neighbour names."""
        end = self.proved_end(self.raw(is_own=True))
        end.pass_on(own_message(end, self.hub.peer_id, {"kin": hexes(0, 1000)}))
        self.run_on(1.0)
        leaves = [self.network.add(bootstrap=[self.url]) for _ in range(10)]
        self.run_on(5)
        end.pass_on(own_message(end, self.hub.peer_id, {"kin": hexes(5000, 1000)}))
        self.run_on(20)
        linked = [sum(leaf.is_linked(other) for other in leaves) for leaf in leaves]
        self.assertEqual(linked, [9] * 10)
