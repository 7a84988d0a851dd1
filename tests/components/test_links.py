"""P2P links as clients and applications see them, on one node and on three."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from meshrelay.config.schema import LinkConfig
from meshrelay.errors import (
    ErrorCode,
    LinkGroupSizeInvalid,
    MalformedPayload,
    MessageTooLarge,
    NotEnoughMembers,
    NotInRoom,
    NotSignedIn,
    RoomNotFound,
    RoomTimeout,
)
from meshrelay.interfaces import IComponent, IMeshRelay, INodeObserver, IPeerLinks
from meshrelay.model import LinkPair, Status, User
from meshrelay.wire.commands import Command, decode_pushed_message, encode_error, encode_gid_message
from meshrelay.wire.link_commands import LinkStart, LinkState, encode_link_start
from meshrelay.wire.sync_bytes import decode_sync_bytes
from tests.components.link_kit import LinkTestCase, link_config
from tests.components.room_kit import RESUME_SECONDS

NOWHERE = "x" * 52


class StartTests(LinkTestCase):
    """Members of one room on three nodes."""

    def setUp(self) -> None:
        """Ann's room on node a; dan has TCP."""
        super().setUp()
        self.ann, self.bob = self.client("ann"), self.client("bob", "b")
        self.cat, self.dan = self.client("cat", "c"), self.client("dan", "b", "tcp")
        self.all = (self.ann, self.bob, self.cat, self.dan)
        self.den = self.room_of(*self.all)

    def test_contracts(self) -> None:
        """Links are what the application and the node take them for."""
        verifyObject(IPeerLinks, self.links())
        verifyObject(IComponent, self.links())
        verifyObject(INodeObserver, self.links())
        self.assertIs(self.cluster["a"].relay.links, self.links())

    def test_addresses(self) -> None:
        """A UDP client is told its public address; nobody else has one."""
        self.assertEqual(str(self.tell(self.ann, "10.0.0.1:5000")), "198.51.100.1:4000")
        self.assertIsNone(self.tell(self.dan, "10.0.0.4:5000"))
        self.assertEqual([self.count("sessions_with_addresses", node_id) for node_id in "ab"], [1, 0])

    def test_everybody_is_told(self) -> None:
        """Each member is told all of its group, the public address first; who has no UDP has no address."""
        self.tell(self.bob, "10.0.0.2:5000", "192.168.1.2:5000")
        self.tell(self.dan, "10.0.0.4:5000")
        self.start(self.cat, self.den)
        told = [self.synced(client) for client in self.all]
        self.assertEqual([each == told[0] for each in told], [True] * 4)
        addresses = {user.user_id: [str(each) for each in user.addresses] for user in told[0].users}
        expected = {
            "ann": ["198.51.100.1:4000"],
            "bob": ["198.51.100.2:4000", "10.0.0.2:5000", "192.168.1.2:5000"],
            "cat": ["198.51.100.3:4000"],
            "dan": [],
        }
        self.assertEqual(addresses, expected)

    def test_groups_by_latency(self) -> None:
        """The nearest come together, wherever they are, and each group has a key of its own; a start makes new ones."""
        for client, latency in zip(self.all, (0.05, 0.002, None, 0.001), strict=True):
            self.set_latency(client, latency)
        self.start(self.ann, self.den, 2)
        first = {self.names([client])[0]: self.synced(client) for client in self.all}
        users = {name: [user.user_id for user in told.users] for name, told in first.items()}
        self.assertEqual(
            users, {"dan": ["dan", "bob"], "bob": ["dan", "bob"], "ann": ["ann", "cat"], "cat": ["ann", "cat"]}
        )
        self.start(self.dan, self.den, 2)
        secrets = {told.secret for told in first.values()} | {self.synced(client).secret for client in self.all}
        self.assertEqual(len(secrets), 4)

    def test_last_start_counts(self) -> None:
        """Of starts at the same moment all members are told the same one last."""
        payloads = [encode_link_start(LinkStart(self.den, size)) for size in (0, 2, 3, 0)]
        for client, payload in zip(self.all, payloads, strict=True):
            client.send(Command.LINK_START, payload)
        self.cluster.run(0.5)
        told = {
            self.names([client])[0]: [decode_sync_bytes(each) for each in self.pushes(client, Command.LINK_START)]
            for client in self.all
        }
        self.assertEqual([len(each) for each in told.values()], [4] * 4)
        last = {name: each[-1] for name, each in told.items()}
        for name, sync_bytes in last.items():
            self.assertIn(name, [user.user_id for user in sync_bytes.users])
            for user in sync_bytes.users:
                self.assertEqual(last[user.user_id], sync_bytes)

    def test_refusals(self) -> None:
        """What cannot be started has its code, on the node of the room and on others."""
        eve, fay = self.client("eve", "a", "tcp"), self.client("fay", "b", "tcp")
        loft = self.create(eve)
        self.join(fay, loft)
        for client, room_id, size, code in (
            (eve, self.den, 0, 24),
            (fay, self.den, 0, 24),
            (eve, NOWHERE, 0, 25),
            (self.ann, self.den, 1, 41),
            (self.bob, self.den, 9, 41),
            (eve, loft, 0, 40),
            (fay, loft, 0, 40),
        ):
            self.assertEqual(self.code_of(self.try_start(client, room_id, size)), code, (room_id, size))
        gone = loft[:20] + "a" * 32
        self.assertEqual(self.code_of(self.try_start(fay, gone)), 25)
        for client in (*self.all, eve, fay):
            self.assertEqual(self.pushes(client, Command.LINK_START), [])

    def test_too_many(self) -> None:
        """Starts in one room are limited; after a while one may start again."""
        answers = [self.try_start(self.bob, self.den) for _ in range(12)]
        refused = [self.code_of(each) for each in answers if each.status != Status.OK]
        self.assertEqual(set(refused), {ErrorCode.RATE_LIMITED.value})
        self.cluster.run(1.0)
        self.start(self.bob, self.den)

    def test_silent_node(self) -> None:
        """A node that does not answer holds a start up for a second, and its members are relayed."""
        self.cluster.links.mesh.black_hole("a", "c")
        request_id = self.ann.ask(Command.LINK_START, encode_link_start(LinkStart(self.den, 0)))
        self.cluster.run(1.3)
        answer = self.ann.answer_to(request_id)
        assert answer is not None
        self.assertEqual(answer.status, Status.OK)
        addresses = {user.user_id: len(user.addresses) for user in self.synced(self.ann).users}
        self.assertEqual(addresses, {"ann": 1, "bob": 1, "cat": 0, "dan": 0})

    def test_home_gone(self) -> None:
        """Links of a room whose node died are over: nothing is forwarded any more."""
        self.start(self.ann, self.den)
        self.cluster.kill("a")
        self.cluster.run(40.0, 0.1)
        self.assertEqual(self.count("rooms_seated", "b"), 0)
        self.forward(self.bob, self.den, "cat", b"x")
        self.assertEqual(self.packets(self.cat), [])


