"""All channels of a peer: one to each, whoever comes in whose name; and envelopes on their way."""

from __future__ import annotations

import os

from meshrelay.http.overlay_metrics import OVERLAY_COUNTS
from meshrelay.overlay.options import PeerOptions
from meshrelay.overlay.rivals import MAX_HELD
from meshrelay.overlay.switch import PROBE_SECONDS, PROOF_SECONDS, SPARE_SECONDS
from meshrelay.testing.overlay_network import NetworkPeer, OverlayNetwork, RawEnd, RawPeer
from meshrelay.wire.overlay import DataType
from tests.overlay.peer_kit import PeerCase, challenges, own_message, prove

SEEDS = 200


class DuplicateTests(PeerCase):
    """A second link to a peer that proves nothing."""

    def test_javascript_comes_twice(self) -> None:
        """A JavaScript peer that is linked dials again: closed before it hears our name, the first link stays."""
        other = self.raw()
        first = other.linked(self.url)
        second = other.dial(self.url)
        second.say_hello()
        self.run_on(0.1)
        self.assertEqual((second.frames, len(second.lost)), ([], 1))
        self.assertEqual((first.lost, self.closed("duplicate")), ([], 1))
        first.write_user(self.hub.peer_id, "still here")
        self.run_on(0.1)
        self.assertEqual(self.hub.data, ["still here"])

    def test_own_id(self) -> None:
        """Whoever says our own ID is closed unheard."""
        end = self.raw().dial(self.url)
        end.say_hello(self.hub.peer_id)
        self.run_on(0.1)
        self.assertEqual((end.frames, self.closed("own_id"), self.hub.linked), ([], 1, []))

    def test_full(self) -> None:
        """There are so many links at most, those that have not said their name among them; then there is room again."""
        network = OverlayNetwork()
        hub = network.add(options=PeerOptions(max_links=3))
        raws = [network.add_raw() for _ in range(5)]
        ends = [raw.dial(hub.url) for raw in raws]
        self.assertEqual([len(end.lost) for end in ends], [0, 0, 0, 1, 1])
        self.assertEqual(hub.peer.counters.links_closed["full"], 2)
        ends[0].link.close()
        network.run(0.1)
        again = raws[3].dial(hub.url)
        self.assertEqual(again.lost, [])


class CrossingTests(PeerCase):
    """Two of ours dial each other at the same moment."""

    def test_one_stays(self) -> None:
        """Exactly one link stays, both ends mean the same one, and their users were told once."""
        for seed in range(SEEDS):
            network = self.network = OverlayNetwork(seed, (0.0005, 0.2))
            first = network.add(bootstrap=["ws://127.0.0.1:10001"])
            second = network.add(bootstrap=["ws://127.0.0.1:10000"])
            network.run(8)
            why = f"seed {seed}"
            self.assert_one_link(first, second, why)
            self.assertTrue(first.is_proved(second) and second.is_proved(first), why)
            self.assertEqual((first.linked, second.linked), ([second.peer_id], [first.peer_id]), why)
            self.assertEqual(first.statistics["links_rival"] + second.statistics["links_rival"], 0, why)
            self.assertEqual(len(network.places.dialled), 2, why)

    def test_nothing_lost(self) -> None:
        """What is sent while the links are decided upon arrives, whichever of them it went by."""
        for seed in range(20):
            network = OverlayNetwork(seed, (0.05, 0.1))
            first = network.add(bootstrap=["ws://127.0.0.1:10001"])
            second = network.add(bootstrap=["ws://127.0.0.1:10000"])
            for number in range(50):
                first.send(second, number)
                second.send(first, number)
                network.run(0.02)
            network.run(5)
            self.assertEqual(sorted(first.data), list(range(50)), f"seed {seed}")
            self.assertEqual(sorted(second.data), list(range(50)), f"seed {seed}")

    def test_held(self) -> None:
        """What a second link brings before its proof is kept, and handed over with the proof."""
        other = self.raw(is_own=True)
        self.raw_stranger(other)
        end = self.own_end(other)
        # Of its own it would be signed, or is not believed to be its own.
        end.write_user(self.hub.peer_id, "early", sender=b"\x07" * 20)
        self.run_on(0.1)
        self.assertEqual((self.hub.data, self.hub.statistics["envelopes_held"]), ([], 1))
        prove(end, self.hub.peer_id)
        self.run_on(0.1)
        self.assertEqual((self.hub.data, self.hub.statistics["envelopes_held"]), (["early"], 0))

    def test_held_bound(self) -> None:
        """So much is kept of it; all of it is counted when no proof comes."""
        other = self.raw(is_own=True)
        self.raw_stranger(other)
        end = self.own_end(other)
        for number in range(MAX_HELD + 10):
            end.write_user(self.hub.peer_id, number)
        self.run_on(0.1)
        self.assertEqual((self.hub.statistics["envelopes_held"], self.dropped("not_proved")), (MAX_HELD, 10))
        end.link.abort()
        self.run_on(0.1)
        self.assertEqual((self.hub.statistics["envelopes_held"], self.dropped("not_proved")), (0, MAX_HELD + 10))

    def raw_stranger(self, victim: RawPeer) -> RawEnd:
        """Somebody in another's name, as a JavaScript peer."""
        end = self.raw().dial(self.url)
        end.say_hello(victim.peer_id)
        self.run_on(0.05)
        return end


