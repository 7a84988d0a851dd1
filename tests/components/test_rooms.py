"""Rooms as clients and applications see them, on one node and on three."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from meshrelay.config.schema import RoomConfig
from meshrelay.errors import MessageTooLarge, NotSignedIn, RoomNotFound
from meshrelay.interfaces import IComponent, IMeshRelay, IRooms
from meshrelay.model import RoomMember, Status, User
from meshrelay.testing.memory_groups import GroupCluster
from meshrelay.testing.memory_mesh import Line
from meshrelay.wire.commands import Command, decode_error, encode_gid_message
from meshrelay.wire.room_commands import NewRoom, encode_new_room
from tests.components.room_kit import RESUME_SECONDS, RoomTestCase, Told, room_config, told


class LifeTests(RoomTestCase):
    """A room with members on three nodes."""

    def setUp(self) -> None:
        """Ann's room, with bob and cat."""
        super().setUp()
        [self.ann], [self.bob], [self.cat] = (
            self.sign_in(name, node_id=node_id) for name, node_id in (("ann", "a"), ("bob", "b"), ("cat", "c"))
        )
        self.den = self.create(self.ann)
        self.join(self.bob, self.den)
        self.join(self.cat, self.den)
        self.all = (self.ann, self.bob, self.cat)
        self.quiet(*self.all)

    def test_contracts(self) -> None:
        """Rooms are what the application and the node take them for."""
        verifyObject(IRooms, self.rooms())
        verifyObject(IComponent, self.rooms())
        self.assertIs(self.cluster["a"].relay.rooms, self.rooms())

    def test_join(self) -> None:
        """Who joins is told the owner, and the others who joined; also when nothing was said."""
        [dan] = self.sign_in("dan", node_id="b")
        self.assertEqual(self.join(dan, self.den, b"hello"), "ann")
        [eve] = self.sign_in("eve", node_id="c")
        self.join(eve, self.den)
        joined = [Told("joined", "dan", b"hello"), Told("joined", "eve")]
        for client in self.all:
            self.assertEqual(self.heard(client), joined)
        self.assertEqual(self.heard(dan), joined[1:])
        self.assertEqual(self.heard(eve), [])

    def test_members(self) -> None:
        """All members see the same list, in join order."""
        for client in self.all:
            self.assertEqual(self.members(client, self.den), ("ann", ["ann", "bob", "cat"]))

    def test_broadcast(self) -> None:
        """What one says the others get, on whatever node; the sender gets none of its own."""
        for client in self.all:
            self.say(client, self.den, b"from " + client.sid[:4].encode())
        ann, bob, cat = (
            Told("said", name, b"from " + client.sid[:4].encode())
            for name, client in zip(("ann", "bob", "cat"), self.all, strict=True)
        )
        self.assertCountEqual(self.heard(self.ann), [bob, cat])
        self.assertCountEqual(self.heard(self.bob), [ann, cat])
        self.assertCountEqual(self.heard(self.cat), [ann, bob])

    def test_pipelined(self) -> None:
        """Hundreds of broadcasts at once are all answered, each once, and arrive in order."""
        messages = [b"%d" % number for number in range(300)]
        ids = [self.bob.ask(Command.ROOM_BROADCAST, encode_gid_message(self.den, each)) for each in messages]
        self.cluster.run(0.3)
        for request_id in ids:
            answers = [frame for frame in self.bob.link.received if frame.request_id == request_id]
            self.assertEqual([(frame.status, frame.payload) for frame in answers], [(Status.OK, b"")])
        expected = [Told("said", "bob", each) for each in messages]
        self.assertEqual(told(self.ann), expected)
        self.assertEqual(told(self.cat), expected)

    def test_leave(self) -> None:
        """Who leaves gets all that was said before and nothing after; the others are told."""
        self.say(self.ann, self.den, b"before")
        self.leave(self.bob, self.den, b"bye")
        self.say(self.ann, self.den, b"after")
        self.assertEqual(self.heard(self.bob), [Told("said", "ann", b"before")])
        self.assertEqual(
            self.heard(self.cat),
            [Told("said", "ann", b"before"), Told("left", "bob", b"bye"), Told("said", "ann", b"after")],
        )
        self.assertEqual(self.code(self.bob, Command.ROOM_BROADCAST, self.den, b"x"), 24)
        self.assertEqual(self.code(self.bob, Command.ROOM_LEAVE, self.den), 24)
        self.assertEqual(self.code(self.bob, Command.ROOM_MEMBERS, self.den), 24)

    def test_owner(self) -> None:
        """When the owner goes, everybody is told who is next in join order."""
        self.leave(self.ann, self.den)
        expected = [Told("left", "ann"), Told("owner", "bob")]
        self.assertEqual(self.heard(self.bob), expected)
        self.assertEqual(self.heard(self.cat), expected)
        self.assertEqual(self.heard(self.ann), [])
        self.assertEqual(self.join(self.ann, self.den), "bob")
        self.assertEqual(self.members(self.cat, self.den), ("bob", ["bob", "cat", "ann"]))

    def test_last_leaves(self) -> None:
        """A room that may not be empty is gone with its last member, for every node."""
        for client in self.all:
            self.leave(client, self.den)
        for client in self.all:
            self.assertEqual(self.code(client, Command.ROOM_JOIN, self.den), 25)
            self.assertEqual(self.code(client, Command.ROOM_BROADCAST, self.den), 25)

    def test_unknown(self) -> None:
        """An ID that no node made, or that is none at all, is no room."""
        for room_id in ("x" * 52, "?" * 52, "a" * 51 + "b", self.den[:-3] + "aaa"):
            for cmd in (Command.ROOM_JOIN, Command.ROOM_LEAVE, Command.ROOM_BROADCAST, Command.ROOM_MEMBERS):
                self.assertEqual((room_id, self.code(self.bob, cmd, room_id)), (room_id, 25))

    def test_twice(self) -> None:
        """Nobody is in a room twice, and joining again changes nothing."""
        for client in self.all:
            self.assertEqual(self.code(client, Command.ROOM_JOIN, self.den, b"again"), 20)
        self.assertEqual(self.heard(self.ann), [])
        self.assertEqual(self.members(self.ann, self.den), ("ann", ["ann", "bob", "cat"]))

    def test_goodbye(self) -> None:
        """Who says GOODBYE is lost to the others; the message is the application's, here none."""
        self.bob.send(4, ver=0)
        self.assertEqual(self.heard(self.ann), [Told("lost", "bob")])
        self.assertEqual(self.heard(self.cat), [Told("lost", "bob")])

    def test_new_sign_in(self) -> None:
        """A newer sign-in of the user is not in the rooms of the older one, and may join."""
        [bob] = self.sign_in("bob", node_id="c")
        self.cluster.run(0.5)
        self.assertEqual(told(self.ann), [Told("lost", "bob")])
        self.assertEqual(self.join(bob, self.den), "ann")
        self.assertEqual(self.heard(self.ann), [Told("joined", "bob")])
        self.say(self.ann, self.den, b"hi")
        self.assertEqual(self.heard(bob), [Told("said", "ann", b"hi")])

    def test_break(self) -> None:
        """A connection that breaks and is resumed in time stays a member in silence, and nothing is missing."""
        self.bob.lose()
        self.say(self.ann, self.den, b"meanwhile")
        self.quiet(self.ann, self.cat)
        bob = self.cluster["b"].sign_in("bob", resume=self.bob.sid)
        self.say(self.cat, self.den, b"later")
        self.assertEqual(self.heard(bob), [Told("said", "ann", b"meanwhile"), Told("said", "cat", b"later")])
        self.assertEqual(self.heard(self.ann), [Told("said", "cat", b"later")])

    def test_away_too_long(self) -> None:
        """Who does not resume in time is lost, and an owner's place passes on."""
        self.ann.lose()
        self.cluster.run(RESUME_SECONDS - 1)
        self.assertEqual(told(self.bob), [])
        self.cluster.run(2)
        self.assertEqual(told(self.bob), [Told("lost", "ann"), Told("owner", "bob")])

    def test_unreliable(self) -> None:
        """What may be lost is not kept for who is away; what must arrive is."""
        self.bob.lose()
        self.ann.send(Command.ROOM_BROADCAST, encode_gid_message(self.den, b"loose"), reliable=False)
        self.say(self.ann, self.den, b"firm")
        self.cluster.run(0.2)
        bob = self.cluster["b"].sign_in("bob", resume=self.bob.sid)
        self.assertEqual(self.heard(bob), [Told("said", "ann", b"firm")])

    def test_statistics(self) -> None:
        """The metrics page counts rooms at their home and members at their nodes."""
        home, other = self.rooms("a").statistics(), self.rooms("b").statistics()
        self.assertEqual((home["rooms"], home["room_members"], home["room_seats"]), (1, 3, 1))
        self.assertEqual((other["rooms"], other["room_members"], other["room_seats"]), (0, 0, 1))
        self.assertGreater(home["room_casts"], 0)
        self.assertEqual(home.keys(), other.keys())


