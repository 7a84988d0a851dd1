"""The client of NetBird-compatible relays: `RelayClient` for one server, `RelayManager` for a home and foreign ones.

================  ==================================================================================
client            one server: connect, open connections to peers
connection        one signed-in connection to it: the machine of `meshrelay.relay`, driven over a link
conn              a connection to a peer, for coroutines
transport         the same for a Twisted protocol
stream            bytes in order and without loss, if both ends want it
waiting           reads and writes that wait, and their deadlines
dial, race        the way to a server: transports, their order, the first that works
fallback          servers to which datagrams are too small
interfaces        what WebSocket and QUIC have in common
websocket, quic   the two
manager           a home relay that is kept up, and foreign relays
guard             brings the home relay back
picker            finds the one that answers first
foreign           relays at which others are at home
token_store       by what clients sign in
options           transports, times, limits
errors            what goes wrong, beside `meshrelay.relay.errors`
================  ==================================================================================

All runs on the reactor that is handed in, nothing blocks; methods return Deferreds, which can be awaited.
"""

from meshrelay.relay.auth import RelayToken, hmac_key
from meshrelay.relay.errors import (
    ConnAlreadyExists,
    ConnClosed,
    OpenCancelled,
    OpenTimedOut,
    PayloadTooLarge,
    RelayClientNotConnected,
    RelayError,
)
from meshrelay.relay_client.client import RelayClient
from meshrelay.relay_client.conn import RelayConn, RelayPeerAddress
from meshrelay.relay_client.errors import (
    AlreadyServing,
    DeadlinePassed,
    NoRelayServer,
    NoRelayTransport,
    RelayConnectFailed,
    SendQueueFull,
    StreamBroken,
    TooManyRelays,
    TooManyWaiting,
)
from meshrelay.relay_client.guard import Guard
from meshrelay.relay_client.manager import InstanceAddress, RelayManager, RelayState
from meshrelay.relay_client.options import RelayOptions, TransportMode, transport_mode
from meshrelay.relay_client.picker import ServerPicker
from meshrelay.relay_client.stream import RelayStream, StreamReceiver
from meshrelay.relay_client.token_store import SecretTokens, TokenSource, TokenStore

__all__ = [
    "AlreadyServing",
    "ConnAlreadyExists",
    "ConnClosed",
    "DeadlinePassed",
    "Guard",
    "InstanceAddress",
    "NoRelayServer",
    "NoRelayTransport",
    "OpenCancelled",
    "OpenTimedOut",
    "PayloadTooLarge",
    "RelayClient",
    "RelayClientNotConnected",
    "RelayConn",
    "RelayConnectFailed",
    "RelayError",
    "RelayManager",
    "RelayOptions",
    "RelayPeerAddress",
    "RelayState",
    "RelayStream",
    "RelayToken",
    "SecretTokens",
    "SendQueueFull",
    "ServerPicker",
    "StreamBroken",
    "StreamReceiver",
    "TokenSource",
    "TokenStore",
    "TooManyRelays",
    "TooManyWaiting",
    "TransportMode",
    "hmac_key",
    "transport_mode",
]
