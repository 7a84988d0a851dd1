"""Tickets of the console: whoever may see the inside of the node is let in once at the WebSocket port, by a token.

::

    POST /admin/console/ticket --AdminAccess--> Tickets.issue --user, token--> page
    page --HELLO with that token--> TicketAuthenticator --Tickets.redeem--> a session of the user "console:..."

A ticket is good once and for `TICKET_SECONDS`. No other token, and no word of a client where tokens are off, gets a
user ID that begins with `USER_PREFIX`, so this prefix is what the feed of the console goes by.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from twisted.internet.interfaces import IReactorTime

from meshrelay.errors import AuthenticationError
from meshrelay.session.auth import Authenticator, Identity, ReservingAuthenticator

__all__ = ["MAX_TICKETS", "TICKET_SECONDS", "USER_PREFIX", "Ticket", "TicketAuthenticator", "Tickets"]

#: From the answer with a ticket to the HELLO with it.
TICKET_SECONDS = 30.0

#: Tickets that wait for their HELLO; beyond, the oldest is void.
MAX_TICKETS = 64

#: User IDs of consoles begin so.
USER_PREFIX = "console:"

#: No JWT begins so: its first part is the base64 of an object.
_TOKEN_PREFIX = "console."

_USER_BYTES = 8
_TOKEN_BYTES = 32


class Ticket(NamedTuple):
    """One permission to sign in.

    :ivar user: user ID that it gives; no other ticket gives it.
    :ivar token: a secret; `user` cannot be told from it.
    """

    user: str
    token: str


class Tickets:
    """Those that were issued and not used yet.

    :param random_bytes: ``random_bytes(n)`` -> n bytes that nobody can guess.
    :ivar issued: since the start.
    :ivar refused: tokens that were late, used before, or never issued.
    """

    def __init__(self, clock: IReactorTime, random_bytes: Callable[[int], bytes]) -> None:
        self._clock = clock
        self._random_bytes = random_bytes
        #: Token -> user ID and when it is void, in the order of issue.
        self._open: dict[str, tuple[str, float]] = {}
        self.issued = 0
        self.refused = 0

    def __len__(self) -> int:
        return len(self._open)

    def issue(self) -> Ticket:
        """Return a new ticket."""
        if len(self._open) >= MAX_TICKETS:
            del self._open[next(iter(self._open))]
        user = USER_PREFIX + self._random_bytes(_USER_BYTES).hex()
        token = _TOKEN_PREFIX + self._random_bytes(_TOKEN_BYTES).hex()
        self._open[token] = (user, self._clock.seconds() + TICKET_SECONDS)
        self.issued += 1
        return Ticket(user, token)

    def redeem(self, token: str) -> str | None:
        """Use a ticket up and return its user ID; None: it is none, or none any more."""
        # A search by equal bytes tells nothing about 32 random ones.
        user, ends_at = self._open.pop(token, ("", 0.0))
        if user and self._clock.seconds() < ends_at:
            return user
        self.refused += 1
        return None


class TicketAuthenticator(Authenticator):
    """Tickets are taken, and everything else is for another one to decide.

    :param others: who decides about all other clients.
    """

    def __init__(self, others: Authenticator, tickets: Tickets) -> None:
        self._others = ReservingAuthenticator(others, USER_PREFIX, "the console")
        self._tickets = tickets

    def authenticate(self, user_id: str | None, token: str | None) -> Identity:
        """See `Authenticator`."""
        if token is None or not token.startswith(_TOKEN_PREFIX):
            return self._others.authenticate(user_id, token)
        user = self._tickets.redeem(token)
        if user is None:
            raise AuthenticationError("no such ticket of the console, or not any more")
        if user_id is not None and user_id != user:
            raise AuthenticationError("the ticket is for another user")
        return Identity(user, {})