class ProofTests(PeerCase):
    """Who has the key of an ID has the link to it."""

    def squat(self, victim: RawPeer, *, is_own: bool) -> RawEnd:
        """Somebody links in another's name."""
        end = self.raw().dial(self.url, is_own=is_own)
        end.say_hello(victim.peer_id)
        self.run_on(0.05)
        self.assertIn(victim.peer_id, self.hub.peer.channels)
        return end

    def is_with(self, end: RawEnd) -> bool:
        """Whether messages for the peer of an end go to that end."""
        before = len(end.frames)
        self.hub.peer.send(end.peer.peer_id, "x")
        self.run_on(0.1)
        return len(end.frames) > before

    def test_displaces_javascript(self) -> None:
        """A stranger that took an ID first, as a JavaScript peer, gives way to the one who proves it."""
        owner = self.raw(is_own=True)
        stranger = self.squat(owner, is_own=False)
        end = self.own_end(owner)
        self.assertFalse(self.is_with(end))
        prove(end, self.hub.peer_id)
        self.run_on(0.1)
        self.assertTrue(self.is_with(end))
        self.assertEqual((len(stranger.lost), self.hub.linked), (1, [owner.peer_id]))

    def test_displaces_own(self) -> None:
        """So does one that says it is meshrelay, and it is closed when its time for a proof is over."""
        owner = self.raw(is_own=True)
        stranger = self.squat(owner, is_own=True)
        end = self.own_end(owner)
        prove(end, self.hub.peer_id)
        self.run_on(0.1)
        self.assertTrue(self.is_with(end))
        self.assertEqual(stranger.lost, [], "it may be the same peer, and about to prove it")
        self.run_on(PROOF_SECONDS + 1)
        self.assertEqual((len(stranger.lost), end.lost), (1, []))

    def test_contender_never_displaces(self) -> None:
        """Who proves nothing displaces nobody, and is closed."""
        other = self.raw()
        first = other.linked(self.url)
        contender = self.raw().dial(self.url, is_own=True)
        contender.say_hello(other.peer_id)
        self.run_on(PROOF_SECONDS - 1)
        contender.write_user(self.hub.peer_id, "in another's name")
        self.run_on(2.5)
        self.assertEqual((len(contender.lost), first.lost, self.closed("unproved")), (1, [], 1))
        self.assertEqual((self.hub.data, self.hub.linked), ([], [other.peer_id]))

    def test_says_it_is_ours(self) -> None:
        """Who says it is meshrelay and cannot prove it is closed."""
        end = self.own_end(self.raw(is_own=True))
        self.run_on(PROOF_SECONDS - 1)
        self.assertEqual(end.lost, [])
        self.run_on(2)
        self.assertEqual((len(end.lost), self.closed("unproved")), (1, 1))

    def test_kept_places(self) -> None:
        """Who keeps all places for second links keeps nobody out that has the key."""
        owner = self.raw(is_own=True)
        self.squat(owner, is_own=True)
        for _ in range(3):
            for _ in range(20):
                self.raw().dial(self.url, is_own=True).say_hello(owner.peer_id)
            end = self.own_end(owner)
        prove(end, self.hub.peer_id)
        self.run_on(0.1)
        self.assertTrue(self.is_with(end))

    def pair(self, *, is_lower: bool) -> tuple[NetworkPeer, RawPeer, RawEnd]:
        """A peer with a proved link to one that is moved by hand.

        :param is_lower: the peer has the lower ID.
        """
        identities = sorted([self.network.new_identity() for _ in range(2)], key=lambda one: one.peer_id)
        own, others = identities if is_lower else reversed(identities)
        self.hub = self.network.add(identity=own)
        other = self.raw(is_own=True, identity=others)
        return self.hub, other, self.proved_end(other)

    def test_living_link_stays(self) -> None:
        """A proved link that answers is displaced by nobody; the end with the lower ID closes the second one."""
        _, other, first = self.pair(is_lower=True)
        second = self.proved_end(other)
        self.assertEqual(len(challenges(first)), 2, "the first is asked whether it is there")
        prove(first, self.hub.peer_id)
        self.run_on(0.1)
        self.assertEqual((first.lost, len(second.lost), self.closed("duplicate")), ([], 1, 1))
        self.run_on(PROBE_SECONDS + 2)
        self.assertEqual(first.lost, [])

    def test_higher_end_waits(self) -> None:
        """The end with the higher ID closes neither, and goes with whichever the other one keeps."""
        _, other, first = self.pair(is_lower=False)
        second = self.proved_end(other)
        prove(first, self.hub.peer_id)
        self.run_on(PROBE_SECONDS + 2)
        self.assertEqual((first.lost, second.lost), ([], []))
        first.link.close()
        self.run_on(0.1)
        self.assertTrue(self.is_with(second))
        self.assertEqual(self.hub.linked, [other.peer_id], "nobody needs to know")
        self.assertTrue(self.hub.peer.channels[other.peer_id].is_proved)

    def test_held_by_second(self) -> None:
        """What a second link brought before its proof counts when it is proved, though the first one stays."""
        _, other, first = self.pair(is_lower=False)
        second = self.own_end(other)
        second.write_user(self.hub.peer_id, "early", sender=b"\x07" * 20)
        prove(second, self.hub.peer_id)
        self.run_on(0.1)
        self.assertEqual((self.hub.data, first.lost), (["early"], []))

    def test_left(self) -> None:
        """Who leaves a peer leaves all links to it, and none takes the place of another."""
        _, other, first = self.pair(is_lower=False)
        second = self.proved_end(other)
        self.assertTrue(self.hub.peer.disconnect(other.peer_id))
        self.run_on(0.1)
        self.assertEqual((len(first.lost), len(second.lost), self.hub.is_linked(other)), (1, 1, False))

    def test_spare(self) -> None:
        """A second link that the other end neither takes nor closes is closed in the end."""
        _, other, first = self.pair(is_lower=False)
        second = self.proved_end(other)
        prove(first, self.hub.peer_id)
        self.run_on(SPARE_SECONDS + 2)
        self.assertEqual((first.lost, len(second.lost)), ([], 1))

    def test_dead_link(self) -> None:
        """A link that is half dead gives way, soon, to that of the same peer that came back."""
        for is_lower in (True, False):
            _, other, first = self.pair(is_lower=is_lower)
            second = self.proved_end(other)
            self.run_on(PROBE_SECONDS + 1.5)
            self.assertEqual((len(first.lost), second.lost), (1, []))
            self.assertTrue(self.is_with(second))
            self.assertEqual((self.closed("dead"), self.hub.linked), (1, [other.peer_id]))

    def test_doubt_passes(self) -> None:
        """A link is not closed for its silence when the second one is gone by then."""
        _, other, first = self.pair(is_lower=True)
        self.proved_end(other).link.close()
        self.run_on(PROBE_SECONDS + 2)
        self.assertEqual(first.lost, [])

    def test_relayed_proof(self) -> None:
        """Who passes on the challenge and the proof of another displaces no living link of it."""
        _, other, first = self.pair(is_lower=True)
        thief = self.raw().dial(self.url, is_own=True)
        thief.say_hello(other.peer_id)
        self.run_on(0.05)
        thief.pass_on(own_message(first, self.hub.peer_id, {"answer": challenges(thief)[-1]}, other.identity))
        self.run_on(0.05)
        prove(first, self.hub.peer_id)
        self.run_on(0.1)
        self.assertEqual((first.lost, len(thief.lost)), ([], 1))
        self.assertTrue(self.is_with(first))

    def test_comes_back_at_once(self) -> None:
        """A machine that died without a word and is back is linked again within ten seconds."""
        hub = self.network.add()
        leaf = self.network.add(bootstrap=[hub.url])
        self.run_on(15)
        self.network.kill(leaf, is_silent=True)
        back = self.network.restart(leaf)
        self.run_on(10)
        self.assert_one_link(hub, back)
        self.assertEqual(hub.linked, [leaf.peer_id])
        self.results(hub.send(back, "welcome"))
        self.run_on(1)
        self.assertEqual(back.data, ["welcome"])


