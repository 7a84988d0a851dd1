"""The relays at which others are at home: connected when first wanted, shared, closed when nobody uses them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.python.failure import Failure

from meshrelay.relay.addresses import canonical_url
from meshrelay.relay_client.client import RelayClient
from meshrelay.relay_client.conn import RelayConn
from meshrelay.relay_client.errors import TooManyRelays
from meshrelay.relay_client.options import RelayOptions

__all__ = ["ForeignRelays", "RelayTrack"]


class MakeClient(Protocol):
    """Makes a client that is not connected."""

    def __call__(self, url: str, server_ip: str) -> RelayClient: ...


class RelayTrack:
    """One foreign relay.

    :ivar waiting: who wants it once it is connected; each is a call of the program.
    """

    __slots__ = ("client", "created_at", "waiting")

    def __init__(self, client: RelayClient, created_at: float) -> None:
        self.client = client
        self.created_at = created_at
        self.waiting: list[Deferred[None]] = []


class ForeignRelays:
    """See the module. None of them comes back by itself: who needs it opens a connection again.

    :param ended: called with the address of a relay that is no longer there, as `addresses` has it, and whether it was
        lost.
    """

    def __init__(
        self,
        reactor: Any,
        make_client: MakeClient,
        options: RelayOptions,
        ended: Callable[[str, bool], None],
    ) -> None:
        self._reactor = reactor
        self._make_client = make_client
        self._options = options
        self._ended = ended
        #: By `canonical_url`.
        self._tracks: dict[str, RelayTrack] = {}

    @property
    def addresses(self) -> frozenset[str]:
        """The relays that are connected, or being so; each as `canonical_url` spells it."""
        return frozenset(self._tracks)

    def connected(self) -> list[tuple[str, RelayClient]]:
        """Return the relays that are connected, each as it was dialled."""
        return [(track.client.url, track.client) for track in self._tracks.values() if track.client.is_connected]

    def open_conn(self, address: str, peer: str, server_ip: str, timeout_seconds: float | None) -> Deferred[RelayConn]:
        """See `RelayManager.open_conn`."""
        place = canonical_url(address)
        track = self._tracks.get(place)
        if track is not None and track.client.is_connected:
            return track.client.open_conn(peer, timeout_seconds)
        is_new = track is None
        if track is None:
            if len(self._tracks) >= self._options.max_foreign_relays:
                return fail(TooManyRelays(self._options.max_foreign_relays))
            track = RelayTrack(self._make_client(address, server_ip), self._reactor.seconds())
            self._tracks[place] = track
        opened = Deferred.fromCoroutine(self._wait_and_open(track, peer, timeout_seconds))
        if is_new:
            self._connect(place, track)
        return opened

    def close_unused(self) -> None:
        """Close what is connected, old enough and without connections to peers."""
        oldest = self._reactor.seconds() - self._options.cleanup_age_seconds
        for address, track in list(self._tracks.items()):
            if track.client.is_connected and track.created_at < oldest and not track.client.has_conns:
                del self._tracks[address]
                self._ended(address, False)
                track.client.close()

    def close(self) -> Deferred[None]:
        """Close all.

        :returns: fires when the sockets are gone; never fails.
        """
        tracks, self._tracks = self._tracks, {}
        gone = [track.client.close() for track in tracks.values()]
        return DeferredList(gone).addCallback(lambda _: None)

    def _connect(self, address: str, track: RelayTrack) -> None:
        track.client.on_disconnect(lambda _: self._forget(address, track))
        connected = track.client.connect()
        connected.addCallbacks(self._connected, self._failed, callbackArgs=(track,), errbackArgs=(address, track))

    async def _wait_and_open(self, track: RelayTrack, peer: str, timeout_seconds: float | None) -> RelayConn:
        if not track.client.is_connected:
            connected: Deferred[None] = Deferred(track.waiting.remove)
            track.waiting.append(connected)
            await connected
        return await track.client.open_conn(peer, timeout_seconds)

    def _connected(self, _: str, track: RelayTrack) -> None:
        waiting, track.waiting = track.waiting, []
        for connected in waiting:
            connected.callback(None)

    def _failed(self, failure: Failure, address: str, track: RelayTrack) -> None:
        self._forget(address, track)
        waiting, track.waiting = track.waiting, []
        for connected in waiting:
            connected.errback(failure)

    def _forget(self, address: str, track: RelayTrack) -> None:
        if self._tracks.get(address) is track:
            del self._tracks[address]
            self._ended(address, True)
