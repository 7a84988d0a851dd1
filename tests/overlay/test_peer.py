"""Whole peers, many of them: links come to be, messages arrive, everything ends."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from meshrelay.overlay.errors import NotDelivered, NotLinked, PeerDestroyed, UnusableData
from meshrelay.overlay.options import PeerOptions
from meshrelay.overlay.peer import CONNECT_SECONDS, SWALLOW_SECONDS, PeerMessage
from meshrelay.testing.overlay_network import NetworkPeer, OverlayNetwork
from meshrelay.wire.overlay import DataType
from tests.overlay.peer_kit import PeerCase

NOBODY = b"\x55" * 20


class StatisticsTests(PeerCase):
    """What a peer tells of itself."""

    def test_deliveries(self) -> None:
        """What became of messages is told: those of peers that sign nothing, of those that do, and those refused."""
        strict = self.network.add(bootstrap=[self.url], options=PeerOptions(accepts_unsigned=False))
        own = self.network.add(bootstrap=[self.url])
        self.run_on(3)
        results = self.results(own.send(self.hub, 1))
        raw = self.raw().linked(self.url)
        raw.write_user(self.hub.peer_id, 2)
        raw.write_user(strict.peer_id, 3)
        self.run_on(1)
        self.assertEqual((results, own.peer.counters.deliveries["delivered"]), ([None], 1))
        counts = self.hub.peer.counters.deliveries
        self.assertEqual((counts["delivered_verified"], counts["delivered_unsigned"]), (1, 1))
        self.assertEqual((strict.data, strict.peer.counters.deliveries["refused_unsigned"]), ([], 1))

    def test_handshakes(self) -> None:
        """What became of offers is told."""
        self.raw().linked(self.url)
        self.hub.peer.connect(NOBODY).addErrback(lambda _: None)
        self.run_on(15)
        self.assertEqual(self.hub.peer.counters.handshakes["timed_out"], 1)

    def test_evicted(self) -> None:
        """What had to be forgotten is told, each by itself."""
        peer = self.hub.peer
        router, deliveries, table = peer._router, peer._deliveries, peer._table
        table.refused_count, table.replaced_count, table.expired_count, table.dead_count = 5, 6, 7, 8
        router.seen.evicted, router.paths.evicted = 1, 2
        deliveries._conversations.forgotten, deliveries._replays.forgotten = 3, 4
        names = ("nonces_evicted", "paths_evicted", "correspondents_evicted", "replay_windows_evicted")
        self.assertEqual([self.hub.statistics[name] for name in names], [1, 2, 3, 4])
        names = ("refused", "replaced", "expired", "dead")
        self.assertEqual([self.hub.statistics[f"candidates_{name}"] for name in names], [5, 6, 7, 8])


class AcceptanceTests(PeerCase):
    """What npm's package tests of itself."""

    def test_two(self) -> None:
        """Two peers link, and each is told of the other once."""
        leaf = self.network.add(bootstrap=[self.url])
        self.run_on(5)
        self.assertEqual((leaf.linked, self.hub.linked), ([self.hub.peer_id], [leaf.peer_id]))

    def test_direct(self) -> None:
        """Each receives exactly what the other sent, and from whom, for sure."""
        leaf = self.network.add(bootstrap=[self.url])
        self.run_on(1)
        results = self.results(leaf.send(self.hub, {"a": [1, None]}), self.hub.send(leaf, "b"))
        self.run_on(1)
        self.assertEqual(results, [None, None])
        self.assertEqual(self.hub.messages, [PeerMessage(leaf.peer_id, {"a": [1, None]}, True)])
        self.assertEqual(leaf.messages, [PeerMessage(self.hub.peer_id, "b", True)])

    def test_before_link(self) -> None:
        """What is sent before there is any link arrives when there is one, in both directions."""
        leaf = self.network.add(bootstrap=[self.url])
        results = self.results(leaf.send(self.hub, 1), self.hub.send(leaf, 2))
        self.assertEqual(results, [])
        self.run_on(3)
        self.assertEqual((self.hub.data, leaf.data, results), ([1], [2], [None, None]))

    def test_relayed(self) -> None:
        """A message goes by a peer between to one that is not linked."""
        first, last = (self.network.add(bootstrap=[self.url], listens=False) for _ in range(2))
        self.run_on(2)
        self.assertFalse(first.is_linked(last))
        results = self.results(first.send(last, "by the hub"))
        self.run_on(1)
        self.assertEqual((last.data, last.messages[0].sender, results), (["by the hub"], first.peer_id, [None]))

    def test_populate(self) -> None:
        """Two who know one peer find each other, and stay in touch when that one is left."""
        first, last = (self.network.add(bootstrap=[self.url]) for _ in range(2))
        self.run_on(5)
        self.assertTrue(first.is_linked(last))
        self.assertTrue(first.peer.disconnect(self.hub.peer_id))
        first.send(last, "without it")
        self.run_on(2)
        self.assertEqual(last.data, ["without it"])
        self.assertFalse(first.is_linked(self.hub))

    def test_chain(self) -> None:
        """A message goes from one end of a chain of ten to the other."""
        chain = [self.hub]
        for _ in range(9):
            chain.append(self.network.add(bootstrap=[chain[-1].url]))
        chain[0].send(chain[-1], "along the chain")
        self.run_on(5)
        self.assertEqual(chain[-1].data, ["along the chain"])


