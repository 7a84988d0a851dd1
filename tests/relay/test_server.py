"""A relay server in memory."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from meshrelay.relay.auth import HmacTokens
from meshrelay.relay.interfaces import IRelayElsewhere, IRelayLink
from meshrelay.relay.peers import PeerLimits
from meshrelay.relay.server import RelayPeer, RelayServerLimits
from meshrelay.wire.relay import (
    CLOSE_MESSAGE,
    HEALTH_CHECK_MESSAGE,
    SAFE_DATAGRAM_BYTES,
    MessageType,
    decode_peer_ids,
    encode_auth,
    encode_auth_response,
    encode_peer_ids,
    encode_transport,
    peer_id_of,
)
from tests.relay.relay_kit import URL, MemoryElsewhere, MemoryRelayLink, RelayWorld
from tests.vectors import load_vectors

VECTORS = load_vectors("netbird_relay")
ALICE, BOB, CARL = (peer_id_of(name) for name in ("alice", "bob", "carl"))


def subscribe(peer: RelayPeer, *peer_ids: bytes) -> None:
    """Let a peer subscribe."""
    for message in encode_peer_ids(MessageType.SUBSCRIBE_PEER_STATE, peer_ids):
        peer.message_received(message)


def online(*peer_ids: bytes) -> list[bytes]:
    """What a peer is sent when these came."""
    return encode_peer_ids(MessageType.PEERS_ONLINE, peer_ids)


def offline(*peer_ids: bytes) -> list[bytes]:
    """What a peer is sent when these went."""
    return encode_peer_ids(MessageType.PEERS_WENT_OFFLINE, peer_ids)


class ServerTestCase(SynchronousTestCase):
    """A server that takes every token."""

    def setUp(self) -> None:
        """Nobody is there."""
        self.world = RelayWorld()
        self.server, self.counters = self.world.server, self.world.counters


class KitTests(ServerTestCase):
    """The links of these tests."""

    def test_interfaces(self) -> None:
        """They are what a server expects."""
        verifyObject(IRelayLink, MemoryRelayLink())
        verifyObject(IRelayElsewhere, MemoryElsewhere())


class HandshakeTests(ServerTestCase):
    """Who comes in."""

    def test_answer_before_others(self) -> None:
        """A client is answered before anybody can send it something."""
        bob, bob_link = self.world.sign_in("bob")
        subscribe(bob, ALICE)
        alice, alice_link = self.world.connect()
        bob.message_received(encode_transport(ALICE, b"too early"))
        self.assertEqual(alice_link.take(), [])
        alice.message_received(encode_auth(ALICE, b""))
        bob.message_received(encode_transport(ALICE, b"in time"))
        self.assertEqual(alice_link.take(), [encode_auth_response(URL), encode_transport(BOB, b"in time")])
        self.assertEqual(bob_link.take(), [])
        self.world.end_turn()
        self.assertEqual(bob_link.take(), online(ALICE))

    def test_refused(self) -> None:
        """Whoever has no good token hears nothing, and the peer that has the ID stays."""
        world = RelayWorld(HmacTokens(bytes.fromhex(VECTORS["key"])))
        good, good_link = world.connect()
        good.message_received(bytes.fromhex(VECTORS["auth"][0]["hex"]))
        squatter, squatter_link = world.connect()
        squatter.message_received(encode_auth(ALICE, b"\x01" + b"1" * 42))
        self.assertEqual((squatter_link.take(), squatter_link.ended), ([], "abort"))
        self.assertEqual((good_link.take(), good_link.ended), ([encode_auth_response(URL)], ""))
        self.assertEqual((world.server.peer_count, world.counters.connections), (1, 1))
        self.assertTrue(squatter.is_closed)

    def test_timeout(self) -> None:
        """Whoever says nothing for 10 s is let go."""
        peer, link = self.world.connect()
        self.assertEqual(peer.next_deadline(), 10.0)
        self.world.now = 10.0
        peer.deadline_passed()
        self.assertEqual((link.ended, self.counters.connections), ("abort", 0))

    def test_metrics(self) -> None:
        """How long it took is counted, and how many peers there are of each transport."""
        peer, _ = self.world.connect(MemoryRelayLink("quic"))
        self.world.now = 0.004
        peer.message_received(encode_auth(ALICE, b""))
        self.world.sign_in("bob")
        self.assertEqual(self.counters.authentication.counts[:4], [1, 0, 0, 1])
        self.assertEqual(sum(self.counters.storing.counts), 2)
        self.assertEqual(dict(self.counters.peers), {"quic": 1, "ws": 1})
        peer.connection_lost()
        self.assertEqual(self.counters.peers["quic"], 0)

    def test_full(self) -> None:
        """A server that is full takes nobody until somebody leaves."""
        world = RelayWorld(limits=RelayServerLimits(max_connections=1))
        first, _ = world.connect()
        second, link = world.connect()
        self.assertTrue(second.is_closed)
        self.assertEqual((link.ended, world.counters.connections_refused), ("abort", 1))
        first.connection_lost()
        third, _ = world.connect()
        self.assertFalse(third.is_closed)
        self.assertEqual(world.counters.connections, 1)


class TransportTests(ServerTestCase):
    """Messages from peer to peer."""

    def test_there_and_back(self) -> None:
        """What one sends arrives at the other unchanged, in order, with the sender's ID; nobody else sees it."""
        alice, alice_link = self.world.sign_in("alice")
        bob, bob_link = self.world.sign_in("bob")
        _, carl_link = self.world.sign_in("carl")
        for payload in (b"one", b"two", b""):
            alice.message_received(encode_transport(BOB, payload))
        self.assertEqual(bob_link.take(), [encode_transport(ALICE, payload) for payload in (b"one", b"two", b"")])
        bob.message_received(encode_transport(ALICE, b"back"))
        self.assertEqual(alice_link.take(), [encode_transport(BOB, b"back")])
        self.assertEqual(carl_link.take(), [])
        self.assertEqual((self.counters.messages_sent, self.counters.messages_received), (4, 4))
        self.assertEqual(self.counters.sent_bytes, self.counters.received_bytes)

    def test_absent(self) -> None:
        """What is for nobody is dropped and counted, and the sender is not told."""
        alice, link = self.world.sign_in("alice")
        alice.message_received(encode_transport(BOB, b"hello?"))
        self.assertEqual((link.take(), dict(self.counters.dropped)), ([], {"absent": 1}))
        self.assertEqual((self.counters.received_bytes, self.counters.sent_bytes), (44, 0))

    def test_self(self) -> None:
        """A peer may send to itself."""
        alice, link = self.world.sign_in("alice")
        alice.message_received(encode_transport(ALICE, b"note"))
        self.assertEqual(link.take(), [encode_transport(ALICE, b"note")])

    def test_slow_receiver(self) -> None:
        """What a receiver does not read is dropped and counted; its sender goes on to reach the others."""
        alice, _ = self.world.sign_in("alice")
        _, bob_link = self.world.sign_in("bob")
        _, carl_link = self.world.sign_in("carl")
        bob_link.is_slow = True
        for destination in (BOB, CARL):
            alice.message_received(encode_transport(destination, b"x"))
        self.assertEqual((len(bob_link.take()), len(carl_link.take())), (0, 1))
        self.assertEqual((dict(self.counters.dropped), self.counters.messages_sent), ({"slow": 1}, 1))

    def test_datagram(self) -> None:
        """What fits no datagram of the receiver is dropped and counted."""
        alice, _ = self.world.sign_in("alice")
        _, bob_link = self.world.sign_in("bob", MemoryRelayLink("quic", SAFE_DATAGRAM_BYTES))
        for size in (1157, 1158):
            alice.message_received(encode_transport(BOB, bytes(size)))
        self.assertEqual([len(message) for message in bob_link.take()], [SAFE_DATAGRAM_BYTES])
        self.assertEqual(dict(self.counters.dropped), {"too_large": 1})

    def test_bad_message(self) -> None:
        """What breaks the protocol ends that connection alone; what follows it is passed over."""
        alice, alice_link = self.world.sign_in("alice")
        _, bob_link = self.world.sign_in("bob")
        alice.message_received(b"\x01\x0a")
        alice.message_received(encode_transport(BOB, b"x"))
        self.assertEqual((alice_link.ended, bob_link.ended, bob_link.take()), ("abort", "", []))

    def test_active(self) -> None:
        """A peer that sent something in the last 30 s is active."""
        alice, _ = self.world.sign_in("alice")
        self.world.sign_in("bob")
        self.assertEqual(self.server.active_count(), 0)
        alice.message_received(encode_transport(BOB, b"x"))
        self.world.now = 30.0
        self.assertEqual(self.server.active_count(), 1)
        self.world.now = 30.1
        self.assertEqual(self.server.active_count(), 0)


