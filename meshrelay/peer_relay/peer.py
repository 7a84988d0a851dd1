"""`PeerRelay`: a peer of the overlay in a program of one's own, with the names of npm's package.

::

    peer = PeerRelay(reactor, port=7400, bootstrap=["ws://127.0.0.1:7401"])
    peer.on("message", lambda data, sender: print(sender.hex(), data))
    peer.send(other_id, {"hello": "world"})

Source: npm peer-relay 0.0.2 and its README.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from random import SystemRandom
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from meshrelay.background import Alarms, start
from meshrelay.fanout.turn import Turn
from meshrelay.overlay.channel import Channel
from meshrelay.overlay.identity import Identity
from meshrelay.overlay.options import PeerOptions
from meshrelay.overlay.peer import PeerMessage
from meshrelay.overlay.traces import Trace
from meshrelay.peer_relay.assembly import Ground, SocketOptions, assemble
from meshrelay.transport.overlay_webrtc_link import WrtcOptions
from meshrelay.wire.overlay import is_socket_url

__all__ = ["PeerRelay"]


class PeerRelay:
    """One peer, alive from now on until `destroy`.

    :param reactor: listens, dials and keeps the time.
    :param port: where a WebSocket server listens, 0 = any free port; None = none, then others reach this peer by links
        that it opened, or by WebRTC.
    :param bootstrap: WebSocket URLs of peers that are in the overlay already.
    :param webrtc: True, or how: links by WebRTC, where the extra ``webrtc`` is installed and the reactor is that of
        asyncio. False: none.
    :param interface: the address to listen on.
    :param public_url: the URL by which others dial this peer; "" = made of interface and port.
    :param identity: who this peer is; None = somebody new. `Identity.load_or_create` keeps one in a file.
    :param options: limits and policies; its bootstraps are those above.
    :raises ValueError: a URL is none.
    :raises twisted.internet.error.CannotListenError: the port is taken.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        *,
        port: int | None = None,
        bootstrap: Sequence[str] = (),
        webrtc: bool | WrtcOptions = True,
        interface: str = "127.0.0.1",
        public_url: str = "",
        identity: Identity | None = None,
        options: PeerOptions | None = None,
    ) -> None:
        for url in (*bootstrap, *filter(None, (public_url,))):
            if not is_socket_url(url):
                raise ValueError(f"{url} is no WebSocket URL: ws://host:port or wss://host:port")
        self._reactor = reactor
        self._interface = interface
        self._public_url = public_url
        self._listening: IListeningPort | None = None
        self._alarms = Alarms(reactor)
        ground = Ground(reactor, Turn(reactor), self._alarms, SystemRandom(), secrets.token_bytes)
        wrtc = webrtc if isinstance(webrtc, WrtcOptions) else WrtcOptions() if webrtc else None
        # Who has a public URL may listen on this machine for a proxy only.
        own_places = (public_url or interface,) if port is not None else ()
        sockets = SocketOptions(self._url, own_places, wrtc)
        identity = identity or Identity.new(secrets.token_bytes)
        peer_options = (options or PeerOptions())._replace(bootstrap=tuple(bootstrap))
        self._assembled = assemble(ground, identity, peer_options, sockets)
        self._peer = self._assembled.peer
        self._destroyed: Deferred[None] | None = None
        if port is not None:
            self._listening = reactor.listenTCP(port, self._assembled.factory, interface=interface)
        self._peer.start()

    @property
    def id(self) -> bytes:
        """This peer's ID, 20 bytes. It is a hash of its public key."""
        return self._peer.peer_id

    @property
    def port(self) -> int | None:
        """Where it listens; None: it does not."""
        return None if self._listening is None else getattr(self._listening.getHost(), "port", None)

    @property
    def url(self) -> str:
        """The URL by which others dial this peer, or ""."""
        return self._url()

    def _url(self) -> str:
        if self._public_url or self._listening is None:
            return self._public_url
        host = f"[{self._interface}]" if ":" in self._interface else self._interface
        # With all addresses nobody knows which one the others see; they put in the one that they do.
        host = "localhost" if host in ("", "0.0.0.0", "[::]") else host
        return f"ws://{host}:{self.port}"

    @property
    def peers(self) -> tuple[bytes, ...]:
        """IDs of the peers that are linked now."""
        return tuple(self._peer.channels)

    def listening(self) -> Deferred[int | None]:
        """Fire with the port once it listens, which it does already."""
        return succeed(self.port)

    def connect(self, peer_id: bytes) -> Deferred[None]:
        """Link with a peer; see `meshrelay.overlay.peer.OverlayPeer.connect`."""
        return self._peer.connect(peer_id)

    def disconnect(self, peer_id: bytes) -> bool:
        """Close the link to a peer. False: there is none."""
        return self._peer.disconnect(peer_id)

    def send(self, peer_id: bytes, data: Any) -> Deferred[None]:
        """Send what JSON has to any peer; see `meshrelay.overlay.peer.OverlayPeer.send`.

        What is sent before there is a link waits for one, 30 s at most.
        """
        return self._peer.send(peer_id, data)

    def send_nowait(self, peer_id: bytes, data: Any) -> None:
        """Send, and do not ask what became of it."""
        self._peer.send(peer_id, data).addErrback(lambda _: None)

    def trace(self, peer_id: bytes) -> Deferred[Trace]:
        """Find out which way messages of another peer come, and how long they take."""
        return self._peer.trace(peer_id)

    def known_peers(self, count: int = 1000) -> list[bytes]:
        """Return peers that were heard of, linked or not, nearest to this one first; some may be gone."""
        return self._peer.known_peers(count)

    @property
    def links(self) -> Mapping[bytes, Channel]:
        """The links that are open now, by the ID of the other end."""
        return self._peer.channels

    def on(self, event: str, callback: Callable[..., object]) -> Callable[[], None]:
        """Call `callback` with each event of that name from now on.

        ============  ======================================================================
        ``message``   (data, sender's ID): a message for this peer
        ``peer``      (ID): a peer was linked
        ============  ======================================================================

        :returns: ends it.
        :raises ValueError: there is no such event.
        """
        if event == "message":
            return self._peer.on_message(lambda message: callback(message.data, message.sender))
        if event == "peer":
            return self._peer.on_peer(callback)
        raise ValueError(f"no event {event}: there are message and peer")

    def on_message(self, callback: Callable[[PeerMessage], object]) -> Callable[[], None]:
        """As ``on("message", ...)``; the message also says whether its sender has proved its ID."""
        return self._peer.on_message(callback)

    def statistics(self) -> dict[str, int]:
        """Sizes and counts, for whoever watches the peer; the same keys at each call."""
        return dict(self._peer.statistics())

    def destroy(self) -> Deferred[None]:
        """Close all links and the port.

        :returns: fires when the port is free again. A second call gives the same.
        """
        if self._destroyed is None:
            self._destroyed = start(self._destroy(), self._log, "the end of a peer")
        done: Deferred[None] = Deferred()
        self._destroyed.addCallback(lambda _: done.callback(None))
        return done

    async def _destroy(self) -> None:
        if self._listening is not None:
            await maybeDeferred(self._listening.stopListening)
            self._assembled.factory.stop()
        await self._peer.stop()
        if self._assembled.wrtc is not None:
            await self._assembled.wrtc.stop()
        self._alarms.stop()
