"""Tests of `meshrelay.relay_client.picker`."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.relay_client.client import RelayClient
from meshrelay.relay_client.errors import NoRelayServer
from meshrelay.relay_client.options import RelayOptions
from meshrelay.relay_client.picker import ServerPicker
from tests.relay_client.memory_relay import HOME, MemoryRelays


class ServerPickerTests(SynchronousTestCase):
    """One of several servers."""

    def setUp(self) -> None:
        self.relays = MemoryRelays()
        self.clients: list[RelayClient] = []
        self.picker = ServerPicker(self.relays.clock, self.make, RelayOptions())

    def make(self, url: str) -> RelayClient:
        """A client for a server."""
        self.clients.append(self.relays.client("alice", url))
        return self.clients[-1]

    def test_first(self) -> None:
        """The first that lets the client in is picked; the others are given up, connected or not."""
        self.relays.add_server("rel://slow")
        self.relays.hanging.add("rel://hanging")
        self.relays.add_server()
        picked = self.picker.pick(["rel://gone", "rel://slow", "rel://hanging", HOME])
        self.relays.links[0].is_mute = True
        self.relays.settle()
        self.assertEqual(self.successResultOf(picked).url, HOME)
        self.assertEqual([client.is_connected for client in self.clients], [False, False, False, True])
        self.assertEqual(self.relays.links[0].ended, "close")

    def test_none(self) -> None:
        """When no server can be had the error has the word of each; an empty list is one too."""
        text = str(self.failureResultOf(self.picker.pick(["rel://one", "rel://two"]), NoRelayServer).value)
        self.assertIn("rel://one", text)
        self.assertIn("rel://two", text)
        self.failureResultOf(self.picker.pick([]), NoRelayServer)

    def test_timeout(self) -> None:
        """After half a minute nobody is waited for any longer, and nothing stays connected later."""
        self.relays.hanging.add("rel://slow")
        picked = self.picker.pick(["rel://slow"])
        self.relays.advance(29.9)
        self.assertNoResult(picked)
        self.relays.advance(0.2)
        self.assertIn("30 s", str(self.failureResultOf(picked, NoRelayServer).value))
        self.assertEqual(self.clients[0].state.value, "idle")

    def test_seven_at_once(self) -> None:
        """At most seven are tried at once."""
        urls = [f"rel://{number}" for number in range(9)]
        self.relays.hanging.update(urls)
        picked = self.picker.pick(urls)
        self.assertEqual(len(self.clients), 7)
        self.clients[0].close()
        self.assertEqual(len(self.clients), 8)
        picked.cancel()
        self.failureResultOf(picked, CancelledError)
        self.assertEqual(len(self.clients), 8)

    def test_named_twice(self) -> None:
        """A server that is named twice is tried once: it would evict itself."""
        self.relays.hanging.add("rel://slow")
        picked = self.picker.pick(["rel://slow", "rel://slow", "rel://SLOW:80/"])
        self.assertEqual(len(self.clients), 1)
        picked.cancel()
        self.failureResultOf(picked, CancelledError)
