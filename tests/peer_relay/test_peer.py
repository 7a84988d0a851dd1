"""Tests of `meshrelay.peer_relay.peer`: whole peers on connections in memory."""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.overlay.peer import PeerMessage
from meshrelay.peer_relay import Identity, NotDelivered, NotLinked, PeerDestroyed, PeerOptions, PeerRelay, UnusableData
from tests.peer_relay.memory_sockets import SocketReactor

#: Nobody has it.
NOBODY = b"\x55" * 20


class PeerTestCase(SynchronousTestCase):
    """Peers in one memory."""

    def setUp(self) -> None:
        """No peers yet."""
        self.reactor = SocketReactor()

    def make(self, *bootstrap: PeerRelay, port: int | None = 0, **options: Any) -> PeerRelay:
        """A peer that listens, and has time to link with its bootstraps."""
        urls = [peer.url for peer in bootstrap]
        peer = PeerRelay(self.reactor, port=port, bootstrap=urls, **{"webrtc": False, **options})
        self.reactor.pass_time(0.5)
        return peer

    def heard(self, peer: PeerRelay) -> list[tuple[Any, bytes]]:
        """What it is told of messages from now on."""
        told: list[tuple[Any, bytes]] = []
        peer.on("message", lambda data, sender: told.append((data, sender)))
        return told

    def wait(self, deferred: Deferred[Any], seconds: float = 0.5) -> Any:
        """The result of what is there after that time."""
        self.reactor.pass_time(seconds)
        return self.successResultOf(deferred)


class MessageTests(PeerTestCase):
    """Sending and receiving."""

    def test_both_ways(self) -> None:
        """What one sends the other gets, with the ID of the sender, and the sender is told that it came."""
        hub = self.make()
        other = self.make(hub)
        for sender, target in ((hub, other), (other, hub)):
            told = self.heard(target)
            self.wait(sender.send(target.id, {"a": [1, None, "ü"]}))
            self.assertEqual(told, [({"a": [1, None, "ü"]}, sender.id)])

    def test_bytes(self) -> None:
        """Bytes come as Node's buffers do in JSON."""
        hub = self.make()
        other = self.make(hub)
        told = self.heard(hub)
        self.wait(other.send(hub.id, b"\x00\xff"))
        self.assertEqual(told[0][0], {"type": "Buffer", "data": [0, 255]})

    def test_relayed(self) -> None:
        """Two peers that only know the hub reach each other."""
        hub = self.make()
        first, last = self.make(hub, port=None), self.make(hub, port=None)
        told = self.heard(last)
        self.wait(first.send(last.id, "hello"), 1.5)
        self.assertEqual(told, [("hello", first.id)])
        self.assertEqual(first.peers, (hub.id,))

    def test_before_any_link(self) -> None:
        """What is sent before there is a link waits for one."""
        hub = self.make()
        told = self.heard(hub)
        other = PeerRelay(self.reactor, bootstrap=[hub.url], webrtc=False)
        sent = other.send(hub.id, "early")
        self.assertNoResult(sent)
        self.wait(sent)
        self.assertEqual(told, [("early", other.id)])

    def test_verified(self) -> None:
        """Between peers of this kind the sender's ID is proved."""
        hub = self.make()
        other = self.make(hub)
        told: list[PeerMessage] = []
        hub.on_message(told.append)
        self.wait(other.send(hub.id, 1))
        self.assertEqual(told, [PeerMessage(other.id, 1, is_verified=True)])

    def test_to_itself(self) -> None:
        """A peer can write to itself, linked or not."""
        peer = self.make()
        told = self.heard(peer)
        self.successResultOf(peer.send(peer.id, "me"))
        self.assertEqual(told, [("me", peer.id)])

    def test_nobody_there(self) -> None:
        """A message without any way to its peer fails after half a minute, and whoever did not ask is told nothing."""
        peer = self.make()
        sent = peer.send(NOBODY, "hello")
        peer.send_nowait(NOBODY, "hello")
        self.reactor.pass_time(29)
        self.assertNoResult(sent)
        self.reactor.pass_time(2)
        self.failureResultOf(sent, NotDelivered)

    def test_unusable(self) -> None:
        """What is no JSON, and what is no ID, is the caller's fault, and the text says what was wrong."""
        peer = self.make()
        for to, data, text in (
            (NOBODY, object(), "cannot be written as JSON"),
            (NOBODY, float("nan"), "JSON compliant"),
            (NOBODY, "x" * 200_000, "180000"),
            (b"short", "x", "20 bytes"),
            (NOBODY.hex(), "x", "20 bytes"),
        ):
            failure = self.failureResultOf(peer.send(to, data), UnusableData)  # type: ignore[arg-type]
            self.assertIn(text, str(failure.value))

    def test_ended_callback(self) -> None:
        """A callback that was ended is told nothing more, and others go on."""
        peer = self.make()
        kept = self.heard(peer)
        told: list[Any] = []
        end = peer.on("message", lambda data, sender: told.append(data))
        peer.send_nowait(peer.id, 1)
        end()
        peer.send_nowait(peer.id, 2)
        self.assertEqual(([data for data, _ in kept], told), ([1, 2], [1]))

    def test_unknown_event(self) -> None:
        """An event that does not exist is refused, with those that do."""
        self.assertRaisesRegex(ValueError, "message and peer", self.make().on, "massage", print)


