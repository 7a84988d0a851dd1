"""Any number of overlay peers in memory, on one virtual clock, from a seed; and peers that a test moves by hand.

::

    network = OverlayNetwork(seed=1)
    hub = network.add()
    leaf = network.add(bootstrap=[hub.url])
    network.run(2)

Each peer has alarms of its own, so that one can die without a word, see `OverlayNetwork.kill`. `RawPeer` speaks only
when it is told to, like npm's package or like nobody who means well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from meshrelay.background import Alarms
from meshrelay.overlay.identity import Identity
from meshrelay.overlay.interfaces import ILinkReceiver, IOverlayLink
from meshrelay.overlay.offers import Surroundings
from meshrelay.overlay.options import PeerOptions
from meshrelay.overlay.peer import OverlayPeer, PeerMessage
from meshrelay.testing.overlay_links import (
    MemoryDialler,
    MemoryGround,
    MemoryOverlayLink,
    MemoryWrtcMaker,
    Places,
)
from meshrelay.wire.overlay import (
    NO_EXTRAS,
    Answer,
    BadFrame,
    DataType,
    Envelope,
    decode_frame,
    decode_hello,
    encode_answer,
    encode_frame,
    encode_hello,
    encode_id,
    encode_ids,
    encode_value,
    new_envelope,
)

__all__ = ["NetworkPeer", "OverlayNetwork", "RawEnd", "RawPeer", "identity_of"]


def identity_of(number: int) -> Identity:
    """Return the same identity for the same number, always."""
    return Identity(number.to_bytes(32, "big"))


class NetworkPeer:
    """One peer, and what it told.

    :ivar url: where it listens; "": nowhere.
    :ivar linked: peers in the order in which it told of links.
    :ivar is_alive: False: it was killed.
    """

    def __init__(
        self,
        network: OverlayNetwork,
        identity: Identity,
        url: str,
        options: PeerOptions,
        is_wrtc: bool,
    ) -> None:
        self.identity = identity
        self.url = url
        self.options = options
        self.is_wrtc = is_wrtc
        self.alarms = Alarms(network.ground.clock)
        self.messages: list[PeerMessage] = []
        self.linked: list[bytes] = []
        self.is_alive = True
        wrtc = MemoryWrtcMaker(network.ground, network.attempts) if is_wrtc else None
        surroundings = Surroundings(self.alarms, MemoryDialler(network.places), wrtc, lambda: self.url)
        random = network.ground.random
        self.peer = OverlayPeer(identity, options, surroundings, random, random.randbytes)
        self.peer.on_message(self.messages.append)
        self.peer.on_peer(self.linked.append)

    @property
    def peer_id(self) -> bytes:
        """Its ID."""
        return self.identity.peer_id

    def accept(self, link: IOverlayLink) -> ILinkReceiver | None:
        """See `LinkOpened`."""
        return self.peer.accept(link) if self.is_alive else None

    def is_linked(self, other: NetworkPeer | RawPeer) -> bool:
        """Whether it has a link to another."""
        return other.peer_id in self.peer.channels

    def is_proved(self, other: NetworkPeer) -> bool:
        """Whether it has one to another that has proved its ID."""
        channel = self.peer.channels.get(other.peer_id)
        return channel is not None and channel.is_proved

    def send(self, to: NetworkPeer | RawPeer, data: Any) -> Deferred[None]:
        """See `OverlayPeer.send`."""
        return self.peer.send(to.peer_id, data)

    @property
    def data(self) -> list[Any]:
        """What came, in order."""
        return [message.data for message in self.messages]

    @property
    def statistics(self) -> Mapping[str, int]:
        """See `OverlayPeer.statistics`."""
        return self.peer.statistics()


class RawEnd:
    """One end of a link that a test moves by hand. Implements `ILinkReceiver`."""

    def __init__(self, peer: RawPeer) -> None:
        self.peer = peer
        self.link: IOverlayLink
        self.frames: list[bytes] = []
        #: Why it ended.
        self.lost: list[str] = []

    def opened(self, link: IOverlayLink) -> ILinkReceiver:
        """See `LinkOpened`."""
        self.link = link
        return self

    def frame_received(self, frame: bytes) -> None:
        """See `ILinkReceiver`."""
        self.frames.append(frame)
        if self.peer.answer is not None:
            self.peer.answer(self, frame)

    def link_lost(self, why: str) -> None:
        """See `ILinkReceiver`."""
        self.lost.append(why)

    @property
    def hellos(self) -> list[bytes]:
        """IDs that the other end said are its own."""
        found = []
        for frame in self.frames:
            try:
                found.append(decode_hello(frame))
            except BadFrame:
                continue
        return found

    def envelopes(self, kind: DataType | None = None) -> list[Envelope]:
        """Return those that came, of one type or of all."""
        found = []
        for frame in self.frames:
            try:
                envelope = decode_frame(frame)
            except BadFrame:
                continue
            if kind is None or envelope.type == kind:
                found.append(envelope)
        return found

    def say(self, frame: bytes) -> bool:
        """Send a frame."""
        return self.link.send(frame)

    def say_hello(self, peer_id: bytes | None = None) -> None:
        """Say who is there, or somebody else's ID."""
        self.say(encode_hello(self.peer.peer_id if peer_id is None else peer_id))

    def write(
        self,
        to: bytes,
        kind: str,
        data: bytes | None = None,
        *,
        sender: bytes | None = None,
        extras: Mapping[str, bytes] = NO_EXTRAS,
    ) -> Envelope:
        """Send an envelope.

        :param data: raw JSON.
        :param sender: somebody else.
        """
        sender = self.peer.peer_id if sender is None else sender
        envelope = new_envelope(to, sender, str(next(self.peer.nonces)), kind, data, extras)
        self.pass_on(envelope)
        return envelope

    def pass_on(self, envelope: Envelope) -> None:
        """Send an envelope as it is."""
        self.say(encode_frame(envelope, self.peer.peer_id))

    def write_user(self, to: bytes, data: Any, *, sender: bytes | None = None) -> Envelope:
        """Send a message, as npm's package does."""
        return self.write(to, DataType.USER, encode_value(data), sender=sender)

    def find_peers(self, to: bytes) -> None:
        """Ask for peers, as npm's package does when it has the other in its table."""
        self.write(to, DataType.FIND_PEERS, encode_id(self.peer.peer_id))

    def found_peers(self, to: bytes, peer_ids: Sequence[bytes]) -> None:
        """Name peers."""
        self.write(to, DataType.FOUND_PEERS, encode_ids(peer_ids))

    def answer(self, to: bytes, url: str | None, *, sender: bytes | None = None, wrtc: bool = False) -> None:
        """Answer an offer."""
        self.write(to, DataType.ANSWER, encode_answer(Answer(url, wrtc)), sender=sender)