class HookTests(LinkTestCase):
    """Hooks of LINK_START."""

    def set_up(self, relay: IMeshRelay) -> None:
        """Refuse bob, and remember what came behind."""
        self.seen: list[str] = []

        def refuse(ver: int, cmd: int, payload: bytes, user: User) -> None:
            self.seen.append(f"before {user.user_id}")
            if user.user_id == "bob":
                raise ValueError("not you")

        relay.links.before_start(refuse)
        relay.links.after_start(lambda ver, cmd, payload, user: self.seen.append(f"after {user.user_id}"))

    def test_order(self) -> None:
        """A hook may refuse a start; the ones behind run when it was done."""
        ann, bob = self.client("ann"), self.client("bob")
        den = self.room_of(ann, bob)
        self.assertEqual(self.code_of(self.try_start(bob, den)), 8)
        self.start(ann, den)
        self.assertEqual(self.seen, ["before bob", "before ann", "after ann"])
        with self.assertRaises(RuntimeError):
            self.links().before_start(lambda *_: None)
        with self.assertRaises(RuntimeError):
            self.links().expose_commands()


class ForwardTests(LinkTestCase):
    """Packets through the node."""

    def setUp(self) -> None:
        """A room of node b; ann and bob are on node a, cat on c."""
        super().setUp()
        self.ann, self.bob = self.client("ann"), self.client("bob", transport="tcp")
        self.cat, self.own = self.client("cat", "c"), self.client("own", "b")
        self.all = (self.own, self.ann, self.bob, self.cat)
        self.den = self.room_of(*self.all)

    def test_forward(self) -> None:
        """Packets reach the peer, on the same node and on another one, in order and with their sender."""
        self.start(self.own, self.den)
        self.quiet(*self.all)
        self.forward(self.ann, self.den, "bob", b"1", b"2")
        self.forward(self.ann, self.den, "cat", b"3", b"4" * 1400)
        self.forward(self.cat, self.den, "ann", b"5")
        self.assertEqual(self.packets(self.bob), [("ann", b"1"), ("ann", b"2")])
        self.assertEqual(self.packets(self.cat), [("ann", b"3"), ("ann", b"4" * 1400)])
        self.assertEqual(self.packets(self.ann), [("cat", b"5")])

    def test_not_introduced(self) -> None:
        """Nothing is forwarded before a start, to strangers, to other groups, to oneself, or from outside."""
        eve = self.client("eve")
        self.assertEqual(self.refusal_of_forward(self.ann, self.den, "bob"), 30)
        for client, latency in zip(self.all, (0.1, 0.2, 0.3, 0.4), strict=True):
            self.set_latency(client, latency)
        self.start(self.ann, self.den, 2)
        self.quiet(*self.all)
        for client, room_id, peer, code in (
            (self.ann, self.den, "bob", 30),
            (self.ann, self.den, "cat", 30),
            (self.ann, self.den, "ann", 30),
            (self.ann, self.den, "eve", 30),
            (self.ann, NOWHERE, "own", 24),
            (eve, self.den, "ann", 24),
            (self.ann, self.den, "own", 0),
            (self.bob, self.den, "cat", 0),
        ):
            self.assertEqual(self.refusal_of_forward(client, room_id, peer), code, (peer, code))
        self.assertEqual(self.packets(self.bob) + self.packets(eve), [])
        self.assertEqual(self.packets(self.own), [("ann", b"x")])

    def test_joined_later(self) -> None:
        """Who comes later is introduced by the next start."""
        self.start(self.ann, self.den)
        dan = self.client("dan", "c")
        self.join(dan, self.den)
        self.assertEqual(self.refusal_of_forward(self.ann, self.den, "dan"), 30)
        self.assertEqual(self.refusal_of_forward(dan, self.den, "ann"), 30)
        self.start(dan, self.den)
        self.assertEqual(self.refusal_of_forward(self.ann, self.den, "dan"), 0)

    def test_left(self) -> None:
        """Who leaves, or is lost, gets nothing more and says nothing more, also when it comes in again."""
        self.start(self.ann, self.den)
        self.leave(self.cat, self.den)
        self.bob.send(4, ver=0)
        self.cluster.run(0.2)
        self.assertEqual(self.refusal_of_forward(self.ann, self.den, "cat"), 30)
        self.assertEqual(self.refusal_of_forward(self.ann, self.den, "bob"), 30)
        self.assertEqual(self.refusal_of_forward(self.cat, self.den, "ann"), 24)
        self.join(self.cat, self.den)
        self.assertEqual(self.refusal_of_forward(self.cat, self.den, "ann"), 30)
        self.assertEqual(self.refusal_of_forward(self.ann, self.den, "cat"), 30)

    def test_moved(self) -> None:
        """A member that resumes on another node is found there, and speaks from there."""
        self.start(self.ann, self.den)
        self.quiet(*self.all)
        for node_id in ("b", "a", "c", "b"):
            self.cat = self.resume(self.cat, node_id)
            self.cat.link.udp_address = ("198.51.100.99", 1)
            self.quiet(*self.all, self.cat)
            self.forward(self.ann, self.den, "cat", b"to " + node_id.encode())
            self.forward(self.cat, self.den, "ann", b"from " + node_id.encode())
            self.assertEqual(self.packets(self.cat), [("ann", b"to " + node_id.encode())])
            self.assertEqual(self.packets(self.ann), [("cat", b"from " + node_id.encode())])

    def test_away(self) -> None:
        """Packets for a member without a connection are lost, as on the way; what is sent when it is back arrives."""
        self.start(self.ann, self.den)
        self.quiet(*self.all)
        self.cat.link.lose()
        self.cluster.run(0.1)
        self.forward(self.ann, self.den, "cat", b"lost")
        self.cluster.run(0.2)
        self.cat = self.resume(self.cat, "c")
        self.forward(self.ann, self.den, "cat", b"there")
        self.assertEqual(self.packets(self.cat), [("ann", b"there")])

    def test_dead_node(self) -> None:
        """Packets for a node that is gone are dropped, and counted."""
        self.start(self.ann, self.den)
        self.cluster.kill("c")
        self.cluster.run(RESUME_SECONDS / 2, 0.1)
        self.forward(self.ann, self.den, "cat", b"x", b"y")
        self.cluster.run(0.1)
        self.assertEqual(self.count("packets_dropped_node"), 2)

    def test_room_closed(self) -> None:
        """With the room its links end, on all nodes."""
        self.start(self.ann, self.den)
        self.result(self.cluster["b"].rooms.close_room(self.den))
        self.assertEqual(self.refusal_of_forward(self.ann, self.den, "cat"), 24)
        for node_id in "abc":
            self.assertEqual((self.count("rooms", node_id), self.count("rooms_seated", node_id)), (0, 0))

    def test_everybody_left(self) -> None:
        """Nothing is kept of a room when its last member is gone."""
        self.start(self.ann, self.den)
        for client in self.all:
            self.leave(client, self.den)
        self.cluster.run(0.2)
        for node_id in "abc":
            self.assertEqual((self.count("rooms", node_id), self.count("rooms_seated", node_id)), (0, 0))
            self.assertEqual(self.count("sessions_with_addresses", node_id), 0)


