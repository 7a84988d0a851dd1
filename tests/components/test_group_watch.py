"""Tests of `meshrelay.components.group_watch`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.config.schema import Config, GroupConfig
from meshrelay.testing.memory_groups import GroupCluster
from meshrelay.testing.node import MemoryClient, make_node
from meshrelay.wire.commands import Command
from meshrelay.wire.history_commands import (
    PRESENCE_OFF,
    PRESENCE_ON,
    AskPresence,
    PresenceChange,
    decode_presence,
    decode_presence_push,
    encode_ask_presence,
)

THERE, AWAY, GONE = PresenceChange.THERE, PresenceChange.AWAY, PresenceChange.GONE


def watch(client: MemoryClient, group_id: str, flags: int = PRESENCE_ON) -> dict[str, bool]:
    """GROUP_PRESENCE; returns who is there and whether away."""
    payload = encode_ask_presence(AskPresence(group_id, flags, 1000, ""))
    return dict(decode_presence(client.request(Command.GROUP_PRESENCE, payload).payload).members)


def notices(client: MemoryClient) -> list[tuple[int, list[tuple[int, str]]]]:
    """Notices that came since the last call: count, changes."""
    frames = [frame for frame in client.pushes() if frame.cmd == Command.GROUP_PRESENCE]
    pushes = [decode_presence_push(frame.payload) for frame in frames]
    return [(push.members, sorted(push.changes)) for push in pushes]


class WatchTests(SynchronousTestCase):
    """Ann watches the lobby of one node, which names at most five."""

    def setUp(self) -> None:
        """She is alone in it."""
        self.node = make_node(Config(group=GroupConfig(presence_max_members=5)))
        self.ann = self.node.sign_in("ann")
        self.lobby = self.ann.create_group(allow_empty=True)
        self.assertEqual(watch(self.ann, self.lobby), {"ann": False})

    def test_changes(self) -> None:
        """Who comes, is lost, is back and goes is told, without a word of theirs."""
        bob = self.node.sign_in("bob")
        bob.join(self.lobby)
        self.assertEqual(notices(self.ann), [(2, [(THERE, "bob")])])
        bob.lose()
        self.assertEqual(notices(self.ann), [(2, [(AWAY, "bob")])])
        self.assertEqual(watch(self.ann, self.lobby, 0), {"ann": False, "bob": True})
        bob = self.node.sign_in("bob", resume=bob.sid)
        self.node.settle()
        self.assertEqual(notices(self.ann), [(2, [(THERE, "bob")])])
        bob.leave(self.lobby)
        self.assertEqual(notices(self.ann), [(1, [(GONE, "bob")])])

    def test_one_push_a_turn(self) -> None:
        """All that changed in a turn is one push, and what changed back is none."""
        people = [self.node.sign_in(f"user-{number}") for number in range(3)]
        wire_id = self.lobby.encode()
        for person in people:
            person.send(Command.GROUP_JOIN, wire_id)
        people[0].send(Command.GROUP_LEAVE, wire_id)
        self.node.settle()
        self.assertEqual(notices(self.ann), [(3, [(THERE, "user-1"), (THERE, "user-2")])])

    def test_off(self) -> None:
        """Who wants no more, or has left, is told nothing more; who never asked is never told."""
        bob = self.node.sign_in("bob")
        bob.join(self.lobby)
        notices(self.ann)
        watch(self.ann, self.lobby, PRESENCE_OFF)
        bob.leave(self.lobby)
        self.assertEqual((self.ann.pushes(), bob.pushes()), ([], []))
        watch(self.ann, self.lobby)
        self.ann.leave(self.lobby)
        bob.join(self.lobby)
        self.assertEqual(self.ann.pushes(), [])

    def test_too_many(self) -> None:
        """Over the limit only the count is told, once a second at most; under it names again."""
        people = [self.node.sign_in(f"user-{number}") for number in range(8)]
        for person in people[:4]:
            person.join(self.lobby)
        notices(self.ann)
        people[4].join(self.lobby)
        self.assertEqual(notices(self.ann), [(6, [])])
        self.assertEqual(watch(self.ann, self.lobby, 0), {})
        for person in people[5:]:
            person.join(self.lobby)
        self.assertEqual(notices(self.ann), [])
        self.node.advance(1.5)
        self.assertEqual(notices(self.ann), [(9, [])])
        for person in people[:4]:
            person.leave(self.lobby)
        self.node.advance(1.5)
        self.assertEqual(notices(self.ann), [(5, [])])
        self.assertEqual(len(watch(self.ann, self.lobby, 0)), 5)
        people[4].leave(self.lobby)
        self.assertEqual(notices(self.ann), [(4, [(GONE, "user-4")])])

    def test_split(self) -> None:
        """More changes than one push may hold come in several."""
        node = make_node(Config())
        ann = node.sign_in("ann")
        lobby = ann.create_group()
        watch(ann, lobby)
        for number in range(600):
            node.sign_in(f"{number:03}".ljust(128, "x")).send(Command.GROUP_JOIN, lobby.encode())
        node.settle()
        pushes = notices(ann)
        self.assertGreater(len(pushes), 1)
        self.assertEqual(sum(len(changes) for _, changes in pushes), 600)


class ClusterWatchTests(SynchronousTestCase):
    """Members on three nodes."""

    def setUp(self) -> None:
        """One on each; ann watches from the first."""
        self.cluster = GroupCluster(["a", "b", "c"])
        self.ann = self.cluster["a"].sign_in("ann")
        self.lobby = self.ann.create_group()
        self.bob, self.cid = self.cluster["b"].sign_in("bob"), self.cluster["c"].sign_in("cid")
        for client in (self.bob, self.cid):
            self.cluster.join(client, self.lobby)
        self.cluster.run(0.2)
        self.assertEqual(watch(self.ann, self.lobby), {"ann": False, "bob": False, "cid": False})

    def told(self) -> list[tuple[int, str]]:
        """All changes that came."""
        return [change for _, changes in notices(self.ann) for change in changes]

    def test_elsewhere(self) -> None:
        """Members of other nodes are told about as those of this one."""
        self.bob.link.lose()
        self.cluster.run(0.3)
        self.assertEqual(self.told(), [(AWAY, "bob")])
        self.cid.send(Command.GROUP_LEAVE, self.lobby.encode())
        self.cluster.run(0.3)
        self.assertEqual(self.told(), [(GONE, "cid")])

    def test_dead_node(self) -> None:
        """The members of a node that dies are gone within 30 seconds, for who watches and for who asks."""
        self.cluster.kill("c")
        self.cluster.run(29.0)
        self.assertEqual(self.told(), [(GONE, "cid")])
        self.assertEqual(watch(self.ann, self.lobby, 0), {"ann": False, "bob": False})

    def test_move(self) -> None:
        """Who resumes on another node was away, and is there again; it was never gone."""
        self.bob.link.lose()
        self.cluster.run(0.3)
        again = self.cluster["c"].connect()
        from meshrelay.wire.commands import CoreCommand
        from meshrelay.wire.hello import Hello, encode_hello

        again.send(CoreCommand.HELLO, encode_hello(Hello(protocol=1, user="bob", resume=self.bob.sid)), 0, 1)
        self.cluster.run(10.0)
        self.assertEqual(self.told(), [(AWAY, "bob"), (THERE, "bob")])
