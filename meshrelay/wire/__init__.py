"""Bytes to values and back, for both ends of each protocol. Pure: no reactor, clock, randomness or logging.

==============  ==================================================================
buffer          cursor over one payload, and the small fields: str8, gid, integers
frame           the 12-byte frame header, stream decoder and encoder
commands        numbers of all commands, payloads of core and group commands
hello           JSON bodies of HELLO
prepared        frames of one turn, joined once for each way of writing them
websocket       headers of outgoing WebSocket messages
datagram        UDP packets: header, AEAD, replay window
node            what nodes say to each other: greeting, batches, calls
==============  ==================================================================

::

    bytes --FrameDecoder--> Frame --commands--> values
    values --commands--> encode_frame --prepared--> stream | WebSocket messages | datagram contents
"""
