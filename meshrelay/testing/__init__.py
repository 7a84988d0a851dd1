"""Fakes and measuring tools for tests of meshrelay and of applications on it.

==================  ========================================================================
link                `IDownlink` and `IConnection` without a socket
builders            users and sessions in one call
node                a whole node without ports, and clients that talk to it
contracts           what every codec, downlink and subscriber must promise, as checks
directory_contract  what every directory of a cluster must promise, as tests to mix in
memory_mesh         many nodes linked in memory, on one virtual clock, by a seed
memory_nodes        nodes that all are linked in memory, and an observer that checks the order of events
memory_groups       whole nodes in memory that are a cluster: sessions, groups, links, one directory
paired_nodes        a few nodes that hand each other messages and calls directly
heap_clock          a clock for simulations with very many timers
link_contract       what links between nodes must promise, as a check
impairment          what a bad network does to datagrams and streams: loss, delay, rate, by a seed
network             such a network between two pure machines, on a virtual clock
nat                 NATs of all kinds, made of numbers
peer_network        two P2P links, the NATs between them and their relay, on a virtual clock
overlay_network     peers of the overlay on one virtual clock, and ends that a test moves by hand
overlay_links       their links; overlay_link_contract what every link must promise
udp_proxy           such a network in front of a real UDP port
tcp_proxy           the same in front of a real TCP port
==================  ========================================================================
"""
