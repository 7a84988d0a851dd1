"""The HTTP port of a node: where a client is to connect, whether the node is well, and what it counts.

========  =====================================================================================
site      the tree of pages, and the bounds of every connection
page      one page: allowed methods, JSON answers, errors
endpoint  GET /endpoint/type/<type>/user/<user ID>: host, port, and for UDP the secrets
health    GET /health/live and /health/ready
metrics   GET /metrics: the node's counters as prometheus samples
lag       measures how late reactor turns come
========  =====================================================================================

::

    HTTP request -> site -> page -> endpoint (authenticator, Endpoints) | health | metrics (NodeCounters, sessions)

Only GET, HEAD and, where browsers ask first, OPTIONS are taken; a request with a body is refused before the body
is read.
"""
