"""Tests of `meshrelay.client.p2p.aio_links`; `tests.integration.test_p2p` has it on a loop with a node."""

from __future__ import annotations

from inspect import iscoroutinefunction

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.client.p2p.aio_links import AioLinks
from meshrelay.client.p2p.links import P2PLinks
from tests.client.p2p.memory_internet import ROOM, MemoryInternet

#: What a client calls, and not a program.
_INNER = {"take_push", "heard", "connected", "room_left", "moved", "stop"}


class AioLinksTests(SynchronousTestCase):
    """The same methods."""

    def test_same_methods(self) -> None:
        """What the one can the other can; what gives a Deferred there is a coroutine here."""
        names = {name for name in vars(P2PLinks) if not name.startswith("_")} - _INNER
        self.assertEqual(names, {name for name in vars(AioLinks) if not name.startswith("_")})
        waiting = {name for name in names if iscoroutinefunction(getattr(AioLinks, name))}
        self.assertEqual(waiting, {"addresses", "start", "relay", "when_drained", "close"})

    def test_all(self) -> None:
        """Everything is handed on, and comes back."""
        net = MemoryInternet()
        ann, bob = net.client("ann"), net.client("bob")
        links = AioLinks(ann.client.links, lambda deferred: deferred)

        async def talk() -> bool:
            await links.addresses()
            await links.start(ROOM, 2)
            while not links.peers():
                await net_turn()
            links.send("bob", 2, 1, b"one")
            links.send_all(2, 1, b"two")
            await links.when_drained("bob")
            is_sent = await links.relay(ROOM, b"three")
            await links.close()
            return is_sent

        def net_turn() -> Deferred[None]:
            turned: Deferred[None] = Deferred()
            net.clock.callLater(0.01, turned.callback, None)
            return turned

        done = Deferred.fromCoroutine(talk())
        net.run(5.0)
        self.assertTrue(self.successResultOf(done))
        self.assertEqual((bob.payloads, bob.relayed), ([b"one", b"two"], [("ann", b"three")]))
        self.assertTrue(links.network.has_socket)
        self.assertEqual(links.statistics()["groups"], 0)
