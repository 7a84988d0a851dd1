"""The URL of a relay -> a connection to it, over the transports that the options name, by whatever answers first.

``auto`` tries QUIC and WebSocket at once, ``prefer-...`` one after the other, a transport outright alone. If somebody
has said which IP address the server has, that address is tried before the name is looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any, NamedTuple

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, execute, fail
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.ssl import optionsForClientTLS

from meshrelay.relay.addresses import HostAndPort, quic_place, websocket_url, with_host
from meshrelay.relay_client.errors import NoRelayTransport, RelayConnectFailed
from meshrelay.relay_client.interfaces import RelayLink
from meshrelay.relay_client.options import RelayOptions, TransportMode, transports
from meshrelay.relay_client.race import Attempt, RaceFailed, race
from meshrelay.transport.trust_root import read_trust_root

__all__ = ["DIALERS", "Dialer", "Target", "dial", "dial_quic", "dial_websocket", "is_quic_installed"]


class Target(NamedTuple):
    """What is dialled."""

    url: str
    #: Who must be on the certificate; "": the host of the URL.
    server_name: str = ""


#: Connects by one transport. What it returns fails with whatever kept it from it; cancelling leaves nothing behind.
Dialer = Callable[[Any, Target, RelayOptions], "Deferred[RelayLink]"]


def is_quic_installed() -> bool:
    """Return whether the extra ``meshrelay[quic]`` is there."""
    return find_spec("aioquic") is not None


def dial_websocket(reactor: Any, target: Target, options: RelayOptions) -> Deferred[RelayLink]:
    """See `Dialer`."""
    # Here because a program may know relays without ever dialling one by WebSocket.
    from meshrelay.relay_client.websocket import open_relay_websocket

    url = websocket_url(target.url)
    place = quic_place(target.url)
    endpoint = _stream_endpoint(reactor, place, options.dial_seconds)
    if url.startswith("wss:"):
        root = None if options.ca_file is None else read_trust_root(options.ca_file)
        contexts = optionsForClientTLS(target.server_name or place.host, trustRoot=root)
        endpoint = wrapClientTLS(contexts, endpoint)
    opened: Deferred[Any] = open_relay_websocket(reactor, endpoint, url, options.client_name)
    return opened


def dial_quic(reactor: Any, target: Target, options: RelayOptions) -> Deferred[RelayLink]:
    """See `Dialer`."""
    # aioquic is an extra.
    from meshrelay.relay_client.quic import open_relay_quic

    place = quic_place(target.url)
    opened: Deferred[Any] = open_relay_quic(reactor, place, target.server_name or place.host, options.ca_file)
    return opened


DIALERS: Mapping[str, Dialer] = MappingProxyType({"quic": dial_quic, "ws": dial_websocket})


def dial(
    reactor: Any,
    url: str,
    options: RelayOptions,
    server_ip: str = "",
    is_fallback: bool = False,
    dialers: Mapping[str, Dialer] = DIALERS,
) -> Deferred[RelayLink]:
    """Connect to a relay.

    :param url: ``rel://`` or ``rels://``.
    :param server_ip: its address, if it is known; tried first.
    :param is_fallback: see `meshrelay.relay_client.options.transports`.
    :returns: fires with the link, whose `start` is to be called at once; fails with `RelayConnectFailed`. Cancelling
        it leaves nothing behind.
    """
    names = transports(options.transport, options.mtu, is_fallback)
    if options.transport is not TransportMode.QUIC and not is_quic_installed():
        names = tuple(name for name in names if name != "quic")
    names = tuple(name for name in names if name in dialers)
    if not names:
        return fail(NoRelayTransport(url))
    is_one_by_one = options.transport in (TransportMode.PREFER_QUIC, TransportMode.PREFER_WS)

    def begin(target: Target) -> Deferred[RelayLink]:
        attempts = [_attempt(reactor, name, dialers[name], target, options) for name in names]
        return race(attempts, 1 if is_one_by_one else len(attempts))

    async def run() -> RelayLink:
        ways: list[Attempt[RelayLink]] = []
        try:
            if server_ip:
                substituted = with_host(url, server_ip)
                target = Target(substituted.url, substituted.server_name)
                ways.append((f"by {server_ip}", lambda: begin(target)))
            ways.append(("by name", lambda: begin(Target(url))))
            return await (race(ways, 1) if server_ip else begin(Target(url)))
        except (RaceFailed, ValueError) as error:
            raise RelayConnectFailed(url, str(error)) from error

    return Deferred.fromCoroutine(run())


def _attempt(reactor: Any, name: str, dialer: Dialer, target: Target, options: RelayOptions) -> Attempt[RelayLink]:
    def begin() -> Deferred[RelayLink]:
        # What a dialer raises, a URL or a file that it cannot read, is a failure like others.
        opened: Deferred[Deferred[RelayLink]] = execute(dialer, reactor, target, options)
        link: Deferred[RelayLink] = opened.addCallback(lambda dialling: dialling)
        return link.addTimeout(options.dial_seconds, reactor)

    return name, begin


def _stream_endpoint(reactor: Any, place: HostAndPort, timeout: float) -> IStreamClientEndpoint:
    # HostnameEndpoint asks a thread even for addresses that need no look-up.
    if isIPAddress(place.host):
        return TCP4ClientEndpoint(reactor, place.host, place.port, timeout)
    if isIPv6Address(place.host):
        return TCP6ClientEndpoint(reactor, place.host, place.port, timeout)
    return HostnameEndpoint(reactor, place.host, place.port, timeout)
