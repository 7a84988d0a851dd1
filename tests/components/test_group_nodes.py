"""Tests of groups that span nodes, on whole nodes in memory."""

from __future__ import annotations

from random import Random

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.components import group_callbacks, group_nodes
from meshrelay.config.schema import Config, GroupConfig, StaticGroup
from meshrelay.errors import ErrorCode
from meshrelay.interfaces import IMeshRelay
from meshrelay.model import Status
from meshrelay.testing.memory_groups import GroupCluster
from meshrelay.testing.memory_mesh import Line
from meshrelay.testing.node import MemoryClient
from meshrelay.wire.commands import Command, decode_error, decode_pushed_message, encode_gid_message
from meshrelay.wire.group_node import decode_not_held, encode_members
from meshrelay.wire.node_kinds import NodeKind
from tests.components.group_stranger import Stranger, group_of, message
from tests.components.tree_kit import TreeKit

STATIC_ID = "news" + "-" * 48


def texts(client: MemoryClient) -> list[bytes]:
    """The messages that came since the last call; that a member was lost comes without one."""
    return [pushed.message for pushed in client.messages() if pushed.message]


def with_group(**keys: object) -> Config:
    """Return a configuration of one section."""
    return Config(group=GroupConfig(**{"send_interval_ms": 0, **keys}))  # type: ignore[arg-type]


