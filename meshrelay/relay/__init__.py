"""The NetBird-compatible relay without its sockets: peers send each other messages through a server. Pure.

==================  =============================================================================
addresses           rel:// and rels:// URLs: who a server is, and where it is dialled
auth                tokens signed with a shared secret
counters            what one server counts
errors              what users of the client see, and why connections end
health              is the other end alive
interfaces          what sockets and other nodes are to a server
peers               who is connected, and who is told when they come and go
server_machine      one connection of a server
server              all of them, and the way of a message from one to another
nodes               the peers of the other nodes: linked nodes are one relay
early_messages      what came before a client's connection was open
client_machine      one connection of a client
==================  =============================================================================

::

    WebSocket, QUIC --> server_machine --> server --> peers --> server --> WebSocket, QUIC
    WebSocket, QUIC <-> client_machine <-> connections to peers

The messages are in `meshrelay.wire.relay`.
"""