class RawPeer:
    """Somebody whose ends a test moves by hand.

    :ivar answer: called with each end and each frame that came there.
    :ivar ends: in the order in which they opened.
    """

    def __init__(self, network: OverlayNetwork, identity: Identity, *, is_own: bool) -> None:
        self.network = network
        self.identity = identity
        self.is_own = is_own
        self.ends: list[RawEnd] = []
        self.answer: Callable[[RawEnd, bytes], object] | None = None
        self.nonces = network.nonces

    @property
    def peer_id(self) -> bytes:
        """Its ID, which it can prove if it wants to."""
        return self.identity.peer_id

    def listen(self, url: str) -> None:
        """Take links at a URL; each is a new end."""
        self.network.places.listen(url, self._accept, is_own=self.is_own)

    def _accept(self, link: IOverlayLink) -> ILinkReceiver:
        end = RawEnd(self)
        self.ends.append(end)
        return end.opened(link)

    def dial(self, url: str, *, is_own: bool | None = None) -> RawEnd:
        """Open a link; nothing is said on it.

        :param is_own: what the HTTP header says, if it is not the truth.
        """
        end = RawEnd(self)
        self.ends.append(end)
        dialler = MemoryDialler(self.network.places, is_own=self.is_own if is_own is None else is_own)
        dialler.dial(url, end.opened, end.lost.append, is_checked=False)
        self.network.run(0.05)
        return end

    def linked(self, url: str) -> RawEnd:
        """Open a link as npm's package does: both say who they are, and this end asks for peers."""
        end = self.dial(url)
        end.say_hello()
        self.network.run(0.05)
        for peer_id in end.hellos:
            end.find_peers(peer_id)
        self.network.run(0.05)
        return end


class OverlayNetwork:
    """See the module."""

    def __init__(self, seed: int = 0, latency_seconds: tuple[float, float] = (0.001, 0.01)) -> None:
        self.ground = MemoryGround(seed, latency_seconds)
        self.places = Places(self.ground)
        self.attempts: list[Any] = []
        self.peers: list[NetworkPeer] = []
        self.nonces = iter(range(10**12, 10**15))
        self._numbers = iter(range(1 + 1_000_000 * seed, 10**15))

    def add(
        self,
        *,
        bootstrap: Sequence[str] = (),
        listens: bool = True,
        is_wrtc: bool = False,
        is_started: bool = True,
        options: PeerOptions | None = None,
        identity: Identity | None = None,
    ) -> NetworkPeer:
        """Make a peer."""
        identity = identity or self.new_identity()
        url = f"ws://127.0.0.1:{10_000 + len(self.peers)}" if listens else ""
        options = (options or PeerOptions())._replace(bootstrap=tuple(bootstrap))
        return self._add(NetworkPeer(self, identity, url, options, is_wrtc), is_started)

    def _add(self, added: NetworkPeer, is_started: bool) -> NetworkPeer:
        self.peers.append(added)
        if added.url:
            self.places.listen(added.url, added.accept, is_own=True)
        if is_started:
            added.peer.start()
        return added

    def add_raw(self, *, is_own: bool = False, identity: Identity | None = None) -> RawPeer:
        """Make a peer that does nothing by itself."""
        return RawPeer(self, identity or self.new_identity(), is_own=is_own)

    def new_identity(self) -> Identity:
        """Return one that nobody has yet."""
        return identity_of(next(self._numbers))

    def kill(self, killed: NetworkPeer, *, is_silent: bool = False) -> None:
        """Let a peer die, as a process does.

        :param is_silent: as a machine does: the others hear nothing of it.
        """
        killed.is_alive = False
        killed.alarms.stop()
        self.places.stop_listening(killed.url)
        for channel in tuple(killed.peer.channels.values()):
            link = channel.link
            assert isinstance(link, MemoryOverlayLink)
            if is_silent:
                link.fall_silent()
            else:
                link.other.cut()

    def restart(self, killed: NetworkPeer, *, keeps_key: bool = True) -> NetworkPeer:
        """Start a peer that was killed anew, at its old place."""
        identity = killed.identity if keeps_key else self.new_identity()
        return self._add(NetworkPeer(self, identity, killed.url, killed.options, killed.is_wrtc), True)

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """See `MemoryGround.run`."""
        return self.ground.run(seconds, until)

    @property
    def open_links(self) -> list[MemoryOverlayLink]:
        """The dialler's end of each WebSocket that both ends think is open."""
        return [link for link in self.places.links if link.is_open and link.other.is_open]