class SpanTests(SynchronousTestCase):
    """Members on different nodes."""

    def setUp(self) -> None:
        """Three nodes, ann on a, bob on b, cid on c, in one group of a."""
        self.cluster = GroupCluster(["a", "b", "c"])
        self.ann = self.cluster["a"].sign_in("ann")
        self.bob = self.cluster["b"].sign_in("bob", "websocket")
        self.cid = self.cluster["c"].sign_in("cid")
        self.lobby = self.ann.create_group()

    def join_all(self) -> None:
        """Let bob and cid join."""
        for client in (self.bob, self.cid):
            self.assertEqual(self.cluster.join(client, self.lobby).status, Status.OK)
        self.cluster.run(0.1)
        for client in (self.ann, self.bob, self.cid):
            client.messages()

    def test_lost_without_an_application(self) -> None:
        """Members of all nodes are told that one was lost, unless they are too many together."""
        self.join_all()
        self.bob.lose()
        self.cluster.run(0.1)
        for client in (self.ann, self.cid):
            [push] = client.pushes()
            self.assertEqual((push.cmd, push.payload), (Command.GROUP_LOST, self.lobby.encode() + b"\x03bob"))
        self.patch(group_callbacks, "MAX_MEMBERS_TOLD", 2)
        self.cid.lose()
        self.cluster.run(0.1)
        self.assertEqual(self.ann.pushes(), [])

    def test_join_message(self) -> None:
        """The others hear the message of who joins, wherever they are."""
        self.cluster.join(self.bob, self.lobby, b"bob is here")
        self.cluster.join(self.cid, self.lobby, b"cid is here")
        self.cluster.run(0.1)
        self.assertEqual(texts(self.ann), [b"bob is here", b"cid is here"])
        self.assertEqual(texts(self.bob), [b"cid is here"])
        self.assertEqual(texts(self.cid), [])

    def test_broadcast(self) -> None:
        """A broadcast reaches each other member once, on all nodes, in order."""
        self.join_all()
        for number in range(20):
            self.ann.broadcast(self.lobby, b"ann %d" % number)
            self.bob.broadcast(self.lobby, b"bob %d" % number)
        self.cluster.run(0.1)
        for client, others in ((self.ann, ["bob"]), (self.bob, ["ann"]), (self.cid, ["ann", "bob"])):
            came = texts(client)
            self.assertEqual(len(came), 20 * len(others))
            for other in others:
                mine = [text for text in came if text.startswith(other.encode())]
                self.assertEqual(mine, [b"%s %d" % (other.encode(), number) for number in range(20)])

    def test_leave(self) -> None:
        """The message of who leaves reaches the others, and who left gets nothing more."""
        self.join_all()
        self.bob.leave(self.lobby, b"bye")
        self.cluster.run(0.1)
        self.ann.broadcast(self.lobby, b"without bob")
        self.cluster.run(0.1)
        self.assertEqual(texts(self.cid), [b"bye", b"without bob"])
        self.assertEqual(texts(self.ann), [b"bye"])
        self.assertEqual(texts(self.bob), [])
        self.assertEqual(self.cluster["b"].groups.member_nodes(self.lobby), [])
        nodes = self.cluster["a"].groups.member_nodes(self.lobby)
        self.assertEqual(sorted(nodes), ["a.example:7000", "c.example:7000"])

    def test_snapshot(self) -> None:
        """The application sees all members and nodes of the group, on each of its nodes."""
        self.join_all()
        for node_id in "abc":
            group = self.cluster[node_id].groups.get_group(self.lobby)
            assert group is not None
            self.assertEqual(sorted(member.user_id for member in group.members), ["ann", "bob", "cid"])
            places = {member.user_id: member.mesh_endpoint for member in group.members}
            self.assertEqual(places["bob"], "b.example:7000")
            self.assertEqual(len(group.remote_nodes), 2)
            self.assertEqual(len(self.cluster[node_id].groups.member_nodes(self.lobby)), 3)

    def test_home_without_members(self) -> None:
        """The home node keeps a group as long as anybody holds it: others still find it there."""
        self.join_all()
        self.ann.leave(self.lobby)
        self.bob.leave(self.lobby)
        self.cluster.run(0.1)
        self.assertEqual(self.cluster.join(self.bob, self.lobby, b"again").status, Status.OK)
        self.cluster.run(0.1)
        self.assertEqual(texts(self.cid), [b"again"])

    def test_discarded(self) -> None:
        """Without its last member, wherever that was, the group is gone everywhere."""
        self.join_all()
        for client in (self.ann, self.bob, self.cid):
            client.leave(self.lobby)
            self.cluster.run(0.1)
        for node_id in "abc":
            self.assertIsNone(self.cluster[node_id].groups.get_group(self.lobby))
        answer = self.cluster.join(self.bob, self.lobby)
        self.assertEqual(decode_error(answer.payload)[0], ErrorCode.GROUP_NOT_FOUND)

    def test_unknown(self) -> None:
        """A group that nobody has is not found."""
        answer = self.cluster.join(self.bob, "x" * 52)
        self.assertEqual((answer.status, decode_error(answer.payload)[0]), (Status.BAD, ErrorCode.GROUP_NOT_FOUND))

    def test_home_died(self) -> None:
        """When the home of a group is dead, another node that holds it lets members in."""
        self.cluster.join(self.bob, self.lobby)
        self.cluster.kill("a")
        self.cluster.run(5)
        self.assertEqual(self.cluster.join(self.cid, self.lobby, b"hi").status, Status.OK)
        self.cluster.run(0.1)
        self.assertEqual(texts(self.bob), [b"hi"])

    def test_home_came_back(self) -> None:
        """A home node that was started anew finds its group where it still is."""
        self.cluster.join(self.bob, self.lobby)
        self.cluster.kill("a")
        self.cluster.run(3)
        self.cluster.add("a")
        self.cluster.links.linked()
        dan = self.cluster["a"].sign_in("dan")
        self.assertEqual(self.cluster.join(dan, self.lobby, b"hi").status, Status.OK)
        self.assertEqual(self.cluster.join(self.cid, self.lobby).status, Status.OK)
        self.cluster.run(0.1)
        dan.broadcast(self.lobby, b"one")
        self.cid.broadcast(self.lobby, b"two")
        self.cluster.run(0.1)
        self.assertEqual(sorted(texts(self.bob)), [b"hi", b"one", b"two"])

    def test_unreachable(self) -> None:
        """A group whose only node cannot be reached is not lost: the client is told to try again."""
        self.cluster.links.mesh.nodes["a"].is_reachable = False
        self.cluster.links.mesh.cut()
        answer = self.cluster.join(self.bob, self.lobby)
        self.assertEqual((answer.status, decode_error(answer.payload)[0]), (Status.ERROR, ErrorCode.TIMED_OUT))

    def test_both_at_once(self) -> None:
        """Two nodes that enter a group at the same time learn of each other."""
        asked = [
            (client, client.ask(Command.GROUP_JOIN, encode_gid_message(self.lobby, b"")))
            for client in (self.bob, self.cid)
        ]
        self.cluster.run(1)
        for client, request_id in asked:
            answer = client.answer_to(request_id)
            assert answer is not None
            self.assertEqual(answer.status, Status.OK)
        self.bob.broadcast(self.lobby, b"from bob")
        self.cid.broadcast(self.lobby, b"from cid")
        self.cluster.run(0.1)
        self.assertEqual(texts(self.cid), [b"from bob"])
        self.assertEqual(texts(self.bob), [b"from cid"])

    def test_two_of_one_node(self) -> None:
        """Two users of one node who join at the same time both get in."""
        dan = self.cluster["b"].sign_in("dan")
        asked = [
            (client, client.ask(Command.GROUP_JOIN, encode_gid_message(self.lobby, b""))) for client in (self.bob, dan)
        ]
        self.cluster.run(1)
        for client, request_id in asked:
            answer = client.answer_to(request_id)
            assert answer is not None
            self.assertEqual(answer.status, Status.OK)
        self.ann.broadcast(self.lobby, b"both")
        self.cluster.run(0.1)
        self.assertEqual((texts(self.bob), texts(dan)), ([b"both"], [b"both"]))

    def test_announce_elsewhere(self) -> None:
        """The application publishes in a group from a node that does not hold it."""
        self.cluster.join(self.bob, self.lobby)
        self.cluster["c"].groups.announce(self.lobby, 2, 7, b"news", True)
        self.cluster.run(0.1)
        self.assertEqual([frame.payload for frame in self.ann.pushes()], [b"news"])
        self.assertEqual([frame.payload for frame in self.bob.pushes()], [b"news"])

    def test_random(self) -> None:
        """A random join finds a group of another node before it makes a new one."""
        answer = self.cluster.request(self.bob, Command.GROUP_JOIN_RANDOM, b"\x00\x00\x00\x3c\x00\x00\x00hello")
        self.assertEqual(answer.payload, b"\x00" + self.lobby.encode())
        self.cluster.run(0.1)
        self.assertEqual(texts(self.ann), [b"hello"])

    def test_api_join(self) -> None:
        """The application lets a user join a group of another node."""
        user = self.cluster["b"].registry.find_user("bob")
        assert user is not None
        joined = Deferred.fromCoroutine(self.cluster["b"].groups.join_group(self.lobby, user.user, 2, 1, b"hi"))
        self.cluster.run(0.5)
        self.assertIsNone(self.successResultOf(joined))
        self.assertEqual([frame.payload for frame in self.ann.pushes()], [b"hi"])


