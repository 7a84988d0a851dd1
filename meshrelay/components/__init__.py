"""What clients and the application can do: one module for each capability.

===============  ==========================================================================================
hooks            commands, and what the application runs before and after them
groups           the group component: what the application may do
group_commands   the commands of clients
group_admission  who may make, enter and join a group
group_table      groups and their members on this node: the state, without commands
group_callbacks  what the application is told: lost and returned members, ticks
group_nodes      groups that span nodes: who holds what, and what becomes of it when nodes come and go
group_entry      holding a group of another node from now on
group_spread     one group beyond this node: its holders, and what waits for them
group_cast       casts on their way between nodes: the tree, repairs
group_receive    casts of others, in their order, to the members here
group_members    the members on other nodes
===============  ==========================================================================================
"""
