"""Tests of `meshrelay.directory.errors`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.directory.errors import (
    DirectoryFull,
    DirectoryUnavailable,
    NodeIdInUse,
    NodeUnknown,
    UserTakenOver,
)
from meshrelay.errors import MeshError, MeshRelayError
from meshrelay.testing.directory_contract import make_user_record

ERRORS: tuple[tuple[MeshError, bool, str], ...] = (
    (DirectoryUnavailable("no answer"), True, "the directory is away: no answer"),
    (DirectoryFull("users", 7), True, "the directory is full: 7 users"),
    (NodeIdInUse("node-a"), True, "node ID node-a is in use by another living node"),
    (NodeUnknown("node-a"), True, "node node-a is not registered"),
    (UserTakenOver(make_user_record()), False, "a newer sign-in of the user is on node node-a"),
)


class ErrorTests(SynchronousTestCase):
    """What the errors say."""

    def test_retryable(self) -> None:
        """A caller knows whether the same call may work later."""
        for error, is_retryable, _ in ERRORS:
            self.assertEqual((type(error).__name__, error.retryable), (type(error).__name__, is_retryable))

    def test_texts(self) -> None:
        """An operator reads what is wrong with what."""
        for error, _, text in ERRORS:
            self.assertEqual(str(error), text)

    def test_one_tree(self) -> None:
        """All are errors of meshrelay."""
        for error, _, _ in ERRORS:
            self.assertIsInstance(error, MeshRelayError)
