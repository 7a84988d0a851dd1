"""From one published frame to many sockets: encoded once, joined once a turn, written once.

======  ============================================================================
turn    collects what is to be joined and written when this reactor turn's reads are done
hub     channels: subscribers, and the frames that wait for them
outbox  what waits for one connection: bounded, one write a turn
======  ============================================================================

::

    publish --> hub.Channel (frames) --turn: join once--> ISubscriber.deliver(Batch) --> outbox --turn--> one write
"""
