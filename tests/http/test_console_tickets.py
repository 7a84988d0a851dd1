"""Tickets that let consoles sign in."""

from __future__ import annotations

from random import Random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import AuthenticationError, MalformedPayload
from meshrelay.http.console_tickets import MAX_TICKETS, TICKET_SECONDS, USER_PREFIX, TicketAuthenticator, Tickets
from meshrelay.session.auth import Authenticator, Identity, OpenAuthenticator


class NobodyElse(Authenticator):
    """Lets nobody in."""

    def authenticate(self, user_id: str | None, token: str | None) -> Identity:
        """See `Authenticator`."""
        raise AuthenticationError("nobody")


class TicketTests(SynchronousTestCase):
    """In front of a node that takes everybody's word."""

    def setUp(self) -> None:
        """No ticket yet."""
        self.clock = Clock()
        self.tickets = Tickets(self.clock, Random(1).randbytes)
        self.authenticator = TicketAuthenticator(OpenAuthenticator(), self.tickets)

    def test_once(self) -> None:
        """A ticket signs one console in, as a user of its own, and then nobody."""
        ticket = self.tickets.issue()
        identity = self.authenticator.authenticate(None, ticket.token)
        self.assertEqual(identity.user_id, ticket.user)
        self.assertTrue(ticket.user.startswith(USER_PREFIX))
        self.assertNotEqual(self.tickets.issue().user, ticket.user)
        self.assertRaises(AuthenticationError, self.authenticator.authenticate, None, ticket.token)
        self.assertEqual(self.tickets.refused, 1)

    def test_late(self) -> None:
        """A ticket is void when its time is over."""
        first, second = self.tickets.issue(), self.tickets.issue()
        self.clock.advance(TICKET_SECONDS - 0.1)
        self.assertEqual(self.tickets.redeem(first.token), first.user)
        self.clock.advance(0.1)
        self.assertIsNone(self.tickets.redeem(second.token))

    def test_bound(self) -> None:
        """So many can be used within the time of one; then none is good until the first would be void anyway."""
        for _ in range(MAX_TICKETS):
            self.assertIsNotNone(self.tickets.redeem(self.tickets.issue().token))
        self.assertEqual(len(self.tickets), MAX_TICKETS)
        self.assertIsNone(self.tickets.redeem(self.tickets.issue().token))
        self.assertEqual(len(self.tickets), MAX_TICKETS)
        self.clock.advance(TICKET_SECONDS)
        self.assertIsNotNone(self.tickets.redeem(self.tickets.issue().token))
        self.assertEqual(len(self.tickets), 1)

    def test_forged(self) -> None:
        """A ticket whose time or name was changed, of another node, or of nobody is none."""
        token = self.tickets.issue().token
        word, ends_at, name, signature = token.split(".")
        later = f"{int(ends_at, 16) + 60_000:x}"
        foreign = Tickets(self.clock, Random(2).randbytes).issue().token
        other_name = f"{word}.{ends_at}.{name[::-1]}.{signature}"
        forged = (f"{word}.{later}.{name}.{signature}", other_name, foreign, token[:-1], token.removeprefix("console."))
        for wrong in (*forged, "console.", "console...", "console.\ud800.\ud800", "console.é.é"):
            with self.assertRaises(AuthenticationError, msg=wrong):
                TicketAuthenticator(NobodyElse(), self.tickets).authenticate(None, wrong)
        self.assertIsNotNone(self.tickets.redeem(token))

    def test_of_another_process(self) -> None:
        """Processes of one node that share a key take each other's tickets, and one that was used only once."""
        key = b"k" * 32
        here, there = (Tickets(self.clock, Random(number).randbytes, key) for number in (1, 2))
        here.when_used(there.void)
        first, second = there.issue(), there.issue()
        self.assertEqual(here.redeem(first.token), first.user)
        self.assertIsNone(there.redeem(first.token))
        self.assertEqual(there.redeem(second.token), second.user)

    def test_other_user(self) -> None:
        """A ticket gives its own user ID and no other."""
        ticket = self.tickets.issue()
        self.assertRaises(AuthenticationError, self.authenticator.authenticate, "ann", ticket.token)

    def test_nobody_else(self) -> None:
        """Without a ticket nobody gets the ID of a console, and everybody else signs in as before."""
        self.assertEqual(self.authenticator.authenticate("ann", None).user_id, "ann")
        self.assertEqual(self.authenticator.authenticate("ann", "eyJ.a.b").user_id, "ann")
        self.assertRaises(MalformedPayload, self.authenticator.authenticate, f"{USER_PREFIX}1", None)
        self.assertRaises(AuthenticationError, self.authenticator.authenticate, f"{USER_PREFIX}1", "console.guess")