class LostNodeTests(SynchronousTestCase):
    """What members are told when a node dies."""

    def setUp(self) -> None:
        """A group on four nodes, whose application has messages for lost and returned members."""
        self.cluster = GroupCluster(["a", "b", "c", "d"], set_up=self.set_up)
        self.clients = {name: self.cluster[name].sign_in("user-" + name) for name in "abcd"}
        self.lobby = self.clients["a"].create_group()
        for name in "bcd":
            self.cluster.join(self.clients[name], self.lobby)
        self.cluster.run(0.1)

    def set_up(self, relay: IMeshRelay) -> None:
        """Say who speaks."""
        node_id = relay.node_id
        relay.groups.on_discard_message(lambda group, user, sid: f"lost {user} says {node_id}".encode())
        relay.groups.on_rejoin_message(lambda group, user, sid: f"back {user} says {node_id}".encode())

    def told(self, name: str) -> list[tuple[int, bytes]]:
        """What came to a client."""
        return [(frame.cmd, decode_pushed_message(frame.payload).message) for frame in self.clients[name].pushes()]

    def test_died(self) -> None:
        """Each survivor is told once, by one node, within five seconds."""
        self.cluster.kill("b")
        self.cluster.run(5)
        for name in "acd":
            self.assertEqual(self.told(name), [(Command.GROUP_LOST, b"lost user-b says a")])
        self.assertEqual(len(self.cluster["a"].groups.member_nodes(self.lobby)), 3)

    def test_first_died(self) -> None:
        """When the node that would speak is the one that died, the next one speaks."""
        self.cluster.kill("a")
        self.cluster.run(5)
        for name in "bcd":
            self.assertEqual(self.told(name), [(Command.GROUP_LOST, b"lost user-a says b")])

    def test_cut_off(self) -> None:
        """A node that was cut off for a while is back with its members, and what it and the others said is not lost."""
        node = self.cluster.links.mesh.nodes["d"]
        node.is_reachable = False
        for other in "abc":
            self.cluster.links.mesh.nodes[other].links.find("d")
        self.cluster.links.mesh.cut("d", "a")
        self.cluster.links.mesh.cut("d", "b")
        self.cluster.links.mesh.cut("d", "c")
        self.clients["a"].broadcast(self.lobby, b"while away", reliable=True)
        self.clients["d"].broadcast(self.lobby, b"from away", reliable=True)
        self.cluster.run(10)
        self.assertIn((Command.GROUP_LOST, b"lost user-d says a"), self.told("b"))
        node.is_reachable = True
        self.cluster.run(10)
        came = self.told("b")
        self.assertIn((Command.GROUP_BROADCAST, b"from away"), came)
        self.assertIn((Command.GROUP_BACK, b"back user-d says a"), came)
        self.assertIn((Command.GROUP_BROADCAST, b"while away"), self.told("d"))

    def test_gone(self) -> None:
        """A node that stays away holds nothing any more, and its members are none."""
        self.cluster.kill("d")
        self.cluster.run(40, 0.05)
        group = self.cluster["a"].groups.get_group(self.lobby)
        assert group is not None
        self.assertEqual(sorted(member.user_id for member in group.members), ["user-a", "user-b", "user-c"])

    def test_away_then_died(self) -> None:
        """Who was said to be lost is not said to be lost again when the node dies as well."""
        self.clients["b"].lose()
        self.cluster.run(0.5)
        self.told("a")
        self.cluster.kill("b")
        self.cluster.run(5)
        self.assertEqual(self.told("a"), [])

    def test_recall(self) -> None:
        """The groups of a user whose node died are known where they are held, to who has the session's secret."""
        sid = self.clients["b"].sid
        self.assertEqual(self.cluster["a"].groups.recall("user-b", sid), [])
        self.cluster.kill("b")
        self.cluster.run(0.1)
        self.assertEqual(self.cluster["a"].groups.recall("user-b", sid), [self.lobby])
        self.assertEqual(self.cluster["a"].groups.recall("user-b", "0" * 32), [])

    def test_recall_after_restart(self) -> None:
        """They are known as well when the node was started anew before it was missed, and are forgotten in the end."""
        sid = self.clients["b"].sid
        self.cluster.kill("b")
        self.cluster.add("b")
        self.cluster.links.linked()
        self.cluster.run(1)
        self.assertEqual(self.cluster["a"].groups.recall("user-b", sid), [self.lobby])
        self.assertEqual(self.told("c"), [(Command.GROUP_LOST, b"lost user-b says a")])
        self.cluster.run(31, 0.05)
        self.assertEqual(self.cluster["a"].groups.recall("user-b", sid), [])