class OrderTests(RoomTestCase):
    """One order for all."""

    line = Line(0.001, 0.03)

    def test_same_order(self) -> None:
        """Members of three nodes see all that all of them do in one and the same order."""
        random = Random(7)
        clients = [self.cluster[node_id].sign_in(f"{node_id}{number}") for node_id in "abc" for number in range(2)]
        watchers = [self.cluster[node_id].sign_in(f"watch-{node_id}") for node_id in "abc"]
        den = self.create(watchers[0])
        for watcher in watchers[1:]:
            self.join(watcher, den)
        self.quiet(*watchers)
        for step in range(150):
            client = random.choice(clients)
            kind = random.randrange(6)
            if kind == 0:
                client.send(Command.ROOM_JOIN, encode_gid_message(den, b"%d" % step))
            elif kind == 1:
                client.send(Command.ROOM_LEAVE, encode_gid_message(den, b"%d" % step))
            else:
                self.say(client, den, b"%d" % step)
            if not random.randrange(3):
                self.cluster.run(0.01)
        self.cluster.run(0.5)
        seen = [told(watcher) for watcher in watchers]
        self.assertGreater(len(seen[0]), 40)
        self.assertEqual(seen[1], seen[0])
        self.assertEqual(seen[2], seen[0])

    def test_new_member(self) -> None:
        """A new member sees exactly what comes after its own join."""
        [ann], [bob], [cat] = (
            self.sign_in(name, node_id=node_id) for name, node_id in (("ann", "a"), ("bob", "b"), ("cat", "b"))
        )
        den = self.create(ann)
        self.join(bob, den)
        self.quiet(bob)
        for number in range(40):
            self.say(ann, den, b"%d" % number)
            if number == 20:
                cat.send(Command.ROOM_JOIN, encode_gid_message(den, b"here"))
            self.cluster.run(0.002, 0.001)
        whole = self.heard(bob)
        mark = whole.index(Told("joined", "cat", b"here"))
        self.assertEqual(self.heard(cat), whole[mark + 1 :])

    def test_interval(self) -> None:
        """A room with an interval sends what came within it together, here and elsewhere."""
        [ann], [bob], [cat] = (
            self.sign_in(name, node_id=node_id) for name, node_id in (("ann", "a"), ("bob", "b"), ("cat", "a"))
        )
        den = self.create(ann, interval_ms=400)
        self.join(bob, den)
        self.join(cat, den)
        self.cluster.run(0.5)
        self.quiet(ann, bob, cat)
        self.say(ann, den, b"1")
        self.cluster.run(0.2)
        self.say(ann, den, b"2")
        self.cluster.run(0.1)
        self.assertEqual((told(bob), told(cat)), ([], []))
        self.cluster.run(0.3)
        both = [Told("said", "ann", b"1"), Told("said", "ann", b"2")]
        self.assertEqual((told(bob), told(cat)), (both, both))


