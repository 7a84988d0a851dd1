"""All relays of one peer: a home relay, at which others find it and which is kept up, and foreign ones as others need.

::

    open_conn(address, peer) --- address is that of home? --yes--> home --> RelayConn
                                          |
                                          no --> foreign: connected when first wanted, closed when nobody uses it

Two addresses are the same server when they are spellings of one URL, see `canonical_url`; a peer tells others the
instance URL that its home relay gave itself. Which of two peers' relays a pair uses is for the peers to agree on
elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from meshrelay.background import result_of, start
from meshrelay.relay.addresses import canonical_url
from meshrelay.relay.auth import RelayToken
from meshrelay.relay.errors import RelayClientNotConnected
from meshrelay.relay_client.client import LinkOpener, RelayClient
from meshrelay.relay_client.conn import RelayConn
from meshrelay.relay_client.dial import dial
from meshrelay.relay_client.errors import AlreadyServing
from meshrelay.relay_client.fallback import TransportFallback
from meshrelay.relay_client.foreign import ForeignRelays
from meshrelay.relay_client.guard import Guard
from meshrelay.relay_client.options import RelayOptions
from meshrelay.relay_client.picker import ServerPicker
from meshrelay.relay_client.token_store import TokenSource, TokenStore

__all__ = ["InstanceAddress", "RelayManager", "RelayState"]

CloseListener = Callable[[], object]


class InstanceAddress(NamedTuple):
    """Where others find this peer."""

    url: str
    #: Of the relay, as it is seen from here; it spares others the look-up. "" if it is not known.
    server_ip: str


class RelayState(NamedTuple):
    """One relay of the manager."""

    url: str
    #: "ws" or "quic"; "" when not connected.
    transport_name: str
    #: Why it is not connected.
    error: BaseException | None


class RelayManager:
    """See the module.

    :param urls: of the servers of which one becomes home; may be empty, and come later.
    :param name: of this peer.
    :param tokens: None: a `TokenStore` without a token; see `update_token`.
    :param opener: `meshrelay.relay_client.dial.dial`, or its twin of a test.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        urls: Iterable[str],
        name: str,
        tokens: TokenSource | None = None,
        options: RelayOptions | None = None,
        opener: LinkOpener = dial,
    ) -> None:
        self._reactor = reactor
        self._urls = tuple(urls)
        self._name = name
        self._tokens = tokens or TokenStore()
        self._options = options = options or RelayOptions()
        self._opener = opener
        self._fallback = TransportFallback(reactor.seconds)
        self._picker = ServerPicker(reactor, self._make_client, options)
        self._guard = Guard(reactor, self._pick, self._restored, options)
        self._foreign = ForeignRelays(reactor, self._make_client, options, self._listeners_of_foreign)
        self._home: RelayClient | None = None
        #: None: not serving yet.
        self._serving: Deferred[str] | None = None
        self._picking: Deferred[RelayClient] | None = None
        self._home_listeners: list[CloseListener] = []
        self._foreign_listeners: dict[str, list[CloseListener]] = {}
        self._reconnected: Callable[[], object] | None = None
        self._cleanup: IDelayedCall | None = None

    @property
    def server_urls(self) -> tuple[str, ...]:
        """The servers of which one is home."""
        return self._urls

    @property
    def has_relay_address(self) -> bool:
        """True: there are servers, which does not mean that one is connected."""
        return bool(self._urls)

    @property
    def is_ready(self) -> bool:
        """True: the home relay is connected."""
        return self._home is not None and self._home.is_connected

    @property
    def connect_error(self) -> BaseException | None:
        """Why there is no home relay, as far as it is known; None after a success."""
        return self._guard.last_error

    @property
    def relay_instance_address(self) -> InstanceAddress:
        """What to tell another peer, so that it can come to this one's home relay.

        :raises RelayClientNotConnected: there is none now.
        """
        home = self._connected_home()
        return InstanceAddress(home.server_instance_url, home.connected_ip)

    def serve(self) -> Deferred[str]:
        """Find a home relay, and keep one from now on.

        :returns: fires with its instance URL; fails with `NoRelayServer` when there is none at first, and the search
            goes on; fails with `AlreadyServing` when called twice, and with `RelayClientNotConnected` when closed
            meanwhile.
        """
        if self._serving is not None:
            return fail(AlreadyServing())
        served: Deferred[str] = Deferred()
        self._serving = served
        self._cleanup = self._reactor.callLater(self._options.cleanup_seconds, self._clean_up)
        self._picking = self._pick()
        self._picking.addCallbacks(self._first_home, self._no_first_home)
        return served

    def open_conn(
        self, address: str, peer: str, server_ip: str = "", timeout_seconds: float | None = None
    ) -> Deferred[RelayConn]:
        """Open a connection to a peer at a relay: the home relay, or a foreign one, which is connected if need be.

        :param address: instance URL of the peer's home relay, or of our own.
        :param server_ip: what the peer says is the address of its relay; tried before the name.
        :returns: see `RelayClient.open_conn`; fails with `RelayClientNotConnected` when there is no home relay now, and
            with `RelayConnectFailed` or `TooManyRelays` when the foreign one cannot be had. Cancelling does not end a
            connection to a foreign relay that is coming about: others may wait for it.
        """
        try:
            home = self._connected_home()
            # Raises as well in the moment in which the connection to it ends.
            is_home = canonical_url(address) == canonical_url(home.server_instance_url)
        except RelayClientNotConnected as error:
            return fail(error)
        if is_home:
            return home.open_conn(peer, timeout_seconds)
        return self._foreign.open_conn(address, peer, server_ip, timeout_seconds)

    def add_close_listener(self, address: str, listener: CloseListener) -> None:
        """Call back once when the connection to a relay is lost; the same listener twice is called once.

        It is not called when a foreign relay is closed for want of use.

        :param listener: what it raises is logged; a coroutine that it returns is run.
        :raises RelayClientNotConnected: there is no home relay now, or that foreign one is not in use.
        """
        place = canonical_url(address)
        if place == canonical_url(self._connected_home().server_instance_url):
            listeners = self._home_listeners
        elif place in self._foreign.addresses:
            listeners = self._foreign_listeners.setdefault(place, [])
        else:
            raise RelayClientNotConnected
        if listener not in listeners:
            listeners.append(listener)

    def on_reconnected(self, callback: Callable[[], object] | None) -> None:
        """Call back each time that a home relay is there again, or for the first time after a failed `serve`.

        There is one such callback; None = none.
        """
        self._reconnected = callback

    def update_server_urls(self, urls: Iterable[str]) -> None:
        """Use other servers when the home relay is lost; as long as it is there it stays."""
        self._urls = tuple(urls)

    def update_token(self, token: RelayToken | bytes | None) -> None:
        """Sign in with another token from the next connection on; None changes nothing.

        :raises ValueError: it is none, or the tokens come from somewhere else.
        """
        if not isinstance(self._tokens, TokenStore):
            raise ValueError("the tokens of this manager are not kept in a TokenStore")
        self._tokens.update(token)

    def relay_states(self) -> list[RelayState]:
        """Return what each relay is about: home first, then the foreign ones that are connected."""
        states = []
        home = self._home
        if home is not None and home.is_connected:
            states.append(RelayState(home.server_instance_url, home.transport_name, None))
        elif home is not None or self._serving is not None:
            error = self._guard.last_error or RelayClientNotConnected()
            states.append(RelayState("" if home is None else home.url, "", error))
        return states + [RelayState(url, client.transport_name, None) for url, client in self._foreign.connected()]

    def close(self) -> Deferred[None]:
        """Take leave of all relays; it cannot serve again.

        :returns: fires when the sockets are gone, a few seconds later at most; never fails.
        """
        self._guard.stop()
        if self._cleanup is not None and self._cleanup.active():
            self._cleanup.cancel()
        picking, self._picking = self._picking, None
        if picking is not None:
            picking.cancel()
        home, self._home = self._home, None
        self._home_listeners.clear()
        self._foreign_listeners.clear()
        gone = [self._foreign.close()]
        if home is not None:
            gone.append(home.close())
        return DeferredList(gone).addCallback(lambda _: None)

    def _make_client(self, url: str, server_ip: str = "") -> RelayClient:
        return RelayClient(
            self._reactor,
            url,
            self._name,
            self._tokens,
            self._options,
            server_ip=server_ip,
            fallback=self._fallback,
            opener=self._opener,
        )

    def _pick(self) -> Deferred[RelayClient]:
        return self._picker.pick(self._urls)

    def _connected_home(self) -> RelayClient:
        if self._home is None or not self._home.is_connected:
            raise RelayClientNotConnected
        return self._home

    def _first_home(self, client: RelayClient) -> None:
        self._picking = None
        self._adopt(client)
        assert self._serving is not None
        self._serving.callback(client.server_instance_url)

    def _no_first_home(self, failure: Failure) -> None:
        assert self._serving is not None
        if self._picking is None:
            self._serving.errback(RelayClientNotConnected())
            return
        self._picking = None
        self._guard.start(None, failure.value)
        self._serving.errback(failure)

    def _adopt(self, client: RelayClient) -> None:
        if client is not self._home:
            self._home = client
            client.on_disconnect(partial(self._home_lost, client))

    def _home_lost(self, client: RelayClient, url: str) -> None:
        if client is not self._home:
            return
        listeners, self._home_listeners = self._home_listeners, []
        self._guard.start(client if url in self._urls else None, RelayClientNotConnected())
        self._call(listeners)

    def _restored(self, client: RelayClient) -> None:
        self._adopt(client)
        if self._reconnected is not None:
            self._call([self._reconnected])

    def _listeners_of_foreign(self, address: str, is_lost: bool) -> None:
        listeners = self._foreign_listeners.pop(address, [])
        if is_lost:
            self._call(listeners)

    def _clean_up(self) -> None:
        self._cleanup = self._reactor.callLater(self._options.cleanup_seconds, self._clean_up)
        self._foreign.close_unused()

    def _call(self, listeners: Iterable[Callable[[], object]]) -> None:
        for listener in listeners:
            start(_run(listener), self._log, "a callback of the relay manager")


async def _run(listener: Callable[[], object]) -> None:
    await result_of(listener())