class HealTests(SynchronousTestCase):
    """Parts of a cluster that did not see each other for long."""

    def test_split(self) -> None:
        """Both sides go on alone, and are one group again when they meet."""
        cluster = GroupCluster(["a", "b"])
        ann, bob = cluster["a"].sign_in("ann"), cluster["b"].sign_in("bob")
        lobby = ann.create_group()
        cluster.join(bob, lobby)
        for node in cluster.links.mesh.nodes.values():
            node.is_reachable = False
        cluster.links.mesh.cut()
        cluster.run(60, 0.05)
        self.assertEqual(len(cluster["a"].groups.member_nodes(lobby)), 1)
        for node in cluster.links.mesh.nodes.values():
            node.is_reachable = True
        cluster.links.redial()
        cluster.links.linked()
        cluster.run(1)
        ann.messages(), bob.messages()
        ann.broadcast(lobby, b"one")
        bob.broadcast(lobby, b"two")
        cluster.run(0.1)
        self.assertEqual((texts(ann), texts(bob)), ([b"two"], [b"one"]))


class StaticGroupTests(SynchronousTestCase):
    """Static groups are on every node."""

    def test_everywhere(self) -> None:
        """Members of a static group reach each other without anybody having made it."""
        config = with_group(static_groups=(StaticGroup(group_id=STATIC_ID, interval_ms=0),))
        cluster = GroupCluster(["a", "b", "c"], config)
        clients = [cluster[name].sign_in(name) for name in "abc"]
        for client in clients:
            self.assertEqual(client.join(STATIC_ID).status, Status.OK)
        cluster.run(0.1)
        clients[1].broadcast(STATIC_ID, b"hello")
        cluster.run(0.1)
        self.assertEqual([texts(client) for client in clients], [[b"hello"], [], [b"hello"]])

    def test_late_node(self) -> None:
        """A node that comes later is in the static groups as well."""
        config = with_group(static_groups=(StaticGroup(group_id=STATIC_ID, interval_ms=0),))
        cluster = GroupCluster(["a"], config)
        ann = cluster["a"].sign_in("ann")
        ann.join(STATIC_ID)
        cluster.add("b")
        cluster.links.linked()
        cluster.run(0.1)
        bob = cluster["b"].sign_in("bob")
        bob.join(STATIC_ID, b"late")
        cluster.run(0.1)
        self.assertEqual(texts(ann), [b"late"])


