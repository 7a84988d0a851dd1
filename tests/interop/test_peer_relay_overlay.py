"""Many peers of both kinds in one overlay, and what happens to their links when something goes."""

from __future__ import annotations

import time

from tests.integration.cluster import free_port
from tests.interop.overlay_kit import OverlayTests
from tests.interop.peer_relay_programs import Peer, PeerProcess

#: What is lost must be back by then.
HEALED_SECONDS = 10.0


class ManyTests(OverlayTests):
    """Eight peers of the package and four of ours."""

    def check(self, hub_kind: str, *, has_ports: bool) -> None:
        """All come to one hub, then every pair delivers."""
        hub = self.process(hub_kind).make("hub", port=0)
        peers = [hub]
        kinds = ["js", "own", "js"] * 4
        kinds.remove(hub_kind)
        for number, kind in enumerate(kinds):
            port = 0 if has_ports or number % 2 else None
            peers.append(self.process(kind).make(f"{kind} {number}", port=port, bootstrap=[hub]))
        for peer in peers[1:]:
            peer.wait_linked(hub)
        hub.wait_linked(*peers[1:])
        self.settle(peers)
        self.assert_all_reach_all(peers)

    def test_own_hub(self) -> None:
        """At our hub every pair delivers."""
        self.check("own", has_ports=True)

    def test_own_hub_leaves(self) -> None:
        """At our hub every pair delivers when half of the peers do not listen."""
        self.check("own", has_ports=False)

    def test_js_hub(self) -> None:
        """At the package's hub every pair delivers."""
        self.check("js", has_ports=True)

    def test_js_hub_leaves(self) -> None:
        """At the package's hub every pair delivers when half of the peers do not listen."""
        self.check("js", has_ports=False)

    def test_many_at_our_hub(self) -> None:
        """Our hub serves forty peers of the package that do not listen, where its own hub is deaf to some."""
        hub = self.own.make("hub", port=0)
        leaves = [self.js.make(f"leaf {number}", bootstrap=[hub]) for number in range(40)]
        hub.wait_linked(*leaves)
        self.assert_all_reach_all([leaves[0], hub])
        for leaf in leaves[1:]:
            leaf.send(leaves[0], leaf.name)
        got = {leaves[0].next_message() for _ in leaves[1:]}
        self.assertEqual(got, {(leaf.name, leaf.peer_id) for leaf in leaves[1:]})


class DuplicateTests(OverlayTests):
    """Two peers that dial each other in the same moment."""

    def check(self, first: PeerProcess, second: PeerProcess) -> None:
        """The link is there and stays, and carries messages both ways."""
        for number in range(4):
            ports = free_port(), free_port()
            urls = [f"ws://127.0.0.1:{port}" for port in ports]
            names = [f"first {number}", f"second {number}"]
            begun = [
                process.begin("make", peer=names[which], port=ports[which], bootstrap=[urls[1 - which]], wrtc=False)
                for which, process in enumerate((first, second))
            ]
            peers = [
                Peer(process, names[which], process.finish(begun[which])["peer_id"], ports[which])
                for which, process in enumerate((first, second))
            ]
            # The package dials once: whoever came first has found nobody.
            peers[0].wait_linked(peers[1])
            peers[1].wait_linked(peers[0])
            time.sleep(1.5)
            for which in (0, 1):
                self.assertEqual(peers[which].links(), {peers[1 - which].peer_id}, f"try {number}")
                peers[which].send(peers[1 - which], "hello")
                self.assertEqual(peers[1 - which].next_message(), ("hello", peers[which].peer_id))
            for peer in peers:
                peer.destroy()

    def test_own_and_js(self) -> None:
        """One of ours and one of the package's, ours begins."""
        self.check(self.own, self.js)

    def test_js_and_own(self) -> None:
        """One of ours and one of the package's, the package begins."""
        self.check(self.js, self.own)

    def test_own_and_own(self) -> None:
        """Two of ours."""
        self.check(self.own, self.start_own())

    def test_second_dial(self) -> None:
        """A peer of the package that is linked and is dialled again by us keeps its link."""
        js = self.js.make("js", port=0)
        own = self.own.make("own", port=0, bootstrap=[js, f"ws://localhost:{js.port}"])
        own.wait_linked(js)
        time.sleep(2.0)
        self.assertEqual((own.links(), js.links()), ({js.peer_id}, {own.peer_id}))
        own.send(js, 1)
        self.assertEqual(js.next_message(), (1, own.peer_id))
        self.assertEqual(len(js.events("linked")), 1)


class RestartTests(OverlayTests):
    """A hub that goes and comes back on the same port."""

    def check(self, hub_process: PeerProcess, again: PeerProcess) -> None:
        """Our leaves come back within ten seconds, and their messages pass again."""
        hub = hub_process.make("hub", port=0)
        leaves = [self.start_own().make(name, bootstrap=[hub]) for name in ("one", "two")]
        hub.wait_linked(*leaves)
        hub_process.kill()
        for leaf in leaves:
            leaf.wait_unlinked(hub)
        began = time.monotonic()
        back = again.make("hub", port=hub.port)
        back.wait_linked(*leaves, seconds=HEALED_SECONDS)
        leaves[0].send_until_received(leaves[1], "again")
        self.assertLess(time.monotonic() - began, HEALED_SECONDS)

    def test_own_hub(self) -> None:
        """Our hub."""
        self.check(self.start_own(), self.start_own())

    def test_js_hub(self) -> None:
        """The package's hub."""
        self.check(self.start_js(), self.start_js())

    def test_js_leaf(self) -> None:
        """A leaf of the package does not come back by itself: that is the package's way."""
        hub_process = self.start_own()
        hub = hub_process.make("hub", port=0)
        leaf = self.js.make("leaf", bootstrap=[hub])
        leaf.wait_linked(hub)
        hub_process.kill()
        leaf.wait_unlinked(hub)
        self.start_own().make("hub", port=hub.port)
        time.sleep(3.0)
        self.assertEqual(leaf.links(), set())

    def test_late_hub(self) -> None:
        """A hub that comes after those who dial it is found by ours."""
        port = free_port()
        leaf = self.own.make("leaf", bootstrap=[f"ws://127.0.0.1:{port}"])
        time.sleep(1.0)
        hub = self.js.make("hub", port=port)
        leaf.wait_linked(hub, seconds=HEALED_SECONDS)

    def test_lost_link(self) -> None:
        """A link to another peer that breaks is made anew while the hub still is there."""
        hub = self.own.make("hub", port=0)
        lost = self.start_own()
        one = self.start_own().make("one", port=0, bootstrap=[hub])
        two = lost.make("two", port=0, bootstrap=[hub])
        one.wait_linked(two)
        lost.kill()
        one.wait_unlinked(two)
        three = self.js.make("three", port=0, bootstrap=[hub])
        one.wait_linked(three)
