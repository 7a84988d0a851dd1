"""Tests of `meshrelay.directory.serving`."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.directory.calls import (
    CALLS,
    CLAIM_USER,
    EPOCH,
    FIND_GROUP,
    FIND_USER,
    JOIN_GROUP,
    LEAVE_GROUP,
    LOOPBACK,
    NODES,
    REFRESH,
    REGISTER_NODE,
    RELEASE_USER,
    WITHDRAW_NODE,
    Arguments,
    Call,
    ClaimUser,
    Epoch,
    FindGroup,
    FindUser,
    JoinGroup,
    LeaveGroup,
    Loopback,
    Nodes,
    Refresh,
    RegisterNode,
    ReleaseUser,
    WithdrawNode,
)
from meshrelay.directory.errors import NodeIdInUse, NodeUnknown, UserTakenOver
from meshrelay.directory.memory import MemoryDirectory
from meshrelay.directory.records import GroupRecord, NodeRecord
from meshrelay.directory.serving import MAX_PAGE_BYTES, DirectoryServer, make_page
from meshrelay.errors import MalformedFrame
from meshrelay.testing.directory_contract import GROUP, make_node_record, make_user_record
from meshrelay.wire.node import MAX_CALL_BYTES

USER = make_user_record(node_id="node-b", sid="b")

#: One good call of each kind, as node-b makes it.
GOOD: tuple[tuple[Call[Any, Any], Arguments], ...] = (
    (REGISTER_NODE, RegisterNode(record=make_node_record("node-b"))),
    (WITHDRAW_NODE, WithdrawNode(node_id="node-b", incarnation="second")),
    (NODES, Nodes()),
    (CLAIM_USER, ClaimUser(record=USER)),
    (RELEASE_USER, ReleaseUser(user_id="ann", sid="a", node_id="node-b")),
    (FIND_USER, FindUser(user_id="ann")),
    (JOIN_GROUP, JoinGroup(group_id=GROUP, node_id="node-b", settings=b"settings")),
    (LEAVE_GROUP, LeaveGroup(group_id=GROUP, node_id="node-b")),
    (FIND_GROUP, FindGroup(group_id=GROUP)),
    (REFRESH, Refresh(node_id="node-b", users=(USER,), groups=((GROUP, b"settings"),))),
    (EPOCH, Epoch()),
    (LOOPBACK, Loopback(token="token")),
)


class Broken(MemoryDirectory):
    """Has a bug."""

    def epoch(self) -> Deferred[str]:
        """Fail as no directory may."""
        return fail(RuntimeError("a bug"))


class DirectoryServerTests(SynchronousTestCase):
    """A directory that other nodes ask."""

    def setUp(self) -> None:
        """A directory in which node-a is."""
        self.directory = MemoryDirectory(Clock(), Random(1))
        self.server = DirectoryServer(self.directory)
        self.successResultOf(self.directory.register_node(make_node_record("node-a")))

    def ask(self, call: Call[Any, Any], arguments: Arguments, node_id: str = "node-b") -> Any:
        """What the caller reads in the answer."""
        answer = self.server.answers()[call.name](node_id, call.encode_arguments(arguments))
        return call.read_answer(self.successResultOf(answer))

    def test_names(self) -> None:
        """All calls are answered, and all of them can be carried by a link."""
        self.assertEqual(set(self.server.answers()), {call.name for call in CALLS})
        self.assertEqual({call for call, _ in GOOD}, set(CALLS))

    def test_in_order(self) -> None:
        """A node that registers, tells and asks gets what it would get from a directory of its own."""
        self.assertFalse(self.ask(REGISTER_NODE, RegisterNode(record=make_node_record("node-b"))))
        self.assertIsNone(self.ask(CLAIM_USER, ClaimUser(record=USER)))
        self.assertEqual(self.ask(FIND_USER, FindUser(user_id="ann")), USER)
        group = GroupRecord(group_id=GROUP, settings=b"s", nodes=("node-b",))
        self.assertEqual(
            self.ask(JOIN_GROUP, JoinGroup(group_id=GROUP, node_id="node-b", settings=b"s")),
            group,
        )
        self.assertEqual(self.successResultOf(self.directory.find_group(GROUP)), group)
        self.assertTrue(self.ask(LEAVE_GROUP, LeaveGroup(group_id=GROUP, node_id="node-b")))
        self.assertTrue(self.ask(RELEASE_USER, ReleaseUser(user_id="ann", sid="b", node_id="node-b")))
        self.assertTrue(self.ask(WITHDRAW_NODE, WithdrawNode(node_id="node-b", incarnation="first")))
        self.assertEqual(self.ask(NODES, Nodes()).records, (make_node_record("node-a"),))
        self.assertEqual(self.ask(EPOCH, Epoch()), self.successResultOf(self.directory.epoch()))
        self.assertEqual(self.ask(LOOPBACK, Loopback(token="token")), "token")

    def test_errors(self) -> None:
        """What the directory refuses is told as the directory says it."""
        error = self.assertRaises(NodeUnknown, self.ask, CLAIM_USER, ClaimUser(record=USER))
        self.assertEqual(error.node_id, "node-b")
        other = RegisterNode(record=make_node_record("node-a", incarnation="second"))
        self.assertRaises(NodeIdInUse, self.ask, REGISTER_NODE, other, "node-a")
        newer = make_user_record(stamp=USER.stamp + 1)
        self.successResultOf(self.directory.claim_user(newer))
        self.ask(REGISTER_NODE, RegisterNode(record=make_node_record("node-b")))
        taken = self.assertRaises(UserTakenOver, self.ask, CLAIM_USER, ClaimUser(record=USER))
        self.assertEqual(taken.current, newer)
        self.assertEqual(self.ask(REFRESH, Refresh(node_id="node-b", users=(USER,))), [newer])

    def test_other_node(self) -> None:
        """A node cannot speak for another one: nothing changes and it is counted."""
        self.successResultOf(self.directory.register_node(make_node_record("node-b")))
        before = self.successResultOf(self.directory.nodes())
        speaking = [(call, arguments) for call, arguments in GOOD if arguments.speaker is not None]
        for call, arguments in speaking:
            self.assertRaises(ValueError, self.ask, call, arguments, "node-c")
        withdraw = WithdrawNode(node_id="node-a", incarnation="first")
        self.assertRaises(ValueError, self.ask, WITHDRAW_NODE, withdraw)
        self.assertEqual(self.server.statistics()["refused"], len(speaking) + 1)
        self.assertEqual(self.successResultOf(self.directory.nodes()), before)
        self.assertIsNone(self.successResultOf(self.directory.find_user("ann")))
        self.assertIsNone(self.successResultOf(self.directory.find_group(GROUP)))

    def test_release_needs_session(self) -> None:
        """Only the node of a session, and only if it knows the session, may sign its user out."""
        self.successResultOf(self.directory.claim_user(make_user_record(sid="a")))
        self.assertFalse(self.ask(RELEASE_USER, ReleaseUser(user_id="ann", sid="b", node_id="node-a"), "node-a"))
        self.assertFalse(self.ask(RELEASE_USER, ReleaseUser(user_id="ann", sid="a", node_id="node-b")))
        self.assertTrue(self.ask(RELEASE_USER, ReleaseUser(user_id="ann", sid="a", node_id="node-a"), "node-a"))

    def test_bug(self) -> None:
        """A bug of the directory is not told as an answer: the link logs it here and says there that it failed."""
        answers = DirectoryServer(Broken(Clock(), Random(1))).answers()
        self.failureResultOf(answers[EPOCH.name]("node-b", EPOCH.encode_arguments(Epoch())), RuntimeError)

    def test_malformed(self) -> None:
        """What cannot be read fails as the fault of the caller and is counted."""
        for answer in self.server.answers().values():
            self.failureResultOf(answer("node-b", b"\xc1"), MalformedFrame)
        self.assertEqual(self.server.statistics()["malformed"], len(CALLS))

    def test_fuzz(self) -> None:
        """Whatever a node sends is answered or refused, and never touches what another node has."""
        self.successResultOf(self.directory.claim_user(make_user_record("bob", sid="a")))
        self.successResultOf(self.directory.join_group(GROUP, "node-a", b"first"))
        before = self.successResultOf(self.directory.epoch())
        random = Random(4)
        answers = self.server.answers()
        for _ in range(200):
            for call, arguments in GOOD:
                payload = self.damage(random, call.encode_arguments(arguments))
                done = answers[call.name]("node-b", payload)
                self.assertTrue(done.called)
                # Another failure than this one stays, and fails the test.
                done.addErrback(lambda failure: failure.trap(MalformedFrame))
        self.assertGreater(self.server.statistics()["malformed"], 500)
        self.assertEqual(self.successResultOf(self.directory.find_user("bob")), make_user_record("bob", sid="a"))
        group = self.successResultOf(self.directory.find_group(GROUP))
        assert group is not None
        self.assertEqual((group.settings, group.nodes[0]), (b"first", "node-a"))
        self.assertIn(make_node_record("node-a"), self.successResultOf(self.directory.nodes()))
        self.assertEqual(self.successResultOf(self.directory.epoch()), before)

    def damage(self, random: Random, payload: bytes) -> bytes:
        """Cut, overwrite or lengthen."""
        changed = bytearray(payload)
        for _ in range(random.randrange(4)):
            changed[random.randrange(len(changed))] = random.randrange(256)
        kept = random.choice((len(changed), len(changed), random.randrange(len(changed) + 1)))
        return bytes(changed[:kept]) + random.randbytes(random.choice((0, 0, 3)))


def large_record(number: int) -> NodeRecord:
    """A node that says as much as it may."""
    return NodeRecord(
        node_id=f"{number:0255}",
        incarnation="i" * 255,
        mesh_endpoint="m" * 255,
        places={f"{place:0255}": "p" * 255 for place in range(32)},
        load=0.5,
        protocol=1,
    )


class MakePageTests(SynchronousTestCase):
    """Nodes in pages."""

    def test_pages(self) -> None:
        """However much the nodes say, each is in one page and each page fits an answer."""
        records = [large_record(number) for number in range(30)]
        found: list[NodeRecord] = []
        is_cut, page_count = True, 0
        while is_cut:
            page = make_page(records, found[-1].node_id if found else "")
            self.assertLess(len(NODES.encode_value(page)), min(MAX_PAGE_BYTES + 100, MAX_CALL_BYTES))
            found += page.records
            is_cut, page_count = page.is_cut, page_count + 1
        self.assertEqual(found, records)
        self.assertEqual(page_count, 3)

    def test_one_page(self) -> None:
        """Usual nodes are in one page, a thousand of them, too; and there may be none."""
        records = [make_node_record(f"node-{number:04}") for number in range(1000)]
        self.assertFalse(make_page(records, "").is_cut)
        self.assertEqual(len(make_page(records, "").records), 1000)
        self.assertEqual(make_page(records, "node-0999").records, ())
        self.assertEqual(make_page([], "").records, ())
