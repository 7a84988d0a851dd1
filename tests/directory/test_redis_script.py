"""Tests of `meshrelay.directory.redis_script`: keys and answers; what the scripts do is tried on a real server."""

from __future__ import annotations

from base64 import b64encode

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.directory.errors import DirectoryFull, DirectoryUnavailable, NodeIdInUse, NodeUnknown, UserTakenOver
from meshrelay.directory.options import DirectoryOptions
from meshrelay.directory.records import GroupRecord
from meshrelay.directory.redis_script import RedisScripts
from meshrelay.testing.directory_contract import make_node_record, make_user_record

USER_JSON = msgspec.json.encode(make_user_record())


class RedisScriptsTests(SynchronousTestCase):
    """Questions and answers."""

    def setUp(self) -> None:
        """Scripts of one cluster."""
        self.scripts = RedisScripts("test", DirectoryOptions(lease_seconds=1.5, entry_seconds=60.0, max_nodes=7))

    def test_keys(self) -> None:
        """All keys of a cluster begin alike, with its name in braces: one slot."""
        calls = [
            self.scripts.epoch("x"),
            self.scripts.register(make_node_record(), "x"),
            self.scripts.withdraw("node-a", "first"),
            self.scripts.nodes(),
            self.scripts.claim("node-a", [make_user_record()]),
            self.scripts.release("ann", "sid", "node-a"),
            self.scripts.find_user("ann"),
            self.scripts.join("node-a", [("g", b"")]),
            self.scripts.leave("g", "node-a"),
            self.scripts.find_group("g"),
        ]
        keys = {key for call in calls for key in call.keys}
        self.assertEqual(
            sorted(key.removeprefix("meshrelay:{test}:") for key in keys),
            ["epoch", "group:g", "lease:node-a", "nodes", "user:ann"],
        )

    def test_cluster_names(self) -> None:
        """A name that would spoil the keys is refused."""
        for name in ("", "a b", "a{b", "a}b", "x" * 65):
            self.assertRaises(ValueError, RedisScripts, name, DirectoryOptions())

    def test_times(self) -> None:
        """Leases and entries end after what the options say, in milliseconds."""
        self.assertIn(1500, self.scripts.register(make_node_record(), "x").arguments)
        self.assertIn(60_000, self.scripts.claim("node-a", []).arguments)
        self.assertIn(60_000, self.scripts.join("node-a", []).arguments)

    def test_register(self) -> None:
        """Each answer to a registration has its meaning."""
        self.assertTrue(self.scripts.read_register(b"renewed", "node-a"))
        self.assertFalse(self.scripts.read_register(b"new", "node-a"))
        self.assertRaises(NodeIdInUse, self.scripts.read_register, b"used", "node-a")
        error = self.assertRaises(DirectoryFull, self.scripts.read_register, b"full", "node-a")
        self.assertEqual(error.limit, 7)

    def test_nodes(self) -> None:
        """Nodes come sorted; one that cannot be read is left out and counted."""
        records = [make_node_record("node-b"), make_node_record("node-a")]
        lines = [msgspec.json.encode(records[0]), b"{}", b"rubbish", msgspec.json.encode(records[1])]
        self.assertEqual(self.scripts.read_nodes(b"\n".join(lines)), [records[1], records[0]])
        self.assertEqual(self.scripts.unreadable, 2)
        self.assertEqual(self.scripts.read_nodes(b""), [])

    def test_claim(self) -> None:
        """Each answer to a sign-in has its meaning."""
        self.assertIsNone(self.scripts.read_claim(b"", "node-a"))
        self.assertEqual(self.scripts.read_claim(b"<" + USER_JSON, "node-a"), make_user_record())
        error = self.assertRaises(UserTakenOver, self.scripts.read_claim, b">" + USER_JSON, "node-a")
        self.assertEqual(error.current, make_user_record())
        self.assertRaises(NodeUnknown, self.scripts.read_claim, b"unknown", "node-a")

    def test_claims(self) -> None:
        """Of many sign-ins only those are told that newer ones hold."""
        answer = b"\n".join([b"", b"<" + USER_JSON, b">" + USER_JSON, b""])
        self.assertEqual(self.scripts.read_claims(answer, "node-a"), [make_user_record()])
        self.assertRaises(NodeUnknown, self.scripts.read_claims, b"unknown", "node-a")

    def test_other_node(self) -> None:
        """A node says nothing about the users of another one."""
        self.assertRaises(ValueError, self.scripts.claim, "node-b", [make_user_record()])

    def test_user(self) -> None:
        """A user is found, is not there, or cannot be read."""
        self.assertEqual(self.scripts.read_user(USER_JSON), make_user_record())
        self.assertIsNone(self.scripts.read_user(b""))
        self.assertRaises(DirectoryUnavailable, self.scripts.read_user, b"{}")

    def test_group(self) -> None:
        """Settings are any bytes, nodes come sorted."""
        settings = bytes(range(256))
        answer = b"=" + b64encode(settings) + b"\nnode-b\nnode-a"
        expected = GroupRecord(group_id="g", settings=settings, nodes=("node-a", "node-b"))
        self.assertEqual(self.scripts.read_group(answer, "g"), expected)
        self.assertEqual(self.scripts.read_join(answer, "g", "node-a"), expected)
        self.assertIsNone(self.scripts.read_group(b"", "g"))
        self.assertRaises(NodeUnknown, self.scripts.read_join, b"unknown", "g", "node-a")
