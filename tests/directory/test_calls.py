"""Tests of `meshrelay.directory.calls`."""

from __future__ import annotations

from random import Random

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.directory.calls import (
    CALLS,
    CLAIM_USER,
    EPOCH,
    FIND_GROUP,
    JOIN_GROUP,
    LEAVE_GROUP,
    LOOPBACK,
    MAX_REFRESH_ENTRIES,
    NODES,
    REFRESH,
    REGISTER_NODE,
    RELEASE_USER,
    WITHDRAW_NODE,
    ClaimUser,
    FindGroup,
    FindUser,
    JoinGroup,
    LeaveGroup,
    Loopback,
    NodesPage,
    Refresh,
    RegisterNode,
    ReleaseUser,
    WithdrawNode,
    encode_error,
)
from meshrelay.directory.errors import DirectoryFull, DirectoryUnavailable, NodeIdInUse, NodeUnknown, UserTakenOver
from meshrelay.directory.interfaces import IDirectory
from meshrelay.directory.records import MAX_SETTINGS_BYTES, GroupRecord
from meshrelay.errors import MalformedFrame
from meshrelay.testing.directory_contract import GROUP, make_node_record, make_user_record


class NamesTests(SynchronousTestCase):
    """The names of the calls."""

    def test_every_method(self) -> None:
        """All that a node may ask of a directory can be asked from afar."""
        local = {"start", "stop", "watch_lost", "statistics", "lease_seconds", "refresh_seconds"}
        self.assertEqual({call.name for call in CALLS}, {f"directory.{name}" for name in set(IDirectory) - local})


class ArgumentsTests(SynchronousTestCase):
    """What calls carry."""

    def test_round_trip(self) -> None:
        """What is said arrives as it was said, strange names and bytes included."""
        registered = RegisterNode(record=make_node_record())
        self.assertEqual(REGISTER_NODE.decode_arguments(REGISTER_NODE.encode_arguments(registered)), registered)
        joined = JoinGroup(group_id=GROUP, node_id="node-a", settings=bytes(range(256)))
        self.assertEqual(JOIN_GROUP.decode_arguments(JOIN_GROUP.encode_arguments(joined)), joined)
        refresh = Refresh(node_id="node-a", users=(make_user_record("é\n\x00\U0001f600"),), groups=((GROUP, b"\xff"),))
        self.assertEqual(REFRESH.decode_arguments(REFRESH.encode_arguments(refresh)), refresh)

    def test_speaker(self) -> None:
        """What changes the entries of a node names the node that has to say it; questions name none."""
        user = make_user_record(node_id="n")
        speaking = [
            RegisterNode(record=make_node_record("n")),
            WithdrawNode(node_id="n", incarnation="first"),
            ClaimUser(record=user),
            ReleaseUser(user_id="ann", sid="5", node_id="n"),
            JoinGroup(group_id=GROUP, node_id="n", settings=b""),
            LeaveGroup(group_id=GROUP, node_id="n"),
            Refresh(node_id="n", users=(user,)),
        ]
        self.assertEqual([arguments.speaker for arguments in speaking], ["n"] * 7)
        silent = [FindUser(user_id="ann"), FindGroup(group_id=GROUP)]
        self.assertEqual([arguments.speaker for arguments in silent], [None] * 2)

    def test_out_of_range(self) -> None:
        """What cannot be stored is refused before it is sent."""
        wrong = {
            "blank in a group": lambda: FindGroup(group_id="with blank"),
            "settings": lambda: JoinGroup(group_id=GROUP, node_id="n", settings=bytes(MAX_SETTINGS_BYTES + 1)),
            "no node": lambda: LeaveGroup(group_id=GROUP, node_id=""),
            "no user": lambda: FindUser(user_id=""),
            "half a character": lambda: ReleaseUser(user_id="\ud800", sid="5", node_id="n"),
            "no session": lambda: ReleaseUser(user_id="ann", sid="", node_id="n"),
            "session of no node": lambda: ReleaseUser(user_id="ann", sid="5", node_id=""),
            "incarnation": lambda: WithdrawNode(node_id="n", incarnation="i" * 256),
            "token": lambda: Loopback(token="\n"),
            "user of another": lambda: Refresh(node_id="n", users=(make_user_record(node_id="m"),)),
            "settings in a refresh": lambda: Refresh(node_id="n", groups=((GROUP, bytes(MAX_SETTINGS_BYTES + 1)),)),
        }
        for name, make in wrong.items():
            with self.assertRaises(ValueError, msg=name):
                make()

    def test_out_of_range_remote(self) -> None:
        """What cannot be stored is refused when it arrives, too."""
        for call, fields in (
            (FIND_GROUP, {"group_id": "with blank"}),
            (WITHDRAW_NODE, {"node_id": "", "incarnation": "first"}),
            (RELEASE_USER, {"user_id": "a" * 129, "sid": "5"}),
            (LEAVE_GROUP, {"group_id": GROUP}),
            (CLAIM_USER, {"record": {"user_id": "ann", "node_id": "n", "sid": "5", "stamp": -1}}),
            (LOOPBACK, {"token": 5}),
        ):
            with self.assertRaises(MalformedFrame, msg=str(fields)):
                call.decode_arguments(msgspec.msgpack.encode(fields))

    def test_too_many_entries(self) -> None:
        """A batch of a refresh has a bound."""
        groups = tuple((f"{number:052}", b"") for number in range(MAX_REFRESH_ENTRIES + 1))
        REFRESH.decode_arguments(REFRESH.encode_arguments(Refresh(node_id="n", groups=groups[1:])))
        with self.assertRaises(MalformedFrame):
            REFRESH.decode_arguments(REFRESH.encode_arguments(Refresh(node_id="n", groups=groups)))

    def test_newer_node(self) -> None:
        """A node that says more than we know is understood as far as we know."""
        payload = msgspec.msgpack.encode({"token": "t", "colour": ["red", {"dark": True}]})
        self.assertEqual(LOOPBACK.decode_arguments(payload), Loopback(token="t"))


