"""Tests of `meshrelay.relay_client.foreign`."""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.relay.errors import OpenTimedOut, RelayClientNotConnected
from meshrelay.relay_client.client import RelayClient
from meshrelay.relay_client.errors import RelayConnectFailed, TooManyRelays
from meshrelay.relay_client.foreign import ForeignRelays
from meshrelay.relay_client.options import RelayOptions
from tests.relay_client.memory_relay import MemoryRelays

FAR = "rel://far:80"
GONE = "rel://gone:80"


class ForeignRelaysTests(SynchronousTestCase):
    """Relays of others."""

    def setUp(self) -> None:
        self.relays = MemoryRelays()
        self.relays.add_server(FAR)
        self.ended: list[tuple[str, bool]] = []

        def make(url: str, server_ip: str) -> RelayClient:
            return RelayClient(self.relays.clock, url, "alice", server_ip=server_ip, opener=self.relays.open)

        options = RelayOptions(max_foreign_relays=2)
        self.foreign = ForeignRelays(self.relays.clock, make, options, lambda *end: self.ended.append(end))

    def test_shared(self) -> None:
        """The first who wants it has it connected, by the address that it was told; the others share it."""
        self.relays.connected("bob", FAR)
        self.relays.connected("carol", FAR)
        first = self.foreign.open_conn(FAR, "bob", "192.0.2.9", None)
        second = self.foreign.open_conn(FAR, "carol", "", None)
        self.relays.settle()
        self.assertEqual([self.successResultOf(done).peer for done in (first, second)], ["bob", "carol"])
        self.assertEqual(self.relays.dialled[2:], [(FAR, "192.0.2.9", False)])
        self.assertEqual([url for url, _ in self.foreign.connected()], [FAR])

    def test_spellings(self) -> None:
        """One relay in two spellings is connected once: twice, the second would evict the first."""
        self.relays.connected("bob", FAR)
        self.relays.connected("carol", FAR)
        first = self.foreign.open_conn(FAR, "bob", "", None)
        second = self.foreign.open_conn("rel://FAR/", "carol", "", None)
        self.relays.settle()
        self.assertEqual([self.successResultOf(done).peer for done in (first, second)], ["bob", "carol"])
        self.assertEqual(self.relays.dialled[2:], [(FAR, "", False)])
        self.relays.links[-1].cut()
        self.relays.settle()
        self.assertEqual((self.foreign.addresses, self.ended), (frozenset(), [(FAR, True)]))

    def test_failed(self) -> None:
        """When it cannot be had all who wait are told, and the next one tries anew."""
        self.failureResultOf(self.foreign.open_conn(GONE, "bob", "", None), RelayConnectFailed)
        self.assertEqual(self.foreign.addresses, frozenset())
        self.assertEqual(self.ended, [(GONE, True)])
        self.failureResultOf(self.foreign.open_conn(GONE, "bob", "", None), RelayConnectFailed)
        self.assertEqual(len(self.relays.dialled), 2)

    def test_cancel(self) -> None:
        """Who cancels leaves; the connection that is coming about stays for the others."""
        self.relays.hanging.add("rel://slow:80")
        first, second = (self.foreign.open_conn("rel://slow:80", "bob", "", None) for _ in range(2))
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertEqual(self.foreign.addresses, {"rel://slow:80"})
        self.assertEqual(self.foreign.connected(), [])
        self.relays.advance(6)
        self.foreign.close_unused()
        self.assertEqual(self.foreign.addresses, {"rel://slow:80"})
        self.assertNoResult(second)
        self.successResultOf(self.foreign.close())
        self.failureResultOf(second, RelayClientNotConnected)

    def test_bound(self) -> None:
        """There are as many as may be."""
        for url in ("rel://1", "rel://2", "rel://3"):
            self.relays.hanging.add(url)
        for url in ("rel://1", "rel://2"):
            self.foreign.open_conn(url, "bob", "", None).addErrback(lambda _: None)
        self.failureResultOf(self.foreign.open_conn("rel://3", "bob", "", None), TooManyRelays)
        self.foreign.close()

    def test_lost(self) -> None:
        """One that is lost is forgotten at once; it does not come back by itself."""
        self.relays.connected("bob", FAR)
        self.foreign.open_conn(FAR, "bob", "", None)
        self.relays.settle()
        self.relays.links[-1].cut()
        self.relays.settle()
        self.assertEqual((self.foreign.addresses, self.ended), (frozenset(), [(FAR, True)]))
        self.foreign.open_conn(FAR, "bob", "", None)
        self.assertEqual(len(self.relays.dialled), 3)

    def test_unused(self) -> None:
        """One without connections is closed once it is five seconds old; one with some stays."""
        self.relays.connected("bob", FAR)
        opened = self.foreign.open_conn(FAR, "bob", "", None)
        self.relays.advance(6)
        conn = self.successResultOf(opened)
        self.foreign.close_unused()
        self.assertEqual(self.foreign.addresses, {FAR})
        conn.close()
        self.foreign.close_unused()
        self.assertEqual((self.foreign.addresses, self.ended), (frozenset(), [(FAR, False)]))

    def test_young(self) -> None:
        """One that was made just now stays, used or not."""
        absent = self.foreign.open_conn(FAR, "bob", "", 1.0)
        self.relays.advance(4.9)
        self.failureResultOf(absent, OpenTimedOut)
        self.foreign.close_unused()
        self.assertEqual(self.foreign.addresses, {FAR})
        self.relays.advance(0.2)
        self.foreign.close_unused()
        self.assertEqual(self.foreign.addresses, frozenset())