class LinkTests(PeerTestCase):
    """Who is linked."""

    def test_peer_event(self) -> None:
        """Each end is told once who was linked."""
        hub = self.make()
        told: list[bytes] = []
        hub.on("peer", told.append)
        other = self.make(hub)
        self.reactor.pass_time(3)
        self.assertEqual(told, [other.id])
        self.assertEqual((hub.peers, other.peers), ((other.id,), (hub.id,)))
        self.assertEqual(list(hub.links), [other.id])

    def test_find_each_other(self) -> None:
        """Peers that can be dialled link to each other unasked, and need the hub no more."""
        hub = self.make()
        first, last = self.make(hub), self.make(hub)
        self.reactor.pass_time(3)
        self.assertEqual(set(first.peers), {hub.id, last.id})
        hub.destroy()
        told = self.heard(last)
        self.wait(first.send(last.id, "still here"))
        self.assertEqual(told, [("still here", first.id)])

    def test_connect(self) -> None:
        """A link is made when asked for, can be closed, stays so while nobody wants it, and can be made anew."""
        hub = self.make()
        options = PeerOptions(wanted_links=0, wanted_own_links=0)
        first, last = self.make(hub, options=options), self.make(hub, options=options)
        self.assertEqual(first.peers, (hub.id,))
        for opener, other in ((first, last), (last, first)):
            self.wait(opener.connect(other.id), 1)
            self.assertIn(other.id, opener.peers)
            self.successResultOf(opener.connect(other.id))
            self.assertTrue(first.disconnect(last.id))
            self.assertFalse(first.disconnect(last.id))
            self.reactor.pass_time(10)
            self.assertEqual((first.peers, last.peers), ((hub.id,), (hub.id,)))

    def test_not_linked(self) -> None:
        """A link to nobody fails after half a minute."""
        peer = self.make()
        linked = peer.connect(NOBODY)
        self.reactor.pass_time(31)
        self.failureResultOf(linked, NotLinked)

    def test_lost_hub(self) -> None:
        """A hub that ends and comes back is linked again, without a word of the program."""
        seed = b"s" * 32
        hub = self.make(port=7400, identity=Identity(seed))
        other = self.make(hub)
        self.wait(hub.destroy(), 5)
        self.assertEqual(other.peers, ())
        again = self.make(port=7400, identity=Identity(seed))
        self.reactor.pass_time(10)
        self.assertEqual(other.peers, (again.id,))

    def test_trace(self) -> None:
        """The way of another peer's messages is told, with the time of a round trip."""
        hub = self.make()
        first, last = self.make(hub, port=None), self.make(hub, port=None)
        self.reactor.pass_time(3)
        trace = self.wait(first.trace(last.id), 1)
        self.assertEqual(trace.path, (last.id, hub.id))
        self.assertGreaterEqual(trace.seconds, 0)

    def test_known_peers(self) -> None:
        """Peers that were heard of are known, linked or not; the peer itself is not among them."""
        hub = self.make()
        first, last = self.make(hub, port=None), self.make(hub, port=None)
        self.reactor.pass_time(3)
        self.assertEqual(set(last.known_peers()), {hub.id, first.id})

    def test_proof_wanted(self) -> None:
        """Peers that want proof of others accept each other."""
        options = PeerOptions(accepts_unsigned=False)
        hub = self.make(options=options)
        other = self.make(hub, options=options)
        self.reactor.pass_time(10)
        self.assertEqual(hub.peers, (other.id,))


