"""P2P links of clients, through NATs and by the node, all in memory."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.client import Client, NotConnected, PushReceived
from meshrelay.client.p2p import (
    LinkLost,
    LinkMessageReceived,
    LinksStarted,
    LinkState,
    LinkStateChanged,
    RelayReason,
)
from meshrelay.errors import (
    MalformedPayload,
    MessageTooLarge,
    RemoteProtocolError,
    RoomNotFound,
    SlowReceiver,
)
from meshrelay.testing.impairment import Impairment
from meshrelay.testing.nat import Nat, NatKind
from meshrelay.wire.addresses import UdpAddress
from meshrelay.wire.commands import Command, encode_pushed_message
from meshrelay.wire.sync_bytes import SyncUser, encode_sync_bytes
from tests.client.p2p.memory_internet import ROOM, MemoryClient, MemoryInternet

OTHER_ROOM = "s" * 52


def home(number: int, kind: NatKind = NatKind.PORT_RESTRICTED) -> list[Nat]:
    """A NAT of one's own."""
    return [Nat(kind, f"203.0.113.{number}", number)]


def states(client: MemoryClient, peer: str = "") -> list[LinkState]:
    """How peers were reached, one after the other."""
    return [event.state for event in client.of_class(LinkStateChanged) if peer in ("", event.user_id)]


class LinkCase(SynchronousTestCase):
    """Ann and Bob, each behind a NAT, in one room."""

    def setUp(self) -> None:
        self.net = MemoryInternet()
        self.ann = self.net.client("ann", home(1))
        self.bob = self.net.client("bob", home(2))

    def start(self, seconds: float = 0.1) -> None:
        """Let Ann start links."""
        started = self.ann.client.links.start(ROOM)
        self.net.run(seconds)
        self.assertIsNone(self.successResultOf(started))

    def be_direct(self) -> None:
        """Let both reach each other directly."""
        self.start()
        self.assertTrue(self.net.run(10.0, lambda: LinkState.DIRECT in states(self.ann) and self.is_direct(self.bob)))

    def is_direct(self, client: MemoryClient) -> bool:
        """Whether all peers are reached directly."""
        return all(peer.state is LinkState.DIRECT for peer in client.client.links.peers())

    def count(self, client: MemoryClient, name: str) -> float:
        """A value of the statistics."""
        return client.client.links.statistics().get(name, 0)


class AddressTests(LinkCase):
    """Where a client is."""

    def test_udp(self) -> None:
        """A UDP client tells its local addresses, but those that mean nothing to others, and learns its public one."""
        asked = self.ann.client.links.addresses()
        self.net.run(0.1)
        self.assertEqual(self.successResultOf(asked), UdpAddress("203.0.113.1", 41000))
        self.assertEqual(self.ann.addresses, [UdpAddress("192.168.1.11", 41000)])
        network = self.ann.client.links.network
        self.assertEqual((network.public, network.local), (self.ann.public, (self.ann.addresses[0],)))
        self.assertTrue(network.has_socket)

    def test_tcp(self) -> None:
        """A client that speaks TCP has no address, and knows it."""
        cyd = self.net.client("cyd", is_udp=False)
        asked = cyd.client.links.addresses()
        self.net.run(0.1)
        self.assertIsNone(self.successResultOf(asked))
        self.assertFalse(cyd.client.links.network.has_socket)

    def test_no_nat(self) -> None:
        """A client whose local address is what the node sees has no NAT."""
        dan = self.net.client("dan")
        self.assertIn("no NAT", dan.client.links.network.text)

    def test_no_private(self) -> None:
        """With allow_private off no local address is told."""
        eve = self.net.client("eve", home(5), allow_private=False)
        self.assertEqual(eve.addresses, [])

    def test_bad_answer(self) -> None:
        """An answer that is none is the node's fault."""
        asked = self.ann.client.links.addresses()
        [*_, frame] = self.ann.end.of_command(1, Command.LINK_ADDRESSES)
        self.ann.end.answer(frame, b"\x05abcde")
        self.failureResultOf(asked, RemoteProtocolError)

    def test_moved(self) -> None:
        """After a rebind the node is told the new address, and the peers find it, too."""
        self.be_direct()
        old = self.ann.addresses
        self.assertTrue(self.ann.client.rebind())
        self.net.run(5.0)
        self.assertNotEqual(self.ann.addresses, old)
        self.ann.client.links.send("bob", 2, 1, b"from elsewhere")
        self.net.run(0.2)
        self.assertEqual(self.bob.payloads, [b"from elsewhere"])
        self.assertTrue(self.is_direct(self.bob))

    def test_moved_unseen(self) -> None:
        """A socket that the connection has changed by itself is noticed, and told within a few seconds."""
        old = self.ann.addresses
        self.ann.end.rebind()
        self.net.run(3.0)
        self.assertNotEqual(self.ann.addresses, old)


