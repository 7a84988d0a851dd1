"""Twisted at the front door: sockets in, frames to the session layer, and what comes back out again.

=================  =======================================================================
listen             the listening places of the configuration, as services
shared_port        one TCP port for several processes
tcp                frames back to back on a stream
websocket          frames in binary WebSocket messages, by Autobahn
websocket_client   the same from the other end, for the client library
udp                sealed datagrams, one session each
stream_link        what TCP and WebSocket share: outbox, pausing, closing
direct_write       writes straight to the socket where nothing is buffered
=================  =======================================================================

::

    dataReceived -> FrameDecoder -> IUplink
    IDownlink -> outbox -> direct_write -> socket
"""