class RaceTests(RoomTestCase):
    """Who comes first."""

    def test_last_place(self) -> None:
        """Of many who want the last places of a room at the same moment exactly as many get in as there are."""
        for seed in range(50):
            random = Random(seed)
            self.cluster = GroupCluster("abc", self.config, seed=seed, line=Line(0.001, 0.03))
            owner = self.cluster["a"].sign_in("owner")
            den = self.create(owner, max_members=3)
            asked = []
            for number in range(6):
                client = self.cluster[random.choice("abc")].sign_in(f"user-{number}")
                asked.append((client, client.ask(Command.ROOM_JOIN, encode_gid_message(den, b""))))
                self.cluster.run(random.choice((0.001, 0.02)), 0.001)
            self.cluster.run(0.2)
            answers = [client.answer_to(request_id) for client, request_id in asked]
            codes = sorted(0 if each.status == Status.OK else decode_error(each.payload)[0] for each in answers if each)
            self.assertEqual((seed, codes), (seed, [0, 0, 23, 23, 23, 23]))
            self.assertEqual(len(self.members(owner, den).members), 3)

    def test_place_is_free_again(self) -> None:
        """A place that somebody gave up can be had at once."""
        [ann], [bob], [cat] = (
            self.sign_in(name, node_id=node_id) for name, node_id in (("ann", "a"), ("bob", "b"), ("cat", "c"))
        )
        den = self.create(ann, max_members=2)
        self.join(bob, den)
        self.assertEqual(self.code(cat, Command.ROOM_JOIN, den), 23)
        self.leave(bob, den)
        self.assertEqual(self.join(cat, den), "ann")