class PlaceTests(PeerTestCase):
    """Where a peer is."""

    def test_url(self) -> None:
        """Others are told a URL by which they can dial; with all addresses it is the one that npm's package says."""
        for interface, url in (
            ("127.0.0.1", "ws://127.0.0.1:7400"),
            ("::1", "ws://[::1]:7400"),
            ("", "ws://localhost:7400"),
            ("0.0.0.0", "ws://localhost:7400"),
            ("::", "ws://localhost:7400"),
        ):
            peer = self.make(port=7400, interface=interface)
            self.assertEqual((interface, peer.url), (interface, url))
            self.wait(peer.destroy())

    def test_public_url(self) -> None:
        """Behind a proxy others are told the proxy's URL."""
        self.assertEqual(self.make(public_url="wss://peer.example/overlay").url, "wss://peer.example/overlay")

    def test_port(self) -> None:
        """Any free port is taken where 0 is asked for, and told; who does not listen has none, and no URL."""
        peer = self.make()
        self.assertEqual(list(self.reactor.open_ports), [peer.port])
        self.assertEqual(self.successResultOf(peer.listening()), peer.port)
        silent = self.make(port=None)
        self.assertEqual((silent.port, silent.url), (None, ""))

    def test_bad_urls(self) -> None:
        """A URL that is none is refused, with its text, and nothing is left behind."""
        for options in ({"bootstrap": ["http://x.example"]}, {"bootstrap": ["ws://"]}, {"public_url": "peer.example"}):
            url = str(options.get("public_url") or options["bootstrap"][0])
            with self.assertRaisesRegex(ValueError, re.escape(url)):
                PeerRelay(self.reactor, port=0, webrtc=False, **options)
        self.assertEqual((self.reactor.getDelayedCalls(), self.reactor.open_ports), ([], {}))

    def test_port_taken(self) -> None:
        """A port that somebody else has is an error, and nothing is left behind."""
        peer = self.make(port=7400)
        self.wait(peer.destroy())
        self.reactor.open_ports[7400] = None  # type: ignore[assignment]
        self.assertRaises(CannotListenError, PeerRelay, self.reactor, port=7400, webrtc=False)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_who_may_name_this_machine(self) -> None:
        """Strangers may have this machine dialled only if the peer is there itself, not behind a proxy or elsewhere."""
        for options, is_allowed in (
            ({"port": 0}, True),
            ({"port": 0, "public_url": "wss://peer.example"}, False),
            ({"port": None}, False),
            ({"port": 0, "interface": "192.0.2.1"}, False),
        ):
            peer = self.make(**options)
            self.assertEqual((options, peer._assembled.policy.allows("127.0.0.1")), (options, is_allowed))

    def test_identity(self) -> None:
        """An identity that is given is the peer's; without one each peer is somebody new."""
        identity = Identity(b"i" * 32)
        self.assertEqual(self.make(identity=identity).id, identity.peer_id)
        self.assertEqual(len({self.make().id for _ in range(3)}), 3)

    def test_without_webrtc(self) -> None:
        """Where WebRTC is wanted and the reactor cannot, the peer goes without it."""
        self.assertIsNone(self.make(webrtc=True)._assembled.wrtc)


class DestroyTests(PeerTestCase):
    """The end."""

    def test_all_is_gone(self) -> None:
        """The links are closed at both ends, the port is free, and nothing is left in the reactor."""
        hub = self.make()
        other = self.make(hub)
        self.wait(other.destroy(), 3)
        self.assertEqual(hub.peers, ())
        destroyed = hub.destroy()
        self.assertNoResult(destroyed)
        self.wait(destroyed, 3)
        self.assertEqual(self.reactor.open_ports, {})
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_while_it_dials(self) -> None:
        """A peer that dials can be destroyed, and nothing is left."""
        peer = PeerRelay(self.reactor, bootstrap=["ws://127.0.0.1:9"], webrtc=False)
        destroyed = peer.destroy()
        self.wait(destroyed)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_twice(self) -> None:
        """It can be destroyed twice, from anywhere."""
        peer = self.make()
        first, second = peer.destroy(), peer.destroy()
        self.wait(first)
        self.wait(second)
        self.successResultOf(peer.destroy())

    def test_what_waits(self) -> None:
        """What waits fails, and so does what is begun afterwards."""
        peer = self.make()
        waiting = [peer.send(NOBODY, "x"), peer.connect(NOBODY)]
        self.wait(peer.destroy())
        for deferred in (*waiting, peer.send(NOBODY, "x"), peer.connect(NOBODY), peer.trace(NOBODY)):
            self.failureResultOf(deferred, PeerDestroyed)
        peer.send_nowait(NOBODY, "x")
        self.assertEqual(peer.peers, ())

    def test_statistics(self) -> None:
        """Counts have the same names from the first moment to the last."""
        hub = self.make()
        names = set(hub.statistics())
        other = self.make(hub)
        self.wait(other.send(hub.id, 1))
        counts = hub.statistics()
        self.assertEqual((set(counts), counts["links"], counts["messages_delivered"]), (names, 1, 1))
        self.wait(hub.destroy(), 3)
        self.assertEqual(set(hub.statistics()), names)