class StartTests(LinkCase):
    """From the start of links to the first messages."""

    def test_first_message(self) -> None:
        """Messages arrive by the relay at once, and directly as soon as that works; the program hears how and why."""
        self.start()
        self.assertEqual(self.bob.of_class(LinksStarted), [LinksStarted(ROOM, ("ann",))])
        self.ann.client.links.send("bob", 2, 7, b"hi")
        self.net.run(0.2)
        received = LinkMessageReceived(ROOM, "ann", 2, 7, b"hi", True)
        self.assertEqual(self.bob.of_class(LinkMessageReceived), [received])
        self.net.run(3.0)
        first, last = self.bob.of_class(LinkStateChanged)
        self.assertEqual((first.state, first.reason, first.address), (LinkState.RELAYED, RelayReason.TRYING, None))
        self.assertEqual((last.state, last.reason, last.address), (LinkState.DIRECT, None, self.ann.public))
        forwarded = self.net.forwarded
        self.bob.client.links.send_all(2, 7, b"you too", reliable=False)
        self.net.run(0.1)
        self.assertEqual(self.ann.of_class(LinkMessageReceived)[-1].is_reliable, False)
        self.assertEqual(self.net.forwarded, forwarded)

    def test_first_message_in_time(self) -> None:
        """What is sent when links have just started is there within 300 ms, also when one NAT lets no UDP through."""
        cyd = self.net.client("cyd", home(3, NatKind.BLOCKED))
        begin = self.net.clock.seconds()
        self.ann.client.links.start(ROOM)
        self.net.run(1.0, lambda: bool(self.ann.of_class(LinksStarted)))
        self.ann.client.links.send_all(2, 7, b"hi")
        self.net.run(1.0)
        for client in (self.bob, cyd):
            [at] = [time for time, event in client.told if isinstance(event, LinkMessageReceived)]
            self.assertLess(at - begin, 0.3, client.name)

    def test_others_first(self) -> None:
        """What peers send to one who hears of the start later waits for that, and need not be sent again."""
        self.net.late["bob"] = 0.25
        self.ann.client.on(LinksStarted, lambda _: self.ann.client.links.send("bob", 2, 7, b"hi"))
        self.start(2.0)
        times = {type(event): time for time, event in reversed(self.bob.told)}
        self.assertEqual(self.bob.payloads, [b"hi"])
        self.assertLess(times[LinkMessageReceived] - times[LinksStarted], 0.15)

    def test_search_sockets(self) -> None:
        """Sockets that were opened to find a port are closed again, but the one that has found it."""
        cyd = self.net.client("cyd", home(3, NatKind.SYMMETRIC_RANDOM))
        self.start(10.0)
        self.assertIn(LinkState.DIRECT, states(cyd, "ann"))
        self.assertGreater(len(cyd.host.ports), 200)
        self.net.run(30.0)
        self.assertLess(len(cyd.host.ports), 10)
        self.assertIs(states(cyd, "ann")[-1], LinkState.DIRECT)

    def test_reports(self) -> None:
        """The node is told how each peer is reached when that changes, and only then."""
        self.net.client("cyd", is_udp=False)
        self.start(5.0)
        said = [(report.group_id, dict(report.states)) for report in self.ann.reports]
        self.assertEqual(
            said,
            [
                (ROOM, {"bob": LinkState.RELAYED, "cyd": LinkState.RELAYED}),
                (ROOM, {"bob": LinkState.DIRECT}),
            ],
        )

    def test_peers(self) -> None:
        """How each peer is reached can be asked at any time."""
        self.net.client("cyd", is_udp=False)
        self.start(5.0)
        bob, cyd = self.ann.client.links.peers()
        self.assertEqual((bob.user_id, bob.state, bob.address), ("bob", LinkState.DIRECT, self.bob.public))
        self.assertAlmostEqual(bob.round_trip_seconds or 0.0, 0.04)
        self.assertEqual((cyd.state, cyd.reason), (LinkState.RELAYED, RelayReason.NO_PEER_ADDRESS))
        self.assertEqual(self.ann.client.links.peers(OTHER_ROOM), [])

    def test_refused(self) -> None:
        """What the node refuses comes as the class of its code; what is no room ID is not even sent."""
        self.net.refuses[Command.LINK_START] = 25
        started = self.ann.client.links.start(ROOM)
        self.net.run(0.1)
        self.failureResultOf(started, RoomNotFound)
        self.failureResultOf(self.ann.client.links.start("short"), MalformedPayload)

    def test_late_use(self) -> None:
        """A client that was not ready when links started tells its address then, and is found."""
        cyd = self.net.client("cyd", home(3))
        cyd.client.links.stop()
        cyd.public, cyd.addresses = None, []
        self.start(10.0)
        self.assertIn(LinkState.DIRECT, states(cyd, "ann"))

    def test_sync_bytes_twice(self) -> None:
        """The same sync bytes once more, as after a resume, make no second link: its packets would use nonces again."""
        self.start()
        again = encode_sync_bytes(self.net.secrets[-1], [SyncUser("ann", ()), SyncUser("bob", ())])
        self.ann.end.push(1, Command.LINK_START, again)
        self.net.run(0.1)
        self.assertEqual(len(self.ann.of_class(LinksStarted)), 1)
        self.assertEqual(self.count(self.ann, "starts_refused"), 1)

    def test_malformed(self) -> None:
        """Pushes that cannot be read are counted and do no harm."""
        for cmd in (Command.LINK_START, Command.LINK_FORWARD, Command.LINK_RELAY):
            self.ann.end.push(1, cmd, b"garbage")
        self.assertEqual(self.count(self.ann, "pushes_malformed"), 3)
        self.assertTrue(self.ann.client.is_connected)

    def test_not_used(self) -> None:
        """A program that has not asked for links gets the pushes as they are."""
        other = self.net.client("old", room="")
        plain = Client(other.host, "tcp://127.0.0.1:7200", "plain", opener=other._open)
        pushes: list[PushReceived] = []
        plain.on(PushReceived, pushes.append)
        done = plain.connect()
        self.net.run(0.2)
        self.successResultOf(done)
        other.end.push(1, Command.LINK_START, b"sync")
        self.assertEqual(pushes, [PushReceived(1, 131, b"sync")])


