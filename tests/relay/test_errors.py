"""What goes wrong at the relay."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import MeshRelayError
from meshrelay.relay.errors import (
    ConnAlreadyExists,
    ConnClosed,
    OpenCancelled,
    OpenTimedOut,
    PayloadTooLarge,
    RelayClientNotConnected,
    RelayEnd,
    RelayError,
)


class ErrorTests(SynchronousTestCase):
    """Errors that users of the client see."""

    def test_one_family(self) -> None:
        """All of them can be caught together, and each has a text."""
        errors: list[RelayError] = [
            ConnAlreadyExists(),
            ConnClosed(),
            OpenCancelled(),
            OpenTimedOut(30.0),
            PayloadTooLarge(9000, 8782),
            RelayClientNotConnected(),
        ]
        for error in errors:
            self.assertIsInstance(error, RelayError)
            self.assertIsInstance(error, MeshRelayError)
        self.assertEqual(len({str(error) for error in errors}), len(errors))

    def test_facts(self) -> None:
        """The facts are attributes as well."""
        self.assertEqual(OpenTimedOut(1.5).timeout_seconds, 1.5)
        self.assertEqual(str(OpenTimedOut(1.5)), "the peer was not online within 1.5 s")
        too_large = PayloadTooLarge(9000, 8782)
        self.assertEqual((too_large.size_bytes, too_large.limit_bytes), (9000, 8782))

    def test_ends(self) -> None:
        """Ends of connections are told apart by words that fit a metric."""
        self.assertTrue(all(end.value.isidentifier() for end in RelayEnd))
