"""All that leads to links: bootstraps, who is heard of, who is dialled, who is closed."""

from __future__ import annotations

from meshrelay.overlay.neighbourhood import ANSWER_SECONDS, ASK_SECONDS, DEAF_SECONDS, MAX_ASKED
from meshrelay.overlay.options import PeerOptions
from meshrelay.testing.overlay_network import NetworkPeer, OverlayNetwork, RawEnd
from meshrelay.wire.overlay import DataType, decode_ids, encode_id
from tests.overlay.peer_kit import PeerCase


def ids(start: int, count: int) -> list[bytes]:
    """Peers that nobody is."""
    return [number.to_bytes(20, "big") for number in range(start, start + count)]


class BootstrapTests(PeerCase):
    """The first links, and their return."""

    def network_of(self, count: int) -> list[NetworkPeer]:
        """A hub and its leaves, linked."""
        leaves = [self.network.add(bootstrap=[self.url]) for _ in range(count)]
        self.run_on(12)
        return leaves

    def test_linked(self) -> None:
        """Those that have one bootstrap in common find each other."""
        leaves = self.network_of(5)
        self.assertEqual({len(peer.peer.channels) for peer in (self.hub, *leaves)}, {5})

    def test_hub_restarts(self) -> None:
        """A hub that dies and comes back is linked again within ten seconds, with its old ID or a new one."""
        for keeps_key in (True, False):
            back = self.after_restart(keeps_key)
            self.assertEqual(back.peer_id == self.hub.peer_id, keeps_key)
            self.hub = back

    def after_restart(self, keeps_key: bool) -> NetworkPeer:
        """Let the hub die and come back, and be linked in time."""
        leaves = self.network_of(5)
        self.network.kill(self.hub)
        self.run_on(2)
        self.assertFalse(any(leaf.is_linked(self.hub) for leaf in leaves))
        back = self.network.restart(self.hub, keeps_key=keeps_key)
        is_healed = self.network.run(10, lambda: all(leaf.is_linked(back) for leaf in leaves))
        self.assertTrue(is_healed, f"keeps its key: {keeps_key}")
        return back

    def test_late_hub(self) -> None:
        """A bootstrap that comes up long after the others is found."""
        self.network.kill(self.hub)
        leaf = self.network.add(bootstrap=[self.url])
        self.run_on(60)
        back = self.network.restart(self.hub)
        self.assertTrue(self.network.run(35, lambda: leaf.is_linked(back)))

    def test_silent_hub(self) -> None:
        """A bootstrap that answers nothing is tried again, and costs the others nothing."""
        self.network.places.black_holes.add("ws://127.0.0.1:7")
        leaf = self.network.add(bootstrap=["ws://127.0.0.1:7", self.url])
        self.assertTrue(self.network.run(1, lambda: leaf.is_linked(self.hub)))
        self.run_on(60)
        self.assertGreater(self.network.places.dialled.count(("ws://127.0.0.1:7", False)), 2)

    def test_itself(self) -> None:
        """A bootstrap that leads to the peer itself is dialled once."""
        url = f"ws://127.0.0.1:{10_000 + len(self.network.peers)}"
        peer = self.network.add(bootstrap=[url])
        self.run_on(60)
        self.assertEqual(self.network.places.dialled.count((url, False)), 1)
        self.assertEqual(peer.statistics["links"], 0)

    def test_linked_already(self) -> None:
        """A bootstrap that turns out to be a peer that is linked is not dialled again and again."""
        leaf = self.network.add(bootstrap=[self.url])
        self.run_on(2)
        second_name = "ws://127.0.0.1:8"
        self.network.places.listen(second_name, self.hub.accept, is_own=True)
        leaf.peer.neighbourhood.bootstraps._places.update(
            type(leaf.peer.neighbourhood.bootstraps)([second_name], lambda low, high: high)._places
        )
        self.run_on(60)
        self.assertEqual(self.network.places.dialled.count((second_name, False)), 1)
        self.assert_one_link(leaf, self.hub)

    def test_full_hub(self) -> None:
        """A hub without room is asked again later."""
        network = OverlayNetwork()
        hub = network.add(options=PeerOptions(max_links=1))
        first = network.add(bootstrap=[hub.url], options=PeerOptions(wanted_links=0, wanted_own_links=0))
        network.run(2)
        second = network.add(bootstrap=[hub.url])
        network.run(5)
        self.assertFalse(second.is_linked(hub))
        first.peer.stop()
        self.assertTrue(network.run(35, lambda: second.is_linked(hub)))

    def test_full_itself(self) -> None:
        """A peer that had no room for its bootstrap dials it again later."""
        url = f"ws://127.0.0.1:{10_000 + len(self.network.peers)}"
        leaf = self.network.add(bootstrap=[self.url], options=PeerOptions(max_links=1), is_started=False)
        end = self.raw().linked(url)
        leaf.peer.start()
        self.run_on(5)
        self.assertFalse(leaf.is_linked(self.hub))
        end.link.close()
        self.assertTrue(self.network.run(35, lambda: leaf.is_linked(self.hub)))

    def test_disconnected(self) -> None:
        """A bootstrap that the user has left is not dialled until the user asks for it."""
        leaf = self.network.add(bootstrap=[self.url])
        self.run_on(12)
        self.assertTrue(leaf.peer.disconnect(self.hub.peer_id))
        self.run_on(60)
        self.assertFalse(leaf.is_linked(self.hub))


