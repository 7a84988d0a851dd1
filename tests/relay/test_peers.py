"""Who is connected to a relay, and who is told."""

from __future__ import annotations

import tracemalloc
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.relay.counters import RelayCounters
from meshrelay.relay.peers import PeerLimits, PeerTable
from meshrelay.wire.relay import peer_id_of

ALICE, BOB, CARL = (peer_id_of(name) for name in ("alice", "bob", "carl"))


class PeersTestCase(SynchronousTestCase):
    """A table whose peers are known by texts."""

    limits = PeerLimits()

    def setUp(self) -> None:
        """An empty table."""
        self.counters = RelayCounters()
        self.table: PeerTable[str] = PeerTable(self.limits, self.counters)

    def told(self) -> dict[str, tuple[list[bytes], list[bytes]]]:
        """Return what is to be told to whom: online, offline."""
        self.assertIs(self.table.has_changes, bool(changes := dict(self.table.take_changes())))
        self.assertFalse(self.table.has_changes)
        return {peer: (online, offline) for peer, (online, offline) in changes.items()}


class RegisterTests(PeersTestCase):
    """One connection for each peer ID."""

    def test_remove(self) -> None:
        """A peer that left is not found any more."""
        self.assertIsNone(self.table.register(ALICE, "alice 1"))
        self.assertEqual((self.table.find(ALICE), self.table.peer_count), ("alice 1", 1))
        self.assertTrue(self.table.unregister(ALICE, "alice 1"))
        self.assertIsNone(self.table.find(ALICE))
        self.assertEqual((self.table.peer_count, list(self.table.peers())), (0, []))

    def test_newer_connection(self) -> None:
        """The newest connection has the ID; when the older one goes, nothing happens to it."""
        self.table.register(ALICE, "alice 1")
        self.assertEqual(self.table.register(ALICE, "alice 2"), "alice 1")
        self.assertFalse(self.table.unregister(ALICE, "alice 1"))
        self.assertEqual((self.table.find(ALICE), self.table.peer_count), ("alice 2", 1))
        self.assertEqual((self.counters.reconnections, list(self.table.peers())), (1, ["alice 2"]))

    def test_never_registered(self) -> None:
        """A peer that was never there can go without harm."""
        self.assertFalse(self.table.unregister(ALICE, "alice 1"))
        self.table.register(ALICE, "alice 1")
        self.assertFalse(self.table.unregister(ALICE, "alice 2"))
        self.assertEqual(self.table.find(ALICE), "alice 1")