class EvictionTests(ServerTestCase):
    """Two connections of one peer ID."""

    def test_newest_wins(self) -> None:
        """The newer connection has the ID at once, the older one is dropped without a word."""
        watcher, watcher_link = self.world.sign_in("carl")
        old, old_link = self.world.sign_in("alice")
        subscribe(watcher, ALICE)
        self.world.end_turn()
        watcher_link.take()
        subscribe(old, CARL)
        old_link.take()
        _, new_link = self.world.sign_in("alice")
        self.assertEqual((old_link.take(), old_link.ended, old.is_closed), ([], "abort", True))
        watcher.message_received(encode_transport(ALICE, b"x"))
        self.assertEqual((len(new_link.take()), old_link.take()), (1, []))
        self.world.end_turn()
        # Its interest was not spent when it subscribed; nobody is told that alice went.
        self.assertEqual(watcher_link.take(), online(ALICE))
        old.connection_lost()
        self.world.end_turn()
        self.assertEqual(watcher_link.take(), [])
        self.assertEqual((self.counters.reconnections, self.counters.peers["ws"], self.server.peer_count), (1, 2, 2))

    def test_squatters(self) -> None:
        """Two clients that fight for one ID evict each other again and again, and nothing is left over."""
        for _ in range(1000):
            peer, _ = self.world.sign_in("alice")
        self.assertEqual((self.counters.connections, self.server.peer_count), (1, 1))
        self.assertEqual(self.counters.closes["replaced"], 999)
        peer.connection_lost()
        self.assertEqual((self.counters.connections, self.server.peer_count), (0, 0))


