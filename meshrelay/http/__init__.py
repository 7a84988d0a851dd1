"""The HTTP port of a node: where a client is to connect, whether the node is well, and what it counts.

==============  ===================================================================================
site            the tree of pages, and the bounds of every connection
page            one page: allowed methods, JSON answers at once or later, errors
headers         headers of a request: token, host
admin           who may see what only operators should
admin_keys      who guesses the key has to wait
admin_api       /admin: the API of operators, and its OpenAPI file
admin_routes    the API as a table; admin_openapi makes the file of it
admin_actions   what each route does, anywhere in the cluster; admin_local on one node, by calls of others
admin_bodies    bodies of requests and answers; admin_problems what may be wrong with them
admin_repeats   requests that come twice are done once
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
client_script   GET /meshrelay.js and its types: the client for browsers
metrics         GET /metrics: the node's counters as prometheus samples
component_metrics  the samples of components, from the names under which they count
mesh_metrics    the samples of links and directory
relay_metrics   the samples of the relay
overlay_metrics the samples of the overlay
relay_health    GET /health/relay
merged_metrics  the pages of several processes -> one
console         / and /console: pages for people, and tickets for their live data
console_feed    the live data: a command and a push a second; console_state what is in it; console_live when it is read;
                console_sum what is shown where a node has several processes
console_history the last ten minutes; console_rates which groups are busy; console_tickets who may look
lag             measures how late reactor turns come
webhooks        tells HTTP servers of the operator what happened
webhook_events  sessions and groups -> events; webhook_queue to one URL, webhook_post the POST
==============  ===================================================================================

::

    HTTP request -> site -> page -> endpoint (authenticator) -> chooser -> Endpoints | neighbours -> other nodes
                                 -> health -> directory
                                 -> cluster (admin) -> node_status | neighbours -> other nodes
                                 -> metrics (NodeCounters, sessions), mesh_metrics (links, directory)
                                 -> console (admin) -> console_tickets
                                 -> admin_api (admin) -> admin_actions -> admin_local here | calls to other nodes

    WebSocket (a ticket) -> console_feed -> console_live -> console_state, console_history, console_rates
    sessions, groups -> webhook_events -> webhook_queue -> webhook_post -> servers of the operator

Only GET, HEAD and, where browsers ask first, OPTIONS are taken, and POST and DELETE by the admin API and the page for
direct messages; a request with a body is refused by all others before the body is read.
"""