class LifetimeTests(SynchronousTestCase):
    """Groups that may be empty, and come and go on more than one node."""

    def setUp(self) -> None:
        """ann on a with a group that may be empty for a minute, and bob on b."""
        self.cluster = GroupCluster(["a", "b", "c"])
        self.ann, self.bob = self.cluster["a"].sign_in("ann"), self.cluster["b"].sign_in("bob")
        self.lobby = self.ann.create_group(allow_empty=True, ttl_seconds=60)

    def is_held(self, *names: str) -> list[bool]:
        """Whether nodes hold the group."""
        return [self.cluster[name].table.find(self.lobby) is not None for name in names]

    def test_home_waits_for_others(self) -> None:
        """The home keeps a group whose lifetime is over as long as another node holds it, and no longer."""
        self.cluster.join(self.bob, self.lobby)
        self.ann.leave(self.lobby)
        self.cluster.run(62, 0.1)
        self.assertEqual(self.is_held("a", "b"), [True, True])
        self.bob.leave(self.lobby)
        self.cluster.run(0.1)
        self.assertEqual(self.is_held("a", "b"), [False, False])

    def test_empty_on_its_home(self) -> None:
        """An empty group lives on on its home alone, until its lifetime is over."""
        self.cluster.join(self.bob, self.lobby)
        self.ann.leave(self.lobby)
        self.bob.leave(self.lobby)
        self.cluster.run(0.1)
        self.assertEqual(self.is_held("a", "b"), [True, False])
        self.cluster.run(55, 0.1)
        self.assertEqual(self.is_held("a"), [True])
        self.cluster.run(6, 0.1)
        self.assertEqual(self.is_held("a"), [False])

    def test_home_started_anew(self) -> None:
        """A home that was started anew counts the lifetime from when the group was made."""
        self.cluster.join(self.bob, self.lobby)
        self.cluster.run(30, 0.1)
        self.cluster.kill("a")
        self.cluster.add("a")
        self.cluster.links.linked()
        self.ann = self.cluster["a"].sign_in("ann")
        self.assertEqual(self.cluster.join(self.ann, self.lobby).status, Status.OK)
        self.ann.leave(self.lobby)
        self.bob.leave(self.lobby)
        self.cluster.run(25, 0.1)
        self.assertEqual(self.is_held("a", "b"), [True, False])
        self.cluster.run(8, 0.1)
        self.assertEqual(self.is_held("a"), [False])

    def test_leave_and_come_back(self) -> None:
        """A member that leaves and joins again and again is heard by all each time, and hears them."""
        cid = self.cluster["c"].sign_in("cid")
        self.cluster.join(cid, self.lobby)
        for number in range(5):
            self.assertEqual(self.cluster.join(self.bob, self.lobby, b"in %d" % number).status, Status.OK)
            cid.broadcast(self.lobby, b"%d" % number)
            self.cluster.run(0.05)
            self.assertEqual(texts(self.bob), [b"%d" % number])
            self.bob.leave(self.lobby, b"out %d" % number)
        self.cluster.run(0.1)
        words = [b"%s %d" % (word, number) for number in range(5) for word in (b"in", b"out")]
        self.assertEqual(texts(cid), words)
        self.assertEqual([text for text in texts(self.ann) if text[:1] in b"io"], words)
        self.assertEqual(self.cluster["a"].groups.statistics()["group_remote_members"], 1)

    def test_join_while_leaving(self) -> None:
        """Who joins while the last member of that node is leaving gets in."""
        self.cluster.join(self.bob, self.lobby)
        dan = self.cluster["b"].sign_in("dan")
        self.bob.send(Command.GROUP_LEAVE, encode_gid_message(self.lobby, b""))
        self.assertEqual(self.cluster.join(dan, self.lobby).status, Status.OK)
        self.ann.broadcast(self.lobby, b"hello")
        self.cluster.run(0.1)
        self.assertEqual((texts(dan), texts(self.bob)), ([b"hello"], []))