class RelayTests(LinkTestCase):
    """One message for all link groups."""

    config = link_config(LinkConfig(max_link_members=16))

    def setUp(self) -> None:
        """Sixteen members on three nodes, user 0 the nearest; groups of four."""
        super().setUp()
        self.all = [self.client(f"user{number:02}", "abc"[number % 3]) for number in range(16)]
        self.den = self.room_of(*self.all)
        for number, client in enumerate(self.all):
            self.set_latency(client, (number + 1) / 1000)
        self.quiet(*self.all)

    def chosen(self) -> list[str]:
        """Who was given a message since the last call."""
        told = {self.names([client])[0]: self.pushes(client, Command.LINK_RELAY) for client in self.all}
        return [name for name, messages in told.items() for _ in messages]

    def test_one_of_each_group(self) -> None:
        """The nearest of each group but the sender's gets it, once."""
        self.start(self.all[0], self.den, 4)
        self.quiet(*self.all)
        self.assertEqual(self.relay(self.all[6], self.den, b"hi"), b"\1")
        [pushed] = self.pushes(self.all[0], Command.LINK_RELAY)
        self.assertEqual(decode_pushed_message(pushed), (self.den, "user06", b"hi"))
        self.assertEqual(self.chosen(), ["user08", "user12"])
        self.assertEqual(self.relay(self.all[0], self.den, b"hi"), b"\1")
        self.assertEqual(self.chosen(), ["user04", "user08", "user12"])

    def test_nearest_left(self) -> None:
        """When the nearest has left, the next one gets it."""
        self.start(self.all[0], self.den, 4)
        self.leave(self.all[4], self.den)
        self.leave(self.all[12], self.den)
        self.quiet(*self.all)
        self.relay(self.all[1], self.den, b"hi")
        self.assertEqual(self.chosen(), ["user05", "user08", "user13"])

    def test_nearest_lost(self) -> None:
        """A member whose node cannot be reached is passed over for one whose can, while it still counts as one."""
        self.start(self.all[0], self.den, 4)
        self.cluster.kill("b")
        nodes = self.cluster.links["a"].nodes
        while not nodes.is_lost("b"):
            self.cluster.run(0.1)
        self.quiet(*self.all)
        self.assertEqual(self.result(self.rooms().members(self.den))[4], "user04")
        self.relay(self.all[0], self.den, b"hi")
        self.assertEqual(self.chosen(), ["user05", "user08", "user12"])

    def test_not_sent(self) -> None:
        """Before a start, with one group, and from outside there is nobody to send to."""
        self.assertEqual(self.relay(self.all[0], self.den, b"hi"), b"\0")
        self.assertEqual(self.relay(self.all[1], self.den, b"hi"), b"\0")
        self.start(self.all[1], self.den, 16)
        for client in self.all[:3]:
            self.assertEqual(self.relay(client, self.den, b"hi"), b"\0")
        eve = self.client("eve", "b")
        self.assertEqual(self.code(eve, Command.LINK_RELAY, self.den, b"hi"), 24)
        self.assertEqual(self.code(eve, Command.LINK_RELAY, NOWHERE, b"hi"), 25)
        too_long = self.cluster.request(eve, Command.LINK_RELAY, encode_gid_message(self.den, b"x" * 4096))
        self.assertEqual(self.code_of(too_long), 5)
        self.assertEqual(self.chosen(), [])

    def test_application(self) -> None:
        """An application relays under numbers of its own, from any node."""
        self.start(self.all[0], self.den, 4)
        self.quiet(*self.all)
        for number, node_id in ((6, "a"), (7, "b")):
            user = self.user(f"user{number:02}", node_id)
            self.assertIs(self.links(node_id).relay_link_message(self.den, 7, 8, b"raw", user, True), True)
        self.cluster.run(0.2)
        got = {self.names([each])[0]: [frame[4] for frame in each.pushes() if frame[0] == 7] for each in self.all}
        self.assertEqual(
            {name: raw for name, raw in got.items() if raw}, dict.fromkeys(("user00", "user08", "user12"), [b"raw"] * 2)
        )
        user = self.user("user06")
        self.assertIs(self.links().relay_link_message(NOWHERE, 7, 8, b"", user, True), False)
        self.assertIs(self.links().relay_link_message(self.den, 7, 8, b"", User("eve", "0" * 32), True), False)
        with self.assertRaises(ValueError):
            self.links().relay_link_message(self.den, 0, 8, b"", user, True)
        with self.assertRaises(MessageTooLarge):
            self.links().relay_link_message(self.den, 7, 8, b"x" * 4097, user, True)


