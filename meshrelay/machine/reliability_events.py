"""What goes into `machine.reliability` once, and what comes out of it: its options, states and events."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from meshrelay.errors import LocalProtocolError
from meshrelay.machine.packets import MAX_FRAGMENT_BYTES

__all__ = ["Closed", "Connected", "Event", "Finished", "MessageReceived", "PeerFinished", "ReliabilityOptions", "State"]


@dataclass(frozen=True, slots=True)
class ReliabilityOptions:
    """Limits of one machine; both ends may differ.

    :raises LocalProtocolError: a limit is out of its range.
    """

    #: Longest message either way, in bytes; 1 to 65,535 fragments of 1,350.
    max_message_bytes: int = 65536 + 12
    #: Queued and unacknowledged messages, in bytes.
    send_buffer_bytes: int = 1048576
    #: Packets that may be held out of order or wait to be fetched, 1 to 65,535.
    receive_window_packets: int = 1024
    #: Bound of the congestion window, at least 2. It is a quarter of the peer's usual window, for a packet that is lost
    #: twice holds up the stream for three round trips, and the line shall not stand still meanwhile.
    max_congestion_packets: int = 256
    #: Shortest retransmission timeout.
    rto_floor_seconds: float = 0.05
    #: Retransmission timeout before the first sample (RFC 6298, section 2.1).
    initial_rto_seconds: float = 1.0
    #: Times that a packet is sent again before the peer counts as gone.
    max_tries: int = 10
    #: How long a packet in order may wait for its acknowledgement; must stay well below the floor above.
    ack_delay_seconds: float = 0.02

    def __post_init__(self) -> None:
        if not 1 <= self.receive_window_packets <= 0xFFFF:
            raise LocalProtocolError(
                f"receive_window_packets is {self.receive_window_packets}, allowed are 1 to 65,535"
            )
        if not 1 <= self.max_message_bytes <= 0xFFFF * MAX_FRAGMENT_BYTES:
            raise LocalProtocolError(f"max_message_bytes is {self.max_message_bytes}, 65,535 fragments hold 88,472,250")
        if self.max_congestion_packets < 2:
            raise LocalProtocolError(f"max_congestion_packets is {self.max_congestion_packets}, at least 2 are needed")


class State(Enum):
    """Where a machine stands. FINISHED still answers, CLOSED has nothing but its RST to say."""

    IDLE = "idle"
    CONNECTING = "connecting"
    OPEN = "open"
    FINISHED = "finished"
    CLOSED = "closed"


class Connected(NamedTuple):
    """The SYN exchange is done."""


class MessageReceived(NamedTuple):
    """Whole frames, the next ones of the peer's stream; several of its messages may come as one."""

    data: bytes


class PeerFinished(NamedTuple):
    """The peer sends no more messages, and all that it sent were received."""


class Finished(NamedTuple):
    """Both directions are done and acknowledged."""


class Closed(NamedTuple):
    """The session is over at once: the peer's RST, our own, or the peer did not answer (4001)."""

    code: int
    text: str


Event = Connected | MessageReceived | PeerFinished | Finished | Closed
