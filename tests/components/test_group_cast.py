"""Casts on their way, seen from the nodes at the other end."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.components import group_cast
from meshrelay.components.group_cast import HEAD_SECONDS
from meshrelay.config.schema import Config, GroupConfig
from meshrelay.testing.memory_groups import GroupCluster
from meshrelay.wire.commands import Command, encode_gid_message
from meshrelay.wire.group_node import (
    EntryType,
    decode_content,
    decode_head,
    decode_repair,
    decode_skip,
    encode_cast,
    encode_repair,
)
from meshrelay.wire.node_kinds import NodeKind
from tests.components.group_stranger import Stranger, group_of, message

NAMES = ("u", "v", "w", "x", "y")


class CastTestCase(SynchronousTestCase):
    """Node a, whose group five strangers hold as well; a cast goes to two of them, who pass it on."""

    def setUp(self) -> None:
        """Nothing was cast yet."""
        self.cluster = GroupCluster(["a"], Config(group=GroupConfig(send_interval_ms=0, relay_limit=2)))
        self.strangers = {name: Stranger(self.cluster, name) for name in NAMES}
        self.cluster.links.linked()
        self.node = self.cluster["a"]
        self.ann = self.node.sign_in("ann")
        self.lobby = self.ann.create_group()

    def enter(self, *names: str) -> int:
        """Let strangers hold the group; return the hold of node a."""
        holds = [self.strangers[name].enter("a", self.lobby) for name in names]
        return holds[-1].hold

    def enter_replica(self, home: str, *others: str) -> None:
        """Let ann be in a group that strangers hold, instead of the one of node a."""
        self.lobby = group_of(home)
        self.ann.ask(Command.GROUP_JOIN, encode_gid_message(self.lobby, b""))
        self.cluster.run(0.03)
        self.strangers[home].let_in("a", others=others)
        for name in others:
            self.strangers[name].let_in("a")
        self.cluster.run(0.03)
        for stranger in self.strangers.values():
            stranger.casts_heard()

    def publish(self, text: bytes) -> None:
        """Let ann broadcast."""
        self.ann.broadcast(self.lobby, text, reliable=True)
        self.cluster.run(0.03)

    def count(self, name: str) -> int:
        """One of the counts of node a."""
        return self.node.groups.statistics()[name]

    def repair(self, name: str, hold: int, first: int, end: int) -> tuple[list[int], int]:
        """Let a stranger ask for casts; return the numbers that came, and where to go on."""
        stranger = self.strangers[name]
        stranger.casts_heard()
        payload = encode_repair(self.lobby.encode(), hold, first, end)
        stranger.send("a", NodeKind.GROUP_REPAIR, payload)
        (skip,) = stranger.heard(NodeKind.GROUP_SKIP)
        return [cast.number for cast in stranger.casts_heard()], decode_skip(skip).next_number


class TreeTests(CastTestCase):
    """Whom a cast is written to."""

    def parts(self) -> dict[str, tuple[str, ...]]:
        """Who got the last cast, and whom they are to pass it on to."""
        heard = {name: stranger.casts_heard() for name, stranger in self.strangers.items()}
        return {name: casts[-1].rest for name, casts in heard.items() if casts}

    def test_few(self) -> None:
        """Up to relay_limit holders get it directly; there is nothing to keep or to say afterwards."""
        self.enter("u", "v")
        self.publish(b"hello")
        self.assertEqual(self.parts(), {"u": (), "v": ()})
        self.cluster.run(3)
        self.assertEqual(self.strangers["u"].heard(NodeKind.GROUP_HEAD), [])
        self.assertEqual((self.count("group_casts"), self.count("group_history_bytes")), (1, 0))

    def test_many(self) -> None:
        """More are reached by way of relay_limit of them."""
        self.enter(*NAMES)
        self.publish(b"hello")
        self.assertEqual(self.parts(), {"u": ("v", "w"), "x": ("y",)})
        self.assertGreater(self.count("group_history_bytes"), 0)

    def test_down(self) -> None:
        """Nobody who cannot be reached is to pass something on; it gets its own when it is linked again."""
        self.enter(*NAMES)
        self.cluster.links.mesh.part("a", "u")
        self.cluster.links.mesh.part("a", "x")
        self.publish(b"hello")
        self.assertEqual(self.parts(), {"v": ("w", "u"), "y": ("x",)})

    def test_all_down(self) -> None:
        """When none can be reached each one waits for its own."""
        self.enter(*NAMES)
        for name in NAMES:
            self.cluster.links.mesh.part("a", name)
        self.publish(b"hello")
        self.assertEqual(self.parts(), {})
        for name in NAMES:
            self.cluster.links.mesh.join("a", name)
        self.cluster.run(5)
        self.assertEqual(self.parts(), dict.fromkeys(NAMES, ()))

    def test_last(self) -> None:
        """The goodbye goes straight to everybody: nobody will be there to repair it."""
        self.enter_replica(*NAMES)
        self.publish(b"hello")
        self.assertEqual(len(self.parts()), 2)
        self.ann.leave(self.lobby)
        self.cluster.run(0.03)
        self.assertEqual(self.parts(), dict.fromkeys(NAMES, ()))

    def test_pass_on(self) -> None:
        """A node passes on what it is given, also where it does not hold the group itself."""
        origin = self.strangers["u"]
        group_id = group_of("a", 7)
        origin.cast("a", group_id, 3, message(b"hello"), rest=("v", "w", "x"))
        self.assertEqual(self.parts(), {"v": ("w",), "x": ()})
        self.assertEqual((self.count("group_casts_passed_on"), self.count("group_casts")), (2, 0))

    def test_pass_on_same(self) -> None:
        """What is passed on is what was given: origin, hold, number and content."""
        self.strangers["u"].cast("a", group_of("a", 7), 3, message(b"hello"), rest=("v",), hold=9)
        (cast,) = self.strangers["v"].casts_heard()
        self.assertEqual(tuple(cast), (group_of("a", 7), 9, 3, "u", (), message(b"hello")))

    def test_pass_on_to_unknown(self) -> None:
        """A node that this one does not know costs nobody behind it what was cast."""
        self.strangers["u"].cast("a", self.lobby, 1, message(b"hello"), rest=("nobody", "v", "w", "x"))
        self.assertEqual(self.parts(), {"v": ("w", "nobody"), "x": ()})


class HeadTests(CastTestCase):
    """What a node says when it was quiet."""

    def heads(self) -> list[int]:
        """The numbers that stranger y was told since the last call."""
        return [decode_head(data).next_number for data in self.strangers["y"].heard(NodeKind.GROUP_HEAD)]

    def test_quiet(self) -> None:
        """A second after the last cast all holders are told which number comes next, once."""
        self.enter(*NAMES)
        for _ in range(3):
            self.publish(b"hello")
            self.cluster.run(0.5)
        self.assertEqual(self.heads(), [])
        self.cluster.run(HEAD_SECONDS * 2)
        self.assertEqual(self.heads(), [4])
        self.cluster.run(5)
        self.assertEqual(self.heads(), [])
        self.publish(b"again")
        self.cluster.run(3)
        self.assertEqual(self.heads(), [5])

    def test_left(self) -> None:
        """Nothing is said in a group that this node has left."""
        self.enter(*NAMES)
        self.publish(b"hello")
        for stranger in self.strangers.values():
            stranger.exit("a", self.lobby)
        self.ann.leave(self.lobby)
        self.cluster.run(3)
        self.assertEqual((self.heads(), self.count("groups")), ([], 0))

    def test_stopped(self) -> None:
        """A node that was stopped says nothing, and nothing of it ticks on."""
        self.enter(*NAMES)
        self.publish(b"hello")
        self.node.groups.stop()
        self.cluster.run(3)
        self.assertEqual(self.heads(), [])


class AnswerTests(CastTestCase):
    """What a node sends again."""

    def test_again(self) -> None:
        """What was asked for comes again, and with it from where on nothing is missing any more."""
        hold = self.enter(*NAMES)
        for number in range(5):
            self.publish(b"%d" % number)
        self.assertEqual(self.repair("w", hold, 2, 4), ([2, 3], 4))
        self.assertEqual(self.count("group_repairs_answered"), 1)

    def test_forgotten(self) -> None:
        """What is not there any more is skipped."""
        hold = self.enter(*NAMES)
        self.publish(b"hello")
        self.cluster.run(45, 0.1)
        self.assertEqual(self.count("group_history_bytes"), 0)
        self.assertEqual(self.repair("w", hold, 1, 2), ([], 2))

    def test_unknown(self) -> None:
        """What was never there is skipped, whatever numbers are asked for."""
        hold = self.enter(*NAMES)
        self.publish(b"hello")
        self.assertEqual(self.repair("w", hold + 1, 1, 2), ([], 2))
        self.assertEqual(self.repair("w", hold, 1, 1 << 63), ([1], 1 << 63))

    def test_after_leaving(self) -> None:
        """What was cast before the group was left can still be asked for."""
        hold = self.enter(*NAMES)
        self.publish(b"hello")
        for stranger in self.strangers.values():
            stranger.exit("a", self.lobby)
        self.ann.leave(self.lobby)
        self.cluster.run(0.1)
        self.assertEqual(self.count("groups"), 0)
        self.assertEqual(self.repair("w", hold, 1, 2), ([1], 2))

    def test_too_much(self) -> None:
        """One answer has only so many bytes; it says where to go on, and has one cast at least."""
        self.patch(group_cast, "MAX_REPAIR_BYTES", 1000)
        hold = self.enter(*NAMES)
        for _ in range(5):
            self.publish(bytes(400))
        self.assertEqual(self.repair("w", hold, 1, 6), ([1, 2], 3))
        self.assertEqual(self.repair("w", hold, 3, 6), ([3, 4], 5))
        self.patch(group_cast, "MAX_REPAIR_BYTES", 10)
        self.assertEqual(self.repair("w", hold, 3, 6), ([3], 4))


class AskTests(CastTestCase):
    """What a node asks for when something is missing."""

    def setUp(self) -> None:
        """Stranger x has cast its second word; the first is missing."""
        super().setUp()
        self.enter("x")
        self.stranger = self.strangers["x"]
        self.missing = encode_cast(self.lobby.encode(), 1, 1, "x", (), message(b"one"))
        self.stranger.cast("a", self.lobby, 2, message(b"two"))

    def asked(self) -> list[tuple[int, int]]:
        """What was asked for since the last call."""
        repairs = map(decode_repair, self.stranger.heard(NodeKind.GROUP_REPAIR))
        return [(repair.first, repair.end) for repair in repairs]

    def test_overtaken(self) -> None:
        """What was only overtaken is not asked for."""
        self.cluster.run(0.15)
        self.stranger.send("a", NodeKind.GROUP_CAST, self.missing)
        self.cluster.run(3)
        self.assertEqual(self.asked(), [])
        self.assertEqual(len(self.ann.pushes()), 2)

    def test_asked(self) -> None:
        """What is missing for a quarter of a second is asked for, and each second again until it comes."""
        self.cluster.run(0.4)
        self.assertEqual(self.asked(), [(1, 2)])
        self.cluster.run(2)
        self.assertEqual(self.asked(), [(1, 2), (1, 2)])
        self.stranger.send("a", NodeKind.GROUP_CAST, self.missing)
        self.cluster.run(3)
        self.assertEqual((self.asked(), self.count("group_repairs_asked")), ([], 3))

    def test_next_gap(self) -> None:
        """The next gap is asked for like the first one."""
        self.cluster.run(0.4)
        self.stranger.send("a", NodeKind.GROUP_CAST, self.missing)
        self.asked()
        self.cluster.run(2)
        self.stranger.cast("a", self.lobby, 5, message(b"five"))
        self.cluster.run(0.4)
        self.assertEqual(self.asked(), [(3, 5)])

    def test_left(self) -> None:
        """Nothing is asked for when the other node has left the group."""
        self.stranger.exit("a", self.lobby)
        self.cluster.run(3)
        self.assertEqual(self.asked(), [])

    def test_left_here(self) -> None:
        """Nor when this one has."""
        self.enter_replica("y")
        self.strangers["y"].cast("a", self.lobby, 2, message(b"two"))
        self.ann.leave(self.lobby)
        self.cluster.run(3)
        self.assertEqual(self.strangers["y"].heard(NodeKind.GROUP_REPAIR), [])


class FarewellTests(CastTestCase):
    """The entries of the goodbye."""

    def test_order(self) -> None:
        """That a member left, its last words and the node's goodbye are one cast."""
        self.enter_replica("x")
        self.ann.leave(self.lobby, b"bye")
        self.cluster.run(0.03)
        (cast,) = self.strangers["x"].casts_heard()
        kinds = [kind for kind, _ in decode_content(cast.content)]
        self.assertEqual(kinds, [EntryType.LEFT, EntryType.UNRELIABLE, EntryType.EXIT])
