"""How relay clients behave: transports, times and limits. The times are those of NetBird's client."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, unique

from meshrelay import __version__
from meshrelay.machine.backoff import Backoff
from meshrelay.relay.client_machine import ClientOptions

__all__ = ["DEFAULT_MTU", "RelayOptions", "TransportMode", "transport_mode", "transports"]

#: Over it the packets of a network on top do not fit into a QUIC datagram.
DEFAULT_MTU = 1280

#: Each delay of the guard is this much shorter or longer, so that the peers of a relay do not come back all at once.
_JITTER = 0.5


@unique
class TransportMode(Enum):
    """Which transports are tried; see `transports`."""

    AUTO = "auto"
    QUIC = "quic"
    WS = "ws"
    PREFER_QUIC = "prefer-quic"
    PREFER_WS = "prefer-ws"


def transport_mode(text: str | None) -> TransportMode:
    """Return the mode that NB_RELAY_TRANSPORT, or an option of a program, names; AUTO if it names none."""
    try:
        return TransportMode((text or "").strip().lower())
    except ValueError:
        return TransportMode.AUTO


def transports(mode: TransportMode, mtu: int = DEFAULT_MTU, is_fallback: bool = False) -> tuple[str, ...]:
    """Return "quic" and "ws" as they are to be tried: in this order for prefer-..., all at once otherwise.

    A transport that is named outright is taken whatever the packets.

    :param mtu: of the network on top; 0 = `DEFAULT_MTU`.
    :param is_fallback: datagrams turned out to be too small for what was sent.
    """
    if mode is TransportMode.QUIC or mode is TransportMode.WS:
        return (mode.value,)
    if is_fallback or mtu > DEFAULT_MTU:
        return ("ws",)
    return ("ws", "quic") if mode is TransportMode.PREFER_WS else ("quic", "ws")


@dataclass(frozen=True, slots=True)
class RelayOptions:
    """See the fields. Seconds are floats above 0."""

    transport: TransportMode = TransportMode.AUTO
    #: Of the network that the messages carry; over 1280 no datagrams are used unless the transport is QUIC outright.
    mtu: int = DEFAULT_MTU
    #: PEM file of the authorities that are trusted; None = those of the system.
    ca_file: str | None = None
    #: For each transport.
    dial_seconds: float = 30.0
    #: Wait for the server's answer to the token.
    auth_seconds: float = 8.0
    #: Longest wait for a peer to be online.
    open_seconds: float = 30.0
    #: A server of which no HEALTH_CHECK came for so long is given up...
    health_verdict_seconds: float = 35.0
    #: ... when that has happened so often in a row.
    health_threshold: int = 1
    #: QUIC only: what has no answer yet is said again. NetBird's client does not.
    repeat_seconds: float = 1.0
    #: Longest wait for the first server of the list.
    pick_seconds: float = 30.0
    #: Servers that are tried at once.
    max_parallel_dials: int = 7
    #: From the loss of the home relay to the first try to have the same one back.
    quick_reconnect_seconds: float = 1.5
    #: After a failed try the next one comes so long later, twice as long each time...
    retry_base_seconds: float = 2.0
    #: ... but never more than this, and half of it either way by chance.
    retry_cap_seconds: float = 60.0
    #: How often foreign relays are looked at...
    cleanup_seconds: float = 60.0
    #: ... and how old they must be to be closed for want of use.
    cleanup_age_seconds: float = 5.0
    #: Foreign relays at one time; their addresses come from other peers.
    max_foreign_relays: int = 1000
    #: Bytes that may wait to be sent after the transport asked to pause, for each relay.
    max_unsent_bytes: int = 1048576
    #: "name/version" of the program, for the server's log.
    client_name: str = f"meshrelay-python/{__version__}"
    #: Where the jitter comes from.
    uniform: Callable[[float, float], float] = field(default=random.uniform, repr=False)

    def machine_options(self, transport_name: str) -> ClientOptions:
        """Return the times of one connection."""
        return ClientOptions(
            auth_seconds=self.auth_seconds,
            open_seconds=self.open_seconds,
            health_verdict_seconds=self.health_verdict_seconds,
            health_threshold=self.health_threshold,
            repeat_seconds=self.repeat_seconds if transport_name == "quic" else 0.0,
        )

    def backoff(self) -> Backoff:
        """Return the delays of the guard."""

        def about(_: float, longest: float) -> float:
            return longest * self.uniform(1.0 - _JITTER, 1.0 + _JITTER)

        return Backoff(self.retry_base_seconds, max(self.retry_base_seconds, self.retry_cap_seconds), about)