class StateTests(ServerTestCase):
    """Peers that are told of others."""

    def test_answer_at_once(self) -> None:
        """A subscription is answered before anything else happens."""
        alice, link = self.world.sign_in("alice")
        self.world.sign_in("bob")
        subscribe(alice, CARL, BOB)
        self.assertEqual(link.take(), online(BOB))

    def test_turn(self) -> None:
        """Who came and went in one turn is told in one message each; the end of the turn is asked for once."""
        alice, link = self.world.sign_in("alice")
        peers = [self.world.sign_in(str(number)) for number in range(3)]
        subscribe(alice, BOB, CARL, *(peer_id_of(str(number)) for number in range(3)))
        link.take()
        self.world.sign_in("bob")
        self.world.sign_in("carl")
        for peer, _ in peers:
            peer.connection_lost()
        self.assertEqual((self.world.scheduled, link.take()), (1, []))
        self.world.end_turn()
        self.assertEqual(link.take(), online(BOB, CARL) + offline(*(peer_id_of(str(number)) for number in range(3))))

    def test_unsubscribe(self) -> None:
        """Whoever unsubscribed is told nothing more."""
        alice, link = self.world.sign_in("alice")
        subscribe(alice, BOB)
        for message in encode_peer_ids(MessageType.UNSUBSCRIBE_PEER_STATE, [BOB]):
            alice.message_received(message)
        self.world.sign_in("bob")
        self.world.end_turn()
        self.assertEqual((link.take(), self.world.scheduled), ([], 0))

    def test_long_lists(self) -> None:
        """Lists are cut to what the link of the watcher takes."""
        for link, per_message in ((MemoryRelayLink(), 244), (MemoryRelayLink("quic", SAFE_DATAGRAM_BYTES), 33)):
            self.setUp()
            ids = [peer_id_of(str(number)) for number in range(300)]
            for number in range(300):
                self.world.sign_in(str(number))
            alice, link = self.world.sign_in("alice", link)
            for start in (0, 200):
                subscribe(alice, *ids[start : start + 200])
            sent = link.take()
            self.assertEqual([peer_id for message in sent for peer_id in decode_peer_ids(message)], ids)
            self.assertEqual(max(len(decode_peer_ids(message)) for message in sent), min(per_message, 200))

    def test_slow_watcher(self) -> None:
        """A watcher that reads little is told all the same: states are not dropped."""
        alice, link = self.world.sign_in("alice")
        subscribe(alice, BOB)
        link.is_slow = True
        self.world.sign_in("bob")
        self.world.end_turn()
        self.assertEqual(link.take(), online(BOB))

    def test_many(self) -> None:
        """A peer may subscribe to as many as its limit says, and the server remembers no more."""
        world = RelayWorld(limits=RelayServerLimits(peers=PeerLimits(500, 600)))
        alice, _ = world.sign_in("alice")
        ids = [number.to_bytes(36, "big") for number in range(2000)]
        subscribe(alice, *ids)
        self.assertEqual((world.counters.subscriptions, world.counters.subscriptions_refused), (500, 1500))
        alice.connection_lost()
        self.assertEqual(world.counters.subscriptions, 0)


