"""Addresses of relays: ``rel://host:port`` without and ``rels://host:port`` with TLS -> what is dialled, who it is.

=================  ========================================================================================
`instance_url`     what a server calls itself in AUTH_RESPONSE: *the* identity of a relay
`canonical_url`    what to compare: one text for all spellings of such a URL
`websocket_url`    where its WebSocket is; the path is always ``/relay``
`quic_place`       where its QUIC is
`with_host`        the same relay by an address that somebody else looked up
=================  ========================================================================================
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

__all__ = [
    "HostAndPort",
    "SubstitutedUrl",
    "canonical_url",
    "instance_url",
    "quic_place",
    "websocket_url",
    "with_host",
]

RELAY_PATH = "/relay"

#: Scheme of a relay -> scheme of its WebSocket, port if none is named.
_SCHEMES = {"rel": ("ws", 80), "rels": ("wss", 443)}


class HostAndPort(NamedTuple):
    """Where to dial."""

    #: Without brackets.
    host: str
    port: int


class SubstitutedUrl(NamedTuple):
    """The URL of a relay whose host is another one."""

    url: str
    #: Who must be on the certificate: the host that was there before; "" if that was an IP address itself.
    server_name: str


def instance_url(exposed_address: str, is_tls: bool) -> str:
    """Return what a server calls itself.

    :param exposed_address: what the operator wrote; the scheme may be left out.
    :param is_tls: this server itself has a certificate. A proxy may do TLS for one that has none.
    :raises ValueError: the operator's fault; the text says what is wrong.
    """
    if "://" not in exposed_address:
        exposed_address = f"{'rels' if is_tls else 'rel'}://{exposed_address}"
    scheme, _, rest = exposed_address.partition("://")
    if "://" in rest:
        raise ValueError(f"{exposed_address} has two schemes")
    if scheme not in _SCHEMES:
        raise ValueError(f"{exposed_address} does not begin with rel:// or rels://")
    if not rest:
        raise ValueError(f"{exposed_address} names no host")
    if scheme == "rel" and is_tls:
        raise ValueError(f"{exposed_address} says there is no TLS, but there is a certificate; use rels://")
    return exposed_address


def canonical_url(url: str) -> str:
    """Return the same text for all spellings of one URL; what is no URL of a relay stays as it is.

    The case of scheme and host, the port that the scheme means anyway, and the path, which nobody dials, do not matter.
    NetBird's client compares the texts as they come, and evicts itself where they differ.
    """
    try:
        parts = _split(url)
    except ValueError:
        return url
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    place = f"{host}:{parts.port or _SCHEMES[parts.scheme][1]}"
    return parts._replace(netloc=place, path="", fragment="").geturl()


def websocket_url(url: str) -> str:
    """Return the WebSocket URL of a relay: host, port and query as they are.

    :raises ValueError: it is no URL of a relay.
    """
    parts = _split(url)
    return parts._replace(scheme=_SCHEMES[parts.scheme][0], path=RELAY_PATH, fragment="").geturl()


def quic_place(url: str) -> HostAndPort:
    """Return where QUIC is spoken: the same port as the WebSocket's, over UDP.

    A path is passed over; NetBird's own client cannot dial such a URL by QUIC at all.

    :raises ValueError: it is no URL of a relay.
    """
    parts = _split(url)
    return HostAndPort(parts.hostname or "", parts.port or _SCHEMES[parts.scheme][1])


def with_host(url: str, address: str) -> SubstitutedUrl:
    """Return the URL with an IP address for its host.

    :param address: IPv4 or IPv6, without brackets; an IPv4 address inside an IPv6 one is unwrapped.
    :raises ValueError: one of the two cannot be used.
    """
    parts = _split(url)
    ip = ip_address(address)
    if ip.version == 6 and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    host = f"[{ip}]" if ip.version == 6 else str(ip)
    place = host if parts.port is None else f"{host}:{parts.port}"
    return SubstitutedUrl(parts._replace(netloc=place).geturl(), _name_of(parts.hostname or ""))


def _name_of(host: str) -> str:
    try:
        ip_address(host)
    except ValueError:
        return host
    return ""


def _split(url: str) -> SplitResult:
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES or "://" not in url:
        raise ValueError(f"{url} does not begin with rel:// or rels://")
    if not parts.hostname:
        raise ValueError(f"{url} names no host")
    if parts.port == 0:
        raise ValueError(f"{url} names port 0")
    return parts
