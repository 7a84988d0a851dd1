"""The HTTP port of a node: where a client is to connect, whether the node is well, and what it counts.

==============  ===================================================================================
site            the tree of pages, and the bounds of every connection
page            one page: allowed methods, JSON answers at once or later, errors
headers         headers of a request: token, host
admin           who may see what only operators should
admin_direct    POST /direct/<user ID>: a direct message of the server
admin_links     GET /links: P2P links, and why some go through the node
admin_overlay   GET /admin/overlay: the node as a peer of the overlay
endpoint        GET /endpoint/type/<type>/user/<user ID>: host, port, and for UDP the secrets
chooser         a client that may sign in -> a place on the least loaded node
placement       records of the nodes -> the order in which they are offered
reserve         the call by which one node makes a UDP session on another
health          GET /health/live and /health/ready, with a token that goes through the directory
cluster         GET /cluster: all nodes, links and the directory
node_status     what each node tells for that page
neighbours      links and directory, as chooser and cluster want to see them
metrics         GET /metrics: the node's counters as prometheus samples
mesh_metrics    the samples of links and directory
relay_metrics   the samples of the relay
overlay_metrics the samples of the overlay
relay_health    GET /health/relay
merged_metrics  the pages of several processes -> one
lag             measures how late reactor turns come
==============  ===================================================================================

::

    HTTP request -> site -> page -> endpoint (authenticator) -> chooser -> Endpoints | neighbours -> other nodes
                                 -> health -> directory
                                 -> cluster (admin) -> node_status | neighbours -> other nodes
                                 -> metrics (NodeCounters, sessions), mesh_metrics (links, directory)

Only GET, HEAD and, where browsers ask first, OPTIONS are taken, and POST by the page for direct messages; a request
with a body is refused by all others before the body is read.
"""
