"""The look-alike of a datagram socket: `PeerRelay.Socket` of the npm package and ours, with each other."""

from __future__ import annotations

import time

from tests.interop.overlay_kit import QUIET_SECONDS, OverlayTests
from tests.interop.peer_relay_programs import Peer


class SocketTests(OverlayTests):
    """A Socket of each kind, linked, both ways round."""

    def make(self, kinds: tuple[str, str]) -> tuple[Peer, Peer]:
        """Two Sockets, of which the second has dialled the first."""
        first = self.process(kinds[0]).make_socket(f"first {kinds}", port=0)
        second = self.process(kinds[1]).make_socket(f"second {kinds}", port=0, bootstrap=[first])
        first.wait_linked(second)
        second.wait_linked(first)
        return first, second

    def test_packets(self) -> None:
        """Packets of any bytes come as they were sent, with the sender's ID and port."""
        for kinds in (("js", "own"), ("own", "js"), ("own", "own")):
            pair = self.make(kinds)
            for sender, target in (pair, pair[::-1]):
                port = sender.process.ask("address", peer=sender.name)["port"]
                for data in (b"", b"hello", bytes(range(256)), b"\xff" * 10_000):
                    sender.send_packet(target, data)
                    self.assertEqual(target.next_packet(), (data, sender.peer_id, port))

    def test_part(self) -> None:
        """Of a part of a buffer just the part is sent; the package sends the wrong one unless it begins at 0."""
        own, js = self.make(("own", "js"))
        own.send_packet(js, b"0123456789", offset=2, length=5)
        self.assertEqual(js.next_packet()[0], b"23456")
        js.send_packet(own, b"0123456789", offset=0, length=5)
        self.assertEqual(own.next_packet()[0], b"01234")

    def test_bind(self) -> None:
        """A bound Socket says so, and has the port that was wanted."""
        own, js = self.make(("own", "js"))
        for peer in (own, js):
            peer.process.ask("bind", peer=peer.name, port=4321)
            peer.wait_event("listening")
            address = peer.process.ask("address", peer=peer.name)
            self.assertEqual((address["address"], address["port"]), (peer.peer_id, 4321))
            self.assertEqual(address["family"], "peer-relay")
        own.send_packet(js, b"x")
        self.assertEqual(js.next_packet(), (b"x", own.peer_id, 4321))

    def test_close(self) -> None:
        """A closed Socket says so and can do nothing more; the other end sees the link go."""
        own, js = self.make(("own", "js"))
        own.destroy()
        own.wait_event("closed")
        js.wait_unlinked(own)

    def test_forged(self) -> None:
        """The address of a packet is that of its sender, whatever the packet says."""
        own, js = self.make(("own", "js"))
        liar = self.js.make("liar", port=0, bootstrap=[own])
        liar.wait_linked(own)
        packet = {"buffer": {"type": "Buffer", "data": [1]}, "address": js.peer_id, "port": 9}
        liar.send(own, packet)
        self.assertEqual(own.next_packet(), (b"\x01", liar.peer_id, 9))

    def test_relayed(self) -> None:
        """Sockets reach each other by way of a hub of either kind."""
        for hub_kind in ("own", "js"):
            hub = self.process(hub_kind).make(f"hub {hub_kind}", port=0)
            own = self.own.make_socket(f"own at {hub_kind}", bootstrap=[hub])
            js = self.js.make_socket(f"js at {hub_kind}", bootstrap=[hub])
            hub.wait_linked(own, js)
            own.send_packet(js, b"to js")
            self.assertEqual(js.next_packet()[:2], (b"to js", own.peer_id))
            js.send_packet(own, b"to own")
            self.assertEqual(own.next_packet()[:2], (b"to own", js.peer_id))

    def test_other_address(self) -> None:
        """An address that is no ID is refused by ours, and nothing is sent."""
        own, js = self.make(("own", "js"))
        own.send_packet("192.0.2.1", b"x")
        own.process.wait_event("failed", lambda event: "192.0.2.1" in event["error"])
        time.sleep(QUIET_SECONDS)
        self.assertEqual(js.events("packet"), [])
