"""A peer of the overlay that npm's ``peer-relay`` speaks, without its sockets. Pure: time and links come from outside.

==================  =============================================================================
interfaces          what sockets are to a peer
errors, options     what users of a peer see and choose
counters            what one peer counts
distance, near      XOR distance, and who is nearest to an ID
table               peers heard of, in k-buckets: whom to link with
links               peers linked with: whom to send to
seen, paths         what came before, and from where
router              one envelope -> where it goes next
channel             one link: hello, limits, faults
switch              all channels: frames in, frames out
rivals              second channels to one peer: who waits
own_links, kin      what meshrelay neighbours tell each other, and whom they name
control, offers     what a peer says beside messages; offers, answers, dials
traces              which way messages come
identity            the key of a peer, and its ID
signing, sealing    messages that nobody can forge, and nobody else can read
deliveries          messages that arrive, once: envelopes and boxes are how they travel, outbox,
                    conversations and replay what is remembered of them
handshakes          offers and answers of links
bootstraps          the first links, and their return
dial_policy         what may be dialled
neighbourhood       all that leads to links
peer                all of it together
bridge              users of meshrelay and peers of the overlay; bridge_nodes on which node
==================  =============================================================================

::

    WebSocket, WebRTC --> channel --> switch --> router --> channel --> WebSocket, WebRTC
                                        |
                                        `--> deliveries --> message of the peer
                                        `--> neighbourhood --> dial, offer, answer

The frames are in `meshrelay.wire.overlay`.
"""
