"""What kills the package, sent to our hub and by way of it: nobody dies, and everybody else goes on."""

from __future__ import annotations

import json
import os
import socket
import time

from tests.interop.malformed_frames import DELIVERED, FORWARDED, HELLOS, NON_PACKETS, REPLIED, SIGNALS, Frame
from tests.interop.overlay_kit import QUIET_SECONDS, OverlayTests
from tests.interop.peer_relay_programs import EVENT_SECONDS, Peer
from tests.interop.raw_overlay_peer import RawPeer, envelope

MEBIBYTE = 1024 * 1024

#: Bad frames that a link may bring before it is closed.
FEW = 10


class HubTests(OverlayTests):
    """Our hub with two peers of the package, one of which has another one behind it."""

    def setUp(self) -> None:
        super().setUp()
        self.hub = self.own.make("hub", port=0)
        self.near = self.js.make("near", port=0, bootstrap=[self.hub])
        self.relay = self.js.make("relay", port=0, bootstrap=[self.hub])
        self.far = self.js.make("far", port=0, bootstrap=[self.relay])
        self.hub.wait_linked(self.near, self.relay)
        self.relay.wait_linked(self.far)

    def greet(self, peer: Peer, peer_id: str = "") -> RawPeer:
        """A raw link to a peer, after the hellos."""
        return self.dial(peer, peer_id).hello()

    def bad_frame_count(self) -> int:
        """What our process has counted."""
        return sum(value for name, value in self.own.counts().items() if name.startswith("bad_frames"))

    def assert_alive(self) -> None:
        """All peers still reach each other, and nobody of the package has crashed."""
        time.sleep(QUIET_SECONDS)
        self.assertEqual(self.js.crashes, [])
        for sender, target in ((self.near, self.far), (self.far, self.near), (self.relay, self.hub)):
            sender.send_until_received(target, os.urandom(8).hex())
        self.assertEqual(self.js.crashes, [])

    def check(self, frames: dict[str, Frame], targets: list[Peer]) -> None:
        """Send all the frames to each of the targets by way of the hub."""
        for target in targets:
            for number, (name, frame) in enumerate(frames.items()):
                if number % FEW == 0:
                    raw = self.greet(self.hub)
                raw.send_json(frame(target.peer_id, raw.peer_id))
                try:
                    self.js.wait_event("crashed", lambda event: True, 0.02)
                except AssertionError:
                    continue
                self.fail(f"crashed: {name}")
        self.assert_alive()

    def test_hello(self) -> None:
        """Whoever does not say who it is, is closed and counted."""
        for frame in HELLOS.values():
            raw = self.dial(self.hub)
            raw.send_json(frame("", ""))
            raw.wait_closed()
        self.assertGreaterEqual(self.bad_frame_count(), len(HELLOS))
        self.assert_alive()

    def test_delivered(self) -> None:
        """Frames of a wrong shape are dropped and counted, whoever they are for."""
        targets = [self.hub, self.near, self.far]
        self.check(DELIVERED, targets)
        self.assertGreaterEqual(self.bad_frame_count(), len(DELIVERED) * len(targets))

    def test_signals(self) -> None:
        """Signals never reach a peer that has no WebRTC and is linked with our hub."""
        # By way of a relay of the package they would: whoever passes on cannot know what is far away.
        self.hub.wait_linked(self.far)
        self.check(SIGNALS, [self.hub, self.near, self.far])

    def test_forwarded(self) -> None:
        """What would kill a relay on the way is not passed on to it."""
        behind = self.greet(self.relay)
        for name, frame in FORWARDED.items():
            for target in (behind.peer_id, os.urandom(20).hex()):
                raw = self.greet(self.hub)
                raw.send_json(frame(target, raw.peer_id))
                time.sleep(0.1)
                self.assertEqual(self.js.crashes, [], name)
        self.assert_alive()

    def test_replied(self) -> None:
        """A path that is none does not become a trap for whoever answers."""
        for frame in REPLIED.values():
            raw = self.greet(self.hub)
            for target in (self.near, self.far, self.hub):
                raw.send_json(frame(target.peer_id, raw.peer_id))
                time.sleep(0.1)
                target.send(raw.peer_id, "answer")
        self.assert_alive()

    def test_closed(self) -> None:
        """A link that brings one bad frame after the other is closed; sixteen are enough."""
        raw = self.greet(self.hub)
        for _ in range(16):
            raw.send_json("nonsense")
        raw.wait_closed()
        self.assertNotIn(raw.peer_id, self.hub.links())
        self.assert_alive()

    def test_too_large(self) -> None:
        """A message over the limit ends its link with the code for that; one just below it is passed on."""
        raw = self.greet(self.hub)
        raw.send(self.near.peer_id, "user", "x" * 200_000)
        self.assertEqual(self.near.next_message(), ("x" * 200_000, raw.peer_id))
        raw.send(self.near.peer_id, "user", "x" * 300_000)
        self.assertEqual(raw.wait_closed(), 1009)
        self.assert_alive()

    def test_buffer_ids(self) -> None:
        """IDs may come as bytes or in capitals; peers of the package get them as small hex."""
        raw = self.greet(self.hub)
        form = {"type": "Buffer", "data": list(bytes.fromhex(self.near.peer_id))}
        sender = {"type": "Buffer", "data": list(bytes.fromhex(raw.peer_id))}
        raw.send_json(envelope(form, sender, {"type": "user", "data": 1}, path=[raw.peer_id]))
        self.assertEqual(self.near.next_message(), (1, raw.peer_id))
        raw.send_json(envelope(self.near.peer_id.upper(), raw.peer_id.upper(), {"type": "user", "data": 2}))
        self.assertEqual(self.near.next_message(), (2, raw.peer_id))

    def test_unknown(self) -> None:
        """Keys and types that nobody knows are passed on untouched, and harm nobody."""
        raw, other = self.greet(self.hub), self.greet(self.hub)
        for target in (self.hub.peer_id, self.near.peer_id):
            raw.send_json(envelope(target, raw.peer_id, {"type": "zebra", "data": [1]}, more={"a": 1}))
        sent = envelope(other.peer_id, raw.peer_id, {"type": "zebra", "data": [1.50], "x": None}, more={"a": 1})
        raw.send_json(sent)
        got = other.wait_for("zebra")
        self.assertEqual(got, {**sent, "path": [raw.peer_id, self.hub.peer_id]})
        self.assert_alive()


