"""Addresses of UDP sockets that peers are told: "ip:port" to values and back, and which of them may be used.

Whoever is told an address sends packets to it, so an address is a way to make somebody else's machine speak to places
that only that machine reaches. Hence nothing but plain unicast addresses pass: what is loopback, link-local, multicast,
broadcast, unspecified, reserved, or the place where clouds answer with their secrets is refused by `check_address`.
An IPv6 address that carries an IPv4 one inside (mapped, 6to4, Teredo, NAT64) is judged by that one.

Private addresses are good between two clients of one network and nothing to anybody else; who hands them on decides by
`UdpAddress.is_private`. Ranges for documentation count as public: nobody has them, and laboratories need addresses.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, unique
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NamedTuple

__all__ = [
    "MAX_ADDRESS_BYTES",
    "AddressKind",
    "UdpAddress",
    "check_address",
    "make_address",
    "parse_address",
    "usable_addresses",
]

#: The longest text of an address has 47 characters: an IPv6 address in brackets, a colon, five digits.
MAX_ADDRESS_BYTES = 64

_MAX_PORT = 65535


@unique
class AddressKind(Enum):
    """What an address is good for; the value is for the eyes of people."""

    PUBLIC = "public"
    PRIVATE = "private"
    LOOPBACK = "loopback"
    UNSPECIFIED = "unspecified"
    LINK_LOCAL = "link-local"
    MULTICAST = "multicast"
    BROADCAST = "broadcast"
    METADATA = "cloud metadata"
    RESERVED = "reserved"


#: Where clouds tell a machine its credentials: AWS, GCP and most others; AWS containers; Alibaba; Azure; Oracle; then
#: the same of AWS and GCP over IPv6.
_METADATA = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",
        "169.254.170.2",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd20:ce::254",
    )
)

#: The first match counts.
_RANGES = tuple(
    (ip_network(text), kind)
    for kind, texts in (
        (AddressKind.LOOPBACK, "127.0.0.0/8 ::1/128"),
        (AddressKind.UNSPECIFIED, "0.0.0.0/8 ::/128"),
        (AddressKind.LINK_LOCAL, "169.254.0.0/16 fe80::/10"),
        (AddressKind.BROADCAST, "255.255.255.255/32"),
        (AddressKind.MULTICAST, "224.0.0.0/4 ff00::/8"),
        (AddressKind.RESERVED, "240.0.0.0/4 192.0.0.0/24 ::/96 100::/64"),
        (AddressKind.PRIVATE, "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 fc00::/7 fec0::/10"),
    )
    for text in texts.split()
)

_NAT64 = ip_network("64:ff9b::/96")
_LOW_32_BITS = 0xFFFFFFFF


class UdpAddress(NamedTuple):
    """One UDP socket, as others reach it. Made by `parse_address` and `make_address`, its host is in canonical form."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def kind(self) -> AddressKind:
        """What the host is."""
        return _kind_of(ip_address(self.host))

    @property
    def is_private(self) -> bool:
        """Whether it means something inside one network only."""
        return self.kind is AddressKind.PRIVATE


def _inner(ip: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that packets to `ip` end at."""
    if ip in _NAT64:
        return IPv4Address(int(ip) & _LOW_32_BITS)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)


def _kind_of(ip: IPv4Address | IPv6Address) -> AddressKind:
    inner = _inner(ip) if isinstance(ip, IPv6Address) else None
    if inner is not None:
        return _kind_of(inner)
    if ip in _METADATA:
        return AddressKind.METADATA
    return next((kind for network, kind in _RANGES if ip in network), AddressKind.PUBLIC)


def make_address(host: str, port: int) -> UdpAddress:
    """Return the address of what a socket reports; an IPv4 address mapped into IPv6 becomes IPv4 again.

    :raises ValueError: `host` is no IP address, or the port is not from 1 to 65,535.
    """
    ip = ip_address(host)
    if not 1 <= port <= _MAX_PORT or "%" in host:
        raise ValueError(f"{host!r} port {port} is no address that can be sent to")
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    return UdpAddress(str(mapped or ip), port)


def parse_address(text: str) -> UdpAddress:
    """Read "ip:port" or "[ip]:port", IPv6 in brackets. Names are not looked up.

    :raises ValueError: it is no address; the text is fit for the sender's eyes.
    """
    host, _, port = text.rpartition(":")
    is_bracketed = host[:1] == "[" and host[-1:] == "]"
    if not host or len(text) > MAX_ADDRESS_BYTES or is_bracketed is (":" not in host):
        raise ValueError(f"{text[:MAX_ADDRESS_BYTES]!r} is not ip:port")
    # Plain digits only: int() takes signs, blanks and digits of other scripts as well.
    if not (port.isascii() and port.isdigit() and len(port) <= len(str(_MAX_PORT)) and port[0] != "0"):
        raise ValueError(f"{text!r}: the port is not a number from 1 to 65535")
    try:
        return make_address(host[1:-1] if is_bracketed else host, int(port))
    except ValueError:
        raise ValueError(f"{text!r} is not ip:port") from None


def check_address(address: UdpAddress, allow_loopback: bool = False) -> UdpAddress:
    """Return `address` if a peer may be made to send there.

    :param allow_loopback: for tests, where everything is on one machine.
    :raises ValueError: it may not; the text is fit for the sender's eyes.
    """
    kind = address.kind
    if kind in (AddressKind.PUBLIC, AddressKind.PRIVATE) or (allow_loopback and kind is AddressKind.LOOPBACK):
        return address
    raise ValueError(f"{address} is a {kind.value} address, which is refused")


def usable_addresses(
    addresses: Iterable[UdpAddress], allow_private: bool = True, allow_loopback: bool = False
) -> list[UdpAddress]:
    """Return those that may be handed on, each once, in their order."""
    kinds = {AddressKind.PUBLIC}
    kinds |= {AddressKind.PRIVATE} if allow_private else set()
    kinds |= {AddressKind.LOOPBACK} if allow_loopback else set()
    return [address for address in dict.fromkeys(addresses) if address.kind in kinds]