class LossTests(RoomTestCase):
    """Nodes and links that fail."""

    def setUp(self) -> None:
        """Ann's room on node a, with bob on b and cat on c."""
        super().setUp()
        [self.ann], [self.bob], [self.cat] = (
            self.sign_in(name, node_id=node_id) for name, node_id in (("ann", "a"), ("bob", "b"), ("cat", "c"))
        )
        self.den = self.create(self.ann)
        self.join(self.bob, self.den)
        self.join(self.cat, self.den)
        self.quiet(self.ann, self.bob, self.cat)

    def test_node_dies(self) -> None:
        """The members of a node that died are lost when they had time to come back."""
        self.cluster.kill("b")
        self.cluster.run(3)
        self.assertEqual(told(self.ann), [])
        self.cluster.run(RESUME_SECONDS + 2)
        self.assertEqual(told(self.ann), [Told("lost", "bob")])
        self.assertEqual(told(self.cat), [Told("lost", "bob")])

    def test_home_dies(self) -> None:
        """When the room's node died its members are told that they are out, and there is no such room any more."""
        self.cluster.kill("a")
        self.cluster.run(RESUME_SECONDS + 5)
        self.assertEqual(told(self.bob), [Told("lost", "bob")])
        self.assertEqual(told(self.cat), [Told("lost", "cat")])
        self.cluster.run(30)
        self.assertEqual(self.code(self.bob, Command.ROOM_BROADCAST, self.den), 25)
        self.assertEqual(self.rooms("b").statistics()["room_seats"], 0)
        self.assertEqual(self.rooms("b").statistics()["room_outs"], 1)

    def test_home_is_lost(self) -> None:
        """A room that cannot be reached says so at once, and does not hang."""
        self.cluster.kill("a")
        self.cluster.run(3)
        self.assertEqual(self.code(self.bob, Command.ROOM_LEAVE, self.den), 6)

    def test_cut(self) -> None:
        """A link that is cut for a moment loses nothing, doubles nothing, and makes nobody lost."""
        self.cluster.links.mesh.cut("a", "b")
        self.say(self.ann, self.den, b"1", b"2")
        self.say(self.bob, self.den, b"3", b"4")
        self.cluster.run(1.5)
        self.say(self.ann, self.den, b"5")
        self.cluster.run(3)
        ours = [Told("said", "ann", each) for each in (b"1", b"2", b"5")]
        theirs = [Told("said", "bob", each) for each in (b"3", b"4")]
        self.assertEqual(told(self.bob), ours)
        self.assertEqual(told(self.ann), theirs)
        self.assertCountEqual(told(self.cat), ours + theirs)

    def test_resume_elsewhere(self) -> None:
        """A member whose node died goes on at another one, and nobody was told anything."""
        self.cluster.kill("b")
        self.cluster.run(3)
        bob = self.resume(self.bob, "c")
        self.assertTrue(bob.welcome is not None and bob.welcome.resumed)
        self.cluster.run(RESUME_SECONDS + 3)
        self.say(self.ann, self.den, b"hi")
        self.say(bob, self.den, b"back")
        self.assertEqual(self.heard(bob), [Told("said", "ann", b"hi")])
        self.assertEqual(self.heard(self.ann), [Told("said", "bob", b"back")])
        self.assertEqual(self.members(bob, self.den), ("ann", ["ann", "bob", "cat"]))

    def test_move(self) -> None:
        """A member that resumes at another node stays one, in its place; the client knows of the gap."""
        for node_id in ("c", "a", "b"):
            self.bob = self.resume(self.bob, node_id)
            welcome = self.bob.welcome
            assert welcome is not None
            self.assertEqual((welcome.resumed, welcome.recovered), (True, False))
            self.say(self.ann, self.den, node_id.encode())
            self.assertEqual(self.heard(self.bob), [Told("said", "ann", node_id.encode())])
            self.assertEqual(self.room(self.den).members[1].node_id, node_id)
        self.cluster.run(RESUME_SECONDS + 2)
        self.assertEqual([each for each in told(self.ann) if each.what != "said"], [])

    def test_owner_moves(self) -> None:
        """The owner stays the owner when it goes on at another node, and the room where it is."""
        self.ann = self.resume(self.ann, "b")
        self.assertEqual(self.members(self.bob, self.den), ("ann", ["ann", "bob", "cat"]))
        self.say(self.ann, self.den, b"moved")
        self.assertEqual(self.heard(self.cat), [Told("said", "ann", b"moved")])

    def test_room_is_gone_after_a_move(self) -> None:
        """Who comes to another node, and whose room is gone by then, is told that it is out."""
        self.bob.lose()
        closing = Deferred.fromCoroutine(self.rooms("a").close_room(self.den))
        self.successResultOf(closing)
        # Node b does not know it yet when the session leaves.
        bob = self.resume(self.bob, "c")
        self.cluster.run(1)
        self.assertEqual(told(bob), [Told("lost", "bob")])


