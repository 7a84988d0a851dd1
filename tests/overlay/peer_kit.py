"""What tests of whole peers share: peers on one clock, and others that are moved by hand and can prove who they are."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.overlay.identity import Identity
from meshrelay.overlay.options import PeerOptions
from meshrelay.overlay.signing import sign
from meshrelay.testing.overlay_network import NetworkPeer, OverlayNetwork, RawEnd, RawPeer
from meshrelay.wire.overlay import DataType, Envelope, new_envelope

__all__ = ["PeerCase", "challenges", "own_link_messages", "own_message", "prove"]


def own_link_messages(end: RawEnd) -> list[dict[str, Any]]:
    """What a peer said to another of its kind."""
    return [msgspec.json.decode(envelope.data or b"") for envelope in end.envelopes(DataType.HOLDINGS)]


def challenges(end: RawEnd) -> list[str]:
    """What it was asked to sign, in order."""
    return [message["challenge"] for message in own_link_messages(end) if "challenge" in message]


def own_message(end: RawEnd, to: bytes, message: object, signer: Identity | None = None) -> Envelope:
    """An envelope of what meshrelay peers say to each other; not sent yet."""
    data = message if isinstance(message, bytes) else msgspec.json.encode(message)
    envelope = new_envelope(to, end.peer.peer_id, str(next(end.peer.nonces)), DataType.HOLDINGS, data)
    return envelope if signer is None else sign(envelope, signer)


def prove(end: RawEnd, to: bytes, *, at: int = -1) -> None:
    """Answer a challenge, as who has the key."""
    end.pass_on(own_message(end, to, {"answer": challenges(end)[at]}, end.peer.identity))


class PeerCase(SynchronousTestCase):
    """One peer that listens, and others around it."""

    options = PeerOptions()

    def setUp(self) -> None:
        """A peer that has no bootstraps."""
        self.network = OverlayNetwork(1)
        self.hub = self.network.add(options=self.options)

    @property
    def url(self) -> str:
        """Where the peer listens."""
        return self.hub.url

    def raw(self, *, is_own: bool = False, identity: Identity | None = None) -> RawPeer:
        """Somebody who is moved by hand."""
        return self.network.add_raw(is_own=is_own, identity=identity)

    def own_end(self, peer: RawPeer) -> RawEnd:
        """A link of one that says it is meshrelay; hellos were exchanged, and it was asked for a proof."""
        end = peer.dial(self.url, is_own=True)
        end.say_hello()
        self.network.run(0.05)
        return end

    def proved_end(self, peer: RawPeer) -> RawEnd:
        """A link of one that has proved that it is meshrelay."""
        end = self.own_end(peer)
        prove(end, self.hub.peer_id)
        self.network.run(0.05)
        return end

    def run_on(self, seconds: float) -> None:
        """Let time pass."""
        self.network.run(seconds)

    def dropped(self, label: str) -> int:
        """How much the peer dropped for a reason."""
        return self.hub.peer.counters.dropped[label]

    def closed(self, label: str) -> int:
        """How many links the peer ended for a reason."""
        return self.hub.peer.counters.links_closed[label]

    def results(self, *deferreds: Deferred[Any]) -> list[Any]:
        """What they have fired with so far; of a failure the type."""
        fired: list[Any] = []
        for deferred in deferreds:
            deferred.addBoth(lambda result: fired.append(result.type if isinstance(result, Failure) else result))
        return fired

    def assert_one_link(self, first: NetworkPeer, second: NetworkPeer, why: str = "") -> None:
        """Two peers have one link, and both mean the same one."""
        ours, theirs = first.peer.channels[second.peer_id], second.peer.channels[first.peer_id]
        self.assertIs(getattr(ours.link, "other", None), theirs.link, why)
        between = [link for link in self.network.open_links if ours.link in (link, link.other)]
        self.assertEqual(len(between), 1, why)
