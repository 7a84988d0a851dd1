"""Tests of `meshrelay.client.options`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay import __version__
from meshrelay.client.options import ClientOptions
from meshrelay.machine.backoff import Backoff


class ClientOptionsTests(SynchronousTestCase):
    """Defaults."""

    def test_delays_are_random(self) -> None:
        """By default two clients that were cut off together come back at different times."""
        options = ClientOptions()
        delays = []
        for _ in range(4):
            backoff = Backoff(options.retry_base_seconds, options.retry_cap_seconds, options.uniform)
            delays.append(backoff.next_delay())
        self.assertEqual(len(set(delays)), 4)
        self.assertTrue(max(delays) <= options.retry_base_seconds)

    def test_program_is_named(self) -> None:
        """A node's log shows which library and version a client is, unless the program names itself."""
        self.assertEqual(ClientOptions().client_name, f"meshrelay-python/{__version__}")

    def test_repr_is_short(self) -> None:
        """What is printed of the options says nothing about functions."""
        self.assertNotIn("uniform", repr(ClientOptions()))