class SendTests(PeerCase):
    """Messages, good and bad."""

    def test_itself(self) -> None:
        """A message to oneself comes back at once."""
        self.assertEqual(self.results(self.hub.send(self.hub, "me")), [None])
        self.assertEqual(self.hub.messages, [PeerMessage(self.hub.peer_id, "me", True)])

    def test_unusable(self) -> None:
        """What is no JSON, or no ID, is refused, and nothing is sent."""
        for data in ({1, 2}, float("nan"), "x" * 200_000):
            self.assertEqual(self.results(self.hub.peer.send(NOBODY, data)), [UnusableData])
        for peer_id in (b"short", "a" * 20, None):
            to: Any = peer_id
            self.assertEqual(self.results(self.hub.peer.send(to, 1)), [UnusableData])
            self.assertEqual(self.results(self.hub.peer.connect(to)), [UnusableData])
        self.assertEqual(self.hub.statistics["messages_waiting"], 0)

    def test_nobody(self) -> None:
        """A message that finds no way within half a minute has failed."""
        results = self.results(self.hub.peer.send(NOBODY, 1))
        self.run_on(29)
        self.assertEqual(results, [])
        self.run_on(3)
        self.assertEqual(results, [NotDelivered])

    def test_to_javascript(self) -> None:
        """A JavaScript peer acknowledges nothing: handed to its link is sent, in one copy, readable."""
        end = self.raw().linked(self.url)
        results = self.results(self.hub.peer.send(end.peer.peer_id, "plain"))
        self.run_on(10)
        self.assertEqual(results, [None])
        self.assertEqual([one.data for one in end.envelopes(DataType.USER)], [b'"plain"'])

    def test_from_javascript(self) -> None:
        """What a JavaScript peer sends is told as from whom it says, not for sure."""
        end = self.raw().linked(self.url)
        end.write_user(self.hub.peer_id, {"x": 1})
        self.run_on(0.1)
        self.assertEqual(self.hub.messages, [PeerMessage(end.peer.peer_id, {"x": 1}, False)])

    def test_unreadable(self) -> None:
        """A value that cannot be read is dropped, and costs the link that it came by nothing."""
        end = self.raw().linked(self.url)
        end.write(self.hub.peer_id, DataType.USER, b"1e999")
        self.run_on(0.1)
        end.write_user(self.hub.peer_id, "good")
        self.run_on(0.1)
        self.assertEqual((self.hub.data, end.lost), (["good"], []))

    def test_without_value(self) -> None:
        """A message without a value is told as None."""
        end = self.raw().linked(self.url)
        end.write(self.hub.peer_id, DataType.USER)
        self.run_on(0.1)
        self.assertEqual(self.hub.data, [None])

    def test_swallowed(self) -> None:
        """A proved link that swallows messages is closed, for it would keep all others ways from being taken."""
        end = self.proved_end(self.raw(is_own=True))
        for _ in range(int(SWALLOW_SECONDS) + 5):
            self.hub.peer.send(end.peer.peer_id, "x").addErrback(lambda _: None)
            self.run_on(1)
        self.assertEqual((len(end.lost), self.closed("swallows")), (1, 1))

    def test_not_swallowed(self) -> None:
        """One that is slow for some seconds, or has nothing to carry, is not."""
        leaf = self.network.add(bootstrap=[self.url])
        self.run_on(2)
        channel = self.hub.peer.channels[leaf.peer_id]
        other_end: Any = getattr(channel.link, "other")  # noqa: B009  (no link of an interface has one)
        for _ in range(3):
            other_end.is_reading = False
            self.hub.send(leaf, "x")
            self.run_on(SWALLOW_SECONDS - 3)
            other_end.is_reading = True
            self.run_on(SWALLOW_SECONDS)
        self.assertEqual((leaf.data, self.closed("swallows")), (["x"] * 3, 0))

    def test_callback_fails(self) -> None:
        """What callbacks raise is logged, and costs neither the link nor the other callbacks."""
        seen: list[object] = []
        self.hub.peer.on_message(lambda message: message.data[5])
        self.hub.peer.on_message(seen.append)
        self.hub.peer.on_peer(lambda peer_id: peer_id[20])
        self.hub.peer.on_peer(seen.append)
        end = self.raw().linked(self.url)
        end.write_user(self.hub.peer_id, "x")
        self.run_on(0.1)
        self.assertEqual(len(seen), 2)
        self.assertEqual(end.lost, [])
        self.assertEqual(len(self.flushLoggedErrors(IndexError)), 2)

    def test_callbacks_end(self) -> None:
        """A callback that was ended is called no more, though it ends itself."""
        seen: list[object] = []

        def once(message: object) -> None:
            seen.append(message)
            end()

        end = self.hub.peer.on_message(once)
        end_peers = self.hub.peer.on_peer(seen.append)
        end_peers()
        for number in range(2):
            self.hub.send(self.hub, number)
        self.raw().linked(self.url)
        self.assertEqual(len(seen), 1)

    def test_answer_in_callback(self) -> None:
        """Messages can be sent from the callback that a message came to."""
        leaf = self.network.add(bootstrap=[self.url])
        self.hub.peer.on_message(lambda message: self.hub.peer.send(message.sender, message.data + 1))
        leaf.send(self.hub, 1)
        self.run_on(2)
        self.assertEqual(leaf.data, [2])


