"""What may be chosen for a peer."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.overlay.options import PeerOptions
from meshrelay.testing.overlay_network import OverlayNetwork


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
