"""The console of a whole node."""

from __future__ import annotations

from meshrelay.config.schema import Config, HttpConfig
from meshrelay.errors import MalformedPayload
from meshrelay.http.console_tickets import USER_PREFIX, TicketAuthenticator
from tests.test_service import NodeKit


class ConsoleNodeTests(NodeKit):
    """As the configuration says."""

    def test_on(self) -> None:
        """A node takes tickets and counts what its consoles do, before and after a reload."""
        node = self.start()
        self.assertIsInstance(node.authenticator, TicketAuthenticator)
        node.reload(Config())
        self.assertIsInstance(node.reception.authenticator, TicketAuthenticator)
        self.assertEqual(set(node.console.statistics().values()), {0})

    def test_off(self) -> None:
        """``console = false``: nobody is let in by a ticket, or by the ID of a console; nothing is remembered."""
        node = self.start(Config(http=HttpConfig(console=False)))
        self.assertNotIsInstance(node.authenticator, TicketAuthenticator)
        self.assertRaises(MalformedPayload, node.authenticator.authenticate, f"{USER_PREFIX}evil", None)
        self.assertEqual(node.authenticator.authenticate("ann", None).user_id, "ann")
        self.assertEqual(set(node.console.statistics().values()), {0})

    def test_stop(self) -> None:
        """A node that stops leaves nothing of its console running."""
        node = self.start()
        before = len(self.reactor.getDelayedCalls())
        node.console.stop()
        self.assertEqual(len(self.reactor.getDelayedCalls()), before - 1)
