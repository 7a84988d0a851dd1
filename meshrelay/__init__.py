"""meshrelay relays messages in real time: groups, rooms, direct messages, P2P links, relay and overlay.

Bytes move one way through the packages, and imports point the same way::

    transport -> wire -> session -> components -> fanout -> mesh

``docs/architecture.rst`` is the tour of the house.
"""

__version__ = "0.1.0"