class UnsignedTests(PeerCase):
    """A peer that takes nobody who proves nothing."""

    options = PeerOptions(accepts_unsigned=False)

    def test_javascript(self) -> None:
        """A JavaScript peer is closed as soon as it has said its name, and hears none."""
        end = self.raw().dial(self.url)
        end.say_hello()
        self.run_on(0.1)
        self.assertEqual((end.frames, len(end.lost)), ([], 1))
        self.assertEqual((self.hub.linked, self.closed("unproved")), ([], 1))

    def test_ours(self) -> None:
        """One of ours is linked once it has proved itself, and not before."""
        end = self.own_end(self.raw(is_own=True))
        self.assertEqual((self.hub.linked, len(self.hub.peer.channels)), ([], 0))
        prove(end, self.hub.peer_id)
        self.run_on(0.1)
        self.assertEqual(self.hub.linked, [end.peer.peer_id])

    def test_says_it_is_ours(self) -> None:
        """One that only says that it is ours never is."""
        end = self.own_end(self.raw(is_own=True))
        end.write_user(self.hub.peer_id, "hello")
        self.run_on(PROOF_SECONDS + 1)
        self.assertEqual((self.hub.linked, self.hub.data, len(end.lost)), ([], [], 1))

    def test_two_of_ours(self) -> None:
        """Two that ask for proofs are linked and talk."""
        leaf = self.network.add(bootstrap=[self.url], options=self.options)
        self.run_on(2)
        self.hub.send(leaf, "proved")
        self.run_on(1)
        self.assertEqual((leaf.data, leaf.messages[0].is_verified), (["proved"], True))