class SendTests(LinkCase):
    """What can go wrong with sending."""

    def test_no_link(self) -> None:
        """Without a link nothing can be sent to a user."""
        links = self.ann.client.links
        self.assertRaises(NotConnected, links.send, "bob", 2, 1)
        self.assertRaises(NotConnected, links.send_all, 2, 1)
        self.failureResultOf(links.when_drained("bob"), NotConnected)
        self.start()
        self.assertRaises(NotConnected, links.send, "cyd", 2, 1)
        self.assertRaises(NotConnected, links.send, "bob", 2, 1, room_id=OTHER_ROOM)

    def test_numbers(self) -> None:
        """Only commands of the application go to peers, and no longer than they take."""
        self.start()
        links = self.ann.client.links
        for ver, cmd in ((0, 1), (1, 1), (256, 1), (2, 65536), (2, -1)):
            self.assertRaises(ValueError, links.send, "bob", ver, cmd)
        self.assertRaises(MessageTooLarge, links.send, "bob", 2, 1, bytes(65537))
        links.send("bob", 2, 1, bytes(65536))
        self.net.run(2.0)
        self.assertEqual([len(payload) for payload in self.bob.payloads], [65536])

    def test_slow_peer(self) -> None:
        """When too much waits for a peer sending says so, and it goes on when the peer has caught up."""
        self.be_direct()
        links = self.ann.client.links
        with self.assertRaises(SlowReceiver):
            for _ in range(1000):
                links.send("bob", 2, 1, bytes(60000))
        failed = links.send_all(2, 1, bytes(60000))
        self.assertEqual([type(error) for error in failed.values()], [SlowReceiver])
        drained = links.when_drained("bob")
        self.assertNoResult(drained)
        links.when_drained("bob").addErrback(lambda _: None).cancel()
        self.net.run(60.0, lambda: drained.called)
        self.successResultOf(drained)
        links.send("bob", 2, 1, b"again")
        self.net.run(2.0)
        self.assertEqual(self.bob.payloads[-1], b"again")

    def test_bad_path(self) -> None:
        """At 5 % loss, by the relay and directly, everything arrives once and in order."""
        net = MemoryInternet(
            Impairment(delay_seconds=0.02, jitter_seconds=0.01, loss=0.05, duplication=0.01), loss=0.05
        )
        self.net = net
        self.ann, self.bob = net.client("ann", home(1)), net.client("bob", home(2))
        self.start()
        for number in range(300):
            net.clock.callLater(number * 0.02, self.ann.client.links.send, "bob", 2, 1, b"%d" % number)
        net.run(12.0)
        self.assertEqual(self.bob.payloads, [b"%d" % number for number in range(300)])
        self.assertIn(LinkState.DIRECT, states(self.bob))

    def test_unordered(self) -> None:
        """Without ordering a message need not wait for one that was lost, and still all come once."""
        net = self.net = MemoryInternet(Impairment(delay_seconds=0.02, loss=0.1))
        self.ann = net.client("ann", home(1), is_ordered=False)
        self.bob = net.client("bob", home(2), is_ordered=False)
        self.be_direct()
        for number in range(200):
            net.clock.callLater(number * 0.01, self.ann.client.links.send, "bob", 2, 1, b"%03d" % number)
        net.run(10.0)
        expected = [b"%03d" % number for number in range(200)]
        self.assertEqual(sorted(self.bob.payloads), expected)
        self.assertNotEqual(self.bob.payloads, expected)