class BoundTests(SynchronousTestCase):
    """What other nodes can make this one keep."""

    def setUp(self) -> None:
        """Node a with a group of ann, and a node that says what the test wants."""
        self.cluster = GroupCluster(["a"])
        self.stranger = Stranger(self.cluster, "x")
        self.cluster.links.linked()
        self.ann = self.cluster["a"].sign_in("ann")
        self.lobby = self.ann.create_group()

    def say_members(self, group_id: str, *user_ids: str) -> None:
        """Let the stranger say who is in a group, without a word of holding it."""
        members = [(user_id, "s1", False) for user_id in user_ids]
        for payload in encode_members(group_id.encode(), 1, members):
            self.stranger.send("a", NodeKind.GROUP_MEMBERS, payload)

    def members(self) -> list[str]:
        """Who is in the group."""
        group = self.cluster["a"].groups.get_group(self.lobby)
        assert group is not None
        return [member.user_id for member in group.members]

    def test_member_lists(self) -> None:
        """Members without a word that the group is held are kept for a few groups only."""
        self.patch(group_nodes, "MAX_MEMBER_LISTS", 2)
        for number in range(2):
            self.say_members(group_of("x", number), "bob")
        self.say_members(self.lobby, "bob")
        self.stranger.say_hold("a", self.lobby)
        self.assertEqual(self.members(), ["ann"])
        # One that is used makes room.
        self.stranger.say_hold("a", group_of("x", 0))
        self.stranger.say_hold("a", self.lobby, members=(("bob", "s1", False),))
        self.assertEqual(self.members(), ["ann", "bob"])

    def test_members_of_the_dead(self) -> None:
        """They are forgotten with their node."""
        self.say_members(self.lobby, "bob")
        self.stranger.kill()
        again = Stranger(self.cluster, "x")
        self.cluster.links.linked()
        again.say_hold("a", self.lobby)
        self.assertEqual(self.members(), ["ann"])

    def test_former_nodes(self) -> None:
        """Only so many nodes that were never met are remembered to be asked; the newest ones count."""
        self.patch(group_nodes, "MAX_FORMER_NODES", 2)
        self.stranger.say_hold("a", self.lobby, others=("n1", "n2", "n3"))
        met = [Stranger(self.cluster, name) for name in ("n1", "n2", "n3")]
        self.cluster.links.linked()
        self.cluster.run(0.1)
        self.assertEqual([len(each.holds_heard()) for each in met], [0, 1, 1])

    def test_former_groups(self) -> None:
        """Only so many groups of one of them are."""
        self.patch(group_nodes, "MAX_FORMER_GROUPS", 1)
        other = self.ann.create_group()
        for group_id in (self.lobby, other):
            self.stranger.say_hold("a", group_id, others=("n1",))
        late = Stranger(self.cluster, "n1")
        self.cluster.links.linked()
        self.cluster.run(0.1)
        self.assertEqual([hold.group_id for hold in late.holds_heard()], [self.lobby])

    def test_not_held(self) -> None:
        """A node that asks for a group that is not here is told so; one that tells of it is told to forget us."""
        self.stranger.say_hold("a", group_of("a", 7), asks=True)
        (data,) = self.stranger.heard(NodeKind.GROUP_NOT_HELD)
        self.assertEqual(decode_not_held(data), (group_of("a", 7), self.stranger.hold))
        self.stranger.say_hold("a", group_of("a", 7))
        self.assertEqual(len(self.stranger.heard(NodeKind.GROUP_EXIT)), 1)

    def test_asked_and_died(self) -> None:
        """A node that died before it answered is asked again when it is back."""
        for _ in range(2):
            self.stranger.cast("a", self.lobby, 1, message(b"early"))
            self.assertEqual(len(self.stranger.holds_heard()), 1)
            self.stranger.kill()
            self.stranger = Stranger(self.cluster, "x")
            self.cluster.links.linked()