class ConnectTests(PeerCase):
    """Links that are asked for, and links that are not wanted."""

    def test_connect(self) -> None:
        """A link comes about to a peer of which only the ID is known; a second call is content with it."""
        first, last = (self.network.add(bootstrap=[self.url]) for _ in range(2))
        for peer in (first, last):
            peer.peer.options = peer.options
        self.run_on(3)
        first.peer.disconnect(last.peer_id)
        self.run_on(1)
        self.assertFalse(first.is_linked(last))
        results = self.results(first.peer.connect(last.peer_id), first.peer.connect(last.peer_id))
        self.run_on(3)
        self.assertEqual(results, [None, None])
        self.assertEqual(self.results(first.peer.connect(last.peer_id)), [None])
        self.assert_one_link(first, last)

    def test_before_link(self) -> None:
        """It can be asked for before there is any link."""
        leaf = self.network.add(bootstrap=[self.url])
        other = self.network.add(bootstrap=[self.url], is_started=False)
        results = self.results(leaf.peer.connect(other.peer_id))
        self.run_on(5)
        self.assertEqual(results, [])
        other.peer.start()
        self.run_on(12)
        self.assertEqual(results, [None])

    def test_nobody(self) -> None:
        """After half a minute it has failed, and nothing is left of it."""
        results = self.results(self.hub.peer.connect(NOBODY))
        self.run_on(1)
        late = self.results(self.hub.peer.connect(NOBODY))
        self.run_on(CONNECT_SECONDS - 0.5)
        self.assertEqual((results, late), ([NotLinked], []))
        self.run_on(1)
        self.assertEqual((late, self.hub.statistics["connects_waiting"]), ([NotLinked], 0))

    def test_again(self) -> None:
        """An offer that is lost is repeated in that time."""
        end = self.raw().linked(self.url)
        self.results(self.hub.peer.connect(NOBODY))
        self.run_on(CONNECT_SECONDS + 1)
        offers = [envelope for envelope in end.envelopes(DataType.OFFER) if envelope.to == NOBODY]
        self.assertGreaterEqual(len(offers), 2)

    def test_disconnect(self) -> None:
        """A link that was closed is not opened again by this end."""
        first, last = (self.network.add(bootstrap=[self.url]) for _ in range(2))
        self.run_on(3)
        self.assertTrue(first.peer.disconnect(self.hub.peer_id))
        self.assertFalse(first.peer.disconnect(self.hub.peer_id))
        self.run_on(0.1)
        self.assertFalse(self.hub.is_linked(first))
        before = len(self.network.places.dialled)
        self.run_on(5)
        self.assertEqual(self.network.places.dialled[before:].count((self.url, False)), 0)
        self.assertTrue(last.is_linked(self.hub))

    def test_itself(self) -> None:
        """Everybody is linked with oneself."""
        self.assertEqual(self.results(self.hub.peer.connect(self.hub.peer_id)), [None])
        self.assertFalse(self.hub.peer.disconnect(self.hub.peer_id))