class ChangeTests(LinkCase):
    """Paths, starts and members that change."""

    def test_path_dies(self) -> None:
        """When the direct path dies the relay takes over within 5 s and nothing is lost; later it is direct again."""
        self.be_direct()
        for number in range(100):
            self.net.clock.callLater(number * 0.1, self.ann.client.links.send, "bob", 2, 1, b"%d" % number)
        self.net.run(1.0)
        self.net.is_cut = True
        cut_at = self.net.clock.seconds()
        self.assertTrue(self.net.run(5.0, lambda: states(self.ann)[-1] is LinkState.RELAYED))
        self.assertLess(self.net.clock.seconds() - cut_at, 5.0)
        self.net.run(12.0)
        self.assertEqual(self.bob.payloads, [b"%d" % number for number in range(100)])
        self.assertIs(self.ann.of_class(LinkStateChanged)[-1].reason, RelayReason.LOST)
        self.net.is_cut = False
        self.net.run(70.0)
        self.assertTrue(self.is_direct(self.ann))

    def test_new_start(self) -> None:
        """A new start takes the place of the old one: what was on its way comes first, nothing is lost or doubled."""
        self.be_direct()
        expected = []
        for number in range(60):
            expected.append(b"%d" % number)
            self.ann.client.links.send("bob", 2, 1, expected[-1].ljust(1200, b" "))
            if number % 20 == 10:
                self.bob.client.links.start(ROOM).addErrback(lambda _: None)
            self.net.run(0.02)
        self.net.run(5.0)
        self.assertEqual([payload.strip() for payload in self.bob.payloads], expected)
        self.assertEqual(len(self.bob.of_class(LinksStarted)), 4)
        self.assertEqual(self.bob.of_class(LinkLost), [])
        self.assertEqual(self.count(self.bob, "groups_ending"), 0)
        self.assertTrue(self.is_direct(self.bob))

    def test_new_start_is_faster(self) -> None:
        """What was lost on an old link and is sent again comes before what is sent by the new one."""
        self.net.is_cut = True
        self.start(1.0)
        self.net.refuses[Command.LINK_FORWARD] = 24
        self.ann.client.links.send("bob", 2, 1, b"old")
        self.net.run(0.05)
        self.net.refuses.clear()
        self.net.start()
        self.ann.client.on(LinksStarted, lambda _: self.ann.client.links.send("bob", 2, 1, b"new"))
        self.net.run(3.0)
        self.assertEqual(self.bob.payloads, [b"old", b"new"])

    def test_new_start_before_an_answer(self) -> None:
        """So it does when the peer has not yet answered by the old link."""
        self.net.is_cut = True
        self.net.refuses[Command.LINK_FORWARD] = 24
        self.start(0.05)
        self.ann.client.links.send("bob", 2, 1, b"old")
        self.net.run(0.05)
        self.net.refuses.clear()
        self.net.start()
        self.ann.client.on(LinksStarted, lambda _: self.ann.client.links.send("bob", 2, 1, b"new"))
        self.net.run(3.0)
        self.assertEqual(self.bob.payloads, [b"old", b"new"])

    def test_many_starts(self) -> None:
        """Starts faster than links can end leave a bounded number of them behind."""
        for _ in range(100):
            self.net.start()
        self.net.run(0.05)
        self.assertLessEqual(self.count(self.ann, "groups_ending"), 64)
        self.net.run(10.0)
        self.assertEqual(self.count(self.ann, "groups_ending"), 0)
        self.ann.client.links.send("bob", 2, 1, b"still here")
        self.net.run(0.5)
        self.assertEqual(self.bob.payloads, [b"still here"])

    def test_member_leaves(self) -> None:
        """A link ends when its peer leaves the room, and the program hears it; what was said before comes first."""
        self.be_direct()
        self.bob.client.links.send("ann", 2, 1, b"bye")
        left = self.bob.client.leave_room(ROOM)
        self.net.run(5.0)
        self.successResultOf(left)
        self.assertEqual(self.ann.payloads, [b"bye"])
        self.assertEqual(self.ann.of_class(LinkLost), [LinkLost(ROOM, "bob", 0, "left the room")])
        self.assertEqual(self.bob.of_class(LinkLost), [LinkLost(ROOM, "ann", 0, "this client left the room")])
        self.assertEqual(self.ann.client.links.peers(), [])
        self.assertEqual(self.ann.reports[-1].states, (("bob", LinkState.LOST),))

    def test_member_is_lost(self) -> None:
        """A link ends when the node has lost its peer."""
        self.be_direct()
        self.bob.client.links.stop()
        self.net.lose(self.bob)
        self.net.run(5.0)
        [lost] = self.ann.of_class(LinkLost)
        self.assertEqual(lost.user_id, "bob")
        self.assertEqual(self.ann.client.links.peers(), [])

    def test_own_room_is_gone(self) -> None:
        """When the node says that we are in the room no more all its links end."""
        self.be_direct()
        self.net.say("ann", Command.ROOM_LOST, encode_pushed_message(ROOM, "ann", b""))
        self.net.run(5.0)
        self.assertEqual([event.text for event in self.ann.of_class(LinkLost)], ["was lost"])

    def test_close(self) -> None:
        """Closing delivers what was sent just before, and the peer hears the end."""
        self.start()
        self.ann.client.links.send("bob", 2, 1, b"last words")
        closed = self.ann.client.links.close(ROOM)
        self.net.run(3.0)
        self.successResultOf(closed)
        self.assertEqual(self.bob.payloads, [b"last words"])
        self.assertEqual([event.code for event in self.bob.of_class(LinkLost)], [0])
        self.assertEqual(self.ann.of_class(LinkLost), [LinkLost(ROOM, "bob", 0, "closed by this program")])

    def test_close_to_the_dead(self) -> None:
        """Closing takes no longer than linger_seconds when nobody answers."""
        self.start()
        self.net.is_cut = True
        self.net.refuses[Command.LINK_FORWARD] = 24
        self.ann.client.links.send("bob", 2, 1, b"unheard")
        closed = self.ann.client.links.close()
        self.net.run(2.1)
        self.successResultOf(closed)

    def test_client_closes(self) -> None:
        """A client that is closed leaves no timer and no socket behind."""
        self.be_direct()
        self.net.run(1.0)
        before = len(self.net.clock.getDelayedCalls())
        self.ann.client.close()
        self.bob.client.close()
        self.net.run(0.1)
        self.assertEqual((self.ann.host.ports, self.bob.host.ports), ({}, {}))
        self.assertEqual((len(self.net.clock.getDelayedCalls()) < before, self.ann.client.links.peers()), (True, []))
        self.net.run(5.0)
        self.assertEqual(self.net.clock.getDelayedCalls(), [])


