"""Twisted at the front door: sockets in, frames to the session layer, and what comes back out again.

=================  =======================================================================
listen             the listening places of the configuration, as services
place_certificate  the certificate of a place with TLS, exchanged while it listens
shared_port        one TCP port for several processes
tcp                frames back to back on a stream
websocket          frames in binary WebSocket messages, by Autobahn
websocket_client   the same from the other end, for the client library
websocket_accept   opening handshakes of servers that go on without Autobahn; hand_over is how
websocket_open     opening handshakes of all client WebSockets; trust_root whom they trust
udp                sealed datagrams: one port for all sessions, udp_link for each
udp_batch          many datagrams by one call; udp_sender what leaves the port in a turn
udp_address        what may be sent to a client that has not shown where it is
websocket_mask     unmasks long messages
relay_websocket    peers of the relay on WebSockets; relay_queue is what waits for one
relay_quic         peers of the relay by QUIC
relay_alarm        deadlines of relay peers
overlay_websocket  peers of the overlay that dial this one
overlay_dial       dials other peers of the overlay, where the policy lets it
overlay_link       one WebSocket of the overlay, at either end; overlay_queue is what waits for it
overlay_webrtc     data channels to peers of the overlay: overlay_signal is what is said to open
                   one, _link the channel, _stack aiortc, _bounds the limits that it lacks
asyncio_reactor    a reactor inside a loop that runs already
stream_link        what TCP and WebSocket share: outbox, pausing, closing
direct_write       writes straight to the socket where nothing is buffered
service_manager    tells systemd that the node is ready, reloads, stops and is alive
read_poll          reads from all clients of a port in one call of the reactor's
=================  =======================================================================

::

    dataReceived -> FrameDecoder -> IUplink
    IDownlink -> outbox -> direct_write -> socket
                        -> udp_sender   -> port
"""