class ApplicationTests(RoomTestCase):
    """What applications do with rooms of any node."""

    def set_up(self, relay: IMeshRelay) -> None:
        """A message for who is lost."""
        self.lost_message: Any = b"bye"
        relay.rooms.on_discard_message(lambda room_id, user_id, sid: self.lost_message)

    def setUp(self) -> None:
        """A room of the application of node a, with ann on a and bob on b."""
        super().setUp()
        [self.ann], [self.bob] = self.sign_in("ann"), self.sign_in("bob", node_id="b")
        self.den = self.rooms("a").create_room(None, 5, True, False, 60, 0)
        self.enter("ann", "a")
        self.enter("bob", "b")
        self.quiet(self.ann, self.bob)

    def enter(self, user_id: str, node_id: str, message: bytes = b"") -> str:
        """Let a user join."""
        joining = Deferred.fromCoroutine(
            self.rooms(node_id).join_room(self.den, self.user(user_id, node_id), 3, 7, message)
        )
        self.cluster.run(0.2)
        return self.successResultOf(joining)

    def result(self, waiting: object) -> object:
        """What a coroutine returns."""
        done: Deferred[object] = Deferred.fromCoroutine(waiting)  # type: ignore[arg-type]
        self.cluster.run(0.2)
        return self.successResultOf(done)

    def test_join_and_leave(self) -> None:
        """The application's own numbers and bytes are pushed as they are; nothing when there is nothing to say."""
        [cat] = self.sign_in("cat", node_id="c")
        self.assertEqual(self.enter("cat", "c", b"raw"), "ann")
        self.assertEqual(self.heard(self.bob), [Told("app", "3.7", b"raw")])
        self.result(self.rooms("c").leave_room(self.den, self.user("cat", "c"), 3, 8, b""))
        self.assertEqual(self.heard(self.bob), [])
        self.assertEqual(self.result(self.rooms("b").members(self.den)), ["ann", "bob"])
        self.assertEqual(self.heard(cat), [])

    def test_broadcast_and_announce(self) -> None:
        """From any node: a broadcast reaches all but its sender, an announcement all."""
        for node_id in "abc":
            self.rooms(node_id).announce(self.den, 3, 1, node_id.encode(), True)
            self.cluster.run(0.1)
        self.rooms("b").broadcast(self.den, self.user("bob", "b"), 3, 2, b"bob's", False)
        announced = [Told("app", "3.1", each) for each in (b"a", b"b", b"c")]
        self.assertEqual(self.heard(self.ann), [*announced, Told("app", "3.2", b"bob's")])
        self.assertEqual(self.heard(self.bob), announced)

    def test_send_to(self) -> None:
        """Some members get what is for them alone, in order with what all get; who is no member is passed over."""
        self.sign_in("cat", node_id="c")
        for node_id in "abc":
            rooms = self.rooms(node_id)
            rooms.announce(self.den, 3, 1, b"1", True)
            rooms.send_to(self.den, ["bob", "bob", "nobody"], 3, 2, b"2", True)
            rooms.send_to(self.den, ["cat"], 3, 2, b"never", True)
            rooms.announce(self.den, 3, 1, b"3", True)
            self.assertEqual([each.message for each in self.heard(self.ann)], [b"1", b"3"])
            self.assertEqual([each.message for each in self.heard(self.bob)], [b"1", b"2", b"3"])

    def test_snapshot(self) -> None:
        """Every node sees the same room, with where its members are and what is known of them."""
        self.rooms("b").set_member_facts(self.den, self.user("bob", "b"), b"12 ms")
        self.cluster.run(0.1)
        seen = [self.room(self.den, node_id) for node_id in "abc"]
        self.assertEqual(seen[1:], seen[:1] * 2)
        self.assertEqual((seen[0].owner, seen[0].max_members, seen[0].allow_empty), ("ann", 5, True))
        self.assertEqual(
            seen[0].members,
            (RoomMember("ann", self.ann.sid, "a"), RoomMember("bob", self.bob.sid, "b", b"12 ms")),
        )
        self.assertEqual(self.result(self.rooms("c").owner(self.den)), "ann")

    def test_facts_of_others(self) -> None:
        """A node says nothing of users who are not its own, and no more than fits."""
        self.rooms("a").set_member_facts(self.den, self.user("bob", "b"), b"lie")
        self.assertEqual(self.room(self.den).members[1].facts, b"")
        self.rooms("b").set_member_facts(self.den, self.user("bob", "b"), bytes(512))
        self.assertRaises(
            MessageTooLarge, self.rooms("b").set_member_facts, self.den, self.user("bob", "b"), bytes(513)
        )

    def test_close(self) -> None:
        """A room that is closed from any node is over: each member is told that it is out."""
        self.result(self.rooms("c").close_room(self.den))
        self.assertEqual(self.heard(self.ann), [Told("lost", "ann")])
        self.assertEqual(self.heard(self.bob), [Told("lost", "bob")])
        for node_id in "abc":
            self.assertEqual(self.rooms(node_id).statistics()["room_seats"], 0)
            failing = Deferred.fromCoroutine(self.rooms(node_id).get_room(self.den))
            self.cluster.run(0.2)
            self.failureResultOf(failing, RoomNotFound)

    def test_room_ids(self) -> None:
        """A user's rooms are known at the user's node, newest last."""
        other = self.create(self.bob)
        self.assertEqual(self.rooms("b").room_ids(self.user("bob", "b")), [self.den, other])
        self.assertEqual(self.rooms("a").room_ids(self.user("bob", "b")), [])

    def test_lost_message(self) -> None:
        """The application's message goes with the loss; one that is none goes as empty, and what fails is logged."""
        for message, expected in ((b"bye", b"bye"), (None, b""), ("text", b""), (bytes(4096), b"")):
            self.lost_message = message
            [cat] = self.sign_in("cat", node_id="c")
            self.join(cat, self.den)
            self.quiet(self.ann)
            cat.send(4, ver=0)
            self.assertEqual(self.heard(self.ann), [Told("lost", "cat", expected)])

    def test_slow_message(self) -> None:
        """A message that takes its time holds up nothing, and is not told of a user who is back."""
        slow: Deferred[bytes] = Deferred()
        self.lost_message = slow
        self.bob.send(4, ver=0)
        self.cluster.run(0.2)
        self.rooms("a").announce(self.den, 3, 1, b"on", True)
        self.assertEqual(self.heard(self.ann), [Told("app", "3.1", b"on")])
        slow.callback(b"so long")
        self.assertEqual(self.heard(self.ann), [Told("lost", "bob", b"so long")])

    def test_strangers(self) -> None:
        """A user of another node joins by its own node only."""
        joining = Deferred.fromCoroutine(self.rooms("a").join_room(self.den, self.user("bob", "b"), 3, 7, b""))
        self.failureResultOf(joining, NotSignedIn)
        self.rooms("a").broadcast(self.den, User("eve", "0" * 32), 3, 1, b"spoof", True)
        self.assertEqual(self.heard(self.ann), [])

    def test_limits(self) -> None:
        """What no client takes never leaves the application, and ver 0 is the node's own."""
        rooms = self.rooms("a")
        self.assertRaises(MessageTooLarge, rooms.announce, self.den, 3, 1, bytes(4097), True)
        self.assertRaises(ValueError, rooms.announce, self.den, 0, 1, b"", True)
        names = [f"{number:0128d}" for number in range(1100)]
        self.assertRaises(MessageTooLarge, rooms.send_to, self.den, names, 3, 1, b"", True)


