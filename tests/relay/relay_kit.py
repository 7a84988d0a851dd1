"""A relay server in memory: links that keep what they were given, and time that stands still."""

from __future__ import annotations

from zope.interface import implementer

from meshrelay.relay.auth import AnyToken, TokenCheck
from meshrelay.relay.counters import RelayCounters
from meshrelay.relay.interfaces import IRelayElsewhere, IRelayLink
from meshrelay.relay.server import RelayClocks, RelayPeer, RelayServer, RelayServerLimits
from meshrelay.relay.server_machine import ServerOptions
from meshrelay.wire.relay import MAX_MESSAGE_BYTES, encode_auth, peer_id_of

__all__ = ["URL", "MemoryElsewhere", "MemoryRelayLink", "RelayWorld"]

URL = "rel://127.0.0.1:50001"


@implementer(IRelayLink)
class MemoryRelayLink:
    """Keeps what is sent. A slow one drops what it is offered."""

    def __init__(self, transport_name: str = "ws", max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self.transport_name = transport_name
        self.max_message_bytes = max_message_bytes
        self.remote_address = "192.0.2.1:4000"
        self.sent: list[bytes] = []
        self.is_slow = False
        #: "", "close" or "abort": how it ended.
        self.ended = ""

    def offer(self, message: bytes) -> bool:
        """See `IRelayLink`."""
        if self.is_slow:
            return False
        self.sent.append(message)
        return True

    def send(self, message: bytes) -> None:
        """See `IRelayLink`."""
        self.sent.append(message)

    def close(self) -> None:
        """See `IRelayLink`."""
        self.ended = self.ended or "close"

    def abort(self) -> None:
        """See `IRelayLink`."""
        self.ended = "abort"

    def take(self) -> list[bytes]:
        """Return what was sent since the last time."""
        sent, self.sent = self.sent, []
        return sent


@implementer(IRelayElsewhere)
class MemoryElsewhere:
    """Another node that has some peers."""

    def __init__(self) -> None:
        self.peers: set[bytes] = set()
        self.calls: list[tuple[str, object]] = []

    def forward(self, destination: bytes, message: bytes) -> bool:
        """See `IRelayElsewhere`."""
        self.calls.append(("forward", message))
        return destination in self.peers

    def peer_registered(self, peer_id: bytes) -> None:
        """See `IRelayElsewhere`."""
        self.calls.append(("registered", peer_id))

    def peer_unregistered(self, peer_id: bytes) -> None:
        """See `IRelayElsewhere`."""
        self.calls.append(("unregistered", peer_id))

    def peers_watched(self, peer_ids: list[bytes]) -> None:
        """See `IRelayElsewhere`."""
        self.calls.append(("watched", peer_ids))

    def peers_unwatched(self, peer_ids: list[bytes]) -> None:
        """See `IRelayElsewhere`."""
        self.calls.append(("unwatched", peer_ids))

    def take(self) -> list[tuple[str, object]]:
        """Return the calls since the last time."""
        calls, self.calls = self.calls, []
        return calls


class RelayWorld:
    """One server whose time is `now`, monotonic and of the day."""

    def __init__(
        self,
        tokens: TokenCheck | None = None,
        limits: RelayServerLimits | None = None,
        elsewhere: IRelayElsewhere | None = None,
    ) -> None:
        self.now = 0.0
        self.scheduled = 0
        self.counters = RelayCounters()
        self.server = RelayServer(
            ServerOptions(URL),
            tokens or AnyToken(),
            RelayClocks(lambda: self.now, lambda: self.now),
            self._schedule,
            self.counters,
            limits,
            elsewhere,
        )

    def _schedule(self) -> None:
        self.scheduled += 1

    def connect(self, link: MemoryRelayLink | None = None) -> tuple[RelayPeer, MemoryRelayLink]:
        """Return a connection that has said nothing yet."""
        link = link or MemoryRelayLink()
        return self.server.accept(link), link

    def sign_in(self, name: str, link: MemoryRelayLink | None = None) -> tuple[RelayPeer, MemoryRelayLink]:
        """Return a connection that is signed in under a name; what it was sent for that is taken away."""
        peer, link = self.connect(link)
        peer.message_received(encode_auth(peer_id_of(name), b""))
        link.take()
        return peer, link

    def end_turn(self) -> None:
        """Do what was scheduled."""
        if self.scheduled:
            self.scheduled = 0
            self.server.flush()