class ForwardTests(SynchronousTestCase):
    """Publishing from a node that does not hold the group."""

    def setUp(self) -> None:
        """ann on a with a group; node b has nothing."""
        self.cluster = GroupCluster(["a", "b", "c"])
        self.ann = self.cluster["a"].sign_in("ann")
        self.lobby = self.ann.create_group()
        self.groups = self.cluster["b"].groups

    def came(self) -> list[bytes]:
        """What came to ann since the last call."""
        self.cluster.run(0.1)
        return [frame.payload for frame in self.ann.pushes()]

    def test_broadcast(self) -> None:
        """A user who is not a member broadcasts by way of a holder, reliably or not."""
        self.cluster["b"].sign_in("bob")
        bob = self.cluster["b"].registry.find_user("bob")
        assert bob is not None
        for reliable in (True, False):
            self.groups.broadcast(self.lobby, bob.user, 2, 1, b"hello", reliable)
            self.assertEqual(self.came(), [b"hello"])

    def test_one_of_the_holders(self) -> None:
        """It comes once, however many nodes hold the group, and by one that can be reached."""
        self.cluster.join(self.cluster["c"].sign_in("cid"), self.lobby)
        self.cluster.links.mesh.part("a", "b")
        self.groups.announce(self.lobby, 2, 1, b"hello", True)
        self.assertEqual(self.came(), [b"hello"])

    def test_nobody(self) -> None:
        """In a group that nobody holds, or whose ID is none, nothing happens."""
        for group_id in ("x" * 52, "no group", "\u00e9" * 52):
            self.groups.announce(group_id, 2, 1, b"hello", True)
        self.assertEqual(self.came(), [])

    def test_no_directory(self) -> None:
        """Nor when nobody can be asked who holds it."""
        self.cluster.directory.stop()
        self.groups.announce(self.lobby, 2, 1, b"hello", True)
        self.assertEqual(self.came(), [])


class MergingTests(SynchronousTestCase):
    """send_interval_ms on replicas."""

    def test_replica_merges(self) -> None:
        """A node that holds a replica merges for its own interval, the home does not."""
        cluster = GroupCluster(["a", "b"], with_group(send_interval_ms=200))
        ann, bob = cluster["a"].sign_in("ann"), cluster["b"].sign_in("bob")
        dan = cluster["a"].sign_in("dan")
        lobby = ann.create_group()
        dan.join(lobby)
        cluster.join(bob, lobby)
        ann.broadcast(lobby, b"one")
        cluster.run(0.1)
        self.assertEqual((texts(dan), texts(bob)), ([b"one"], []))
        ann.broadcast(lobby, b"two")
        cluster.run(0.2)
        self.assertEqual(texts(bob), [b"one", b"two"])


class TreeTests(TreeKit):
    """Many nodes: a broadcast goes down a tree and reaches each once, whatever happens to the links."""

    def test_tree(self) -> None:
        """Twelve nodes: once, in order for each sender; nobody writes to more than relay_limit links at once."""
        cluster = self.run_tree(12, 1, 0.0, False)
        counts = [cluster[name].groups.statistics() for name in cluster.node_ids]
        casts = sum(each["group_casts"] for each in counts)
        passed = sum(each["group_casts_passed_on"] for each in counts)
        self.assertGreater(passed, 0)
        # Each cast reaches the other nodes once: relay_limit by the origin itself, the rest passed on.
        self.assertLessEqual(passed, casts * (12 - 1))

    def test_lossy(self) -> None:
        """The same on lossy lines of which some are cut meanwhile."""
        for seed in range(3):
            self.run_tree(9, seed, 0.05, True)

    def test_relay_dies(self) -> None:
        """What a node did not pass on before it died comes to the others all the same."""
        for seed in range(3):
            names = list("abcdefgh")
            cluster = GroupCluster(names, seed=seed, line=Line(0.001, 0.03, 0.1))
            clients = {name: cluster[name].sign_in(name) for name in names}
            lobby = clients["a"].create_group()
            for name in names[1:]:
                cluster.join(clients[name], lobby)
            cluster.run(1)
            random = Random(seed)
            victim = random.choice(names[1:])
            for number in range(40):
                clients["a"].broadcast(lobby, b"%d" % number, reliable=True)
                cluster.run(0.01)
                if number == 20:
                    cluster.kill(victim)
            cluster.run(8, 0.02)
            for name in names[1:]:
                if name != victim:
                    self.assertEqual(texts(clients[name]), [b"%d" % number for number in range(40)], (seed, name))