class HeardOfTests(PeerCase):
    """Who asks and who names whom."""

    def setUp(self) -> None:
        """A JavaScript peer is linked."""
        super().setUp()
        self.end = self.raw().linked(self.url)

    def offers(self) -> set[bytes]:
        """Whom the peer has offered links."""
        self.run_on(0.1)
        return {envelope.to for envelope in self.end.envelopes(DataType.OFFER)}

    def test_asks(self) -> None:
        """Whoever is linked is asked for peers near the own ID, at once."""
        asked = self.end.envelopes(DataType.FIND_PEERS)
        self.assertEqual([envelope.data for envelope in asked], [encode_id(self.hub.peer_id)])

    def test_asks_again(self) -> None:
        """While there are too few links it is asked now and then."""
        self.run_on(ASK_SECONDS + 2)
        self.assertEqual(len(self.end.envelopes(DataType.FIND_PEERS)), 3)

    def test_named(self) -> None:
        """Who is named is offered a link."""
        self.end.found_peers(self.hub.peer_id, ids(1, 5))
        self.assertEqual(self.offers(), set(ids(1, 5)))

    def test_unasked(self) -> None:
        """What nobody asked for is ignored: a second answer, a late one, or one of somebody else."""
        self.end.write(self.hub.peer_id, DataType.FOUND_PEERS, b'["%b"]' % (b"09" * 20), sender=b"\x07" * 20)
        self.end.found_peers(self.hub.peer_id, ids(1, 1))
        self.end.found_peers(self.hub.peer_id, ids(10, 5))
        self.assertEqual((self.offers(), self.dropped("unasked_peers")), (set(ids(1, 1)), 2))

    def test_late(self) -> None:
        """An answer that comes after half a minute is ignored."""
        end = self.raw().linked(self.url)
        asked = self.hub.peer.neighbourhood._asked
        asked[end.peer.peer_id] -= ANSWER_SECONDS + 1
        end.found_peers(self.hub.peer_id, ids(1, 3))
        self.assertEqual((self.offers(), self.dropped("unasked_peers")), (set(), 1))

    def test_not_by_another(self) -> None:
        """Nobody answers in the name of a neighbour that was asked."""
        other = self.raw().linked(self.url)
        other.write(self.hub.peer_id, DataType.FOUND_PEERS, b'["%b"]' % (b"09" * 20), sender=self.end.peer.peer_id)
        self.run_on(0.1)
        self.assertEqual(self.dropped("unasked_peers"), 1)
        self.end.found_peers(self.hub.peer_id, ids(1, 1))
        self.assertEqual(self.offers(), set(ids(1, 1)))

    def test_flood(self) -> None:
        """A flood of names is bounded in what is kept and in what is offered."""
        for number in range(200):
            self.end.found_peers(self.hub.peer_id, ids(20 * number, 20))
        self.run_on(20)
        self.assertLessEqual(self.hub.statistics["candidates"], 100)
        self.assertLessEqual(len(self.offers()), 100)

    def test_answers(self) -> None:
        """Whoever asks, for whomever, hears of twenty peers at most, all of them linked here, and not of itself."""
        others = [self.raw().linked(self.url) for _ in range(25)]
        before = len(self.end.envelopes(DataType.FOUND_PEERS))
        self.end.find_peers(self.hub.peer_id)
        farthest = bytes(255 - byte for byte in self.end.peer.peer_id)
        self.end.write(self.hub.peer_id, DataType.FIND_PEERS, encode_id(farthest))
        self.run_on(0.1)
        answers = self.end.envelopes(DataType.FOUND_PEERS)[before:]
        self.assertEqual(len(answers), 2)
        for answer in answers:
            named = decode_ids(answer.data or b"")
            # Whoever reads more than twenty cuts them off.
            self.assertEqual((len(named), answer.cut), (20, 0))
            self.assertTrue(set(named) <= {other.peer.peer_id for other in others})

    def test_invented(self) -> None:
        """IDs that somebody has named, and that nobody was ever linked to, are not passed on to whoever asks."""
        self.end.found_peers(self.hub.peer_id, ids(1, 20))
        other = self.raw().linked(self.url)
        other.find_peers(self.hub.peer_id)
        self.run_on(0.1)
        answer = other.envelopes(DataType.FOUND_PEERS)[-1]
        self.assertEqual(decode_ids(answer.data or b""), [self.end.peer.peer_id])

    def test_reflection(self) -> None:
        """Questions in the name of a neighbour that is to be flooded are answered as far as their link's share goes."""
        victim = self.raw().linked(self.url)
        for _ in range(2000):
            self.end.write(self.hub.peer_id, DataType.FIND_PEERS, encode_id(b"\x01" * 20), sender=victim.peer.peer_id)
        self.run_on(0.2)
        self.assertLess(len(victim.envelopes(DataType.FOUND_PEERS)), 600)

    def test_asked_bound(self) -> None:
        """So many peers are asked at a time."""
        neighbourhood = self.hub.peer.neighbourhood
        for peer_id in ids(1, MAX_ASKED + 100):
            neighbourhood._remember_asked(peer_id, 0.0)
        self.assertEqual(self.hub.statistics["peers_asked"], MAX_ASKED)

    def test_unlinkable(self) -> None:
        """Those that cannot be linked with do not stand before those that can."""
        options = PeerOptions(wanted_links=5)
        self.hub = self.network.add(options=options)
        self.end = self.raw().linked(self.url)
        near = [self.hub.peer_id[:17] + number.to_bytes(3, "big") for number in range(20)]
        self.end.found_peers(self.hub.peer_id, near)
        far = bytes(255 - byte for byte in self.hub.peer_id)
        answered = 0
        for second in range(40):
            offers = self.end.envelopes(DataType.OFFER)
            for envelope in offers[answered:]:
                self.end.answer(self.hub.peer_id, None, sender=envelope.to)
            answered = len(offers)
            self.run_on(1)
            if second == ASK_SECONDS + 2:
                self.end.found_peers(self.hub.peer_id, [far])
        self.assertEqual(self.offers(), {*near, far})

    def test_unknown_type(self) -> None:
        """What means nothing to this peer is counted."""
        self.end.write(self.hub.peer_id, "of tomorrow", b"1")
        self.run_on(0.1)
        self.assertEqual(self.dropped("unknown_type"), 1)


