"""Group settings in their JSON form."""

from __future__ import annotations

import json
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.config.group_json import load_group_json, parse_group_json
from meshrelay.config.schema import GroupConfig, StaticGroup
from meshrelay.errors import ConfigError

COMPLETE = {
    "remoteJoinTries": 7,
    "relayLimit": 3,
    "sendInterval": 150,
    "staticGroups": [{"groupID": "a" * 52, "interval": 200}, {"groupID": "b" * 52, "interval": 99}],
}


def problems_of(value: object) -> list[str]:
    """Return what is wrong, as the operator reads it."""
    try:
        parse_group_json(json.dumps(value), "group.json")
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


class GroupJsonTests(SynchronousTestCase):
    """The file of another server."""

    def test_complete(self) -> None:
        """Every setting arrives under our name; an interval below 100 ms is none."""
        path = Path(self.mktemp())
        path.write_text(json.dumps(COMPLETE))
        expected = GroupConfig(
            remote_join_tries=7,
            relay_limit=3,
            send_interval_ms=150,
            static_groups=(
                StaticGroup(group_id="a" * 52, interval_ms=200),
                StaticGroup(group_id="b" * 52, interval_ms=0),
            ),
        )
        self.assertEqual(load_group_json(path), expected)

    def test_defaults(self) -> None:
        """What is left out has the same default as in the TOML file."""
        self.assertEqual(parse_group_json("{}"), GroupConfig())
        self.assertEqual(
            (GroupConfig().remote_join_tries, GroupConfig().relay_limit, GroupConfig().send_interval_ms), (4, 2, 300)
        )

    def test_problems(self) -> None:
        """Everything that is wrong is told at once, under the names of this file."""
        wrong = {
            "remoteJoinTry": 4,
            "relayLimit": 0,
            "staticGroups": [{"groupID": "short", "interval": -1}, {"interval": 200, "size": 3}, 7],
        }
        paths = [problem.partition(": ")[0] for problem in problems_of(wrong)]
        self.assertEqual(
            paths,
            [
                "remoteJoinTry",
                "staticGroups[1].size",
                "relayLimit",
                "staticGroups[0].groupID",
                "staticGroups[0].interval",
                "staticGroups[1].groupID",
                "staticGroups[2]",
            ],
        )

    def test_twice(self) -> None:
        """A static group may not be named twice."""
        groups = [{"groupID": "a" * 52}, {"groupID": "a" * 52}]
        self.assertEqual(
            problems_of({"staticGroups": groups}), ["staticGroups[1].groupID: is the ID of number 0 as well"]
        )

    def test_unreadable(self) -> None:
        """A file that is missing, no JSON or no object is one problem that names it."""
        self.assertIn("No such file", str(self.assertRaises(ConfigError, load_group_json, self.mktemp())))
        self.assertIn("is not JSON", str(self.assertRaises(ConfigError, parse_group_json, "{")))
        self.assertIn("is not JSON", str(self.assertRaises(ConfigError, parse_group_json, "[" * 100_000)))
        self.assertIn("one JSON object", str(self.assertRaises(ConfigError, parse_group_json, "[]")))
        binary = Path(self.mktemp())
        binary.write_bytes(b"\xff\xfe")
        self.assertIn("not UTF-8", str(self.assertRaises(ConfigError, load_group_json, binary)))
