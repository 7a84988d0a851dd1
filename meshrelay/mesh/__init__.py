"""This node among the nodes: connections to others, and what is sent through them.

==============  ================================================================================================
interfaces      what stands between links, connections and observers
links           all links of this node: whom to dial, who may come in
link            one other node: what waits for it, its state, when to dial again
strand          one connection: greeting, heartbeat, calls with deadlines
greeting        Hello and Proof: who is there, does it know the secret (pure)
batches         messages to numbered batches and back, exactly once and in order (pure)
pb              Perspective Broker under all that: the only user of ``twisted.spread``
banana_guard    what a peer may make Perspective Broker build (pure)
tls             certificates of the private CA, and which node they name
nodes           the other nodes as the rest of the house sees them: met, lost, back, gone; who handles what they say
presence        the state of one of them (pure)
alone           the same for a node without links: nobody
membership      this node in the directory, and whom it dials by what the directory says
contact         the node behind an address, before any directory says who that is
registration    the users and groups of this node in the directory, and again when that lost them
rarely          what is worth a line in the log: the same thing once a minute
errors          what goes wrong between nodes
==============  ================================================================================================

::

    send --> link --batches--> strand --pb--> the other node --pb--> strand --> links --> observer
                                 |
                                 `-- wire.node says what the bytes are

A link outlives its connections: what is sent while there is none waits, what was not acknowledged goes out again. What
a node did not acknowledge before it died is lost, and the observer is told how many messages that were.
"""
