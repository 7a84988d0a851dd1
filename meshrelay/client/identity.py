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

    #: Each piece of data holds whole frames. The user is signed in already and sends no HELLO; the node pushes one.
    is_datagram: bool = False
    #: No frame may be longer; None = only the payload is bounded.
    max_frame_bytes: int | None = None
    #: Seconds from the opening to being signed in.
    sign_in_seconds: float = 10.0
