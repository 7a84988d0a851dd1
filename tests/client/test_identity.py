"""Tests of `meshrelay.client.identity`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.client.identity import Identity, LinkTraits


class IdentityTests(SynchronousTestCase):
    """Who signs in."""

    def test_careful_by_default(self) -> None:
        """Without further words a client acknowledges, resumes and comes back."""
        identity = Identity("ann", "test/1")
        self.assertTrue(identity.acks and identity.resume and identity.reconnect)

    def test_frozen(self) -> None:
        """Nobody becomes somebody else while connected."""
        self.assertRaises(AttributeError, setattr, Identity("ann", "test/1"), "user", "bob")


class LinkTraitsTests(SynchronousTestCase):
    """What kind of connection."""

    def test_stream_by_default(self) -> None:
        """A connection is a stream unless it says otherwise."""
        traits = LinkTraits()
        self.assertEqual((traits.is_datagram, traits.max_frame_bytes), (False, None))