class StopTests(RoomTestCase):
    """Nodes that stop."""

    def test_stop(self) -> None:
        """Members elsewhere are told at once that the rooms of a node that stops are over."""
        [ann], [bob] = self.sign_in("ann"), self.sign_in("bob", node_id="b")
        den = self.create(ann)
        self.join(bob, den)
        self.quiet(bob)
        self.rooms("a").stop()
        self.assertEqual(self.heard(bob), [Told("lost", "bob")])


class BoundTests(RoomTestCase):
    """What clients can make grow."""

    config = room_config(RoomConfig(max_members=3, max_rooms=2, max_rooms_per_user=2))

    def test_rooms_of_a_node(self) -> None:
        """A node has as many rooms as it may, and one more when one is gone."""
        [ann], [bob] = self.sign_in("ann"), self.sign_in("bob")
        den = self.create(ann)
        self.create(ann)
        wanted = encode_new_room(NewRoom(0, False, True, 60, 0))
        self.assertEqual(bob.refusal(Command.ROOM_CREATE, wanted)[:2], (Status.BAD, 14))
        self.leave(ann, den)
        self.create(bob)

    def test_rooms_of_a_user(self) -> None:
        """A user is in as many rooms as one may be, of all nodes together."""
        [ann] = self.sign_in("ann")
        dens = [self.create(self.sign_in(f"u{node_id}", node_id=node_id)[0]) for node_id in "abc"]
        self.join(ann, dens[0])
        self.join(ann, dens[1])
        self.assertEqual(self.code(ann, Command.ROOM_JOIN, dens[2]), 14)
        self.leave(ann, dens[0])
        self.join(ann, dens[2])

    def test_members(self) -> None:
        """A room that says nothing has the members that the node allows; one that wants more is refused."""
        users = [self.cluster[node_id].sign_in(f"u{node_id}{number}") for node_id in "ab" for number in range(2)]
        den = self.create(users[0])
        for user in users[1:3]:
            self.join(user, den)
        self.assertEqual(self.code(users[3], Command.ROOM_JOIN, den), 23)
        self.assertEqual(self.room(den).max_members, 3)


