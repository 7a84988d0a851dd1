"""Raw values and texts of the environment."""

from __future__ import annotations

from datetime import date

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.config.keys import keys_by_section
from meshrelay.config.schema import NodeConfig, SessionConfig, StaticGroup
from meshrelay.config.values import convert_struct, convert_text, convert_value, near_miss
from meshrelay.errors import ConfigProblem


def from_file(path: str, raw: object) -> object:
    """Return what the key makes of a TOML value; the text of the problem when it is wrong."""
    return _told(path, raw, convert_value)


def from_environment(path: str, text: str) -> object:
    """Return what the key makes of a text of the environment; the text of the problem when it is wrong."""
    return _told(path, text, convert_text)


def _told(path: str, raw: object, convert: object) -> object:
    section, name = path.split(".")
    problems: list[ConfigProblem] = []
    assert callable(convert)
    value: object = convert(keys_by_section()[section][name].annotation, raw, path, problems)
    return "; ".join(str(problem) for problem in problems) if value is msgspec.UNSET else value


class FileValueTests(SynchronousTestCase):
    """Values of a TOML file."""

    def test_taken(self) -> None:
        """A value of the right type and range is taken; a whole number will do for a time."""
        self.assertEqual(from_file("session.resume_seconds", 5), 5.0)
        self.assertEqual(from_file("session.pending_commands", 65_536), 65_536)
        self.assertEqual(from_file("auth.algorithms", ["RS256", "ES256"]), ("RS256", "ES256"))

    def test_type(self) -> None:
        """A value of another type is refused, true is no number and no number is true."""
        wrong: list[tuple[str, object]] = [
            ("session.pending_commands", "64"),
            ("session.pending_commands", True),
            ("session.pending_commands", 1.5),
            ("auth.insecure", 1),
            ("auth.issuer", 3),
            ("auth.issuer", date(2026, 1, 1)),
            ("auth.algorithms", "HS256"),
            ("session.resume_seconds", {}),
        ]
        for path, raw in wrong:
            self.assertIn("must be", str(from_file(path, raw)), path)

    def test_bounds(self) -> None:
        """One over and one under the range are refused with the range."""
        for value in (0, 65_537):
            self.assertEqual(
                from_file("session.pending_commands", value),
                f"session.pending_commands: must be a whole number from 1 to 65536, is {value}",
            )

    def test_no_number(self) -> None:
        """inf and nan of TOML are no times."""
        for value in (float("inf"), float("nan"), float("-inf")):
            self.assertIn("must be a number from", str(from_file("session.resume_seconds", value)))

    def test_choice(self) -> None:
        """A misspelled choice is told what was probably meant."""
        self.assertEqual(
            from_file("session.slow_consumer", "drop_oldset"),
            'session.slow_consumer: must be "disconnect", "drop_oldest" or "drop_newest", is "drop_oldset"'
            "; did you mean drop_oldest?",
        )

    def test_every_element(self) -> None:
        """Each wrong element of a list is told by its index."""
        told = str(from_file("auth.algorithms", ["HS256", "none", 3]))
        self.assertIn("auth.algorithms[1]: ", told)
        self.assertIn("auth.algorithms[2]: ", told)

    def test_long_value(self) -> None:
        """A wrong value of any length is shown by its beginning."""
        self.assertTrue(str(from_file("node.id", "x" * 5000)).endswith("x..."))

    def test_whole_pattern(self) -> None:
        """A text must match as a whole, a line end at its end included."""
        for value in ("node\n", "a b", "n" * 65):
            self.assertIn("must be at most 64", str(from_file("node.id", value)))

    def test_origins(self) -> None:
        """An origin has a scheme and no path."""
        for origin in ("*", "null", "https://example.com", "http://localhost:8080"):
            self.assertEqual(from_file("auth.allowed_origins", [origin]), (origin,))
        for origin in (
            "example.com",
            "https://example.com/",
            "https://example.com/app",
            "https://*.example.com",
            "https://Example.com",
            "",
        ):
            self.assertIn("auth.allowed_origins[0]", str(from_file("auth.allowed_origins", [origin])))


class StructTests(SynchronousTestCase):
    """Tables."""

    def test_rest_survives(self) -> None:
        """A wrong key does not hide the others, and leaves its default."""
        problems: list[ConfigProblem] = []
        raw = {"outbox_bytes": "much", "replay_bytes": 7, "nonsense": 1}
        section = convert_struct(SessionConfig, raw, "session", problems)
        self.assertEqual(section, SessionConfig(replay_bytes=7))
        self.assertEqual([problem.path for problem in problems], ["session.outbox_bytes", "session.nonsense"])

    def test_missing(self) -> None:
        """A key without a default must be there."""
        problems: list[ConfigProblem] = []
        self.assertIsNone(convert_struct(StaticGroup, {"interval_ms": 200}, "group.static_groups[0]", problems))
        self.assertEqual([str(problem) for problem in problems], ["group.static_groups[0].group_id: is missing"])

    def test_no_table(self) -> None:
        """A section must be a table."""
        problems: list[ConfigProblem] = []
        self.assertIsNone(convert_struct(NodeConfig, 3, "node", problems))
        self.assertEqual([str(problem) for problem in problems], ["node: must be a table, is 3"])


class EnvironmentValueTests(SynchronousTestCase):
    """Texts of environment variables."""

    def test_taken(self) -> None:
        """A text becomes what its key needs."""
        taken: list[tuple[str, str, object]] = [
            ("session.pending_commands", "1_000", 1000),
            ("session.resume_seconds", "2", 2.0),
            ("session.resume_seconds", "2.5", 2.5),
            ("auth.insecure", "true", True),
            ("auth.insecure", "False", False),
            ("auth.issuer", "7", "7"),
            ("auth.issuer", "", ""),
            ("auth.mode", "token", "token"),
            ("auth.algorithms", '["RS256"]', ("RS256",)),
            ("auth.algorithms", "['RS256']", ("RS256",)),
            ("auth.allowed_origins", "[]", ()),
            ("group.static_groups", '[{"group_id": "%s"}]' % ("g" * 52), (StaticGroup(group_id="g" * 52),)),
            ("group.static_groups", '[{group_id = "%s"}]' % ("g" * 52), (StaticGroup(group_id="g" * 52),)),
        ]
        for path, text, value in taken:
            self.assertEqual(from_environment(path, text), value, path)

    def test_refused(self) -> None:
        """A text that does not fit is refused like a value of the file."""
        refused = [
            ("session.pending_commands", ""),
            ("session.pending_commands", "many"),
            ("session.pending_commands", "1\nx = 2"),
            ("session.pending_commands", "9" * 5000),
            ("auth.insecure", "yes"),
            ("auth.algorithms", "HS256"),
            ("auth.algorithms", "[" * 50_000),
        ]
        for path, text in refused:
            self.assertIn("must be", str(from_environment(path, text)), (path, text[:20]))


class NearMissTests(SynchronousTestCase):
    """Hints."""

    def test_hint(self) -> None:
        """A slip of the finger or of the shift key gets a hint, nonsense gets none."""
        self.assertEqual(near_miss("outbox_byte", ["outbox_bytes", "mode"]), "; did you mean outbox_bytes?")
        self.assertEqual(near_miss("TCP", ["tcp", "udp"]), "; did you mean tcp?")
        self.assertEqual(near_miss("zzz", ["tcp", "udp"]), "")
