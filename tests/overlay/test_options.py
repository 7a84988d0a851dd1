"""What may be chosen for a peer."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.overlay import bootstraps, channel, conversations, handshakes, neighbourhood, outbox, paths, seen
from meshrelay.overlay.options import PeerOptions
from meshrelay.testing.overlay_network import OverlayNetwork
from meshrelay.transport import overlay_link, overlay_queue, overlay_webrtc
from meshrelay.wire import overlay as wire


class PeerOptionsTests(SynchronousTestCase):
    """See `PeerOptions`."""

    def test_defaults(self) -> None:
        """Without a choice JavaScript peers are taken, nobody is dialled, and there is room for all links wanted."""
        options = PeerOptions()
        self.assertEqual((options.bootstrap, options.accepts_unsigned), ((), True))
        self.assertLessEqual(options.wanted_links + options.wanted_own_links, options.max_links)

    def test_wanted_links(self) -> None:
        """A peer looks for so many links and no more; those that others open are taken beside them."""
        network = OverlayNetwork(3)
        options = PeerOptions(wanted_links=3, wanted_own_links=0)
        hub = network.add(options=options)
        others = [network.add(bootstrap=[hub.url], options=options) for _ in range(12)]
        network.run(20)
        self.assertEqual(len(hub.peer.channels), 12)
        outgoing = [sum(channel.link.is_outgoing for channel in other.peer.channels.values()) for other in others]
        self.assertLessEqual(max(outgoing), 3)

    def test_wanted_own_links(self) -> None:
        """Peers of our kind are looked for beside those."""
        network = OverlayNetwork(3)
        options = PeerOptions(wanted_links=1, wanted_own_links=64)
        hub = network.add(options=options)
        others = [network.add(bootstrap=[hub.url], options=options) for _ in range(8)]
        network.run(20)
        self.assertEqual({len(other.peer.channels) for other in others}, {8})


class NumbersTests(SynchronousTestCase):
    """Numbers that others count on; most tests take them from the code and would go along with any change."""

    def test_package(self) -> None:
        """Those of npm's package are its own, or fit what it bears."""
        self.assertEqual((wire.MAX_HOPS, wire.MAX_FOUND, wire.ID_BYTES), (20, 20, 20))
        self.assertEqual((wire.MAX_ENVELOPE_BYTES, overlay_link.MAX_FRAME_BYTES), (262_144, 262_144))
        self.assertEqual(wire.MAX_WRTC_BYTES, 250_000)
        self.assertEqual((neighbourhood.DEAF_SECONDS, channel.HELLO_SECONDS, channel.PATIENCE_SECONDS), (3, 5, 1))

    def test_documented(self) -> None:
        """Those of the documentation are what it says."""
        options = PeerOptions()
        self.assertEqual((options.wanted_links, options.wanted_own_links), (64, 64))
        self.assertEqual((options.link_frames_per_second, options.link_bytes_per_second), (5000, 16 * 1024 * 1024))
        self.assertEqual((channel.BAD_FRAMES, overlay_queue.MAX_WAITING_BYTES), (16, 1024 * 1024))
        self.assertEqual(
            (overlay_link.PING_SECONDS, overlay_link.DEAD_SECONDS, overlay_link.STALLED_SECONDS), (25, 60, 30)
        )
        self.assertEqual((outbox.MAX_MESSAGE_BYTES, outbox.MAX_WAITING, outbox.MAX_TRIES), (180_000, 1024, 9))
        self.assertEqual((outbox.MAX_WAITING_BYTES, outbox.MAX_WAITING_BYTES_IN_ALL), (4 << 20, 64 << 20))
        self.assertEqual((seen.MAX_NONCES, seen.NONCE_SECONDS), (100_000, 120))
        self.assertEqual((paths.MAX_PATHS, paths.PATH_SECONDS, conversations.MAX_PEERS), (50_000, 60, 10_000))
        self.assertEqual((handshakes.OFFER_SECONDS, outbox.LIFETIME_SECONDS), (10, 30))
        self.assertEqual((bootstraps.CAP_SECONDS, bootstraps.QUICK_CAP_SECONDS), (30, 3))
        self.assertEqual(overlay_webrtc.MAX_ATTEMPTS, 32)
