"""Bytes to values and back, for both ends of each protocol. Pure: no reactor, clock, randomness or logging.

==================  ===================================================================
buffer              cursor over one payload, and the small fields: str8, gid, integers
addresses           addresses of UDP sockets, and which of them peers may be told
frame               the 12-byte frame header, stream decoder and encoder
commands            numbers of all commands, payloads of core and group commands
hello               JSON bodies of HELLO
history_commands    payloads of the commands about history and presence of groups
room_commands       payloads of the room commands that no group command has
link_commands       payloads of the commands for P2P links
prepared            frames of one turn, joined once for each way of writing them
websocket           headers of outgoing WebSocket messages
websocket_decoder   what comes in by WebSocket
websocket_client    the client's end: masked out, unmasked in
datagram            UDP packets: header, AEAD, replay window
sync_bytes          keys of one start of P2P links, and where everybody is
peer_packet         packets between two peers, and the content of a PROBE
node                what nodes say to each other: greeting, batches, calls
node_kinds          the table of all messages inside batches
group_node          messages about groups; direct_node, room_node, link_node and
                    relay_node those about the rest
session_node        calls about sessions
group_log           kept messages of groups, and calls to who keeps them
relay               messages of the NetBird-compatible relay; relay_websocket reads its
                    WebSocket
overlay             frames of the peer overlay; overlay_data what they carry, overlay_bridge
                    what goes from users to peers and back
==================  ===================================================================

::

    bytes --FrameDecoder--> Frame --commands--> values
    values --commands--> encode_frame --prepared--> stream | WebSocket messages | datagram contents
"""
