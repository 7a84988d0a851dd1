"""Tickets that let consoles sign in."""

from __future__ import annotations

from random import Random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import AuthenticationError, MalformedPayload
from meshrelay.http.console_tickets import MAX_TICKETS, TICKET_SECONDS, USER_PREFIX, TicketAuthenticator, Tickets
from meshrelay.session.auth import OpenAuthenticator


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
        """However many are asked for, so many are kept; the oldest are void."""
        tickets = [self.tickets.issue() for _ in range(MAX_TICKETS + 1)]
        self.assertEqual(len(self.tickets), MAX_TICKETS)
        self.assertIsNone(self.tickets.redeem(tickets[0].token))
        self.assertEqual(self.tickets.redeem(tickets[1].token), tickets[1].user)

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
