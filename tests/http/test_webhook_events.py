"""What webhooks tell."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from meshrelay.config.history import GroupHistory
from meshrelay.config.schema import Config, GroupConfig, StaticGroup
from meshrelay.http.webhook_events import HookEvent, HookEvents, Noted
from meshrelay.interfaces import ISessionObserver
from meshrelay.testing.builders import make_group_id
from meshrelay.testing.memory_groups import GroupCluster
from meshrelay.testing.node import MemoryNode
from meshrelay.wire.commands import CORE_VER, Command, CoreCommand
from meshrelay.wire.frame import encode_push
from meshrelay.wire.hello import Hello, decode_welcome, encode_hello

LOBBY = make_group_id("lobby")
OTHER = make_group_id("other")


class HookEventsTests(SynchronousTestCase):
    """Two nodes; each notes what happens on it."""

    def setUp(self) -> None:
        """Begin to note."""
        groups = tuple(StaticGroup(group_id=group_id) for group_id in (LOBBY, OTHER))
        self.cluster = GroupCluster(["a", "b"], Config(group=GroupConfig(send_interval_ms=0, static_groups=groups)))
        self.events: dict[str, list[HookEvent]] = {"a": [], "b": []}
        for node_id, events in self.events.items():
            self.note(self.cluster[node_id], events, ("lobby*",))
        self.ann = self.cluster["a"].sign_in("ann")
        self.bob = self.cluster["b"].sign_in("bob", "udp")

    def note(self, node: MemoryNode, events: list[HookEvent], groups: tuple[str, ...]) -> None:
        """Note all events of a node."""
        noted = (events.append,)
        observer = HookEvents(Noted(noted, noted, noted, noted, groups), node.clock.seconds)
        verifyObject(ISessionObserver, observer)
        observer.watch(node.groups.table)
        node.registry.add_observer(observer)

    def told(self, node_id: str) -> list[dict[str, object]]:
        """Documents of the events since the last call, without their time."""
        self.cluster.run(0.1)
        events, self.events[node_id][:] = list(self.events[node_id]), []
        return [{name: value for name, value in event.document().items() if name != "at"} for event in events]

    def test_sessions(self) -> None:
        """A sign-in and the end of a session are told where they were; a lost connection is neither."""
        self.assertEqual(self.told("a"), [{"event": "connect", "user": "ann", "transport": "tcp"}])
        self.assertEqual(self.told("b"), [{"event": "connect", "user": "bob", "transport": "udp"}])
        self.ann.lose()
        self.assertEqual(self.told("a"), [])
        self.cluster["a"].sign_in("ann", resume=self.ann.sid)
        self.assertEqual(self.told("a"), [])
        self.cluster["a"].registry.kick("ann", "")
        self.assertEqual(self.told("a"), [{"event": "disconnect", "user": "ann", "reason": "kicked"}])

    def test_gone(self) -> None:
        """Who stays away has left."""
        self.told("a")
        self.ann.lose()
        self.cluster.run(31.0, 0.5)
        self.assertEqual(self.told("a"), [{"event": "disconnect", "user": "ann", "reason": "left"}])

    def test_joins(self) -> None:
        """A join is told once in the cluster, and only of groups that were asked for."""
        self.told("a")
        self.told("b")
        for client in (self.ann, self.bob):
            for group_id in (LOBBY, OTHER):
                self.cluster.join(client, group_id)
        self.assertEqual(self.told("a"), [{"event": "join", "user": "ann", "group": LOBBY}])
        self.assertEqual(self.told("b"), [{"event": "join", "user": "bob", "group": LOBBY}])

    def test_messages(self) -> None:
        """What is said is told once in the cluster: as text, or in base64 where it is none."""
        for client in (self.ann, self.bob):
            self.cluster.join(client, LOBBY, b"hello")
            self.cluster.join(client, OTHER)
        self.assertEqual([event["event"] for event in self.told("a")], ["connect", "join"])
        self.told("b")
        self.ann.broadcast(LOBBY, "h\u00e9".encode())
        self.ann.broadcast(OTHER, b"no")
        self.bob.broadcast(LOBBY, b"\xff\x00")
        first = {"event": "message", "user": "ann", "group": LOBBY, "ver": 1, "cmd": int(Command.GROUP_BROADCAST)}
        self.assertEqual(self.told("a"), [{**first, "text": "h\u00e9"}])
        self.assertEqual(self.told("b"), [{**first, "user": "bob", "body": "/wA="}])
        self.cluster["a"].groups.announce(LOBBY, 7, 300, b"raw", True)
        self.assertEqual(self.told("a"), [{**first, "user": "", "ver": 7, "cmd": 300, "text": "raw"}])
        self.assertEqual(self.told("b"), [])

    def test_move(self) -> None:
        """A session that goes on at another node neither ends, nor begins, nor joins its groups anew."""
        self.cluster.join(self.ann, LOBBY)
        self.told("a")
        self.told("b")
        moved = self.cluster["b"].connect()
        hello = Hello(protocol=1, user="ann", resume=self.ann.sid)
        request_id = moved.ask(CoreCommand.HELLO, encode_hello(hello), CORE_VER)
        self.cluster.run(3.0)
        answer = moved.answer_to(request_id)
        assert answer is not None
        self.assertTrue(decode_welcome(answer.payload).resumed)
        group = self.cluster["b"].groups.table.find(LOBBY)
        assert group is not None
        self.assertIn("ann", group.members)
        self.cluster.run(6.0, 0.1)
        self.assertEqual((self.told("a"), self.told("b")), ([], []))

    def test_history(self) -> None:
        """Groups that keep their messages are told of as well, each message once."""
        config = Config(group=GroupConfig(send_interval_ms=0, history=(GroupHistory(pattern="*"),)))
        self.cluster = GroupCluster(["a", "b"], config)
        for node_id, events in self.events.items():
            events.clear()
            self.note(self.cluster[node_id], events, ("*",))
        ann, bob = self.cluster["a"].sign_in("ann"), self.cluster["b"].sign_in("bob")
        group_id = ann.create_group()
        self.cluster.join(bob, group_id)
        self.told("a")
        self.told("b")
        for client in (ann, bob):
            client.broadcast(group_id, b"x")
        for node_id, user in (("a", "ann"), ("b", "bob")):
            self.assertEqual([(event["user"], event["text"]) for event in self.told(node_id)], [(user, "x")])

    def test_run(self) -> None:
        """Messages that come in one read are as many events."""
        self.cluster.join(self.ann, LOBBY)
        self.told("a")
        group = self.cluster["a"].groups.table.find(LOBBY)
        assert group is not None
        session = self.cluster["a"].registry.find_user("ann")
        pushes = b"".join(encode_push(1, Command.GROUP_BROADCAST, LOBBY.encode() + b"\x03annx") for _ in range(3))
        group.publish(pushes, session, True, 3)
        self.assertEqual([event["text"] for event in self.told("a")], ["x"] * 3)

    def test_new_groups(self) -> None:
        """Groups that are made later are watched as well, if their ID fits."""
        node = self.cluster["a"]
        events: list[HookEvent] = []
        self.note(node, events, ("*",))
        group_id = self.ann.create_group()
        self.ann.broadcast(group_id, b"x")
        self.cluster.run(0.1)
        self.assertEqual([(event.kind, event.group) for event in events], [("join", group_id), ("message", group_id)])

    def test_size(self) -> None:
        """An event counts its message, and something for itself."""
        self.assertGreaterEqual(HookEvent("message", 0.0, "ann", "g", "", b"x" * 1000).size_bytes, 1000)
        self.assertGreater(HookEvent("connect", 0.0, "ann").size_bytes, 100)