class SubscriptionTests(PeersTestCase):
    """Peers that are told of others."""

    def test_answer(self) -> None:
        """Whoever subscribes is told at once who is online, and nothing of the others."""
        self.table.register(BOB, "bob")
        self.assertEqual(self.table.subscribe("alice", [CARL, BOB, BOB]), [CARL, BOB])
        self.assertEqual(self.told(), {"alice": ([BOB], [])})
        self.assertEqual(self.counters.subscriptions, 2)

    def test_nobody_online(self) -> None:
        """There is no answer when nobody is online."""
        self.table.subscribe("alice", [BOB, CARL])
        self.assertEqual(self.told(), {})

    def test_online_is_told_once(self) -> None:
        """A peer that comes is told of once; later again only after another subscription."""
        self.table.subscribe("alice", [BOB])
        self.table.register(BOB, "bob 1")
        self.assertEqual(self.told(), {"alice": ([BOB], [])})
        self.table.register(BOB, "bob 2")
        self.table.unregister(BOB, "bob 2")
        self.told()
        self.table.register(BOB, "bob 3")
        self.assertEqual(self.told(), {})
        self.table.subscribe("alice", [BOB])
        self.assertEqual(self.told(), {"alice": ([BOB], [])})
        self.table.register(BOB, "bob 4")
        self.table.unregister(BOB, "bob 4")
        self.told()
        self.table.subscribe("alice", [BOB])
        self.table.register(BOB, "bob 5")
        self.assertEqual(self.told(), {"alice": ([BOB], [])})
        self.assertEqual(self.counters.subscriptions, 1)

    def test_online_when_subscribing(self) -> None:
        """A peer that was online already when somebody subscribed is told of at its next connection, once."""
        self.table.register(BOB, "bob 1")
        self.table.subscribe("alice", [BOB])
        self.told()
        self.table.register(BOB, "bob 2")
        self.assertEqual(self.told(), {"alice": ([BOB], [])})
        self.table.register(BOB, "bob 3")
        self.assertEqual(self.told(), {})

    def test_offline_is_told_each_time(self) -> None:
        """A peer that goes is told of every time."""
        self.table.subscribe("alice", [BOB])
        for bob in ("bob 1", "bob 2", "bob 3"):
            self.table.register(BOB, bob)
            self.told()
            self.table.unregister(BOB, bob)
            self.assertEqual(self.told(), {"alice": ([], [BOB])})

    def test_replaced_is_not_offline(self) -> None:
        """A peer whose newer connection took over did not go."""
        self.table.subscribe("alice", [BOB])
        self.table.register(BOB, "bob 1")
        self.table.register(BOB, "bob 2")
        self.told()
        self.table.unregister(BOB, "bob 1")
        self.assertEqual(self.told(), {})

    def test_unsubscribe(self) -> None:
        """Whoever unsubscribed is told nothing any more, not even what was waiting."""
        self.table.subscribe("alice", [BOB, CARL])
        self.table.register(BOB, "bob")
        self.assertEqual(self.table.unsubscribe("alice", [BOB, BOB, ALICE]), [BOB])
        self.assertEqual(self.told(), {})
        self.table.unregister(BOB, "bob")
        self.table.register(CARL, "carl")
        self.assertEqual(self.told(), {"alice": ([CARL], [])})
        self.assertEqual(self.table.unsubscribe("alice", [CARL]), [CARL])
        self.assertEqual(self.table.unsubscribe("alice", [CARL]), [])
        self.assertEqual(self.counters.subscriptions, 0)

    def test_leaving(self) -> None:
        """A peer that goes is told nothing any more, and its subscriptions are gone."""
        self.table.register(ALICE, "alice")
        self.table.subscribe("alice", [BOB, CARL])
        self.table.register(BOB, "bob")
        self.table.unregister(ALICE, "alice")
        self.assertEqual((self.told(), self.counters.subscriptions), ({}, 0))
        self.assertFalse(self.table.is_watched(BOB))

    def test_self(self) -> None:
        """A peer may ask for itself."""
        self.table.register(ALICE, "alice")
        self.table.subscribe("alice", [ALICE])
        self.assertEqual(self.told(), {"alice": ([ALICE], [])})
        self.table.unregister(ALICE, "alice")
        self.assertEqual(self.told(), {})

    def test_last_state(self) -> None:
        """What was not told in between is left out: each peer is told of once, with its last state."""
        self.table.subscribe("alice", [BOB, CARL])
        self.table.register(BOB, "bob")
        self.table.register(CARL, "carl")
        self.table.unregister(BOB, "bob")
        self.assertEqual(self.told(), {"alice": ([CARL], [BOB])})

    def test_answer_of_one(self) -> None:
        """The answer to a subscription can be taken at once, with what waited before it."""
        self.table.subscribe("alice", [BOB])
        self.table.register(BOB, "bob")
        self.table.unregister(BOB, "bob")
        self.table.register(BOB, "bob 2")
        self.table.subscribe("alice", [BOB])
        self.assertEqual(self.table.take_changes_of("alice"), ([BOB], []))
        self.assertEqual(self.table.take_changes_of("alice"), ([], []))
        self.assertEqual(self.table.take_changes_of("nobody"), ([], []))
        self.assertEqual(self.told(), {})


class ElsewhereTests(PeersTestCase):
    """Peers of other nodes of the same relay."""

    def test_states(self) -> None:
        """A peer of another node comes and goes like one of this node."""
        self.assertEqual(self.table.subscribe("alice", [BOB]), [BOB])
        self.assertEqual(self.table.subscribe("carl", [BOB]), [])
        self.table.set_elsewhere(BOB, True)
        self.table.set_elsewhere(BOB, True)
        self.assertEqual(self.told(), {"alice": ([BOB], []), "carl": ([BOB], [])})
        self.assertIsNone(self.table.find(BOB))
        self.table.set_elsewhere(BOB, False)
        self.assertEqual(self.told(), {"alice": ([], [BOB]), "carl": ([], [BOB])})

    def test_move(self) -> None:
        """A peer that is on another node already when it leaves this one did not go, and the other way round."""
        self.table.subscribe("alice", [BOB])
        self.table.register(BOB, "bob")
        self.told()
        self.table.set_elsewhere(BOB, True)
        self.table.unregister(BOB, "bob")
        self.assertEqual(self.told(), {})
        self.table.register(BOB, "bob")
        self.table.set_elsewhere(BOB, False)
        self.assertEqual(self.told(), {})

    def test_not_watched(self) -> None:
        """What nobody here watches is not remembered."""
        self.table.set_elsewhere(BOB, True)
        self.table.subscribe("alice", [BOB])
        self.assertEqual(self.told(), {})
        self.table.set_elsewhere(BOB, True)
        self.assertEqual(self.table.unsubscribe_all("alice"), [BOB])
        self.table.subscribe("alice", [BOB])
        self.assertEqual(self.told(), {})

    def test_not_watched_any_longer(self) -> None:
        """What was known of another node is forgotten with the last watcher: it may have changed since."""
        self.table.register(BOB, "bob")
        self.table.subscribe("alice", [BOB])
        self.table.set_elsewhere(BOB, True)
        self.table.unsubscribe("alice", [BOB])
        self.table.subscribe("alice", [BOB])
        self.told()
        self.table.unregister(BOB, "bob")
        self.assertEqual(self.told(), {"alice": ([], [BOB])})