class AloneTests(RoomTestCase):
    """A node without others."""

    node_ids = ("a",)

    def test_all(self) -> None:
        """All of it works on one node, and unknown rooms are refused at once."""
        ann, bob = self.sign_in("ann", "bob")
        den = self.create(ann, max_members=2)
        self.assertEqual(self.join(bob, den, b"hi"), "ann")
        self.say(bob, den, b"1", b"2")
        self.assertEqual(
            self.heard(ann), [Told("joined", "bob", b"hi"), Told("said", "bob", b"1"), Told("said", "bob", b"2")]
        )
        self.leave(ann, den)
        self.assertEqual(self.heard(bob), [Told("left", "ann"), Told("owner", "bob")])
        self.assertEqual(bob.refusal(Command.ROOM_JOIN, encode_gid_message("q" * 52, b""))[:2], (Status.BAD, 25))

    def test_lifetime(self) -> None:
        """An empty room that may be so lives until its time is over, then only while somebody is in."""
        [ann] = self.sign_in("ann")
        empty = self.create(ann, allow_empty=True, join=False, ttl_seconds=20)
        used = self.create(ann, allow_empty=True, ttl_seconds=20)
        self.cluster.run(15, 0.5)
        self.assertEqual(self.join(ann, empty), "ann")
        self.leave(ann, empty)
        self.cluster.run(10, 0.5)
        self.assertEqual(self.code(ann, Command.ROOM_JOIN, empty), 25)
        self.assertEqual(self.members(ann, used), ("ann", ["ann"]))
        self.leave(ann, used)
        self.assertEqual(self.code(ann, Command.ROOM_JOIN, used), 25)
