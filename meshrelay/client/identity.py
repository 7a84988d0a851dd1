"""What the machine of a client is told: who signs in, and what kind of connection it is on."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Identity", "LinkTraits"]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who signs in, and what is asked for. See `meshrelay.client.client.Client`."""

    user: str | None
    client_name: str
    acks: bool = True
    resume: bool = True
    #: Whether a broken connection is replaced: it becomes `will_retry`.
    reconnect: bool = True


@dataclass(frozen=True, slots=True)
class LinkTraits:
    """What the machine has to know about a connection."""

    #: Each piece of data holds whole frames and may be lost; there is no HELLO.
    is_datagram: bool = False
    #: No frame may be longer; None = only the payload is bounded.
    max_frame_bytes: int | None = None
    #: The session of the endpoint answer (UDP).
    sid: str = ""
    #: Seconds from the opening to being signed in.
    sign_in_seconds: float = 10.0