class AnswersTests(SynchronousTestCase):
    """What comes back."""

    def test_values(self) -> None:
        """Values arrive as they were."""
        user = make_user_record()
        self.assertEqual(CLAIM_USER.read_answer(CLAIM_USER.encode_value(user)), user)
        self.assertIsNone(CLAIM_USER.read_answer(CLAIM_USER.encode_value(None)))
        self.assertEqual(REFRESH.read_answer(REFRESH.encode_value([user])), [user])
        group = GroupRecord(group_id=GROUP, settings=b"\x00\xff", nodes=("a", "b"))
        self.assertEqual(FIND_GROUP.read_answer(FIND_GROUP.encode_value(group)), group)
        page = NodesPage(records=(make_node_record(),), is_cut=True)
        self.assertEqual(NODES.read_answer(NODES.encode_value(page)), page)

    def test_errors(self) -> None:
        """Each error of a directory is raised at the other end with all that it says."""
        for error in (
            NodeIdInUse("node-a"),
            NodeUnknown("node-a"),
            DirectoryFull("nodes", 4),
            UserTakenOver(make_user_record()),
            DirectoryUnavailable("stopped"),
            ValueError("stamp -1"),
        ):
            answer = encode_error(error)
            assert answer is not None
            raised = self.assertRaises(type(error), EPOCH.read_answer, answer)
            self.assertEqual((vars(raised), str(raised)), (vars(error), str(error)))

    def test_bug(self) -> None:
        """A bug of the other end is not told as an answer."""
        self.assertIsNone(encode_error(RuntimeError("a bug")))

    def test_unreadable(self) -> None:
        """An answer that is none is the fault of whoever answered."""
        whole = CLAIM_USER.encode_value(make_user_record())
        answers = {
            "empty": b"",
            "unknown": b"\x02\xc3",
            "cut": whole[:-1],
            "longer": whole + b"\x00",
            "other type": EPOCH.encode_value("epoch"),
            "unknown error": b"\x01" + msgspec.msgpack.encode({"type": "tired"}),
            "bad record": whole.replace(b"\xa3ann", b"\xa0"),
        }
        for name, answer in answers.items():
            with self.assertRaises(MalformedFrame, msg=name):
                CLAIM_USER.read_answer(answer)


class HostileTests(SynchronousTestCase):
    """Bytes that nobody would send by mistake."""

    def test_bombs(self) -> None:
        """Nested lists, sizes that are lies and broken text are refused and cost no memory."""
        bombs = {
            "lists": b"\x81\xa1z" + b"\x91" * 400_000,
            "maps": b"\x81\xa1z" + b"\x81\xa1z" * 100_000,
            "long list": b"\x82\xa7node_id\xa1n\xa5users\xdd\xff\xff\xff\xff",
            "long text": b"\x81\xa7node_id\xdb\xff\xff\xff\xff",
            "text": b"\x81\xa7node_id\xa2\xff\xff",
            "nothing": b"",
        }
        for name, bomb in bombs.items():
            with self.assertRaises(MalformedFrame, msg=name):
                REFRESH.decode_arguments(bomb)
            with self.assertRaises(MalformedFrame, msg=name):
                NODES.read_answer(b"\x00" + bomb)
            with self.assertRaises(MalformedFrame, msg=name):
                NODES.read_answer(b"\x01" + bomb)

    def test_noise(self) -> None:
        """Any bytes at all are read or refused, nothing else."""
        random = Random(7)
        for _ in range(300):
            noise = random.randbytes(random.randrange(60))
            for call in CALLS:
                for read in (call.decode_arguments, call.read_answer):
                    try:
                        read(noise)
                    except MalformedFrame:
                        continue