class DeafTests(PeerCase):
    """JavaScript peers that have no room for us."""

    def dialled(self, count: int) -> tuple[NetworkPeer, list[RawEnd]]:
        """A peer that has dialled some that listen."""
        raws = [self.raw() for _ in range(count)]
        for number, raw in enumerate(raws):
            raw.listen(f"ws://127.0.0.1:{number + 1}")
        urls = [f"ws://127.0.0.1:{number + 1}" for number in range(count)]
        peer = self.network.add(bootstrap=urls)
        self.run_on(0.2)
        ends = [raw.ends[0] for raw in raws]
        for end in ends:
            end.say_hello()
        self.run_on(0.2)
        return peer, ends

    def test_closed(self) -> None:
        """One that has not asked for peers within three seconds is closed, as long as there is another."""
        peer, (deaf, hearing) = self.dialled(2)
        hearing.find_peers(peer.peer_id)
        self.run_on(DEAF_SECONDS + 2)
        self.assertEqual((len(deaf.lost), hearing.lost), (1, []))
        self.assertEqual(peer.peer.counters.links_closed["deaf"], 1)

    def test_the_only_one(self) -> None:
        """The only link is kept: half a link is better than none."""
        _, (deaf,) = self.dialled(1)
        self.run_on(DEAF_SECONDS + 5)
        self.assertEqual(deaf.lost, [])

    def test_came_by_itself(self) -> None:
        """One that dialled us is kept."""
        self.raw().linked(self.url)
        quiet = self.raw().dial(self.url)
        quiet.say_hello()
        self.run_on(DEAF_SECONDS + 5)
        self.assertEqual(quiet.lost, [])
