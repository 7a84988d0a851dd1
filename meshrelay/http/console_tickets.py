"""Tickets of the console: whoever may see the inside of the node is let in once at the WebSocket port, by a token.

::

    POST /admin/console/ticket --AdminAccess--> Tickets.issue --user, token--> page
    page --HELLO with that token--> TicketAuthenticator --Tickets.redeem--> a session of the user "console:..."

A ticket is good once and for `TICKET_SECONDS`. No other token, and no word of a client where tokens are off, gets a
user ID that begins with `USER_PREFIX`, so this prefix is what the feed of the console goes by.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from hmac import compare_digest
from typing import NamedTuple

from twisted.internet.interfaces import IReactorTime

from meshrelay.errors import AuthenticationError
from meshrelay.session.auth import Authenticator, Identity, ReservingAuthenticator

__all__ = [
    "MAX_TICKETS",
    "OWNERS",
    "TICKET_KEY_BYTES",
    "TICKET_SECONDS",
    "USER_PREFIX",
    "Ticket",
    "TicketAuthenticator",
    "Tickets",
]

#: From the answer with a ticket to the HELLO with it.
TICKET_SECONDS = 30.0

#: Tickets that were used within `TICKET_SECONDS`, at all processes of the node; beyond, none is taken.
MAX_TICKETS = 1024

#: Of the key that tickets are signed with.
TICKET_KEY_BYTES = 32

#: User IDs of consoles begin so.
USER_PREFIX = "console:"

#: Whose such IDs are, for the text that others are told.
OWNERS = "the console"

#: No JWT begins so: its first part is the base64 of an object.
_TOKEN_PREFIX = "console."

_USER_DIGITS = 16
_NONCE_BYTES = 16


class Ticket(NamedTuple):
    """One permission to sign in.

    :ivar user: user ID that it gives; no other ticket gives it.
    :ivar token: a secret; `user` cannot be told from it.
    """

    user: str
    token: str


class Tickets:
    """Makes tickets, and knows its own again.

    Nothing is kept of a ticket until it is used: what it says is signed. So all processes of a node that have one key
    take each other's tickets, whichever of them a console reaches; who uses one tells the others, see `void`.

    :param random_bytes: ``random_bytes(n)`` -> n bytes that nobody can guess.
    :param key: that of the node, where it has several processes; None = a new one.
    :ivar issued: since the start.
    :ivar refused: tokens that were late, used before, or never issued.
    """

    def __init__(self, clock: IReactorTime, random_bytes: Callable[[int], bytes], key: bytes | None = None) -> None:
        self._clock = clock
        self._random_bytes = random_bytes
        self._key = random_bytes(TICKET_KEY_BYTES) if key is None else key
        #: What stands in a ticket that was used -> when it is void anyway.
        self._used: dict[str, float] = {}
        self._tell_used: Callable[[str], object] = _tell_nobody
        self.issued = 0
        self.refused = 0

    def __len__(self) -> int:
        return len(self._used)

    def when_used(self, tell: Callable[[str], object]) -> None:
        """Call ``tell(facts)``, for `void` of the others, for each that is used here; there is no secret in it."""
        self._tell_used = tell

    def issue(self) -> Ticket:
        """Return a new ticket."""
        ends_at_ms = round((self._clock.seconds() + TICKET_SECONDS) * 1000)
        facts = f"{ends_at_ms:x}.{self._random_bytes(_NONCE_BYTES).hex()}"
        self.issued += 1
        return Ticket(self._user(facts), f"{_TOKEN_PREFIX}{facts}.{self._sign(b'token', facts)}")

    def redeem(self, token: str) -> str | None:
        """Use a ticket up and return its user ID; None: it is none, or none any more."""
        facts, _, signature = token.removeprefix(_TOKEN_PREFIX).rpartition(".")
        # First the signature: what else stands there is a stranger's until then.
        if compare_digest(_bytes(signature), self._sign(b"token", facts).encode()) and self._use(facts):
            self._tell_used(facts)
            return self._user(facts)
        self.refused += 1
        return None

    def _use(self, facts: str) -> bool:
        ends_at = int(facts.partition(".")[0], 16) / 1000
        if facts in self._used or self._clock.seconds() >= ends_at:
            return False
        return self._remember(facts, ends_at)

    def void(self, facts: str) -> None:
        """Another process of the node says that this ticket is used; see `when_used`."""
        self._remember(facts, self._clock.seconds() + TICKET_SECONDS)

    def _remember(self, facts: str, ends_at: float) -> bool:
        if len(self._used) >= MAX_TICKETS:
            now = self._clock.seconds()
            self._used = {used: void_at for used, void_at in self._used.items() if void_at > now}
            if len(self._used) >= MAX_TICKETS:
                return False
        self._used[facts] = ends_at
        return True

    def _user(self, facts: str) -> str:
        # Cannot be told from the token by whoever has not the key.
        return USER_PREFIX + self._sign(b"user", facts)[:_USER_DIGITS]

    def _sign(self, purpose: bytes, facts: str) -> str:
        return hmac.new(self._key, purpose + b"." + _bytes(facts), "sha256").hexdigest()


def _tell_nobody(facts: str) -> None:
    """This process is the whole node."""


def _bytes(text: str) -> bytes:
    # A client may send halves of surrogate pairs, which no token of ours has.
    return text.encode("utf-8", "replace")


class TicketAuthenticator(Authenticator):
    """Tickets are taken, and everything else is for another one to decide.

    :param others: who decides about all other clients.
    """

    def __init__(self, others: Authenticator, tickets: Tickets) -> None:
        self._others = ReservingAuthenticator(others, USER_PREFIX, OWNERS)
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
