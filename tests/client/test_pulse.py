"""Tests of `meshrelay.client.pulse`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.client.pulse import Pulse


class PulseTests(SynchronousTestCase):
    """Is the node alive?"""

    def test_silence(self) -> None:
        """A node that is silent for two and a half heartbeats is dead, and was asked before."""
        pulse = Pulse(100.0, 10.0)
        self.assertEqual((pulse.probe_at, pulse.dead_at), (112.5, 125.0))

    def test_own_traffic_is_no_life(self) -> None:
        """What the client sends does not put off the death of a silent node."""
        pulse = Pulse(0.0, 10.0)
        pulse.sent(20.0)
        self.assertEqual((pulse.probe_at, pulse.dead_at), (12.5, 25.0))

    def test_quiet_client_shows_itself(self) -> None:
        """A client that only listens sends something now and then."""
        pulse = Pulse(0.0, 10.0)
        pulse.heard(12.0)
        self.assertEqual((pulse.probe_at, pulse.dead_at), (12.5, 37.0))

    def test_probes_are_spaced(self) -> None:
        """After a probe the next one waits its turn."""
        pulse = Pulse(0.0, 10.0)
        pulse.probed(12.5)
        pulse.sent(12.5)
        self.assertEqual(pulse.probe_at, 25.0)

    def test_datagrams(self) -> None:
        """On UDP several probes fit into the 10 seconds after which a node forgets a client."""
        pulse = Pulse(0.0, None)
        self.assertTrue(pulse.probe_at * 3 < 10.0)
        self.assertEqual(pulse.dead_at, 10.0)

    def test_absurd_heartbeat(self) -> None:
        """A node cannot make a client send without a pause."""
        pulse = Pulse(0.0, -5.0)
        self.assertTrue(pulse.probe_at > 0.1)
