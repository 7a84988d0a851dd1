"""What may be chosen for a peer, and its limits."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple

__all__ = ["PeerOptions"]


class PeerOptions(NamedTuple):
    """Times are in seconds."""

    #: URLs of peers that are dialled at the start, and again whenever they are lost.
    bootstrap: tuple[str, ...] = ()
    #: Networks in which peers may be dialled that others name. The internet may be always; private networks and this
    #: machine only if this peer listens or has a bootstrap there.
    dial_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    #: False: neither links nor messages of peers that prove no ID, which all JavaScript peers are.
    accepts_unsigned: bool = True
    #: Links that are looked for. Npm's package wants 15; the more there are, the fewer copies of a message it takes.
    wanted_links: int = 64
    #: Links to other meshrelay peers that are looked for beside those.
    wanted_own_links: int = 64
    #: Links that are taken at all.
    max_links: int = 1000
    #: Frames and bytes that a link may bring in a second; twice as many at once. More are dropped.
    link_frames_per_second: float = 5000.0
    link_bytes_per_second: float = 16 * 1024 * 1024.0
