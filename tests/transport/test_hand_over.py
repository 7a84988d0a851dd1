"""Another protocol for a transport that is connected."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.transport.hand_over import hand_over


class Place:
    """Something with attributes."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class HandOverTests(SynchronousTestCase):
    """Who is called from then on."""

    def test_plain(self) -> None:
        """A plain connection calls the new protocol."""
        transport: Any = Place(protocol="old")
        old = transport.protocol
        self.assertTrue(hand_over(transport, old, "new"))
        self.assertEqual(transport.protocol, "new")

    def test_wrapped(self) -> None:
        """So does one inside TLS, whose own protocol stays."""
        old = object()
        transport: Any = Place(wrappedProtocol=old, protocol="tls")
        self.assertTrue(hand_over(transport, old, "new"))
        self.assertEqual((transport.wrappedProtocol, transport.protocol), ("new", "tls"))

    def test_dialled(self) -> None:
        """What an endpoint puts in between while it connects goes as well."""
        old = object()
        transport: Any = Place(protocol=Place(_wrappedProtocol=old))
        self.assertTrue(hand_over(transport, old, "new"))
        self.assertEqual(transport.protocol, "new")

    def test_unknown(self) -> None:
        """A transport that calls somebody else is left as it is."""
        transport: Any = Place(protocol="other")
        self.assertFalse(hand_over(transport, object(), "new"))
        self.assertEqual(transport.protocol, "other")
