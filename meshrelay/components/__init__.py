"""What clients and the application can do: one module for each capability.

==================  ==========================================================================================
hooks               commands, and what the application runs before and after them
groups              the group component: what the application may do
group_commands      the commands of clients; group_broadcast the one that must be fast
group_admission     who may make, enter and join a group
group_table         groups and their members on this node: the state, without commands
group_callbacks     what the application is told: lost and returned members, ticks
group_nodes         groups that span nodes: who holds what, and what becomes of it when nodes come and go
group_entry         holding a group of another node from now on
group_spread        one group beyond this node: its holders, and what waits for them
group_cast          casts on their way between nodes: the tree, repairs
group_receive       casts of others, in their order, to the members here
group_members       the members on other nodes
group_logs          groups with history: which ones, group_log one of them, group_log_push its two kinds of pushes
group_log_store     where histories are in a cluster without Redis
group_log_commands  what clients ask about history and presence; group_watch tells who comes and goes
group_parts         puts all of these together
direct              the component of direct messages; direct_commands those of clients
direct_routes       at the sender's node: who has the peer; direct_channels remembers it
direct_delivery     at the peer's node: what the application says, and the push
node_post           what must reach other nodes, of rooms, links and direct messages
place_ids           IDs of groups and rooms, from which the node that made them can be read
push_runs           neighbours of one read as a run of pushes
rooms               the room component: what the application may do, and how its parts fit together
room_commands       the commands of clients; room_broadcast the one that must be fast
room_edge           what sessions of this node do in rooms
room_asks           how it comes to the home of the room: by a call here, by numbered messages elsewhere
room_home           what the home makes of it; room_table the rooms and members, room_losses who was lost
room_outlet         what is sent in a room, in one order, to this node (room_seats) and to others
room_nodes          the other nodes
links               the component of P2P links: how its parts, link_parts, fit together
link_commands       the commands of clients; link_forward the one that must be fast
link_facts          where sessions of this node are, and how far from it
link_home           at the home of a room: starts; link_groups cuts groups, link_plan keeps them
link_edge           at the nodes of members: who may speak to whom, and packets between them
link_asks           calls to the home of a room
==================  ==========================================================================================
"""
