"""Where this machine is inside its own network: what peers behind the same NAT reach it by."""

from __future__ import annotations

from collections.abc import Iterable

import ifaddr

from meshrelay.wire.addresses import UdpAddress, make_address, usable_addresses
from meshrelay.wire.link_commands import MAX_LOCAL_ADDRESSES

__all__ = ["local_addresses", "local_hosts"]


def local_hosts() -> list[str]:
    """Return the IP addresses of all network devices, in the order of the system."""
    ips = (ip for adapter in ifaddr.get_adapters() for ip in adapter.ips)
    return [ip.ip if isinstance(ip.ip, str) else ip.ip[0] for ip in ips]


def local_addresses(
    hosts: Iterable[str], port: int, is_v6: bool, allow_private: bool = True, allow_loopback: bool = False
) -> list[UdpAddress]:
    """Return where a socket that listens on all of `hosts` is reached, as far as peers may be told.

    :param is_v6: of which IP version the socket is.
    :returns: `MAX_LOCAL_ADDRESSES` at most.
    """
    addresses = [make_address(host, port) for host in hosts if (":" in host) is is_v6 and "%" not in host]
    return usable_addresses(addresses, allow_private, allow_loopback)[:MAX_LOCAL_ADDRESSES]