class EndTests(ServerTestCase):
    """How connections end."""

    def test_health(self) -> None:
        """A peer that answers stays for ever, one that does not is let go, and those who watch it are told."""
        alice, alice_link = self.world.sign_in("alice")
        bob, bob_link = self.world.sign_in("bob")
        subscribe(alice, BOB)
        alice_link.take()
        while not bob.is_closed:
            self.world.now += 5.0
            for peer, link in ((alice, alice_link), (bob, bob_link)):
                peer.deadline_passed()
                if link is alice_link and HEALTH_CHECK_MESSAGE in link.take():
                    alice.message_received(HEALTH_CHECK_MESSAGE)
        self.assertEqual((self.world.now, bob_link.take(), bob_link.ended), (45.0, [HEALTH_CHECK_MESSAGE], "abort"))
        self.world.end_turn()
        self.assertEqual((alice_link.take(), alice.is_closed), (offline(BOB), False))

    def test_close(self) -> None:
        """A peer that says CLOSE goes, once."""
        alice, link = self.world.sign_in("alice")
        alice.message_received(CLOSE_MESSAGE)
        alice.connection_lost()
        self.assertEqual((link.ended, dict(self.counters.closes)), ("close", {"peer_closed": 1}))
        self.assertFalse(self.server.has_peer(ALICE))

    def test_shut_down(self) -> None:
        """A server that stops says CLOSE to every peer, drops who is not in yet, and takes nobody any more."""
        alice, alice_link = self.world.sign_in("alice")
        subscribe(alice, BOB)
        _, bob_link = self.world.sign_in("bob")
        _, early_link = self.world.connect()
        self.server.shut_down()
        self.assertEqual((alice_link.take(), alice_link.ended), ([CLOSE_MESSAGE], "close"))
        self.assertEqual((bob_link.take(), bob_link.ended), ([CLOSE_MESSAGE], "close"))
        self.assertEqual((early_link.take(), early_link.ended), ([], "abort"))
        late, late_link = self.world.connect()
        self.assertEqual((late.is_closed, late_link.ended), (True, "abort"))
        self.assertEqual((self.counters.connections, self.server.peer_count), (0, 0))