class StateTests(LinkTestCase):
    """What members say of how they reach each other."""

    def setUp(self) -> None:
        """A room of node a with members on all; dan has TCP."""
        super().setUp()
        self.ann, self.bob = self.client("ann"), self.client("bob", "b")
        self.dan = self.client("dan", "c", "tcp")
        self.den = self.room_of(self.ann, self.bob, self.dan)
        self.start(self.ann, self.den)

    def pairs(self, node_id: str = "a") -> dict[tuple[str, str], tuple[str, str]]:
        """State and reason of each pair."""
        count, pairs = self.result(self.links(node_id).link_pairs(self.den))
        self.assertEqual(count, len(pairs))
        return {(each.user_id, each.peer_id): (each.state, each.reason) for each in pairs}

    def test_pairs(self) -> None:
        """How each pair is reached, and why not directly, can be seen from every node."""
        self.report(self.ann, self.den, ("bob", LinkState.DIRECT), ("dan", LinkState.RELAYED))
        self.report(self.bob, self.den, ("ann", LinkState.RELAYED), ("dan", LinkState.LOST))
        expected = {
            ("ann", "bob"): ("direct", ""),
            ("ann", "dan"): ("relayed", "no_udp"),
            ("bob", "ann"): ("relayed", "no_hole"),
            ("bob", "dan"): ("lost", "no_udp"),
            ("dan", "ann"): ("unknown", ""),
            ("dan", "bob"): ("unknown", ""),
        }
        for node_id in "abc":
            self.assertEqual(self.pairs(node_id), expected)
        counts = [self.count(f"pairs_{name}") for name in ("direct", "relayed", "lost", "no_udp", "no_hole")]
        self.assertEqual(counts, [1, 2, 1, 2, 1])
        self.assertEqual(self.links().started_rooms(), (1, [(self.den, 1, 3)]))

    def test_strangers(self) -> None:
        """What is said of strangers is not kept, and costs nobody anything."""
        answer = self.report(self.bob, self.den, ("bob", LinkState.DIRECT), ("eve", LinkState.DIRECT))
        self.assertEqual(answer.status, Status.OK)
        self.assertEqual(set(self.pairs().values()), {("unknown", "")})
        self.assertEqual(self.count("reports_ignored"), 2)
        eve = self.client("eve", "b")
        self.assertEqual(self.code_of(self.report(eve, self.den, ("ann", LinkState.DIRECT))), 24)
        self.assertEqual(self.code_of(self.report(eve, NOWHERE, ("ann", LinkState.DIRECT))), 25)

    def test_forgotten(self) -> None:
        """What was said is gone with the member that it is of, and with a new start."""
        self.report(self.ann, self.den, ("bob", LinkState.DIRECT), ("dan", LinkState.RELAYED))
        self.report(self.bob, self.den, ("ann", LinkState.DIRECT))
        self.leave(self.bob, self.den)
        self.assertEqual(self.pairs(), {("ann", "dan"): ("relayed", "no_udp"), ("dan", "ann"): ("unknown", "")})
        self.assertEqual((self.count("pairs_direct"), self.count("pairs_relayed")), (0, 1))
        self.join(self.bob, self.den)
        self.start(self.ann, self.den)
        self.assertEqual(set(self.pairs().values()), {("unknown", "")})
        self.assertEqual(self.count("pairs_relayed"), 0)

    def test_no_links(self) -> None:
        """A room without links has no pairs; no room is an error, on any node."""
        loft = self.create(self.ann)
        self.assertEqual(self.result(self.links("b").link_pairs(loft)), (0, []))
        self.assertIsInstance(self.error(self.links("b").link_pairs(NOWHERE)), RoomNotFound)


