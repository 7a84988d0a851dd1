"""P2P links of a client: to the members of its room directly where the NATs allow it, by the node where they do not.

================  =====================================================================================
links             `P2PLinks`: methods for programs
aio_links         the same for asyncio programs
events            what comes
options           what may be tried, and how long
link_table        links by room; pushes of the node
link_group        those of one start
link_driver       one, on a reactor; what it does is in `meshrelay.machine.peer_link`
sockets           the UDP sockets
whereabouts       addresses: what the node is told and what it sees; `local_addresses` of this machine
room_finder       of which room a start is
early_packets     what comes before the start that it belongs to
state_reports     LINK_STATE
================  =====================================================================================
"""

from meshrelay.client.p2p.events import (
    LinkLost,
    LinkMessageReceived,
    LinkRelayReceived,
    LinksStarted,
    LinkStateChanged,
)
from meshrelay.client.p2p.links import P2PLinks, PeerView
from meshrelay.client.p2p.options import P2POptions
from meshrelay.client.p2p.whereabouts import NetworkView
from meshrelay.machine.hole_punch import RelayReason
from meshrelay.wire.link_commands import LinkState
from meshrelay.wire.peer_packet import Mapping

__all__ = [
    "LinkLost",
    "LinkMessageReceived",
    "LinkRelayReceived",
    "LinkState",
    "LinkStateChanged",
    "LinksStarted",
    "Mapping",
    "NetworkView",
    "P2PLinks",
    "P2POptions",
    "PeerView",
    "RelayReason",
]
