"""Tests of `meshrelay.directory.records`."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.directory.records import (
    MAX_PLACES,
    MAX_SETTINGS_BYTES,
    MAX_STAMP,
    NodeRecord,
    UserRecord,
    check_group_id,
    check_name,
    check_settings,
)
from meshrelay.testing.directory_contract import make_node_record, make_user_record


class CheckTests(SynchronousTestCase):
    """What names may be."""

    def test_names(self) -> None:
        """Names are printable ASCII without blanks, at most 255 characters."""
        for good in ("a", "!~", "host.example:6779", "x" * 255):
            self.assertEqual(check_name(good, "node ID"), good)
        for bad in ("", " ", "a b", "a\n", "é", "\x7f", "x" * 256):
            error = self.assertRaises(ValueError, check_name, bad, "node ID")
            self.assertIn("node ID must be 1 to 255", str(error))

    def test_group_ids(self) -> None:
        """Group IDs have at most 64 characters."""
        self.assertEqual(check_group_id("g" * 64), "g" * 64)
        self.assertRaises(ValueError, check_group_id, "g" * 65)

    def test_settings(self) -> None:
        """Settings have a bound."""
        self.assertEqual(check_settings(bytes(MAX_SETTINGS_BYTES)), bytes(MAX_SETTINGS_BYTES))
        self.assertRaises(ValueError, check_settings, bytes(MAX_SETTINGS_BYTES + 1))


class NodeRecordTests(SynchronousTestCase):
    """How a node describes itself."""

    def wrong(self, **changes: Any) -> None:
        """Check that a record with these fields is refused, made here or read."""
        fields = {**msgspec.structs.asdict(make_node_record()), **changes}
        self.assertRaises(ValueError, lambda: NodeRecord(**fields))
        text = msgspec.json.encode(fields)
        self.assertRaises(msgspec.ValidationError, msgspec.json.decode, text, type=NodeRecord)

    def test_there_and_back(self) -> None:
        """What one node writes another one reads."""
        record = make_node_record(load=1.0)
        self.assertEqual(msgspec.json.decode(msgspec.json.encode(record), type=NodeRecord), record)

    def test_unknown_fields(self) -> None:
        """A node of a newer version may say more."""
        text = msgspec.json.encode({**msgspec.structs.asdict(make_node_record()), "colour": "blue"})
        self.assertEqual(msgspec.json.decode(text, type=NodeRecord), make_node_record())

    def test_wrong(self) -> None:
        """Out of their ranges fields are refused."""
        self.wrong(node_id="")
        self.wrong(incarnation="two words")
        self.wrong(mesh_endpoint="two words")
        self.wrong(load=1.1)
        self.wrong(load=-0.1)
        self.wrong(places={"tcp": ""})
        self.wrong(places={str(number): "x" for number in range(MAX_PLACES + 1)})

    def test_no_links(self) -> None:
        """A node may take no links and have no places."""
        fields = {**msgspec.structs.asdict(make_node_record()), "mesh_endpoint": "", "places": {}}
        self.assertEqual(NodeRecord(**fields).places, {})


class UserRecordTests(SynchronousTestCase):
    """Where a user is."""

    def test_wrong(self) -> None:
        """Out of their ranges fields are refused."""
        wrong: tuple[dict[str, Any], ...] = ({"user_id": ""}, {"sid": "a b"}, {"stamp": -1}, {"stamp": MAX_STAMP + 1})
        for fields in wrong:
            self.assertRaises(ValueError, lambda fields=fields: make_user_record(**fields))

    def test_newer(self) -> None:
        """The stamp decides, and where it does not the session, so that there is always one winner."""
        older, newer = make_user_record(sid="z", stamp=1), make_user_record(sid="a", stamp=2)
        self.assertEqual((newer.is_newer_than(older), older.is_newer_than(newer)), (True, False))
        low, high = make_user_record(sid="a"), make_user_record(sid="b")
        self.assertEqual((high.is_newer_than(low), low.is_newer_than(high)), (True, False))
        self.assertFalse(low.is_newer_than(low))

    def test_same_session(self) -> None:
        """A session is one of one node."""
        self.assertTrue(make_user_record(stamp=1).is_same_session(make_user_record(stamp=2)))
        self.assertFalse(make_user_record().is_same_session(make_user_record(node_id="node-b")))
        self.assertFalse(make_user_record().is_same_session(make_user_record(sid="other")))

    def test_exact(self) -> None:
        """The largest stamp survives the way through JSON."""
        record = make_user_record(stamp=MAX_STAMP)
        self.assertEqual(msgspec.json.decode(msgspec.json.encode(record), type=UserRecord).stamp, MAX_STAMP)
