"""How a client behaves: limits, times and what it does when the connection breaks. All have defaults."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from meshrelay import __version__

if TYPE_CHECKING:
    from meshrelay.client.p2p.options import P2POptions

__all__ = ["ClientOptions"]


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """See the fields. Seconds are floats above 0."""

    #: False: a broken connection ends the client; `connect` may be called again.
    reconnect: bool = True
    #: True: the first `connect` tries again too, until it works or `close` is called.
    retry_first: bool = False
    #: For each try: longest time until the connection stands (with a fresh token), and as long again for the sign-in.
    connect_timeout_seconds: float = 10.0
    #: Longest wait for an answer, unless a call names another.
    request_timeout_seconds: float = 10.0
    #: The first new try comes after 0 to this many seconds, each further one after up to twice as long...
    retry_base_seconds: float = 0.5
    #: ... but never longer than this.
    retry_cap_seconds: float = 30.0
    #: Requests that may wait for their answers at one time.
    max_pending_requests: int = 4096
    #: Bytes that may wait to be sent after the connection asked to pause.
    max_unsent_bytes: int = 1048576
    #: "name/version" of the program, for the node's log.
    client_name: str = f"meshrelay-python/{__version__}"
    #: Whose certificates are trusted (tls, wss, udp+https): a certificate, or what
    #: `twisted.internet.ssl.trustRootFromCertificates` returns; None = those of the system.
    trust_root: Any = None
    #: Of P2P links, see `Client.links`; None = the defaults.
    p2p: P2POptions | None = None
    #: Where the jitter of the delays comes from.
    uniform: Callable[[float, float], float] = field(default=random.uniform, repr=False)
