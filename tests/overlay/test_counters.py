"""What one peer counts."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.overlay.counters import OverlayCounters


class OverlayCountersTests(SynchronousTestCase):
    """See `OverlayCounters`."""

    def test_totals(self) -> None:
        """All counters without a label, each under its name, the same names from the start."""
        counters = OverlayCounters()
        names = set(counters.totals())
        self.assertEqual(set(counters.totals().values()), {0})
        self.assertIn("frames_received", names)
        self.assertNotIn("dropped", names)
        counters.frames_received = 7
        counters.dropped["duplicate"] += 1
        self.assertEqual(set(counters.totals()), names)
        self.assertEqual(counters.totals()["frames_received"], 7)
        self.assertEqual(
            names | {"bad_frames", "deliveries", "dropped", "handshakes", "links_closed"},
            set(OverlayCounters.__slots__),
        )