class NodeTests(LinkCase):
    """The connection to the node breaks."""

    def test_direct_without_node(self) -> None:
        """Peers that are reached directly are reached while the node is not; the client goes on by its new socket."""
        self.be_direct()
        self.net.break_connection(self.ann)
        self.ann.client.links.send("bob", 2, 1, b"meanwhile")
        self.net.run(0.1)
        self.assertEqual((self.bob.payloads, self.ann.client.is_connected), ([b"meanwhile"], False))
        self.net.run(10.0)
        self.assertTrue(self.ann.client.is_connected)
        self.assertEqual(len(self.ann.host.ports), 1)
        self.bob.client.links.send("ann", 2, 1, b"welcome back")
        self.net.run(0.5)
        self.assertEqual(self.ann.payloads, [b"welcome back"])
        self.assertTrue(self.is_direct(self.bob))

    def test_relayed_without_node(self) -> None:
        """What is relayed waits for the node to be back."""
        self.ann.is_udp = False
        self.net.break_connection(self.ann)
        self.net.run(1.0)
        self.start()
        self.net.break_connection(self.ann)
        self.ann.client.links.send("bob", 2, 1, b"later")
        self.net.run(0.1)
        self.assertEqual(self.bob.payloads, [])
        self.assertTrue(self.count(self.ann, "unsent_to_node"))
        self.net.run(10.0)
        self.assertEqual(self.bob.payloads, [b"later"])

    def test_new_session(self) -> None:
        """A session that was not resumed is in no room: its links end."""
        self.be_direct()
        self.net.is_resumable = False
        self.net.break_connection(self.ann)
        self.net.run(5.0)
        [lost] = self.ann.of_class(LinkLost)
        self.assertIn("session", lost.text)