class EndTests(PeerCase):
    """A peer ends, at any moment."""

    def busy(self, seed: int) -> tuple[OverlayNetwork, NetworkPeer, list[Deferred[Any]]]:
        """A peer that does everything at once."""
        network = OverlayNetwork(seed, (0.01, 0.3))
        hub = network.add()
        for _ in range(3):
            network.add(bootstrap=[hub.url])
        network.run(1)
        peer = network.add(bootstrap=[hub.url, "ws://127.0.0.1:1"], is_wrtc=bool(seed % 2))
        deferreds: list[Deferred[Any]] = []
        for other in network.peers[:4]:
            deferreds += [peer.send(other, "x" * 1000), peer.peer.connect(other.peer_id)]
            deferreds.append(peer.peer.trace(other.peer_id))
        deferreds += [peer.peer.send(NOBODY, 1), peer.peer.connect(NOBODY), peer.peer.trace(NOBODY)]
        return network, peer, deferreds

    def test_any_moment(self) -> None:
        """Whenever it ends: all that was promised is told, once; no dial, frame, call or link follows."""
        for seed in range(40):
            network, peer, deferreds = self.busy(seed)
            network.run(seed * 0.05)
            results = self.results(*deferreds)
            gone = self.results(peer.peer.stop())
            left = [alarm for slot in peer.alarms._slots.values() for alarm in slot if alarm.is_set]
            self.assertEqual(left, [], f"seed {seed}: an alarm is left")
            self.assertEqual(len(results), len(deferreds), f"seed {seed}")
            told = (len(peer.linked), len(peer.messages), len(network.places.dialled))
            self.assertEqual(self.results(peer.peer.send(NOBODY, 1)), [PeerDestroyed])
            self.assertEqual(self.results(peer.peer.connect(NOBODY)), [PeerDestroyed])
            network.run(10)
            self.assertEqual(gone, [None], f"seed {seed}")
            sent = peer.statistics["frames_sent"]
            network.run(40)
            self.assertEqual(peer.statistics["frames_sent"], sent)
            own_dials = [url for url, _ in network.places.dialled[told[2] :] if url == "ws://127.0.0.1:1"]
            self.assertEqual(own_dials, [])
            self.assertEqual((len(peer.linked), len(peer.messages)), told[:2])
            sizes = peer.statistics
            for name in ("links", "links_greeting", "links_rival", "links_leaving", "tries", "traces"):
                self.assertEqual(sizes[name], 0, f"seed {seed}: {name}")
            self.assertFalse(any(peer.peer_id in other.peer.channels for other in network.peers))

    def test_in_callback(self) -> None:
        """A peer may end itself in a callback."""
        for kind in ("message", "peer"):
            leaf = self.network.add(bootstrap=[self.url])
            gone: list[Any] = []
            on = leaf.peer.on_message if kind == "message" else leaf.peer.on_peer
            on(lambda _, leaf=leaf, gone=gone: leaf.peer.stop().addCallback(gone.append))  # type: ignore[misc]
            self.hub.send(leaf, "end")
            self.run_on(5)
            self.assertEqual((gone, leaf.statistics["links"]), ([None], 0), kind)

    def test_never_started(self) -> None:
        """A peer that never began ends at once."""
        peer = self.network.add(is_started=False)
        self.assertEqual(self.results(peer.peer.stop()), [None])

    def test_link_that_comes_late(self) -> None:
        """A link that comes when it is over is not taken."""
        self.results(self.hub.peer.stop())
        end = self.raw().dial(self.url)
        self.assertEqual((len(end.lost), end.frames), (1, []))


class ScaleTests(PeerCase):
    """Fifty of ours."""

    def test_fifty(self) -> None:
        """They are all linked soon; all pairs deliver, in two frames and a half for a message at most."""
        network = OverlayNetwork(1)
        hub = network.add()
        peers = [hub, *(network.add(bootstrap=[hub.url]) for _ in range(49))]
        everybody = len(peers) - 1
        self.assertTrue(network.run(30, lambda: all(peer.statistics["links_proved"] == everybody for peer in peers)))
        self.assertLess(network.ground.now(), 10)
        network.run(2)
        before = network.ground.frames
        results = self.results(*(one.send(other, "x") for one in peers for other in peers if one is not other))
        network.run(3)
        count = len(peers) * everybody
        self.assertEqual(results, [None] * count)
        self.assertEqual([len(peer.messages) for peer in peers], [everybody] * len(peers))
        self.assertLessEqual((network.ground.frames - before) / count, 2.5)

    def test_statistics(self) -> None:
        """The same names at each call, whatever there is, and everything is gone that was waited for."""
        names = set(self.hub.statistics)
        leaf = self.network.add(bootstrap=[self.url])
        self.raw().linked(self.url)
        leaf.send(self.hub, 1)
        self.run_on(2)
        self.assertEqual(set(self.hub.statistics), names)
        for name in ("messages_waiting", "tries", "handshakes_pending", "links_greeting", "links_rival"):
            self.assertEqual(self.hub.statistics[name], 0, name)
