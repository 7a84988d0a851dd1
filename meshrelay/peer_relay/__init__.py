"""A peer of the overlay that npm's ``peer-relay`` speaks, for programs: `PeerRelay` and `PeerRelaySocket`.

==========  ==================================================================================
peer        `PeerRelay`: link with others, send to any of them
datagrams   `PeerRelaySocket`: the same as if it were a UDP socket
aio         both for asyncio
assembly    a peer of `meshrelay.overlay` and its sockets; the daemon uses it as well
==========  ==================================================================================

The names are those of the package, the faults are not: see ``docs/overlay.rst``.
"""

from meshrelay.overlay.errors import (
    NotDelivered,
    NotLinked,
    OverlayError,
    PeerDestroyed,
    TooMuchWaiting,
    UnusableData,
)
from meshrelay.overlay.identity import Identity
from meshrelay.overlay.options import PeerOptions
from meshrelay.peer_relay.datagrams import PeerRelaySocket, RemoteInfo
from meshrelay.peer_relay.peer import PeerRelay

__all__ = [
    "Identity",
    "NotDelivered",
    "NotLinked",
    "OverlayError",
    "PeerDestroyed",
    "PeerOptions",
    "PeerRelay",
    "PeerRelaySocket",
    "RemoteInfo",
    "TooMuchWaiting",
    "UnusableData",
]
