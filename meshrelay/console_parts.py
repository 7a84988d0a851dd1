"""The console of a node: ``[http] console`` -> tickets for consoles to sign in with, and pages with their live data."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from twisted.internet.interfaces import IReactorTime

from meshrelay.config.schema import HttpConfig
from meshrelay.http.console import Console, Place, Widen, make_console
from meshrelay.http.console_feed import FEED_COUNTS
from meshrelay.http.console_state import StateSources
from meshrelay.http.console_tickets import OWNERS, USER_PREFIX, TicketAuthenticator, Tickets
from meshrelay.session.auth import Authenticator, ReservingAuthenticator
from meshrelay.session.dispatch import Dispatcher

__all__ = ["ConsoleNode"]


class ConsoleNode:
    """The console of one node. Nothing is there before `open`, and nothing ever where the configuration says so.

    :param ticket_key: see `Tickets`.
    :ivar name: see `meshrelay.http.metrics.Counted`.
    """

    name = "console"

    def __init__(self, http: HttpConfig, clock: IReactorTime, ticket_key: bytes | None = None) -> None:
        self._is_on = http.console
        self.tickets = Tickets(clock, secrets.token_bytes, ticket_key)
        self._console: Console | None = None

    def guard(self, authenticator: Authenticator) -> Authenticator:
        """Return what takes tickets of the console as well, and gives nobody else the ID of one."""
        if self._is_on:
            return TicketAuthenticator(authenticator, self.tickets)
        # A node that has a console believes this one who its UDP clients are (`meshrelay.http.reserve`).
        return ReservingAuthenticator(authenticator, USER_PREFIX, OWNERS)

    def open(
        self, sources: StateSources, place: Place, dispatcher: Dispatcher, widen: Widen | None = None
    ) -> Console | None:
        """Begin to remember, take the command of consoles, and return what the pages stand on; None: there are none.

        :param place: see `meshrelay.http.endpoint.Endpoints.place`.
        :param widen: see `make_console`.
        """
        if not self._is_on:
            return None
        console = self._console = make_console(sources, self.tickets, place, widen)
        sources.local.registry.add_observer(console.feed)
        dispatcher.register(console.feed.command_table())
        console.history.startService()
        return console

    def statistics(self) -> Mapping[str, int]:
        """See `meshrelay.http.metrics.Counted`."""
        feed = self._console.feed.statistics() if self._console is not None else dict.fromkeys(FEED_COUNTS, 0)
        counts = {**feed, "tickets_refused": self.tickets.refused}
        return {f"console_{name}": count for name, count in counts.items()}

    def stop(self) -> None:
        """Remember and tell nothing any more."""
        if self._console is not None:
            self._console.history.stopService()
            self._console.feed.stop()