class RelayTests(SynchronousTestCase):
    """Messages to all link groups of a room."""

    def make(self, count: int, size: int) -> list[MemoryClient]:
        """So many clients in link groups of that size, started."""
        self.net = MemoryInternet()
        clients = [self.net.client(f"user {number:02}", home(number + 1)) for number in range(count)]
        self.net.start(ROOM, size)
        self.net.run(3.0)
        return clients

    def test_each_once(self) -> None:
        """In a room of 16 in 4 link groups everybody but the sender gets each message exactly once."""
        clients = self.make(16, 4)
        sent = [each.client.links.relay(ROOM, each.name.encode()) for each in clients[::3]]
        self.net.run(3.0)
        self.assertEqual([self.successResultOf(each) for each in sent], [True] * 6)
        said = {(each.name, each.name.encode()) for each in clients[::3]}
        for client in clients:
            expected = sorted(said - {(client.name, client.name.encode())})
            self.assertEqual(sorted(client.relayed), expected, client.name)

    def test_selected_is_oneself(self) -> None:
        """A node that gives the message back to the sender, or to its own group, makes nobody hear it twice."""
        clients = self.make(6, 3)
        self.net.selected = ["user 00", "user 01", "user 04"]
        clients[0].client.links.relay(ROOM, b"hi")
        self.net.run(3.0)
        self.assertEqual([len(client.relayed) for client in clients], [0, 1, 1, 1, 1, 1])

    def test_too_long_to_pass_on(self) -> None:
        """What is relayed to us and longer than our peers take is told, not passed on, and does no harm."""
        net = MemoryInternet()
        ann = net.client("ann", home(1), max_payload_bytes=1000)
        net.client("bob", home(2), max_payload_bytes=1000)
        net.start()
        net.run(1.0)
        ann.end.push(1, Command.LINK_RELAY, encode_pushed_message(ROOM, "eve", bytes(2000)))
        self.assertEqual(ann.relayed, [("eve", bytes(2000))])
        self.assertEqual(ann.client.links.statistics()["relay_dropped"], 1)
        self.assertTrue(ann.client.is_connected)

    def test_not_sent(self) -> None:
        """Whether the node has sent it is told; what is too long or for no room is refused at once."""
        self.net = MemoryInternet()
        ann = self.net.client("ann")
        links = ann.client.links
        sent = links.relay(ROOM, b"hi")
        self.net.run(0.1)
        self.assertFalse(self.successResultOf(sent))
        self.failureResultOf(links.relay(ROOM, bytes(65537)), MessageTooLarge)
        self.failureResultOf(links.relay("short", b""), MalformedPayload)
        bad = links.relay(ROOM, b"hi")
        ann.end.answer(ann.end.of_command(1, Command.LINK_RELAY)[-1], b"\x02")
        self.failureResultOf(bad, RemoteProtocolError)

    def test_longest(self) -> None:
        """The longest message that may be relayed passes the links as well."""
        clients = self.make(4, 2)
        clients[0].client.links.relay(ROOM, b"x" * 65400)
        self.net.run(5.0)
        self.assertEqual([len(client.relayed) for client in clients], [0, 1, 1, 1])


