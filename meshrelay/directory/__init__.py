"""Where things are in a cluster: node -> places and load, user -> node and session, group -> nodes and settings.

============  ==========================================================================================
interfaces    `IDirectory`: what a node asks and tells
records       what is stored, frozen
options       deadlines, leases and bounds
errors        what can go wrong, and whether trying again helps
table         the directory as a plain synchronous table on a clock
memory        that table as an `IDirectory`, inside a node
calls         what is asked of the directory of another node, as bytes
remote        `IDirectory` over such calls
serving       answers them from the directory of this node
watchers      who is told that data were lost
redis         `IDirectory` on a Redis server
redis_url     text of the configuration -> where Redis is
redis_dial    a connection to the master, found through Sentinel or named, signed in
redis_link    one such connection kept up: deadlines, backoff, a bounded number of calls in flight
redis_script  the Lua scripts that run inside Redis, and what their answers mean
history       `HistoryStore`: what keeps the messages of groups; the one in memory, and redis_history
============  ==========================================================================================

::

    node --IDirectory--> memory --> table
                    \\--> remote --calls--> serving (other node) --> memory
                    \\--> redis --> redis_link (calls) --> redis_dial --> Redis
                              \\-> redis_link (loopback) -> redis_dial -^

The directory is soft state. Every node owns the truth about its own users and groups; what is here is a copy that may
be lost at any time, and is whole again when every node has called ``refresh``. All entries hang on the lease of their
node: when the node stops renewing it, nobody finds them any more.

What a node does, in this order: ``register_node`` at start and each third of a lease; when that says that the lease
is a new one, and when a watcher is called, ``refresh`` with everything it has; ``refresh`` as well every
``refresh_seconds``, where the directory says a number above 0.
"""
