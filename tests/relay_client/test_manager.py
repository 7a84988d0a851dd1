"""Tests of `meshrelay.relay_client.manager`."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.relay.auth import HmacTokens, make_token
from meshrelay.relay.errors import ConnAlreadyExists, OpenTimedOut, RelayClientNotConnected
from meshrelay.relay_client.errors import AlreadyServing, NoRelayServer, RelayConnectFailed
from meshrelay.relay_client.manager import InstanceAddress, RelayManager, RelayState
from meshrelay.relay_client.options import RelayOptions
from meshrelay.relay_client.token_store import SecretTokens
from tests.relay_client.memory_relay import HOME, MemoryRelays

FAR = "rel://far:80"


class RelayManagerTests(SynchronousTestCase):
    """A home relay and foreign ones."""

    def setUp(self) -> None:
        self.relays = MemoryRelays()
        self.relays.add_server()
        self.relays.add_server(FAR)
        self.heard: list[str] = []

    def manager(self, *urls: str, name: str = "alice", tokens: Any = None) -> RelayManager:
        """A manager that does not serve yet; without chance."""
        options = RelayOptions(uniform=lambda low, high: (low + high) / 2)
        return RelayManager(self.relays.clock, urls, name, tokens, options, self.relays.open)

    def serving(self, *urls: str, name: str = "alice") -> RelayManager:
        """A manager with a home relay."""
        manager = self.manager(*(urls or (HOME,)), name=name)
        served = manager.serve()
        self.relays.settle()
        self.assertIn(self.successResultOf(served), urls or (HOME,))
        return manager

    def cut_home(self, manager: RelayManager) -> None:
        """Let the newest link, which is that of the home relay, break."""
        self.relays.links[-1].cut()
        self.relays.settle()
        self.assertFalse(manager.is_ready)

    def test_open_at_the_end(self) -> None:
        """Who opens a connection again in the moment in which it ends is told; the home relay comes back anyway."""
        manager = self.serving()
        home = self.relays.links[-1]
        self.relays.connected("bob")
        opened = manager.open_conn(HOME, "bob")
        self.relays.settle()
        again: list[Any] = []
        self.successResultOf(opened).on_closed(lambda _: again.append(manager.open_conn(HOME, "bob")))
        home.cut()
        self.relays.settle()
        self.failureResultOf(again[0], RelayClientNotConnected)
        self.assertFalse(manager.is_ready)
        self.relays.advance(1.6)
        self.assertTrue(manager.is_ready)
        manager.close()

    def test_serve(self) -> None:
        """Serving finds a home relay, by which others find this peer."""
        manager = self.serving()
        self.assertTrue(manager.is_ready)
        self.assertEqual(manager.relay_instance_address, InstanceAddress(HOME, "198.51.100.1"))
        self.assertEqual((manager.server_urls, manager.has_relay_address), ((HOME,), True))
        self.assertEqual(manager.relay_states(), [RelayState(HOME, "ws", None)])
        self.failureResultOf(manager.serve(), AlreadyServing)

    def test_no_urls(self) -> None:
        """Without servers serving fails, and goes on: they may come later."""
        manager = self.manager()
        self.assertFalse(manager.has_relay_address)
        self.failureResultOf(manager.serve(), NoRelayServer)
        manager.on_reconnected(lambda: self.heard.append("back"))
        manager.update_server_urls([HOME])
        self.relays.advance(2.5)
        self.assertTrue(manager.is_ready)
        self.assertEqual((self.heard, manager.connect_error), (["back"], None))
        manager.close()

    def test_not_serving(self) -> None:
        """Without a home relay nothing works, for foreign addresses neither."""
        manager = self.manager(HOME)
        self.failureResultOf(manager.open_conn(FAR, "bob"), RelayClientNotConnected)
        self.assertRaises(RelayClientNotConnected, manager.add_close_listener, HOME, print)
        with self.assertRaises(RelayClientNotConnected):
            _ = manager.relay_instance_address
        self.assertEqual(manager.relay_states(), [])

    def test_home(self) -> None:
        """The address of the home relay leads to it."""
        manager = self.serving()
        self.relays.connected("bob")
        opened = manager.open_conn(HOME, "bob", "192.0.2.9")
        self.relays.settle()
        self.successResultOf(opened)
        self.failureResultOf(manager.open_conn(HOME, "bob"), ConnAlreadyExists)
        self.failureResultOf(self.wait(manager.open_conn(HOME, "eve", timeout_seconds=1)), OpenTimedOut)

    def test_home_in_another_spelling(self) -> None:
        """Who is told our own home relay in another spelling is not taken there a second time, which would evict us."""
        manager = self.serving()
        self.relays.connected("bob")
        before = len(self.relays.dialled)
        manager.add_close_listener(HOME.upper(), lambda: self.heard.append("lost"))
        opened = manager.open_conn(f"{HOME.upper()}/relay", "bob")
        self.relays.settle()
        self.successResultOf(opened)
        self.assertEqual(len(self.relays.dialled), before)

    def test_foreign_in_two_spellings(self) -> None:
        """A foreign relay is one, however it is written: listeners of either spelling hear of its end."""
        alice = self.serving(HOME)
        self.serving(FAR, name="bob")
        opened = alice.open_conn(FAR, "bob")
        self.relays.settle()
        self.successResultOf(opened)
        alice.add_close_listener(FAR, lambda: self.heard.append("short"))
        alice.add_close_listener("rel://far/", lambda: self.heard.append("long"))
        self.relays.links[-1].cut()
        self.relays.settle()
        self.assertEqual(self.heard, ["short", "long"])

    def wait(self, done: Any) -> Any:
        """Let a moment pass."""
        self.relays.advance(1.1)
        return done

    def test_foreign(self) -> None:
        """Any other address is another relay, at which both peers meet."""
        alice, bob = self.serving(HOME), self.serving(FAR, name="bob")
        there = alice.open_conn(bob.relay_instance_address.url, "bob")
        here = bob.open_conn(bob.relay_instance_address.url, "alice")
        self.relays.settle()
        self.successResultOf(there).write_nowait(b"hello")
        self.relays.settle()
        self.assertEqual(self.successResultOf(self.successResultOf(here).read()), b"hello")
        self.assertEqual(alice.relay_states(), [RelayState(HOME, "ws", None), RelayState(FAR, "ws", None)])
        self.failureResultOf(alice.open_conn("rel://gone", "bob"), RelayConnectFailed)

    def test_unused_foreign(self) -> None:
        """A foreign relay that nobody uses is closed within a minute, without a word to listeners."""
        alice = self.serving(HOME)
        self.serving(FAR, name="bob")
        opened = alice.open_conn(FAR, "bob")
        self.relays.settle()
        alice.add_close_listener(FAR, lambda: self.heard.append("closed"))
        self.successResultOf(opened).close()
        for link in self.relays.links:
            assert link.receiver is not None
        self.heartbeats(61)
        self.assertEqual(len(alice.relay_states()), 1)
        self.assertEqual(self.heard, [])
        alice.close()

    def heartbeats(self, seconds: int) -> None:
        """Let time pass, with servers that are alive."""
        for _ in range(seconds):
            self.relays.advance(1)
            for link in self.relays.links:
                if link.receiver is not None:
                    link.receiver.message_received(b"\x01\x05")

    def test_reconnect(self) -> None:
        """A home relay that is lost comes back after a moment; listeners are told, once."""
        manager = self.serving()
        listener = self.listener("lost")
        for _ in range(2):
            manager.add_close_listener(HOME, listener)
        manager.add_close_listener(HOME, self.listener("lost too"))
        manager.on_reconnected(self.listener("back"))
        self.cut_home(manager)
        self.assertEqual(self.heard, ["lost", "lost too"])
        self.failureResultOf(manager.open_conn(HOME, "bob"), RelayClientNotConnected)
        [state] = manager.relay_states()
        self.assertEqual((state.url, state.transport_name), (HOME, ""))
        self.assertIsInstance(state.error, RelayClientNotConnected)
        self.relays.advance(1.6)
        self.assertTrue(manager.is_ready)
        self.assertEqual(self.heard[2:], ["back"])
        self.cut_home(manager)
        self.assertEqual(len(self.heard), 3)
        manager.close()

    def listener(self, text: str) -> Any:
        """A callback that notes its call."""
        return lambda: self.heard.append(text)

    def test_other_home(self) -> None:
        """When the server is no longer of the list another one becomes home, at once."""
        manager = self.serving()
        manager.update_server_urls([FAR])
        self.assertTrue(manager.is_ready)
        self.relays.links[-1].cut()
        self.relays.settle()
        self.assertEqual(manager.relay_instance_address.url, FAR)
        manager.close()

    def test_foreign_lost(self) -> None:
        """Listeners of a foreign relay hear when it is lost; it stays away until it is wanted again."""
        manager = self.serving()
        self.assertRaises(RelayClientNotConnected, manager.add_close_listener, FAR, print)
        self.relays.connected("bob", FAR)
        manager.open_conn(FAR, "bob")
        self.relays.settle()
        manager.add_close_listener(FAR, self.listener("lost"))
        self.relays.links[-1].cut()
        self.relays.settle()
        self.assertEqual(self.heard, ["lost"])
        self.assertTrue(manager.is_ready)
        self.assertEqual(len(manager.relay_states()), 1)
        manager.close()

    def test_token(self) -> None:
        """A new token is used from the next connection on; a bad one is refused and the old one stays."""
        self.relays.add_server("rel://strict", HmacTokens(b"key"))
        manager = self.manager("rel://strict")
        served = manager.serve()
        self.relays.settle()
        self.failureResultOf(served, NoRelayServer)
        manager.update_token(make_token(b"key", 10**10))
        self.assertRaises(ValueError, manager.update_token, bytes(171))
        manager.update_token(None)
        self.relays.advance(2.5)
        self.assertTrue(manager.is_ready)
        manager.close()
        fixed = self.manager(HOME, tokens=SecretTokens(b"key", self.relays.clock.seconds))
        self.assertRaises(ValueError, fixed.update_token, b"")

    def test_close(self) -> None:
        """Closing ends all relays and the search for one, and leaves no timer."""
        manager = self.serving()
        self.relays.connected("bob", FAR).close()
        manager.open_conn(FAR, "bob").addErrback(lambda _: None)
        self.relays.settle()
        self.successResultOf(manager.close())
        self.assertFalse(manager.is_ready)
        for other in (self.manager("rel://gone"), self.manager("rel://slow")):
            self.relays.hanging.add("rel://slow")
            served = other.serve()
            self.successResultOf(other.close())
            self.failureResultOf(served)
        self.relays.settle()
        self.assertEqual(self.relays.clock.getDelayedCalls(), [])
