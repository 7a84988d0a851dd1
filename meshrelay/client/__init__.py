"""The client library: everything a program needs to talk to a node, on the codecs that the node itself uses.

==============  ==========================================================================
client          `Client`: methods and events, for Twisted programs
aio             the same for asyncio programs; import it by name
events          what comes: one frozen class for each kind
errors          what can go wrong at this end; the node's refusals are in `meshrelay.errors`
options         limits and times
listeners       callbacks and bounded event streams
connector       one connection at a time: opening, timers, coming back
unsent          back pressure: what waits because the node does not read
machine         the protocol without IO; its parts are `requests` (the open ones), `push_count` (acknowledgements) and
                `pulse` (is the node alive), and `identity` is what it is told
address         URLs
links           the face of a connection, and TCP
joined_rooms    which rooms the client is in
positions       how far it has followed its groups; `recovery` asks the node for what is missing
p2p             P2P links between clients: `Client.links`, see there
udp             opens UDP by way of `endpoint`; `udp_link` drives the reliability machine, `udp_path` is its socket
==============  ==========================================================================

::

    Client -> Connector -> ClientMachine -> Link -> node
       ^                        |
       +---- events, results <--+------------<----- node
"""

from meshrelay.client.client import Client
from meshrelay.client.errors import (
    ConnectFailed,
    ConnectionLost,
    NotConnected,
    SignInRefused,
    TooManyPending,
    UnsentFull,
)
from meshrelay.client.events import (
    Connected,
    DirectCleared,
    DirectMessageReceived,
    DirectPeerGone,
    Disconnected,
    Event,
    GroupMemberBack,
    GroupMemberJoined,
    GroupMemberLeft,
    GroupMemberLost,
    GroupMessageReceived,
    GroupPresenceChanged,
    GroupRecovered,
    PushReceived,
    RoomMemberJoined,
    RoomMemberLeft,
    RoomMemberLost,
    RoomMessageReceived,
    RoomOwnerChanged,
)
from meshrelay.client.listeners import EventStream, WhenFull
from meshrelay.client.options import ClientOptions

__all__ = [
    "Client",
    "ClientOptions",
    "ConnectFailed",
    "Connected",
    "ConnectionLost",
    "DirectCleared",
    "DirectMessageReceived",
    "DirectPeerGone",
    "Disconnected",
    "Event",
    "EventStream",
    "GroupMemberBack",
    "GroupMemberJoined",
    "GroupMemberLeft",
    "GroupMemberLost",
    "GroupMessageReceived",
    "GroupPresenceChanged",
    "GroupRecovered",
    "NotConnected",
    "PushReceived",
    "RoomMemberJoined",
    "RoomMemberLeft",
    "RoomMemberLost",
    "RoomMessageReceived",
    "RoomOwnerChanged",
    "SignInRefused",
    "TooManyPending",
    "UnsentFull",
    "WhenFull",
]