class ApplicationTests(LinkTestCase):
    """What the application may do."""

    def setUp(self) -> None:
        """A room of node a with members on all."""
        super().setUp()
        self.all = [self.client(f"user{number}", "abc"[number % 3]) for number in range(5)]
        self.den = self.room_of(*self.all)
        for client, latency in zip(self.all, (0.5, 0.1, None, 0.3, 0.2), strict=True):
            self.set_latency(client, latency)

    def test_groups(self) -> None:
        """Members are sorted by their latency and cut; from every node it looks the same."""
        for node_id in "abc":
            users, names = self.result(self.links(node_id).create_link_groups(self.den, 2))
            self.assertEqual(names, [["user1", "user4"], ["user3", "user0"], ["user2"]])
            self.assertEqual([[user.user_id for user in group] for group in users], names)
            self.assertEqual(users[0][0], User("user1", self.all[1].sid, "udp"))
        for size in (1, 9):
            self.assertIsInstance(self.error(self.links().create_link_groups(self.den, size)), LinkGroupSizeInvalid)
        self.assertIsInstance(self.error(self.links("b").create_link_groups(NOWHERE, 2)), RoomNotFound)

    def test_sync_bytes(self) -> None:
        """Sync bytes are of the users that are given, in their order, with new keys each time."""
        for node_id in "abc":
            users, _ = self.result(self.links(node_id).create_link_groups(self.den, 2))
            first = decode_sync_bytes(self.result(self.links(node_id).create_sync_bytes(self.den, users[1])))
            again = decode_sync_bytes(self.result(self.links(node_id).create_sync_bytes(self.den, users[1])))
            self.assertEqual([user.user_id for user in first.users], ["user3", "user0"])
            self.assertEqual(first.users, again.users)
            self.assertNotEqual(first.secret, again.secret)
        stranger = self.client("eve")
        outside = User("eve", stranger.sid)
        self.assertIsInstance(self.error(self.links().create_sync_bytes(self.den, [outside])), NotInRoom)

    def test_start(self) -> None:
        """An application starts links under numbers of its own."""
        user = self.user("user1", "b")
        self.result(self.links("b").start_links(5, 6, encode_link_start(LinkStart(self.den, 0)), user))
        for client in self.all:
            [frame] = [frame for frame in client.pushes() if frame.ver == 5]
            self.assertEqual((frame.cmd, len(decode_sync_bytes(frame.payload).users)), (6, 5))

    def test_start_errors(self) -> None:
        """What goes wrong is raised with the bytes that the client is answered."""
        user, links = self.user("user1", "b"), self.links("b")
        stranger = User("eve", "0" * 32)
        loft = self.create(self.client("fay", transport="tcp"))
        fay = self.user("fay")
        for node_links, payload, who, kind, code in (
            (links, b"short", user, MalformedPayload, 1),
            (links, encode_link_start(LinkStart(self.den, 0)), stranger, NotSignedIn, 3),
            (links, encode_link_start(LinkStart(NOWHERE, 0)), user, RoomNotFound, 25),
            (links, encode_link_start(LinkStart(loft, 0)), user, NotInRoom, 24),
            (links, encode_link_start(LinkStart(self.den, 99)), user, LinkGroupSizeInvalid, 41),
            (self.links(), encode_link_start(LinkStart(loft, 0)), fay, NotEnoughMembers, 40),
        ):
            error = self.error(node_links.start_links(1, 131, payload, who))
            self.assertIsInstance(error, kind)
            self.assertEqual((error.code, error.answer), (code, encode_error(code, error.text)))
        wrong = Deferred.fromCoroutine(links.start_links(0, 131, b"", user))
        self.failureResultOf(wrong, ValueError)

    def test_lost_home(self) -> None:
        """A home that does not answer is a timeout after five seconds."""
        self.cluster.links.mesh.black_hole("a", "b")
        self.assertIsInstance(self.error(self.links("b").link_pairs(self.den), 5.5), RoomTimeout)

    def test_pair_values(self) -> None:
        """A pair is a plain value."""
        self.start(self.all[0], self.den, 2)
        _, pairs = self.result(self.links("c").link_pairs(self.den))
        self.assertEqual(pairs[0], LinkPair("user1", "user4", "unknown"))


class PrivateTests(LinkTestCase):
    """Nodes that hand on no private addresses."""

    config = link_config(LinkConfig(allow_private=False))

    def test_private(self) -> None:
        """Private addresses are told to nobody; who has no other one is relayed."""
        ann, bob = self.client("ann"), self.client("bob", "b")
        cat = self.client("cat", "c", address="10.0.0.9:1")
        den = self.room_of(ann, bob, cat)
        self.assertEqual(str(self.tell(cat, "10.0.0.9:1")), "10.0.0.9:1")
        self.tell(bob, "10.0.0.2:5", "203.0.113.5:5")
        self.start(ann, den)
        told = {user.user_id: [str(each) for each in user.addresses] for user in self.synced(ann).users}
        self.assertEqual(told, {"ann": ["198.51.100.1:4000"], "bob": ["198.51.100.2:4000", "203.0.113.5:5"], "cat": []})


class HiddenTests(LinkTestCase):
    """Nodes whose application keeps the commands to itself."""

    def test_not_exposed(self) -> None:
        """Without `expose_commands` there are none."""
        self.assertEqual(len(self.links().command_table()), 5)
        self.links()._is_exposed = False
        self.assertEqual(self.links().command_table(), {})