class LyingTests(OverlayTests):
    """Peers that are not who they say, and say what is not so."""

    def setUp(self) -> None:
        super().setUp()
        self.hub = self.own.make("hub", port=0)
        self.near = self.js.make("near", port=0, bootstrap=[self.hub])
        self.other = self.js.make("other", port=0, bootstrap=[self.hub])
        self.hub.wait_linked(self.near, self.other)

    def assert_links_work(self) -> None:
        """The two good links are there and carry messages."""
        time.sleep(QUIET_SECONDS)
        self.assertLessEqual({self.near.peer_id, self.other.peer_id}, self.hub.links())
        for sender, target in ((self.near, self.other), (self.hub, self.near), (self.other, self.hub)):
            sender.send(target, sender.name)
            self.assertEqual(target.next_message(), (sender.name, sender.peer_id))

    def test_wrong_ids(self) -> None:
        """A hello with an ID of another length, or with our own, is not accepted."""
        wrong = ["", "01020304", "00" * 19, "00" * 21, "zz" * 20, self.hub.peer_id]
        for peer_id in wrong:
            for form in (peer_id, {"type": "Buffer", "data": list(peer_id.encode())}):
                raw = self.dial(self.hub)
                raw.send_json(json.dumps(form))
                raw.wait_closed()
        self.assertEqual(self.hub.links(), {self.near.peer_id, self.other.peer_id})
        self.assert_links_work()

    def test_taken_id(self) -> None:
        """Who says it is a peer that is linked already is turned away, and the peer notices nothing."""
        for header in ((), ("Meshrelay-Overlay: 1",)):
            raw = self.running.enter_context(RawPeer.dial(self.hub.url, self.near.peer_id, header))
            raw.send_json(raw.peer_id)
            raw.wait_closed()
            self.assert_links_work()

    def test_unsolicited_answer(self) -> None:
        """An answer to no offer makes nobody of ours dial."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"ws://127.0.0.1:{listener.getsockname()[1]}"
            raw = self.dial(self.hub).hello()
            for sender in (raw.peer_id, os.urandom(20).hex()):
                answer = {"type": "handshake-answer", "data": {"ws": url, "wrtc": False}}
                raw.send_json(envelope(self.hub.peer_id, sender, answer))
            listener.settimeout(1.5)
            self.assertRaises(TimeoutError, listener.accept)
        self.assert_links_work()

    def test_answered_twice(self) -> None:
        """An offer of ours is followed by one dial, however often it is answered."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"ws://127.0.0.1:{listener.getsockname()[1]}"
            raw = self.dial(self.hub).hello()
            # Nobody is closer to it than the one that is linked: the offer comes this way.
            stranger = f"{int(raw.peer_id, 16) ^ 1:040x}"
            raw.send(self.hub.peer_id, "foundPeers", [stranger])
            while raw.wait_for("handshake-offer")["to"] != stranger:
                pass
            answer = {"type": "handshake-answer", "data": {"ws": url, "wrtc": False}}
            for _ in range(5):
                raw.send_json(envelope(self.hub.peer_id, stranger, answer))
            listener.settimeout(EVENT_SECONDS)
            listener.accept()[0].close()
            listener.settimeout(1.5)
            self.assertRaises(TimeoutError, listener.accept)
        self.assert_links_work()

    def test_found_peers_flood(self) -> None:
        """Thousands of invented IDs do not fill the memory, are not all offered to, and do not keep real peers out."""
        raw = self.dial(self.hub).hello()
        before = self.own.counts()["rss"]
        for _ in range(1000):
            raw.send(self.hub.peer_id, "foundPeers", [os.urandom(20).hex() for _ in range(20)])
        offers = [
            frame
            for frame in raw.read_for(3.0)
            if isinstance(frame, dict) and frame.get("data", {}).get("type") == "handshake-offer"
        ]
        self.assertLess(len(offers), 50)
        self.assertLess(self.own.counts()["rss"] - before, 16 * MEBIBYTE)
        late = self.js.make("late", port=0, bootstrap=[self.near])
        self.hub.wait_linked(late, seconds=20)
        self.assert_links_work()

    def test_nonce_flood(self) -> None:
        """Many thousand envelopes with new nonces do not fill the memory, and others' duplicates are still seen."""
        raw, source, sink = (self.dial(self.hub).hello() for _ in range(3))
        sent = source.send(sink.peer_id, "user", "once")
        self.assertEqual(sink.wait_for("user")["nonce"], sent["nonce"])
        before = self.own.counts()["rss"]
        for _ in range(30_000):
            raw.send(self.hub.peer_id, "zebra")
        source.send_json(sent)
        source.send(sink.peer_id, "user", "twice")
        self.assertEqual(sink.wait_for("user")["data"]["data"], "twice")
        self.assertLess(self.own.counts()["rss"] - before, 32 * MEBIBYTE)
        self.assert_links_work()

    def test_not_reading(self) -> None:
        """What is sent to a peer that does not read is thrown away beyond a bound, and nobody else waits."""
        raw = self.dial(self.hub, receive_bytes=4096).hello()
        before = self.own.counts()["rss"]
        for number in range(1500):
            self.near.process.begin("send", peer="near", to=raw.peer_id, data=f"{number}" + "x" * 20_000)
        self.near.send(self.hub, "through")
        self.assertEqual(self.hub.next_message(), ("through", self.near.peer_id))
        self.assertLess(self.own.counts()["rss"] - before, 12 * MEBIBYTE)
        self.assert_links_work()


