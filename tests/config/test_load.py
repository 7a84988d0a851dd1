"""TOML text and environment -> configuration."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.config.load import parse_config, read_config
from meshrelay.config.schema import AuthConfig, Config, GroupConfig, ListenConfig, SessionConfig, StaticGroup
from meshrelay.errors import ConfigError

WRONG = """
tcp = "tcp:1"

[sesion]
outbox_bytes = 5

[session]
outbox_byte = 5
replay_bytes = -1

[overlay]
public_url = "ws://127.0.0.1:1"

[auth]
mode = "token"
"""


def problems_of(text: str, environ: dict[str, str] | None = None) -> list[str]:
    """Return what is wrong, as the operator reads it."""
    try:
        parse_config(text, "node.toml", environ)
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


class ParseTests(SynchronousTestCase):
    """The text of a file."""

    def test_nothing(self) -> None:
        """An empty file gives the defaults."""
        self.assertEqual(parse_config(""), Config())

    def test_sections(self) -> None:
        """A key changes what it names and nothing else."""
        text = """
            [session]
            outbox_bytes = 2_000
            resume_seconds = 5
            [group]
            static_groups = [{ group_id = "%s", interval_ms = 200 }]
        """
        expected = Config(
            session=SessionConfig(outbox_bytes=2000, resume_seconds=5.0),
            group=GroupConfig(static_groups=(StaticGroup(group_id="g" * 52, interval_ms=200),)),
        )
        self.assertEqual(parse_config(text % ("g" * 52)), expected)

    def test_everything_at_once(self) -> None:
        """All mistakes of a file are told together, each with its key."""
        self.assertEqual(
            problems_of(WRONG),
            [
                "tcp: belongs in a section: [listen]",
                "sesion: unknown section; did you mean session?",
                "session.outbox_byte: unknown key; did you mean outbox_bytes?",
                "session.replay_bytes: must be a whole number from 0 to 1073741824, is -1",
                "auth.secret_file: is needed by HS256",
                "overlay.public_url: is of no use without overlay.listen",
            ],
        )

    def test_static_group_path(self) -> None:
        """A wrong static group is told by its place in the list."""
        self.assertEqual(
            problems_of('[group]\nstatic_groups = [{ group_id = "short" }]'),
            ['group.static_groups[0].group_id: must be exactly 52 ASCII characters without spaces, is "short"'],
        )

    def test_section_that_is_none(self) -> None:
        """A section that is a value, or a list of tables, is told."""
        self.assertEqual(problems_of("session = 3"), ["session: must be a table, is 3"])
        self.assertIn("session: must be a table", problems_of("[[session]]")[0])

    def test_syntax(self) -> None:
        """A file that is no TOML is one problem, with the file and the line."""
        (problem,) = problems_of("[session]\nreplay_bytes = = 3\n")
        self.assertIn("node.toml is not TOML: ", problem)
        self.assertIn("line 2", problem)

    def test_absurd(self) -> None:
        """Numbers and nesting without end are a problem of the file, not a crash."""
        for text in ("x = " + "9" * 5000, "x = " + "[" * 100_000, "x = 1\nx = 2"):
            (problem,) = problems_of(text)
            self.assertIn("is not TOML", problem)

    @given(st.text(alphabet='[]{}=.,"#\n\\ sesionpr_3', max_size=60))
    def test_garbage(self, text: str) -> None:
        """Any text is a configuration or a list of problems."""
        problems_of(text)


class EnvironmentTests(SynchronousTestCase):
    """MESHRELAY_SECTION__KEY."""

    def test_override(self) -> None:
        """The environment wins over the file, and over the default."""
        environ = {"MESHRELAY_LISTEN__TCP": "tcp:0:interface=127.0.0.1", "MESHRELAY_SESSION__REPLAY_BYTES": "7"}
        config = parse_config("[session]\nreplay_bytes = 5\noutbox_bytes = 2000", "node.toml", environ)
        self.assertEqual(config.listen, ListenConfig(tcp="tcp:0:interface=127.0.0.1"))
        self.assertEqual(config.session, SessionConfig(replay_bytes=7, outbox_bytes=2000))

    def test_lists(self) -> None:
        """A list, also one of tables, comes as an array."""
        environ = {
            "MESHRELAY_AUTH__ALLOWED_ORIGINS": '["https://example.com"]',
            "MESHRELAY_GROUP__STATIC_GROUPS": '[{"group_id": "%s"}]' % ("g" * 52),
        }
        config = parse_config("", "node.toml", environ)
        self.assertEqual(config.auth, AuthConfig(allowed_origins=("https://example.com",)))
        self.assertEqual(config.group.static_groups, (StaticGroup(group_id="g" * 52),))

    def test_hides_the_file(self) -> None:
        """A value of the file that is overridden is not looked at."""
        environ = {"MESHRELAY_SESSION__REPLAY_BYTES": "7"}
        self.assertEqual(problems_of('[session]\nreplay_bytes = "much"', environ), [])

    def test_unknown(self) -> None:
        """A name that looks like a key but is none is a problem; other variables are nobody's business."""
        self.assertEqual(
            problems_of("", {"MESHRELAY_LISTEN__TPC": "x", "MESHRELAY_SEEDS": "1000", "HOME": "/"}),
            ["MESHRELAY_LISTEN__TPC: no such key; did you mean LISTEN__TCP?"],
        )

    def test_wrong_value(self) -> None:
        """A wrong value says from which variable it came."""
        (problem,) = problems_of("", {"MESHRELAY_SESSION__REPLAY_BYTES": "much"})
        self.assertTrue(problem.startswith("session.replay_bytes: must be a whole number"), problem)
        self.assertTrue(problem.endswith("(from MESHRELAY_SESSION__REPLAY_BYTES)"), problem)

    def test_rules_see_it(self) -> None:
        """Rules between keys count what the environment says."""
        self.assertEqual(problems_of("", {"MESHRELAY_AUTH__MODE": "token"}), ["auth.secret_file: is needed by HS256"])
        self.assertEqual(problems_of("", {"MESHRELAY_LISTEN__TCP": "tcp:0", "MESHRELAY_AUTH__INSECURE": "true"}), [])


class ReadTests(SynchronousTestCase):
    """Files on disk."""

    def write(self, content: bytes) -> Path:
        """Return the path of a new file."""
        path = Path(self.mktemp())
        path.write_bytes(content)
        return path

    def test_no_file(self) -> None:
        """Without a file every default holds."""
        self.assertEqual(read_config(None, {}), Config())

    def test_file(self) -> None:
        """A file is read as UTF-8, with or without a byte order mark."""
        for mark in (b"", b"\xef\xbb\xbf"):
            path = self.write(mark + b"[session]\r\nreplay_bytes = 5\r\n")
            self.assertEqual(read_config(path, {}).session.replay_bytes, 5)

    def test_unreadable(self) -> None:
        """A file that cannot be read is one problem that names it."""
        missing = self.mktemp()
        error = self.assertRaises(ConfigError, read_config, missing, {})
        self.assertEqual(str(error), f"cannot read {missing}: No such file or directory")
        binary = self.assertRaises(ConfigError, read_config, self.write(b"\xff\xfe\x00"), {})
        self.assertIn("not UTF-8", str(binary))

    def test_named_files(self) -> None:
        """Missing files are told together with everything else."""
        path = self.write(b'[session]\nreplay_bytes = -1\n[http]\nadmin_key_file = "gone"\n')
        error = self.assertRaises(ConfigError, read_config, path, {})
        paths = [problem.path for problem in error.problems]
        self.assertEqual(paths, ["session.replay_bytes", "http.admin_key_file"])
