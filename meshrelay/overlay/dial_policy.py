"""Which places may be dialled because a stranger named them.

An answer to an offer carries a URL, and what is at a URL is somebody's server: the metadata service of a cloud, a
router's web page, a database that trusts its own machine. Two questions are asked, and both must be answered well:
`DialPolicy.usable_url` of the text, before anything is looked up, and `DialPolicy.allows` of each address that the name
turned out to have, by whoever connects, which then connects to that very address.

======== ==================================================== =====================================================
scope    addresses                                            dialled
======== ==================================================== =====================================================
public   what is routed in the internet                       always
private  10/8, 172.16/12, 192.168/16, 100.64/10, fc00::/7     if a place of our own is private or loopback
loopback 127/8, ::1                                           if a place of our own is loopback
none     link-local, multicast, unspecified, reserved, cloud  never
         metadata
======== ==================================================== =====================================================

Networks in the configuration are dialled whatever the table says. Source of the ranges: the IANA special-purpose
registries, as `ipaddress` has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

__all__ = ["MAX_URL_CHARACTERS", "DialPolicy", "Scope", "scope_of"]

#: Longer URLs are refused.
MAX_URL_CHARACTERS = 2_048

_Address = IPv4Address | IPv6Address
_Network = IPv4Network | IPv6Network

_PRIVATE = tuple(map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")))
#: Addresses at which a cloud tells its machines their secrets, and which are in no range that is refused anyway:
#: Azure, Alibaba, AWS, Google.
_METADATA = frozenset(map(ip_address, ("168.63.129.16", "100.100.100.200", "fd00:ec2::254", "fd20:ce::254")))
#: For protocols and examples; `ipaddress` knows these or not, depending on its age. Oracle's metadata is in the first.
_SPECIAL = tuple(map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "3fff::/20")))
#: The last 32 bits of these are an IPv4 address that a translator connects to.
_NAT64 = IPv6Network("64:ff9b::/96")
#: All IPv6 that is routed in the internet.
_GLOBAL_UNICAST = IPv6Network("2000::/3")

_PRINTABLE = re.compile(r"[!-\[\]-~]+")
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")
#: What a resolver may take for a number: 127.1, 2130706433, 0x7f.1, 0177.0.0.1.
_NUMBER = re.compile(r"([0-9]+|0x[0-9a-f]*)")
_LOOPBACK_NAMES = frozenset({"localhost", "localhost.localdomain", "localhost6", "ip6-localhost", "ip6-loopback"})


class Scope(IntEnum):
    """How far an address reaches."""

    LOOPBACK = 0
    PRIVATE = 1
    PUBLIC = 2


def scope_of(address: str) -> Scope | None:
    """Tell how far an address reaches.

    :param address: an IP address; IPv6 with or without brackets.
    :returns: None for what is no address, and for one that nobody has a reason to name.
    """
    parsed = _parse(address)
    return None if parsed is None else _scope(parsed)


class DialPolicy:
    """What may be dialled. Says nothing of names: those are dialled if all their addresses may be.

    :param networks: always allowed.
    :param own_places: addresses, host names or URLs that we listen on, bootstrap through or are known by. The one that
        reaches least far decides; unspecified addresses and names other than localhost say nothing.
    """

    def __init__(self, networks: Iterable[_Network] = (), own_places: Iterable[str] = ()) -> None:
        self._networks = tuple(networks)
        self._nearest = Scope.PUBLIC
        for place in own_places:
            self.add_own_place(place)

    @property
    def nearest(self) -> Scope:
        """The nearest scope that is dialled."""
        return self._nearest

    def add_own_place(self, place: str) -> None:
        """Add a place of our own, for example the address that the name of a bootstrap has."""
        host = urlsplit(place).hostname or "" if "://" in place else place
        host = _bare(host.lower())
        scope = Scope.LOOPBACK if _is_loopback_name(host.removesuffix(".")) else scope_of(host)
        if scope is not None:
            self._nearest = min(self._nearest, scope)

    def allows(self, address: str) -> bool:
        """Whether an address may be dialled.

        :param address: what a look-up returned. What is no address is not allowed.
        """
        parsed = _parse(address)
        if parsed is None:
            return False
        if any(parsed in network for network in self._networks):
            return True
        scope = _scope(parsed)
        return scope is not None and scope >= self._nearest

    def usable_url(self, url: str, known_address: str | None) -> str | None:
        """Turn a URL that a peer said of itself into one that may be dialled, its addresses permitting.

        Peers of the JavaScript package always say ``ws://localhost:<port>``. That is right on one machine only: if we
        see the peer elsewhere, or do not dial loopback, its address takes the place of the host.

        :param known_address: the address of the peer's link as we see it, without port; None: there is no such link.
        :returns: None: not a URL, not a WebSocket, or a place that is not dialled.
        """
        place = _read(url)
        if place is None:
            return None
        host = place.host
        if place.is_loopback:
            known = _parse(known_address) if known_address else None
            if known is not None and not known.is_loopback:
                host = str(known)
            elif not self.allows("127.0.0.1"):
                return None
        if _parse(host) is not None and not self.allows(host):
            return None
        return place.with_host(host)


class _UrlPlace(NamedTuple):
    host: str
    is_loopback: bool
    parts: SplitResult

    def with_host(self, host: str) -> str:
        """The URL with another host."""
        netloc = f"[{host}]" if ":" in host else host
        if self.parts.port is not None:
            netloc += f":{self.parts.port}"
        # Not every reader ends the host at a question mark.
        path = "/" if self.parts.query and not self.parts.path else self.parts.path
        return self.parts._replace(netloc=netloc, path=path).geturl()


def _read(url: str) -> _UrlPlace | None:
    """Take a URL apart; None if it is not one that says plainly where it leads."""
    # urlsplit drops tabs and line ends, and others read a backslash as a slash: both say one thing and mean another.
    if len(url) > MAX_URL_CHARACTERS or not _PRINTABLE.fullmatch(url) or "#" in url:
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("ws", "wss") or "@" in parts.netloc or port == 0 or not parts.hostname:
        return None
    if parts.netloc.startswith("["):
        literal = _parse(parts.hostname)
        return None if literal is None else _UrlPlace(str(literal), literal.is_loopback, parts)
    host = parts.hostname.removesuffix(".")
    if not _NAME.fullmatch(host):
        return None
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        literal = _parse(parts.hostname)
        return None if literal is None else _UrlPlace(str(literal), literal.is_loopback, parts)
    return _UrlPlace(host, _is_loopback_name(host), parts)


def _is_loopback_name(host: str) -> bool:
    return host in _LOOPBACK_NAMES or host.endswith(".localhost")


def _bare(host: str) -> str:
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def _parse(address: str) -> _Address | None:
    """Read an address; IPv6 that the system itself takes for IPv4 becomes IPv4."""
    try:
        parsed = ip_address(_bare(address))
    except ValueError:
        return None
    if isinstance(parsed, IPv4Address):
        return parsed
    # A zone names a network card of one machine; a stranger has no business with those.
    return None if parsed.scope_id else parsed.ipv4_mapped or parsed


def _scope(address: _Address) -> Scope | None:
    if address.is_loopback:
        return Scope.LOOPBACK
    # The rest of what is never dialled is not global, but multicast is, where it says so.
    if address in _METADATA or address.is_multicast or any(address in network for network in _SPECIAL):
        return None
    if any(address in network for network in _PRIVATE):
        return Scope.PRIVATE
    if isinstance(address, IPv4Address):
        return Scope.PUBLIC if address.is_global else None
    inside = IPv4Address(int(address) & 0xFFFF_FFFF) if address in _NAT64 else address.sixtofour
    if inside is not None:
        # Somebody far away will connect to the address inside, and only public ones mean the same there.
        return Scope.PUBLIC if _scope(inside) is Scope.PUBLIC else None
    return Scope.PUBLIC if address in _GLOBAL_UNICAST and address.is_global else None
