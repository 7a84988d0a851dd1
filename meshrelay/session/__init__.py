"""From frames of one connection to commands of one user, and back.

===========  ==================================================================================
auth         is this user who they say: token or open
handshake    HELLO read and answered
reception    what all connections share, and the only way to get one
connection   one connection: HELLO and its deadline, heartbeat, idle, frames in order
rules        what connections keep to, from the configuration
rate_limit   how many commands a connection may send
session      one sign-in of one user; outlives its connection
replay       pushes kept for a resume
registry     all sessions: sign-in, take-over, resume, expiry
roaming      one session of a user in the whole cluster, and its move from node to node
dispatch     (ver, cmd) -> command, hooks around it, errors to answers
application  what the application's module gets
drain        everybody is sent away before the node stops
===========  ==================================================================================

::

    transport -> connection -> (auth, roaming, registry) -> dispatch -> components
    fan-out -> session -> (replay) -> transport
"""
