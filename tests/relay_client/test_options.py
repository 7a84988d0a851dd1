"""Tests of `meshrelay.relay_client.options`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.relay_client.options import RelayOptions, TransportMode, transport_mode, transports


class TransportTests(SynchronousTestCase):
    """Which transports are tried."""

    def test_mode(self) -> None:
        """The names of the modes are NetBird's; case and spaces do not matter, nonsense means auto."""
        for text, mode in (
            (None, TransportMode.AUTO),
            ("", TransportMode.AUTO),
            ("auto", TransportMode.AUTO),
            ("quic", TransportMode.QUIC),
            (" WS ", TransportMode.WS),
            ("prefer-quic", TransportMode.PREFER_QUIC),
            ("Prefer-WS", TransportMode.PREFER_WS),
            ("tcp", TransportMode.AUTO),
        ):
            self.assertIs(transport_mode(text), mode, text)

    def test_transports(self) -> None:
        """Large packets and a fallback leave WebSocket alone, unless QUIC is named outright."""
        both, swapped, ws = ("quic", "ws"), ("ws", "quic"), ("ws",)
        for mode, mtu, is_fallback, wanted in (
            (TransportMode.AUTO, 0, False, both),
            (TransportMode.AUTO, 1280, False, both),
            (TransportMode.AUTO, 1281, False, ws),
            (TransportMode.AUTO, 0, True, ws),
            (TransportMode.PREFER_QUIC, 0, False, both),
            (TransportMode.PREFER_QUIC, 0, True, ws),
            (TransportMode.PREFER_WS, 0, False, swapped),
            (TransportMode.PREFER_WS, 1420, False, ws),
            (TransportMode.WS, 0, False, ws),
            (TransportMode.QUIC, 1420, True, ("quic",)),
        ):
            self.assertEqual(transports(mode, mtu, is_fallback), wanted, (mode, mtu, is_fallback))


class OptionTests(SynchronousTestCase):
    """What options become."""

    def test_machine(self) -> None:
        """Only over datagrams anything is said twice."""
        options = RelayOptions(auth_seconds=3.0)
        self.assertEqual(options.machine_options("ws").repeat_seconds, 0.0)
        self.assertEqual(options.machine_options("quic").repeat_seconds, 1.0)
        self.assertEqual(options.machine_options("ws").auth_seconds, 3.0)

    def test_backoff(self) -> None:
        """Delays double up to the cap, and chance is taken after it."""
        backoff = RelayOptions(retry_cap_seconds=5.0, uniform=lambda low, high: high).backoff()
        self.assertEqual([backoff.next_delay() for _ in range(4)], [3.0, 6.0, 7.5, 7.5])