class RoomTests(SynchronousTestCase):
    """More rooms than one."""

    def test_two_rooms(self) -> None:
        """Links of two rooms with the same users are told apart, and each start finds its room."""
        net = MemoryInternet()
        ann, bob = net.client("ann", home(1)), net.client("bob", home(2))
        done: list[Deferred[str]] = [each.client.join_room(OTHER_ROOM) for each in (ann, bob)]
        net.run(0.2)
        self.assertEqual([self.successResultOf(each) for each in done], ["ann", "ann"])
        cyd = net.client("cyd", home(3), room=OTHER_ROOM)
        net.start(OTHER_ROOM)
        net.run(1.0)
        self.assertEqual([event.room_id for event in ann.of_class(LinksStarted)], [OTHER_ROOM])
        ann.client.links.start(ROOM)
        net.run(5.0)
        self.assertEqual([event.room_id for event in ann.of_class(LinksStarted)], [OTHER_ROOM, ROOM])
        ann.client.links.send("bob", 2, 1, b"here", room_id=ROOM)
        ann.client.links.send_all(2, 1, b"there", room_id=OTHER_ROOM)
        net.run(0.5)
        self.assertEqual((sorted(bob.payloads), cyd.payloads), ([b"here", b"there"], [b"there"]))

    def test_same_users(self) -> None:
        """In two rooms with the same users even those who did not start find the room, by what comes for it."""
        net = MemoryInternet()
        ann, bob = net.client("ann", home(1)), net.client("bob", home(2))
        for each in (ann, bob):
            each.client.join_room(OTHER_ROOM)
        net.run(0.2)
        for room_id in (OTHER_ROOM, ROOM, OTHER_ROOM):
            ann.client.links.start(room_id)
            net.run(0.4)
        self.assertEqual([event.room_id for event in bob.of_class(LinksStarted)], [OTHER_ROOM, ROOM, OTHER_ROOM])
        net.run(3.0)
        self.assertEqual({peer.room_id for peer in bob.client.links.peers()}, {ROOM, OTHER_ROOM})

    def test_nobody_tells(self) -> None:
        """When no packet tells the room both ends take the same one after a moment."""
        net = MemoryInternet()
        ann, bob = net.client("ann", home(1)), net.client("bob", home(2))
        for each in (ann, bob):
            each.client.join_room(OTHER_ROOM)
        net.run(0.2)
        net.start(OTHER_ROOM)
        net.run(1.0)
        rooms = [event.room_id for each in (ann, bob) for event in each.of_class(LinksStarted)]
        self.assertEqual(rooms, [ROOM, ROOM])

    def test_no_room(self) -> None:
        """A start for a client that knows of no room is passed over."""
        net = MemoryInternet()
        ann = net.client("ann", room="")
        net.rooms[ROOM] = ["ann"]
        net.start()
        net.run(0.5)
        self.assertEqual(ann.of_class(LinksStarted), [])
        self.assertEqual(ann.client.links.statistics()["starts_refused"], 1)
