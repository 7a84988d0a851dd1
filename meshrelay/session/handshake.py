"""HELLO read and answered: what the client says, who it is, and what it is told (client protocol, section 2)."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, Protocol

from twisted.internet.defer import Deferred

from meshrelay.errors import MalformedPayload
from meshrelay.model import PROTOCOL_VERSION
from meshrelay.session.auth import Authenticator, Identity
from meshrelay.session.registry import Resume, SignIn
from meshrelay.wire.hello import Welcome, decode_hello, encode_welcome

__all__ = ["Arrivals", "Entry", "NoArrivals", "NodeFacts", "State", "read_hello", "welcome_of"]


class NodeFacts(NamedTuple):
    """What every client is told about its node."""

    node_id: str
    heartbeat_seconds: float
    max_payload_bytes: int


class State(Enum):
    """What a connection does; the table is in `meshrelay.session.connection`."""

    GREETING = "greeting"
    SIGNING_IN = "signing in"
    OPEN = "open"
    CLOSED = "closed"


class Entry(NamedTuple):
    """A sign-in that is allowed."""

    identity: Identity
    resume: Resume
    #: Of a new session; "" = a random one.
    sid: str
    #: Of the HELLO that is to be answered; None: the user signed in some other way.
    request_id: int | None
    #: The client is pushed what a HELLO would have been answered.
    greets: bool


class Arrivals(Protocol):
    """Brings sessions of other nodes here."""

    def fetch(self, identity: Identity, sid: str) -> Deferred[None] | None:
        """Look for a session of another node that its client wants to go on with here.

        :param sid: what the client says; whatever it is, it tells the client nothing about other sessions.
        :returns: fires within about 6 seconds, whether it was found or not, and never with a failure: now the registry
            knows. Cancelled, nobody waits any more, and nothing is taken from another node that was not already. None:
            there is nothing to wait for.
        """


class NoArrivals:
    """`Arrivals` of a node that is alone."""

    def fetch(self, identity: Identity, sid: str) -> Deferred[None] | None:
        """As `Arrivals.fetch`."""
        return None


def read_hello(payload: bytes, authenticator: Authenticator) -> tuple[Identity, Resume]:
    """Return who the client is and what it wants to go on with.

    :raises MalformedPayload: the client's fault; the text names the member.
    :raises AuthenticationError: it is not who it says.
    """
    hello = decode_hello(payload)
    if hello.protocol != PROTOCOL_VERSION:
        raise MalformedPayload(f"HELLO: protocol {hello.protocol} is not known, this node speaks {PROTOCOL_VERSION}")
    if hello.user is None and hello.token is None:
        raise MalformedPayload("HELLO: user is missing")
    identity = authenticator.authenticate(hello.user, hello.token)
    return identity, Resume(hello.resume or "", bool(hello.acks), hello.received)


def welcome_of(outcome: SignIn, facts: NodeFacts) -> bytes:
    """Return the payload that tells a client how its sign-in went."""
    user = outcome.session.user
    return encode_welcome(
        Welcome(
            protocol=PROTOCOL_VERSION,
            sid=user.sid,
            node=facts.node_id,
            user=user.user_id,
            resumed=outcome.resumed,
            recovered=outcome.recovered,
            heartbeat_seconds=_plain(facts.heartbeat_seconds),
            max_payload_bytes=facts.max_payload_bytes,
        )
    )


def _plain(seconds: float) -> int | float:
    """Return a whole number without its fraction: clients with strict types read 25.0 as no integer."""
    return int(seconds) if float(seconds).is_integer() else seconds
