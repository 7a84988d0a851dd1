"""What the schema says about each key."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.config.keys import Key, default_of, keys_by_section
from meshrelay.config.schema import SessionConfig


def key(path: str) -> Key:
    """Return the key with this dotted path."""
    section, name = path.split(".")
    return keys_by_section()[section][name]


class KeyTests(SynchronousTestCase):
    """Every key can be explained to the operator."""

    def test_names(self) -> None:
        """A key has a dotted path and a name in the environment."""
        self.assertEqual(key("listen.tcp").path, "listen.tcp")
        self.assertEqual(key("session.outbox_bytes").environment_name, "MESHRELAY_SESSION__OUTBOX_BYTES")

    def test_environment_names_are_unique(self) -> None:
        """No two keys have the same name in the environment."""
        names = [key.environment_name for keys in keys_by_section().values() for key in keys.values()]
        self.assertEqual(len(names), len(set(names)))

    def test_everything_is_described(self) -> None:
        """Each key has a line of description, without a full stop."""
        for keys in keys_by_section().values():
            for described in keys.values():
                self.assertTrue(described.description, described.path)
                self.assertFalse(described.description.endswith("."), described.path)

    def test_allowed_values(self) -> None:
        """The values that a key takes are told in words."""
        expected = {
            "node.workers": "a whole number from 1 to 256",
            "node.drain_seconds": "a number from 0 to 3600",
            "auth.insecure": "true or false",
            "auth.mode": '"open" or "token"',
            "auth.audience": "a text",
            "session.slow_consumer": '"disconnect", "drop_oldest" or "drop_newest"',
            "group.static_groups": "a list of tables",
            "overlay.bootstrap": "a list, each ws://host:port or wss://host:port",
        }
        self.assertEqual({path: key(path).allowed for path in expected}, expected)

    def test_metadata(self) -> None:
        """Whether a reload applies a key, and whether it names a file, can be asked by programs."""
        self.assertTrue(key("auth.secret_file").file)
        self.assertTrue(key("auth.secret_file").reload)
        self.assertFalse(key("auth.mode").file)
        self.assertFalse(key("listen.tcp").reload)
        self.assertEqual(key("session.commands_per_second").empty, "no limit")

    def test_every_number_is_bounded(self) -> None:
        """A number has a least and a greatest value."""
        for keys in keys_by_section().values():
            for number in keys.values():
                if type(number.default) in (int, float):
                    self.assertRegex(number.allowed, r" from [0-9.]+ to [0-9]+$", number.path)

    def test_file_keys(self) -> None:
        """Every key that is called a file is one."""
        for keys in keys_by_section().values():
            for named in keys.values():
                self.assertEqual(named.file, named.name.endswith("_file"), named.path)

    def test_unknown_field(self) -> None:
        """Asking for the default of a field that does not exist is an error."""
        self.assertEqual(default_of(SessionConfig, "pending_commands"), 64)
        with self.assertRaises(LookupError):
            default_of(SessionConfig, "pending")
