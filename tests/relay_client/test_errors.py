"""Tests of `meshrelay.relay_client.errors`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.relay.errors import RelayError
from meshrelay.relay_client import errors


class ErrorTests(SynchronousTestCase):
    """What users of the client see."""

    def test_one_base(self) -> None:
        """All errors can be caught as one."""
        for name in errors.__all__:
            self.assertTrue(issubclass(getattr(errors, name), RelayError), name)

    def test_texts(self) -> None:
        """The texts say what happened to what."""
        for error, text in (
            (errors.RelayConnectFailed("rel://r", "refused"), "cannot connect to rel://r: refused"),
            (errors.NoRelayTransport("rel://r"), "cannot connect to rel://r: no relay transport available"),
            (errors.NoRelayServer(), "no relay server available"),
            (errors.NoRelayServer("a: b"), "no relay server available: a: b"),
            (errors.AlreadyServing(), "manager already serving"),
            (errors.SendQueueFull(7, 8), "7 bytes wait to be sent to the relay, max_unsent_bytes is 8"),
            (errors.TooManyRelays(2), "there are 2 foreign relays already"),
        ):
            self.assertEqual(str(error), text)
