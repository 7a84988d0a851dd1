"""Opens the UDP connection of a client: asks the HTTP port for an endpoint, and begins the SYN exchange with it."""

from __future__ import annotations

from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred

from meshrelay.client.address import NodeAddress
from meshrelay.client.endpoint import UdpEndpoint, fetch_udp_endpoint, http_agent
from meshrelay.client.errors import ConnectFailed
from meshrelay.client.identity import LinkTraits
from meshrelay.client.links import Credentials, Link, LinkReceiver
from meshrelay.client.options import ClientOptions
from meshrelay.client.udp_link import MAX_MESSAGE_BYTES, UdpLink, reliability_options
from meshrelay.machine.reliability import ReliabilityMachine
from meshrelay.wire.datagram import TO_NODE, PacketCodec, session_key

__all__ = ["make_udp_link", "open_udp_link"]

_MAX_SEQUENCE = (1 << 32) - 1


def make_udp_link(
    reactor: Any, receiver: LinkReceiver, endpoint: UdpEndpoint, host: str, options: ClientOptions
) -> UdpLink:
    """Return a link to an endpoint, not opened yet.

    :param host: the IP address of the endpoint.
    """
    codec = PacketCodec(endpoint.sid_bytes, session_key(*endpoint.secrets), TO_NODE)
    first_sequence = int(options.uniform(0, _MAX_SEQUENCE))
    machine = ReliabilityMachine(True, first_sequence, reliability_options(options.max_unsent_bytes))
    return UdpLink(reactor, receiver, codec, machine, (host, endpoint.server_port))


async def _open(
    reactor: Any, address: NodeAddress, receiver: LinkReceiver, credentials: Credentials, options: ClientOptions
) -> tuple[Link, LinkTraits]:
    if credentials.user is None:
        raise ConnectFailed(address.url, "UDP needs the name of the user")
    agent = http_agent(reactor, options)
    endpoint = await fetch_udp_endpoint(agent, address, credentials)
    host = endpoint.server_host
    if not (isIPAddress(host) or isIPv6Address(host)):
        host = await reactor.resolve(host)
    link = make_udp_link(reactor, receiver, endpoint, host, options)
    link.open()
    return link, LinkTraits(True, MAX_MESSAGE_BYTES, options.connect_timeout_seconds)


def open_udp_link(
    reactor: Any, address: NodeAddress, receiver: LinkReceiver, credentials: Credentials, options: ClientOptions
) -> Deferred[tuple[Link, LinkTraits]]:
    """Ask for an endpoint and open a socket.

    :returns: fires with the link before anything came on it; fails with `ConnectFailed`, `SignInRefused` or what the
        HTTP client says.
    """
    return Deferred.fromCoroutine(_open(reactor, address, receiver, credentials, options))
