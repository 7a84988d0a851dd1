"""The URLs that say where a node is and how to speak to it.

===============================  ==========================================================
``tcp://host:port``              TCP; port 7200 when it is left out
``tls://host:port``              TCP over TLS
``ws://host:port/``              WebSocket; port 7300 when it is left out
``wss://host:port/``             WebSocket over TLS
``udp+http://host:port``         UDP, after asking the HTTP port for the endpoint; 7000
``udp+https://host:port``        the same over TLS; where the network is not trusted
===============================  ==========================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique
from urllib.parse import urlsplit

__all__ = ["NodeAddress", "Transport", "parse_url"]


@unique
class Transport(Enum):
    """How frames travel."""

    TCP = "tcp"
    WEBSOCKET = "websocket"
    UDP = "udp"


_SCHEMES = {
    "tcp": (Transport.TCP, False, 7200),
    "tls": (Transport.TCP, True, 7200),
    "ws": (Transport.WEBSOCKET, False, 7300),
    "wss": (Transport.WEBSOCKET, True, 7300),
    "udp+http": (Transport.UDP, False, 7000),
    "udp+https": (Transport.UDP, True, 7000),
}


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """Where a node is."""

    url: str
    transport: Transport
    is_tls: bool
    host: str
    #: Of the HTTP port for UDP.
    port: int
    #: Begins with a slash; WebSocket only.
    path: str

    @property
    def authority(self) -> str:
        """``host:port``, an IPv6 address in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_url(url: str) -> NodeAddress:
    """Read a URL.

    :raises ValueError: it is not one of those above; the text is fit for the user's eyes.
    """
    parts = urlsplit(url)
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None:
        raise ValueError(f"{url!r} is no address of a node: it begins with one of {', '.join(_SCHEMES)} and ://")
    transport, is_tls, default_port = scheme
    try:
        port = parts.port
    except ValueError:
        raise ValueError(f"{url!r}: the port is not a number from 0 to 65535") from None
    if not parts.hostname:
        raise ValueError(f"{url!r} has no host")
    if parts.username is not None:
        raise ValueError(f"{url!r}: the user is not named in the address")
    if transport is not Transport.WEBSOCKET and (parts.path not in ("", "/") or parts.query):
        raise ValueError(f"{url!r}: {parts.scheme} addresses have no path")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return NodeAddress(url, transport, is_tls, parts.hostname, port or default_port, path)
