"""Pure timed machines: input and the time go in, output is pulled. No reactor, clock, randomness or logging.

==================  ==================================================================================
reliability         reliable UDP of one session: the machine that transports use
reliability_events  its options, states and events
handshake           the SYN exchange
closing             the FIN, and which ACK answers it
repeat              a SYN or FIN that is sent again until it is answered
sending             messages to DAT packets, acknowledgements, timeouts, windows
fragmentation       the queue: long messages cut up, small ones joined
in_flight           what is on its way, and what of it is lost
copies              second copies of what was lost
congestion          how much may be on its way, and how evenly it leaves
rtt                 round trip samples to timeouts
reassembly          DAT packets to messages in order, and to acknowledgements
packets             contents of SYN, DAT, ACK, EACK, RST and FIN
ranges              sets of sequence numbers
peer_link           a P2P link: the reliable machine above, direct and relayed paths below
hole_punch          the way to one peer through NATs; peer_path checks one
nat_kind            how our NAT chooses ports; port_prediction which ones to try
unordered           reliable messages as they come
tree                who tells whom, where many nodes are to be told
message_logs        histories of groups in memory: offsets, epochs, bounds
backoff             how long to wait before the next try
token_bucket        how many commands a session may give
==================  ==================================================================================

::

    send_message --> fragmentation --> sending <--> in_flight, congestion, rtt --> DAT
    next_event   <-- reassembly <-- DAT                               ACK, EACK <-- reassembly

    peer_link --> reliability --> sealed packets --> path of hole_punch, or the relay
"""
