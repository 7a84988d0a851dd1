"""The key of a peer, and its file."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import ConfigError
from meshrelay.overlay.identity import (
    PUBLIC_BYTES,
    SEED_BYTES,
    Identity,
    peer_id_of,
    unpadded,
    unpadded_bytes,
)

SEED = bytes(range(32))
KNOWN_ID = "53355058a93c989dc344c66437d8e9b51597c862"


class IdentityTests(SynchronousTestCase):
    """A key, and what follows from it."""

    def test_id_is_the_hash_of_the_key(self) -> None:
        """The ID of a peer follows from its public key, so nobody else can show a key for it."""
        identity = Identity(SEED)
        self.assertEqual((len(identity.peer_id), len(identity.public)), (20, PUBLIC_BYTES))
        self.assertEqual(peer_id_of(identity.public), identity.peer_id)

    def test_known_value(self) -> None:
        """The same seed gives the same ID in every version, or peers would lose their names."""
        self.assertEqual(Identity(SEED).peer_id.hex(), KNOWN_ID)

    def test_every_bit_counts(self) -> None:
        """Another key has another ID, whichever of its bits is another."""
        public = Identity(SEED).public
        ids = {peer_id_of(public[:i] + bytes([public[i] ^ 1]) + public[i + 1 :]) for i in range(PUBLIC_BYTES)}
        self.assertEqual(len(ids | {peer_id_of(public)}), PUBLIC_BYTES + 1)

    def test_new(self) -> None:
        """Two new peers have two IDs."""
        self.assertNotEqual(Identity.new(os.urandom).peer_id, Identity.new(os.urandom).peer_id)

    def test_seed_length(self) -> None:
        """A seed that is too short is refused, for it could be guessed."""
        self.assertRaises(ValueError, Identity, b"short")

    def test_shared_secret(self) -> None:
        """Two peers that know each other's public keys have a secret, and no third one has it."""
        one, other, third = (Identity(bytes([number]) * SEED_BYTES) for number in (1, 2, 3))
        self.assertEqual(one.shared_secret(other.public), other.shared_secret(one.public))
        self.assertNotEqual(one.shared_secret(other.public), third.shared_secret(other.public))

    def test_weak_key(self) -> None:
        """A public key that makes every secret the same is refused."""
        self.assertRaises(ValueError, Identity(SEED).shared_secret, bytes(PUBLIC_BYTES))

    def test_repr(self) -> None:
        """Logs show the ID and never the key."""
        self.assertEqual(repr(Identity(SEED)), f"<Identity {KNOWN_ID}>")

    def test_text(self) -> None:
        """Keys have one spelling."""
        self.assertEqual(unpadded_bytes(unpadded(SEED)), SEED)
        for text in ("AA==", "AB", "A A", "A", "a+/b", "é", "AA\n"):
            self.assertRaises(ValueError, unpadded_bytes, text)


class FileTests(SynchronousTestCase):
    """The file that keeps it."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.path = self.folder / "overlay.key"

    def load(self) -> Identity:
        return Identity.load_or_create(self.path, os.urandom)

    def problem(self) -> str:
        problems = self.assertRaises(ConfigError, self.load).problems
        self.assertEqual([problem.path for problem in problems], ["overlay.key_file"])
        return str(problems[0].problem)

    def test_made(self) -> None:
        """A peer that has no file gets one, which its owner alone can read, and nothing else is left."""
        identity = self.load()
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        self.assertEqual(os.listdir(self.folder), ["overlay.key"])
        self.assertEqual(self.path.read_text("ascii").count("\n"), 1)
        self.assertNotIn(identity.peer_id.hex(), self.path.read_text("ascii"))

    def test_kept(self) -> None:
        """A peer that starts again is the same peer."""
        self.assertEqual(self.load().public, self.load().public)

    def test_private_under_any_umask(self) -> None:
        """The file is private, whatever the umask."""
        before = os.umask(0o277)
        try:
            self.load()
        finally:
            os.umask(before)
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)

    def test_someone_was_faster(self) -> None:
        """Of two processes that make the file at once one wins, and both are that peer."""
        winners: list[Identity] = []

        def random_bytes(count: int) -> bytes:
            if not winners:
                winners.append(Identity(SEED))
                winners.append(Identity.load_or_create(self.path, os.urandom))
            return os.urandom(count)

        self.assertEqual(Identity.load_or_create(self.path, random_bytes).peer_id, winners[1].peer_id)

    def test_readable_by_others(self) -> None:
        """A key that others can read is refused: they could be this peer."""
        self.load()
        for mode in (0o640, 0o604, 0o620, 0o602):
            self.path.chmod(mode)
            self.assertIn("chmod 600", self.problem())

    def test_malformed(self) -> None:
        """A file that holds something else is refused and left as it is."""
        good = f"meshrelay-overlay-key-1 {unpadded(SEED)}\n"
        contents = ["", "\n", good[:-3], good.replace("key-1", "key-2"), good + good, unpadded(SEED), good + "é"]
        for content in contents:
            self.path.write_text(content, "utf-8")
            self.path.chmod(0o600)
            self.assertIn("does not hold a key", self.problem())
            self.assertEqual(self.path.read_text("utf-8"), content)

    def test_no_folder(self) -> None:
        """A folder that is not there is told with the path."""
        self.path = self.folder / "no" / "overlay.key"
        self.assertIn(f"{self.path}: No such file or directory", self.problem())

    def test_not_a_file(self) -> None:
        """Something that is not a file is refused, and not waited for."""
        self.path = self.folder
        self.assertIn("Is a directory", self.problem())
