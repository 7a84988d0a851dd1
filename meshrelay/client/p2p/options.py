"""How the P2P links of a client behave. All have defaults."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from meshrelay.client.p2p.local_addresses import local_hosts

__all__ = ["P2POptions"]


@dataclass(frozen=True, slots=True)
class P2POptions:
    """See the fields; seconds are floats above 0."""

    #: False: reliable messages are told as they come, whole and once, instead of in their order.
    is_ordered: bool = True
    #: False: addresses of private networks are neither told nor used.
    allow_private: bool = True
    #: For tests on one machine.
    allow_loopback: bool = False
    #: False: ports of symmetric NATs are not searched for; no sockets beside the one that the node knows.
    allow_search: bool = True
    #: Longest payload of a message, in bytes; the same at all members.
    max_payload_bytes: int = 65536
    #: How long a link that is replaced or left may still deliver what is on its way.
    linger_seconds: float = 2.0
    #: IP addresses of this machine.
    hosts: Callable[[], Iterable[str]] = field(default=local_hosts, repr=False)
    #: For ports and for first sequence numbers; not for keys, those are the node's.
    random: random.Random = field(default_factory=random.Random, repr=False)
