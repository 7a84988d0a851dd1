"""Fakes and measuring tools for tests of meshrelay and of applications on it.

==================  ========================================================================
link                `IDownlink` and `IConnection` without a socket
builders            users and sessions in one call
node                a whole node without ports, and clients that talk to it
contracts           what every codec, downlink and subscriber must promise, as checks
directory_contract  what every directory of a cluster must promise, as tests to mix in

network             a seeded bad network between two pure machines, on a virtual clock
==================  ========================================================================
"""