class ElsewhereTests(SynchronousTestCase):
    """A relay of several nodes."""

    def setUp(self) -> None:
        """Bob is on another node."""
        self.elsewhere = MemoryElsewhere()
        self.elsewhere.peers.add(BOB)
        self.world = RelayWorld(elsewhere=self.elsewhere)
        self.server = self.world.server

    def test_forward(self) -> None:
        """What is for a peer of another node goes there, ready for it; what is for nobody is dropped."""
        alice, link = self.world.sign_in("alice")
        self.elsewhere.take()
        alice.message_received(encode_transport(BOB, b"x"))
        self.assertEqual(self.elsewhere.take(), [("forward", encode_transport(ALICE, b"x"))])
        self.assertEqual(dict(self.world.counters.dropped), {})
        alice.message_received(encode_transport(CARL, b"x"))
        self.assertEqual(dict(self.world.counters.dropped), {"absent": 1})
        self.assertEqual(link.take(), [])

    def test_leaving_watcher(self) -> None:
        """Other nodes are told when the last watcher of a peer left."""
        alice, _ = self.world.sign_in("alice")
        subscribe(alice, BOB)
        self.elsewhere.take()
        alice.connection_lost()
        self.assertEqual(self.elsewhere.take(), [("unwatched", [BOB]), ("unregistered", ALICE)])

    def test_answer_before_others(self) -> None:
        """What another node has for a client waits until the client was answered."""
        server, message = self.server, encode_transport(BOB, b"x")

        class Eager(MemoryElsewhere):
            """Has something for whoever comes."""

            def peer_registered(self, peer_id: bytes) -> None:
                """See `IRelayElsewhere`."""
                server.deliver(peer_id, message)

        server = RelayWorld(elsewhere=Eager()).server
        link = MemoryRelayLink()
        server.accept(link).message_received(encode_auth(ALICE, b""))
        self.assertEqual(link.take(), [encode_auth_response(URL), message])

    def test_deliver(self) -> None:
        """What comes from another node is delivered here or dropped, and never sent back."""
        _, link = self.world.sign_in("alice")
        self.elsewhere.take()
        message = encode_transport(BOB, b"x")
        self.assertTrue(self.server.deliver(ALICE, message))
        self.assertFalse(self.server.deliver(BOB, message))
        self.assertEqual((link.take(), self.elsewhere.take()), ([message], []))

    def test_states(self) -> None:
        """Other nodes are asked about what somebody here watches, and what they say is passed on."""
        alice, link = self.world.sign_in("alice")
        carl, _ = self.world.sign_in("carl")
        self.elsewhere.take()
        subscribe(alice, BOB)
        subscribe(carl, BOB)
        self.assertEqual(self.elsewhere.take(), [("watched", [BOB])])
        for is_online, told in ((True, online(BOB)), (False, offline(BOB))):
            self.server.set_elsewhere(BOB, is_online)
            self.world.end_turn()
            self.assertEqual(link.take(), told)
        alice.connection_lost()
        self.assertEqual(self.elsewhere.take(), [("unregistered", ALICE)])
        for message in encode_peer_ids(MessageType.UNSUBSCRIBE_PEER_STATE, [BOB]):
            carl.message_received(message)
        self.assertEqual(self.elsewhere.take(), [("unwatched", [BOB])])

    def test_evict(self) -> None:
        """A peer that connects to another node is dropped here, and the other nodes know who is here."""
        _, link = self.world.sign_in("alice")
        self.server.evict(ALICE)
        self.server.evict(BOB)
        self.assertEqual(link.ended, "abort")
        self.assertEqual(self.elsewhere.take(), [("registered", ALICE), ("unregistered", ALICE)])