class WayTests(PeerCase):
    """Envelopes come in and go on."""

    def test_relay(self) -> None:
        """An envelope of one neighbour for another is passed on, once, with our ID at the end of its path."""
        first, second = self.raw().linked(self.url), self.raw().linked(self.url)
        sent = first.write_user(second.peer.peer_id, "hello")
        first.pass_on(sent)
        self.run_on(0.1)
        (came,) = second.envelopes(DataType.USER)
        self.assertEqual(came.path, (first.peer.peer_id, self.hub.peer_id))
        self.assertEqual((came.data, self.dropped("duplicate")), (b'"hello"', 1))
        self.assertEqual((self.hub.statistics["messages_relayed"], self.hub.data), (1, []))

    def test_receiver_that_does_not_read(self) -> None:
        """What does not fit into a link is dropped and counted, and costs no other link anything."""
        writer, slow, fast = (self.raw().linked(self.url) for _ in range(3))
        slow.link.is_reading = False  # type: ignore[attr-defined]
        for _ in range(30):
            writer.write_user(slow.peer.peer_id, "x" * 200_000)
            self.run_on(0.02)
        writer.write_user(fast.peer.peer_id, "quick")
        self.run_on(0.2)
        self.assertGreater(self.dropped("link_too_slow"), 5)
        self.assertEqual(len(fast.envelopes(DataType.USER)), 1)

    def test_not_from_neighbour(self) -> None:
        """What linked peers say to each other counts from the other end alone, and is never passed on."""
        first, second = self.raw().linked(self.url), self.raw().linked(self.url)
        first.write(second.peer.peer_id, DataType.HOLDINGS, b"{}")
        first.write(self.hub.peer_id, DataType.HOLDINGS, b"{}", sender=second.peer.peer_id)
        self.run_on(0.1)
        self.assertEqual((second.envelopes(DataType.HOLDINGS), self.dropped("not_from_neighbour")), ([], 2))

    def test_bounded(self) -> None:
        """However much goes through a peer, its tables stay within their bounds."""
        count = int(os.environ.get("MESHRELAY_MESSAGES", "20000"))
        network = OverlayNetwork(latency_seconds=(0.001, 0.001))
        options = PeerOptions(link_frames_per_second=1e9, link_bytes_per_second=1e12)
        hub = network.add(options=options)
        ends = [network.add_raw().linked(hub.url) for _ in range(10)]
        peer_ids = [end.peer.peer_id for end in ends]
        for number in range(count):
            end = ends[number % 10]
            invented = number.to_bytes(20, "little")
            for_whom = (peer_ids[number % 7], invented, hub.peer_id)[number % 3]
            end.write_user(for_whom, number, sender=invented if number % 4 else None)
            if number % 500 == 0:
                network.run(0.02)
                hub.messages.clear()
                for other in ends:
                    other.frames.clear()
        network.run(0.1)
        counts = {*hub.peer.counters.totals(), *OVERLAY_COUNTS}
        sizes = {name: size for name, size in hub.statistics.items() if name not in counts}
        for name, bound in (("nonces", 100_000), ("paths", 50_000), ("correspondents", 10_000), ("doubts", 10_000)):
            self.assertLessEqual(sizes.pop(name), bound, name)
        self.assertEqual(sizes.pop("links"), 10)
        self.assertTrue(all(size <= 100 for size in sizes.values()), f"{sizes}")
        self.assertGreaterEqual(hub.statistics["frames_received"], count)
