"""Tests of `meshrelay.client.p2p.events`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.client import Event
from meshrelay.client.p2p import events


class EventsTests(SynchronousTestCase):
    """What a program can listen to."""

    def test_all_are_events(self) -> None:
        """Who listens to everything hears links as well."""
        for name in events.__all__:
            self.assertTrue(issubclass(getattr(events, name), Event), name)