class LimitTests(PeersTestCase):
    """Subscriptions over a limit."""

    limits = PeerLimits(subscriptions_per_peer=2, subscriptions=3)

    def test_one_peer(self) -> None:
        """Over its limit a peer is told who is online now, and nothing later; one it gives back can be used again."""
        self.table.register(CARL, "carl")
        self.table.subscribe("x", [ALICE, BOB, CARL, ALICE])
        self.assertEqual(self.told(), {"x": ([CARL], [])})
        self.assertEqual((self.counters.subscriptions, self.counters.subscriptions_refused), (2, 1))
        self.table.unregister(CARL, "carl")
        self.assertEqual(self.told(), {})
        self.table.unsubscribe("x", [ALICE])
        self.table.subscribe("x", [CARL])
        self.table.register(CARL, "carl")
        self.assertEqual(self.told(), {"x": ([CARL], [])})

    def test_all_peers(self) -> None:
        """All peers together have a limit, and what it refuses leaves nothing behind."""
        self.table.subscribe("x", [ALICE, BOB])
        self.table.subscribe("y", [ALICE, BOB])
        self.table.subscribe("z", [CARL])
        self.assertEqual((self.counters.subscriptions, self.counters.subscriptions_refused), (3, 2))
        self.assertFalse(self.table.is_watched(CARL))
        self.table.register(CARL, "carl")
        self.table.subscribe("z", [CARL])
        self.assertEqual(self.told(), {"z": ([CARL], [])})


class LargeTests(PeersTestCase):
    """Many subscriptions."""

    def test_many_ids(self) -> None:
        """100,000 subscriptions of one peer take little memory, and nothing is left of them when it goes."""
        ids = [number.to_bytes(36, "big") for number in range(100_000)]
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for start in range(0, len(ids), 244):
                self.table.subscribe("alice", ids[start : start + 244])
            used = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        self.assertEqual(self.counters.subscriptions, 100_000)
        self.table.subscribe("alice", [b"x" * 36])
        self.assertEqual(self.counters.subscriptions_refused, 1)
        self.assertLess(used, 60_000_000)
        self.assertEqual(len(self.table.unsubscribe_all("alice")), 100_000)
        self.assertEqual((self.counters.subscriptions, self.table.id_count), (0, 0))

    def test_many_watchers(self) -> None:
        """10,000 peers that watch one are told of it, and can leave one by one."""
        watchers = [f"watcher {number}" for number in range(10_000)]
        for watcher in watchers:
            self.table.subscribe(watcher, [BOB])
        self.table.register(BOB, "bob")
        self.table.unregister(BOB, "bob")
        self.assertEqual(list(self.told().values()), [([], [BOB])] * 10_000)
        for watcher in watchers[::-1]:
            self.table.unsubscribe_all(watcher)
        self.assertEqual(self.table.id_count, 0)

    def test_random(self) -> None:
        """Whatever happens in whatever order, everybody knows in the end who is there, and nothing is left over."""
        random = Random(8)
        ids = [peer_id_of(str(number)) for number in range(6)]
        connections: dict[bytes, str] = {}
        known: dict[tuple[str, bytes], bool] = {}
        for step in range(5_000):
            peer_id, watcher = random.choice(ids), f"watcher {random.randrange(3)}"
            match random.randrange(5):
                case 0:
                    connections[peer_id] = f"connection {step}"
                    self.table.register(peer_id, connections[peer_id])
                case 1 if peer_id in connections:
                    self.table.unregister(peer_id, connections.pop(peer_id))
                case 2:
                    self.table.subscribe(watcher, [peer_id])
                    known.setdefault((watcher, peer_id), False)
                case 3:
                    self.table.unsubscribe(watcher, [peer_id])
                    known.pop((watcher, peer_id), None)
            for who, (online, offline) in self.told().items():
                for told in (*online, *offline):
                    self.assertIn((who, told), known)
                    self.assertEqual(told in connections, told in online)
                    known[who, told] = told in online
            for (who, watched), is_online in known.items():
                # Never believed to be there when it is gone; the other way round a new subscription is needed.
                self.assertTrue(watched in connections or not is_online, (who, watched))
        self.assertEqual(self.counters.subscriptions, len(known))
        for number in range(3):
            self.table.unsubscribe_all(f"watcher {number}")
        for peer_id, connection in connections.items():
            self.table.unregister(peer_id, connection)
        self.assertEqual((self.counters.subscriptions, self.table.peer_count, self.table.id_count), (0, 0, 0))