class LeafTests(OverlayTests):
    """One of ours at the package's hub, which passes on all that it can read."""

    def test_relayed_to_us(self) -> None:
        """Frames of a wrong shape that the package's hub passes on harm nobody of ours."""
        hub = self.js.make("hub", port=0)
        leaf = self.own.make("leaf", port=0, bootstrap=[hub])
        hub.wait_linked(leaf)
        raw = self.dial(hub).hello()
        names = [name for name in DELIVERED if name.startswith(("data", "no data", "find", "found", "answer"))]
        for frame in [*(DELIVERED[name] for name in names), *SIGNALS.values()]:
            raw.send_json(frame(leaf.peer_id, raw.peer_id))
        raw.send(leaf.peer_id, "user", "after")
        self.assertEqual(leaf.next_message(), ("after", raw.peer_id))
        leaf.wait_linked(hub)

    def test_not_packets(self) -> None:
        """A Socket of ours takes no harm from data of another form."""
        victim = self.own.make_socket("victim", port=0)
        sender = self.js.make("sender", port=0, bootstrap=[victim])
        sender.wait_linked(victim)
        for data in NON_PACKETS.values():
            sender.send(victim, data)
        packet = {"buffer": {"type": "Buffer", "data": [1, 2]}, "address": sender.peer_id, "port": 7}
        sender.send(victim, packet)
        self.assertEqual(victim.next_packet(), (b"\x01\x02", sender.peer_id, 7))
        self.assertEqual(victim.events("packet"), [])
