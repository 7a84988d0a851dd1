"""What clients and the application can do: one module for each capability.

==============  ============================================================
hooks           commands, and what the application runs before and after them
groups          the group component: commands, hooks, callbacks
group_table     groups and their members: the state, without commands
==============  ============================================================
"""
