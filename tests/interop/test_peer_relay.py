"""The tests of the npm package peer-relay itself, with a peer of its or of ours in every place."""

from __future__ import annotations

import time

from tests.interop.overlay_kit import QUIET_SECONDS, OverlayTests
from tests.interop.peer_relay_programs import Peer

#: Peers of the chain.
CHAIN = 10

#: Chains that are tried where the package relays.
CHAINS = 4


class Rows(OverlayTests):
    """The package's own tests.

    :cvar kinds: of the three peers, "js" or "own": first, hub, last.
    """

    kinds = ("js", "js", "js")

    def make(self, place: int, name: str, *bootstrap: Peer) -> Peer:
        """A listening peer of the kind of a place."""
        return self.process(self.kinds[place]).make(name, port=0, bootstrap=bootstrap)

    def make_pair(self) -> tuple[Peer, Peer]:
        """Two peers, of which the first has the second's address."""
        hub = self.make(1, "hub")
        return self.make(0, "first", hub), hub

    def test_two_peers_connect(self) -> None:
        """Two peers are told of each other, each once."""
        first, hub = self.make_pair()
        self.assertEqual(first.next_linked(), hub.peer_id)
        self.assertEqual(hub.next_linked(), first.peer_id)
        time.sleep(QUIET_SECONDS)
        self.assertEqual(first.events("linked") + hub.events("linked"), [])
        self.assertEqual((first.links(), hub.links()), ({hub.peer_id}, {first.peer_id}))

    def test_direct_message(self) -> None:
        """Two linked peers send to each other: each has exactly what the other has sent, and knows from whom."""
        first, hub = self.make_pair()
        first.next_linked()
        hub.next_linked()
        first.send(hub, "TEST1")
        hub.send(first, "TEST2")
        self.assertEqual(hub.next_message(), ("TEST1", first.peer_id))
        self.assertEqual(first.next_message(), ("TEST2", hub.peer_id))
        time.sleep(QUIET_SECONDS)
        self.assertEqual(first.events("message") + hub.events("message"), [])

    def test_send_before_connect(self) -> None:
        """What is sent before there is any link is delivered once there is one, both ways."""
        hub = self.make(1, "hub")
        process = self.process(self.kinds[0])
        made = process.begin("make", peer="first", port=0, bootstrap=[hub.url])
        sent = process.begin("send", peer="first", to=hub.peer_id, data="TEST2")
        first = Peer(process, "first", process.finish(made)["peer_id"], None)
        hub.send(first, "TEST1")
        process.finish(sent)
        self.assertEqual(hub.next_message(), ("TEST2", first.peer_id))
        self.assertEqual(first.next_message(), ("TEST1", hub.peer_id))

    def test_relay_message(self) -> None:
        """A message to a peer that is linked to the same hub arrives, with the right sender."""
        hub = self.make(1, "hub")
        last = self.make(2, "last", hub)
        hub.wait_linked(last)
        first = self.make(0, "first", hub)
        self.assertEqual(first.next_linked(), hub.peer_id)
        first.send(last, "TEST")
        self.assertEqual(last.next_message(), ("TEST", first.peer_id))

    def test_populate(self) -> None:
        """Two peers that know only the hub link to each other unasked, and then need the hub no more."""
        hub = self.make(1, "hub")
        first = self.make(0, "first", hub)
        last = self.make(2, "last", hub)
        first.wait_linked(hub, last)
        last.wait_linked(hub, first)
        first.disconnect(hub)
        first.send(last, "TEST")
        self.assertEqual(last.next_message(), ("TEST", first.peer_id))
        known = {peer.peer_id for peer in (first, hub, last)}
        told = {event["peer_id"] for peer in (first, hub, last) for event in peer.events("linked")}
        self.assertLessEqual(told, known)

    def test_chain(self) -> None:
        """Ten peers of which each knows the one before: the first reaches the last."""
        if "js" not in self.kinds:
            first, last = self.make_chain("peer")
            first.send(last, "TEST")
            self.assertEqual(last.next_message(), ("TEST", first.peer_id))
            return
        # Where the package relays it loses messages, so its own suite does not run this test. Links to others that it
        # finds in time make up for it, but with some IDs it finds none: then others are tried.
        for chain in range(CHAINS):
            first, last = self.make_chain(f"chain {chain} peer")
            try:
                first.send_until_received(last, "TEST", 15)
            except AssertionError:
                if chain == CHAINS - 1:
                    raise
            else:
                return

    def make_chain(self, name: str) -> tuple[Peer, Peer]:
        """The first and the last of ten peers of which each knows the one before."""
        peers: list[Peer] = []
        for number in range(CHAIN):
            peers.append(self.make(number % 3, f"{name} {number}", *peers[-1:]))
            if number:
                peers[-1].wait_linked(least=1)
        return peers[0], peers[-1]

    def test_destroy(self) -> None:
        """Peers that are destroyed say when they have ended; their ports can be used again at once."""
        first, hub = self.make_pair()
        first.wait_linked(hub)
        hub.wait_linked(first)
        hub.destroy()
        first.wait_unlinked(hub)
        first.destroy()
        again = self.process(self.kinds[1]).make("again", port=hub.port)
        other = self.process(self.kinds[0]).make("other", port=first.port, bootstrap=[again])
        other.wait_linked(again)

    def test_disconnect(self) -> None:
        """A link that one end closes is closed at both, and can be made anew from either end."""
        for number, (closer, opener) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
            hub = self.make(1, f"hub {number}")
            pair = (self.make(0, f"first {number}", hub), hub)
            third = self.make(2, f"last {number}", hub)
            for peer in pair:
                peer.wait_linked(pair[0] if peer is hub else hub, third)
            self.wait_quiet()
            pair[closer].disconnect(pair[1 - closer])
            pair[1 - closer].wait_unlinked(pair[closer])
            pair[opener].connect(pair[1 - opener])
            pair[0].wait_linked(hub)
            hub.wait_linked(pair[0])
            for peer in (*pair, third):
                peer.destroy()

    def test_payloads(self) -> None:
        """Whatever JSON there is arrives as it was sent, both ways."""
        first, hub = self.make_pair()
        first.wait_linked(hub)
        hub.wait_linked(first)
        payloads = [
            None, True, 0, -1.5, 1e300, 2**53, "", "häuser \U0001f600 \u0000 \u2028", [], {}, [1, [2, [3]]],
            {"b": 1, "a": {"": None}, "type": "user", "1": 2}, {"type": "Buffer", "data": [1, 2]}, "x" * 100_000,
        ]  # fmt: skip
        for sender, target in ((first, hub), (hub, first)):
            for payload in payloads:
                sender.send(target, payload)
            for payload in payloads:
                self.assertEqual(target.next_message(), (payload, sender.peer_id))


class JsJsJsTests(Rows):
    """The package alone: this is how it is meant to be."""

    kinds = ("js", "js", "js")


class OwnOwnOwnTests(Rows):
    """Our peers alone."""

    kinds = ("own", "own", "own")


class OwnJsJsTests(Rows):
    """One of ours comes to the package's hub."""

    kinds = ("own", "js", "js")


class JsOwnJsTests(Rows):
    """The package's peers at our hub."""

    kinds = ("js", "own", "js")


class JsJsOwnTests(Rows):
    """A peer of the package finds one of ours at its own hub."""

    kinds = ("js", "js", "own")


class OwnOwnJsTests(Rows):
    """One of each at our hub, ours comes last."""

    kinds = ("own", "own", "js")


class JsOwnOwnTests(Rows):
    """One of each at our hub, the package's comes last."""

    kinds = ("js", "own", "own")


class OwnJsOwnTests(Rows):
    """Our peers at the package's hub."""

    kinds = ("own", "js", "own")


# The rows themselves are of no kind.
del Rows
